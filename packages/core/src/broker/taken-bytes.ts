/** Bytes of the bodies that all subscriptions of the process have taken and not settled: services in one process share its memory. */

/** A subscription that waits for others to settle what they have taken. */
export interface TakenBytesWaiter {
  roomAgain(): void;
}

/** See the head of this file. */
export class TakenBytes {
  readonly maxBytes: number;
  #bytes = 0;
  readonly #waiting = new Set<TakenBytesWaiter>();

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get isFull(): boolean {
    return this.#bytes >= this.maxBytes;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Tell it, once, when there is room again. */
  wait(waiter: TakenBytesWaiter): void {
    this.#waiting.add(waiter);
  }

  forget(waiter: TakenBytesWaiter): void {
    this.#waiting.delete(waiter);
  }

  change(delta: number): void {
    this.#bytes += delta;
    if (delta >= 0 || this.#waiting.size === 0 || this.isFull) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const each of waiting) each.roomAgain();
  }
}

export const processTaken = new TakenBytes(512 * 1024 * 1024);
