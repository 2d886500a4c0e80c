import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeEnvelope, encodeEnvelope, Metadata, MicroError } from "@micro/core";

/** What decoding gives: a message, or an error of the one code. */
function outcome(bytes: Uint8Array): "message" | "codec" {
  try {
    const { header, body } = decodeEnvelope(bytes);
    if (!(header instanceof Metadata) || !(body instanceof Uint8Array)) throw new Error("no message");
    for (const [name, value] of header) if (name === "" || typeof value !== "string") throw new Error("no header");
    return "message";
  } catch (error) {
    if (MicroError.is(error) && error.code === "codec") return "codec";
    throw error;
  }
}

describe("the envelope decoder", () => {
  it("gives back what was encoded", () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string({ minLength: 1, unit: "binary" }), fc.string({ unit: "binary" })),
        fc.uint8Array({ maxLength: 300 }),
        (entries, body) => {
          // As a peer may send it: names and values that ours would not.
          const header = new Metadata();
          for (const [name, value] of Object.entries(entries)) header.keep(name, value);
          const message = decodeEnvelope(encodeEnvelope(header, body));
          expect(Buffer.from(message.body).equals(body)).toBe(true);
          // JSON has no half surrogates: they arrive as the replacement character.
          for (const [name, value] of header)
            expect(message.header.get(name.toWellFormed())?.toWellFormed()).toBe(value.toWellFormed());
        },
      ),
      { numRuns: 2_000 },
    );
  });

  it("refuses arbitrary bytes with one code, and never throws anything else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void outcome(bytes)),
      { numRuns: 5_000 },
    );
  });

  it("copes with any JSON", () => {
    const part = fc.oneof(fc.jsonValue({ maxDepth: 3 }), fc.string(), fc.base64String(), fc.constant(null));
    const key = fc.constantFrom("Header", "header", "HEADER", "Body", "body", "__proto__", "toString", "x");
    fc.assert(
      fc.property(fc.oneof(fc.array(fc.tuple(key, part), { maxLength: 5 }), fc.jsonValue()), (value) => {
        const isObject = Array.isArray(value) && value.every((each) => Array.isArray(each) && each.length === 2);
        const text = isObject
          ? `{${(value as [string, unknown][]).map(([name, member]) => `${JSON.stringify(name)}:${JSON.stringify(member)}`).join(",")}}`
          : JSON.stringify(value);
        void outcome(Buffer.from(text));
      }),
      { numRuns: 5_000 },
    );
  });

  it("copes with messages that were damaged on the way", () => {
    const whole = encodeEnvelope(new Metadata({ "Micro-Topic": "a", Zone: "ü" }), Buffer.from("some body"));
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length), (at, byte, end) => {
        const damaged = Buffer.from(whole.subarray(0, end));
        if (at < end) damaged[at] = byte;
        void outcome(damaged);
      }),
      { numRuns: 5_000 },
    );
  });
});
