/** One service in the registry cache: its watch, its lists, and what is known of it. */
import { sleep, withLimit } from "../clock.ts";
import type { Clock, ClockTimer } from "../clock.ts";
import { detach } from "../context.ts";
import { MicroError } from "../errors.ts";
import { jitteredBackoff, supervise } from "../supervisor.ts";
import type { Supervisor } from "../supervisor.ts";
import type { CacheFacts, CacheSnapshot } from "./cache.ts";
import { heldBytes } from "./held-bytes.ts";
import { NodeTable, type SharedBytes } from "./node-table.ts";
import type { Registry, RegistryEvent, Service } from "./registry.ts";

/** What all entries of a cache share. */
export interface CacheSettings {
  readonly registry: Registry;
  readonly clock: Clock;
  readonly random: () => number;
  readonly ttlMs: number;
  readonly idleMs: number;
  readonly timeoutMs: number;
  readonly missesToRemove: number;
  readonly maxNodes: number;
  /** About how many bytes of memory one service may take. */
  readonly maxServiceBytes: number;
  readonly shared: SharedBytes;
  readonly signal: AbortSignal;
  /** Gives a number never given before. */
  readonly number: () => number;
  /** The entry became current again (reason undefined) or stopped being so. Once per change. */
  readonly onTrouble: (entry: CacheEntry, reason: string | undefined) => void;
  /** The entry holds as many nodes as it may. Once. */
  readonly onFull: (entry: CacheEntry) => void;
  /** Nobody has asked for a long time. */
  readonly onIdle: (entry: CacheEntry) => void;
}

// A service that is not there is asked for again after this time, doubling while the watch would tell of it.
const negativeMs = 250;
const longestNegativeMs = 2_000;
// How long a first look-up waits for the watch before it lists without one.
const watchWaitMs = 1_000;
// Without a watch, lists are all there is.
const unwatchedTtlMs = 10_000;
// A list that lacked a node is repeated after this time where one list is not proof.
const confirmMs = 1_000;
// The last nodes of a service have this long to come back before a list decides: after a registry that nobody could
// reach for longer than the TTL, an attempt to register takes up to 5 s, and the pause before it up to 10 s.
const lastNodesMs = 15_000;
// A registry that lost its state knows nobody until all have registered again: Go's interval of 30 s, and its jitter.
const emptyGraceMs = 35_000;
// Names nobody offers are forgotten soon: they may come from outside, by way of a gateway.
const unknownIdleMs = 10_000;
// From so many nodes on, copying them takes milliseconds: changes are then shown in batches.
const hugeService = 1_000;
// Events kept for the end of a running list; beyond that it is repeated instead.
const maxPendingEvents = 10_000;
const maxPendingBytes = 16 * 1024 * 1024;

/** See the head of this file. */
export class CacheEntry {
  readonly name: string;
  readonly domain: string | undefined;
  /** The answer, while it can be given without looking at the time; otherwise ask {@link CacheEntry.lookUp}. */
  current: CacheSnapshot | undefined;
  /** Set by whoever takes `current`. */
  used = true;
  readonly #settings: CacheSettings;
  readonly #table: NodeTable;
  readonly #watch: Supervisor;
  readonly #listBackoff;
  readonly #watchSettled = Promise.withResolvers<void>();
  #lastUsedAt: number;
  #snapshot: CacheSnapshot | undefined;
  #changed = true;
  #builtAt = 0;
  #buildMs = 0;
  #loaded = false;
  #fetchedAt = 0;
  #askedAt = Number.NEGATIVE_INFINITY;
  #error: MicroError | undefined;
  #watchError: Error | undefined;
  #watching = false;
  #troubled = false;
  #full = false;
  #negativeUntil = 0;
  #negativeMs = negativeMs;
  #listing: Promise<void> | undefined;
  #awaitsWatch = false;
  #again = false;
  /** Nodes the latest list lacked that another list has to confirm. */
  #unconfirmed = 0;
  #pendingEvents: RegistryEvent[] | undefined;
  #pendingBytes = 0;
  /** The latest event would have left nobody; a list has to confirm it. */
  #last: RegistryEvent | undefined;
  /** When changes were followed again after an interruption. */
  #resumedAt = Number.NEGATIVE_INFINITY;
  #timer: ClockTimer | undefined;
  #dropped = false;

  constructor(name: string, domain: string | undefined, settings: CacheSettings) {
    this.name = name;
    this.domain = domain;
    this.#settings = settings;
    const { clock, random, ttlMs } = settings;
    this.#lastUsedAt = clock.now();
    const { maxNodes, maxServiceBytes: maxBytes, shared, number } = settings;
    this.#table = new NodeTable({ maxNodes, maxBytes, shared, number });
    this.#listBackoff = jitteredBackoff({ minDelayMs: Math.min(500, ttlMs), maxDelayMs: ttlMs, random });
    this.#watch = supervise({
      run: ({ signal, up }) => this.#follow(signal, up),
      onChange: (state) => {
        if (state.status === "up") this.#watchUp();
        else if (state.status === "down") this.#watchDown(state.reason);
      },
      clock,
      random,
    });
  }

  get lastUsedAt(): number {
    return this.used ? Number.POSITIVE_INFINITY : this.#lastUsedAt;
  }

  /** About how many bytes of memory it holds. */
  get bytes(): number {
    return this.#table.bytes;
  }

  get size(): number {
    return this.#table.size;
  }

  /** The answer at once, or undefined if a list is needed first. @throws {MicroError} the registry's, of a moment ago. */
  peek(): CacheSnapshot | undefined {
    this.used = true;
    if (this.#loaded && this.#table.size > 0) {
      const view = this.#view();
      if (!this.#changed) this.current = view;
      return view;
    }
    if (this.#settings.clock.now() >= this.#negativeUntil) return undefined;
    return this.#answer();
  }

  /** List, together with everybody else who waits for it, and answer. */
  async lookUp(): Promise<CacheSnapshot> {
    await (this.#listing ?? this.#list());
    return this.#answer();
  }

  /** List soon, in the background: traffic suggests that something has changed. */
  recheck(): void {
    if (this.#dropped || this.#error !== undefined || !this.#loaded) return;
    if (this.#settings.clock.now() - this.#askedAt >= confirmMs) this.#relist();
  }

  facts(): CacheFacts {
    const { registry, clock } = this.#settings;
    return {
      registry: registry.name,
      nodes: this.#table.size,
      ageMs: this.#loaded ? clock.now() - this.#fetchedAt : undefined,
      watching: this.#watching,
      staleReason: this.#loaded ? this.#trouble() : undefined,
      lastError: this.#error,
    };
  }

  /** Stop following the service. A list somebody waits for still ends. */
  async drop(): Promise<void> {
    this.#dropped = true;
    this.#settings.clock.clearTimeout(this.#timer);
    this.#watchSettled.resolve();
    this.#table.release();
    await this.#watch.stop();
  }

  #answer(): CacheSnapshot {
    if (!this.#loaded) throw this.#error ?? new MicroError("the registry cache is closed", { code: "closed" });
    return this.#view();
  }

  #view(): CacheSnapshot {
    if (this.#snapshot === undefined || (this.#changed && !this.#tooSoon())) {
      const { clock, number } = this.#settings;
      const startedAt = clock.now();
      this.#changed = false;
      const { services, nodes } = this.#table.view();
      this.#snapshot = Object.freeze({
        name: this.name,
        services,
        nodes,
        version: number(),
        fetchedAt: this.#fetchedAt,
      });
      this.#builtAt = clock.now();
      this.#buildMs = this.#builtAt - startedAt;
    } else if (this.#snapshot.fetchedAt !== this.#fetchedAt) {
      this.#snapshot = Object.freeze({ ...this.#snapshot, fetchedAt: this.#fetchedAt });
    }
    return this.#snapshot;
  }

  /** A huge service that changes all the time must not keep the process busy with copying. */
  #tooSoon(): boolean {
    if (this.#table.size < hugeService || this.#snapshot?.nodes.length === 0) return false;
    return this.#settings.clock.now() - this.#builtAt < this.#buildMs * 20;
  }

  async #follow(signal: AbortSignal, up: () => void): Promise<void> {
    const { registry, clock, timeoutMs } = this.#settings;
    const what = `registry ${registry.name}: watch of ${this.name}`;
    const watcher = registry.watch({ service: this.name, domain: this.domain, signal, background: true });
    try {
      await withLimit(watcher.ready, { timeoutMs, signal, clock, what, keepAlive: false });
      up();
      for await (const event of watcher) {
        if (signal.aborted) return;
        this.#apply(event);
      }
      throw new MicroError(`${what}: ended`, { code: "unavailable" });
    } finally {
      await watcher[Symbol.asyncDispose]();
    }
  }

  #watchUp(): void {
    this.#watching = true;
    this.#watchError = undefined;
    this.#watchSettled.resolve();
    this.#tell();
    if (this.#loaded) this.#resumedAt = this.#settings.clock.now();
    // Whatever changed while nobody watched is in no event.
    if (!this.#awaitsWatch) this.#relist();
  }

  #watchDown(reason: unknown): void {
    this.#watching = false;
    this.#watchError = reason instanceof Error ? reason : new Error(String(reason));
    this.#watchSettled.resolve();
    this.#tell();
    if (this.#loaded && this.#listing === undefined) this.#schedule();
  }

  #apply(event: RegistryEvent): void {
    if (event.service.name !== this.name) return;
    if (this.#settings.missesToRemove === 1 && this.#table.empties(event)) return this.#holdLast(event);
    if (this.#pendingEvents !== undefined) {
      this.#pendingBytes += heldBytes(event.service);
      if (this.#pendingEvents.length < maxPendingEvents && this.#pendingBytes <= maxPendingBytes)
        this.#pendingEvents.push(event);
      else this.#again = true;
    }
    const before = this.#table.size;
    const changed = this.#table.event(event);
    if (!this.#releaseLast(event) && !changed) return;
    // Somebody is there: an answer can be given even if no list has succeeded yet.
    if (!this.#loaded && this.#listing === undefined && this.#table.size > 0) this.#loadedByEvents();
    if (before > 0 && this.#table.size === 0) this.#negativeUntil = 0;
    this.#invalidate();
  }

  /**
   * Nobody is left: they went, or the registry lost them and they will register again at once, or it is about to go
   * itself. They stay until a list confirms it; should they be gone, refused connections tell at once.
   */
  #holdLast(event: RegistryEvent): void {
    const known = this.#last !== undefined;
    this.#last = event;
    if (known || this.#dropped) return;
    const { clock } = this.#settings;
    clock.clearTimeout(this.#timer);
    this.#timer = clock.setTimeout(() => this.#relist(), lastNodesMs);
  }

  /** Somebody is there: who was held goes, unless it is he. */
  #releaseLast({ service }: RegistryEvent): boolean {
    const last = this.#last;
    if (last === undefined) return false;
    this.#last = undefined;
    const ids = new Set(service.nodes.map(({ id }) => id));
    const gone = last.service.nodes.filter(({ id }) => !ids.has(id));
    if (gone.length === 0) return false;
    return this.#table.event({ action: "delete", service: { ...last.service, nodes: gone } });
  }

  #loadedByEvents(): void {
    this.#loaded = true;
    this.#fetchedAt = this.#settings.clock.now();
  }

  #invalidate(): void {
    this.#changed = true;
    this.current = undefined;
    if (this.#table.refused > 0 && !this.#full) {
      this.#full = true;
      this.#settings.onFull(this);
    }
  }

  /** List in the background; once more if a list is running that may have begun too early. */
  #relist(): void {
    if (this.#dropped) return;
    if (this.#listing === undefined) void this.#list();
    else this.#again = true;
  }

  /** Never rejects: the outcome is in the fields. */
  #list(): Promise<void> {
    const run = async (): Promise<void> => {
      try {
        if (!this.#loaded && !this.#watching && this.#watchError === undefined) {
          this.#awaitsWatch = true;
          const { clock } = this.#settings;
          const limit = new AbortController();
          const waited = sleep(watchWaitMs, { clock, signal: limit.signal, keepAlive: true });
          await Promise.race([this.#watchSettled.promise, waited]);
          limit.abort();
          this.#awaitsWatch = false;
        }
        do {
          this.#again = false;
          await this.#listOnce();
        } while (this.#again && !this.#dropped && this.#error === undefined);
      } finally {
        this.#listing = undefined;
        this.#schedule();
      }
    };
    // Everybody shares it, so it belongs to no caller's context.
    return (this.#listing = detach(run));
  }

  async #listOnce(): Promise<void> {
    const { registry, clock, timeoutMs, signal, missesToRemove } = this.#settings;
    const what = `registry ${registry.name}: look-up of ${this.name}`;
    this.#askedAt = clock.now();
    this.#pendingEvents = [];
    this.#pendingBytes = 0;
    try {
      const answer = registry.getService(this.name, { signal, timeoutMs, domain: this.domain });
      const services = await withLimit(answer, { timeoutMs: timeoutMs + 100, signal, clock, what });
      // It did not answer, and now it does: what it says may be what is left of it.
      if (this.#loaded && (this.#error?.code === "unavailable" || this.#error?.code === "timeout"))
        this.#resumedAt = clock.now();
      this.#unconfirmed = this.#takeOver(services, missesToRemove);
      this.#error = undefined;
      this.#listBackoff.reset();
    } catch (error) {
      this.#error = lookUpError(what, error);
      this.#negativeUntil = clock.now() + negativeMs;
      // The watch may have told of nodes all the same.
      if (!this.#loaded && this.#table.size > 0) this.#loadedByEvents();
    } finally {
      this.#pendingEvents = undefined;
    }
    this.#tell();
  }

  #takeOver(services: readonly Service[], missesToRemove: number): number {
    const { clock } = this.#settings;
    if (missesToRemove === 1 && this.#table.size > 0 && services.every(({ nodes }) => nodes.length === 0)) {
      const grace = clock.now() - this.#resumedAt < emptyGraceMs;
      if (grace) return this.#table.size;
    }
    this.#last = undefined;
    const outcome = this.#table.list(services, missesToRemove);
    let changed = outcome.changed;
    // The list may be older than the events that arrived while it was under way.
    for (const event of this.#pendingEvents ?? []) if (this.#table.event(event)) changed = true;
    this.#loaded = true;
    this.#fetchedAt = clock.now();
    if (changed) this.#invalidate();
    else this.current = undefined;
    if (this.#table.size > 0) {
      this.#negativeMs = negativeMs;
    } else {
      this.#negativeUntil = clock.now() + this.#negativeMs;
      this.#negativeMs = this.#watching ? Math.min(this.#negativeMs * 2, longestNegativeMs) : negativeMs;
    }
    return outcome.unconfirmed;
  }

  #schedule(): void {
    const { clock, ttlMs, idleMs, random } = this.#settings;
    clock.clearTimeout(this.#timer);
    if (this.#dropped) return;
    let delayMs = this.#watching ? ttlMs * (0.9 + 0.2 * random()) : Math.min(ttlMs, unwatchedTtlMs);
    if (this.#error !== undefined) delayMs = this.#listBackoff.next();
    else if (this.#unconfirmed > 0) delayMs = Math.min(confirmMs, ttlMs);
    else if (this.#table.size === 0) delayMs = unknownIdleMs;
    this.#timer = clock.setTimeout(() => this.#tick(), Math.min(delayMs, idleMs));
  }

  #tick(): void {
    const { clock, idleMs, onIdle } = this.#settings;
    const now = clock.now();
    if (this.used) {
      this.used = false;
      this.#lastUsedAt = now;
    } else if (now - this.#lastUsedAt >= (this.#table.size > 0 ? idleMs : Math.min(unknownIdleMs, idleMs))) {
      return onIdle(this);
    }
    this.#relist();
  }

  #trouble(): string | undefined {
    if (this.#error !== undefined) return this.#error.detail;
    return this.#watchError?.message;
  }

  #tell(): void {
    if (this.#dropped) return;
    const reason = this.#trouble();
    if (this.#troubled === (reason !== undefined)) return;
    this.#troubled = reason !== undefined;
    this.#settings.onTrouble(this, reason);
  }
}

function lookUpError(what: string, error: unknown): MicroError {
  const text = error instanceof Error ? error.message : String(error);
  const code = MicroError.is(error) ? error.code : "unavailable";
  return new MicroError(text.startsWith("registry ") ? text : `${what}: ${text}`, {
    id: "go.micro.client",
    code,
    cause: error,
    // Nobody was asked to do anything.
    notRun: true,
  });
}
