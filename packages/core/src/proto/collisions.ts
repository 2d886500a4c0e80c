/**
 * Keys of a `Map` that were chosen so that all have one place in it: a message of some hundred kilobytes would keep a process
 * busy for half a minute.
 *
 * V8 gives texts, and integers that are keys of objects, a place that no stranger can foresee; numbers and bigints that are
 * keys of a `Map` one that everybody can (`ComputeUnseededHash`, `ComputeLongHash` in its `src/utils/utils.h`, and
 * `Object::GetSimpleHash`). The same is computed here and counted, for maps that are large enough to matter.
 */

/** Looking through so many keys takes no longer than finding one. */
const fewKeys = 128;
/** Of keys that nobody chose, the place that has most of a billion has a dozen. */
const mostOnOne = 32;

/** How many keys have a place. There are at least as many places as keys. */
interface Places {
  counts: Uint8Array;
  /** Keys that are counted. */
  size: number;
}

/** Of maps that still may grow: nobody else has them yet. */
const placesOf = new WeakMap<Map<unknown, unknown>, Places>();

/** @throws {Error} if very many keys of a map have one place. Call after each `set`. */
export function checkPlaces(map: Map<unknown, unknown>, key: unknown): void {
  if (map.size < fewKeys) return;
  let places = placesOf.get(map);
  if (places === undefined) placesOf.set(map, (places = { counts: new Uint8Array(0), size: 0 }));
  if (map.size === places.size) return;
  if (map.size <= places.counts.length) add(places, key);
  else {
    // Doubling: each key is counted some three times in all.
    places.counts = new Uint8Array(1 << (32 - Math.clz32(map.size * 2 - 1)));
    for (const each of map.keys()) add(places, each);
  }
  places.size = map.size;
}

function add({ counts }: Places, key: unknown): void {
  const place = placeOf(key) & (counts.length - 1);
  if (++counts[place]! > mostOnOne)
    throw new Error("very many keys of a map have one place in it, which looks like an attack");
}

const eight = new ArrayBuffer(8);
const asWords = new Uint32Array(eight);
const asInt64 = new BigInt64Array(eight);
const asDouble = new Float64Array(eight);

/** What V8 gives for a number or a bigint; texts and booleans have no need. */
function placeOf(key: unknown): number {
  if (typeof key === "number") {
    if (key === (key | 0)) return placeOf32(key);
    asDouble[0] = key;
    return placeOf64(asWords[0]!, asWords[1]!);
  }
  // The sign is no part of it.
  asInt64[0] = (key as bigint) < 0n ? -(key as bigint) : (key as bigint);
  return placeOf64(asWords[0]!, asWords[1]!);
}

function placeOf32(key: number): number {
  let hash = (~key + (key << 15)) | 0;
  hash ^= hash >>> 12;
  hash = (hash + (hash << 2)) | 0;
  hash ^= hash >>> 4;
  hash = Math.imul(hash, 2057);
  hash ^= hash >>> 16;
  return hash & 0x3fff_ffff;
}

/** 64-bit arithmetic in halves. */
function placeOf64(lowWord: number, highWord: number): number {
  // hash = ~key + (key << 18)
  let low = (lowWord << 18) >>> 0;
  let high = ((highWord << 18) | (lowWord >>> 14)) >>> 0;
  let sum = low + (~lowWord >>> 0);
  high = (high + (~highWord >>> 0) + (sum > 0xffff_ffff ? 1 : 0)) >>> 0;
  low = sum >>> 0;
  // hash ^= hash >> 31
  low = (low ^ ((high << 1) | (low >>> 31))) >>> 0;
  high = (high ^ (high >>> 31)) >>> 0;
  // hash *= 21
  sum = low * 21;
  high = (Math.imul(high, 21) + Math.floor(sum / 0x1_0000_0000)) >>> 0;
  low = sum >>> 0;
  // hash ^= hash >> 11
  low = (low ^ ((high << 21) | (low >>> 11))) >>> 0;
  high = (high ^ (high >>> 11)) >>> 0;
  // hash += hash << 6
  sum = low + ((low << 6) >>> 0);
  high = (high + ((high << 6) | (low >>> 26)) + (sum > 0xffff_ffff ? 1 : 0)) >>> 0;
  low = sum >>> 0;
  // hash ^= hash >> 22
  return (low ^ ((high << 10) | (low >>> 22))) & 0x3fff_ffff;
}
