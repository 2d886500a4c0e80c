/** One publish while it is under way: how long it may take, and whom to tell when that is over. */
import { MicroError } from "../../errors.ts";
import { limitTimer, type LimitTimer } from "../../stall.ts";
import { id } from "./options.ts";

/** What waits on behalf of a publish. */
export interface PublishWait {
  /** The publish is over: give up. */
  cancel(): void;
}

/** Ends at its deadline, when its signal aborts, or when the broker ends it. */
export class PublishRun {
  readonly timeoutMs: number;
  readonly #deadline: number;
  readonly #signal: AbortSignal | undefined;
  readonly #waits = new Set<PublishWait>();
  readonly #timer: LimitTimer;
  readonly #onAbort: () => void;
  /** True once nothing further is to be tried. */
  ended = false;
  /** The deadline passed while this process was busy. */
  blocked = false;
  /** Why, unless it was the deadline. */
  reason: MicroError | undefined;

  constructor(timeoutMs: number, signal: AbortSignal | undefined) {
    this.timeoutMs = timeoutMs;
    this.#deadline = performance.now() + timeoutMs;
    this.#signal = signal;
    this.#timer = limitTimer(timeoutMs, (blocked) => {
      this.blocked = blocked;
      this.end(undefined);
    });
    this.#onAbort = () => this.end(abortedBy(signal!));
    signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  get remainingMs(): number {
    return Math.max(0, this.#deadline - performance.now());
  }

  get deadline(): number {
    return this.#deadline;
  }

  wait(wait: PublishWait): void {
    this.#waits.add(wait);
  }

  forget(wait: PublishWait): void {
    this.#waits.delete(wait);
  }

  /** Give up. */
  end(reason: MicroError | undefined): void {
    if (this.ended) return;
    this.ended = true;
    this.reason = reason;
    for (const wait of this.#waits) wait.cancel();
  }

  /** Wait; shorter if the run ends. */
  pause(delayMs: number): Promise<void> {
    if (this.ended) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.forget(wait);
        resolve();
      };
      const wait: PublishWait = { cancel: wake };
      const timer = setTimeout(wake, Math.min(delayMs, this.remainingMs));
      this.wait(wait);
    });
  }

  [Symbol.dispose](): void {
    this.#timer.clear();
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }
}

/** The error of a publish whose signal has aborted. */
export function abortedBy(signal: AbortSignal): MicroError {
  const cause: unknown = signal.reason;
  return MicroError.is(cause) ? cause : new MicroError("the publish was cancelled", { id, code: "aborted", cause });
}
