import { describe, expect, it } from "vitest";
import { jsonCodec, jsonCodecWith } from "../../src/codec/json.ts";
import type { MessageType } from "../../src/definition.ts";
import { MicroError } from "../../src/errors.ts";

const encode = (message: unknown, type?: MessageType): string =>
  Buffer.from(jsonCodec.encode(message, type)).toString();
const decode = (text: string | Uint8Array, type?: MessageType): unknown =>
  jsonCodec.decode(typeof text === "string" ? Buffer.from(text) : text, type);

const nested = (levels: number): string => "[".repeat(levels) + "]".repeat(levels);

function failure(run: () => unknown): MicroError {
  try {
    run();
  } catch (error) {
    if (MicroError.is(error)) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("jsonCodec writing", () => {
  it("ends each value with a newline, as Go's encoder", () => {
    expect(encode({ name: "John" })).toBe('{"name":"John"}\n');
    expect(encode(undefined)).toBe("{}\n");
    expect(encode(null)).toBe("null\n");
  });

  it("writes bytes as padded base64, wherever they are", () => {
    const bytes = new Uint8Array([1, 2, 3, 4]);
    const expected = '{"a":"AQIDBA==","b":["AQIDBA==",""],"c":""}\n';
    expect(encode({ a: bytes, b: [Buffer.from(bytes), Buffer.alloc(0)], c: new Uint8Array(0) })).toBe(expected);
    expect(encode(new Uint8Array([255]))).toBe('"/w=="\n');
    expect(encode({ view: new Uint8Array([0, 9, 8, 0]).subarray(1, 3) })).toBe('{"view":"CQg="}\n');
  });

  it("can be copied with another way to encode and decode, which is the only one then", () => {
    const shouting = { ...jsonCodec, name: "shouting", encode: () => Buffer.from('"A"'), decode: () => "A" };
    expect(Object.keys(shouting)).toEqual(["name", "encode", "decode"]);
    expect("encodeText" in shouting || "decodeText" in shouting).toBe(false);
    expect(jsonCodec.encodeText?.({ a: 1 }, undefined)).toBe('{"a":1}\n');
    expect(jsonCodec.decodeText?.('{"a":1}\n', undefined)).toEqual({ a: 1 });
  });

  it("sees bytes and maps however little is around them", () => {
    expect(encode([new Uint8Array([255])])).toBe('["/w=="]\n');
    expect(encode(Buffer.alloc(0))).toBe('""\n');
    expect(encode({ a: new Uint8Array(0) })).toBe('{"a":""}\n');
    expect(encode({ type: "Buffer", data: Buffer.from([255]) })).toBe('{"type":"Buffer","data":"/w=="}\n');
    expect(failure(() => encode(new Map())).detail).toContain("a Map has no JSON form");
    expect(encode({})).toBe("{}\n");
    expect(encode({ 0: 1 })).toBe('{"0":1}\n');
    expect(encode({ type: "Buffer" })).toBe('{"type":"Buffer"}\n');
    for (const value of ["", "{", "{}", 0, true, null, [], [[]]])
      expect(encode(value)).toBe(`${JSON.stringify(value)}\n`);
  });

  it("leaves objects alone that look like bytes", () => {
    expect(encode({ "0": "a", empty: {}, like: { type: "Buffer", data: "x" } })).toBe(
      '{"0":"a","empty":{},"like":{"type":"Buffer","data":"x"}}\n',
    );
  });

  it("writes bigints as decimal strings and other views as arrays", () => {
    expect(encode({ id: 2n ** 63n, floats: new Float64Array([1.5, 2]), big: [1n] })).toBe(
      '{"id":"9223372036854775808","floats":[1.5,2],"big":["1"]}\n',
    );
    expect(encode({ at: new Date(0), id: 1n })).toBe('{"at":"1970-01-01T00:00:00.000Z","id":"1"}\n');
  });

  it("refuses what would be lost or has no end", () => {
    const circle: Record<string, unknown> = {};
    circle["self"] = circle;
    for (const message of [circle, { map: new Map([["a", 1]]) }, { set: new Set([1]) }, () => 1, Symbol("s")]) {
      const error = failure(() => encode(message));
      expect(error.code).toBe("codec");
      expect(error.detail).not.toContain("\n");
    }
    expect(failure(() => encode({ map: new Map() })).detail).toBe(
      "cannot encode the message: a Map has no JSON form (map)",
    );
  });

  // oxlint-disable-next-line unicorn/no-thenable -- as builders of queries are
  const query: unknown = Object.create({ then: () => undefined });
  class Hidden {
    #name = "a";
    toString = () => this.#name;
  }
  it.each<[string, unknown, string]>([
    ["a promise", Promise.resolve({ name: "a" }), "a promise has no JSON form: did you forget an await?"],
    [
      "one with members",
      Object.assign(Promise.resolve(), { pid: 1n }),
      "a promise has no JSON form: did you forget an await?",
    ],
    ["one in a field", { name: Promise.resolve("a") }, "a promise has no JSON form (name): did you forget an await?"],
    [
      "one far inside",
      { users: [{ name: "a" }, { name: (async () => "a")() }] },
      "a promise has no JSON form (name): did you forget an await?",
    ],
    ["one in a list", [1, Promise.resolve(2)], "a promise has no JSON form (1): did you forget an await?"],
    [
      "one beside a bigint",
      { id: 1n, name: Promise.resolve("a") },
      "a promise has no JSON form (name): did you forget an await?",
    ],
    ["what can be awaited", { query }, "a promise has no JSON form (query): did you forget an await?"],
    ["an error", { reason: new RangeError("too far") }, "an Error has no JSON form (reason)"],
    ["a set", { tags: new Set(["a"]) }, "a Set has no JSON form (tags)"],
    ["a weak map", new WeakMap(), "a WeakMap has no JSON form"],
    ["a pattern", { match: /a/ }, "a RegExp has no JSON form (match)"],
    ["a buffer without a view", { data: new ArrayBuffer(2) }, "an ArrayBuffer has no JSON form (data)"],
    ["a view of any", new DataView(new ArrayBuffer(2)), "a DataView has no JSON form"],
    [
      "a generator",
      (function* () {
        yield 1;
      })(),
      "a Generator has no JSON form",
    ],
    ["an iterator", { all: new Map([["a", 1]]).values() }, "a Map Iterator has no JSON form (all)"],
    ["headers", { headers: new Headers({ a: "b" }) }, "a Headers has no JSON form (headers)"],
    ["parameters", new URLSearchParams("a=b"), "a URLSearchParams has no JSON form"],
    ["functions alone", { now: () => 1 }, "an object of functions has no JSON form"],
    ["symbols alone", { of: { kind: Symbol("a"), more: undefined } }, "an object of functions has no JSON form (of)"],
    ["an object of a class that hides its fields", [new Hidden()], "an object of functions has no JSON form (0)"],
  ])("refuses what would be sent as {}: %s", (_, message, detail) => {
    const error = failure(() => encode(message));
    expect([error.code, error.detail]).toEqual(["codec", `cannot encode the message: ${detail}`]);
  });

  it("sends as {} what is empty, and leaves functions out of the rest", () => {
    class Empty {
      get name(): string {
        return "a";
      }
    }
    const empty = [
      {},
      { a: undefined },
      Object.create(null),
      new Empty(),
      new (class {
        at: string | undefined;
      })(),
    ];
    expect(encode(empty)).toBe("[{},{},{},{},{}]\n");
    for (const message of empty) expect(encode(message)).toBe("{}\n");
    expect(encode({ list: [], none: {}, name: "a", toString: () => "a", flag: new Boolean(false) })).toBe(
      '{"list":[],"none":{},"name":"a","flag":false}\n',
    );
    expect(encode({ none: {}, at: new URL("http://a/"), set: Object.assign(new Set(), { toJSON: () => [] }) })).toBe(
      '{"none":{},"at":"http://a/","set":[]}\n',
    );
  });

  it("refuses a promise that a type made by others takes for an empty message", () => {
    const type: MessageType = { name: "Thing", json: { encode: () => ({}), decode: (value) => value } };
    expect(encode({}, type)).toBe("{}\n");
    expect(failure(() => encode(Promise.resolve({}), type)).detail).toBe(
      "cannot encode Thing: a promise has no JSON form: did you forget an await?",
    );
  });

  it("uses the form of the message's type and names the type where that fails", () => {
    const type: MessageType<{ a: number }> = {
      name: "Thing",
      json: {
        encode: ({ a }) => ({ A: a.toFixed(1) }),
        decode: (value) => ({ a: Number((value as { A: string }).A) }),
      },
    };
    expect(encode({ a: 2 }, type as MessageType)).toBe('{"A":"2.0"}\n');
    expect(decode('{"A":"2.5"}', type as MessageType)).toEqual({ a: 2.5 });
    expect(failure(() => encode({}, type as MessageType)).detail).toMatch(/^cannot encode Thing: /);
    expect(failure(() => decode("null", type as MessageType)).detail).toMatch(/^cannot decode Thing: /);
  });
});

describe("jsonCodec reading", () => {
  it("takes an empty body as the empty message", () => {
    expect(decode("")).toEqual({});
  });

  it("accepts blanks around one value", () => {
    expect(decode(' \r\n\t{"a":1}\n\n')).toEqual({ a: 1 });
  });

  it.each([
    ['{"a":1} x', 8, '"x"'],
    ['{"a":1}{"b":2}', 7, '"{"'],
    ['{"a" 1}', 5, '"1"'],
    ["{'a':1}", 1, `"'"`],
    ['{"a":x}', 5, '"x"'],
    ['{"é":x}', 6, '"x"'],
    ["[1,]", 3, '"]"'],
    ["[1 2]", 3, '"2"'],
    ['{"a":1,}', 7, '"}"'],
    ['{"a":"b\nc"}', 7, '"\\n"'],
    ['"\\x"', 1, '"\\\\"'],
    ["01", 1, '"1"'],
    ["]", 0, '"]"'],
    ["[}", 1, '"}"'],
    ["\ufeff{}", 0, '"\ufeff"'],
    ["nul", 0, '"n"'],
    ["-", 0, '"-"'],
  ])("says where %j is wrong", (text, offset, found) => {
    const error = failure(() => decode(text));
    expect(error.code).toBe("codec");
    expect(error.detail).toContain(`invalid JSON: unexpected ${found} at offset ${offset}`);
  });

  it.each(["{", '{"a"', '{"a":', '{"a":1', "[", "[1,", '"abc', " "])("says that %j ends too early", (text) => {
    expect(failure(() => decode(text)).detail).toContain(`invalid JSON: unexpected end at offset ${text.length}`);
  });

  it("shows a short piece of the text and never all of it", () => {
    const error = failure(() => decode(`{"list":[${"1,".repeat(5000)}oops]}`));
    expect(error.detail).toContain("oops");
    expect(error.detail.length).toBeLessThan(140);
  });

  it("refuses bytes that are not UTF-8, and keeps a real replacement character", () => {
    expect(failure(() => decode(Buffer.from([0x22, 0xc3, 0x28, 0x22]))).detail).toContain("not UTF-8");
    expect(decode('"\ufffd"')).toBe("\ufffd");
  });

  it.each([
    '{"__proto__":{"polluted":true}}',
    '{"a":[{"b":{"__proto__":1}}]}',
    '{"\\u005f_proto__":{}}',
    '{"__pr\\u006Fto__":{}}',
    '{"\\u005f\\u005f\\u0070\\u0072\\u006f\\u0074\\u006f\\u005f\\u005f":{}}',
    '{"id":12345678901234567890,"__proto__":1}',
  ])("refuses the key __proto__ in %s", (text) => {
    const typed: MessageType = { name: "T", json: { encode: (value) => value, decode: (value) => value } };
    for (const type of [undefined, typed]) {
      const error = failure(() => decode(text, type));
      expect(error.code).toBe("codec");
      expect(error.detail).toContain('"__proto__"');
    }
  });

  it("refuses constructor.prototype and nothing less", () => {
    expect(failure(() => decode('{"constructor":{"prototype":{}}}')).detail).toContain("constructor.prototype");
    expect(failure(() => decode('{"c\\u006fnstructor":{"prototyp\\u0065":{}}}')).detail).toContain(
      "constructor.prototype",
    );
    expect(decode('{"constructor":"Bob","prototype":{"a":1}}')).toEqual({ constructor: "Bob", prototype: { a: 1 } });
    expect(decode('{"text":"__proto__","list":["__proto__"]}')).toEqual({ text: "__proto__", list: ["__proto__"] });
  });

  it("bounds nesting at Go's 10000 levels", () => {
    expect(() => decode(nested(10_000))).not.toThrow();
    expect(failure(() => decode(nested(10_001))).detail).toContain("10000 levels");
    expect(failure(() => decode('{"a":'.repeat(50_000))).code).toBe("codec");
    expect(failure(() => decode("[".repeat(100_000))).code).toBe("codec");
    // Brackets in strings do not count, whatever is escaped around them.
    expect(decode(JSON.stringify('\\"'.repeat(30_000) + "[".repeat(30_000)))).toContain("[[[");
  });

  it("keeps all digits of integers for types with a JSON form, and leaves plain JSON to JavaScript", () => {
    const typed: MessageType = { name: "T", json: { encode: (value) => value, decode: (value) => value } };
    expect(decode('{"id":9007199254740993,"n":-9223372036854775808,"f":0.1234567890123456789,"s":1}', typed)).toEqual({
      id: "9007199254740993",
      n: "-9223372036854775808",
      f: 0.12345678901234568,
      s: 1,
    });
    expect(decode('{"id":9007199254740993}')).toEqual({ id: 9007199254740992 });
    expect(failure(() => decode(`${"[".repeat(9_999)}1234567890123456789${"]".repeat(9_999)}`, nothing)).code).toBe(
      "codec",
    );
  });
});

const list = (item: string, count: number): string => `[${Array.from({ length: count }, () => item).join(",")}]`;

/** What a reviver would make of integers. */
const exact = (_: string, value: unknown, { source }: { source?: string }): unknown =>
  typeof value === "number" && !Number.isSafeInteger(value) && source !== undefined && /^-?\d+$/.test(source)
    ? source
    : value;

describe("texts that take a parser long", () => {
  const limit = 250_000;
  const refusal = `the JSON has more than ${limit} arrays, objects and members (jsonCodecWith({ maxParts }) takes more)`;

  it.each([
    ["arrays", list("[]", limit)],
    ["objects", list("{}", limit)],
    ["nested arrays", list("[[[[]]]]", limit / 4)],
    ["members", `{${Array.from({ length: limit }, (_, i) => `"${i}":1`).join(",")}}`],
    ["objects of one member", list('{"a":1}', limit / 2)],
    ["arrays that never end", "[[".repeat(10) + "[],".repeat(limit)],
  ])("are refused before it begins: %s", (_, text) => {
    expect(failure(() => decode(text)).detail).toBe(refusal);
    expect(failure(() => decode(text, nothing)).detail).toBe(refusal);
  });

  it("are taken up to the limit; numbers, texts and what stands in texts do not count", () => {
    expect(decode(list("[]", limit - 1))).toHaveLength(limit - 1);
    expect(decode(list("1", 2 * limit))).toHaveLength(2 * limit);
    expect(decode(list('"[{:"', limit))).toHaveLength(limit);
    expect(decode(list('"\\\\"', limit))).toHaveLength(limit);
  });

  it("are taken by a codec with a limit of its own, in either form", () => {
    const large = jsonCodecWith({ maxParts: 2 * limit });
    const small = jsonCodecWith({ maxParts: 3 });
    expect(large.decode(Buffer.from(list("[]", limit)), undefined)).toHaveLength(limit);
    expect(small.decode(Buffer.from("[[],[]]"), undefined)).toEqual([[], []]);
    for (const read of [
      () => small.decode(Buffer.from("[[],[],[]]"), undefined),
      () => small.decodeText!("[[],[],[]]", undefined),
    ])
      expect(failure(read).detail).toContain("more than 3");
    for (const maxParts of [0, -1, 1.5, Number.NaN]) expect(() => jsonCodecWith({ maxParts })).toThrow(TypeError);
  });

  it("are told with the place of the fault, where that does not take longer than reading them", () => {
    const long = `["${"x".repeat(100_000)}"`;
    expect(failure(() => decode(`${long},}`)).detail).toContain(`unexpected "}" at offset ${long.length + 1}`);
    expect(failure(() => decode(long)).detail).toContain(`unexpected end at offset ${long.length}`);
    expect(failure(() => decode(`[${"1,".repeat(100_000)}}`)).detail).toMatch(/^invalid JSON: Unexpected token '}'/);
    expect(failure(() => decode(`[${"1,".repeat(40_000)}}`)).detail).toContain('unexpected "}" at offset 80001');
  });
});

describe("integers of more digits than a number holds", () => {
  const typed: MessageType = { name: "T", json: { encode: (value) => value, decode: (value) => value } };
  const asBigInt: MessageType = { name: "T", json: { ...typed.json!, integers: "bigint" } };

  it("keep them wherever they stand, and nothing else changes", () => {
    const parts = [
      "1234567890123456789",
      "-1234567890123456789",
      "123456789012345678901234567890",
      "1234567890123456",
      "9007199254740993",
      "0.1234567890123456789",
      "0.0000001234567890123456789",
      "1234567890123456789.5",
      "1234567890123456789e2",
      "1e-1234567890123456789",
      "1E+1234567890123456789",
      '"1234567890123456789"',
      '"a\\"1234567890123456789\\\\"',
      '{"1234567890123456789":1234567890123456789}',
      "[1234567890123456789 , 1234567890123456789]",
      "\n1234567890123456789\t",
    ];
    for (const part of [...parts, `[${parts.join(",")}]`, `{"a":${parts.join(',"b":')}}`]) {
      const text = `[ ${part} ]`;
      const parse = JSON.parse as (text: string, reviver: typeof exact) => unknown;
      expect(decode(text, typed)).toEqual(parse(text, exact));
      const big = (key: string, value: unknown, context: { source?: string }): unknown => {
        const kept = exact(key, value, context);
        return typeof value === "number" && typeof kept === "string" && kept.length <= 21 ? BigInt(kept) : value;
      };
      expect(decode(text, asBigInt)).toEqual(parse(text, big));
    }
    for (const text of [
      "01234567890123456789",
      "{1234567890123456789:1}",
      "1234567890123456789x",
      "- 1234567890123456789",
    ])
      expect(failure(() => decode(text, typed)).code).toBe("codec");
  });
});

/** A type whose reader walks the message recursively, as generated code does. */
const nothing: MessageType = {
  name: "Nothing",
  json: {
    encode: (value) => value,
    decode: (value) => {
      const walk = (at: unknown): number => (Array.isArray(at) ? 1 + walk([...at, ...at][0]) : 0);
      throw new Error(String(walk(value)));
    },
  },
};
