/** How many exchanges run at once, and who waits. */

/** Something that waits for its turn. */
export interface Job {
  /** Its turn has come. Must not throw. */
  start(): void;
}

/**
 * Runs at most `maxConcurrency` jobs and keeps some waiting, in order of arrival: as many, unless told otherwise. A job that has run calls
 * {@link Limiter.release} once.
 */
export class Limiter<Waiting extends Job> {
  readonly #maxConcurrency: number;
  readonly #maxWaiting: number;
  readonly #waiting = new Set<Waiting>();
  #running = 0;
  #handingOut = false;

  constructor(maxConcurrency: number, maxWaiting = maxConcurrency) {
    this.#maxConcurrency = maxConcurrency;
    this.#maxWaiting = maxWaiting;
  }

  /** Take a place at once. False: all are taken. */
  tryEnter(): boolean {
    if (this.#running >= this.#maxConcurrency) return false;
    this.#running++;
    return true;
  }

  /** Wait in the queue. False: it is full. */
  wait(job: Waiting): boolean {
    if (this.#waiting.size >= this.#maxWaiting) return false;
    this.#waiting.add(job);
    return true;
  }

  /** Take a waiting job out. False: it was not waiting. */
  leave(job: Waiting): boolean {
    return this.#waiting.delete(job);
  }

  /** Take all waiting jobs out. */
  leaveAll(): Waiting[] {
    const jobs = [...this.#waiting];
    this.#waiting.clear();
    return jobs;
  }

  /** A job is over: its place goes to the one that waits longest. */
  release(): void {
    this.#running--;
    // A job may be over before start() returns; the loop below takes care of its successor then.
    if (this.#handingOut || this.#waiting.size === 0) return;
    this.#handingOut = true;
    while (this.#running < this.#maxConcurrency) {
      const next = this.#waiting.values().next();
      if (next.done === true) break;
      this.#waiting.delete(next.value);
      this.#running++;
      next.value.start();
    }
    this.#handingOut = false;
  }
}
