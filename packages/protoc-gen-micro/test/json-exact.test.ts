/** What JSON in and JSON out make of numbers, keys, and what is not there: nothing is rounded, nothing is left out. */
import { FieldMask, ListValue, Struct, Value, type ProtoType } from "@micro/core/proto";
import { jsonCodec, protoMessage } from "@micro/core";
import { describe, expect, it } from "vitest";
import { Every } from "./gen/every.ts";

const type = protoMessage(Every, { name: "Every" });
const read = (text: string): any => jsonCodec.decode(Buffer.from(text), type);

describe("integers in JSON", () => {
  it.each([
    ["9007199254740993", 9_007_199_254_740_993n],
    ["-9007199254740993", -9_007_199_254_740_993n],
    ["9007199254740993.0", 9_007_199_254_740_993n],
    ["9.007199254740993e15", 9_007_199_254_740_993n],
    ["90071992547409930E-1", 9_007_199_254_740_993n],
    ["1.23456789012345e+18", 1_234_567_890_123_450_000n],
    ["9223372036854775807.000", 2n ** 63n - 1n],
    ["-9223372036854775808", -(2n ** 63n)],
    ["1e18", 10n ** 18n],
    ["1.0", 1n],
    ["-0", 0n],
    ["-0.0e5", 0n],
    ["0e999999999999999999999", 0n],
  ])("of 64 bits are exact: %s", (text, expected) => {
    for (const json of [text, JSON.stringify(text)]) {
      expect(read(`{"int64":${json}}`).int64).toBe(expected);
      expect(read(`{"int64Value":${json}}`).int64Value).toBe(expected);
      expect(read(`{"int64s":[1,${json}]}`).int64s).toEqual([1n, expected]);
      expect(
        read(`{"took":{"seconds":${json}},"double":0.5}`.replace("took", "chosenInner").replace("seconds", "int64"))
          .choice.value.int64,
      ).toBe(expected);
    }
  });

  it("keep doubles and values of Struct as they are", () => {
    const numbers = ["1e300", "9007199254740993", "9007199254740993.0", "1.5e18", "-1e18", "0.1", "4503599627370496.5"];
    for (const number of numbers) {
      const { double, value, list } = read(`{"double":${number},"value":${number},"list":[${number}]}`);
      expect([double, value, list]).toEqual([Number(number), Number(number), [Number(number)]]);
    }
    expect(Object.is(read(`{"double":-0}`).double, -0)).toBe(true);
  });

  it("that are none, or in no range, are refused with the field's name", () => {
    for (const [text, told] of [
      ['{"int64":1.5}', "int64: 1.5 is not an integer (int64)"],
      ['{"int64":"1.5"}', 'int64: "1.5" is not an integer (int64)'],
      ['{"int64":"4503599627370496.3"}', 'int64: "4503599627370496.3" is not an integer'],
      ['{"int64":10000000000000000.5}', "int64: 10000000000000000 is more than a number holds exactly"],
      ['{"int64":9223372036854775808}', "int64: 9223372036854775808 is out of the range of int64"],
      ['{"int64":9223372036854775808.0}', "int64: 9223372036854775808 is out of the range of int64"],
      ['{"int64":"1e9999999999"}', 'int64: "1e9999999999" is out of the range of int64'],
      ['{"int64":1e300}', "int64: 1e+300 is out of the range of int64"],
      ['{"uint64":-1}', "uint64: -1 is out of the range of uint64"],
      ['{"int32":1.5}', "int32: 1.5 is not an integer (int32)"],
      ['{"int32":"1.00000000000000000001"}', "is not an integer (int32)"],
      ['{"int32":9007199254740993}', "int32: 9007199254740993 is out of the range of int32"],
      ['{"byInt64":{"1.0":"x"}}', 'byInt64["1.0"]: "1.0" is not an integer (int64)'],
      ['{"byInt32":{"1e2":"x"}}', 'byInt32.1e2: "1e2" is not an integer (int32)'],
      ['{"byInt32":{"0":"x","-0":"y"}}', 'byInt32["-0"]: the key is given twice, in different texts'],
      ['{"byInt64":{"-0":"x","0":"y"}}', 'byInt64["-0"]: the key is given twice, in different texts'],
    ])
      expect(() => read(text!), text).toThrow(told);
  });

  it("beyond 2^53 that are numbers already may have been others, and are refused", () => {
    for (const number of [2 ** 53, -(2 ** 53), 1e18]) {
      expect(() => Every.fromJSON({ int64: number })).toThrow(
        /^int64: -?\d+ is more than a number holds exactly: JSON/,
      );
      expect(() => Every.fromJSON({ inner: { int64s: [number] } })).toThrow(/^inner\.int64s\[0\]: /);
    }
    expect(Every.fromJSON({ int64: 2 ** 53 - 1, uint64: "9007199254740993" })).toMatchObject({
      int64: 2n ** 53n - 1n,
      uint64: 2n ** 53n + 1n,
    });
  });

  it("of 32 bits may be 1.0 and 1e2, and are never -0", () => {
    for (const json of ["1e2", "100.0", '"1e2"', '"100.000"', "1000e-1"]) {
      expect(read(`{"int32":${json},"level":${json.replaceAll('"', "")}}`)).toMatchObject({ int32: 100, level: 100 });
      expect(read(`{"int32Value":${json},"int32s":[${json}]}`)).toMatchObject({ int32Value: 100, int32s: [100] });
    }
    for (const zero of ["-0", "-0.0", '"-0"', '"-0.0"', "-0e1"]) {
      const message = read(
        `{"int32":${zero},"sint32":${zero},"fixed32":${zero},"maybeNumber":${zero},"int32Value":${zero},"int32s":[${zero}],"levels":[${zero.replaceAll('"', "")}]}`,
      );
      const { int32, sint32, fixed32, maybeNumber, int32Value, int32s, levels } = message;
      for (const value of [int32, sint32, fixed32, maybeNumber, int32Value, int32s[0], levels[0]])
        expect(Object.is(value, 0), zero).toBe(true);
    }
    const zeros = { int32: -0, int32s: [-0], level: -0, double: -0 } as object;
    for (const options of [{}, { names: "proto" as const }]) {
      const json = Every.toJSON(zeros, options) as { int32s: number[]; double: number };
      expect(Object.keys(json).map((name) => name.toLowerCase())).toEqual(["double", "int32s"]);
      expect([Object.is(json.int32s[0], 0), Object.is(json.double, -0)]).toEqual([true, true]);
    }
  });

  it("take time in proportion to their length", () => {
    const zeros = "0".repeat(1_000_000);
    expect(() => read(`{"int64":"1${zeros}1"}`)).toThrow("out of the range");
    expect(() => read(`{"int64":"0.${zeros}1${zeros}"}`)).toThrow("is not an integer");
    expect(read(`{"int64":"1.${zeros}"}`).int64).toBe(1n);
  });
});

const ways: Readonly<Record<string, (message: any, of?: ProtoType<any>) => unknown>> = {
  "JSON write": (message, of = Every) => of.toJSON(message),
  "JSON write in the names of the .proto file": (message, of = Every) => of.toJSON(message, { names: "proto" }),
  "binary encode": (message, of = Every) => of.encode(message),
  create: (message, of = Every) => of.create(message),
};
const starting = (text: string): RegExp => new RegExp(`^${text}`);
const one = (kind: unknown): unknown => ({ kind });
/** Nothing but holes. */
// oxlint-disable-next-line unicorn/no-new-array
const hole: unknown[] = new Array(2);

describe.each(Object.entries(ways))("what cannot be written, %s", (way, run) => {
  const isBytes = way === "binary encode";

  it("keys of the wrong type, or out of range", () => {
    for (const [message, told] of [
      [{ byInt64: new Map([["x", ""]]) }, 'byInt64\\.x: "x" is not an integer'],
      [{ byInt64: { x: "" } }, 'byInt64\\.x: "x" is not an integer'],
      [{ byInt64: new Map([[2n ** 63n, ""]]) }, "byInt64\\.9223372036854775808: 9223372036854775808 does not fit"],
      [{ byUint64: new Map([[-1n, new Uint8Array(0)]]) }, 'byUint64\\["-1"\\]: -1 does not fit into 64 bits without'],
      [{ byUint64: new Map([[1.5, new Uint8Array(0)]]) }, "byUint64.*1.5 is not an integer"],
      [{ byBool: { yes: 1 } }, 'byBool\\.yes: "yes" is not true or false'],
      [{ byBool: new Map([[1, 1]]) }, "byBool\\.1: 1 is not true or false"],
      [{ byInt32: { x: "" } }, 'byInt32\\.x: "x" is not an integer'],
      [{ byInt32: { "": "" } }, 'byInt32\\[""\\]: "" is not an integer'],
      [{ byInt32: { "01": "" } }, 'byInt32\\.01: "01" is not an integer'],
      [{ byInt32: { "-0": "" } }, 'byInt32\\["-0"\\]: "-0" is not an integer'],
      [{ byInt32: { 2147483648: "" } }, "byInt32\\.2147483648: 2147483648 is not an int32"],
      [{ byUint32: { "-1": 1n } }, 'byUint32\\["-1"\\]: -1 is not a uint32'],
      [{ byString: new Map([[1, {}]]) }, "byString\\.1: 1 is not a string"],
      [{ byString: { "\ud800": {} } }, "byString.*half of a surrogate pair"],
    ] as const)
      expect(() => run(message), told).toThrow(starting(told));
    expect(() => run({ byInt64: { 5: "x" }, byBool: { true: 1 }, byInt32: new Map([[5, "x"]]) })).not.toThrow();
  });

  it("two keys that are one in JSON", () => {
    if (isBytes) return;
    for (const [message, told] of [
      [
        {
          byInt64: new Map<unknown, string>([
            [1n, "a"],
            [1, "b"],
          ]),
        },
        "byInt64.1",
      ],
      [
        {
          byInt64: new Map<unknown, string>([
            ["01", "a"],
            ["1", "b"],
          ]),
        },
        "byInt64.1",
      ],
      [
        {
          byBool: new Map<unknown, number>([
            [true, 1],
            ["true", 2],
          ]),
        },
        "byBool.true",
      ],
      [
        {
          byInt32: new Map<unknown, string>([
            [1, "a"],
            ["1", "b"],
          ]),
        },
        "byInt32.1",
      ],
    ] as const)
      expect(() => run(message)).toThrow(`${told}: the map has two keys that are both`);
  });

  it("lists and maps with nothing in between", () => {
    const lists =
      "doubles floats int32s int64s fixed32s bools strings blobs levels inners stringValues values times list";
    for (const name of lists.split(" "))
      for (const list of [hole, [undefined]])
        expect(() => run({ [name]: list }), name).toThrow(starting(`${name}\\[0\\]: undefined is not `));
    for (const name of "byInt32 byUint32 bySint32 byString valuesByString".split(" "))
      expect(() => run({ [name]: { 5: undefined } }), name).toThrow(starting(`${name}\\.5: undefined is not `));
    if (way !== "create") {
      expect(() => run({ struct: { a: { b: hole } } })).toThrow(starting("struct\\.a\\.b\\[0\\]: undefined is not"));
      expect(() => run({ values: [1, { a: hole }] })).toThrow(starting("values\\[1\\]\\.a\\[0\\]: undefined is not"));
    } else expect(() => run({ struct: { a: { b: hole } } })).toThrow("undefined is not");
  });

  it("integers that are of no number", () => {
    if (way === "create") return;
    for (const name of "int32 uint32 sint32 fixed32 sfixed32 level".split(" "))
      for (const [value, shown] of [
        [5n, "5n"],
        [Symbol("x"), "a symbol"],
        ["5", '"5"'],
        [1.5, "1.5"],
      ] as const)
        expect(() => run({ [name]: value }), name).toThrow(starting(`${name}: ${shown} is not an? `));
    for (const value of [5n, Symbol("x")])
      expect(() => run({ took: { nanos: value } })).toThrow(/^took\.nanos: .* is not an int32/);
  });

  it("a oneof without a value", () => {
    for (const name of "Text Number Inner Null Value Wrapper Bytes Level".split(" "))
      for (const choice of [{ $case: `chosen${name}` }, { $case: `chosen${name}`, value: undefined }])
        expect(() => run({ choice }), name).toThrow(`choice: a oneof has $case "chosen${name}", and no value`);
    expect(() => run({ choice: { $case: "chosenValue", value: null } })).not.toThrow();
  });

  it("texts, times and numbers that have no JSON", () => {
    if (isBytes || way === "create") return;
    for (const text of [
      "fooBar",
      "foo__bar",
      "foo_1",
      "foo_",
      "_1",
      "a..b",
      "",
      ".a",
      "a.",
      "a b",
      "a,b",
      "*",
      "a.*",
      "ä",
      "1a",
      "a-b",
      "\ud800",
    ])
      expect(() => run({ mask: { paths: ["a", text] } }), text).toThrow(starting(`mask\\.paths\\[1\\]: the `));
    expect(() => run({ mask: { paths: ["a", 5] } })).toThrow("mask.paths[1]: 5 is not a string");
    for (const number of [NaN, Infinity, -Infinity, 2n ** 2000n]) {
      expect(() => run({ value: number })).toThrow(/^value: .* has no JSON in a google/);
      expect(() => run({ struct: { a: [0, number] } })).toThrow(/^struct\.a\[1\]: .* has no JSON/);
      expect(() => run({ list: [{ a: number }] })).toThrow(/^list\[0\]\.a: .* has no JSON/);
      expect(() => run({ choice: { $case: "chosenValue", value: [number] } })).toThrow(/^chosen_?[vV]alue\[0\]: /);
    }
    expect(() => run({ struct: { a: "\ud800" } })).toThrow("struct.a: the text holds half");
    expect(() => run({ struct: { "\ud800": 1 } })).toThrow("half of a surrogate pair");
    for (const [message, told] of [
      [{ took: { seconds: 315_576_000_001n } }, "took: the duration is more than 10 000 years"],
      [{ took: { seconds: 1n, nanos: -1 } }, "took: seconds and nanoseconds of a duration"],
      [{ took: { nanos: 1_000_000_000 } }, "took: seconds and nanoseconds of a duration"],
      [{ took: { nanos: 1.5 } }, "took.nanos: 1.5 is not an int32"],
      [{ took: { nanos: NaN } }, "took.nanos: NaN is not an int32"],
      [{ took: { seconds: "x" } }, 'took.seconds: "x" is not an integer'],
      [{ at: { seconds: -62_135_596_801n } }, "at: the time is not in the years 1 to 9999"],
      [{ at: { seconds: 253_402_300_800n } }, "at: the time is not in the years 1 to 9999"],
      [{ at: { nanos: -1 } }, "at: -1 nanoseconds are not part of a second"],
      [{ times: [{ nanos: 0.5 }] }, "times[0].nanos: 0.5 is not an int32"],
    ] as const)
      expect(() => run(message)).toThrow(told);
  });

  it("messages of well-known types whose parts are of the wrong kind", () => {
    if (way === "create") return;
    for (const [$case, value] of [
      ["numberValue", "x"],
      ["stringValue", 5],
      ["boolValue", 0],
      ["structValue", null],
      ["listValue", 5],
      ["stringValue", "\ud800"],
    ] as const)
      expect(() => run(one({ $case, value }), Value), $case).toThrow();
    expect(() => run({ values: [5] }, ListValue)).toThrow("5 is not an object (google.protobuf.Value)");
    expect(() => run({ fields: { a: 5 } }, Struct)).toThrow("a: 5 is not an object (google.protobuf.Value)");
    expect(() => run({ paths: "a" }, FieldMask)).toThrow('"a" is not an array');
  });
});

it("what was not written is not read either", () => {
  for (const mask of ["a..b", ".a", "a.", "a_b", "a,,b", "*", "1a"])
    expect(() => Every.fromJSON({ mask }), mask).toThrow(/^mask: /);
  for (const json of [{ at: { nanos: -1 } }, { at: { seconds: "253402300800" } }, { took: { seconds: 1, nanos: -1 } }])
    expect(() => Every.fromJSON(json)).toThrow(/^(?:at|took): /);
});

it("create() shares nothing with what it is given, in values of JSON either", () => {
  const struct = { a: [{ b: 1 }] };
  const values = [struct];
  const message = Every.create({
    struct,
    value: struct,
    values,
    list: [struct],
    choice: { $case: "chosenValue", value: struct },
  });
  struct.a[0]!.b = 2;
  values.push(struct);
  const then = { a: [{ b: 1 }] };
  expect(message).toMatchObject({ struct: then, value: then, values: [then], list: [then], choice: { value: then } });
});
