/** Limits on what others say, in a process that may be busy itself: time that passed here is nobody else's fault. */
import { timerDelay } from "./option-check.ts";

// A limit noticed later than this was noticed by a loop that was blocked: timers are a millisecond late, seldom more.
const lateMs = 5;
// Of long waits a short stall is no part that matters.
const lateShare = 0.05;
// One for what has come, the others for those who hand it on later, or answer it in this process.
const turns = 3;

/**
 * True if a limit was noticed so long after it was due that our own event loop was blocked, and an answer may have been
 * waiting. Times are on the clock of `performance.now()`.
 */
export function wasBlocked(startedAt: number, due: number, now: number): boolean {
  const late = now - due;
  return late > lateMs && late > (now - startedAt) * lateShare;
}

/** A limit that counts down. */
export interface LimitTimer {
  /** It does not matter any more. */
  clear(): void;
  /** Keep the process alive for it, as it does from the beginning. */
  ref(): void;
  /** Do not. */
  unref(): void;
}

/**
 * Call `passed` when `delayMs` have passed, and what lies in the sockets by then has been read: timers come before sockets, so that
 * after a busy time the limits of answers would pass before answers that had come in time are seen.
 * @param passed told whether the limit was noticed too late to blame anybody.
 */
export function limitTimer(delayMs: number, passed: (blocked: boolean) => void): LimitTimer {
  return new Limit(delayMs, passed);
}

class Limit implements LimitTimer {
  readonly #passed: (blocked: boolean) => void;
  readonly #startedAt = performance.now();
  readonly #due: number;
  #timer: NodeJS.Timeout | undefined;
  #look: NodeJS.Immediate | undefined;

  constructor(delayMs: number, passed: (blocked: boolean) => void) {
    this.#passed = passed;
    const delay = timerDelay(Math.max(0, delayMs));
    this.#due = this.#startedAt + delay;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#lastLook(turns, wasBlocked(this.#startedAt, this.#due, performance.now()));
    }, delay);
  }

  clear(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#look);
    this.#timer = this.#look = undefined;
  }

  ref(): void {
    this.#timer?.ref();
    this.#look?.ref();
  }

  unref(): void {
    this.#timer?.unref();
    this.#look?.unref();
  }

  #lastLook(left: number, blocked: boolean): void {
    if (left === 0) {
      this.#look = undefined;
      this.#passed(blocked);
    } else this.#look = setImmediate(() => this.#lastLook(left - 1, blocked));
  }
}
