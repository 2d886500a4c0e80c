/** A limit on retries, so that a failing service is not hit by a multiple of its normal load. */

const windowSeconds = 10;
const floorPerSecond = 10;

/**
 * Counts calls and retries over the last 10 seconds. A retry is allowed while the retries stay below `share` of the
 * calls, plus a floor of 10 per second for programs that make few calls.
 */
export class RetryBudget {
  readonly #share: number;
  // One slot per second, reused round and round.
  readonly #calls = new Float64Array(windowSeconds);
  readonly #retries = new Float64Array(windowSeconds);
  #second = 0;

  /** @throws {TypeError} if `share` is not a number of at least 0. */
  constructor(share = 0.2) {
    if (!(share >= 0)) throw new TypeError(`retryBudget must be a number of at least 0, not ${String(share)}`);
    this.#share = share;
  }

  /** Count a call. `now` is on the clock of `performance.now()`, in milliseconds. */
  call(now: number): void {
    const second = Math.floor(now / 1000);
    if (second !== this.#second) this.#advance(second);
    this.#calls[second % windowSeconds]! += 1;
  }

  /** Count a retry and allow it; false when the budget is used up, and nothing is counted. */
  retry(now: number): boolean {
    const second = Math.floor(now / 1000);
    if (second !== this.#second) this.#advance(second);
    let calls = 0;
    let retries = 0;
    for (let slot = 0; slot < windowSeconds; slot += 1) {
      calls += this.#calls[slot]!;
      retries += this.#retries[slot]!;
    }
    if (retries + 1 > calls * this.#share + floorPerSecond * windowSeconds) return false;
    this.#retries[second % windowSeconds]! += 1;
    return true;
  }

  #advance(second: number): void {
    const steps = Math.min(second - this.#second, windowSeconds);
    for (let step = 0; step < steps; step += 1) {
      const slot = (second - step) % windowSeconds;
      this.#calls[slot] = 0;
      this.#retries[slot] = 0;
    }
    this.#second = second;
  }
}
