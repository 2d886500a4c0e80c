/** Writing protobuf: one growing buffer, nested messages in place. */
import type { Boxed } from "./boxed.ts";
import { isMessage, notMessage } from "./plain.ts";
import type { ProtoType } from "./proto-type.ts";
import { isBytes } from "./realms.ts";
import { int64Of, mostFloat } from "./scalars.ts";
import { wrong } from "./wrong.ts";

const initialBytes = 4096;
/** A buffer that grew beyond this is given away with its message, not copied and not kept. */
const keptBytes = 65_536;

/** Two views of eight bytes: how numbers become bytes. */
const eight = new ArrayBuffer(8);
const asBytes = new Uint8Array(eight);
const asWords = new Uint32Array(eight);
const asInt64 = new BigInt64Array(eight);
const asDouble = new Float64Array(eight);
const asFloat = new Float32Array(eight);

/** The writer that lies ready; taken while one message is written, so that one inside of it gets another. */
let spare: Writer | undefined;

/** Bytes of one message, written by what is generated. */
export class Writer {
  #buffer: Buffer = Buffer.allocUnsafeSlow(initialBytes);
  #position = 0;
  #depth = 0;

  /** Write one message, whole. */
  static encode<T extends object>(type: ProtoType<T>, message: T): Uint8Array<ArrayBuffer> {
    const writer = spare ?? new Writer();
    spare = undefined;
    try {
      type.write(message, writer);
      return writer.#finish();
    } finally {
      writer.#position = 0;
      writer.#depth = 0;
      spare = writer;
    }
  }

  #finish(): Uint8Array<ArrayBuffer> {
    const size = this.#position;
    const buffer = this.#buffer;
    if (size <= 64) {
      // Made without leaving JavaScript.
      const bytes = new Uint8Array(size);
      for (let index = 0; index < size; index++) bytes[index] = buffer[index]!;
      return bytes;
    }
    if (buffer.length > keptBytes) {
      this.#buffer = Buffer.allocUnsafeSlow(initialBytes);
      // Little is wasted: what is given away is at least half full.
      if (size * 2 >= buffer.length) return new Uint8Array(buffer.buffer as ArrayBuffer, 0, size);
    }
    const bytes = new Uint8Array(size);
    bytes.set(size === buffer.length ? buffer : buffer.subarray(0, size));
    return bytes;
  }

  #reserve(bytes: number): void {
    const needed = this.#position + bytes;
    if (needed <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed + 64, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.#position);
    this.#buffer = larger;
  }

  /** A tag, or any other unsigned number of 32 bits. */
  tag(value: number): void {
    if (this.#position + 16 > this.#buffer.length) this.#reserve(16);
    const buffer = this.#buffer;
    let position = this.#position;
    let rest = value;
    while (rest > 127) {
      buffer[position++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    buffer[position++] = rest;
    this.#position = position;
  }

  /** What `asWords` holds, as a varint. */
  #words(): void {
    if (this.#position + 16 > this.#buffer.length) this.#reserve(16);
    let low = asWords[0]!;
    let high = asWords[1]!;
    const buffer = this.#buffer;
    let position = this.#position;
    while (high > 0) {
      buffer[position++] = (low & 127) | 128;
      low = ((low >>> 7) | (high << 25)) >>> 0;
      high >>>= 7;
    }
    while (low > 127) {
      buffer[position++] = (low & 127) | 128;
      low >>>= 7;
    }
    buffer[position++] = low;
    this.#position = position;
  }

  #copy(count: number): void {
    if (this.#position + count > this.#buffer.length) this.#reserve(count);
    for (let index = 0; index < count; index++) this.#buffer[this.#position++] = asBytes[index]!;
  }

  int32(value: number): void {
    if (typeof value !== "number" || value !== (value | 0)) throw wrong(value, "an int32");
    if (value >= 0) return this.tag(value);
    asWords[0] = value;
    asWords[1] = 0xffff_ffff;
    this.#words();
  }

  enum(value: number): void {
    if (typeof value !== "number" || value !== (value | 0)) throw wrong(value, "a number of an enum");
    this.int32(value);
  }

  uint32(value: number): void {
    if (typeof value !== "number" || value !== value >>> 0) throw wrong(value, "a uint32");
    this.tag(value);
  }

  sint32(value: number): void {
    if (typeof value !== "number" || value !== (value | 0)) throw wrong(value, "a sint32");
    this.tag(((value << 1) ^ (value >> 31)) >>> 0);
  }

  fixed32(value: number): void {
    if (typeof value !== "number" || value !== value >>> 0) throw wrong(value, "a fixed32");
    asWords[0] = value;
    this.#copy(4);
  }

  sfixed32(value: number): void {
    if (typeof value !== "number" || value !== (value | 0)) throw wrong(value, "an sfixed32");
    asWords[0] = value;
    this.#copy(4);
  }

  float(value: number): void {
    if (typeof value !== "number" || (Math.abs(value) > mostFloat && Number.isFinite(value)))
      throw wrong(value, "a float");
    asFloat[0] = value;
    this.#copy(4);
  }

  double(value: number): void {
    if (typeof value !== "number") throw wrong(value, "a double");
    asDouble[0] = value;
    this.#copy(8);
  }

  bool(value: boolean): void {
    if (typeof value !== "boolean") throw wrong(value, "a bool");
    this.tag(value ? 1 : 0);
  }

  int64(value: bigint | number | string): void {
    asInt64[0] = int64Of(value, true);
    this.#words();
  }

  uint64(value: bigint | number | string): void {
    asInt64[0] = int64Of(value, false);
    this.#words();
  }

  sint64(value: bigint | number | string): void {
    const number = int64Of(value, true);
    asInt64[0] = (number << 1n) ^ (number >> 63n);
    this.#words();
  }

  fixed64(value: bigint | number | string): void {
    asInt64[0] = int64Of(value, false);
    this.#copy(8);
  }

  sfixed64(value: bigint | number | string): void {
    asInt64[0] = int64Of(value, true);
    this.#copy(8);
  }

  /** @throws {TypeError} if the text is none, or is no Unicode: what cannot be read back is not written. */
  string(value: string): void {
    if (typeof value !== "string") throw wrong(value, "a string");
    const { length } = value;
    this.#reserve(length * 3 + 5);
    const buffer = this.#buffer;
    if (length < 48) {
      // Short texts are mostly ASCII, and one byte tells their length.
      let position = this.#position + 1;
      let index = 0;
      for (; index < length; index++) {
        const code = value.charCodeAt(index);
        if (code > 127) break;
        buffer[position++] = code;
      }
      if (index === length) {
        buffer[this.#position] = length;
        this.#position = position;
        return;
      }
    }
    if (!value.isWellFormed()) throw new TypeError("the text holds half of a surrogate pair, which has no UTF-8");
    // Nearly always as many bytes are needed for the length as its least value needs.
    const start = this.#position;
    const prefix = varintBytes(length);
    const written = buffer.write(value, start + prefix, "utf8");
    const needed = varintBytes(written);
    if (needed !== prefix) buffer.copyWithin(start + needed, start + prefix, start + prefix + written);
    this.tag(written);
    this.#position = start + needed + written;
  }

  bytes(value: Uint8Array): void {
    if (!isBytes(value)) throw wrong(value, "a Uint8Array");
    this.#reserve(value.length + 5);
    this.tag(value.length);
    this.raw(value);
  }

  /** Bytes as they are: fields of which nothing is known here. */
  raw(value: Uint8Array): void {
    this.#reserve(value.length);
    this.#buffer.set(value, this.#position);
    this.#position += value.length;
  }

  /** Begin what has its length in front. @returns what {@link join} wants */
  fork(): number {
    if (this.#position + 16 > this.#buffer.length) this.#reserve(16);
    // Only what cannot end gets this deep: an object that holds itself.
    if (++this.#depth > 10_000) throw nestedTooDeep();
    return ++this.#position;
  }

  join(start: number): void {
    const length = this.#position - start;
    this.#depth--;
    if (length > 127) {
      const prefix = varintBytes(length);
      this.#reserve(prefix);
      this.#buffer.copyWithin(start - 1 + prefix, start, this.#position);
      this.#position = start - 1;
      this.tag(length);
      this.#position += length;
    } else this.#buffer[start - 1] = length;
  }

  message<T extends object>(type: ProtoType<T>, value: T): void {
    if (typeof value !== "object" || value === null) throw notMessage(value, type.$type);
    const start = this.fork();
    type.write(value, this);
    // Generated code looks at what it reads of a message, if that is anything.
    if (this.#position === start && !isMessage(value)) throw notMessage(value, type.$type);
    this.join(start);
  }

  /** A message between two tags; the first one is written. */
  group<T extends object>(type: ProtoType<T>, value: T, endTag: number): void {
    if (typeof value !== "object" || value === null) throw notMessage(value, type.$type);
    if (++this.#depth > 10_000) throw nestedTooDeep();
    const start = this.#position;
    type.write(value, this);
    if (this.#position === start && !isMessage(value)) throw notMessage(value, type.$type);
    this.#depth--;
    this.tag(endTag);
  }

  /** A message that is a plain value in code. */
  boxed<T, M extends object>(box: Boxed<T, M>, value: T): void {
    this.message(box.type, box.pack(value));
  }

  boxedGroup<T, M extends object>(box: Boxed<T, M>, value: T, endTag: number): void {
    this.group(box.type, box.pack(value), endTag);
  }
}

function varintBytes(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : value < 0x1000_0000 ? 4 : 5;
}

/** @internal The error of a message that does not end. */
export function nestedTooDeep(cause?: unknown): TypeError {
  return new TypeError("messages are nested too deep, or one holds itself", { cause });
}
