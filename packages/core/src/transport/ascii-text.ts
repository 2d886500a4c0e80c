/** Small pieces of bytes as text, many at one stroke: one call into the system's code for a burst of messages. */
import { isAscii } from "node:buffer";

const windowBytes = 4 * 1024;

export class AsciiText {
  readonly bytes: Buffer;
  /** Of `#start` to `#end`, if all that is ASCII. */
  #text: string | undefined;
  #start = 0;
  #end = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /**
   * The bytes from `start` to `end` as text; undefined unless they and those behind them are ASCII, or when there is
   * nothing behind them, as then it is not worth it.
   * @param filled how many of the bytes are there, and stay as they are.
   */
  slice(start: number, end: number, filled: number): string | undefined {
    if (start < this.#start || end > this.#end) {
      if (end === filled || end - start > windowBytes) return undefined;
      const { bytes } = this;
      this.#start = start;
      this.#end = Math.min(filled, start + windowBytes);
      this.#text = isAscii(bytes.subarray(start, this.#end)) ? bytes.toString("latin1", start, this.#end) : undefined;
    }
    return this.#text?.slice(start - this.#start, end - this.#start);
  }
}
