import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { jsonCodec, jsonCodecWith, protoCodec, protoCodecWith, protoMessage } from "@micro/core";
import { Any, packAny } from "@micro/core/proto";
import { describe, expect, it } from "vitest";
import { Known, Lists } from "./gen/known.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

const type = protoMessage(Lists);
const tooMuch = "the message takes far more memory than bytes";

const tag = (name: keyof Lists): number => (Lists.fields.find((field) => field.key === name)!.no << 3) | 2;
const field = (name: keyof Lists, ...bytes: number[]): number[] => [tag(name), bytes.length, ...bytes];
/** Two letters, or more, that no other has. */
const letters = (index: number): number[] => [...Buffer.from(index.toString(36))];
const varint = (value: number): number[] => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest >>>= 7) bytes.push((rest & 127) | 128);
  return [...bytes, rest];
};

/** Parts of a message that take most memory for their bytes. */
const parts: Readonly<Record<string, (index: number) => number[]>> = {
  "empty messages": () => field("inner"),
  "messages with an empty one": () => field("inner", ...field("one")),
  "messages with unknown fields": () => field("inner", 0x78, 1),
  "unknown fields in a row": () => [0x78, 1],
  "maps by numbers far apart": () => field("inner", ...field("f", 8, ...varint(1000))),
  "maps by some numbers": () => field("inner", ...field("f", 8, 16)),
  "maps by texts that are numbers": () => field("inner", ...field("d", 10, 3, ...Buffer.from("999"))),
  "entries without values": (index) => field("f", 8, ...varint(index * 7)),
  "entries by 64-bit numbers": (index) => field("e", 8, ...varint(index * 7)),
  "entries by texts": (index) => {
    const key = letters(index);
    return field("d", 10, key.length, ...key);
  },
};

const size = 1 << 17;

function bytesOf(part: (index: number) => number[], length: number): Uint8Array {
  const bytes: number[] = [];
  for (let index = 0; bytes.length < length; index++) for (const byte of part(index)) bytes.push(byte);
  return Uint8Array.from(bytes);
}

function heap(): number {
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** Bytes that stay in use while what `make` gives is. */
function memoryOf(make: () => unknown): number {
  make();
  const before = heap();
  const made = make();
  const after = heap();
  expect(made).toBeDefined();
  return after - before;
}

function accepted(bytes: Uint8Array): boolean {
  try {
    protoCodec.decode(bytes, type);
    return true;
  } catch (error) {
    expect((error as Error).message).toContain(tooMuch);
    return false;
  }
}

describe("what is made of a message of a stranger takes memory in proportion to its bytes", () => {
  it.each(Object.keys(parts))("%s", (name) => {
    const part = parts[name]!;
    let length = size;
    while (!accepted(bytesOf(part, length))) length = Math.floor(length * 0.8);
    const bytes = bytesOf(part, length);
    // Half as much again: estimates are for objects as they are once they are of some age.
    expect(memoryOf(() => protoCodec.decode(bytes, type))).toBeLessThan(((1 << 20) + 32 * bytes.length) * 1.5);
  });

  it("4 MiB of empty messages is refused, in protobuf, in JSON and inside of an Any, unless more is allowed", () => {
    const bytes = bytesOf(parts["empty messages"]!, 4 << 20);
    expect(() => protoCodec.decode(bytes, type)).toThrow(`cannot decode Lists: ${tooMuch}`);
    const text = Buffer.from(`{"inner":[${"{},".repeat(100_000)}{}]}`);
    expect(() => jsonCodec.decode(text, type)).toThrow(`cannot decode Lists: inner[`);
    expect(() => jsonCodec.decode(text, type)).toThrow(tooMuch);
    const any = packAny(Known, {});
    any.typeUrl = "x/test.known.Lists";
    any.value = bytes;
    expect(() => Any.toJSON(any, { types: new Map([["test.known.Lists", Lists]]) })).toThrow(tooMuch);

    const few = bytesOf(parts["empty messages"]!, 1 << 16);
    expect(() => protoCodec.decode(few, type)).toThrow(tooMuch);
    expect(protoCodecWith({ maxGrowth: 1000 }).decode(few, type)).toMatchObject({ inner: { length: few.length / 2 } });
    expect(jsonCodecWith({ maxGrowth: 1000 }).decode(text, type)).toMatchObject({ inner: { length: 100_001 } });
    expect(Lists.decode(few, { maxMemoryBytes: Infinity }).inner).toHaveLength(few.length / 2);
    expect(() => Lists.fromJSON(JSON.parse(text.toString()), { maxMemoryBytes: 1000 })).toThrow(tooMuch);
    // One that was refused leaves nothing to the next.
    expect(Lists.create({ inner: Array.from({ length: 10_000 }, () => ({})) }).inner).toHaveLength(10_000);
  });

  it("limits that are none are refused", () => {
    for (const make of [protoCodecWith, jsonCodecWith]) {
      expect(() => make({ maxGrowth: 0 })).toThrow(`${make.name}: \`maxGrowth\` must be a number, 1 or more, not 0`);
      expect(() => make({ maxGrwoth: 5 } as object)).toThrow("did you mean `maxGrowth`?");
    }
  });

  it("messages of many small parts that say something are read", () => {
    const inner = Array.from({ length: 50_000 }, (_, index) => ({
      a: [`the name of number ${index}`],
      d: { id: `${index}` },
    }));
    const message = Lists.create({ inner });
    expect(protoCodec.decode(protoCodec.encode(message, type), type)).toEqual(message);
    const f = Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [index * 3, { a: [`${index}`] }]));
    const sparse = Lists.create({ f, d: { 5: "x", 999: "y", 17: "z", 1000: "", 18: "v" } });
    expect(protoCodec.decode(protoCodec.encode(sparse, type), type)).toEqual(sparse);
    expect(Object.keys(Lists.decode(Lists.encode(sparse)).d)).toEqual(["5", "17", "18", "999", "1000"]);
  });
});
