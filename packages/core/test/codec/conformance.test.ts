import { describe, it } from "vitest";
import { bytesCodec } from "../../src/codec/bytes.ts";
import type { Codec } from "../../src/codec/codec.ts";
import { grpcJsonCodec, grpcProtoCodec } from "../../src/codec/grpc.ts";
import { jsonCodec } from "../../src/codec/json.ts";
import { jsonrpcCodec } from "../../src/codec/jsonrpc.ts";
import { protoCodec } from "../../src/codec/proto.ts";
import { protorpcCodec } from "../../src/codec/protorpc.ts";
import { textCodec } from "../../src/codec/text.ts";
import { codecConformance, type CodecConformanceOptions } from "@micro/testing";
import { Profile } from "./gen/greeter.ts";
import { helloRequest, profile } from "./types.ts";

const noEnvelope = Object.fromEntries(
  [
    "a request keeps endpoint, id and message",
    "a response keeps id and message",
    "an error response keeps its text",
    "a message may be missing",
    "bytes that are none give code codec",
  ].map((name) => [`envelope: ${name}`, "this codec has no envelope"]),
);

function suite(codec: Codec, options: CodecConformanceOptions): void {
  describe(codec.name, () => {
    codecConformance({ describe, it }, async () => ({ codec, async [Symbol.asyncDispose]() {} }), {
      ...options,
      skip: codec.envelope === undefined ? { ...noEnvelope, ...options.skip } : options.skip,
    });
  });
}

const deepProfile = Profile.fromPartial({
  userId: 9223372036854775807n,
  firstName: "Ada 👩‍💻",
  photoData: new Uint8Array([0, 1, 254, 255]),
  mood: 1,
  nextOfKin: { userId: -1n, byKey: { snake_case: "kept", __proto: "x" } },
  pastNames: ["a", "", "b"],
  profilesByKey: { next_of_kin: { firstName: "a map key" } },
  heightMetres: 1.75,
  isAdmin: true,
});

const jsonOptions: CodecConformanceOptions = {
  samples: [
    { name: "object", message: { name: "John", age: 7, ok: true, none: null, list: [1, [2], { a: "b" }] } },
    { name: "array", message: [1, "two", null] },
    { name: "text", message: "just text" },
    { name: "number", message: -1.5e-7 },
    { name: "null", message: null },
    { name: "bytes", message: { data: new Uint8Array([1, 2, 3]) }, decoded: { data: "AQID" } },
    { name: "bigint", message: { id: 2n ** 63n }, decoded: { id: "9223372036854775808" } },
    { name: "empty object", message: {} },
    { name: "proto message", message: deepProfile, type: profile },
  ],
  invalid: ["nul", "{", '{"a":1}{', "{'a':1}", '"\u0001"', "[1,]", "01", "\ufeff{}"]
    .map((text) => Buffer.from(text))
    .concat([Buffer.from([0x22, 0xff, 0x22]), Buffer.from("[".repeat(100_000))]),
};

const protoOptions: CodecConformanceOptions = {
  type: helloRequest,
  message: (text) => ({ name: text }),
  text: (message: { name: string }) => message.name,
  samples: [
    { name: "hello", message: { name: "John" } },
    { name: "everything", message: deepProfile, type: profile },
    { name: "nothing", message: {}, decoded: Profile.fromPartial({}), type: profile },
  ],
  invalid: [Buffer.from([0x0a, 0x05, 0x41]), Buffer.from([0x0a]), Buffer.from([0xff]), Buffer.from([0x0f])],
};

suite(jsonCodec, jsonOptions);
suite(jsonrpcCodec, jsonOptions);
suite(protoCodec, protoOptions);
suite(protorpcCodec, protoOptions);
suite(grpcProtoCodec, {
  ...protoOptions,
  invalid: [Buffer.from([0]), Buffer.from([0, 0, 0, 0, 5, 1]), Buffer.from([1, 0, 0, 0, 0]), Buffer.alloc(6)],
});
suite(grpcJsonCodec, { ...jsonOptions, invalid: [Buffer.from("{}"), Buffer.from([0, 0, 0, 0, 1, 0x7b])] });
suite(bytesCodec, {
  message: (text) => Buffer.from(text),
  text: (message: Uint8Array) => Buffer.from(message).toString(),
  samples: [
    { name: "bytes", message: new Uint8Array([0, 1, 255]) },
    { name: "none", message: new Uint8Array(0) },
    { name: "array buffer", message: new Uint8Array([1, 2]).buffer, decoded: new Uint8Array([1, 2]) },
  ],
});
suite(textCodec, {
  message: (text) => text,
  text: (message: string) => message,
  samples: [
    { name: "text", message: "héllo" },
    { name: "bytes", message: new TextEncoder().encode("héllo"), decoded: "héllo" },
  ],
  invalid: [Buffer.from([0xc3]), Buffer.from([0x61, 0xff])],
});
