import { createService, memoryRegistry, memoryTransport, MicroError, protoMessage, silentLogger } from "@micro/core";
import {
  Any,
  Duration,
  getExtension,
  packAny,
  setExtension,
  setUnknownFields,
  Struct,
  Timestamp,
  unknownFields,
  type ProtoType,
} from "@micro/core/proto";
import { describe, expect, it } from "vitest";
import { message as Maps } from "./gen/kinds.ts";
import { Deep, Known, Lists } from "./gen/known.ts";
import { exact, Query } from "./gen/old.ts";
import { newCalculatorService, registerCalculatorHandler } from "./gen/kinds.micro.ts";

/** What is no message, and what is said of it. */
const wrong: readonly (readonly [value: unknown, shown: string])[] = [
  [null, "null"],
  ["x", '"x"'],
  ["", '""'],
  [5, "5"],
  [0, "0"],
  [true, "true"],
  [5n, "5n"],
  [[], "an array"],
  [[1], "an array"],
  [() => ({}), "a function"],
  [Symbol("x"), "a symbol"],
  [new Date(0), "a Date"],
  [new Map(), "a Map"],
  [new Set(), "a Set"],
  [new WeakMap(), "a WeakMap"],
  [Promise.resolve({}), "a Promise"],
  [(async () => ({}))(), "a Promise"],
  [/x/, "a RegExp"],
  [new Error("x"), "an Error"],
  [new Uint8Array(2), "a Uint8Array"],
  [Buffer.from("x"), "a Uint8Array"],
  [new ArrayBuffer(2), "an ArrayBuffer"],
  [new String("x"), "a String"],
  [new URL("http://a"), "a URL"],
  [[].values(), "an Array Iterator"],
  [(function* () {})(), "a Generator"],
  [new (class More extends Map {})(), "a Map"],
];

const ways: Readonly<Record<string, (type: ProtoType<any>, value: unknown) => unknown>> = {
  "binary encode": (type, value: any) => type.encode(value),
  "JSON write": (type, value: any) => type.toJSON(value),
  "JSON write in the names of the .proto file": (type, value: any) => type.toJSON(value, { names: "proto" }),
  "JSON read": (type, value: any) => type.fromJSON(value),
  create: (type, value: any) => type.create(value),
};

/** Where a message may be: a type, a message around `value`, and its path. */
const places: readonly (readonly [type: ProtoType<any>, around: (value: unknown) => unknown, path: string])[] = [
  [Deep, (value) => value, ""],
  [Deep, (inner) => ({ inner }), "inner"],
  [Deep, (inner) => ({ inner: { inner } }), "inner.inner"],
  [Lists, (value) => ({ inner: [{}, value] }), "inner[1]"],
  [Lists, (value) => ({ f: { 7: value } }), "f.7"],
  [Maps, (value) => ({ clients: { a: value } }), "clients.a"],
];

describe.each(Object.entries(ways))("where a message belongs, %s", (way, run) => {
  for (const [type, around, path] of places)
    it(`takes nothing else: ${type.$type} at ${path || "its top"}`, () => {
      for (const [value, shown] of wrong) {
        // Not there: as fields are that may be missing.
        if (value === null && path !== "" && !/\d|a$/.test(path)) continue;
        const given = around(value);
        const error = caught(() => run(type, given));
        expect(error, `${shown} was taken`).toBeInstanceOf(TypeError);
        expect((error as Error).message).toMatch(path === "" ? /^/ : `${path}: `);
        expect((error as Error).message).toContain(`${shown} is not an object (`);
        if (shown === "a Promise") expect((error as Error).message).toContain("did you forget an await?");
      }
    });

  it("takes no list, map or oneof that is none", () => {
    for (const value of [{}, "x", 5, new Set(["x"]), new Map()])
      expect(() => run(Lists, { inner: value })).toThrow(/^inner: .* is not an array$/);
    for (const value of [[], [1], 5, new Date(0), new Set()])
      expect(() => run(Lists, { f: value })).toThrow(/^f: .* is not an object/);
    if (way === "JSON read") return;
    for (const [choice, shown] of [
      [{ $case: "nope", value: 1 }, 'a oneof has $case "nope", which is none of its fields: chosenNull, chosenValue'],
      [{ value: 1 }, "a oneof has $case undefined, which is none of its fields: chosenNull, chosenValue"],
      ["chosenNull", '"chosenNull" is not an object with $case and value ($case: chosenNull, '],
      [[], "an array is not an object with $case and value"],
    ])
      expect(() => run(Known, { choice })).toThrow(`choice: ${shown as string}`);
  });

  it("says how a time and a struct are made", () => {
    if (way === "JSON read") return;
    const at = "google.protobuf.Timestamp";
    expect(() => run(Known, { at: new Date(0) })).toThrow(
      `at: a Date is not an object (${at}): timestampOf(date) makes one`,
    );
    expect(() => run(Known, { at: "2020-01-01T00:00:00Z" })).toThrow(
      `at: "2020-01-01T00:00:00Z" is not an object (${at})`,
    );
    expect(() => run(Known, { took: [5] })).toThrow("took[0]: 5 is not an object (google.protobuf.Duration)");
    expect(() => run(Timestamp, "2020-01-01T00:00:00Z")).toThrow("is not an object (google.protobuf.Timestamp)");
    expect(() => run(Duration, 5)).toThrow("5 is not an object (google.protobuf.Duration)");
    expect(() => run(Any, 5)).toThrow("5 is not an object (google.protobuf.Any)");
    expect(() => run(Struct, [])).toThrow("an array is not an object (google.protobuf.Struct)");
    if (way === "create") return;
    for (const value of [new Date(0), new Map(), Promise.resolve(), new Uint8Array(1)]) {
      expect(() => run(Known, { struct: value })).toThrow(/^struct: a \w+ is not an object/);
      expect(() => run(Known, { value: { a: [value] } })).toThrow(/^value\.a\[0\]: a \w+ is not a value of JSON/);
    }
  });

  it("takes objects of any class, with or without a prototype, and getters", () => {
    class Base {
      get text() {
        return "x";
      }
    }
    class Derived extends Base {
      inner = Object.assign(Object.create(null) as object, { text: "y" });
    }
    if (way === "JSON read") return;
    const expected = run(Deep, { text: "x", inner: { text: "y" } });
    expect(run(Deep, new Derived())).toEqual(expected);
    expect(run(Deep, new Proxy({ text: "x", inner: { text: "y" } }, {}))).toEqual(expected);
  });
});

function caught(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    return error;
  }
}

describe("a handler that answers with nothing, or what is no message", () => {
  const answers: readonly (readonly [answer: unknown, told: string])[] = [
    [undefined, "the handler answered undefined: it has to return its Number, {} for one with nothing set"],
    [null, "the handler answered null: it has to return its Number, {} for one with nothing set"],
    ...wrong
      .filter(([answer, shown]) => answer !== null && shown !== "a Promise" && shown !== "a symbol")
      .map(([answer, shown]) => [answer, `${shown} is not an object (test.kinds.v1.Number)`] as const),
  ];

  it.each(["application/protobuf", "application/json"])("is told, %s", async (contentType) => {
    const service = createService({
      name: "calculator",
      registry: memoryRegistry(),
      transport: memoryTransport(),
      handleSignals: false,
      logger: silentLogger,
      args: [],
      env: {},
    });
    let answer: unknown;
    const answering = (): any => answer;
    const names = ["add", "divide", "addAll", "countTo", "running", "ping", "any", "foreign"];
    registerCalculatorHandler(service, Object.fromEntries(names.map((name) => [name, answering])) as any);
    await service.start();
    await using _ = service;
    const calculator = newCalculatorService("calculator", service.client);
    for (const [value, told] of answers) {
      answer = value;
      const error = await calculator.add({ a: 1 }, { contentType }).catch((failure: unknown) => failure);
      expect(MicroError.is(error) && [error.code, error.detail]).toEqual(["internal", expect.stringContaining(told)]);
    }
    answer = {};
    expect(await calculator.add({ a: 1 }, { contentType })).toEqual({ value: 0 });
    for (const request of [undefined, null, [], "x"]) {
      const error = await calculator.add(request as never, { contentType }).catch((failure: unknown) => failure);
      expect(String(error)).toContain("is not an object (test.kinds.v1.Pair)");
    }
    // A message without fields is nothing anyway.
    answer = { seconds: 1n };
    expect(await calculator.ping(undefined as never, { contentType })).toMatchObject({ seconds: 1n });
  });

  it("may answer with nothing where the message has no fields", () => {
    const { binary, json } = protoMessage({ ...pick(Struct), fields: [] } as never);
    expect(binary!.encode(undefined as never)).toHaveLength(0);
    expect(json!.encode(undefined as never)).toEqual({});
  });
});

const pick = (type: typeof Struct): object => ({
  $type: "Empty",
  encode: (message: object) => type.encode(message),
  decode: (bytes: Uint8Array) => type.decode(bytes),
  toJSON: (message: object) => type.toJSON(message),
  fromJSON: (value: unknown) => type.fromJSON(value),
});

describe("what is kept of a message", () => {
  it("is bytes of one kind, whoever put them there", () => {
    const message = Query.create({ text: "x" });
    setExtension(message, exact, true);
    const read = Query.decode(Query.encode(message));
    expect(unknownFields(read)!.constructor).toBe(Uint8Array);
    expect(unknownFields(message)!.constructor).toBe(Uint8Array);
    expect(message).toEqual(read);
    expect(getExtension(read, exact)).toBe(true);
    setExtension(read, exact, false);
    setExtension(message, exact, false);
    expect(message).toEqual(read);
    setExtension(message, exact, undefined);
    expect(message).toEqual(Query.create({ text: "x" }));
    setUnknownFields(message, Buffer.from(unknownFields(read)!));
    expect(message).toEqual(read);
  });

  it("an Any of a type that is not known says how to hand it over", () => {
    const any = packAny(Deep, { text: "x" });
    const told =
      'the type "type.googleapis.com/test.known.Deep" is not known here: hand it over, as in protoMessage(X, { types: () => protoTypes([Y]) })';
    expect(() => Any.toJSON(any)).toThrow(told);
    expect(() => Known.toJSON({ any })).toThrow(`any: ${told}`);
    expect(() => Known.fromJSON({ any: { "@type": "type.googleapis.com/test.known.Deep" } })).toThrow(`any: ${told}`);
  });

  it("a key that would set a prototype is neither written nor read, in any form", () => {
    const told = 'the map key "__proto__" is not allowed';
    const object = JSON.parse('{"a":{"name":"y"},"__proto__":{"name":"x"}}') as Record<string, { name: string }>;
    for (const clients of [object, new Map(Object.entries(object)) as never]) {
      expect(() => Maps.encode({ clients })).toThrow(told);
      expect(() => Maps.toJSON({ clients })).toThrow(told);
      expect(() => Maps.create({ clients })).toThrow(told);
      expect(() => Maps.encode({ clients })).toThrow(/^clients/);
    }
    expect(() => Known.encode({ struct: JSON.parse('{"__proto__":1}') as never })).toThrow(told);
    expect(() => Maps.decode(Buffer.from("\x0a\x0d\x0a\x09__proto__\x12\x00", "latin1"))).toThrow(told);
  });
});
