/** How often a peer may send what costs it next to nothing. */

/** In frames: what a burst may have, and what comes back each millisecond. */
export interface FloodRate {
  readonly burst: number;
  readonly perMs: number;
}

export const cheapFrames: FloodRate = { burst: 8_000, perMs: 20 };
/** A call that is cancelled is a handler that starts, and hears of it. */
export const cancelledCalls: FloodRate = { burst: 1_000, perMs: 10 };

/** How long at least nothing is read once there were too many. */
const leastPauseMs = 10;

/**
 * A bucket of tokens, one for each cheap frame. It is a rate: nothing that goes well beside it fills it again. The clock is
 * looked at when it is empty, so that it costs a subtraction.
 */
export class FloodGuard {
  readonly #rate: FloodRate;
  #tokens: number;
  #at: number = performance.now();

  constructor(rate: FloodRate) {
    this.#rate = rate;
    this.#tokens = rate.burst;
  }

  /** A cheap frame has come. @returns false: it was one too many for now. */
  spend(): boolean {
    if (--this.#tokens >= 0) return true;
    const now = performance.now();
    this.#tokens = Math.min(this.#rate.burst, this.#tokens + (now - this.#at) * this.#rate.perMs);
    this.#at = now;
    return this.#tokens >= 0;
  }

  /** How long to read nothing, in milliseconds, once one was too many. */
  get pauseMs(): number {
    return leastPauseMs + Math.ceil(-this.#tokens / this.#rate.perMs);
  }
}
