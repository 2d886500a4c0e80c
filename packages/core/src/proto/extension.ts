/** Extensions of proto2: fields that a message carries without its type knowing them. */
import type { ProtoInput } from "../proto.ts";
import type { ProtoType } from "./proto-type.ts";
import { Reader } from "./reader.ts";
import { setUnknownFields, unknownFields } from "./unknown.ts";

/** An extension, as generated code declares it. */
export class Extension<T extends object, V> {
  /** Full name, e.g. `acme.priority`. */
  readonly $extension: string;
  readonly #extendee: () => ProtoType<T>;
  /** @internal A message with the extension as its only field. */
  readonly holder: ProtoType<{ value?: V }>;

  /** @internal */
  constructor(name: string, extendee: () => ProtoType<T>, holder: ProtoType<any>) {
    this.$extension = name;
    this.#extendee = extendee;
    this.holder = holder;
  }

  /** The type that it extends. */
  get extendee(): ProtoType<T> {
    return this.#extendee();
  }

  get number(): number {
    return this.holder.fields[0]!.no;
  }
}

/** @internal Declare an extension: what generated code calls. */
export function extension<T extends object, V>(
  name: string,
  extendee: () => ProtoType<T>,
  holder: ProtoType<any>,
): Extension<T, V> {
  return new Extension(name, extendee, holder);
}

/** The value of an extension; undefined, or an empty list, if the message has none. @throws {Error} if its bytes are wrong */
export function getExtension<T extends object, V>(message: T, { holder }: Extension<T, V>): V | undefined {
  const bytes = unknownFields(message);
  return bytes === undefined ? holder.base().value : holder.decode(bytes).value;
}

/** True if the message has the extension. */
export function hasExtension<T extends object>(message: T, { number }: Extension<T, unknown>): boolean {
  const bytes = unknownFields(message);
  return bytes !== undefined && others(bytes, number).length < bytes.length;
}

/** Set an extension; undefined removes it. @throws {TypeError} if the value does not fit its type */
export function setExtension<T extends object, V>(
  message: T,
  { holder, number }: Extension<T, V>,
  value: V | undefined,
): void {
  const bytes = unknownFields(message);
  const rest = bytes === undefined ? new Uint8Array(0) : others(bytes, number);
  const own = holder.encode({ value } as ProtoInput<{ value?: V }>);
  setUnknownFields(message, joined([rest, own]));
}

/** Fields of other numbers. */
function others(bytes: Uint8Array, number: number): Uint8Array {
  const reader = new Reader(bytes);
  const kept: Uint8Array[] = [];
  while (reader.position < bytes.length) {
    const start = reader.position;
    const tag = reader.tag();
    reader.skip(tag);
    if (tag >>> 3 !== number) kept.push(bytes.subarray(start, reader.position));
  }
  return joined(kept);
}

/** As what is read is kept: no `Buffer`, whose slices are views, and which is equal to no other bytes in tests. */
function joined(parts: readonly Uint8Array[]): Uint8Array {
  const { buffer, byteOffset, length } = Buffer.concat(parts);
  return new Uint8Array(buffer, byteOffset, length);
}
