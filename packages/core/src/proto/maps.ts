/** Maps: plain objects by text and 32-bit integers, `Map`s by all others. */
import { checkPlaces } from "./collisions.ts";
import { entryBytes, take } from "./memory.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import { textOf } from "./json-scalars.ts";
import { isMessage } from "./plain.ts";
import { isMap } from "./realms.ts";
import { int64Of, isUnsigned, type ScalarName } from "./scalars.ts";
import { wrong } from "./wrong.ts";

/**
 * @throws {Error} for the one key that a plain object cannot have without harm to whoever copies it, and for keys that were
 * chosen to make a map slow
 */
export function setEntry(map: unknown, key: unknown, value: unknown): void {
  take(entryBytes);
  if (map instanceof Map) {
    map.set(key, value);
    if (typeof key === "bigint" || typeof key === "number") checkPlaces(map, key);
  } else {
    refuseProto(key);
    if (isIndex(key)) keepSparse(map as Record<number, unknown>, Number(key));
    (map as Record<string, unknown>)[key as string] = value;
  }
}

/** True if a map of ours has a key. */
export function hasEntry(map: unknown, key: unknown): boolean {
  return map instanceof Map ? map.has(key) : Object.hasOwn(map as object, key as string);
}

/** Objects keep members below this as an array, with room for all in between, whoever is there. */
const mostDense = 8192;
const fewest = 16;

function isIndex(key: unknown): boolean {
  if (typeof key === "number") return key > fewest && key < mostDense;
  const text = key as string;
  return text.length < 5 && text.length > 1 && text.charCodeAt(0) < 58 && Number(text) > fewest;
}

/** The highest index there is: an object that once had it does not become an array again. */
const lastIndex = 4_294_967_294;

/** One entry by 1000 would take 12 KB: what follows no other is kept as a table is. */
function keepSparse(map: Record<number, unknown>, index: number): void {
  if (Object.hasOwn(map, index - 1) || Object.hasOwn(map, index) || Object.hasOwn(map, lastIndex)) return;
  map[lastIndex] = undefined;
  delete map[lastIndex];
}

/** Entries of either form; none of undefined. @throws {TypeError} if it is neither */
export function entriesOf(map: unknown): [key: unknown, value: unknown][] {
  if (map === undefined || map === null) return [];
  if (isMap(map)) return [...map];
  if (!isMessage(map)) throw wrong(map, "an object or a Map");
  return Object.entries(map);
}

/** @throws {TypeError} for the one key that a plain object cannot have without harm to whoever copies it */
export function refuseProto(key: unknown): void {
  if (key === "__proto__") throw new TypeError('the map key "__proto__" is not allowed');
}

/** A key as what the field's type has, from what code may have for it. @throws {TypeError} if it is none of the type */
export function keyOf(type: ScalarName, key: unknown): string | number | boolean | bigint {
  switch (type) {
    case "string":
      refuseProto(key);
      return textOf(key);
    case "bool":
      return boolKey(key);
    case "int64":
    case "sint64":
    case "sfixed64":
    case "uint64":
    case "fixed64":
      return int64Of(key as bigint, !isUnsigned(type));
    default: {
      const number = intKey(key);
      const fits = isUnsigned(type) ? number === number >>> 0 : number === (number | 0);
      if (!fits) throw wrong(number, `${/^[aeio]|^sf/.test(type) ? "an" : "a"} ${type}`);
      return number;
    }
  }
}

/** An integer as a key of an object has it: `01` and `1` would be two keys there, and one for whoever reads them. */
export function intKey(key: unknown): number {
  if (typeof key === "number") return key;
  const number = Number(key);
  if (typeof key !== "string" || String(number) !== key) throw wrong(key, "an integer");
  return number;
}

/** Objects have texts for keys. */
export function boolKey(key: unknown): boolean {
  if (typeof key === "boolean") return key;
  if (key !== "true" && key !== "false") throw wrong(key, "true or false");
  return key === "true";
}

/** Set a member of JSON by a map's key. @throws {TypeError} for one that is none of the type, or is there */
export function setJsonEntry(json: JsonObject, type: ScalarName, key: unknown, value: JsonValue): void {
  const name = String(keyOf(type, key));
  if (Object.hasOwn(json, name)) throw twice(name);
  json[name] = value;
}

/** The error of a key that is there: whoever reads the second one forgets the first. */
export function twice(name: string): TypeError {
  return new TypeError(`the map has two keys that are both ${JSON.stringify(name)} in JSON`);
}
