import { jsonCodec, protoCodec, protoMessage } from "@micro/core";
import { boxedValue, setUnknownFields, unknownFields, Value } from "@micro/core/proto";
import { describe, expect, it } from "vitest";
import { Deep, Known } from "./gen/known.ts";
import { message as Maps } from "./gen/kinds.ts";
import { Query } from "./gen/old.ts";
import { processorMs } from "../../core/test/support/processor-time.ts";

const inner = protoMessage(Deep);
const known = protoMessage(Known);

/** `levels` of field 2, each in the next. */
function nestedBytes(levels: number): Uint8Array {
  let bytes = Buffer.alloc(0);
  for (let level = 0; level < levels; level++) {
    const length: number[] = [];
    for (let rest = bytes.length; ; rest >>>= 7) {
      length.push(rest > 127 ? (rest & 127) | 128 : rest);
      if (rest <= 127) break;
    }
    bytes = Buffer.concat([Uint8Array.from([0x12, ...length]), bytes]);
  }
  return bytes;
}

/** The field `value` of what parts of a message make together. */
const read = (...parts: Uint8Array[]): unknown => Known.decode(new Uint8Array(Buffer.concat(parts))).value;

const list = (levels: number): Buffer => Buffer.from(`{"value":${"[".repeat(levels)}${"]".repeat(levels)}}`);

describe("what a stranger may send", () => {
  it("nested too deep is refused, in protobuf and in JSON", () => {
    expect(() => protoCodec.decode(nestedBytes(99), inner)).not.toThrow();
    for (const levels of [100, 5000]) {
      expect(() => protoCodec.decode(nestedBytes(levels), inner)).toThrow("nested deeper than 100 levels");
      const json = `${`{"inner":`.repeat(levels)}{}${"}".repeat(levels)}`;
      expect(() => jsonCodec.decode(Buffer.from(json), inner)).toThrow("nested deeper than 100 levels");
    }
    // Groups of which nothing is known, too.
    expect(() => protoCodec.decode(new Uint8Array(100_000).fill(0x1b), inner)).toThrow("nested deeper than 100 levels");
    expect(() => jsonCodec.decode(list(49), known)).not.toThrow();
    expect(() => jsonCodec.decode(list(1000), known)).toThrow("JSON is nested deeper than 50 levels");
    const any = (levels: number): string =>
      levels === 0 ? "{}" : `{"@type":"x/google.protobuf.Any","value":${any(levels - 1)}}`;
    expect(() => jsonCodec.decode(Buffer.from(`{"any":${any(1000)}}`), known)).toThrow("nested deeper");
  });

  it("bytes that end anywhere, or are anything, are a message or an error, and soon", () => {
    const whole = Known.encode({
      text: "x",
      struct: { a: [1, { b: null }] },
      took: [{ seconds: 5n }],
      levels: new Map([[true, 1]]),
      dataByName: { a: Uint8Array.from([1]) },
      choice: { $case: "chosenNumber", value: 5n },
    });
    const started = processorMs();
    for (let length = 0; length < whole.length; length++) {
      for (let byte = 0; byte < 256; byte += 5) {
        const bytes = Uint8Array.from([...whole.subarray(0, length), byte, ...whole.subarray(length + (byte % 3))]);
        try {
          Known.encode(Known.decode(bytes));
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
          expect(error).not.toBeInstanceOf(RangeError);
        }
      }
    }
    expect(processorMs() - started).toBeLessThan(10_000);
  });

  it("unknown fields are kept once, in linear time, survive a copy and can be forgotten", () => {
    const field = Uint8Array.from([0xf8, 0x07, 0x01]);
    const bytes = Buffer.concat(Array.from({ length: 200_000 }, () => field));
    const started = processorMs();
    const message = Deep.decode(Buffer.concat([Deep.encode({ text: "x" }), bytes]));
    expect(processorMs() - started).toBeLessThan(2000);
    expect(Buffer.from(unknownFields(message)!)).toEqual(bytes);
    expect(unknownFields(message)!.buffer.byteLength).toBeLessThan(bytes.length * 3);
    expect(message).toMatchObject({ text: "x" });
    expect(Deep.encode({ ...message, text: "" })).toEqual(new Uint8Array(bytes));
    setUnknownFields(message, undefined);
    expect(Deep.encode(message)).toEqual(Deep.encode({ text: "x" }));
    // What was read from may be used again.
    const again = Buffer.from(field);
    const kept = Deep.decode(again);
    again.fill(0);
    expect(unknownFields(kept)).toEqual(field);
  });

  it("a Struct, Value or list that comes in many parts takes linear time, and is all of them", () => {
    const parts = 30_000;
    const joined = (part: (index: number) => Parameters<typeof Known.encode>[0]): Uint8Array =>
      new Uint8Array(Buffer.concat(Array.from({ length: parts }, (_, index) => Known.encode(part(index)))));
    const object = Object.fromEntries(Array.from({ length: parts }, (_, index) => [`k${index}`, index]));
    const elements = Array.from({ length: parts }, (_, index) => index);
    const sent = [
      joined((index) => ({ struct: { [`k${index}`]: index } })),
      joined((index) => ({ list: [index] })),
      joined((index) => ({ value: { [`k${index}`]: index } })),
      joined((index) => ({ value: [index] })),
    ];
    const started = processorMs();
    const [structs, lists, objects, arrays] = sent.map((bytes) => Known.decode(bytes));
    expect(processorMs() - started).toBeLessThan(5000);
    expect(structs!.struct).toEqual(object);
    expect(lists!.list).toEqual(elements);
    expect(objects!.value).toEqual(object);
    expect(arrays!.value).toEqual(elements);
  });

  it("later parts of a field add to earlier ones, as if its message had no form of its own", () => {
    const { no } = Known.fields.find(({ name }) => name === "value")!;
    const tagged = (...values: Uint8Array[]): Uint8Array => {
      const value = Buffer.concat(values);
      return Uint8Array.from([(no << 3) | 2, value.length, ...value]);
    };
    const [a, b, five] = [{ a: 1 }, { b: 2 }, 5].map((value) => Value.encode(boxedValue.pack(value)));
    const [one, two] = [[1], [2]].map((value) => Value.encode(boxedValue.pack(value)));
    expect(read(tagged(a!), tagged(b!))).toEqual({ a: 1, b: 2 });
    expect(read(tagged(one!), tagged(two!))).toEqual([1, 2]);
    expect(read(tagged(a!), tagged())).toEqual({ a: 1 });
    expect(read(tagged(five!), tagged())).toBe(5);
    expect(read(tagged(a!), tagged(one!))).toEqual([1]);
    expect(read(tagged(one!), tagged(b!))).toEqual({ b: 2 });
    // Another kind in between forgets what was there.
    expect(read(tagged(a!), tagged(five!, b!))).toEqual({ b: 2 });
    expect(read(tagged(one!), tagged(five!, two!))).toEqual([2]);
    expect(Known.decode(Buffer.concat([Known.encode({ text: "x" }), Known.encode({ text: "" })])).text).toBe("x");
  });

  it("of our own: a message that holds itself, and one that is wrong far inside, are told of, and soon", () => {
    const endless: { inner?: object } = {};
    endless.inner = endless;
    expect(() => Deep.encode(endless)).toThrow(new TypeError("messages are nested too deep, or one holds itself"));
    let wrong: object = { text: 5 };
    for (let level = 0; level < 2000; level++) wrong = { inner: wrong };
    const started = processorMs();
    expect(() => Deep.encode(wrong)).toThrow(/^inner\.inner.*: 5 is not a string$/);
    expect(processorMs() - started).toBeLessThan(1000);
  });

  it("no map sets a prototype", () => {
    const key = Buffer.from("\x0a\x0d\x0a\x09__proto__\x12\x00", "latin1");
    expect(() => Maps.decode(key)).toThrow('the map key "__proto__" is not allowed');
    expect(() => Maps.fromJSON(JSON.parse('{"clients":{"__proto__":{"name":"x"}}}'))).toThrow("__proto__");
    expect(() => Known.fromJSON(JSON.parse('{"struct":{"__proto__":{"x":1}}}'))).toThrow("__proto__");
    const clients = JSON.parse('{"__proto__":{"name":"x"}}') as Record<string, { name: string }>;
    expect(() => Maps.toJSON({ clients })).toThrow("__proto__");
    expect(({} as { name?: string }).name).toBeUndefined();
  });

  it("a required field that is missing is refused, whoever leaves it out", () => {
    expect(() => Query.decode(new Uint8Array(0))).toThrow("text is required and missing");
    expect(() => Query.fromJSON({})).toThrow("text is required and missing");
    expect(() => Query.encode({ limit: 5 })).toThrow("text is required and missing");
    expect(() => Query.toJSON({ limit: 5 })).toThrow("text is required and missing");
    expect(Query.decode(Query.encode({ text: "", limit: 10 }))).toEqual({ text: "", limit: 10, hit: [] });
    expect(Query.encode({ text: "", limit: 10 })).toHaveLength(4);
  });
});
