/**
 * Bytes that arrive in pieces. It grows with what has really arrived, never with what a header promises, and by doubling,
 * so that a peer sending one byte at a time costs no more than one sending all at once.
 */
export class ByteBuffer {
  #bytes: Buffer = empty;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** @param expected the size it is likely to reach; saves copies, bounded by `maxReserve`. */
  append(chunk: Uint8Array, expected = 0): void {
    const needed = this.#length + chunk.length;
    if (needed > this.#bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.#bytes.length * 2, Math.min(expected, maxReserve)));
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
    this.#bytes = empty;
    this.#length = 0;
    return bytes;
  }
}

const empty = Buffer.alloc(0);
const maxReserve = 256 * 1024;
