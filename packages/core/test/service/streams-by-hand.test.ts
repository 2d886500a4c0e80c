/** Streams of those who write HTTP themselves, and streams that are opened and never sent on. */
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { memoryRegistry } from "../../src/registry/memory.ts";
import { bidiHandler, clientStreamHandler } from "../../src/server/kinds.ts";
import { createService, type MicroService } from "../../src/service/service.ts";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { waitFor } from "../support/service.ts";

let service: MicroService;
let runs: string[];
const name = "counter";

beforeEach(async () => {
  runs = [];
  const options = { registry: memoryRegistry(), logger: silentLogger, address: "127.0.0.1:0", spreadMs: 0 };
  service = createService({ ...options, name, args: [], env: {}, handleSignals: false, drainTimeoutMs: 0 });
  service.handle("Counter", {
    async *count({ to }: { to: number }) {
      runs.push("count");
      for (let i = 1; i <= to; i++) yield { i };
    },
    sum: clientStreamHandler(async (numbers: AsyncIterable<unknown>) => {
      runs.push("sum");
      let n = 0;
      for await (const _ of numbers) n++;
      return { n };
    }),
    chat: bidiHandler(async function* (messages: AsyncIterable<unknown>) {
      runs.push("chat");
      yield* messages;
    }),
  });
  await service.start();
});

afterEach(() => service.stop());

const kinds = [
  ["Count", "server stream"],
  ["Sum", "client stream"],
  ["Chat", "bidirectional stream"],
] as const;

const request = (lines: string, body: string, method = "Count") =>
  `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nMicro-Endpoint: Counter.${method}\r\n${lines}Content-Length: ${body.length}\r\n\r\n${body}`;

describe("a stream over HTTP by hand", () => {
  for (const [method, kind] of kinds)
    for (const [what, headers] of [
      ["an endpoint", {}],
      ["the headers of old", { "X-Micro-Service": name }],
    ] as const)
      it(`is, in one request with ${what}, told how it is opened: ${kind}`, async () => {
        const reply = await fetch(`http://${service.address}`, {
          method: "POST",
          headers: { "Content-Type": "application/json", "Micro-Endpoint": `Counter.${method}`, ...headers },
          body: `{"to":2}`,
        });
        expect(JSON.parse(reply.headers.get("Micro-Error") ?? "")).toEqual({
          id: name,
          code: 400,
          status: "Bad Request",
          detail: `Counter.${method} is a ${kind}: use service.stream; over HTTP by hand, send the header Micro-Stream with an id of your own in a request without a body, then each message in a request with the same headers, on the same connection`,
        });
        expect(runs).toEqual([]);
      });

  for (const header of ["Micro-Stream", "X-Micro-Stream"])
    it(`comes with ${header} to who does what that says`, async () => {
      using raw = await RawSocket.connect(service.address!);
      raw.write(request(`${header}: mine\r\n`, "") + request(`${header}: mine\r\n`, `{"to":2}`));
      await raw.until((received) => received.includes("Micro-Error: EOS"), "the end of the stream");
      expect(raw.received).toContain(`{"i":1}`);
      expect(raw.received).toContain(`{"i":2}`);
    });
});

describe("a stream that is opened and never sent on", () => {
  for (const [method] of kinds) {
    it(`waits, and ends with its caller's deadline: ${method}`, async () => {
      using raw = await RawSocket.connect(service.address!);
      raw.write(request("Micro-Stream: mine\r\nTimeout: 200000000\r\n", "", method));
      await raw.until((received) => received.includes("\r\n\r\n"), "the end of the stream");
      expect(raw.received).toContain(`"code":408`);
    });

    it.each(["http", undefined] as const)(
      `ends with the caller's limits, and otherwise goes on: ${method}, %s`,
      async (wire) => {
        const caller = createService({
          name: "caller",
          registry: service.registry,
          wire,
          logger: silentLogger,
          args: [],
          env: {},
          handleSignals: false,
        });
        await caller.init();
        const outcome = async (options: object) => {
          const stream = await caller.stream(name, `Counter.${method}`, options);
          return stream.receive().catch((error: { code: string }) => error.code);
        };
        expect(await outcome({ streamTimeoutMs: 100 })).toBe("timeout");
        expect(await outcome({ streamIdleTimeoutMs: 100 })).toBe("timeout");
        const leave = new AbortController();
        let over = false;
        const waiting = outcome({ signal: leave.signal }).finally(() => (over = true));
        await delay(300);
        expect(over).toBe(false);
        leave.abort();
        expect(await waiting).toBe("aborted");
        await caller.stop();
        await waitFor(() => service.server.stats.inFlight === 0, "the server to let go of it");
      },
    );

    it(`ends with the service: ${method}`, async () => {
      using raw = await RawSocket.connect(service.address!);
      raw.write(request("Micro-Stream: mine\r\n", "", method));
      await waitFor(() => service.server.stats.inFlight === 1, "the stream");
      await service.stop();
      await raw.until((received) => received.includes("\r\n\r\n"), "the end of the stream");
      expect(raw.received).toContain(`"code":503`);
    });
  }

  it("runs no handler of a server stream: that has no request yet", async () => {
    using raw = await RawSocket.connect(service.address!);
    raw.write(request("Micro-Stream: mine\r\n", "", "Count") + request("Micro-Stream: other\r\n", "", "Chat"));
    await waitFor(() => runs.includes("chat"), "the other one");
    expect(runs).toEqual(["chat"]);
  });
});
