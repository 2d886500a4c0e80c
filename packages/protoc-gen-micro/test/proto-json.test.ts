import { describe, expect, it } from "vitest";
import { asProtoJson } from "../src/proto-json.ts";
import { defaultOptions } from "../src/options.ts";
import { Known } from "./gen/known.ts";

/** Text as another protobuf library writes it, and the message it stands for. */
const cases: readonly (readonly [what: string, json: unknown, message: Partial<Record<keyof Known, unknown>>])[] = [
  ["wrappers", { text: "", number: "9223372036854775807" }, { text: "", number: 2n ** 63n - 1n }],
  [
    "a struct, a value, a list",
    { struct: { a: [1, null] }, value: true, list: ["x"] },
    { struct: { a: [1, null] }, value: true, list: ["x"] },
  ],
  ["a field mask", { mask: "userName,address.zipCode" }, { mask: ["user_name", "address.zip_code"] }],
  ["a timestamp", { at: "2038-01-19T03:14:08.125Z" }, { at: new Date("2038-01-19T03:14:08.125Z") }],
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
];

describe("JSON of generated messages is proto3 JSON", () => {
  it.each(cases)("%s", (_, json, message) => {
    expect(Known.fromJSON(json)).toEqual({ ...Known.fromPartial({}), ...message });
    expect(Known.toJSON(Known.fromJSON(json))).toEqual(json);
    expect(Known.decode(Known.encode(Known.fromJSON(json)).finish())).toEqual(Known.fromJSON(json));
  });

  it("bytes in wrappers", () => {
    const { data, moreData } = Known.fromJSON({ data: "AQL/", moreData: ["", "AQ=="] });
    expect(data).toEqual(Uint8Array.from([1, 2, 255]));
    expect(moreData).toEqual([Uint8Array.from([]), Uint8Array.from([1])]);
  });

  it("durations and field masks as Go up to v5.13 writes them", () => {
    const { took, mask } = Known.fromJSON({ took: [{ seconds: 1, nanos: 5 }], mask: { paths: ["user_name"] } });
    expect(took).toEqual([{ seconds: 1n, nanos: 5 }]);
    expect(mask).toEqual(["user_name"]);
  });

  it.each(["1", "s", "1.5", "--1s", "1.1234567890s", "1e3s"])("refuses the duration %s", (text) => {
    expect(() => Known.fromJSON({ took: [text] })).toThrow("is not a duration");
  });

  it("leaves code alone that has none of this", () => {
    const code = "export const a = new Uint8Array(0);\n";
    expect(asProtoJson("google/protobuf/duration.ts", code, defaultOptions("all"))).toBe(code);
  });
});
