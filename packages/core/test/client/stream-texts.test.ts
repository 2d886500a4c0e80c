import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import { errorOf, Fleet } from "./support/fleet.ts";

/** Around every size at which messages take another way: copied by hand, packed, of their own, cut. */
const sizes = [0, 1, 36, 37, 38, 49, 120, 127, 128, 1000, 1012, 1024, 1360, 1366, 5000, 32_768, 70_000];
const alphabets = ["a", "é", "\u{1f600}", "\u2028", "\ufffd", '"\\', "\n", "\u0000", "__proto__"];

function texts(): string[] {
  const list: string[] = [];
  for (const size of sizes) for (const letters of alphabets) list.push(letters.repeat(size / letters.length));
  // Bursts of small ones, some of which are not ASCII.
  for (let index = 0; index < 3000; index++) list.push(index % 700 === 0 ? `é${index}` : String(index));
  return list;
}

for (const transport of ["fast", "http", "memory"] as const) {
  describe(`text in streams over ${transport}`, () => {
    it("arrives as it was sent, whatever its size and letters", async () => {
      const sent = texts();
      await using fleet = new Fleet({ transport });
      await fleet.serve("flow", (handlers) =>
        handlers.handle("Flow", {
          *down() {
            for (const text of sent) yield { text };
          },
        }),
      );
      const received: unknown[] = [];
      const stream = await fleet.connect().stream("flow", "Flow.Down");
      await stream.send({});
      for await (const message of stream) {
        received.push((message as { text: string }).text);
        // A reader that is slow now and then: what waits is packed.
        if (received.length % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      expect(received).toEqual(sent);
    });
  });
}

describe("what is no message in a stream on the fast wire", () => {
  const cases = {
    "bytes that are not UTF-8": [Buffer.from([0x7b, 0x22, 0xc3, 0x22, 0x7d]), "not UTF-8"],
    "no JSON": [Buffer.from("{oops"), "invalid JSON"],
    "an empty body": [new Uint8Array(0), "the body is empty"],
    "a key that reaches for the prototype": [Buffer.from('{"__proto__":{"a":1}}'), "__proto__"],
    "the same with an escape": [Buffer.from('{"__pr\\u006fto__":1}'), "__proto__"],
  } as const;
  for (const [what, [bad, says]] of Object.entries(cases)) {
    it(`${what} is an error of the reader, behind what came before`, async () => {
      await using server = httpTransport();
      await using listener = await server.listen(
        (exchange) => {
          const stream = exchange.stream();
          const contentType = "application/json";
          for (let n = 0; n < 5; n++) void stream.send({ contentType, body: Buffer.from(`{"n":${n}}`) });
          void stream.send({ contentType, body: bad });
          void stream.send({ contentType, body: Buffer.from('{"n":6}') });
        },
        { address: "127.0.0.1:0" },
      );
      await using fleet = new Fleet({ transport: "fast" });
      await fleet.register("flow", "flow-1", listener.address);
      const stream = await fleet.connect().stream("flow", "Flow.Down");
      await stream.send({});
      const received: unknown[] = [];
      const error = await errorOf(
        (async () => {
          for await (const message of stream) received.push(message);
        })(),
      );
      expect(received).toEqual([0, 1, 2, 3, 4].map((n) => ({ n })));
      expect(MicroError.is(error)).toBe(true);
      expect(error.code).toBe("codec");
      expect(error.detail).toContain(says);
    });
  }
});
