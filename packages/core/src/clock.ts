/**
 * The seam between time and what waits for it, so that tests move time instead of waiting (`fakeClock` in
 * `@micro/testing`).
 */
import { MicroError } from "./errors.ts";
import { checkOptionNames, timerDelay, type OptionNames } from "./option-check.ts";
import { optionKinds } from "./option-kinds.ts";

/** What {@link Clock.setTimeout} gives and {@link Clock.clearTimeout} takes. */
export type ClockTimer = object;

/** Monotonic time and timers. */
export interface Clock {
  /** Milliseconds on the clock of `performance.now()`; never goes back. */
  now(): number;
  /**
   * Run `callback` once after `delayMs`. The timer does not keep the process alive, unless `keepAlive` is true:
   * somebody awaits the outcome.
   */
  setTimeout(callback: () => void, delayMs: number, keepAlive?: boolean): ClockTimer;
  /** Harmless for undefined and for a timer that has fired. */
  clearTimeout(timer: ClockTimer | undefined): void;
}

/** Real time. */
export const systemClock: Clock = Object.freeze({
  now: () => performance.now(),
  setTimeout(callback: () => void, delayMs: number, keepAlive = false): ClockTimer {
    const timer = setTimeout(callback, timerDelay(delayMs));
    if (!keepAlive) timer.unref();
    return timer;
  },
  clearTimeout(timer: ClockTimer | undefined): void {
    clearTimeout(timer as NodeJS.Timeout | undefined);
  },
});

/** How {@link sleep} waits. */
export interface SleepOptions {
  /** Ends the wait early, without an error. */
  signal?: AbortSignal | undefined;
  /** Default: {@link systemClock}. */
  clock?: Clock | undefined;
  /** Default: false. */
  keepAlive?: boolean | undefined;
}

const sleepNames: OptionNames<SleepOptions> = { signal: optionKinds.signal, clock: true, keepAlive: true };

/** Resolves after `delayMs`, or as soon as the signal aborts. Never rejects. */
export function sleep(delayMs: number, options: SleepOptions = {}): Promise<void> {
  checkOptionNames("sleep", options, sleepNames);
  const { signal, clock = systemClock, keepAlive } = options;
  return new Promise((resolve) => {
    if (signal?.aborted === true) return resolve();
    const wake = (): void => {
      clock.clearTimeout(timer);
      signal?.removeEventListener("abort", wake);
      resolve();
    };
    const timer = clock.setTimeout(wake, delayMs, keepAlive);
    signal?.addEventListener("abort", wake, { once: true });
  });
}

/** Bounds of one operation of somebody else's. */
export interface LimitOptions {
  /** Longest wait, in milliseconds. Default: none. */
  timeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
  /** Default: {@link systemClock}. */
  clock?: Clock | undefined;
  /** Keep the process alive while waiting. Default: true, because the caller waits. */
  keepAlive?: boolean | undefined;
  /** What is waited for, e.g. `registry etcd: look-up of greeter`: begins the error's text. */
  what: string;
}

const limitNames: OptionNames<LimitOptions> = {
  timeoutMs: true,
  signal: optionKinds.signal,
  clock: true,
  keepAlive: true,
  what: true,
};

/**
 * `promise`, but no longer than the bounds. What comes later is ignored; nothing stays behind.
 * @throws {MicroError} `timeout` or `aborted`; what `promise` rejects with otherwise.
 */
export function withLimit<T>(promise: Promise<T>, options: LimitOptions): Promise<T> {
  checkOptionNames("withLimit", options, limitNames);
  const { timeoutMs, signal, clock = systemClock, keepAlive = true, what } = options;
  return new Promise<T>((resolve, reject) => {
    let timer: ClockTimer | undefined;
    const release = (): void => {
      clock.clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    };
    const abort = (): void => {
      release();
      const reason: unknown = signal?.reason;
      reject(MicroError.is(reason) ? reason : new MicroError(`${what}: cancelled`, { code: "aborted", cause: reason }));
    };
    void promise.finally(release).then(resolve, reject);
    if (signal?.aborted === true) return abort();
    signal?.addEventListener("abort", abort, { once: true });
    if (timeoutMs !== undefined)
      timer = clock.setTimeout(
        () => {
          release();
          reject(new MicroError(`${what}: no answer within ${Math.round(timeoutMs)} ms`, { code: "timeout" }));
        },
        Math.max(0, timeoutMs),
        keepAlive,
      );
  });
}
