/** Random interleavings of both ends of many exchanges on one connection, held against a model of what must arrive. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { Metadata } from "../../src/metadata.ts";
import { faultProxy } from "@micro/testing";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import type { ClientExchange, ServerExchange, ServerStream } from "../../src/transport/transport.ts";
import { waitFor } from "../support/raw-socket.ts";

const wire = "micro/1";

/** What happens to one exchange, a step at a time. */
type Step =
  | { readonly side: "client" | "server"; readonly do: "send"; readonly size: number }
  | { readonly side: "client" | "server"; readonly do: "end" }
  | { readonly side: "client"; readonly do: "cancel" }
  | { readonly side: "server"; readonly do: "fail" };

const size = fc.oneof(
  { weight: 6, arbitrary: fc.nat(200) },
  { weight: 2, arbitrary: fc.integer({ min: 30_000, max: 70_000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 100_000, max: 400_000 }) },
);
const side = fc.constantFrom("client" as const, "server" as const);
const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ side, do: fc.constant("send" as const), size }) },
  { weight: 2, arbitrary: fc.record({ side, do: fc.constant("end" as const) }) },
  { weight: 1, arbitrary: fc.constant({ side: "client" as const, do: "cancel" as const }) },
  { weight: 1, arbitrary: fc.constant({ side: "server" as const, do: "fail" as const }) },
);

/** Bytes that tell which message of which stream they are. */
function message(stream: number, index: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length).fill((stream * 31 + index * 7) & 0xff);
  if (length > 4) bytes.set([stream, index, length >> 8, length & 0xff]);
  return bytes;
}

interface Half {
  /** What was sent, as far as the sender could. */
  readonly sent: Uint8Array[];
  readonly received: Uint8Array[];
  ended: boolean;
}

class Stream {
  readonly number: number;
  readonly toServer: Half = { sent: [], received: [], ended: false };
  readonly toClient: Half = { sent: [], received: [], ended: false };
  client!: ClientExchange;
  server: ServerStream | undefined;
  exchange: ServerExchange | undefined;
  over: "no" | "ended" | "failed" | "cancelled" = "no";
  clientOutcome = "reading";
  serverOutcome = "reading";

  constructor(number: number) {
    this.number = number;
  }

  do(step: Step): void {
    if (this.over !== "no") return;
    if (step.side === "client") {
      if (step.do === "cancel") {
        this.over = "cancelled";
        this.client.cancel();
      } else if (!this.toServer.ended) {
        if (step.do === "end") {
          this.toServer.ended = true;
          this.client.closeSend();
        } else if (step.do === "send") this.#send(this.toServer, step.size, (body) => this.client.send(body));
      }
      return;
    }
    if (step.do === "send")
      this.#send(this.toClient, step.size, (body) => this.server!.send({ contentType: "x", body }));
    else {
      this.over = step.do === "end" ? "ended" : "failed";
      this.server!.end(step.do === "end" ? undefined : { error: "broken", body: new Uint8Array(0) });
    }
  }

  #send(half: Half, length: number, send: (body: Uint8Array) => void | Promise<void>): void {
    const body = message(this.number, half.sent.length, length);
    half.sent.push(body);
    Promise.resolve(send(body)).catch(() => {});
  }

  async readAsClient(): Promise<void> {
    try {
      for (;;) {
        const next = await this.client.receive();
        if (next === undefined) {
          this.clientOutcome = "end";
          return;
        }
        if (next.error !== undefined) this.clientOutcome = next.error;
        else this.toClient.received.push(next.body);
        if (next.error !== undefined) return;
      }
    } catch (error) {
      this.clientOutcome = MicroError.is(error) ? error.code : String(error);
    }
  }

  async readAsServer(): Promise<void> {
    try {
      for (;;) {
        const next = await this.server!.receive();
        if (next === undefined) {
          this.serverOutcome = "end";
          return;
        }
        this.toServer.received.push(next);
      }
    } catch (error) {
      this.serverOutcome = MicroError.is(error) ? error.code : String(error);
    }
  }
}

function isPrefix(part: readonly Uint8Array[], whole: readonly Uint8Array[]): boolean {
  return part.length <= whole.length && part.every((body, index) => Buffer.from(whole[index]!).equals(body));
}

function request(endpoint: string, number: number, body: Uint8Array) {
  return {
    service: "test",
    endpoint,
    contentType: "x",
    metadata: new Metadata({ "X-Number": String(number), "X-Same": "always" }),
    body,
  };
}

async function fixture() {
  const transport = httpTransport();
  const client = httpTransport({ direct: false });
  const streams = new Map<string, Stream>();
  const listener = await transport.listen(
    (exchange) => {
      if (exchange.endpoint === "T.Call") {
        // Replies come in an order of their own.
        const delay = exchange.body.length % 3;
        const reply = () =>
          exchange.reply({
            contentType: "x",
            body: exchange.body,
            metadata: new Metadata({ "X-Echo": exchange.header.get("X-Number") ?? "" }),
          });
        if (delay === 0) reply();
        else if (delay === 1) queueMicrotask(reply);
        else setImmediate(reply);
        return;
      }
      const stream = streams.get(exchange.header.get("X-Number") ?? "")!;
      stream.exchange = exchange;
      stream.server = exchange.stream();
    },
    { address: "127.0.0.1:0" },
  );
  return {
    address: listener.address,
    call: async (address: string, number: number, length: number) => {
      const body = message(number, 0, length);
      const reply = await client.call(address, request("T.Call", number, body), {
        wire,
        deadline: performance.now() + 20_000,
      });
      expect(reply.header.get("X-Echo")).toBe(String(number));
      expect(Buffer.from(reply.body).equals(body)).toBe(true);
    },
    async open(address: string, number: number): Promise<Stream> {
      const stream = new Stream(number);
      streams.set(String(number), stream);
      stream.client = await client.open(address, request("T.Stream", number, new Uint8Array(0)), { wire });
      await waitFor(() => stream.server !== undefined, "the stream arrives");
      return stream;
    },
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      await listener[Symbol.asyncDispose]();
      await transport[Symbol.asyncDispose]();
    },
  };
}

describe("many exchanges on one connection", () => {
  it("carry what they were given, each for itself, however they are interleaved", async () => {
    await using bench = await fixture();
    let number = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 6 }),
        fc.array(fc.tuple(fc.nat(5), steps, fc.nat(9)), { minLength: 5, maxLength: 60 }),
        fc.array(size, { maxLength: 8 }),
        async (count, script, calls) => {
          const streams: Stream[] = [];
          for (let index = 0; index < count; index++) streams.push(await bench.open(bench.address, number++));
          // Some read from the start, others late: theirs are the windows that fill.
          const reading: Promise<void>[] = [];
          const late: (() => void)[] = [];
          streams.forEach((stream, index) => {
            const start = () => void reading.push(stream.readAsClient(), stream.readAsServer());
            if (index % 2 === 0) start();
            else late.push(start);
          });
          const pending = calls.map((length) => bench.call(bench.address, number++, length));
          for (const [which, one, pause] of script) {
            streams[which % count]!.do(one);
            if (pause === 0) await new Promise((resolve) => setImmediate(resolve));
          }
          await Promise.all(pending);
          for (const start of late) start();
          for (const stream of streams) if (stream.over === "no") stream.do({ side: "server", do: "end" });
          await Promise.all(reading);
          for (const stream of streams) {
            expect(isPrefix(stream.toClient.received, stream.toClient.sent)).toBe(true);
            expect(isPrefix(stream.toServer.received, stream.toServer.sent)).toBe(true);
            if (stream.over === "cancelled") {
              expect(stream.clientOutcome).toBe("aborted");
              await waitFor(() => stream.exchange?.cancellation.reason?.code === "aborted", "the handler hears of it");
            } else {
              expect(stream.clientOutcome).toBe(stream.over === "failed" ? "broken" : "end");
              expect(stream.toClient.received.length).toBe(stream.toClient.sent.length);
            }
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  it("end each with one clear outcome when the connection is cut anywhere", async () => {
    await using bench = await fixture();
    let number = 10_000;
    await fc.assert(
      fc.asyncProperty(
        fc.nat(200_000),
        fc.array(size, { minLength: 1, maxLength: 10 }),
        async (cutAfterBytes, sizes) => {
          await using proxy = await faultProxy({ target: bench.address });
          const stream = await bench.open(proxy.address, number++);
          const reading = [stream.readAsClient(), stream.readAsServer()];
          proxy.set({ toTarget: { cutAfterBytes } });
          const calls = await Promise.allSettled(sizes.map((length) => bench.call(proxy.address, number++, length)));
          for (const outcome of calls) {
            if (outcome.status === "fulfilled") continue;
            expect(outcome.reason).toMatchObject({ code: "unavailable" });
          }
          proxy.cut();
          await Promise.all(reading);
          expect(stream.clientOutcome).toBe("unavailable");
          expect(stream.serverOutcome).toBe("aborted");
          expect(stream.exchange?.cancellation.reason?.code).toBe("aborted");
        },
      ),
      { numRuns: 20 },
    );
  });
});
