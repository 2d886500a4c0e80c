/**
 * Fuzzing of the HTTP/1.1 framing. Time: MICRO_FUZZ_SECONDS (default 8) over all tests here; seed: MICRO_FUZZ_SEED, printed.
 */
import { describe, expect, it } from "vitest";
import fc from "fast-check";
import { Metadata } from "../../src/metadata.ts";
import { FramingError } from "../../src/transport/http/framing-error.ts";
import { decodeValue, type Head } from "../../src/transport/http/head.ts";
import { metadataLines, replyLines, requestPrefix } from "../../src/transport/http/head-writer.ts";
import { MessageParser } from "../../src/transport/http/message-parser.ts";

const seconds = Number(process.env["MICRO_FUZZ_SECONDS"] ?? 8);
const seed = Number(process.env["MICRO_FUZZ_SEED"] ?? Date.now() % 0x7fff_ffff);
const budget = {
  seed,
  interruptAfterTimeLimit: (seconds * 1000) / 5,
  numRuns: 1_000_000,
  markInterruptAsFailure: false,
};
process.stdout.write(`framing fuzz: MICRO_FUZZ_SEED=${seed} MICRO_FUZZ_SECONDS=${seconds}\n`);

const limits = { maxHeaderBytes: 2_000, maxMessageBytes: 10_000 };

interface Parsed {
  readonly messages: string[];
  readonly failure: number | undefined;
}

/** Everything a parser says about `bytes`, cut at `cuts`. */
function parse(kind: "request" | "response", bytes: Buffer, cuts: readonly number[], ends: boolean): Parsed {
  const messages: string[] = [];
  const parser = new MessageParser(kind, limits, (head, body) =>
    messages.push(JSON.stringify([head.status, [...head.headers()], body.toString("latin1")])),
  );
  let failure: number | undefined;
  try {
    let from = 0;
    for (const cut of [...cuts.map((one) => one % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length]) {
      if (cut > from) parser.push(bytes.subarray(from, cut));
      from = cut;
    }
    if (ends) parser.end();
  } catch (error) {
    if (!(error instanceof FramingError)) throw error;
    failure = error.status;
  }
  return { messages, failure };
}

const names = fc.stringMatching(/^[A-Za-z][A-Za-z0-9_-]{0,20}$/);
const text = fc.oneof(fc.string({ maxLength: 40 }), fc.string({ unit: "grapheme", maxLength: 20 }));
const body = fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes));
const metadata = fc.array(fc.tuple(names, text), { maxLength: 6 }).map((entries) => new Metadata(entries));

function chunked(bytes: Buffer, sizes: readonly number[]): string {
  let out = "";
  let from = 0;
  for (const size of [...sizes, bytes.length]) {
    const part = bytes.subarray(from, from + Math.max(1, size));
    if (part.length === 0) break;
    out += `${part.length.toString(16)}\r\n${part.toString("latin1")}\r\n`;
    from += part.length;
  }
  return `${out}0\r\n\r\n`;
}

const requests = fc
  .tuple(metadata, body, fc.option(fc.array(fc.integer({ min: 1, max: 200 }), { maxLength: 5 })), text, text)
  .map(([headers, bytes, sizes, endpoint, service]) => {
    const request = { service, endpoint, contentType: "application/json", metadata: undefined, body: bytes };
    const head = `${requestPrefix("127.0.0.1:1", request)}${metadataLines(headers)}`;
    return {
      headers,
      body: bytes,
      endpoint,
      wire: Buffer.from(
        sizes === null
          ? `${head}Content-Length: ${bytes.length}\r\n\r\n${bytes.toString("latin1")}`
          : `${head}Transfer-Encoding: chunked\r\n\r\n${chunked(bytes, sizes)}`,
        "latin1",
      ),
    };
  });

/** A value as the wire carries it. */
function carried(value: string): string {
  return Buffer.from(value.replaceAll(/[\r\n\0]/g, " "), "utf8")
    .toString("utf8")
    .replaceAll(/^[ \t]+|[ \t]+$/g, "");
}

describe("framing, fuzzed", () => {
  it("what is written is read: any message, any split", () => {
    fc.assert(
      fc.property(
        fc.array(requests, { minLength: 1, maxLength: 4 }),
        fc.array(fc.nat(), { maxLength: 12 }),
        (all, cuts) => {
          const wire = Buffer.concat(all.map((one) => one.wire));
          const heads: [Head, Buffer][] = [];
          const parser = new MessageParser(
            "request",
            { maxHeaderBytes: 65_536, maxMessageBytes: 10_000 },
            (head, bytes) => heads.push([head, bytes]),
          );
          let from = 0;
          for (const cut of [...cuts.map((one) => one % wire.length).toSorted((a, b) => a - b), wire.length]) {
            parser.push(wire.subarray(from, cut));
            from = cut;
          }
          expect(parser.idle).toBe(true);
          expect(heads.length).toBe(all.length);
          all.forEach((one, index) => {
            const [head, bytes] = heads[index] as [Head, Buffer];
            expect(bytes.equals(one.body)).toBe(true);
            expect(decodeValue(head.endpoint ?? "")).toBe(carried(one.endpoint));
            const received = head.metadata();
            for (const [name, value] of one.headers) {
              if (metadataLines(new Metadata([[name, value]])) !== "") expect(received.get(name)).toBe(carried(value));
            }
          });
        },
      ),
      budget,
    );
  });

  it("what a connection has seen before changes nothing: each message reads as if it came alone", () => {
    const lines = fc
      .array(fc.constantFrom("Micro-Stream: 1", "Micro-Id: 7", "X-Tag: a", "x-tag: \u00e9", "Connection: close"), {
        maxLength: 4,
      })
      .map((all) => all.map((line) => `${line}\r\n`).join(""));
    const length = fc.constantFrom("Content-Length: ", "content-length:", "Content-Length:  ", "X-Length: ");
    const one = fc.record({ before: lines, length, zeros: fc.constantFrom("", "0", "000"), after: lines, body });
    const run = fc
      .tuple(one, fc.array(body, { minLength: 1, maxLength: 4 }))
      .map(([first, bodies]) => bodies.map((bytes) => ({ ...first, body: bytes })));
    fc.assert(
      fc.property(
        fc.array(run, { minLength: 1, maxLength: 4 }),
        fc.array(fc.nat(), { maxLength: 8 }),
        fc.boolean(),
        (runs, cuts, asReply) => {
          const wires = runs.flat().map((message) => {
            const start = asReply ? "HTTP/1.1 200 OK\r\n" : "POST / HTTP/1.1\r\n";
            const bytes = message.length === "X-Length: " && !asReply ? Buffer.alloc(0) : message.body;
            const size = `${message.length}${message.zeros}${bytes.length}\r\n`;
            const head = `${start}Micro-Stream: 1\r\n${message.before}${size}${message.after}\r\n`;
            return Buffer.concat([Buffer.from(head, "latin1"), bytes]);
          });
          // A reply without a length goes on to the end of the connection.
          const unframed = asReply ? runs.flat().findIndex((message) => message.length === "X-Length: ") : -1;
          const framed = unframed === -1 ? wires : wires.slice(0, unframed);
          const kind = asReply ? "response" : "request";
          const alone = framed.flatMap((wire) => parse(kind, wire, [], true).messages);
          expect(parse(kind, Buffer.concat(framed), cuts, true)).toEqual({ messages: alone, failure: undefined });
          expect(alone.length).toBe(framed.length);
        },
      ),
      budget,
    );
  });

  it("a reply's error survives, whatever its text", () => {
    fc.assert(
      fc.property(text, metadata, (error, headers) => {
        const wire = `HTTP/1.1 200 OK\r\nContent-Length: 0\r\n${replyLines({ error, metadata: headers, body: Buffer.alloc(0) })}\r\n`;
        let seen: Head | undefined;
        new MessageParser("response", { maxHeaderBytes: 65_536, maxMessageBytes: 10 }, (head) => (seen = head)).push(
          Buffer.from(wire, "latin1"),
        );
        expect(decodeValue(seen?.error ?? "")).toBe(carried(error) || "unknown error");
      }),
      budget,
    );
  });

  it("damaged messages give the same result however they are split, and never another error", () => {
    const pieces = [
      "\r\n",
      "\n",
      "\r",
      "\0",
      ":",
      " ",
      "Content-Length: 5\r\n",
      "Transfer-Encoding: chunked\r\n",
      "\r\n\r\n",
      "5",
      "-",
      ";",
      "HTTP/1.0",
      "0\r\n\r\n",
      "\x16",
      "\x80",
      "a".repeat(300),
    ];
    const damage = fc.record({
      at: fc.nat(),
      remove: fc.integer({ min: 0, max: 30 }),
      insert: fc.oneof(fc.constantFrom(...pieces), fc.string({ unit: "binary-ascii", maxLength: 5 })),
    });
    fc.assert(
      fc.property(
        fc.array(requests, { minLength: 1, maxLength: 3 }),
        fc.array(damage, { maxLength: 4 }),
        fc.array(fc.nat(), { maxLength: 20 }),
        fc.boolean(),
        fc.boolean(),
        fc.constantFrom(1, 4),
        (all, damages, cuts, asReply, ends, repeats) => {
          let wire = Buffer.concat(all.flatMap((one) => Array.from({ length: repeats }, () => one.wire))).toString(
            "latin1",
          );
          if (repeats > 1) wire = wire.replaceAll("Accept:", "Micro-Stream: 4\r\nAccept:");
          if (asReply) wire = wire.replaceAll("POST / HTTP/1.1", "HTTP/1.1 200 OK");
          for (const { at, remove, insert } of damages) {
            const position = at % (wire.length + 1);
            wire = wire.slice(0, position) + insert + wire.slice(position + remove);
          }
          const bytes = Buffer.from(wire, "latin1");
          const kind = asReply ? "response" : "request";
          const whole = parse(kind, bytes, [], ends);
          expect(parse(kind, bytes, cuts, ends)).toEqual(whole);
          if (bytes.length < 600) {
            const each = Array.from({ length: bytes.length }, (_, index) => index);
            expect(parse(kind, bytes, each, ends)).toEqual(whole);
          }
        },
      ),
      budget,
    );
  });

  it("random bytes never get through as a message of their own making", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.array(fc.nat(), { maxLength: 5 }), (noise, cuts) => {
        for (const kind of ["request", "response"] as const) {
          const { messages } = parse(kind, Buffer.from(noise), cuts, true);
          expect(messages).toEqual([]);
        }
      }),
      budget,
    );
  });
});
