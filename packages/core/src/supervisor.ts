/**
 * Desired state, re-asserted: a supervisor runs a task that should always be true (a watch, a subscription, a
 * session) and makes it true again whenever it fails.
 */
import { sleep, systemClock } from "./clock.ts";
import type { Clock } from "./clock.ts";
import { detach } from "./context.ts";
import { MicroError } from "./errors.ts";
import { checkOptionNames, type OptionNames } from "./option-check.ts";
import { optionKinds } from "./option-kinds.ts";

/** Bounds of an exponential backoff. */
export interface BackoffOptions {
  /** Upper bound of the first delay, in milliseconds. Default: 100. */
  minDelayMs?: number | undefined;
  /** Upper bound of every delay, in milliseconds. Default: 30000. */
  maxDelayMs?: number | undefined;
  /** Numbers in [0, 1). Default: `Math.random`. */
  random?: (() => number) | undefined;
}

const backoffNames: OptionNames<BackoffOptions> = { minDelayMs: true, maxDelayMs: true, random: optionKinds.function };

/** A growing delay. */
export interface BackoffState {
  /** The next delay, in milliseconds: anything between 0 and a bound that doubles each time. */
  next(): number;
  /** Start over with the smallest bound. */
  reset(): void;
}

/**
 * Exponential backoff with full jitter: peers that failed together do not come back together.
 * @throws {TypeError} if the bounds are not 0 < min <= max.
 */
export function jitteredBackoff(options: BackoffOptions = {}): BackoffState {
  checkOptionNames("jitteredBackoff", options, backoffNames);
  const { minDelayMs = 100, maxDelayMs = 30_000, random = Math.random } = options;
  if (!(minDelayMs > 0 && minDelayMs <= maxDelayMs))
    throw new TypeError(`backoff: minDelayMs (${minDelayMs}) must be above 0 and at most maxDelayMs (${maxDelayMs})`);
  let bound = minDelayMs;
  return {
    next() {
      const delay = random() * bound;
      bound = Math.min(bound * 2, maxDelayMs);
      return delay;
    },
    reset() {
      bound = minDelayMs;
    },
  };
}

/**
 * `starting`: neither true nor failed yet. `up`: true. `down`: failed, being retried. `stopped`: over, by
 * {@link Supervisor.stop}.
 */
export type SupervisorState =
  | { readonly status: "starting" }
  | { readonly status: "up" }
  | { readonly status: "down"; readonly reason: unknown }
  | { readonly status: "stopped" };

/** What a supervised task is given. */
export interface SupervisedTask {
  /** Aborts when the supervisor stops. */
  readonly signal: AbortSignal;
  /** Call once the desired state holds. */
  readonly up: () => void;
}

/** Settings of {@link supervise}. */
export interface SupervisorOptions extends BackoffOptions {
  /**
   * The task: establishes the desired state, calls `up()`, and settles when the state no longer holds. Returning
   * counts as a failure, too, since the state should hold for ever. Starts in a microtask, never inside `supervise()`.
   */
  run(task: SupervisedTask): Promise<void>;
  /** Called once per change of state, not per retry. Must not throw. */
  onChange?: ((state: SupervisorState) => void) | undefined;
  /** How long the state must hold before the backoff starts over, in milliseconds: what fails right after each success is retried ever more slowly, too. Default: 1000. */
  stableAfterMs?: number | undefined;
  /** Default: real time. */
  clock?: Clock | undefined;
}

const supervisorNames: OptionNames<SupervisorOptions> = {
  ...backoffNames,
  run: optionKinds.function,
  onChange: optionKinds.function,
  stableAfterMs: true,
  clock: true,
};

/** A running supervisor. */
export interface Supervisor extends AsyncDisposable {
  readonly state: SupervisorState;
  /** End the task and the retries; resolves when the task has settled. May be called twice. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Run `options.run` now and again after every failure, with exponential backoff and full jitter, until stopped.
 * Waiting does not keep the process alive. The task runs outside of any call's context: it outlives the call that
 * happened to start it.
 */
export function supervise(options: SupervisorOptions): Supervisor {
  checkOptionNames("supervise", options, supervisorNames);
  return new TaskSupervisor(options);
}

class TaskSupervisor implements Supervisor {
  readonly #options: SupervisorOptions;
  readonly #clock: Clock;
  readonly #backoff: BackoffState;
  readonly #controller = new AbortController();
  readonly #done: Promise<void>;
  #state: SupervisorState = { status: "starting" };
  #upSince = Number.POSITIVE_INFINITY;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const { minDelayMs, maxDelayMs, random } = options;
    this.#backoff = jitteredBackoff({ minDelayMs, maxDelayMs, random });
    // Not before the caller has the supervisor: its callbacks may want it.
    this.#done = detach(() => Promise.resolve().then(() => this.#loop()));
  }

  get state(): SupervisorState {
    return this.#state;
  }

  async stop(): Promise<void> {
    if (!this.#controller.signal.aborted) {
      this.#controller.abort(new MicroError("stopped", { code: "closed" }));
      this.#change({ status: "stopped" });
    }
    await this.#done;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #loop(): Promise<void> {
    const { signal } = this.#controller;
    while (!signal.aborted) {
      this.#upSince = Number.POSITIVE_INFINITY;
      let over = false;
      let reason: unknown;
      try {
        await this.#options.run({ signal, up: () => !over && this.#up() });
        reason = new MicroError("ended without an error", { code: "unavailable" });
      } catch (error) {
        reason = error;
      }
      over = true;
      if (signal.aborted) return;
      if (this.#clock.now() - this.#upSince >= (this.#options.stableAfterMs ?? 1_000)) this.#backoff.reset();
      if (this.#state.status !== "down") this.#change({ status: "down", reason });
      await sleep(this.#backoff.next(), { signal, clock: this.#clock });
    }
  }

  #up(): void {
    if (this.#controller.signal.aborted || this.#state.status === "up") return;
    this.#upSince = this.#clock.now();
    this.#change({ status: "up" });
  }

  #change(state: SupervisorState): void {
    this.#state = state;
    this.#options.onChange?.(state);
  }
}
