import { expect, it } from "vitest";
import { bytesCodec } from "../../core/src/codec/bytes.ts";
import type { Codec } from "../../core/src/codec/codec.ts";
import { jsonCodec } from "../../core/src/codec/json.ts";
import { jsonrpcCodec } from "../../core/src/codec/jsonrpc.ts";
import { codecConformance, type CodecConformanceOptions } from "../src/codec-conformance.ts";

const samples = [{ name: "object", message: { name: "John", data: [1] } }];

/** Names of the cases that a codec fails. */
async function failures(codec: Codec, options: Partial<CodecConformanceOptions> = {}): Promise<string[]> {
  const cases: [string, () => Promise<void>][] = [];
  const runner = {
    describe: (_: string, body: () => void) => body(),
    it: (name: string, body: () => Promise<void>) => void cases.push([name, body]),
  };
  codecConformance(runner, async () => ({ codec, async [Symbol.asyncDispose]() {} }), { samples, ...options });
  const failed: string[] = [];
  for (const [name, body] of cases) await body().catch(() => failed.push(name));
  return failed;
}

it("the suite passes a sound codec", async () => {
  expect(await failures(jsonCodec)).toEqual([]);
  expect(await failures(jsonrpcCodec)).toEqual([]);
});

it("the suite catches a codec that reuses its buffer", async () => {
  const shared = Buffer.alloc(8 * 1024 * 1024);
  const reusing: Codec = {
    ...jsonCodec,
    encode: (message, type) =>
      shared.subarray(0, shared.write(Buffer.from(jsonCodec.encode(message, type)).toString())),
  };
  expect(await failures(reusing)).toContain("isolation: the bytes of one message do not change with the next");
});

it("the suite catches a codec that hands out the caller's bytes", async () => {
  const aliasing: Codec = {
    name: "bytes",
    encode: (message) => (message instanceof Uint8Array ? message : bytesCodec.encode(message, undefined)),
    decode: (body) => body,
  };
  const options: Partial<CodecConformanceOptions> = {
    samples: [{ name: "bytes", message: new Uint8Array([1, 2]) }],
    message: (text) => Buffer.from(text),
    text: (message: Uint8Array) => Buffer.from(message).toString(),
  };
  expect(await failures(aliasing, options)).toEqual(["isolation: a message may be changed once it is encoded"]);
});

it("the suite catches errors of other kinds, ignored views and changed bodies", async () => {
  const raw: Codec = { ...jsonCodec, decode: (body) => JSON.parse(Buffer.from(body.buffer).toString()) as unknown };
  expect(await failures(raw, { invalid: [Buffer.from("{")] })).toEqual(
    expect.arrayContaining([
      "views: a body inside a larger buffer is read alone",
      "invalid: bytes that are no message give code codec",
      "invalid: every truncation is a codec error or a message",
    ]),
  );
  const writing: Codec = { ...jsonCodec, decode: (body, type) => [jsonCodec.decode(body, type), body.fill(0)][0] };
  expect(await failures(writing)).toContain("isolation: decoding leaves the body as it is");
});

it("the suite catches a codec that takes a promise for an empty message", async () => {
  const naive: Codec = { ...jsonCodec, encode: (message) => Buffer.from(JSON.stringify(message ?? {})) };
  expect(await failures(naive)).toEqual(["promises: one that nobody awaited is no message"]);
});

it("the suite catches an envelope that loses what it carries", async () => {
  const { wrap, unwrap } = {
    wrap: jsonrpcCodec.envelope!.wrap.bind(null),
    unwrap: jsonrpcCodec.envelope!.unwrap.bind(null),
  };
  const lossy: Codec = {
    ...jsonrpcCodec,
    envelope: { wrap: (payload, envelope) => wrap(payload, { ...envelope, id: "0", error: undefined }), unwrap },
  };
  expect(await failures(lossy)).toEqual([
    "envelope: a request keeps endpoint, id and message",
    "envelope: a response keeps id and message",
    "envelope: an error response keeps its text",
  ]);
});

it("the suite refuses to run without samples, or with a skip that names no test", async () => {
  await expect(failures(jsonCodec, { samples: [] })).rejects.toThrow(TypeError);
  await expect(failures(jsonCodec, { skip: { "no such test": "reason" } })).rejects.toThrow(TypeError);
});
