/** Maps: plain objects by text and 32-bit integers, `Map`s by all others. */
import { checkPlaces } from "./collisions.ts";
import { entryBytes, take } from "./memory.ts";
import { isMessage } from "./plain.ts";
import { wrong } from "./writer.ts";

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
    if (key === "__proto__") throw new TypeError('the map key "__proto__" is not allowed');
    if (isIndex(key)) keepSparse(map as Record<number, unknown>, Number(key));
    (map as Record<string, unknown>)[key as string] = value;
  }
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
  if (map instanceof Map) return [...map];
  if (!isMessage(map)) throw wrong(map, "an object or a Map");
  return Object.entries(map);
}

/** A key as the name of a member of JSON. @throws {Error} for the one that is none */
export function memberName(key: unknown): string {
  if (key === "__proto__") throw new TypeError('the map key "__proto__" is not allowed');
  return String(key);
}
