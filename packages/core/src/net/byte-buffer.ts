/**
 * Bytes that arrive in pieces. It grows with what has really arrived, never with what a header promises, and by doubling,
 * so that a peer sending one byte at a time costs no more than one sending all at once.
 */
export class ByteBuffer {
  readonly #reserve: ((delta: number) => void) | undefined;
  #bytes: Buffer = empty;
  #length = 0;

  /** @param reserve is told before memory is taken, and after it was given back or away; what it throws, `append` throws. */
  constructor(reserve?: (delta: number) => void) {
    this.#reserve = reserve;
  }

  get length(): number {
    return this.#length;
  }

  /** @param expected the size it is likely to reach; saves copies, bounded by what has come. */
  append(chunk: Uint8Array, expected = 0): void {
    const needed = this.#length + chunk.length;
    if (needed > this.#bytes.length) {
      const doubled = Math.max(needed, this.#bytes.length * 2);
      const likely = Math.min(expected, Math.max(doubled, Math.min(needed * 4, maxReserve)));
      const size = expected === 0 ? doubled : Math.max(needed, likely);
      this.#reserve?.(size - this.#bytes.length);
      const grown = Buffer.allocUnsafeSlow(size);
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(chunk, this.#length);
    this.#length = needed;
  }

  /** What has arrived so far; valid until the next `append`. */
  view(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Hand the bytes over and start anew. */
  take(): Buffer {
    const bytes = this.view();
    const { length } = this.#bytes;
    this.#bytes = empty;
    this.#length = 0;
    if (length > 0) this.#reserve?.(-length);
    return bytes;
  }
}

const empty = Buffer.alloc(0);
const maxReserve = 256 * 1024;
