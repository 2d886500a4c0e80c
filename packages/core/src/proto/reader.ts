/** Reading protobuf. Nothing is trusted: lengths, depths and tags are checked as they come. */
import { isUtf8 } from "node:buffer";
import type { Boxed } from "./boxed.ts";
import { counted, memoryFor, take, uncounted } from "./memory.ts";
import type { ProtoType } from "./proto-type.ts";
import { keepUnknown } from "./unknown.ts";

/** How deep messages may nest, as in C++ and Java. */
export const maxDepth = 100;

type Slice = (this: Uint8Array, start: number, end: number) => string;
/** Of Node, for any bytes, whatever they are. */
const utf8Slice = (Buffer.prototype as unknown as { readonly utf8Slice: Slice }).utf8Slice;

const eight = new ArrayBuffer(8);
const asBytes = new Uint8Array(eight);
const asWords = new Uint32Array(eight);
const asInt64 = new BigInt64Array(eight);
const asUint64 = new BigUint64Array(eight);
const asDouble = new Float64Array(eight);
const asFloat = new Float32Array(eight);
const asSigned = new Int32Array(eight);

/** All of a message's bytes as the message, in as much memory as they may take. */
export function readWhole<T extends object>(type: ProtoType<T>, bytes: Uint8Array, maxMemoryBytes?: number): T {
  const before = counted(maxMemoryBytes ?? memoryFor(bytes.length));
  try {
    const message = type.base();
    const reader = new Reader(bytes);
    type.read(message, reader, bytes.length);
    reader.end(bytes.length);
    return message;
  } finally {
    uncounted(before);
  }
}

/** Fields of one message's bytes, for what is generated. */
export class Reader {
  readonly #bytes: Uint8Array;
  /** Where the next byte is. */
  position = 0;
  readonly length: number;
  /** Where the tag read last begins. */
  #tagStart = 0;
  #depth = 0;
  /** Number of the group that is being read, 0 for none. */
  #group = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.length = bytes.length;
  }

  tag(): number {
    const start = this.position;
    this.#tagStart = start;
    const first = this.#bytes[start]!;
    if (first < 128) {
      if (first < 8) throw illegalTag();
      this.position = start + 1;
      return first;
    }
    const tag = this.#varint32();
    if (this.position - start > 5 || tag >>> 3 === 0 || (this.position - start === 5 && this.#bytes[start + 4]! > 15))
      throw illegalTag();
    return tag;
  }

  /** The low 32 bits of a varint. */
  #varint32(): number {
    const bytes = this.#bytes;
    let position = this.position;
    let byte = bytes[position++]!;
    let result = byte & 127;
    if (byte > 127) {
      for (let shift = 7; ; shift += 7) {
        byte = bytes[position++]!;
        if (shift < 32) result |= (byte & 127) << shift;
        if (!(byte > 127)) break;
        if (shift >= 63) throw new Error("a number has more than ten bytes");
      }
    }
    if (position > this.length) throw tooShort();
    this.position = position;
    return result >>> 0;
  }

  /** A varint into `asWords`. */
  #varint64(): void {
    const bytes = this.#bytes;
    let position = this.position;
    let low = 0;
    let high = 0;
    let shift = 0;
    for (;;) {
      const byte = bytes[position++]!;
      if (shift < 28) low |= (byte & 127) << shift;
      else if (shift === 28) {
        low |= (byte & 127) << 28;
        high = (byte & 127) >>> 4;
      } else high |= (byte & 127) << (shift - 32);
      if (!(byte > 127)) break;
      shift += 7;
      if (shift > 63) throw new Error("a number has more than ten bytes");
    }
    if (position > this.length) throw tooShort();
    this.position = position;
    asWords[0] = low;
    asWords[1] = high;
  }

  #fixed(count: number): void {
    const start = this.position;
    if (start + count > this.length) throw tooShort();
    this.position = start + count;
    const bytes = this.#bytes;
    for (let index = 0; index < count; index++) asBytes[index] = bytes[start + index]!;
  }

  int32(): number {
    return this.#varint32() | 0;
  }
  enum(): number {
    return this.#varint32() | 0;
  }
  uint32(): number {
    return this.#varint32();
  }
  sint32(): number {
    const value = this.#varint32();
    return (value >>> 1) ^ -(value & 1);
  }
  fixed32(): number {
    this.#fixed(4);
    return asWords[0]!;
  }
  sfixed32(): number {
    this.#fixed(4);
    return asSigned[0]!;
  }
  float(): number {
    this.#fixed(4);
    return asFloat[0]!;
  }
  double(): number {
    this.#fixed(8);
    return asDouble[0]!;
  }
  bool(): boolean {
    this.#varint64();
    return asWords[0] !== 0 || asWords[1] !== 0;
  }
  int64(): bigint {
    this.#varint64();
    return asInt64[0]!;
  }
  uint64(): bigint {
    this.#varint64();
    return asUint64[0]!;
  }
  sint64(): bigint {
    this.#varint64();
    const value = asUint64[0]!;
    return (value >> 1n) ^ -(value & 1n);
  }
  fixed64(): bigint {
    this.#fixed(8);
    return asUint64[0]!;
  }
  sfixed64(): bigint {
    this.#fixed(8);
    return asInt64[0]!;
  }

  string(): string {
    const start = this.#text();
    const end = this.position;
    const bytes = this.#bytes;
    if (end - start < 13) {
      let text = "";
      for (let index = start; index < end; index++) {
        const byte = bytes[index]!;
        if (byte > 127) return checkedText(bytes, start, end);
        text += String.fromCharCode(byte);
      }
      return text;
    }
    return checkedText(bytes, start, end);
  }

  /** A text of proto2, which may be anything: what is no UTF-8 becomes U+FFFD. */
  anyString(): string {
    const start = this.#text();
    return utf8Slice.call(this.#bytes, start, this.position);
  }

  /** A view of what is read. */
  bytes(): Uint8Array {
    const start = this.#text();
    const { buffer, byteOffset } = this.#bytes;
    return new Uint8Array(buffer, byteOffset + start, this.position - start);
  }

  /** Where something with its length in front begins; the position is its end. */
  #text(): number {
    const length = this.#varint32();
    const start = this.position;
    if (length > this.length - start) throw tooShort();
    this.position = start + length;
    return start;
  }

  /** The end of packed numbers or of a map's entry, which are read next. */
  span(): number {
    const length = this.#varint32();
    const end = this.position + length;
    if (end > this.length) throw tooShort();
    return end;
  }

  /** @throws {Error} if what was in a span did not end with it. */
  end(position: number): void {
    if (this.position !== position) throw tooShort();
  }

  /** A message with nothing set, which counts. */
  base<T extends object>(type: ProtoType<T>): T {
    take(type.memory);
    return type.base();
  }

  /** A nested message; `existing` is what an earlier one of the same field gave. */
  message<T extends object>(type: ProtoType<T>, existing?: T): T {
    const end = this.span();
    const group = this.#group;
    this.#group = 0;
    if (++this.#depth >= maxDepth) throw tooDeep();
    const message = existing ?? this.base(type);
    type.read(message, this, end);
    if (this.position !== end) throw tooShort();
    this.#depth--;
    this.#group = group;
    return message;
  }

  group<T extends object>(type: ProtoType<T>, number: number, existing?: T): T {
    const group = this.#group;
    this.#group = number;
    if (++this.#depth >= maxDepth) throw tooDeep();
    const message = existing ?? this.base(type);
    type.read(message, this, this.length);
    if (this.#group !== 0) throw tooShort();
    this.#depth--;
    this.#group = group;
    return message;
  }

  /** A message that is a plain value in code. */
  boxed<T, M extends object>(box: Boxed<T, M>, existing?: T): T {
    if (existing === undefined) return box.unpack(this.message(box.type));
    return box.merge(existing, (part) => this.message(box.type, part));
  }

  boxedGroup<T, M extends object>(box: Boxed<T, M>, number: number, existing?: T): T {
    if (existing === undefined) return box.unpack(this.group(box.type, number));
    return box.merge(existing, (part) => this.group(box.type, number, part));
  }

  /** What no case of a generated message takes. @returns true at the end of the group that is being read */
  other(message: object, tag: number): boolean {
    const start = this.#tagStart;
    if ((tag & 7) === 4) {
      if (this.#group !== tag >>> 3) throw new Error(`the end of group ${tag >>> 3} without its beginning`);
      this.#group = 0;
      return true;
    }
    this.skip(tag);
    this.keep(message, start);
    return false;
  }

  /** Keep what was read since `start` as it is. */
  keep(message: object, start: number): void {
    keepUnknown(message, this.#bytes.subarray(start, this.position));
  }

  /** Keep a number that is no value of a closed enum as the field it came in. */
  keepEnum(message: object, tag: number, value: number): void {
    const bytes: number[] = [];
    let rest = tag;
    for (; rest > 127; rest >>>= 7) bytes.push((rest & 127) | 128);
    bytes.push(rest);
    let number = BigInt.asUintN(64, BigInt(value));
    for (; number > 127n; number >>= 7n) bytes.push(Number(number & 127n) | 128);
    bytes.push(Number(number));
    keepUnknown(message, Uint8Array.from(bytes));
  }

  /** Where the tag read last begins, for {@link keep}. */
  get tagStart(): number {
    return this.#tagStart;
  }

  /** Pass over the value of a field. */
  skip(tag: number): void {
    switch (tag & 7) {
      case 0:
        return this.#varint64();
      case 1:
        this.position += 8;
        break;
      case 2: {
        const length = this.#varint32();
        this.position += length;
        break;
      }
      case 3:
        if (++this.#depth >= maxDepth) throw tooDeep();
        for (;;) {
          if (this.position >= this.length) throw tooShort();
          const next = this.tag();
          if ((next & 7) === 4) {
            if (next >>> 3 !== tag >>> 3) throw new Error(`the end of group ${next >>> 3} without its beginning`);
            break;
          }
          this.skip(next);
        }
        this.#depth--;
        return;
      case 5:
        this.position += 4;
        break;
      default:
        throw illegalTag();
    }
    if (this.position > this.length) throw tooShort();
  }
}

function checkedText(bytes: Uint8Array, start: number, end: number): string {
  const text = utf8Slice.call(bytes, start, end);
  if (text.includes("\ufffd") && !isUtf8(bytes.subarray(start, end))) throw new Error("a string is not UTF-8");
  return text;
}

function tooShort(): Error {
  return new Error("the bytes end inside a field");
}
function tooDeep(): Error {
  return new Error(`messages are nested deeper than ${maxDepth} levels`);
}
function illegalTag(): Error {
  return new Error("the bytes are no protobuf: illegal tag");
}
