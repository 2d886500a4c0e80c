/** Maps: plain objects by text and 32-bit integers, `Map`s by all others. */

/** @throws {Error} for the one key that a plain object cannot have without harm to whoever copies it */
export function setEntry(map: unknown, key: unknown, value: unknown): void {
  if (map instanceof Map) map.set(key, value);
  else {
    if (key === "__proto__") throw new Error('the map key "__proto__" is not allowed');
    (map as Record<string, unknown>)[key as string] = value;
  }
}

/** Entries of either form; none of undefined. @throws {TypeError} if it is neither */
export function entriesOf(map: unknown): [key: unknown, value: unknown][] {
  if (map === undefined || map === null) return [];
  if (map instanceof Map) return [...map];
  if (typeof map !== "object" || Array.isArray(map)) throw new TypeError("a map is an object or a Map");
  return Object.entries(map);
}

/** A key as the name of a member of JSON. @throws {Error} for the one that is none */
export function memberName(key: unknown): string {
  if (key === "__proto__") throw new Error('the map key "__proto__" is not allowed');
  return String(key);
}
