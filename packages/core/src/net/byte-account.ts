/**
 * Bytes that peers make a port keep: of messages that are not complete, of replies that are not taken, of what streams have not read.
 *
 * Each connection is bounded by the largest message; the account bounds all of them together. Where it is full, a connection is given
 * up, until the rest fits: the one that has kept bytes for the longest time where honest messages are complete in moments, so
 * that who wants to fill it has to go before those who just came; the one that keeps most where honest ones keep little for long.
 */

/** A connection whose bytes are counted. */
export interface ByteHolder {
  /** Give up what is kept, at once: afterwards nothing of it may be counted any more. */
  evict(): void;
}

export class ByteAccount {
  readonly maxBytes: number;
  readonly #parent: ByteAccount | undefined;
  readonly #victim: Victim;
  /** In the order in which they began to keep something. */
  readonly #holders = new Map<ByteHolder, number>();
  #bytes = 0;

  /**
   * @param parent is charged as well. Default: none.
   * @param victim who is given up where it is full. Default: who has kept something for the longest time.
   */
  constructor(maxBytes: number, parent?: ByteAccount, victim: Victim = "oldest") {
    this.maxBytes = maxBytes;
    this.#parent = parent;
    this.#victim = victim;
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
      const victim = this.#victim === "oldest" ? this.#oldest() : this.#largest(holder, delta);
      // Who is alone keeps no more than one connection may.
      if (victim === undefined) return true;
      if (victim === holder) return this.#holders.size === 1 && this.#holders.has(holder);
      const before = this.#bytes;
      victim.evict();
      // One that keeps what it was told to give up must not be asked for ever.
      if (this.#bytes >= before) return false;
    }
    return true;
  }

  #oldest(): ByteHolder | undefined {
    const oldest = this.#holders.keys().next();
    return oldest.done === true ? undefined : oldest.value;
  }

  /** `holder` would have `delta` more. */
  #largest(holder: ByteHolder, delta: number): ByteHolder | undefined {
    if (this.#holders.size === 0) return undefined;
    let largest = holder;
    let most = (this.#holders.get(holder) ?? 0) + delta;
    for (const [each, bytes] of this.#holders)
      if (bytes > most) {
        largest = each;
        most = bytes;
      }
    return largest;
  }
}

type Victim = "oldest" | "largest";

/** Of all ports of the process: several services share its memory. */
export const processUnfinished = new ByteAccount(512 * 1024 * 1024);
/** As {@link processUnfinished}, for replies that are not taken. */
export const processUnsent = new ByteAccount(512 * 1024 * 1024);
/** As {@link processUnfinished}, for what running calls and streams keep beside their requests. */
export const processKept = new ByteAccount(512 * 1024 * 1024, undefined, "largest");
