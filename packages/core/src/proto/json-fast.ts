/**
 * What generated code writes JSON with. Only messages that are right go this way to its end: an error here is thrown
 * away, and {@link toJson} finds it again with the path of its field.
 */
import type { Boxed } from "./boxed.ts";
import type { JsonObject, JsonValue, JsonWriteOptions } from "./json.ts";
import { scalarToJson } from "./json-scalars.ts";
import { entriesOf, setJsonEntry } from "./maps.ts";
import { isMessage } from "./plain.ts";
import { isMap } from "./realms.ts";
import type { ProtoType } from "./proto-type.ts";
import type { ScalarName } from "./scalars.ts";
import { enumNames, type EnumValues } from "./table.ts";

class NoJson extends Error {}

const fail = (): never => {
  throw new NoJson();
};

export const jsonString = (value: string): string =>
  typeof value === "string" && value.isWellFormed() ? value : fail();
export const jsonBool = (value: boolean): boolean => (typeof value === "boolean" ? value : fail());
export const jsonInt32 = (value: number): number => (value === (value | 0) ? value | 0 : fail());
export const jsonUint32 = (value: number): number => (value === value >>> 0 ? value : fail());
export const jsonDouble = (value: number): number | string =>
  Number.isFinite(value) ? value : typeof value === "number" ? String(value) : fail();
export const jsonFloat = (value: number): JsonValue =>
  Number.isInteger(value) && value < 16_777_216 && value > -16_777_216 ? value : scalarToJson("float", value);
export const jsonBytes = (value: Uint8Array): JsonValue => scalarToJson("bytes", value);
export const jsonInt64 = (value: bigint | number | string): JsonValue => scalarToJson("int64", value);
export const jsonUint64 = (value: bigint | number | string): JsonValue => scalarToJson("uint64", value);

export function jsonEnum(values: EnumValues, value: number): string | number {
  return enumNames(values).get(value) ?? jsonInt32(value);
}

/** `google.protobuf.NullValue`, whatever its number. */
export const jsonNull = (value: number): null => (value === (value | 0) ? null : fail());

export function jsonMessage<T extends object>(type: ProtoType<T>, value: T, options: JsonWriteOptions): JsonValue {
  if (typeof value !== "object" || value === null) return fail();
  const { special } = type;
  if (special === undefined) return type.json(value, options);
  return isMessage(value) ? special.write(value, options) : fail();
}

export function jsonBoxed<T>(box: Boxed<T, any>, value: T, options: JsonWriteOptions): JsonValue {
  return box.toJSON(value, options);
}

/** Not by `map`, which passes over what is missing in between. */
export function jsonList<T>(list: readonly T[], write: (value: T) => JsonValue): JsonValue[] {
  const json: JsonValue[] = [];
  for (const value of list) json.push(write(value));
  return json;
}

export function jsonMap(map: object | undefined, type: ScalarName, write: (value: any) => JsonValue): JsonObject {
  const json: JsonObject = {};
  for (const [key, value] of entriesOf(map)) setJsonEntry(json, type, key, write(value));
  return json;
}

/** For a field whose name in JSON is another one's. */
export const noName: (value: JsonValue) => never = fail;

/** True if a map has entries. */
export function hasEntries(map: object | null | undefined): boolean {
  if (isMap(map)) return map.size > 0;
  for (const _ in map) return true;
  // What is no map at all is told when its entries are asked for.
  return map !== undefined && map !== null && !isMessage(map);
}
