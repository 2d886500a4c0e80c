import { describe, expect, expectTypeOf, it } from "vitest";
import { jsonCodec } from "../../src/codec/json.ts";
import { protoCodec } from "../../src/codec/proto.ts";
import { MicroError } from "../../src/errors.ts";
import { protoMessage, type ProtoInput } from "../../src/proto.ts";
import { HelloRequest, Mood, Profile } from "./gen/greeter.ts";
import { helloRequest, profile } from "./types.ts";

const bob = Profile.fromPartial({
  userId: 9007199254740993n,
  firstName: "Bob",
  photoData: new Uint8Array([1, 2]),
  mood: Mood.MOOD_GLAD,
  nextOfKin: { firstName: "Eve" },
  byKey: { snake_key: "v", camelKey: "w" },
  profilesByKey: { first_name: { firstName: "Map" } },
  pastNames: ["Rob"],
});

const fromJson = (json: string): unknown => jsonCodec.decode(Buffer.from(json), profile);
const toJson = (message: ProtoInput<Profile>): unknown =>
  JSON.parse(Buffer.from(jsonCodec.encode(message, profile)).toString());

describe("protoMessage", () => {
  it("writes the bytes of the generated code", () => {
    expect(Buffer.from(protoCodec.encode({ name: "bob" }, helloRequest)).toString("hex")).toBe("0a03626f62");
    expect(protoCodec.decode(Buffer.from("0a03626f62", "hex"), helloRequest)).toEqual({ name: "bob" });
  });

  it("takes messages with fields left out as their zero values, nested ones too", () => {
    const body = protoCodec.encode({ firstName: "A", nextOfKin: { userId: 1n } }, profile);
    expect(protoCodec.decode(body, profile)).toEqual(
      Profile.fromPartial({ firstName: "A", nextOfKin: { userId: 1n } }),
    );
    expect(protoCodec.encode(undefined, profile)).toHaveLength(0);
  });

  it("takes no promise for an empty message", () => {
    for (const codec of [protoCodec, jsonCodec])
      expect(() => codec.encode(Promise.resolve(bob), profile)).toThrow(/did you forget an await\?$/);
    expect(protoCodec.encode({}, profile)).toHaveLength(0);
  });

  it("gives bytes as a plain Uint8Array even out of a Buffer", () => {
    const decoded = protoCodec.decode(Buffer.from(protoCodec.encode(bob, profile)), profile) as Profile;
    expect(decoded).toEqual(bob);
    expect(decoded.photoData.constructor).toBe(Uint8Array);
  });

  it("writes lowerCamel proto3 JSON, which every go-micro reads", () => {
    expect(toJson(bob)).toEqual({
      userId: "9007199254740993",
      firstName: "Bob",
      photoData: "AQI=",
      mood: "MOOD_GLAD",
      nextOfKin: { firstName: "Eve" },
      byKey: { snake_key: "v", camelKey: "w" },
      profilesByKey: { first_name: { firstName: "Map" } },
      pastNames: ["Rob"],
    });
    expect(toJson({})).toEqual({});
  });

  it("reads the JSON of go-micro up to v5.13: original names, numbers for int64 and enums", () => {
    expect(
      fromJson(
        '{"user_id":9007199254740993,"first_name":"Bob","photo_data":"AQI=","mood":1,"next_of_kin":{"first_name":"Eve"},' +
          '"by_key":{"snake_key":"v","camelKey":"w"},"profiles_by_key":{"first_name":{"first_name":"Map"}},"past_names":["Rob"]}',
      ),
    ).toEqual(bob);
  });

  it("reads the JSON of later versions: lowerCamel names, text for int64, names of enums", () => {
    expect(fromJson(JSON.stringify(toJson(bob)))).toEqual(bob);
    expect(fromJson("")).toEqual(Profile.fromPartial({}));
    expect(fromJson('{"firstName":null,"unknown_field":{"a":[1]}}')).toEqual(Profile.fromPartial({}));
  });

  it("finds both spellings for code that knows one only, and leaves the keys of maps alone", () => {
    interface Old {
      firstName: string;
      labels: Record<string, string>;
      children: Old[];
    }
    const old = (object: any): Old => ({
      firstName: String(object.firstName ?? ""),
      labels: Object.fromEntries(Object.entries<string>(object.labelsByKey ?? {})),
      children: Array.isArray(object.oldChildren) ? object.oldChildren.map(old) : [],
    });
    const snake = (object: any): Old => ({
      firstName: String(object.first_name ?? ""),
      labels: { ...object.labels_by_key },
      children: (object.old_children ?? []).map(snake),
    });
    const texts = [
      '{"first_name":"a","labels_by_key":{"x_y":"1","firstName":"2"},"old_children":[{"first_name":"b"}]}',
      '{"firstName":"a","labelsByKey":{"x_y":"1","firstName":"2"},"oldChildren":[{"firstName":"b"}]}',
    ];
    for (const fromJSON of [old, snake]) {
      const type = protoMessage<Old>({
        encode: () => ({ finish: () => new Uint8Array(0) }),
        decode: () => old({}),
        fromJSON,
      });
      for (const text of texts)
        expect(jsonCodec.decode(Buffer.from(text), type)).toEqual({
          firstName: "a",
          labels: { x_y: "1", firstName: "2" },
          children: [{ firstName: "b", labels: {}, children: [] }],
        });
    }
  });

  it("finds a oneof as Go up to v5.13 writes it, at any depth, and nothing else by its inner names", () => {
    interface Choice {
      chosenText?: string;
      child?: Choice;
    }
    const fromJSON = (object: any): Choice => ({
      ...(object.chosenText === undefined ? {} : { chosenText: object.chosenText }),
      ...(object.child === undefined ? {} : { child: fromJSON(object.child) }),
    });
    const functions = { encode: () => ({ finish: () => new Uint8Array(0) }), decode: () => ({}), fromJSON };
    const text = '{"child":{"Which_1":{"ChosenText":"b"},"Other":{"ChosenText":"c"}},"Which_1":{"ChosenText":"a"}}';
    const read = (oneofs?: readonly string[]): unknown =>
      jsonCodec.decode(Buffer.from(text), protoMessage<Choice>(functions, { oneofs }));
    expect(read(["Which_1"])).toEqual({ chosenText: "a", child: { chosenText: "b" } });
    expect(read()).toEqual({ child: {} });
  });

  it.each(["[]", "5", '"text"', "null", "true"])("refuses %s where a message is due", (text) => {
    expect(() => fromJson(text)).toThrow(
      expect.objectContaining({ code: "codec", detail: expect.stringContaining("Profile is an object") }),
    );
  });

  it.each([
    ["a cut field", "0a05626f"],
    ["a cut tag", "ff"],
    ["a wire type that does not exist", "0f"],
    ["a length beyond 32 bits", "0affffffffffffffffff01"],
  ])("answers %s with a codec error", (_, hex) => {
    expect(() => protoCodec.decode(Buffer.from(hex, "hex"), helloRequest)).toThrow(
      expect.objectContaining({ code: "codec" }),
    );
  });

  it("answers messages nested without end with a codec error", () => {
    let body = Buffer.alloc(0);
    for (let level = 0; level < 3000; level++) {
      const length: number[] = [];
      for (let rest = body.length; ; rest >>= 7) {
        length.push(rest > 127 ? (rest & 127) | 128 : rest);
        if (rest <= 127) break;
      }
      body = Buffer.concat([Buffer.from([0x2a, ...length]), body]);
    }
    expect(() => protoCodec.decode(body, profile)).toThrow(expect.objectContaining({ code: "codec" }));
  });

  it("lets no key of a map become a prototype", () => {
    const entry = Buffer.from("0a095f5f70726f746f5f5f1203120141", "hex"); // __proto__ => { firstName: "A" }
    const body = Buffer.concat([Buffer.from([0x42, entry.length]), entry]);
    const shadow = Buffer.from("420f0a0b636f6e7374727563746f721200", "hex"); // constructor => an empty message
    for (const bytes of [body, Uint8Array.from(body), Buffer.concat([body, shadow])])
      expect(() => protoCodec.decode(bytes, profile)).toThrow(
        expect.objectContaining({ code: "codec", detail: expect.stringContaining('"__proto__"') }),
      );
    const harmless = Profile.fromPartial({
      firstName: "__proto__",
      photoData: Buffer.from("__proto__"),
      nextOfKin: {},
    });
    expect(protoCodec.decode(protoCodec.encode(harmless, profile), profile)).toMatchObject({ firstName: "__proto__" });
  });

  it("says what cannot be encoded", () => {
    for (const message of [null, "text", [1], 5])
      expect(() => protoCodec.encode(message, helloRequest)).toThrow(/^HelloRequest is an object, not/);
    expect(() => protoCodec.encode({ userId: "x" }, profile)).toThrow(/^cannot encode Profile: /);
  });

  it("asks for a definition where there is none", () => {
    for (const run of [
      () => protoCodec.encode({ a: 1 }, undefined),
      () => protoCodec.decode(Buffer.from([1]), undefined),
    ])
      expect(run).toThrow(expect.objectContaining({ code: "codec", detail: expect.stringContaining("definition") }));
    expect(() => protoCodec.encode({}, { name: "Plain" })).toThrow(/cannot encode Plain as protobuf/);
    expect([...protoCodec.encode(new Uint8Array([8, 1]), undefined)]).toEqual([8, 1]);
  });

  it("takes its name from the options or the full name, and refuses what is no message", () => {
    expect(protoMessage({ ...HelloRequest, $type: "greeter.HelloRequest" }).name).toBe("HelloRequest");
    expect(() => protoMessage({} as never)).toThrow(TypeError);
    expect(() => protoMessage(undefined as never)).toThrow(TypeError);
  });

  it("infers what may be passed and what comes back", () => {
    expectTypeOf<ReturnType<NonNullable<typeof profile.binary>["decode"]>>().toEqualTypeOf<Profile>();
    expectTypeOf<Parameters<NonNullable<typeof profile.binary>["encode"]>>().toEqualTypeOf<[ProtoInput<Profile>]>();
    expectTypeOf<{ firstName: string }>().toExtend<ProtoInput<Profile>>();
    expectTypeOf<{ firstName: number }>().not.toExtend<ProtoInput<Profile>>();
    expectTypeOf<{ nextOfKin: { pastNames: number[] } }>().not.toExtend<ProtoInput<Profile>>();
    expectTypeOf<Profile>().toExtend<ProtoInput<Profile>>();
    expect(MicroError.is(profile)).toBe(false);
  });
});
