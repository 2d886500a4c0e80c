import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Metadata } from "../../src/metadata.ts";
import { DictionaryReader, DictionaryWriter } from "../../src/transport/fast/dictionary.ts";
import { ExchangeTable } from "../../src/transport/fast/exchange-table.ts";
import { FrameReader, frameType, maxPayloadBytes, WireError } from "../../src/transport/fast/frames.ts";
import type { FrameWriter } from "../../src/transport/fast/frame-writer.ts";
import { readFields, messageFields } from "../../src/transport/fast/message.ts";
import { defaultSettings, encodePreface, parsePreface, wireVersion } from "../../src/transport/fast/preface.ts";

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly payload: Uint8Array;
}

function encode({ type, flags, id, payload }: Frame): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt16BE(payload.length, 0);
  head[2] = type;
  head[3] = flags;
  head.writeUInt32BE(id, 4);
  return Buffer.concat([head, payload]);
}

const payloads = fc.oneof(
  { weight: 5, arbitrary: fc.uint8Array({ maxLength: 40 }) },
  { weight: 1, arbitrary: fc.nat(maxPayloadBytes).map((length) => new Uint8Array(length).fill(length & 0xff)) },
);
const frames = fc.record({ type: fc.nat(255), flags: fc.nat(255), id: fc.nat(0x7fff_ffff), payload: payloads });

describe("frames", () => {
  it("are the same however they are cut, and with pauses anywhere", () => {
    fc.assert(
      fc.property(
        fc.array(frames, { maxLength: 20 }),
        fc.array(fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 70_000 })), { minLength: 1 }),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 10 }),
        (sent, cuts, holds) => {
          const bytes = Buffer.concat(sent.map(encode));
          const seen: Frame[] = [];
          const reader = new FrameReader((type, flags, id, chunk, start, end) =>
            seen.push({ type, flags, id, payload: Uint8Array.from(chunk.subarray(start, end)) }),
          );
          let at = 0;
          for (let index = 0; at < bytes.length; index++) {
            if (holds[index % holds.length] === true) reader.hold();
            const end = at + cuts[index % cuts.length]!;
            reader.push(bytes.subarray(at, end));
            at = end;
            reader.release();
          }
          expect(seen).toEqual(sent.map((frame) => ({ ...frame, payload: Uint8Array.from(frame.payload) })));
          expect(reader.inside).toBe(false);
        },
      ),
      { numRuns: 150 },
    );
  });
});

describe("a preface", () => {
  it("is read back, however much of it is there", () => {
    const settings = {
      maxMessageBytes: 5000,
      maxHeaderBytes: 300,
      maxExchanges: 7,
      maxDictionaryIds: 9,
      extensions: 3,
    };
    const bytes = encodePreface({ lowest: 1, highest: 3, chosen: 2, settings });
    for (let length = 1; length < bytes.length; length++)
      expect(parsePreface(bytes.subarray(0, length))).toBe(undefined);
    expect(parsePreface(Buffer.concat([bytes, Buffer.from("more")]))).toEqual({
      preface: { lowest: 1, highest: 3, chosen: 2, settings },
      length: bytes.length,
    });
  });

  it("may have settings nobody knows, and lack those that are known", () => {
    const bytes = encodePreface({ lowest: 1, highest: 1, chosen: 0, settings: defaultSettings });
    for (let at = 14; at < bytes.length; at += 5) bytes[at] = 200;
    expect(parsePreface(bytes)?.preface.settings).toEqual(defaultSettings);
  });

  it.each([
    ["another magic", (bytes: Buffer) => (bytes[3] = 0x20)],
    ["version 0", (bytes: Buffer) => (bytes[8] = 0)],
    ["versions in the wrong order", (bytes: Buffer) => (bytes[8] = 9)],
    ["half a setting", (bytes: Buffer) => bytes.writeUInt16BE(7, 12)],
    ["too many settings", (bytes: Buffer) => bytes.writeUInt16BE(2000, 12)],
  ])("is refused with %s", (_name, spoil) => {
    const bytes = encodePreface({ lowest: wireVersion, highest: wireVersion, chosen: 0, settings: defaultSettings });
    spoil(bytes);
    expect(() => parsePreface(bytes)).toThrow();
  });

  it("of random bytes never reads as more than what is there", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (tail) => {
        const bytes = Buffer.concat([Buffer.from("\0micro\r\n", "latin1"), tail]);
        try {
          const read = parsePreface(bytes);
          if (read !== undefined) expect(read.length).toBeLessThanOrEqual(bytes.length);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
      { numRuns: 500 },
    );
  });
});

/** Both halves of a dictionary, joined by the frames the one writes. */
function dictionaries(maxDictionaryIds = 1024, maxHeaderBytes = 65_536) {
  const settings = { ...defaultSettings, maxDictionaryIds, maxHeaderBytes };
  const reader = new DictionaryReader(settings);
  let defined = 0;
  const writer = new DictionaryWriter(
    {
      frame(type: number, flags: number, id: number, payload: Uint8Array) {
        expect([type, flags, id]).toEqual([frameType.define, 0, 0]);
        defined++;
        reader.define(payload, 0, payload.length);
      },
    } as unknown as FrameWriter,
    settings,
  );
  return { reader, writer, defined: () => defined };
}

const body = new Uint8Array(0);

// As a peer may have sent it: what a program may set is less.
const asSent = (entries: [string, string][]): Metadata =>
  entries.reduce((metadata, [key, text]) => metadata.keep(key, text), new Metadata());

describe("the dictionary", () => {
  it("carries any routes and metadata, in any order, within small limits", () => {
    const name = fc.constantFrom("X-A", "X-B", "X-C", "Traceparent", "Micro-From-Service", "Micro-Endpoint");
    const value = fc.oneof(fc.constantFrom("", "1", "always the same", "é漢🙂\r\n"), fc.string({ maxLength: 60 }));
    const request = fc.record({
      service: fc.constantFrom("a", "b"),
      endpoint: fc.oneof(fc.constantFrom("A.B", "C.D"), fc.string({ maxLength: 30 })),
      contentType: fc.constantFrom("application/json", "x"),
      accept: fc.constantFrom(undefined, "y"),
      metadata: fc.option(fc.array(fc.tuple(name, value), { maxLength: 5 }).map(asSent), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 60 }), fc.integer({ min: 8, max: 20 }), (requests, ids) => {
        const { reader, writer } = dictionaries(ids, 400);
        for (const one of requests) {
          const route = writer.route({ ...one, body });
          const fields = writer.fields(one.metadata);
          const { service, endpoint, contentType, accept } = reader.route(route);
          expect({ service, endpoint, contentType, accept }).toEqual({
            ...one,
            metadata: undefined,
            accept: one.accept ?? one.contentType,
          });
          const read = reader.fields(fields, 0, fields.length);
          const expected = [...(one.metadata ?? [])].filter(([field]) => field !== "Micro-Endpoint").flat();
          expect(read).toEqual(expected);
        }
      }),
      { numRuns: 200 },
    );
  });

  it("sends what repeats once, and notices metadata that was changed", () => {
    const { reader, writer, defined } = dictionaries();
    const metadata = new Metadata({ "X-A": "1", "X-B": "2" });
    const request = { service: "a", endpoint: "A.B", contentType: "x", metadata, body };
    const sizes = Array.from({ length: 5 }, () => {
      writer.route(request);
      return writer.fields(metadata).length;
    });
    expect(sizes).toEqual([20, 4, 4, 4, 4]);
    expect(defined()).toBe(3);
    metadata.set("X-B", "3");
    const changed = writer.fields(metadata);
    expect(reader.fields(changed, 0, changed.length)).toEqual(["X-A", "1", "X-B", "3"]);
  });

  it.each([
    ["id 0", [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]],
    ["an id above the limit", [0xff, 0xff, 2, 0, 0, 0, 0]],
    ["a gap", [0, 9, 2, 0, 0, 0, 0]],
    ["an unknown kind", [0, 1, 3, 0, 0, 0, 0]],
    ["a text longer than the frame", [0, 1, 2, 0, 9, 65, 0, 0]],
    ["bytes behind its texts", [0, 1, 2, 0, 0, 0, 0, 7]],
    ["forgetting a single id", [0, 1, 0]],
    ["no kind", [0, 1]],
  ])("refuses %s", (_name, frame) => {
    const { reader } = dictionaries();
    expect(() => reader.define(Buffer.from(frame), 0, frame.length)).toThrow(WireError);
  });

  it("takes no more text than its limit, counting what lives", () => {
    const { reader } = dictionaries(1024, 100);
    const field = (id: number, length: number) => {
      const bytes = Buffer.from([0, id, 2, 0, 1, 65, 0, length, ...Buffer.alloc(length, 66)]);
      reader.define(bytes, 0, bytes.length);
    };
    for (let time = 0; time < 50; time++) field(1, 90);
    expect(() => field(2, 10)).toThrow(/more than 100 bytes/);
  });
});

describe("fields of a message", () => {
  it("are read back, and never beyond their frame", () => {
    const text = fc.string({ maxLength: 40 });
    fc.assert(
      fc.property(
        fc.option(text, { nil: undefined }),
        fc.option(text, { nil: undefined }),
        fc.option(fc.array(fc.tuple(fc.constantFrom("X-A", "X-B"), text)), { nil: undefined }),
        fc.nat(100),
        (contentType, error, entries, cut) => {
          const metadata = entries === undefined ? undefined : new Metadata(entries);
          const { flags, bytes } = messageFields({ contentType, error, metadata, body }, "x");
          const read = readFields(flags, bytes, 0, bytes.length, "x");
          expect(read.contentType).toBe(contentType ?? "");
          expect(read.error).toBe(error === "" ? "unknown error" : error);
          expect(read.fields).toEqual([...(metadata ?? [])].flat());
          expect(read.bodyStart).toBe(bytes.length);
          if (cut < bytes.length) expect(() => readFields(flags, bytes, 0, cut, "x")).toThrow(WireError);
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe("the table of exchanges", () => {
  it("behaves like a map, also when many places are taken", () => {
    const command = fc.tuple(fc.boolean(), fc.nat(4000));
    fc.assert(
      fc.property(fc.array(command, { maxLength: 300 }), (commands) => {
        const table = new ExchangeTable<{ numericId: number }>();
        const model = new Map<number, { numericId: number }>();
        for (const [add, number] of commands) {
          const numericId = number * 2 + 1;
          if (add && !model.has(numericId)) {
            const entry = { numericId };
            table.add(entry);
            model.set(numericId, entry);
          } else expect(table.delete(numericId)).toBe(model.delete(numericId));
          expect(table.get(numericId)).toBe(model.get(numericId));
          expect(table.size).toBe(model.size);
        }
        expect(new Set(table.all())).toEqual(new Set(model.values()));
      }),
    );
  });
});
