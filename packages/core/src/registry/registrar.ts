/**
 * The registrar keeps a service's own registration true: it registers, refreshes, registers again after a loss, and
 * deregisters. Flow and log lines are those of Go's server (`server/rpc_server.go`).
 */
import { sleep, systemClock, withLimit } from "../clock.ts";
import type { Clock, ClockTimer } from "../clock.ts";
import { detach } from "../context.ts";
import { MicroError } from "../errors.ts";
import type { Logger, LogLevel } from "../logger/logger.ts";
import { checkOptionNames, type OptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import { jitteredBackoff, supervise } from "../supervisor.ts";
import type { BackoffState, Supervisor } from "../supervisor.ts";
import { checkTtl } from "./call-options.ts";
import type { Registry, Service } from "./registry.ts";

/**
 * `idle`: not started. `registered`: the registry has taken the latest record. `failing`: the latest attempt failed and
 * is being retried, while the record lives on until its TTL passes. `lost`: it should be registered and is not, because
 * no attempt has worked, the TTL has passed, or the registry has dropped it; that is being retried, too. `withheld`:
 * the register check says no. `stopped`: over.
 */
export type RegistrarState =
  | { readonly status: "idle" }
  | { readonly status: "registered" }
  | { readonly status: "failing"; readonly reason: MicroError }
  | { readonly status: "lost"; readonly reason: MicroError }
  | { readonly status: "withheld"; readonly reason: string }
  | { readonly status: "stopped" };

/** Settings of {@link registrar}. */
export interface RegistrarOptions {
  registry: Registry;
  /** The record as it should be now; asked before every registration. */
  service: () => Service;
  logger: Logger;
  /** Log what is usual (registering, registering again, deregistering) for debugging only. Default: false. */
  quiet?: boolean | undefined;
  /** How long the record lives unless refreshed, in milliseconds. Must exceed `intervalMs`. Default: 90000, as Go. */
  ttlMs?: number | undefined;
  /** How often it is refreshed, in milliseconds, ±10 %. 0: only registered once, as in Go. Default: 30000, as Go. */
  intervalMs?: number | undefined;
  /** Register check: asked before every registration. False, or an error, keeps the service out of the registry. Default: always true. */
  check?: (() => boolean | Promise<boolean>) | undefined;
  /** Make `start()` reject when the first registration fails, instead of going on in the background. Default: false. */
  failFast?: boolean | undefined;
  /** Limit of one registration, deregistration or check, in milliseconds. Default: 5000. */
  timeoutMs?: number | undefined;
  /** Registry domain. Default: none. */
  domain?: string | undefined;
  /**
   * Watch the registration and renew it as soon as the registry loses it, instead of with the next refresh. Default:
   * true, except for registries that hold no records (mdns, nats).
   */
  watch?: boolean | undefined;
  /** Called once per change of state. Must not throw. */
  onChange?: ((state: RegistrarState) => void) | undefined;
  /** Default: real time. */
  clock?: Clock | undefined;
  /** Numbers in [0, 1) for jitter. Default: `Math.random`. */
  random?: (() => number) | undefined;
}

const optionNames: OptionNames<RegistrarOptions> = {
  registry: optionKinds.registry,
  service: optionKinds.function,
  logger: optionKinds.logger,
  quiet: true,
  ttlMs: true,
  intervalMs: true,
  check: optionKinds.function,
  failFast: true,
  timeoutMs: true,
  domain: true,
  watch: true,
  onChange: optionKinds.function,
  clock: true,
  random: optionKinds.function,
};

/** See {@link registrar}. */
export interface Registrar extends AsyncDisposable {
  readonly state: RegistrarState;
  /**
   * The registry holds the record, as far as is known: taken, not deregistered, not seen to be dropped, and its TTL has
   * not passed.
   */
  readonly registered: boolean;
  /**
   * Register, with three further tries after 100, 600 and 1900 ms, Go's pauses. Resolves when that has worked, when
   * the check says no, or when the tries are used up: then it goes on in the background. Once.
   * @throws {MicroError} With `failFast`: the registry's error. `aborted` if stopped meanwhile.
   */
  start(): Promise<void>;
  /**
   * The record has changed (metadata, endpoints, address): register it now. Resolves when that has been tried; a
   * failure is retried like any other. Does nothing unless started.
   */
  update(): Promise<void>;
  /**
   * Deregister, within `timeoutMs` (default: the option's); a failure is logged. Nothing runs afterwards. May be
   * called twice.
   */
  stop(options?: { timeoutMs?: number | undefined }): Promise<void>;
  /** The same as `stop()`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Registries whose records live with those who register. */
const withoutRecords = new Set(["mdns", "nats", "memory"]);
/** Registries whose records live until they are taken back, whatever their TTL. */
const withoutExpiry = new Set(["mdns", "nats"]);
/** A registration that is lost again and again is renewed no more often than this. */
const leastRenewalMs = 500;

/** Go's backoff.Do for its three tries (util/backoff/backoff.go). @internal */
export const startPausesMs = [100, 600, 1_900];
const longestRetryMs = 10_000;

/**
 * Keep a service registered from `start()` to `stop()`. Refreshing does not keep the process alive.
 * @throws {TypeError} if the TTL does not exceed the interval, or for an option that does not exist.
 */
export function registrar(options: RegistrarOptions): Registrar {
  checkOptionNames("registrar", options, optionNames);
  return new ServiceRegistrar(options);
}

class ServiceRegistrar implements Registrar {
  readonly #options: RegistrarOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #ttlMs: number;
  readonly #intervalMs: number;
  readonly #timeoutMs: number;
  readonly #backoff: BackoffState;
  readonly #controller = new AbortController();
  #state: RegistrarState = { status: "idle" };
  /** What the register check said last. */
  #allowed = true;
  /** What the registry holds, or may hold after a failed attempt. */
  #held: Service | undefined;
  #confirmedAt: number | undefined;
  /** Seen to be gone since it was last taken. */
  #dropped = false;
  /** Something speaks for another attempt since the latest one began. */
  #doubted = false;
  /** We are taking something back ourselves. */
  #withdrawing = false;
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;
  /** Passes run one after the other; what is queued and has not begun is shared. */
  #running: Promise<unknown> = Promise.resolve();
  #queued: Promise<MicroError | undefined> | undefined;
  /** A registration that was given up but may still arrive. */
  #unsettled: Promise<unknown> | undefined;
  #timer: ClockTimer | undefined;
  #verifying = false;
  /** Runs out with the TTL, while refreshes fail. */
  #expiry: ClockTimer | undefined;
  #watch: Supervisor | undefined;
  /** When a loss that the watch showed was last logged. */
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(options: RegistrarOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#ttlMs = options.ttlMs ?? 90_000;
    this.#intervalMs = options.intervalMs ?? 30_000;
    this.#timeoutMs = options.timeoutMs ?? 5_000;
    for (const [name, value] of [
      ["intervalMs", this.#intervalMs || 1],
      ["timeoutMs", this.#timeoutMs],
    ] as const)
      if (!(value > 0 && value <= 0x7fff_ffff))
        throw new TypeError(
          `registrar: ${name} must be above 0 and at most 24.8 days, what a timer can wait, not ${value}`,
        );
    checkTtl(this.#ttlMs);
    if (!(this.#ttlMs > this.#intervalMs))
      throw new TypeError(
        `registrar: ttlMs (${this.#ttlMs}) must be greater than intervalMs (${this.#intervalMs}), or the record expires between refreshes`,
      );
    const maxDelayMs = Math.min(this.#intervalMs || longestRetryMs, longestRetryMs);
    this.#backoff = jitteredBackoff({ minDelayMs: Math.min(500, maxDelayMs), maxDelayMs, random: this.#random });
  }

  /** The level of lines about what is meant to happen. */
  get #usual(): LogLevel {
    return this.#options.quiet === true ? "debug" : "info";
  }

  get state(): RegistrarState {
    return this.#state;
  }

  get registered(): boolean {
    return this.#confirmedAt !== undefined && !this.#dropped && this.#leftMs() > 0;
  }

  start(): Promise<void> {
    this.#starting ??= detach(() => this.#start());
    return this.#starting;
  }

  async update(): Promise<void> {
    if (this.#starting === undefined || this.#stopping !== undefined) return;
    await detach(() => this.#cycle());
  }

  stop(options: { timeoutMs?: number | undefined } = {}): Promise<void> {
    this.#stopping ??= detach(() => this.#stop(options.timeoutMs ?? this.#timeoutMs));
    return this.#stopping;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #start(): Promise<void> {
    const { logger, failFast, registry } = this.#options;
    const { signal } = this.#controller;
    let error: MicroError | undefined;
    for (const pauseMs of [...startPausesMs, 0]) {
      error = await this.#pass();
      if (error === undefined || signal.aborted) break;
      logger.debug(`Registry [${registry.name}] Registration failed: ${error.detail}`);
      await sleep(pauseMs, { signal, clock: this.#clock, keepAlive: true });
      if (signal.aborted) break;
    }
    if (signal.aborted) throw new MicroError("the registrar was stopped while it started", { code: "aborted" });
    if (error !== undefined && failFast === true) {
      void this.stop();
      throw error;
    }
    this.#settle(error);
    const { watch = !withoutRecords.has(registry.name) } = this.#options;
    if (watch && this.#stopping === undefined && this.#intervalMs > 0) this.#follow();
  }

  /** See the registration go, at once. */
  #follow(): void {
    const { registry, service, domain } = this.#options;
    let established = false;
    this.#watch = supervise({
      run: async ({ signal, up }) => {
        const watcher = registry.watch({ service: service().name, domain, signal, background: true });
        try {
          await watcher.ready;
          up();
          // What happened between two watches is not known.
          if (established) this.#renew(undefined);
          established = true;
          for await (const { action, service: gone } of watcher) {
            if (this.#withdrawing || !this.#isOurs(gone)) continue;
            if (action === "delete") this.#renew("the registry has dropped it");
            else this.#seen();
          }
        } finally {
          await watcher[Symbol.asyncDispose]();
        }
      },
      clock: this.#clock,
      random: this.#random,
      minDelayMs: 500,
    });
  }

  /** An event is about the record we hold, not about an earlier version of the same node. */
  #isOurs({ version, nodes }: Service): boolean {
    const held = this.#held;
    // Without a version: all that is known is that the node is gone.
    if (held === undefined || (version !== held.version && version !== "")) return false;
    return nodes.some(({ id }) => held.nodes.some((node) => node.id === id));
  }

  /** The registry shows the record: what was taken for lost is there again. */
  #seen(): void {
    if (!this.#dropped || this.#state.status !== "lost") return;
    this.#dropped = false;
    if (this.registered) this.#change({ status: "registered" });
    else this.#dropped = true;
  }

  /** @param reason Why it is lost; undefined where it may be. */
  #renew(reason: string | undefined): void {
    const { status } = this.#state;
    // Failing or lost, it is retried by and by; that the watch works says that a try is worth it now.
    if (status !== "registered" && status !== "failing" && status !== "lost") return;
    if (this.#stopping !== undefined) return;
    if (reason !== undefined && status !== "lost") {
      this.#dropped = true;
      this.#lose(this.#asError(reason), "warn");
    }
    this.#doubted = true;
    if (this.#queued === undefined) this.#renewSoon();
  }

  #renewSoon(): void {
    const clock = this.#clock;
    clock.clearTimeout(this.#timer);
    const sinceMs = clock.now() - (this.#confirmedAt ?? Number.NEGATIVE_INFINITY);
    this.#timer = clock.setTimeout(() => void this.#cycle(), Math.max(0, leastRenewalMs - sinceMs));
  }

  /** Say once that the registration is lost, and why. */
  #lose(reason: MicroError, level: "warn" | "error" = "error"): void {
    const { logger, registry } = this.#options;
    const now = this.#clock.now();
    // One that is dropped again and again is told of once an interval.
    if (level === "error" || now - this.#toldAt > this.#intervalMs) {
      if (level === "warn") this.#toldAt = now;
      logger.log(level, `Registry [${registry.name}] Registration lost, it is retried: ${reason.detail}`);
    }
    this.#change({ status: "lost", reason });
  }

  /** How long the record lives on without a refresh. */
  #leftMs(): number {
    if (this.#confirmedAt === undefined) return 0;
    if (withoutExpiry.has(this.#options.registry.name)) return Number.POSITIVE_INFINITY;
    return this.#ttlMs - (this.#clock.now() - this.#confirmedAt);
  }

  async #stop(timeoutMs: number): Promise<void> {
    const clock = this.#clock;
    const { registry, logger } = this.#options;
    clock.clearTimeout(this.#timer);
    clock.clearTimeout(this.#expiry);
    this.#controller.abort(new MicroError("the registrar is stopped", { code: "closed" }));
    const until = clock.now() + timeoutMs;
    // Not awaited: what is to be seen is over, and the registry may not answer.
    void this.#watch?.stop();
    const everRegistered = this.#confirmedAt !== undefined;
    const what = `registry ${registry.name}: deregistration`;
    try {
      await this.#running;
      // A registration on its way would otherwise overtake the deregistration.
      const pending = Promise.allSettled([this.#unsettled]);
      await withLimit(pending, { timeoutMs, clock, what }).catch(() => undefined);
      if (this.#held !== undefined) await this.#deregister(this.#held, Math.max(100, until - clock.now()));
    } catch (error) {
      const level = everRegistered ? "error" : "debug";
      logger.log(level, `Registry [${registry.name}] Deregistration failed: ${textOf(error)}`);
    } finally {
      this.#confirmedAt = undefined;
      this.#change({ status: "stopped" });
    }
  }

  /** Queue a pass, and arrange the next one by its outcome. */
  async #cycle(): Promise<void> {
    const error = await this.#pass();
    this.#settle(error);
    if (error !== undefined) await this.#verify();
  }

  /**
   * That a registry cannot be written does not mean that it has lost us: one that is full goes on renewing what it holds.
   * As long as a look-up shows the record, it is registered.
   */
  async #verify(): Promise<void> {
    const { registry, domain } = this.#options;
    const held = this.#held;
    if (this.#state.status !== "failing" || held === undefined || this.#verifying) return;
    this.#verifying = true;
    const askedAt = this.#clock.now();
    const { signal } = this.#controller;
    const limit = { timeoutMs: this.#timeoutMs, signal };
    try {
      const looking = registry.getService(held.name, { ...limit, domain });
      const what = `registry ${registry.name}: look-up of ${held.name}`;
      const found = await withLimit(looking, { ...limit, clock: this.#clock, what, keepAlive: false });
      const ids = new Set(found.flatMap(({ nodes }) => nodes.map(({ id }) => id)));
      const stands = held.nodes.some(({ id }) => ids.has(id));
      if (!stands || this.#state.status !== "failing" || this.#stopping !== undefined || this.#dropped) return;
      this.#confirmedAt = Math.max(this.#confirmedAt ?? askedAt, askedAt);
      this.#awaitExpiry();
    } catch {
      // It cannot be read either: the time to live decides.
    } finally {
      this.#verifying = false;
    }
  }

  #settle(error: MicroError | undefined): void {
    if (this.#stopping !== undefined) return;
    const clock = this.#clock;
    clock.clearTimeout(this.#timer);
    const { logger, registry } = this.#options;
    if (error === undefined) {
      this.#backoff.reset();
      if (this.#intervalMs === 0) return;
      // Lost while the attempt was under way: whether before it or after it, nobody knows.
      if (this.#doubted) return this.#renewSoon();
      const delayMs = Math.min(this.#intervalMs * (0.9 + 0.2 * this.#random()), this.#ttlMs * 0.95);
      this.#timer = clock.setTimeout(() => this.#tick(), delayMs);
      return;
    }
    if (!this.#allowed) {
      logger.warn(`Registry [${registry.name}] Deregistration failed, it is retried: ${error.detail}`);
    } else if (this.#state.status !== "lost") {
      this.#fail(error);
    }
    this.#timer = clock.setTimeout(() => void this.#cycle(), this.#backoff.next());
  }

  /** An attempt failed: the record is lost, or will be when its TTL passes. */
  #fail(error: MicroError): void {
    const clock = this.#clock;
    const { logger, registry } = this.#options;
    clock.clearTimeout(this.#expiry);
    if (!this.registered) return this.#lose(error);
    if (this.#state.status === "failing") {
      this.#state = { status: "failing", reason: error };
    } else {
      logger.warn(`Registry [${registry.name}] Registration could not be refreshed, it is retried: ${error.detail}`);
      this.#change({ status: "failing", reason: error });
    }
    this.#awaitExpiry();
  }

  #awaitExpiry(): void {
    const clock = this.#clock;
    clock.clearTimeout(this.#expiry);
    const leftMs = this.#leftMs();
    if (leftMs === Number.POSITIVE_INFINITY) return;
    this.#expiry = clock.setTimeout(() => {
      if (this.#state.status === "failing" && this.#stopping === undefined) this.#fail(this.#state.reason);
    }, leftMs);
  }

  #tick(): void {
    const { logger, registry } = this.#options;
    const gapMs = this.#clock.now() - (this.#confirmedAt ?? this.#clock.now());
    if (gapMs >= this.#ttlMs)
      logger.warn(
        `Registry [${registry.name}] The process stood still for ${Math.round(gapMs / 1_000)} s, longer than its registration lives: registering again`,
      );
    void this.#cycle();
  }

  /** Make the desired state true once. Never rejects. */
  #pass(): Promise<MicroError | undefined> {
    if (this.#queued === undefined) {
      this.#queued = this.#running.then(() => {
        this.#queued = undefined;
        return this.#assert().then(
          () => undefined,
          (error: unknown) => this.#asError(error),
        );
      });
      this.#running = this.#queued;
    }
    return this.#queued;
  }

  async #assert(): Promise<void> {
    const { signal } = this.#controller;
    signal.throwIfAborted();
    const refusal = await this.#refusal();
    signal.throwIfAborted();
    this.#allowed = refusal === undefined;
    if (refusal === undefined) return this.#register(this.#options.service());
    const { logger, registry } = this.#options;
    if (this.#state.status !== "withheld") {
      logger.warn(`Registry [${registry.name}] Register check failed: ${refusal}`);
      this.#change({ status: "withheld", reason: refusal });
    }
    if (this.#held !== undefined) await this.#deregister(this.#held, this.#timeoutMs);
  }

  /** Why the register check says no; undefined if it does not. */
  async #refusal(): Promise<string | undefined> {
    const { check } = this.#options;
    if (check === undefined) return undefined;
    try {
      const answer = Promise.resolve(check());
      const limit = { timeoutMs: this.#timeoutMs, signal: this.#controller.signal, clock: this.#clock };
      return (await withLimit(answer, { ...limit, what: "register check", keepAlive: false }))
        ? undefined
        : "not ready";
    } catch (error) {
      return textOf(error);
    }
  }

  async #register(service: Service): Promise<void> {
    const { registry, logger, domain } = this.#options;
    const { signal } = this.#controller;
    const { status } = this.#state;
    this.#doubted = false;
    if ((status === "idle" && this.#held === undefined) || status === "withheld")
      logger.log(this.#usual, `Registry [${registry.name}] Registering node: ${idsOf(service)}`);
    // Under another name or version, a registry may hold the node twice.
    const held = this.#held;
    if (held !== undefined && (held.name !== service.name || held.version !== service.version))
      await this.#withdraw(held, this.#timeoutMs);
    this.#held = withNodes(service, this.#held);
    const timeoutMs = this.#timeoutMs;
    const call = registry.register(service, { ttlMs: this.#ttlMs, signal, timeoutMs, domain });
    this.#unsettled = call;
    const what = `registry ${registry.name}: registration of ${idsOf(service)}`;
    await withLimit(call, {
      timeoutMs: timeoutMs + 100,
      signal,
      clock: this.#clock,
      what,
      keepAlive: status === "idle",
    });
    this.#unsettled = undefined;
    const ids = new Set(service.nodes.map(({ id }) => id));
    const gone = this.#held.nodes.filter(({ id }) => !ids.has(id));
    if (gone.length > 0) await this.#withdraw({ ...service, nodes: gone }, this.#timeoutMs);
    this.#held = service;
    this.#confirmedAt = this.#clock.now();
    this.#clock.clearTimeout(this.#expiry);
    // Seen to be gone meanwhile: the next attempt, or the watch, tells.
    if (this.#doubted && this.#dropped) return;
    this.#dropped = false;
    const before = this.#state.status;
    if (before === "lost" || before === "failing")
      logger.log(this.#usual, `Registry [${registry.name}] Registered again: ${idsOf(service)}`);
    if (before !== "registered") this.#change({ status: "registered" });
  }

  async #deregister(service: Service, timeoutMs: number): Promise<void> {
    const { registry, logger } = this.#options;
    if (this.#confirmedAt !== undefined)
      logger.log(this.#usual, `Registry [${registry.name}] Deregistering node: ${idsOf(service)}`);
    this.#confirmedAt = undefined;
    await this.#withdraw(service, timeoutMs);
    this.#held = undefined;
  }

  /** Not ended by `stop()`, which needs it. */
  async #withdraw(service: Service, timeoutMs: number): Promise<void> {
    const { registry, domain } = this.#options;
    const what = `registry ${registry.name}: deregistration of ${idsOf(service)}`;
    const call = registry.deregister(service, { timeoutMs, domain });
    this.#withdrawing = true;
    try {
      await withLimit(call, { timeoutMs: timeoutMs + 100, clock: this.#clock, what });
    } finally {
      this.#withdrawing = false;
    }
  }

  #asError(error: unknown): MicroError {
    if (MicroError.is(error)) return error;
    return new MicroError(textOf(error), {
      id: `registry.${this.#options.registry.name}`,
      code: "unavailable",
      cause: error,
    });
  }

  #change(state: RegistrarState): void {
    this.#state = state;
    this.#options.onChange?.(state);
  }
}

/** `service` with the nodes of `before` that it lacks: all that may be in the registry. */
function withNodes(service: Service, before: Service | undefined): Service {
  if (before === undefined || before.name !== service.name || before.version !== service.version) return service;
  const ids = new Set(service.nodes.map(({ id }) => id));
  return { ...service, nodes: [...service.nodes, ...before.nodes.filter(({ id }) => !ids.has(id))] };
}

function idsOf(service: Service): string {
  return service.nodes.map(({ id }) => id).join(", ");
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
