/**
 * The registry cache: look-ups without waiting, kept current by watching.
 *
 * The registry is a hint: while it cannot be reached, what was last known is served on. Go's `registry/cache`, with a
 * list after every watch gap, and a way to ask how old an answer is.
 */
import { systemClock, withLimit } from "../clock.ts";
import type { Clock } from "../clock.ts";
import { MicroError } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import { checkOptionNames, type OptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import { CacheEntry } from "./cache-entry.ts";
import type { CacheSettings } from "./cache-entry.ts";
import type { CachedNode } from "./node-table.ts";
import type { Registry, Service } from "./registry.ts";

/** All that is known of a service at one moment. Immutable. */
export interface CacheSnapshot {
  readonly name: string;
  /** One per version; empty if nobody offers the service. */
  readonly services: readonly Service[];
  /** The nodes of all versions. */
  readonly nodes: readonly CachedNode[];
  /** Equal for equal content; never used twice within a cache. */
  readonly version: number;
  /** When the registry was last asked successfully, on the clock of `performance.now()`. */
  readonly fetchedAt: number;
}

/** What error texts say about an answer. */
export interface CacheFacts {
  /** The registry's name. */
  readonly registry: string;
  /** Nodes known. */
  readonly nodes: number;
  /** Time since the registry was last asked successfully, in milliseconds; undefined if it never was. */
  readonly ageMs: number | undefined;
  /** Changes are being followed. */
  readonly watching: boolean;
  /** Why the answer may be out of date; undefined if it should be current. */
  readonly staleReason: string | undefined;
  /** Why the latest look-up failed; undefined if it did not. */
  readonly lastError: MicroError | undefined;
}

/** Bounds of one look-up. */
export interface CacheGetOptions {
  /** Default: the cache's. */
  domain?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Limit for a look-up that has to wait, on the clock of `performance.now()`. */
  deadline?: number | undefined;
}

/** See {@link registryCache}. */
export interface RegistryCache extends AsyncDisposable {
  /** The registry's name. */
  readonly name: string;
  /**
   * The service as known now; a promise only where the registry has to be asked first. A service nobody offers gives
   * a snapshot without nodes.
   * @throws {MicroError} The registry's error if it has never answered for this service; `timeout`, `aborted`, `closed`.
   */
  get(name: string, options?: CacheGetOptions): CacheSnapshot | Promise<CacheSnapshot>;
  /** Facts about what `get` gives. */
  describe(name: string, domain?: string): CacheFacts;
  /** About how many bytes of memory all services take. */
  readonly bytes: number;
  /** Traffic met a node that is not there: list again in the background, at most once a second per service. */
  recheck(name: string, domain?: string): void;
  /** Be told when a service is no longer cached because nobody asks for it. Returns what ends that. */
  onDrop(listener: (name: string, domain: string | undefined) => void): () => void;
  /** Stop watching. The registry is its owner's. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Settings of {@link registryCache}. */
export interface RegistryCacheOptions {
  registry: Registry;
  logger: Logger;
  /** How often a service is listed although its watch tells of changes, in milliseconds. Default: 60000, as Go's cache. */
  ttlMs?: number | undefined;
  /** A service nobody has asked for is forgotten after this time, in milliseconds. Default: 600000 (10 minutes). */
  idleMs?: number | undefined;
  /** Limit of one list, and of establishing a watch, in milliseconds. Default: 5000. */
  timeoutMs?: number | undefined;
  /** Registry domain of look-ups that name none. Default: none. */
  domain?: string | undefined;
  /**
   * How many lists in a row must lack a node before it is dropped without having been deregistered. Default: 2 for
   * registries that collect answers for a moment, where one may get lost (mdns, nats), else 1.
   */
  missesToRemove?: number | undefined;
  /** Services (and so watches) at once; the one unused for longest makes room. Default: 1000. */
  maxServices?: number | undefined;
  /** Nodes per service; further ones are ignored with a warning. Default: 100000. */
  maxNodes?: number | undefined;
  /**
   * About how many bytes of memory all services may take; a quarter of it is for one. Nodes beyond that are ignored with a
   * warning; a service may always have its even share. Default: 128 MiB.
   */
  maxBytes?: number | undefined;
  /** Default: real time. */
  clock?: Clock | undefined;
  /** Numbers in [0, 1) for jitter. Default: `Math.random`. */
  random?: (() => number) | undefined;
}

const optionNames: OptionNames<RegistryCacheOptions> = {
  registry: optionKinds.registry,
  logger: optionKinds.logger,
  ttlMs: true,
  idleMs: true,
  timeoutMs: true,
  domain: true,
  missesToRemove: true,
  maxServices: true,
  maxNodes: true,
  maxBytes: true,
  clock: true,
  random: optionKinds.function,
};

/** The part of all bytes that one service may take. */
const serviceShare = 4;

/** Registries whose lists are whatever arrives within a short time. */
const collectingRegistries = new Set(["mdns", "nats"]);

/**
 * Cache look-ups in `registry`.
 *
 * The first look-up of a service watches it, then lists it. From then on answers come at once: events keep them
 * current, a list every `ttlMs` is the safety net, and after a watch gap the service is listed again. Nothing
 * happens before the first look-up.
 * @throws {TypeError} for a limit that is not a positive number, or an option that does not exist.
 */
export function registryCache(options: RegistryCacheOptions): RegistryCache {
  checkOptionNames("registryCache", options, optionNames);
  return new WatchingCache(options);
}

class WatchingCache implements RegistryCache {
  readonly name: string;
  readonly #logger: Logger;
  readonly #domain: string | undefined;
  readonly #maxServices: number;
  readonly #settings: CacheSettings;
  readonly #closed = new AbortController();
  readonly #entries = new Map<string, CacheEntry>();
  readonly #otherDomains = new Map<string, Map<string, CacheEntry>>();
  readonly #troubled = new Set<CacheEntry>();
  readonly #listeners = new Set<(name: string, domain: string | undefined) => void>();
  readonly #stopping = new Set<Promise<void>>();
  #services = 0;
  #lastNumber = 0;

  constructor(options: RegistryCacheOptions) {
    const { registry, logger, clock = systemClock, random = Math.random } = options;
    this.name = registry.name;
    this.#logger = logger;
    this.#domain = options.domain;
    const maxBytes = positive("maxBytes", options.maxBytes, 128 * 1024 * 1024);
    this.#maxServices = positive("maxServices", options.maxServices, 1_000);
    this.#settings = {
      registry,
      clock,
      random,
      ttlMs: positive("ttlMs", options.ttlMs, 60_000),
      idleMs: positive("idleMs", options.idleMs, 600_000),
      timeoutMs: positive("timeoutMs", options.timeoutMs, 5_000),
      missesToRemove: positive(
        "missesToRemove",
        options.missesToRemove,
        collectingRegistries.has(registry.name) ? 2 : 1,
      ),
      maxNodes: positive("maxNodes", options.maxNodes, 100_000),
      maxServiceBytes: maxBytes / serviceShare,
      shared: { max: maxBytes, used: 0, tables: () => this.#services },
      signal: this.#closed.signal,
      number: () => ++this.#lastNumber,
      onTrouble: (entry, reason) => this.#onTrouble(entry, reason),
      onFull: (entry) =>
        logger.warn(
          `Registry [${this.name}] ${entry.name}: more than ${this.#settings.maxNodes} nodes, or ${maxBytes / serviceShare} bytes, others ignored`,
        ),
      onIdle: (entry) => this.#drop(entry),
    };
  }

  get(name: string, options?: CacheGetOptions): CacheSnapshot | Promise<CacheSnapshot> {
    const domain = options?.domain;
    const entries = domain === undefined || domain === this.#domain ? this.#entries : this.#otherDomains.get(domain);
    const entry = entries?.get(name);
    const current = entry?.current;
    if (entry === undefined || current === undefined) return this.#lookUp(name, options);
    entry.used = true;
    return current;
  }

  describe(name: string, domain?: string): CacheFacts {
    return (
      this.#find(name, domain)?.facts() ?? {
        registry: this.name,
        nodes: 0,
        ageMs: undefined,
        watching: false,
        staleReason: undefined,
        lastError: undefined,
      }
    );
  }

  get bytes(): number {
    return this.#settings.shared.used;
  }

  recheck(name: string, domain?: string): void {
    this.#find(name, domain)?.recheck();
  }

  onDrop(listener: (name: string, domain: string | undefined) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed.signal.aborted)
      this.#closed.abort(new MicroError("the registry cache is closed", { code: "closed" }));
    for (const entry of this.#all()) this.#drop(entry);
    await Promise.all(this.#stopping);
  }

  #lookUp(name: string, options: CacheGetOptions = {}): CacheSnapshot | Promise<CacheSnapshot> {
    const { signal, deadline, domain = this.#domain } = options;
    const { clock } = this.#settings;
    const what = `registry ${this.name}: look-up of ${name}`;
    if (this.#closed.signal.aborted) return Promise.reject(this.#closed.signal.reason as MicroError);
    const entry = this.#find(name, domain) ?? this.#create(name, domain);
    try {
      const snapshot = entry.peek();
      if (snapshot !== undefined) return snapshot;
    } catch (error) {
      // oxlint-disable-next-line promise/prefer-promise-reject-errors -- a MicroError, from the latest list
      return Promise.reject(error);
    }
    const answer = entry.lookUp();
    if (signal === undefined && deadline === undefined) return answer;
    const timeoutMs = deadline === undefined ? undefined : deadline - clock.now();
    return withLimit(answer, { signal, timeoutMs, clock, what });
  }

  #find(name: string, domain: string | undefined): CacheEntry | undefined {
    if (domain === undefined || domain === this.#domain) return this.#entries.get(name);
    return this.#otherDomains.get(domain)?.get(name);
  }

  #create(name: string, domain: string | undefined): CacheEntry {
    if (this.#services >= this.#maxServices) this.#makeRoom();
    let entries = this.#entries;
    if (domain !== undefined && domain !== this.#domain) {
      entries = this.#otherDomains.get(domain) ?? new Map<string, CacheEntry>();
      this.#otherDomains.set(domain, entries);
    }
    const entry = new CacheEntry(name, domain, this.#settings);
    entries.set(name, entry);
    this.#services++;
    return entry;
  }

  /** Names nobody offers go first, then what was not used for longest. */
  #makeRoom(): void {
    let victim: CacheEntry | undefined;
    for (const entry of this.#all()) {
      if (entry.size === 0) {
        victim = entry;
        break;
      }
      if (victim === undefined || entry.lastUsedAt < victim.lastUsedAt) victim = entry;
    }
    if (victim !== undefined) this.#drop(victim);
  }

  *#all(): Iterable<CacheEntry> {
    yield* this.#entries.values();
    for (const entries of this.#otherDomains.values()) yield* entries.values();
  }

  #drop(entry: CacheEntry): void {
    const { name, domain } = entry;
    if (domain === undefined || domain === this.#domain) {
      this.#entries.delete(name);
    } else {
      const entries = this.#otherDomains.get(domain);
      entries?.delete(name);
      if (entries?.size === 0) this.#otherDomains.delete(domain);
    }
    this.#services--;
    this.#troubled.delete(entry);
    for (const listener of this.#listeners) listener(name, domain);
    const what = `registry ${this.name}: end of the watch of ${name}`;
    const stopping = withLimit(entry.drop(), { timeoutMs: 2_000, clock: this.#settings.clock, what })
      .catch((error: unknown) => this.#logger.warn(`Registry [${this.name}] ${String(error)}`))
      .finally(() => this.#stopping.delete(stopping));
    this.#stopping.add(stopping);
  }

  #onTrouble(entry: CacheEntry, reason: string | undefined): void {
    const before = this.#troubled.size;
    if (reason === undefined) this.#troubled.delete(entry);
    else this.#troubled.add(entry);
    if (before === 0 && reason !== undefined)
      this.#logger.warn(`Registry [${this.name}] Watch or look-up failed, cached services stay in use: ${reason}`);
    else if (before > 0 && this.#troubled.size === 0)
      this.#logger.info(`Registry [${this.name}] Cached services are current again`);
  }
}

function positive(name: string, value: number | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  if (!(value > 0)) throw new TypeError(`registryCache: ${name} must be above 0, not ${value}`);
  if (name.endsWith("Ms") && value > 0x7fff_ffff)
    throw new TypeError(`registryCache: ${name} must be at most 24.8 days, what a timer can wait, not ${value}`);
  return value;
}
