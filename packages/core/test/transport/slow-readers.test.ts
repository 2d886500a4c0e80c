/**
 * A reader may take as long as it likes over one message: nothing that watches for silence, or for messages that do not come,
 * may take it for a peer that is gone. On a clock that the test moves; the sockets are real.
 */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import type { ClientExchange, ServerExchange, ServerStream } from "../../src/transport/transport.ts";

/** Beyond every limit of silence: that of an idle connection is 5 minutes. */
const workMs = 15 * 60_000;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance"] });
});
afterEach(() => vi.useRealTimers());

async function turns(count = 4): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Time in which both ends get what the other one says. */
async function pass(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 1_000) {
    vi.advanceTimersByTime(Math.min(left, 1_000));
    await turns();
  }
}

/** Until `done` has not changed for a while: its sender waits. */
async function settled(done: () => number): Promise<void> {
  for (let last = -1, same = 0; same < 50; same++) {
    if (done() !== last) same = 0;
    last = done();
    await turns();
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turns(1);
}

interface Pair extends AsyncDisposable {
  readonly caller: ClientExchange;
  readonly exchange: ServerExchange;
  readonly handler: ServerStream;
}

async function connected(wire: string | undefined): Promise<Pair> {
  const server = httpTransport({ direct: false });
  const client = httpTransport({ direct: false });
  const exchanges: ServerExchange[] = [];
  const listener = await server.listen((one) => exchanges.push(one), { address: "127.0.0.1:0" });
  const request = { service: "s", endpoint: "A.B", contentType: "x", metadata: undefined, body: new Uint8Array(0) };
  const caller = await client.open(listener.address, request, { wire });
  await until(() => exchanges.length === 1);
  const exchange = exchanges[0] as ServerExchange;
  return {
    caller,
    exchange,
    handler: exchange.stream(),
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      const disposed = listener[Symbol.asyncDispose]();
      await pass(1_000);
      await disposed;
      await server[Symbol.asyncDispose]();
    },
  };
}

/** What comes while the reader works: how many messages of which size. */
const waiting: readonly [string, number, number][] = [
  ["and nothing else comes", 0, 0],
  ["and small ones wait", 20, 100],
  ["and ones wait that leave a little of the window", 20, 20_000],
  ["and larger ones than the window wait", 20, 300_000],
];

describe.each([
  ["HTTP/1.1", undefined],
  ["the fast wire", httpTransport().wire],
])("on %s", (_name, wire) => {
  it.each(waiting)("a handler may take its time over one message, %s", async (_when, count, size) => {
    await using pair = await connected(wire);
    const { caller, handler, exchange } = pair;
    await caller.send(Buffer.from("first"));
    expect(Buffer.from((await handler.receive()) ?? []).toString()).toBe("first");
    let sent = 0;
    const sending = (async () => {
      for (let index = 0; index < count; index++) {
        await caller.send(Buffer.alloc(size, index));
        sent++;
      }
      caller.closeSend();
    })();
    // It is told below; a stream that is cut fails there first.
    sending.catch(() => {});
    await settled(() => sent);
    await pass(workMs);
    expect(exchange.cancellation.reason).toBeUndefined();
    let read = 0;
    for (let body = await handler.receive(); body !== undefined; body = await handler.receive()) {
      expect([body.length, body[0]]).toEqual([size, read++]);
      await pass(2_000);
    }
    await sending;
    expect(read).toBe(count);
    await handler.send({ body: Buffer.from("done") });
    handler.end();
    expect(Buffer.from((await caller.receive())?.body ?? []).toString()).toBe("done");
    expect(await caller.receive()).toBeUndefined();
  });

  it.each(waiting)("a caller may take its time over one message, %s", async (_when, count, size) => {
    await using pair = await connected(wire);
    const { caller, handler, exchange } = pair;
    await handler.send({ body: Buffer.from("first") });
    expect(Buffer.from((await caller.receive())?.body ?? []).toString()).toBe("first");
    let sent = 0;
    const sending = (async () => {
      for (let index = 0; index < count; index++) {
        await handler.send({ body: Buffer.alloc(size, index) });
        sent++;
      }
      await handler.receive();
      handler.end();
    })();
    sending.catch(() => {});
    await settled(() => sent);
    await pass(workMs);
    expect(exchange.cancellation.reason).toBeUndefined();
    let read = 0;
    while (read < count) {
      const { body } = (await caller.receive()) ?? { body: [] };
      expect([body.length, body[0]]).toEqual([size, read++]);
      await pass(2_000);
    }
    // It is still there for what its caller says.
    caller.closeSend();
    await sending;
    expect(await caller.receive()).toBeUndefined();
  });
});
