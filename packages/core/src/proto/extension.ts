/** Extensions of proto2: fields that a message carries without its type knowing them. */
import type { ProtoInput } from "../proto.ts";
import type { ProtoType } from "./proto-type.ts";
import { Reader } from "./reader.ts";
import { enumNames, type EnumValues } from "./table.ts";
import { setUnknownFields, unknownFields } from "./unknown.ts";
import { wrong } from "./wrong.ts";

/** An extension, as generated code declares it. */
export class Extension<T extends object, V> {
  /** Full name, e.g. `acme.priority`. */
  readonly $extension: string;
  /** Number of its field. */
  readonly number: number;
  readonly #extendee: () => ProtoType<T>;
  /** @internal A message with the extension as its only field. */
  readonly holder: ProtoType<{ value?: V }>;
  /** @internal True for one of a message set, whose fields are items with a number and a message. */
  readonly isItem: boolean;

  /** @internal */
  constructor(name: string, extendee: () => ProtoType<T>, holder: ProtoType<any>, item?: number) {
    this.$extension = name;
    this.#extendee = extendee;
    this.holder = holder;
    this.isItem = item !== undefined;
    this.number = item ?? holder.fields[0]!.no;
  }

  /** The type that it extends. */
  get extendee(): ProtoType<T> {
    return this.#extendee();
  }
}

/**
 * @internal Declare an extension: what generated code calls.
 * @param item number of one of a message set, which may be larger than that of any field: that of the holder is 1
 */
export function extension<T extends object, V>(
  name: string,
  extendee: () => ProtoType<T>,
  holder: ProtoType<any>,
  item?: number,
): Extension<T, V> {
  return new Extension(name, extendee, holder, item);
}

/** The value of an extension; undefined, or an empty list, if the message has none. @throws {Error} if its bytes are wrong */
export function getExtension<T extends object, V>(message: T, known: Extension<T, V>): V | undefined {
  const { holder, isItem } = known;
  const bytes = unknownFields(message);
  if (bytes === undefined) return holder.base().value;
  try {
    return holder.decode(isItem ? partsOf(bytes, known).own : bytes).value;
  } catch (error) {
    throw named(known, error);
  }
}

/** True if the message has the extension. */
export function hasExtension<T extends object>(message: T, known: Extension<T, any>): boolean {
  const bytes = unknownFields(message);
  if (bytes === undefined || partsOf(bytes, known).own.length === 0) return false;
  if (!isClosed(known)) return true;
  // Numbers that its enum does not have are not values of it.
  const value = getExtension(message, known);
  return Array.isArray(value) ? value.length > 0 : value !== undefined;
}

/** Set an extension; undefined removes it. @throws {TypeError} if the value does not fit its type */
export function setExtension<T extends object, V>(message: T, known: Extension<T, V>, value: V | undefined): void {
  const { holder, isItem, number } = known;
  const bytes = unknownFields(message);
  const rest = bytes === undefined ? new Uint8Array(0) : partsOf(bytes, known).others;
  let own: Uint8Array;
  try {
    own = holder.encode({ value } as ProtoInput<{ value?: V }>);
    if (isClosed(known)) checkNumbers(known, value);
  } catch (error) {
    throw named(known, error);
  }
  setUnknownFields(message, joined([rest, isItem && own.length > 0 ? itemOf(number, own) : own]));
}

function isClosed({ holder }: Extension<any, any>): boolean {
  return holder.fields[0]!.closed === true;
}

/** What cannot be got again is not set. */
function checkNumbers({ holder }: Extension<any, any>, value: unknown): void {
  const known = enumNames(holder.fields[0]!.of!() as EnumValues);
  for (const number of Array.isArray(value) ? value : value === undefined || value === null ? [] : [value])
    if (!known.has(number as number))
      throw new TypeError(`value: ${wrong(number, "a number of the enum, which is closed").message}`);
}

/** Holders call it `value`. */
function named({ $extension }: Extension<any, any>, error: unknown): unknown {
  if (!(error instanceof TypeError)) return error;
  const text = error.message.replace(/^value(?=[:.[])/, `[${$extension}]`);
  return new TypeError(text, { cause: error });
}

/** The fields of an extension, as its holder reads them, and all others. */
function partsOf(bytes: Uint8Array, { number, isItem }: Extension<any, any>): { own: Uint8Array; others: Uint8Array } {
  const reader = new Reader(bytes);
  const own: Uint8Array[] = [];
  const others: Uint8Array[] = [];
  while (reader.position < bytes.length) {
    const start = reader.position;
    const tag = reader.tag();
    const item = isItem && tag === startItem ? readItem(reader) : undefined;
    if (item === undefined) reader.skip(tag);
    const field = bytes.subarray(start, reader.position);
    if (item === undefined ? isItem || tag >>> 3 !== number : item.number !== number) others.push(field);
    else own.push(...(item?.messages ?? [field]));
  }
  return { own: joined(own), others: joined(others) };
}

// `repeated group Item = 1 { required int32 type_id = 2; required bytes message = 3; }`
const startItem = 11;
const endItem = 12;
const itemNumber = 16;
const itemMessage = 26;
/** Tag of the only field of an item's holder. */
const holderTag = 10;

/** An item behind its first tag; its message is the holder's field. What comes twice is as in Go: the last number, all messages. */
function readItem(reader: Reader): { number: number; messages: Uint8Array[] } {
  let number = 0;
  const messages: Uint8Array[] = [];
  while (reader.position < reader.length) {
    const tag = reader.tag();
    if (tag === endItem) return { number, messages };
    if (tag === itemNumber) number = reader.int32();
    else if (tag === itemMessage) messages.push(withLength(reader.bytes()));
    else reader.skip(tag);
  }
  throw new Error("the bytes end inside an item of a message set");
}

function withLength(message: Uint8Array): Uint8Array {
  const head: number[] = [holderTag];
  addVarint(head, message.length);
  return joined([Uint8Array.from(head), message]);
}

/** An item with what a holder wrote. */
function itemOf(number: number, own: Uint8Array): Uint8Array {
  const head = [startItem, itemNumber];
  addVarint(head, number);
  head.push(itemMessage);
  return joined([Uint8Array.from(head), own.subarray(1), Uint8Array.of(endItem)]);
}

function addVarint(bytes: number[], value: number): void {
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest & 127) | 128);
  bytes.push(rest);
}

/** As what is read is kept: no `Buffer`, whose slices are views, and which is equal to no other bytes in tests. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  const { buffer, byteOffset, length } = Buffer.concat(parts);
  return new Uint8Array(buffer, byteOffset, length);
}
