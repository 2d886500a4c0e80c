/** Small functions and types of generated code: names that no message can take. */
import { entriesOf, refuseProto, setEntry } from "./maps.ts";
import { isBytes, isMap } from "./realms.ts";
import type { Reader } from "./reader.ts";
import { enumNames, type EnumValues } from "./table.ts";
import { unknownFields } from "./unknown.ts";
import type { Writer } from "./writer.ts";
import { shown, wrong } from "./wrong.ts";

/** Global types, whatever a file's messages are called. */
export type Bytes = Uint8Array;
export type MapOf<Key, Entry> = Map<Key, Entry>;

/** One for all: nobody can put anything into it. */
const noBytes = new Uint8Array(0);
export const emptyBytes = (): Uint8Array => noBytes;
export const newMap = <Key, Entry>(): Map<Key, Entry> => new Map();

/** True if a number has a name in a closed enum. */
export const hasNumber = (values: EnumValues, number: number): boolean => enumNames(values).has(number);

/** True for a real number that is written: all but zero, which is not the one below it. */
export const isSet = (value: number): boolean => value !== 0 || Object.is(value, -0);

/** True for bytes that are written, and for what is none at all, which is told then. */
export const hasBytes = (value: Uint8Array | null | undefined): boolean =>
  value !== undefined && value !== null && (value.length !== 0 || !isBytes(value));

export { boolKey, intKey } from "./maps.ts";
export { checkMessage } from "./plain.ts";
export { int64Number } from "./scalars.ts";

/** Elements of a list, none of what is not there. @throws {TypeError} if it is no array */
export function list<T>(value: readonly T[] | null | undefined): readonly T[] {
  if (value === undefined || value === null) return none;
  if (!Array.isArray(value)) throw wrong(value, "an array");
  return value as readonly T[];
}
const none: readonly never[] = [];

/** Entries of a map by text or 32-bit integers. @throws {TypeError} for the key that no reader takes */
export function entries<T>(map: { readonly [key: string]: T } | undefined): [key: string, value: T][] {
  const found = entriesOf(map) as [key: string, value: T][];
  if (found.length > 0 && hasProto(map!)) refuseProto("__proto__");
  return found;
}

function hasProto(map: object): boolean {
  return isMap(map) ? map.has("__proto__") : Object.hasOwn(map, "__proto__");
}
/** Entries of a map by anything else. */
export const mapEntries: <Key, T>(map: ReadonlyMap<Key, T> | undefined) => [key: Key, value: T][] = entriesOf as never;

/** @throws {TypeError} if a oneof has something that is none of its fields */
export function noCase(oneof: { readonly $case: string } | null | undefined): void {
  if (oneof !== undefined && oneof !== null)
    throw new TypeError(`a oneof has $case ${shown(oneof.$case)}, which is none of its fields`);
}

/** Read a message without fields. */
export function readUnknown(message: object, reader: Reader, end: number): void {
  while (reader.position < end) if (reader.other(message, reader.tag())) return;
}

/** Put an entry into a map of either form. */
export const put: (map: unknown, key: unknown, value: unknown) => void = setEntry;

/** Part of a function that is too long for TypeScript, which follows the branches of functions that are called in place. */
export const part = <T>(run: () => T): T => run();

/** Write fields that were kept. */
export function writeUnknown(message: object, writer: Writer): void {
  const bytes = unknownFields(message);
  if (bytes !== undefined) writer.raw(bytes);
}
