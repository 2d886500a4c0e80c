/** Values that are no instances of our classes: promises where something else belongs, and those of another realm. */
import { packAny, setExtension, type ProtoType } from "@micro/core/proto";
import { jsonCodec, protoCodec, protoMessage } from "@micro/core";
import { runInNewContext, runInThisContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { Every } from "./gen/every.ts";
import { closed_list, exact, Query } from "./gen/old.ts";

const ways: Readonly<Record<string, (type: ProtoType<any>, message: any) => unknown>> = {
  "binary encode": (type, message) => type.encode(message),
  "JSON write": (type, message) => type.toJSON(message),
  "JSON write in the names of the .proto file": (type, message) => type.toJSON(message, { names: "proto" }),
};
const hint = "did you forget an await?";
const later = async (): Promise<string> => "later";
const singular = Every.fields.filter(({ list, map }) => list !== true && map === undefined);

describe.each(Object.entries(ways))("a promise in a field, %s", (_, run) => {
  it.each(singular.map((field) => [field.key, field] as const))("%s", (key, { oneof }) => {
    const message = oneof === undefined ? { [key]: later() } : { [oneof]: { $case: key, value: later() } };
    for (const [given, path] of [
      [message, key],
      [{ inner: message }, `inner.${key}`],
      [{ byString: { a: message } }, `byString.a.${key}`],
    ] as const) {
      expect(() => run(Every, given)).toThrow(hint);
      expect(() => run(Every, given)).toThrow(new RegExp(`^${path}: a Promise is not `));
      expect(() => run(Every, given)).not.toThrow("[object");
    }
  });

  it("in lists, maps, oneofs, values of JSON, parts of times", () => {
    for (const { key, list, map } of Every.fields.filter((field) => field.list ?? field.map !== undefined)) {
      expect(() => run(Every, { [key]: later() }), key).toThrow(
        new RegExp(`^${key}: a Promise is not .*${hint.replace("?", "\\?")}`),
      );
      if (list === true)
        expect(() => run(Every, { [key]: [later()] }), key).toThrow(new RegExp(`^${key}\\[0\\]: a Promise .*await`));
      if (map === "string")
        expect(() => run(Every, { [key]: { a: later() } }), key).toThrow(new RegExp(`^${key}\\.a: a Promise .*await`));
    }
    expect(() => run(Every, { choice: later() })).toThrow(/^choice: a Promise is not an object with \$case .*await/);
    expect(() => run(Every, { struct: { a: [later()] } })).toThrow(
      /^struct\.a\[0\]: a Promise is not a value of JSON.*await/,
    );
    expect(() => run(Every, { at: { seconds: later() } })).toThrow(/^at\.seconds: a Promise is not an integer.*await/);
    expect(() => run(Every, { took: { nanos: later() } })).toThrow(/^took\.nanos: a Promise is not an int32.*await/);
    expect(() => run(Every, { mask: { paths: [later()] } })).toThrow(
      /^mask\.paths\[0\]: a Promise is not a string.*await/,
    );
  });
});

it("a promise in an extension, or in what an Any is made of", () => {
  expect(() => setExtension({} as Query, exact, later() as never)).toThrow(`[exact]: a Promise is not a bool: ${hint}`);
  expect(() => setExtension({} as Query, closed_list, [later()] as never)).toThrow(
    `[closed_list][0]: a Promise is not a number of an enum: ${hint}`,
  );
  expect(() => packAny(Query, { text: later() } as never)).toThrow(`text: a Promise is not a string: ${hint}`);
});

it("a promise in a field is told through the codecs as without protobuf", () => {
  const type = protoMessage(Every, { name: "Every" });
  for (const codec of [jsonCodec, protoCodec])
    expect(() => codec.encode({ inner: { string: later() } }, type)).toThrow(
      `cannot encode Every: inner.string: a Promise is not a string: ${hint}`,
    );
});

describe("values of another realm are taken as those of ours", () => {
  const text = `({
    string: "x", int64: 5n, bytes: Uint8Array.of(1, 2), level: 1, inner: { string: "y", bytes: new Uint8Array(0) },
    int32s: [1, 2], blobs: [Uint8Array.of(3)], inners: [{ int32: 1 }],
    byInt32: new Map([[1, "a"]]), byInt64: new Map([[1n, "b"]]), byUint64: new Map([[2n, Uint8Array.of(4)]]),
    byBool: new Map([[true, 1.5]]), byString: { a: { string: "z" } }, bySfixed64: new Map(),
    struct: { a: [1, { b: null }] }, value: [{ c: 1 }], list: [[1]], at: { seconds: 1n, nanos: 5 },
    bytesValue: Uint8Array.of(5), mask: { paths: ["a_b"] }, any: { typeUrl: "", value: Uint8Array.of() },
    choice: { $case: "chosenBytes", value: Uint8Array.of(6) },
  })`;
  const own = runInThisContext(text) as object;
  const foreign = runInNewContext(text);

  it("is what is tested", () => {
    expect(foreign.byInt64 instanceof Map).toBe(false);
    expect(foreign.bytes instanceof Uint8Array).toBe(false);
  });

  it.each(Object.entries(ways))("%s", (_, run) => {
    expect(run(Every, foreign)).toEqual(run(Every, own));
  });

  it("create(): what can be changed is ours", () => {
    const message = Every.create(foreign);
    expect(message.byInt64).toBeInstanceOf(Map);
    for (const value of [message.int32s, message.inners, message.list, message.struct!["a"]])
      expect(value).toBeInstanceOf(Array);
    expect(message.inner!.constructor).toBe(Object);
    expect(message.struct!.constructor).toBe(Object);
    expect(Every.encode(message)).toEqual(Every.encode(own));
  });

  it("JSON read", () => {
    const json = `({ string: "x", int32s: [1], byInt64: { 1: "a" }, struct: { a: [1] }, inner: { bytes: "AQ==" } })`;
    expect(Every.fromJSON(runInNewContext(json))).toEqual(Every.fromJSON(runInThisContext(json)));
  });

  it("what is no message there is none here", () => {
    for (const [value, shown] of [
      ["new Date(0)", "a Date"],
      ["new Map()", "a Map"],
      ["[]", "an array"],
      ["Uint8Array.of()", "a Uint8Array"],
      ["Promise.resolve({})", "a Promise"],
    ] as const)
      for (const run of Object.values(ways))
        expect(() => run(Every, { inner: runInNewContext(value) })).toThrow(
          `inner: ${shown} is not an object (test.every.Every)`,
        );
  });
});
