/**
 * Bytes that peers make a port keep: of messages that are not complete, of replies that are not taken.
 *
 * Each connection is bounded by the largest message; the account bounds all of them together. Where it is full, the connection that
 * has kept bytes for the longest time is given up, until the rest fits: honest messages are complete in moments, so who wants
 * to fill it has to go before those who just came.
 */

/** A connection whose bytes are counted. */
export interface ByteHolder {
  /** Give up what is kept, at once: afterwards nothing of it may be counted any more. */
  evict(): void;
}

export class ByteAccount {
  readonly maxBytes: number;
  readonly #parent: ByteAccount | undefined;
  /** In the order in which they began to keep something. */
  readonly #holders = new Map<ByteHolder, number>();
  #bytes = 0;

  /** @param parent is charged as well. Default: none. */
  constructor(maxBytes: number, parent?: ByteAccount) {
    this.maxBytes = maxBytes;
    this.#parent = parent;
  }

  /** Kept at the moment. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Who keeps something. */
  get holders(): number {
    return this.#holders.size;
  }

  /**
   * `holder` is about to keep `delta` bytes more, or has let go of so many.
   * @returns false if it is the one to be given up: nothing is counted then, and `evict` was not called.
   */
  change(holder: ByteHolder, delta: number): boolean {
    if (delta > 0 && !(this.#makeRoom(holder, delta) && (this.#parent?.change(holder, delta) ?? true))) return false;
    if (delta < 0) this.#parent?.change(holder, delta);
    const bytes = (this.#holders.get(holder) ?? 0) + delta;
    this.#bytes += delta;
    if (bytes === 0) this.#holders.delete(holder);
    else this.#holders.set(holder, bytes);
    return true;
  }

  #makeRoom(holder: ByteHolder, delta: number): boolean {
    while (this.#bytes + delta > this.maxBytes) {
      const oldest = this.#holders.keys().next();
      // Who is alone keeps no more than one connection may.
      if (oldest.done === true) return true;
      if (oldest.value === holder) return this.#holders.size === 1;
      const before = this.#bytes;
      oldest.value.evict();
      // One that keeps what it was told to give up must not be asked for ever.
      if (this.#bytes >= before) return false;
    }
    return true;
  }
}

/** Of all ports of the process: several services share its memory. */
export const processUnfinished = new ByteAccount(512 * 1024 * 1024);
/** As {@link processUnfinished}, for replies that are not taken. */
export const processUnsent = new ByteAccount(512 * 1024 * 1024);
