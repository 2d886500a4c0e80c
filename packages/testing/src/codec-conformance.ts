/** What every codec must do. */
import { isUtf8 } from "node:buffer";
import assert from "node:assert/strict";
import { type Codec, type MessageType, MicroError, checkOptionNames, type OptionNames, optionKinds } from "@micro/core";
import { defineSuite, type Skips, type SuiteCase, type TestRunner } from "./runner.ts";

/** A message that the codec carries. */
export interface CodecSample {
  /** What it shows, e.g. `nested`. */
  readonly name: string;
  readonly message: unknown;
  /** What decoding gives. Default: `message`. */
  readonly decoded?: unknown;
  /** Default: the suite's. */
  readonly type?: MessageType | undefined;
}

/** What a suite's factory gives for each test. */
export interface CodecFixture extends AsyncDisposable {
  readonly codec: Codec;
}

export interface CodecConformanceOptions {
  /** Messages of every kind the codec knows; at least one. */
  readonly samples: readonly CodecSample[];
  /** Message type of the built-in cases. Default: none, as in calls by name. */
  readonly type?: MessageType | undefined;
  /** Makes a message that carries `text`, for the built-in cases. Default: `{ text }`. */
  readonly message?: ((text: string) => unknown) | undefined;
  /** Reads that text back. Default: its `text`. */
  readonly text?: ((message: any) => string) | undefined;
  /** Bytes that are no message. */
  readonly invalid?: readonly Uint8Array[] | undefined;
  /** Test names that do not apply, with the reason. */
  readonly skip?: Skips | undefined;
}

const optionNames: OptionNames<CodecConformanceOptions> = {
  samples: true,
  type: true,
  message: optionKinds.function,
  text: optionKinds.function,
  invalid: true,
  skip: true,
};

const oneMebibyte = 1024 * 1024;

/**
 * Declare the suite. Codes are asserted, texts are not.
 * @throws {TypeError} for an option that does not exist, if there is no sample, or `skip` names no test.
 */
export function codecConformance(
  runner: TestRunner,
  create: () => Promise<CodecFixture>,
  options: CodecConformanceOptions,
): void {
  checkOptionNames("codecConformance", options, optionNames);
  const { samples, type, message = (text) => ({ text }), text = (value) => value.text as string } = options;
  if (samples.length === 0) throw new TypeError("codecConformance: `samples` is empty");

  const carries = (codec: Codec, content: string): void => {
    const body = codec.encode(message(content), type);
    assert.equal(text(codec.decode(body, type)), content);
  };

  const cases: Record<string, SuiteCase<CodecFixture>> = {
    "has a name": async ({ codec }) => {
      assert.match(codec.name, /^\S+$/);
    },
    "samples: come back as they were": async ({ codec }) => {
      for (const sample of samples) {
        const sampleType = sample.type ?? type;
        const decoded = codec.decode(codec.encode(sample.message, sampleType), sampleType);
        assertSame(decoded, "decoded" in sample ? sample.decoded : sample.message, sample.name);
      }
    },
    "samples: give the same bytes each time": async ({ codec }) => {
      for (const { name, message: sample, type: sampleType = type } of samples)
        assertSame(codec.encode(sample, sampleType), codec.encode(sample, sampleType), name);
    },
    "undefined: is encoded as an empty message": async ({ codec }) => {
      const body = codec.encode(undefined, type);
      assert.ok(body instanceof Uint8Array);
      codec.decode(body, type);
    },
    "an empty body: is an empty message": async ({ codec }) => {
      codec.decode(new Uint8Array(0), type);
    },
    "text: keeps the empty string": async ({ codec }) => carries(codec, ""),
    "text: keeps unicode, quotes and control characters": async ({ codec }) =>
      carries(codec, "Grüße 世界 👋🏽 \u0000\u0007\t\r\n\\\"'<>&\u2028\u2029\ufeff\ufffd"),
    "text: keeps 1 MiB": async ({ codec }) => carries(codec, "0123456789abcdef".repeat(oneMebibyte / 16)),
    "text: keeps 1 MiB of multi-byte characters": async ({ codec }) => carries(codec, "é€😀x".repeat(oneMebibyte / 8)),
    "text forms, where there are any: are the bytes in UTF-8, and read back alike": async ({ codec }) => {
      const contents = ["", "plain", 'Grüße 世界 👋🏽 \u0000\r\n\\"\ud800\ufffd', "x".repeat(10_000)];
      const all = contents.map((content) => ({ message: message(content), type }));
      for (const { message: sample, type: sampleType = type } of [...all, ...samples]) {
        const body = codec.encode(sample, sampleType);
        const encoded = codec.encodeText?.(sample, sampleType);
        if (encoded !== undefined) assertSame(new Uint8Array(Buffer.from(encoded)), new Uint8Array(body), "text");
        if (codec.decodeText === undefined) continue;
        const asText = codec.decodeText(Buffer.from(body).toString("utf8"), sampleType);
        assertSame(asText, codec.decode(body, sampleType), "what text decodes to");
      }
      for (const body of options.invalid ?? [])
        if (codec.decodeText !== undefined && isUtf8(body))
          assertCodecError(() => codec.decodeText?.(Buffer.from(body).toString("utf8"), type));
    },
    "promises: one that nobody awaited is no message": async ({ codec }) => {
      const promise = Promise.resolve(message("later"));
      assertCodecError(() => codec.encode(promise, type));
      // Undefined leaves it to the bytes.
      assertCodecError(() => codec.encodeText?.(promise, type) ?? codec.encode(promise, type));
    },
    "isolation: a message may be changed once it is encoded": async ({ codec }) => {
      for (const { name, message: sample, type: sampleType = type } of samples) {
        const copy = structuredClone(sample);
        const body = codec.encode(copy, sampleType);
        const before = Uint8Array.from(body);
        scribble(copy);
        assertSame(Uint8Array.from(body), before, name);
      }
    },
    "isolation: the bytes of one message do not change with the next": async ({ codec }) => {
      const bodies = Array.from({ length: 20 }, (_, index) => codec.encode(message(`message ${index}`), type));
      for (const [index, body] of bodies.entries()) assert.equal(text(codec.decode(body, type)), `message ${index}`);
    },
    "isolation: decoding leaves the body as it is": async ({ codec }) => {
      const body = codec.encode(message("unchanged"), type);
      const before = Uint8Array.from(body);
      codec.decode(body, type);
      assertSame(Uint8Array.from(body), before, "body");
    },
    "views: a body inside a larger buffer is read alone": async ({ codec }) => {
      const body = codec.encode(message("inside"), type);
      const buffer = new Uint8Array(body.length + 24).fill(0xee);
      buffer.set(body, 11);
      assert.equal(text(codec.decode(buffer.subarray(11, 11 + body.length), type)), "inside");
    },
    "invalid: bytes that are no message give code codec": async ({ codec }) => {
      for (const body of options.invalid ?? []) assertCodecError(() => codec.decode(body, type));
    },
    "invalid: every truncation is a codec error or a message": async ({ codec }) => {
      const body = codec.encode(message("a message of some length"), type);
      for (let length = 0; length < body.length; length++) decodesOrFails(codec, body.subarray(0, length), type);
    },
    "invalid: every flipped bit is a codec error or a message": async ({ codec }) => {
      const body = codec.encode(message("bits"), type);
      for (let bit = 0; bit < body.length * 8; bit++) {
        const flipped = Uint8Array.from(body);
        flipped[bit >> 3]! ^= 1 << (bit & 7);
        decodesOrFails(codec, flipped, type);
      }
    },
    "prototypes: hostile keys and texts reach none": async ({ codec }) => {
      const hostile = [
        '{"__proto__":{"polluted":true}}',
        '{"\\u005f_proto__":{"polluted":true}}',
        '{"constructor":{"prototype":{"polluted":true}}}',
        '{"text":{"__proto__":{"polluted":true}}}',
      ];
      for (const content of hostile) {
        decodesOrFails(codec, Buffer.from(content), type);
        carries(codec, content);
      }
      assert.equal(({} as { polluted?: unknown }).polluted, undefined);
    },
    "envelope: a request keeps endpoint, id and message": async ({ codec }) => {
      const { envelope } = codec;
      if (envelope === undefined) return;
      for (const id of ["0", "7", "9007199254740993"]) {
        const sent = { kind: "request", endpoint: "Greeter.Hello", id, error: undefined } as const;
        const received = envelope.unwrap(envelope.wrap(codec.encode(message("in an envelope"), type), sent), "request");
        assert.deepEqual({ ...received.envelope }, sent);
        assert.equal(text(codec.decode(received.payload, type)), "in an envelope");
      }
    },
    "envelope: a response keeps id and message": async ({ codec }) => {
      const { envelope } = codec;
      if (envelope === undefined) return;
      const sent = { kind: "response", endpoint: "Greeter.Hello", id: "3", error: undefined } as const;
      const received = envelope.unwrap(envelope.wrap(codec.encode(message("back"), type), sent), "response");
      assert.equal(received.envelope.kind, "response");
      assert.equal(received.envelope.id, "3");
      assert.equal(received.envelope.error, undefined);
      assert.equal(text(codec.decode(received.payload, type)), "back");
    },
    "envelope: an error response keeps its text": async ({ codec }) => {
      const { envelope } = codec;
      if (envelope === undefined) return;
      for (const error of ["plain", '{"id":"greeter","code":404,"detail":"no “bob” <b>","status":"Not Found"}']) {
        const sent = { kind: "response", endpoint: "Greeter.Hello", id: "3", error } as const;
        assert.equal(envelope.unwrap(envelope.wrap(undefined, sent), "response").envelope.error, error);
      }
    },
    "envelope: a message may be missing": async ({ codec }) => {
      const { envelope } = codec;
      if (envelope === undefined) return;
      const sent = { kind: "request", endpoint: "Greeter.Hello", id: "1", error: undefined } as const;
      const { payload } = envelope.unwrap(envelope.wrap(undefined, sent), "request");
      codec.decode(payload, type);
    },
    "envelope: bytes that are none give code codec": async ({ codec }) => {
      const { envelope } = codec;
      if (envelope === undefined) return;
      const sent = { kind: "request", endpoint: "Greeter.Hello", id: "1", error: undefined } as const;
      const body = envelope.wrap(codec.encode(message("cut"), type), sent);
      for (const kind of ["request", "response"] as const) {
        assertCodecError(() => envelope.unwrap(new Uint8Array(0), kind));
        for (let length = 1; length < body.length - 1; length++)
          assertCodecError(() => envelope.unwrap(body.subarray(0, length), kind));
      }
    },
  };
  defineSuite(runner, "codec conformance", create, cases, options.skip);
}

/** Equal in value; bytes are compared as bytes, whatever view they are in. */
function assertSame(actual: unknown, expected: unknown, name: string): void {
  if (actual instanceof Uint8Array && expected instanceof Uint8Array)
    assert.ok(Buffer.compare(actual, expected) === 0, `${name}: the bytes differ`);
  else assert.deepEqual(actual, expected, name);
}

function assertCodecError(run: () => unknown): void {
  assert.throws(run, (error: unknown) => MicroError.is(error) && error.code === "codec");
}

/** Damaged bytes may still be a message, but must not fail in another way. */
function decodesOrFails(codec: Codec, body: Uint8Array, type: MessageType | undefined): void {
  try {
    codec.decode(body, type);
  } catch (error) {
    assert.ok(MicroError.is(error) && error.code === "codec", `not a codec error: ${String(error)}`);
  }
}

/** Overwrite everything in a message that can be overwritten. */
function scribble(value: unknown): void {
  if (value instanceof Uint8Array) value.fill(0x58);
  else if (Array.isArray(value)) {
    value.forEach(scribble);
    value.push("scribbled");
  } else if (typeof value === "object" && value !== null) {
    Object.values(value).forEach(scribble);
    Object.assign(value, { scribbled: true });
  }
}
