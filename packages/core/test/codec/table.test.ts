import { describe, expect, it } from "vitest";
import { bytesCodec } from "../../src/codec/bytes.ts";
import { Frame, type Codec } from "../../src/codec/codec.ts";
import { jsonCodec } from "../../src/codec/json.ts";
import { jsonrpcCodec } from "../../src/codec/jsonrpc.ts";
import { protorpcCodec } from "../../src/codec/protorpc.ts";
import {
  codecTable,
  decodeMessage,
  defaultCodecs,
  encodeMessage,
  frameType,
  oldProtocolCodecs,
  oldProtocolContentType,
} from "../../src/codec/table.ts";
import { grpcProtoCodec } from "../../src/codec/grpc.ts";
import { textCodec } from "../../src/codec/text.ts";
import { helloRequest } from "./types.ts";

const shout: Codec = { name: "shout", encode: () => Buffer.from("!"), decode: () => "!" };

describe("the codec table", () => {
  it("matches content types exactly, as Go does", () => {
    expect(defaultCodecs.get("application/json")).toBe(jsonCodec);
    expect(defaultCodecs.get("application/json; charset=utf-8")).toBeUndefined();
    expect([...defaultCodecs.keys()].toSorted()).toEqual([
      "application/grpc",
      "application/grpc+json",
      "application/grpc+proto",
      "application/json",
      "application/json-rpc",
      "application/octet-stream",
      "application/proto-rpc",
      "application/protobuf",
      "text/plain",
    ]);
  });

  it("puts custom codecs over the defaults and leaves the defaults as they are", () => {
    for (const custom of [{ "application/json": shout }, new Map([["application/json", shout]])]) {
      const table = codecTable(custom);
      expect(table.get("application/json")).toBe(shout);
      expect(table.get("application/protobuf")).toBe(defaultCodecs.get("application/protobuf"));
    }
    expect(defaultCodecs.get("application/json")).toBe(jsonCodec);
    expect(codecTable()).toBe(defaultCodecs);
  });

  it("refuses entries that are no codecs", () => {
    expect(() => codecTable({ "": shout })).toThrow(TypeError);
    expect(() => codecTable({ "a/b": { name: "x" } as never })).toThrow(/"a\/b" needs name, encode and decode/);
    expect(() => codecTable({ "a/b": undefined as never })).toThrow(TypeError);
  });

  it("knows the old protocol's types and codecs", () => {
    expect(oldProtocolContentType("application/json")).toBe("application/json-rpc");
    expect(oldProtocolContentType("application/protobuf")).toBe("application/proto-rpc");
    expect(oldProtocolContentType("application/octet-stream")).toBe("application/octet-stream");
    expect(oldProtocolCodecs.get("application/json")).toBe(jsonrpcCodec);
    expect(oldProtocolCodecs.get("application/octet-stream")).toBe(protorpcCodec);
    expect(oldProtocolCodecs.get("application/grpc")).toBeUndefined();
  });
});

describe("frames", () => {
  it("bypass every codec both ways without a copy", () => {
    const data = Buffer.from([0xff, 0x00, 0x7b]);
    for (const codec of new Set(defaultCodecs.values())) {
      expect(encodeMessage(codec, new Frame(data), helloRequest)).toBe(data);
      const received = decodeMessage(codec, data, frameType);
      expect(received).toBeInstanceOf(Frame);
      expect((received as Frame).data).toBe(data);
    }
  });

  it("are asked for by the constant alone: a message called Frame is a message", () => {
    expect(decodeMessage(jsonCodec, Buffer.from('{"a":1}'), { name: "Frame" })).toEqual({ a: 1 });
    expect(Buffer.from(encodeMessage(jsonCodec, { a: 1 }, undefined)).toString()).toBe('{"a":1}\n');
  });
});

describe("bytes and text", () => {
  it("say what they take", () => {
    for (const message of [{}, [], null, 5, "text"])
      expect(() => bytesCodec.encode(message, undefined)).toThrow(
        /^the bytes codec takes a Uint8Array, not (null|an? \w+)$/,
      );
    for (const message of [{}, [], null, 5])
      expect(() => textCodec.encode(message, undefined)).toThrow(expect.objectContaining({ code: "codec" }));
    const promise = Promise.resolve("text");
    for (const codec of [bytesCodec, textCodec])
      expect(() => codec.encode(promise, undefined)).toThrow("not a promise: did you forget an await?");
  });
});

describe("grpc framing", () => {
  it("puts five bytes before a message and none before an empty one", () => {
    expect(Buffer.from(grpcProtoCodec.encode({ name: "bob" }, helloRequest)).toString("hex")).toBe(
      "00000000050a03626f62",
    );
    expect(grpcProtoCodec.encode({ name: "" }, helloRequest)).toHaveLength(0);
  });

  it("refuses more than 4 MiB in either direction", () => {
    expect(() => grpcProtoCodec.encode({ name: "x".repeat(4 * 1024 * 1024) }, helloRequest)).toThrow(/exceeds 4194304/);
    expect(() => grpcProtoCodec.decode(Buffer.from("0000500000", "hex"), helloRequest)).toThrow(/exceeds 4194304/);
  });
});
