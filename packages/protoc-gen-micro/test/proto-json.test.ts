import { dateOf, packAny, protoTypes, StringValue, Timestamp, timestampOf, unpackAny } from "@micro/core/proto";
import { jsonCodec, protoMessage } from "@micro/core";
import { describe, expect, it } from "vitest";
import { $types, Known } from "./gen/known.ts";

/** Text as another protobuf library writes it, and the message it stands for. */
const cases: readonly (readonly [what: string, json: unknown, message: Partial<Record<keyof Known, unknown>>])[] = [
  ["wrappers", { text: "", number: "9223372036854775807" }, { text: "", number: 2n ** 63n - 1n }],
  [
    "a struct, a value, a list",
    { struct: { a: [1, null] }, value: true, list: ["x"] },
    { struct: { a: [1, null] }, value: true, list: ["x"] },
  ],
  ["a value of null", { value: null }, { value: null }],
  ["a field mask", { mask: "userName,address.zipCode" }, { mask: { paths: ["user_name", "address.zip_code"] } }],
  ["a timestamp", { at: "2038-01-19T03:14:08.125Z" }, { at: { seconds: 2_147_483_648n, nanos: 125_000_000 } }],
  ["a time before 1970", { at: "1969-12-31T23:59:59.999999999Z" }, { at: { seconds: -1n, nanos: 999_999_999 } }],
  [
    "durations",
    { took: ["0s", "3s", "1.500s", "-0.250s", "-315576000000.000001s", "0.000000001s"] },
    {
      took: [
        { seconds: 0n, nanos: 0 },
        { seconds: 3n, nanos: 0 },
        { seconds: 1n, nanos: 500_000_000 },
        { seconds: 0n, nanos: -250_000_000 },
        { seconds: -315_576_000_000n, nanos: -1000 },
        { seconds: 0n, nanos: 1 },
      ],
    },
  ],
  [
    "numbers JSON has not",
    { notANumber: "NaN", infinite: ["Infinity", "-Infinity"] },
    { notANumber: NaN, infinite: [Infinity, -Infinity] },
  ],
  [
    "a map by bool",
    { levels: { true: "LEVEL_HIGH", false: "LEVEL_NONE" } },
    {
      levels: new Map([
        [true, 1],
        [false, 0],
      ]),
    },
  ],
  ["numbers of unknown enums", { moreLevels: [7, -7, "LEVEL_HIGH"] }, { moreLevels: [7, -7, 1] }],
  ["a null in a oneof", { chosenNull: null }, { choice: { $case: "chosenNull", value: 0 } }],
  ["a value of null in a oneof", { chosenValue: null }, { choice: { $case: "chosenValue", value: null } }],
  ["a wrapper in a oneof", { chosenNumber: "0" }, { choice: { $case: "chosenNumber", value: 0n } }],
  ["wrappers in a map", { dataByName: { a: "AQ==" } }, { dataByName: { a: Uint8Array.from([1]) } }],
];

describe("JSON of generated messages is proto3 JSON", () => {
  it.each(cases)("%s", (_, json, message) => {
    expect(Known.fromJSON(json)).toEqual({ ...Known.create(), ...message });
    expect(Known.toJSON(Known.fromJSON(json))).toEqual(json);
    expect(Known.decode(Known.encode(Known.fromJSON(json)))).toEqual(Known.fromJSON(json));
  });

  it("bytes of either alphabet, with padding or without", () => {
    for (const text of ["-_8=", "-_8", "+/8=", "+/8", "+_8"])
      expect(Known.fromJSON({ data: text }).data).toEqual(Uint8Array.from([251, 255]));
    const large = new Uint8Array(100_000).fill(251);
    expect(Known.fromJSON(JSON.parse(JSON.stringify(Known.toJSON({ data: large })))).data).toEqual(large);
  });

  it("bytes in wrappers", () => {
    const { data, moreData } = Known.fromJSON({ data: "AQL/", moreData: ["", "AQ=="] });
    expect(data).toEqual(Uint8Array.from([1, 2, 255]));
    expect(moreData).toEqual([Uint8Array.from([]), Uint8Array.from([1])]);
  });

  it("what Go up to v5.13 writes instead of it", () => {
    const { took, mask, at, text, any, choice } = Known.fromJSON({
      took: [{ seconds: 1, nanos: 5 }],
      mask: { paths: ["user_name"] },
      at: { seconds: 7 },
      text: { value: "x" },
      any: { type_url: "x/y", value: "AQ==" },
      Choice: { ChosenNumber: { value: 3 } },
    });
    expect(took).toEqual([{ seconds: 1n, nanos: 5 }]);
    expect(mask).toEqual({ paths: ["user_name"] });
    expect(at).toEqual({ seconds: 7n, nanos: 0 });
    expect(text).toBe("x");
    expect(any).toEqual({ typeUrl: "x/y", value: Uint8Array.from([1]) });
    expect(choice).toEqual({ $case: "chosenNumber", value: 3n });
  });

  it("an Any of a type that the file knows, of a well-known one, of one inside another", () => {
    const types = protoTypes($types);
    const inner = packAny(Known, { notANumber: 1 });
    const message = Known.create({
      any: packAny(Known, { any: inner, value: 5 }),
      moreAny: [packAny(StringValue, { value: "x" })],
    });
    const json = {
      any: {
        "@type": "type.googleapis.com/test.known.Known",
        value: 5,
        any: { "@type": "type.googleapis.com/test.known.Known", notANumber: 1 },
      },
      moreAny: [{ "@type": "type.googleapis.com/google.protobuf.StringValue", value: "x" }],
    };
    expect(Known.toJSON(message, { types })).toEqual(json);
    expect(Known.fromJSON(json, { types })).toEqual(message);
    expect(unpackAny(message.any!, Known)?.value).toBe(5);
    expect(unpackAny(message.any!, Timestamp)).toBeUndefined();
    expect(() => Known.fromJSON(json)).toThrow(
      'any: the type "type.googleapis.com/test.known.Known" is not known here',
    );
  });

  it("names of the .proto file, if that is asked for", () => {
    expect(Known.toJSON({ notANumber: 1, took: [{ seconds: 1n }] }, { names: "proto" })).toEqual({
      not_a_number: 1,
      took: ["1s"],
    });
  });
});

/** JSON that is refused, and what is said of it. */
const wrong: readonly (readonly [json: unknown, message: string])[] = [
  [5, "5 is not an object (test.known.Known)"],
  [[], "an array is not an object (test.known.Known)"],
  [{ nope: 1 }, "nope: test.known.Known has no field of this name"],
  [{ NotANumber: 1 }, "NotANumber: test.known.Known has no field of this name"],
  [{ not_a_number: 1, notANumber: 1 }, "notANumber: the field is given twice, in both spellings"],
  [{ text: 5 }, "text: 5 is not a string"],
  [{ number: "" }, 'number: "" is not an integer (int64)'],
  [{ number: 1.5 }, "number: 1.5 is not an integer (int64)"],
  [{ number: "9223372036854775808" }, 'number: "9223372036854775808" is out of the range of int64'],
  [{ moreData: ["", "!!!"] }, 'moreData[1]: "!!!" is not bytes in base64'],
  ...[
    "A",
    "AAAAA",
    "A===",
    "AQ=",
    "AA=A",
    "AAA=AAAA",
    "AA AA",
    "AAAA\n",
    "AAA\u00e9",
    "A\u0000AA",
    "=",
    "====",
    "AQ==AQ==",
    `${"A".repeat(3000)}*${"A".repeat(999)}`,
  ].map((text): [unknown, string] => [{ moreData: [text] }, "is not bytes in base64"]),
  [{ moreData: "AQ==" }, 'moreData: "AQ==" is not an array'],
  [{ moreData: [null] }, "moreData[0]: null is not bytes in base64"],
  [{ infinite: [1, "x"] }, 'infinite[1]: "x" is not a number (float)'],
  [{ infinite: [1e39] }, "infinite[0]: 1e+39 is out of the range of float"],
  [{ levels: { yes: 1 } }, 'levels.yes: "yes" is not true or false'],
  [{ levels: { true: "HIGH" } }, 'levels.true: "HIGH" is not a value of the enum: LEVEL_NONE, LEVEL_HIGH'],
  [{ moreLevels: [1.5] }, "moreLevels[0]: 1.5 is not a name or a number of the enum"],
  [{ at: "yesterday" }, 'at: "yesterday" is not a time such as 2006-01-02T15:04:05Z'],
  [{ at: "2023-02-30T00:00:00Z" }, 'at: "2023-02-30T00:00:00Z" is not a time that exists'],
  [{ at: 5 }, "at: 5 is not a time"],
  [{ mask: "user_name" }, 'mask: "user_name" is not a field mask, such as name,address.zipCode'],
  [{ dataByName: { "a b": 1 } }, 'dataByName["a b"]: 1 is not bytes in base64'],
  [{ chosenNull: null, chosenNumber: 1 }, "chosenNumber: another field of the same oneof is given as well"],
  [
    { any: { "@type": "type.googleapis.com/nobody.Knows" } },
    'any: the type "type.googleapis.com/nobody.Knows" is not known here',
  ],
  [{ any: { value: 1, other: 2 } }, "any.@type: the type of an Any is missing, or no string"],
  ...["1", "s", "1.5", "--1s", "1.1234567890s", "1e3s"].map((text): [unknown, string] => [
    { took: [text] },
    `took[0]: ${JSON.stringify(text)} is not a duration such as 1.5s`,
  ]),
];

describe("JSON that is wrong", () => {
  it.each(wrong)("%j", (json, message) => {
    expect(() => Known.fromJSON(json)).toThrow(message);
  });

  it("through the codec: the field is named, digits are kept, members are not given twice", () => {
    const type = protoMessage(Known, { name: "Known" });
    const read = (text: string): unknown => jsonCodec.decode(Buffer.from(text), type);
    expect(() => read('{"text":5}')).toThrow("cannot decode Known: text: 5 is not a string");
    expect(() => read('{"struct":{"a":1,"b":{},"a":2}}')).toThrow('invalid JSON: the member "a" is given twice');
    expect(read('{"text":"a:\\"b\\":","struct":{"a":{"a":1},"b":[{"a":1},{"a":2}]}}')).toMatchObject({
      text: 'a:"b":',
    });
    expect(read('{"number":9007199254740993}')).toMatchObject({ number: 9007199254740993n });
    expect(read('{"value":1180591620717411303424,"notANumber":1180591620717411303424}')).toMatchObject({
      value: 2 ** 70,
      notANumber: 2 ** 70,
    });
  });

  it("passes over what is not known, if that is asked for", () => {
    const json = { nope: 1, text: "x", moreLevels: ["LEVEL_HIGH", "LEVEL_NEW"], levels: { true: "LEVEL_NEW" } };
    expect(Known.fromJSON(json, { ignoreUnknownFields: true })).toEqual(Known.create({ text: "x", moreLevels: [1] }));
    expect(() => Known.fromJSON({ text: 5 }, { ignoreUnknownFields: true })).toThrow("text: 5 is not a string");
  });
});

const write = (message: object) => () => Known.encode(message);

describe("messages that cannot be written", () => {
  it("name the field", () => {
    expect(write({ infinite: [1, "2"] })).toThrow('infinite[1]: "2" is not a float');
    expect(write({ took: [{ seconds: 1n, nanos: 1.5 }] })).toThrow("took[0].nanos: 1.5 is not an int32");
    expect(write({ text: "\ud800" })).toThrow("text: the text holds half of a surrogate pair");
    expect(write({ choice: { $case: "nope", value: 1 } })).toThrow(
      'a oneof has $case "nope", which is none of its fields',
    );
    expect(() => Known.toJSON({ value: NaN })).toThrow("value: NaN has no JSON in a google.protobuf.Value");
  });

  it("if they hold themselves", () => {
    const list: unknown[] = [];
    list.push(list);
    expect(() => Known.encode({ list: list as never })).toThrow("nested deeper");
  });
});

it("dates and timestamps", () => {
  for (const date of [new Date(0), new Date(-1), new Date(1.5e12 + 7), new Date(-62_135_596_800_000)])
    expect(dateOf(timestampOf(date))).toEqual(date);
  expect(timestampOf(new Date(-1))).toEqual({ seconds: -1n, nanos: 999_000_000 });
  expect(() => timestampOf(new Date(NaN))).toThrow(RangeError);
});
