/** Messages of an exchange between its connection and the one who reads them. */
import { AsciiText } from "../ascii-text.ts";
import { ReaderQueue } from "../reader-queue.ts";

/** Larger messages are better off on their own. */
export const maxPackedBytes = 1024;
const minSlabBytes = 512;
const maxSlabBytes = 16 * 1024;
/** Length of a packed message, in two bytes of seven bits: so a slab of ASCII messages is ASCII throughout. */
const lengthBytes = 2;

/**
 * Small messages one behind the other, as bytes: a burst that waits for its reader costs neither an object nor a buffer
 * each, and becomes text at one stroke. Nothing in it is written twice, so that views of it stay what they are.
 */
export class Slab {
  readonly bytes: Buffer;
  readonly #text: AsciiText;
  #written = 0;
  #read = 0;

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafe(size);
    this.#text = new AsciiText(this.bytes);
  }

  get empty(): boolean {
    return this.#read === this.#written;
  }

  /** @returns false when there is no room for it. */
  add(source: Uint8Array, start: number, end: number): boolean {
    const { bytes } = this;
    const length = end - start;
    let at = this.#written;
    if (at + lengthBytes + length > bytes.length) return false;
    bytes[at] = length >>> 7;
    bytes[at + 1] = length & 0x7f;
    at += lengthBytes;
    if (length > 48) bytes.set(source.subarray(start, end), at);
    else for (let index = 0; index < length; index++) bytes[at + index] = source[start + index]!;
    this.#written = at + length;
    return true;
  }

  /** Where the message that was read last ends. */
  get end(): number {
    return this.#read;
  }

  /** Move on to the next message. @returns where it begins. */
  next(): number {
    const { bytes } = this;
    const start = this.#read + lengthBytes;
    this.#read = start + ((bytes[start - 2]! << 7) | bytes[start - 1]!);
    return start;
  }

  /** See {@link AsciiText.slice}. */
  text(start: number, end: number): string | undefined {
    return this.#text.slice(start, end, this.#written);
  }
}

/** Makes a message of the packed bytes from `start` to `end`. */
export type Unpack<T> = (slab: Slab, start: number, end: number) => T;

export function unpackBytes(slab: Slab, start: number, end: number): Uint8Array {
  return slab.bytes.subarray(start, end);
}

/** It bounds nothing: whoever fills it gives credit for what the reader has taken. */
export class MessageQueue<T extends object> extends ReaderQueue<T, T | Slab> {
  readonly #unpack: Unpack<T>;
  /** Called with each message that the reader takes: itself, or the length it had packed. */
  readonly #onTaken: (taken: T | number) => void;
  /** The last of what is kept, if it is one; or the last one that was. */
  #slab: Slab | undefined;
  #slabBytes = minSlabBytes;

  constructor(unpack: Unpack<T>, onTaken: (taken: T | number) => void) {
    super();
    this.#unpack = unpack;
    this.#onTaken = onTaken;
  }

  /** Ignored once closed. */
  push(item: T): void {
    if (this.closed) return;
    this.#slab = undefined;
    this.keep(item);
    if (this.awaited) this.hand(this.take());
  }

  /** Copies a message of at most {@link maxPackedBytes}; ignored once closed. */
  pack(bytes: Uint8Array, start: number, end: number): void {
    if (this.closed) return;
    if (this.#slab === undefined || !this.#slab.add(bytes, start, end)) {
      this.#slab = new Slab(Math.max(this.#slabBytes, lengthBytes + end - start));
      this.#slabBytes = Math.min(2 * this.#slabBytes, maxSlabBytes);
      this.#slab.add(bytes, start, end);
      this.keep(this.#slab);
    } else if (this.length === 0) this.keep(this.#slab);
    if (this.awaited) this.hand(this.take());
  }

  protected override clear(): void {
    super.clear();
    this.#slab = undefined;
  }

  protected override take(): T {
    const { first } = this;
    if (!(first instanceof Slab)) {
      this.advance();
      this.#onTaken(first);
      return first;
    }
    const start = first.next();
    const { end } = first;
    if (first.empty) this.advance();
    this.#onTaken(end - start);
    return this.#unpack(first, start, end);
  }
}
