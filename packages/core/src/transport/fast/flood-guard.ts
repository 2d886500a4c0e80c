/** How often a peer may send what costs it next to nothing. */

/** In frames: what a burst may have, and what comes back each millisecond. */
const burst = 8_000;
const perMs = 20;
/** How many have come back when reading goes on. */
const portion = 500;

/**
 * A bucket of tokens, one for each cheap frame. It is a rate: nothing that goes well beside it fills it again. The clock is
 * looked at when it is empty, so that it costs a subtraction.
 */
export class FloodGuard {
  #tokens = burst;
  #at: number = performance.now();

  /** A cheap frame has come. @returns false: it was one too many for now. */
  spend(): boolean {
    if (--this.#tokens >= 0) return true;
    const now = performance.now();
    this.#tokens = Math.min(burst, this.#tokens + (now - this.#at) * perMs);
    this.#at = now;
    return this.#tokens >= 0;
  }

  /** How long to read nothing, in milliseconds, once one was too many. */
  get pauseMs(): number {
    return Math.ceil((portion - this.#tokens) / perMs);
  }
}
