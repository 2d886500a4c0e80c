/** What strangers make a port keep, driven to its bounds: nothing grows past them, honest callers are served, and all is given back. */
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { once } from "node:events";
import { afterEach, describe, expect, it } from "vitest";
import { ByteAccount, processKept, processUnfinished, processUnsent } from "../../src/net/byte-account.ts";
import { sweepLimits, portLimits } from "../../src/net/port-limits.ts";
import { httpTransport, type HttpTransportOptions } from "../../src/transport/http/http-transport.ts";
import { PlainRequests } from "../../src/transport/http/plain-requests.ts";
import { ServerConnection } from "../../src/transport/http/server-connection.ts";
import type { ExchangeHandler, ServerExchange, ServerStream } from "../../src/transport/transport.ts";
import { RawSocket, waitFor } from "../support/raw-socket.ts";

const maxMessageBytes = 400_000;
const call = "POST / HTTP/1.1\r\nHost: x\r\nMicro-Endpoint: T.M\r\nContent-Type: application/json\r\n";

const echo: ExchangeHandler = (exchange) => exchange.reply({ body: Buffer.from(String(exchange.body.length)) });

async function serve(options: HttpTransportOptions, handler: ExchangeHandler = echo) {
  const transport = httpTransport(options);
  const listener = await transport.listen(handler, { address: "127.0.0.1:0", maxMessageBytes });
  return {
    address: listener.address,
    async [Symbol.asyncDispose]() {
      await listener[Symbol.asyncDispose]();
      await transport[Symbol.asyncDispose]();
    },
  };
}

afterEach(async () => {
  await waitFor(() => processUnfinished.bytes + processUnsent.bytes === 0, "everything is given back");
  expect(processUnfinished.holders + processUnsent.holders).toBe(0);
});

/** Answered in full, on a connection of its own. */
async function works(address: string, length = 1_000): Promise<void> {
  using raw = await RawSocket.connect(address);
  raw.write(`${call}Content-Length: ${length}\r\n\r\n`);
  raw.write("a".repeat(length));
  await raw.until((received) => received.endsWith(`\r\n\r\n${length}`), "an honest call");
}

describe("messages that are not complete", () => {
  it.each([
    ["bodies with a length", `${call}Content-Length: 400000\r\n\r\n`, "a".repeat(300_000)],
    ["bodies in chunks", `${call}Transfer-Encoding: chunked\r\n\r\n`, `493e0\r\n${"a".repeat(0x493e0)}\r\n`],
    ["headers", call, `X: ${"a".repeat(300_000)}`],
  ])("%s are bounded in bytes; who has taken longest goes, and is told", async (_name, head, rest) => {
    await using server = await serve({ maxUnfinishedBytes: 1_000_000 });
    const hoarders: RawSocket[] = [];
    let most = 0;
    for (let index = 0; index < 12; index++) {
      const raw = await RawSocket.connect(server.address);
      hoarders.push(raw);
      raw.write(head + rest);
      const closed = () => hoarders.filter((one) => one.closed).length;
      await waitFor(() => processUnfinished.holders + closed() === index + 1, "it is kept, or another is let go");
      most = Math.max(most, processUnfinished.bytes);
    }
    expect(most).toBeLessThanOrEqual(1_000_000);
    expect(most).toBeGreaterThan(500_000);
    // The first came first, and went first.
    const left = hoarders.map((raw) => raw.closed);
    expect(left).toEqual(left.toSorted((a, b) => Number(b) - Number(a)));
    expect(hoarders[0]?.received).toMatch(
      /^HTTP\/1\.1 200 OK\r\n.*Micro-Error: \{[^\r]*"code":503[^\r]*\}\r\n.*Micro-Retry: not-run\r\n/s,
    );
    await works(server.address, 400_000);
    for (const raw of hoarders) raw.socket.destroy();
  });

  it("many promises cost nothing: what is kept follows what has come", async () => {
    await using server = await serve({});
    const raws = await Promise.all(Array.from({ length: 50 }, () => RawSocket.connect(server.address)));
    for (const raw of raws) raw.write(`${call}Content-Length: 400000\r\n\r\nabc`);
    await waitFor(() => processUnfinished.holders === 50, "all are half there");
    expect(processUnfinished.bytes).toBeLessThanOrEqual(50 * 4 * 3);
    for (const raw of raws) raw.socket.destroy();
  });

  it("headers of 100 kB are taken, as Go takes them", async () => {
    await using server = await serve({});
    using raw = await RawSocket.connect(server.address);
    raw.write(`${call}X-Large: ${"a".repeat(100_000)}\r\nContent-Length: 2\r\n\r\n{}`);
    await raw.until((received) => received.endsWith("\r\n\r\n2"), "the reply");
  });

  it("after each way to end nothing is counted, and the limit admits what it should", async () => {
    await using server = await serve({ maxUnfinishedBytes: 800_000 });
    const half = `${call}Content-Length: 300000\r\n\r\n${"a".repeat(200_000)}`;
    const ways: ((raw: RawSocket) => void)[] = [
      (raw) => raw.socket.destroy(),
      (raw) => raw.socket.end(),
      (raw) => raw.socket.resetAndDestroy(),
      (raw) => raw.write("a".repeat(100_000)),
      (raw) => raw.write(`${"a".repeat(100_000)}GET /bad\r\n\r\n`),
    ];
    for (const end of [...ways, ...ways]) {
      using raw = await RawSocket.connect(server.address);
      raw.write(half);
      await waitFor(() => processUnfinished.bytes > 0, "half is there");
      end(raw);
      await waitFor(() => processUnfinished.bytes === 0, "nothing is kept any more");
      await works(server.address);
    }
  });
});

describe("replies that are not taken", () => {
  it("are bounded in bytes; who has been slow for longest goes", async () => {
    const answer = Buffer.alloc(4_000_000, "x");
    let answered = 0;
    await using server = await serve({ maxUnsentBytes: 10_000_000 }, (exchange) => {
      exchange.reply({ body: exchange.body.length > 0 ? exchange.body : answer });
      answered++;
    });
    const slow: RawSocket[] = [];
    for (let index = 0; index < 8; index++) {
      const raw = await RawSocket.connect(server.address);
      raw.socket.pause();
      slow.push(raw);
      raw.write(`${call}\r\n`.repeat(2));
      // What waits of a reply is counted as it is given; the second is not asked for before the first is gone.
      await waitFor(() => answered > index, "its first reply waits");
      expect(processUnsent.bytes).toBeLessThanOrEqual(10_000_000);
    }
    expect(processUnsent.holders).toBeLessThan(slow.length);
    using honest = await RawSocket.connect(server.address);
    honest.write(`${call}Content-Length: 2\r\n\r\n{}`);
    await honest.until((received) => received.endsWith("{}"), "the reply");
    for (const raw of slow) raw.socket.destroy();
  });

  it("who takes nothing for as long as it may be idle is dropped", async () => {
    const limits = sweepLimits(portLimits({ idleTimeoutMs: 120_000 }, maxMessageBytes));
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const peer = connect((server.address() as AddressInfo).port, "127.0.0.1");
    peer.pause();
    const [socket] = (await once(server, "connection")) as [Socket];
    const connection = new ServerConnection(
      {
        limits: { maxHeaderBytes: 1_000, maxMessageBytes },
        fastLimits: { maxHeaderBytes: 1_000, maxMessageBytes },
        maxExchangesPerConnection: 10,
        maxRunningBytes: 1e9,
        runningBytes: 0,
        unfinished: new ByteAccount(1e9),
        unsent: new ByteAccount(1e9, processUnsent),
        kept: new ByteAccount(1_000_000, undefined, "largest"),
        plain: new PlainRequests(undefined, undefined),
        tick: 0,
        handler: (exchange) => exchange.reply({ body: Buffer.alloc(8_000_000) }),
        address: "",
        gone: () => {},
      },
      socket,
    );
    connection.receive(Buffer.from(`${call}\r\n`));
    expect(processUnsent.bytes).toBeGreaterThan(1_000_000);
    let tick = 1;
    while (!socket.destroyed && tick < 1_000) connection.sweep(tick++, limits);
    expect(tick).toBeGreaterThan(120);
    expect(tick).toBeLessThan(125);
    peer.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
});

function streamMessage(id: number): string {
  return `${call}Micro-Id: ${id}\r\nMicro-Stream: ${id}\r\nContent-Length: 50000\r\n\r\n${"a".repeat(50_000)}`;
}

/** The four that come after the first. */
async function readAll(stream: ServerStream): Promise<void> {
  for (let index = 0; index < 4; index++) expect((await stream.receive())?.length).toBe(50_000);
}

describe("requests whose handlers run", () => {
  it("one connection keeps no more of them than one message, and goes on as they end", async () => {
    const running: ServerExchange[] = [];
    await using server = await serve({}, (exchange) => void running.push(exchange));
    using raw = await RawSocket.connect(server.address);
    for (let index = 0; index < 6; index++)
      raw.write(`${call}Micro-Id: ${index}\r\nContent-Length: 300000\r\n\r\n${"a".repeat(300_000)}`);
    for (let index = 0; index < 6; index++) {
      await waitFor(() => running.length > index, "the next");
      expect(running.length).toBeLessThanOrEqual(index + 2);
      running[index]?.reply({ body: Buffer.alloc(0) });
    }
  });

  it("a stream that began with a large message does not count it", async () => {
    const streams: ServerExchange[] = [];
    await using server = await serve({}, (exchange) => {
      exchange.stream();
      streams.push(exchange);
    });
    using raw = await RawSocket.connect(server.address);
    for (let index = 0; index < 4; index++)
      raw.write(`${call}Micro-Id: ${index}\r\nContent-Length: 300000\r\n\r\n${"a".repeat(300_000)}`);
    await waitFor(() => streams.length === 4, "all run");
  });

  it("all connections together are bounded: further ones are refused as not run, until there is room", async () => {
    const running: ServerExchange[] = [];
    await using server = await serve({ maxRunningBytes: 500_000 }, (exchange) =>
      exchange.body.length > 1_000 ? void running.push(exchange) : echo(exchange),
    );
    const large = `${call}Content-Length: 300000\r\n\r\n${"a".repeat(300_000)}`;
    for (const way of ["answered", "given up"]) {
      running.length = 0;
      using first = await RawSocket.connect(server.address);
      first.write(large);
      await waitFor(() => running.length === 1, "the first runs");
      using second = await RawSocket.connect(server.address);
      second.write(large);
      await second.until((received) => received.includes("\r\n\r\n"), "the refusal");
      expect(second.received).toMatch(/"code":503.*Micro-Retry: not-run/s);
      expect(running.length).toBe(1);
      if (way === "answered") running[0]?.reply({ body: Buffer.alloc(0) });
      else first.socket.destroy();
      await waitFor(() => first.received !== "" || running[0]?.cancellation.reason !== undefined, "it is over");
      if (way === "given up") {
        // Its handler has the request until it ends.
        using other = await RawSocket.connect(server.address);
        other.write(large);
        await other.until((received) => received.includes("not-run"), "the refusal");
        running[0]?.reply({ body: Buffer.alloc(0) });
      }
      using third = await RawSocket.connect(server.address);
      third.write(large);
      await waitFor(() => running.length === 2, "there is room again");
      for (const exchange of running) exchange.reply({ body: Buffer.alloc(0) });
    }
  });

  it("messages that nobody reads are bounded for a connection, however many streams it has, and read on as handlers read", async () => {
    const streams: ServerStream[] = [];
    await using server = await serve({}, (exchange) => void streams.push(exchange.stream()));
    using raw = await RawSocket.connect(server.address);
    for (let id = 0; id < 200; id++) raw.write(streamMessage(id));
    await waitFor(() => streams.length === 200, "all streams");
    for (let round = 0; round < 4; round++) for (let id = 0; id < 200; id++) raw.write(streamMessage(id));
    // 40 MB are on their way: what is taken is 4 MiB, and what the system keeps.
    await waitFor(() => processKept.bytes > 3_000_000, "they are counted");
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => void setImmediate(resolve));
    expect(processKept.bytes).toBeLessThan(5_500_000);
    expect(raw.closed).toBe(false);
    await Promise.all(streams.map(readAll));
    await waitFor(() => processKept.bytes === 0, "all is given back");
    raw.socket.destroy();
    for (const stream of streams) stream.end();
  });

  it("what comes for a call before it is known whether it is a stream is bounded", async () => {
    const running: ServerExchange[] = [];
    await using server = await serve({}, (exchange) => void running.push(exchange));
    using raw = await RawSocket.connect(server.address);
    const message = `${call}Micro-Id: 1\r\nMicro-Stream: 1\r\nContent-Length: 100000\r\n\r\n${"a".repeat(100_000)}`;
    let written = 0;
    const flood = setInterval(() => {
      if (raw.socket.writableLength < 1_000_000) {
        raw.write(message);
        written++;
      }
    }, 1);
    try {
      await waitFor(() => raw.socket.writableLength >= 1_000_000, "it is not read any more");
    } finally {
      clearInterval(flood);
    }
    // What the system keeps is all that was taken beside some messages.
    expect(written).toBeLessThan(150);
    const stream = running[0]?.stream();
    let bytes = 0;
    for (let index = 1; index < written; index++) bytes += (await stream?.receive())?.length ?? 0;
    expect(bytes).toBe((written - 1) * 100_000);
  });
});
