/** Whose turn it is: connections with more to start than fits into a turn of the event loop start the rest one after the other. */

export interface Participant {
  /** Start what fits into a turn. @returns true if there is more that could be started. */
  turn(): boolean;
}

/** How long the handlers that one connection starts at a time may take, in milliseconds. */
const turnMs = 1;
/** What a turn takes beside its handlers. */
const overheadMs = 0.2;
const mostStarts = 256;
const firstStarts = 16;

/** One connection each turn of the event loop: between two of them all sockets are read, so that who asks for little never waits for many. */
export class Rounds {
  readonly #waiting = new Set<Participant>();
  #scheduled = false;

  join(participant: Participant): void {
    this.#waiting.add(participant);
    this.#schedule();
  }

  leave(participant: Participant): void {
    this.#waiting.delete(participant);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.#run());
  }

  #run(): void {
    this.#scheduled = false;
    for (const participant of this.#waiting) {
      this.#waiting.delete(participant);
      if (participant.turn()) this.#waiting.add(participant);
      break;
    }
    if (this.#waiting.size > 0) this.#schedule();
  }
}

/** How many handlers a connection may start in a turn, from what those before took, with all that they did without waiting. */
export class Pace {
  /** What may be started at a time. */
  starts: number = firstStarts;
  #started = 0;
  #measuring = false;

  /** A handler is about to start. */
  count(): void {
    this.#started++;
  }

  /** Look how long those take that are started from here on in this turn. */
  measure(): void {
    if (this.#measuring) return;
    this.#measuring = true;
    const from = performance.now();
    const before = this.#started;
    // A tick that is asked for by a microtask comes when all microtasks are done, and with them what handlers do at once.
    queueMicrotask(() =>
      process.nextTick(() => {
        this.#measuring = false;
        const count = this.#started - before;
        if (count === 0) return;
        const eachMs = Math.max(0, performance.now() - from - overheadMs) / count;
        const fitting = eachMs === 0 ? mostStarts : Math.floor(turnMs / eachMs);
        this.starts = Math.max(1, Math.min(fitting, 2 * this.starts, mostStarts));
      }),
    );
  }
}
