import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Codec } from "../../src/codec/codec.ts";
import { defaultCodecs } from "../../src/codec/table.ts";
import type { MessageType } from "../../src/definition.ts";
import { MicroError } from "../../src/errors.ts";
import { HelloRequest, Profile } from "./gen/greeter.ts";
import { helloRequest, profile } from "./types.ts";

const seconds = Number(process.env["MICRO_FUZZ_SECONDS"] ?? 2);
const seed = Number(process.env["MICRO_FUZZ_SEED"] ?? Date.now() & 0x7fff_ffff);
process.stdout.write(`codec fuzz: MICRO_FUZZ_SEED=${seed} MICRO_FUZZ_SECONDS=${seconds}\n`);
// Eight properties share the time.
const limits = {
  seed,
  numRuns: 1_000_000,
  interruptAfterTimeLimit: (seconds * 1000) / 8,
  markInterruptAsFailure: false,
};
const timeout = seconds * 1000 + 20_000;

const codecs = [...new Set(defaultCodecs.values())];
const jsonCodecs = codecs.filter(({ name }) => name === "json" || name === "jsonrpc" || name === "grpc+json");
const protoCodecs = codecs.filter(({ name }) => name === "proto" || name === "protorpc" || name === "grpc");
const enveloped = codecs.filter(({ envelope }) => envelope !== undefined);

/** Fails unless `run` gives a value or a codec error. */
function survives(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    if (!MicroError.is(error) || error.code !== "codec") throw error;
    expect(error.detail.length).toBeLessThan(400);
  }
  if ("polluted" in {}) throw new Error("a prototype was reached");
}

function readAll(codec: Codec, body: Uint8Array): void {
  for (const type of [undefined, helloRequest, profile] as (MessageType | undefined)[])
    survives(() => codec.decode(body, type));
  for (const kind of ["request", "response"] as const) {
    survives(() => {
      const found = codec.envelope?.unwrap(body, kind);
      if (found !== undefined) codec.decode(found.payload, profile);
    });
  }
}

// JSON turns -0 into 0.
const plain = fc.jsonValue({ maxDepth: 4 }).map((value) => JSON.parse(JSON.stringify(value)) as unknown);
const profiles = fc
  .record({
    userId: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    firstName: fc.string({ unit: "binary" }).map((text) => text.toWellFormed()),
    photoData: fc.uint8Array({ maxLength: 40 }),
    mood: fc.constantFrom(0, 1),
    pastNames: fc.array(fc.string(), { maxLength: 3 }),
    byKey: fc.dictionary(
      fc.string().filter((key) => key !== "__proto__"),
      fc.string(),
      { noNullPrototype: true },
    ),
    heightMetres: fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0),
    isAdmin: fc.boolean(),
  })
  .map((fields) => Profile.fromPartial(fields as never));

/** Valid bodies of every codec, to be damaged. */
const bodies: readonly [Codec, Uint8Array][] = codecs.flatMap((codec): [Codec, Uint8Array][] => {
  if (codec.name === "bytes") return [];
  if (codec.name === "text") return [[codec, codec.encode("some text ✓", undefined)]];
  const message = Profile.fromPartial({
    userId: 2n ** 60n,
    firstName: 'Ada \u2028"',
    byKey: { a_b: "c" },
    nextOfKin: { pastNames: ["x", "y"] },
  });
  const body = codec.encode(message, profile);
  const wrap = (kind: "request" | "response", error?: string): Uint8Array =>
    codec.envelope!.wrap(body, { kind, endpoint: "Greeter.Hello", id: "12", error });
  return [
    [codec, body],
    [codec, codec.encode(HelloRequest.fromPartial({ name: '{"__proto__":{"polluted":1}}' }), helloRequest)],
    ...(codec.envelope === undefined
      ? []
      : [wrap("request"), wrap("response"), wrap("response", "e")].map((one): [Codec, Uint8Array] => [codec, one])),
  ];
});

const pieces = [
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  '"',
  "\\",
  "\\u005f_proto__",
  '"__proto__":{"polluted":1}',
  '"constructor":{"prototype":{"polluted":1}}',
  "null",
  "1e999",
  "-0",
  "\ud800",
  "\u0000",
  "9".repeat(30),
  '"method"',
  '"params"',
  '"error"',
];
const mutation = fc.record({
  at: fc.nat({ max: 4096 }),
  remove: fc.nat({ max: 8 }),
  insert: fc.oneof(
    fc.uint8Array({ maxLength: 6 }),
    fc.constantFrom(...pieces).map((piece) => new Uint8Array(Buffer.from(piece))),
  ),
});

describe(`codecs under random input (MICRO_FUZZ_SEED=${seed})`, () => {
  it("json messages come back as they were", { timeout }, () => {
    fc.assert(
      fc.property(fc.constantFrom(...jsonCodecs), plain, (codec, message) => {
        let expected = true;
        try {
          expect(codec.decode(codec.encode(message, undefined), undefined)).toEqual(message);
        } catch (error) {
          expected = MicroError.is(error) && JSON.stringify(message).includes("proto");
          if (!expected) throw error;
        }
      }),
      limits,
    );
  });

  it("proto messages come back as they were, as protobuf and as JSON", { timeout }, () => {
    fc.assert(
      fc.property(fc.constantFrom(...protoCodecs, ...jsonCodecs), profiles, (codec, message) => {
        expect(codec.decode(codec.encode(message, profile), profile)).toEqual(message);
      }),
      limits,
    );
  });

  it("envelopes come back as they were", { timeout }, () => {
    const word = fc.string({ unit: "binary" }).map((text) => text.toWellFormed());
    fc.assert(
      fc.property(
        fc.constantFrom(...enveloped),
        word,
        fc.nat(),
        word,
        profiles,
        (codec, endpoint, id, error, message) => {
          const format = codec.envelope!;
          const request = { kind: "request", endpoint, id: String(id), error: undefined } as const;
          const received = format.unwrap(format.wrap(codec.encode(message, profile), request), "request");
          expect(received.envelope).toEqual(request);
          expect(codec.decode(received.payload, profile)).toEqual(message);
          if (error !== "")
            expect(
              format.unwrap(format.wrap(undefined, { ...request, kind: "response", error }), "response").envelope.error,
            ).toBe(error);
        },
      ),
      limits,
    );
  });

  it("random bytes are a message or a codec error", { timeout }, () => {
    fc.assert(
      fc.property(fc.constantFrom(...codecs), fc.uint8Array({ maxLength: 200 }), (codec, body) => readAll(codec, body)),
      limits,
    );
  });

  it("random text is a message or a codec error", { timeout }, () => {
    const text = fc.array(fc.oneof(fc.constantFrom(...pieces), fc.string({ unit: "binary", maxLength: 4 })), {
      maxLength: 30,
    });
    fc.assert(
      fc.property(fc.constantFrom(...codecs), text, (codec, parts) => readAll(codec, Buffer.from(parts.join("")))),
      limits,
    );
  });

  it("damaged messages are a message or a codec error", { timeout }, () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...bodies),
        fc.array(mutation, { minLength: 1, maxLength: 4 }),
        ([codec, body], mutations) => {
          let damaged = Buffer.from(body);
          for (const { at, remove, insert } of mutations) {
            const start = damaged.length === 0 ? 0 : at % (damaged.length + 1);
            damaged = Buffer.concat([damaged.subarray(0, start), insert, damaged.subarray(start + remove)]);
          }
          readAll(codec, damaged);
        },
      ),
      limits,
    );
  });

  it(
    "where JSON.parse reads a text, so does the codec, and where it does not, an offset inside the text is named",
    { timeout },
    () => {
      const text = fc
        .array(fc.constantFrom(...pieces, "1", "true", " ", '"a"'), { maxLength: 12 })
        .map((parts) => parts.join(""));
      const codec = defaultCodecs.get("application/json")!;
      fc.assert(
        fc.property(
          text.filter((candidate) => candidate !== ""),
          (candidate) => {
            const body = Buffer.from(candidate);
            let valid = true;
            try {
              JSON.parse(body.toString());
            } catch {
              valid = false;
            }
            try {
              codec.decode(body, undefined);
              expect(valid).toBe(true);
            } catch (error) {
              if (!MicroError.is(error)) throw error;
              if (valid) expect(error.detail).toContain("is not allowed");
              else expect(Number(/at offset (\d+)/.exec(error.detail)?.[1])).toBeLessThanOrEqual(body.length);
            }
          },
        ),
        limits,
      );
    },
  );

  it("any value of the language is encoded or refused", { timeout }, () => {
    const anything = fc.anything({
      withBigInt: true,
      withDate: true,
      withMap: true,
      withSet: true,
      withTypedArray: true,
      withSparseArray: true,
      withNullPrototype: true,
      withObjectString: true,
    });
    fc.assert(
      fc.property(fc.constantFrom(...codecs), anything, (codec, message) => {
        for (const type of [undefined, profile] as (MessageType | undefined)[])
          survives(() => expect(codec.encode(message, type)).toBeInstanceOf(Uint8Array));
      }),
      limits,
    );
  });
});
