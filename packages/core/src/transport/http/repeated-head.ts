/**
 * Heads of one stream are the same but for their `Content-Length`. Comparing the bytes with those of a head that was
 * parsed before, and reading one number, gives what parsing would give, for a fraction of its cost.
 */
import type { Head } from "./head.ts";

const lengthLine = "\r\nContent-Length: ";
/** Longer heads are parsed each time, so that a connection keeps little. */
const maxHeadBytes = 1024;
/** As many digits as the parser takes. */
const maxDigits = 15;

export class RepeatedHead {
  /** The head that {@link read} found last. */
  head: Head;
  readonly #textBefore: string;
  readonly #textAfter: string;
  readonly #before: Buffer;
  readonly #after: Buffer;

  /** Undefined for a head that is not worth it, or has no length written as usual. */
  static of(head: Head): RepeatedHead | undefined {
    const { text } = head;
    if (text.length > maxHeadBytes || head.contentLength === -1) return undefined;
    // Only the beginning of a line can read so, and only one: the parser refuses bare line ends, and a second length.
    const line = text.indexOf(lengthLine);
    if (line === -1) return undefined;
    const digits = line + lengthLine.length;
    const lineEnd = text.indexOf("\r\n", digits);
    const end = lineEnd === -1 ? text.length : lineEnd;
    if (!/^(?:0|[1-9]\d*)$/.test(text.slice(digits, end))) return undefined;
    return new RepeatedHead(head, text.slice(0, digits), text.slice(end));
  }

  private constructor(head: Head, before: string, after: string) {
    this.head = head;
    this.#textBefore = before;
    this.#textAfter = after;
    this.#before = Buffer.from(before, "latin1");
    this.#after = Buffer.from(`${after}\r\n\r\n`, "latin1");
  }

  /** Read a head at `offset` into `head`. @returns where it ends, or -1 if it is another one, or not complete. */
  read(chunk: Buffer, offset: number): number {
    const before = this.#before;
    const after = this.#after;
    const beforeLength = before.length;
    const afterLength = after.length;
    let position = offset + beforeLength;
    if (position + 1 + afterLength > chunk.length) return -1;
    // Backwards: heads that differ do so more often near their end.
    for (let index = beforeLength - 1; index >= 0; index--) if (chunk[offset + index] !== before[index]) return -1;
    const lastDigit = Math.min(position + maxDigits, chunk.length - afterLength);
    const digits = position;
    let length = 0;
    for (; position < lastDigit; position++) {
      const digit = chunk[position]! - 48;
      if (!(digit >= 0 && digit <= 9)) break;
      length = length * 10 + digit;
    }
    // A number written with leading zeros is fine, but another text.
    if (position === digits || (chunk[digits] === 48 && position > digits + 1)) return -1;
    for (let index = 0; index < afterLength; index++) if (chunk[position + index] !== after[index]) return -1;
    if (length !== this.head.contentLength)
      this.head = this.head.repeated(`${this.#textBefore}${length}${this.#textAfter}`, length);
    return position + afterLength;
  }
}
