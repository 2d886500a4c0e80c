import { jsonCodec, protoCodec, protoMessage } from "@micro/core";
import { setUnknownFields, unknownFields } from "@micro/core/proto";
import { describe, expect, it } from "vitest";
import { Deep, Known } from "./gen/known.ts";
import { message as Maps } from "./gen/kinds.ts";
import { Query } from "./gen/old.ts";

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
    const started = performance.now();
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
    expect(performance.now() - started).toBeLessThan(10_000);
  });

  it("unknown fields are kept once, in linear time, survive a copy and can be forgotten", () => {
    const field = Uint8Array.from([0xf8, 0x07, 0x01]);
    const bytes = Buffer.concat(Array.from({ length: 200_000 }, () => field));
    const started = performance.now();
    const message = Deep.decode(Buffer.concat([Deep.encode({ text: "x" }), bytes]));
    expect(performance.now() - started).toBeLessThan(2000);
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
