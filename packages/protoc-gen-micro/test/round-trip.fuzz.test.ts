/** Messages by chance: what goes through protobuf, through JSON and through both is the same, or is refused. */
import { jsonCodec, protoMessage } from "@micro/core";
import { packAny, Timestamp, type Boxed, type Field, type ProtoType } from "@micro/core/proto";
import { join } from "node:path";
import { inspect, isDeepStrictEqual } from "node:util";
import { expect, it } from "vitest";
import { Every } from "./gen/every.ts";
import { command, folder, protos } from "./support/generator.ts";
import { Known, Lists } from "./gen/known.ts";

const seconds = Number(process.env["MICRO_FUZZ_SECONDS"] ?? 2);
const seed = Number(process.env["MICRO_FUZZ_SEED"] ?? Date.now() & 0x7fff_ffff);
process.stdout.write(`round-trip fuzz: MICRO_FUZZ_SEED=${seed} MICRO_FUZZ_SECONDS=${seconds}\n`);
const timeout = seconds * 1000 + 20_000;

let state = seed;
/** As Mulberry32 has it. */
function chance(): number {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
}
const below = (count: number): number => Math.floor(chance() * count);
const oneOf = <T>(choices: readonly T[]): T => choices[below(choices.length)]!;
const some = <T>(make: () => T): T[] => Array.from({ length: below(4) }, make);

// None with an escape: as keys of JSON the V8 of Node 24 takes one for another, `"\n"` for `"\\"`.
const texts = ["", "x", "0", "-0", "1e3", "é", "\u{1f600}", "\ufffd", "constructor", "@type", "a".repeat(50)];
const bits = (count: number): bigint => BigInt.asUintN(count, (BigInt(below(2 ** 32)) << 32n) | BigInt(below(2 ** 32)));
const edges = (least: bigint, most: bigint, found: bigint): bigint => oneOf([least, most, 0n, 1n, found, found >> 20n]);
const integer = (unsigned: boolean, count: number): bigint =>
  unsigned
    ? edges(0n, 2n ** BigInt(count) - 1n, bits(count))
    : edges(-(2n ** BigInt(count - 1)), 2n ** BigInt(count - 1) - 1n, BigInt.asIntN(count, bits(count)));
const real = (): number => oneOf([0, 1, -1.5, 0.1, 1e300, 5e-324, 2 ** 53, 2 ** 60, chance() * 1e6, -chance()]);
const json = (depth = 0): unknown => {
  const kind = below(depth > 3 ? 4 : 6);
  if (kind === 0) return null;
  if (kind === 1) return chance() < 0.5;
  if (kind === 2) return real();
  if (kind === 3) return oneOf(texts);
  if (kind === 4) return some(() => json(depth + 1));
  return Object.fromEntries(some(() => [oneOf(texts), json(depth + 1)]));
};

type Form = "bigint" | "number" | "string";
let form = "bigint" as Form;

/** A 64-bit integer as the code of this run has it. */
function inForm(value: bigint): unknown {
  if (form === "bigint") return value;
  if (form === "string") return value.toString();
  // Others are refused.
  return Number.isSafeInteger(Number(value)) ? Number(value) : Number(value >> 12n);
}

function scalar(type: string): unknown {
  switch (type) {
    case "string":
      return oneOf(texts);
    case "bool":
      return chance() < 0.5;
    case "bytes":
      return Uint8Array.from(some(() => below(256)));
    case "double":
      return oneOf([real(), NaN, Infinity, -Infinity]);
    case "float":
      return oneOf([Math.fround(chance() * 1e6), Math.fround(chance()), 0, NaN, -Infinity, 3.4028234663852886e38]);
    default: {
      const isUnsigned = type.startsWith("u") || type.startsWith("fixed");
      return type.endsWith("64") ? inForm(integer(isUnsigned, 64)) : Number(integer(isUnsigned, 32));
    }
  }
}

const wellKnown: Readonly<Record<string, () => unknown>> = {
  Timestamp: () => ({ seconds: edges(-62_135_596_800n, 253_402_300_799n, bits(32)), nanos: below(1e9) }),
  Duration() {
    const whole = edges(-315_576_000_000n, 315_576_000_000n, bits(32) - 2n ** 31n);
    return { seconds: whole, nanos: whole < 0n ? -below(1e9) || 0 : below(1e9) };
  },
  FieldMask: () => ({ paths: some(() => oneOf(["a", "a_b", "a_b.c_d", "_a", "A".toLowerCase(), "a1.b2"])) }),
  Any: () => oneOf([{ typeUrl: "", value: new Uint8Array(0) }, packAny(Timestamp, { seconds: 5n })]),
  Struct: () => Object.fromEntries(some(() => [oneOf(texts), json()])),
  Value: () => json(),
  ListValue: () => some(() => json()),
};

function valueOf(field: Field, depth: number): unknown {
  if (field.type === "enum") return field.null === true ? 0 : oneOf([0, 1, 7, -7]);
  if (field.type !== "message" && field.type !== "boxed") return scalar(field.type);
  const found = field.of!() as ProtoType<any> | Boxed<any, any>;
  const type: ProtoType<any> = field.type === "boxed" ? (found as Boxed<any, any>).type : (found as ProtoType<any>);
  const name = type.$type.replace("google.protobuf.", "");
  if (wellKnown[name] !== undefined) return wellKnown[name]();
  return field.type === "boxed" ? scalar(type.fields[0]!.type) : message(type, depth + 1);
}

/** A message with a few of its fields. */
function message(type: ProtoType<any>, depth = 0): Record<string, unknown> {
  const made: Record<string, unknown> = {};
  for (const field of type.fields) {
    if (chance() > (depth === 0 ? 0.3 : 0.1)) continue;
    if (field.oneof !== undefined) made[field.oneof] = { $case: field.key, value: valueOf(field, depth) };
    else if (field.list === true) made[field.key] = some(() => valueOf(field, depth));
    else if (field.map === undefined) made[field.key] = valueOf(field, depth);
    else {
      const entries = some(() => [scalar(field.map!), valueOf(field, depth)] as const);
      const isObject = field.map === "string" || field.map.endsWith("32");
      made[field.key] = isObject ? Object.fromEntries(entries) : new Map(entries);
    }
  }
  return made;
}

const types: (readonly [type: ProtoType<any>, form: Form])[] = [
  [Every, "bigint"],
  [Known, "bigint"],
  [Lists, "bigint"],
];
// The same with the other forms of 64-bit integers.
await using work = await folder();
for (const other of ["number", "string"] as const) {
  const out = join(work.path, other);
  const made = await command("-I", protos, "every.proto", "known.proto", "--int64", other, "--out", out);
  if (made.code !== 0) throw new Error(made.errors);
  const [every, known] = await Promise.all(["every", "known"].map((name) => import(join(out, `${name}.ts`))));
  for (const type of [every.Every, known.Known, known.Lists]) types.push([type, other]);
}
const codecTypes = new Map(types.map(([type]) => [type, protoMessage(type)]));
const throughText = (type: ProtoType<any>, value: object): unknown =>
  jsonCodec.decode(jsonCodec.encode(value, codecTypes.get(type)), codecTypes.get(type));

const parts = (value: unknown): [unknown, unknown][] =>
  value instanceof Map ? [...value] : typeof value === "object" && value !== null ? Object.entries(value) : [];

/** Where two values differ first; nothing if they do not. */
function difference(a: unknown, b: unknown, path = ""): string | undefined {
  if (isDeepStrictEqual(a, b)) return undefined;
  const others = new Map(parts(b));
  for (const [key, value] of parts(a))
    if (others.has(key)) {
      const found = difference(value, others.get(key), `${path}.${String(key)}`);
      if (found !== undefined) return found;
    }
  return `${path}: ${inspect(a, { depth: 1 })} and ${inspect(b, { depth: 1 })}`;
}
const same = (a: unknown, b: unknown): void => expect(difference(a, b) ?? "").toBe("");

function forAll(run: (type: ProtoType<any>) => void): void {
  const end = performance.now() + (seconds * 1000) / 2;
  for (let count = 0; count < 100 || performance.now() < end; count++) {
    const start = state;
    try {
      const [type, itsForm] = oneOf(types);
      form = itsForm;
      run(type);
    } catch (error) {
      throw new Error(`MICRO_FUZZ_SEED=${start}: ${(error as Error).message}`, { cause: error });
    }
  }
}

it("what is right is the same behind protobuf, behind JSON, and behind both", { timeout }, () => {
  forAll((type) => {
    const given = message(type);
    const whole = type.create(given);
    const decoded = type.decode(type.encode(given));
    same(decoded, whole);
    same(type.encode(decoded), type.encode(whole));
    const read = throughText(type, decoded);
    same(read, whole);
    same(type.decode(type.encode(read)), whole);
    // The same without what generated code does.
    same(type.toJSON(whole, { types: new Map() }), type.toJSON(whole));
    same(type.fromJSON(type.toJSON(whole, { names: "proto" })), whole);
  });
});

const junk: readonly unknown[] = [
  "x",
  5,
  1.5,
  -7,
  5n,
  2n ** 70n,
  NaN,
  true,
  [],
  [undefined],
  [null],
  {},
  { a: undefined },
  new Map<unknown, unknown>([["1", "x"]]),
  new Map<unknown, unknown>([
    [1, "x"],
    ["1", "y"],
  ]),
  new Date(0),
  Promise.resolve(1),
  new Uint8Array(2),
  Symbol("x"),
  "\ud800",
  { $case: "chosenText" },
  { $case: "chosenText", value: 5 },
];

it("what is wrong is refused by JSON and protobuf, or is the same for both", { timeout }, () => {
  let refused = 0;
  let taken = 0;
  forAll((type) => {
    const given = message(type);
    const field = oneOf(type.fields);
    const name = field.oneof ?? field.key;
    const value = oneOf(junk);
    // A null has no number.
    if (field.null === true) return;
    given[name] = oneOf([value, [value], { 1: value }, new Map([[1n, value]]), { $case: field.key, value }]);
    const errors: string[] = [];
    const outcomes = [
      () => type.decode(type.encode(given)),
      () => throughText(type, given),
      () => type.fromJSON(JSON.parse(JSON.stringify(type.toJSON(given, { names: "proto" })))),
    ].map((run) => {
      try {
        return run();
      } catch (error) {
        // Whoever is at fault is named, and nothing fails by chance.
        expect((error as Error).message).not.toMatch(
          /cannot read|cannot mix|cannot convert|is not a function|destructure/i,
        );
        errors.push((error as Error).message);
        return undefined;
      }
    });
    const [binary, text, byProto] = outcomes;
    same(byProto, text);
    if (binary !== undefined && text !== undefined) {
      taken++;
      same(text, binary);
      return;
    }
    refused++;
    // What protobuf takes, JSON has, but for this; what it does not take, JSON has not.
    expect(text).toBeUndefined();
    if (binary !== undefined)
      expect(errors[0]).toMatch(/has no JSON in a google|two keys that are both|the type "\w*" is not known/);
  });
  expect(refused).toBeGreaterThan(10);
  expect(taken).toBeGreaterThan(10);
});
