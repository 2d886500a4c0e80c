import { jsonCodec, protoCodec, protoMessage } from "@micro/core";
import { put } from "@micro/core/proto";
import { describe, expect, it } from "vitest";
import { Lists } from "./gen/known.ts";
import { processorMs } from "../../core/test/support/processor-time.ts";

const type = protoMessage(Lists);
const told = "very many keys of a map have one place in it, which looks like an attack";
const most = (1n << 64n) - 1n;

/** The number by which another is multiplied to be divided by `odd`. */
function inverse(odd: bigint): bigint {
  let found = 1n;
  for (let bits = 1; bits < 64; bits *= 2) found = (found * (2n - odd * found)) & most;
  return found;
}

/** What was there before `hash ^= hash >> shift`. */
function unshifted(hash: bigint, shift: bigint): bigint {
  let found = hash;
  for (let bits = 0n; bits < 64n; bits += shift) found = hash ^ (found >> shift);
  return found;
}

/** The key to which V8's `ComputeLongHash` gives a hash. */
function keyOf(hash: bigint): bigint {
  let key = unshifted(hash, 22n);
  key = (key * inverse(65n)) & most;
  key = unshifted(key, 11n);
  key = (key * inverse(21n)) & most;
  key = unshifted(key, 31n);
  return ((key + 1n) * inverse((1n << 18n) - 1n)) & most;
}

/** Keys of which V8 takes the same 30 bits. */
const unsigned = Array.from({ length: 12_000 }, (_, index) => keyOf((BigInt(index) << 30n) | 12_345n));
const positive = unsigned.filter((key) => key < 1n << 63n);
const negative = positive.map((key) => -key);
const signs = positive.map((key, index) => (index % 2 === 0 ? key : -key));

const eight = new BigInt64Array(1);
const asDouble = new Float64Array(eight.buffer);
/** Real numbers with such keys' bits. */
const doubles = unsigned
  .map((key) => {
    eight[0] = BigInt.asIntN(64, key);
    return asDouble[0]!;
  })
  .filter((number) => Number.isFinite(number));
/** Small integers with the same low bits of `ComputeUnseededHash`. */
const integers: number[] = [];
for (let key = 1; integers.length < 5000; key++) {
  let hash = (~key + (key << 15)) | 0;
  hash ^= hash >>> 12;
  hash = (hash + (hash << 2)) | 0;
  hash ^= hash >>> 4;
  hash = Math.imul(hash, 2057);
  hash ^= hash >>> 16;
  if ((hash & 0xfff) === 77) integers.push(key);
}

/** The least of three runs' milliseconds of processor time: others, and the collector, only ever add to it. */
function timeOf(run: () => void): number {
  const times = Array.from({ length: 3 }, () => {
    const before = processorMs();
    run();
    return processorMs() - before;
  });
  return Math.min(...times);
}

const filled = (keys: readonly unknown[]) => () => {
  const map = new Map<unknown, number>();
  for (const key of keys) map.set(key, 1);
  expect(map.size).toBe(keys.length);
};

describe("keys that V8 keeps in one place", () => {
  // Should V8 come to keep them apart, the test fails, and `collisions.ts` can go.
  it.each<[string, readonly (bigint | number)[]]>([
    ["bigints", positive.slice(0, 5000)],
    ["negative ones", negative.slice(0, 5000)],
    ["doubles", doubles.slice(0, 5000)],
    ["small integers", integers],
  ])("are what makes a map slow: %s", (_, keys) => {
    expect(keys).toHaveLength(5000);
    const others = keys.map((_key, index) => (typeof keys[0] === "bigint" ? BigInt(index) * 7n : index * 1.5));
    filled(others)();
    expect(timeOf(filled(keys))).toBeGreaterThan(timeOf(filled(others)) * 10);
  });

  const attacks: [name: string, field: "e" | "g", keys: readonly bigint[]][] = [
    ["uint64", "e", unsigned],
    ["sint64", "g", positive],
    ["negative sint64", "g", negative],
    ["sint64 of both signs", "g", signs],
  ];

  it.each(attacks)("are refused in protobuf, in JSON and by create: %s", (_, field, keys) => {
    const entries = keys.slice(0, 5000).map((key) => [key, ""] as const);
    const message = { [field]: new Map(entries) };
    const bytes = Lists.encode(message);
    const json = Buffer.from(
      JSON.stringify({ [field]: Object.fromEntries(entries.map(([key]) => [String(key), ""])) }),
    );
    expect(() => protoCodec.decode(bytes, type)).toThrow(`cannot decode Lists: ${told}`);
    expect(() => jsonCodec.decode(json, type)).toThrow(told);
    expect(() => Lists.create(message)).toThrow(told);
    // So few take no time.
    const few = { [field]: new Map(entries.slice(0, 100)) };
    expect(Lists.decode(Lists.encode(few))).toEqual(Lists.create(few));
  });

  it.each([
    ["doubles", doubles],
    ["small integers", integers],
  ])("are refused where 64-bit integers are numbers in code: %s", (_, keys) => {
    const map = new Map<number, string>();
    expect(() => {
      for (const key of keys) put(map, key, "");
    }).toThrow(told);
    expect(map.size).toBeLessThan(1000);
  });

  it("are refused wherever they come among others, and however often", () => {
    const mixed = unsigned.slice(0, 2000).flatMap((key, index) => [BigInt(index * 3), BigInt(index * 5 + 1), key, key]);
    const map = new Map<bigint, string>();
    expect(() => {
      for (const key of mixed) put(map, key, "");
    }).toThrow(told);
    const one = new Map<bigint, string>();
    for (let count = 0; count < 1000; count++) for (const key of unsigned.slice(0, 30)) put(one, key, "");
    for (let key = 0n; key < 1000n; key++) for (const each of [key, key, unsigned[0]!]) put(one, each, "");
    expect(one.size).toBe(1030);
  });

  it("are not what nobody chose: counted up, by powers of two, times, identifiers", () => {
    const kinds: ((index: bigint) => bigint)[] = [
      (index) => index,
      (index) => -index * 16n,
      (index) => (index << 24n) + 1n,
      (index) => index << 45n,
      (index) => 1_700_000_000_000_000_000n + index * 1_000_000_000n,
      (index) => ((1_700_000_000_000n + index * 3n) << 22n) | (index % 7n),
    ];
    for (const kind of kinds) {
      const g = new Map(Array.from({ length: 50_000 }, (_, index) => [kind(BigInt(index)), ""] as const));
      const message = Lists.decode(Lists.encode({ g }));
      expect(message.g.size).toBe(50_000);
      expect(message.g).toEqual(g);
    }
    for (const kind of [(index: number) => index * 4096, (index: number) => 2 ** 40 + index * 1000]) {
      const map = new Map<number, string>();
      for (let index = 0; index < 50_000; index++) put(map, kind(index), "");
      expect(map.size).toBe(50_000);
    }
  });
});
