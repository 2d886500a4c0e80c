/** Heads as large as they may be: what they cost, what they keep, and for how long. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, describe, expect, it } from "vitest";
import { canonicalName, Metadata } from "../../src/metadata.ts";
import { processKept } from "../../src/net/byte-account.ts";
import { headerValue } from "../../src/transport/http/head-writer.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import type { ExchangeHandler, ServerExchange } from "../../src/transport/transport.ts";
import { RawSocket, waitFor } from "../support/raw-socket.ts";

const mebibyte = 1024 * 1024;
const noBytes = new Uint8Array(0);
const call = "POST / HTTP/1.1\r\nHost: x\r\nMicro-Endpoint: T.M\r\nContent-Type: application/json\r\n";

async function serve(handler: ExchangeHandler) {
  const transport = httpTransport();
  const listener = await transport.listen(handler, { address: "127.0.0.1:0" });
  return {
    address: listener.address,
    async [Symbol.asyncDispose]() {
      await listener[Symbol.asyncDispose]();
      await transport[Symbol.asyncDispose]();
    },
  };
}

/** A head of nearly 1 MiB. */
const large = (some: string): string => `${call}${some}X-Filler: ${"x".repeat(mebibyte - 1_000)}\r\n\r\n`;

/** What this process keeps, in bytes, without what is garbage. */
function keptBytes(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

afterEach(async () => {
  await waitFor(() => processKept.bytes === 0 && processKept.holders === 0, "everything is given back");
});

describe("a row of blanks", () => {
  const blanks = " \t".repeat(250_000);
  it("costs what its length does, wherever it stands in a value", () => {
    for (const text of [`é${blanks}é`, `${blanks}a${blanks}é${blanks}`]) {
      const expected = Buffer.from(text.trim()).toString("latin1");
      expect(headerValue(text) === expected).toBe(true);
      expect(new Metadata({ x: text }).get("X") === text.trim()).toBe(true);
    }
  });

  it("does not keep a server from others", async () => {
    await using server = await serve((exchange) => {
      const stream = exchange.stream();
      void stream.send({ body: noBytes });
      stream.end();
    });
    using raw = await RawSocket.connect(server.address);
    raw.write(`${call}Micro-Stream: 1\r\nMicro-Service: \xe9${blanks}\xe9\r\n\r\n`);
    await raw.until((received) => received.includes("EOS"), "the stream's end");
  });
});

function lines(count: number): string {
  return Array.from({ length: count }, (_, index) => `X${index}: 1\r\n`).join("");
}

describe("many lines", () => {
  it("are 1024 at most: more are refused as not run, before they cost more", async () => {
    const seen: ServerExchange[] = [];
    await using server = await serve((exchange) => {
      seen.push(exchange);
      exchange.reply({ body: Buffer.from(String(exchange.header.size)) });
    });
    using most = await RawSocket.connect(server.address);
    most.write(`${call}${lines(1_024 - 3)}\r\n`);
    await most.until((received) => received.endsWith("\r\n\r\n1024"), "the reply");
    using more = await RawSocket.connect(server.address);
    more.write(`${call}${lines(1_024 - 2)}\r\n`);
    await more.until((_, raw) => raw.closed, "the connection's end");
    expect(more.received).toMatch(/"code":413,"detail":"more than 1024 header lines".*Connection: close/s);
    expect(seen.length).toBe(1);
  });
});

describe("heads above 1 MiB", () => {
  const request = "POST / HTTP/1.1\r\nHost: x\r\nUser-Agent: Go-http-client/1.1\r\n";
  const filler = `${"x".repeat(mebibyte)}\r\n`;
  it.each([
    [
      "in go-micro's form where one of its headers has come",
      "Micro-Id: 1\r\nZ: ",
      /^HTTP\/1\.1 200 .*Micro-Error: [^\r]*"code":413/s,
    ],
    ["as HTTP where none has come yet", "A: ", /^HTTP\/1\.1 431 .*"code":431/s],
  ])("are refused %s, and the connection ends", async (_, start, refusal) => {
    await using server = await serve(() => expect.unreachable());
    using raw = await RawSocket.connect(server.address);
    raw.write(`${request}${start}${filler}Micro-Service: t\r\n\r\n`);
    await raw.until((_received, { closed }) => closed, "the end of the connection");
    expect(raw.received).toMatch(refusal);
  });
});

describe("requests that run", () => {
  it("keep 16 MiB of heads a connection; the others are refused as not run, until one is over", async () => {
    const running: ServerExchange[] = [];
    await using server = await serve((exchange) => void running.push(exchange));
    using raw = await RawSocket.connect(server.address);
    for (let index = 0; index < 20; index++) raw.write(large(`Micro-Id: ${index}\r\n`));
    const refused = () => raw.received.split("Micro-Retry: not-run").length - 1;
    await waitFor(() => refused() + running.length === 20, "all run, or are refused");
    expect([running.length, refused()]).toEqual([16, 4]);
    expect(raw.received).toContain("the server keeps too many large headers");
    expect(processKept.bytes).toBeGreaterThan(15 * mebibyte);
    // Those of usual size are not counted.
    raw.write(`${call}Micro-Id: 20\r\n\r\n`);
    await waitFor(() => running.length === 17, "a small one");
    running[0]?.reply({ body: noBytes });
    raw.write(large("Micro-Id: 21\r\n"));
    await waitFor(() => running.length === 18, "another large one");
    raw.socket.destroy();
    await waitFor(() => running[1]?.cancellation.reason !== undefined, "the end is known");
    expect(processKept.bytes).toBeGreaterThan(15 * mebibyte);
    for (const exchange of running) exchange.reply({ body: noBytes });
  });

  it("are counted until they are over when they are streams, too", async () => {
    const running: ServerExchange[] = [];
    await using server = await serve((exchange) => {
      exchange.stream();
      running.push(exchange);
    });
    using raw = await RawSocket.connect(server.address);
    raw.write(large("Micro-Stream: 1\r\n"));
    await waitFor(() => running.length === 1, "the stream");
    expect(processKept.bytes).toBeGreaterThan(mebibyte - 2_000);
    running[0]?.stream().end();
  });

  it("of all connections keep 256 MiB: who keeps most goes", async () => {
    const running: ServerExchange[] = [];
    await using server = await serve((exchange) => {
      running.push(exchange);
      exchange.cancellation.onCancel(() => exchange.reply({ body: noBytes }));
    });
    using honest = await RawSocket.connect(server.address);
    honest.write(`${call}Micro-Id: 0\r\nX-Filler: ${"x".repeat(100_000)}\r\n\r\n`);
    const hoarders: RawSocket[] = [];
    for (let index = 0; index < 20; index++) {
      const raw = await RawSocket.connect(server.address);
      hoarders.push(raw);
      const before = running.length;
      for (let id = 0; id < 14; id++) raw.write(large(`Micro-Id: ${id}\r\n`));
      await waitFor(() => running.length === before + 14 || raw.closed, "they run, or are refused");
      expect(processKept.bytes).toBeLessThanOrEqual(256 * mebibyte);
    }
    expect(hoarders.some(({ closed }) => closed)).toBe(true);
    expect(honest.closed).toBe(false);
    for (const raw of hoarders) raw.socket.destroy();
    running[0]?.reply({ body: noBytes });
    await honest.until((received) => received.includes("200 OK"), "the honest caller's reply");
  });
});

describe("after it is over", () => {
  it("nothing of a large head is kept: not by its connection, nor by the names and ids in it", async () => {
    await using server = await serve((exchange) => {
      exchange.header.get("X");
      const stream = exchange.stream();
      void stream.send({ body: noBytes });
      stream.end();
    });
    const before = keptBytes();
    const sockets: RawSocket[] = [];
    for (let index = 0; index < 60; index++) {
      const raw = await RawSocket.connect(server.address);
      sockets.push(raw);
      raw.write(large(`Micro-Stream: a-stream-with-a-name-${index}\r\nX-A-Name-Of-Its-Own-${index}: 1\r\n`));
      await raw.until((received) => received.includes("EOS"), "the stream's end");
    }
    expect(keptBytes() - before).toBeLessThan(20 * mebibyte);
    for (const raw of sockets) raw[Symbol.dispose]();
  });

  it("names that are in use are known for ever, whatever others come by", () => {
    const name = "x-in-use-all-the-time";
    const first = canonicalName(name);
    for (let index = 0; index < 5_000; index++) {
      canonicalName(`x-junk-${index}`);
      expect(canonicalName(name)).toBe(first);
    }
  });
});

describe("a connection that sends many requests at once", () => {
  it.each([
    ["that run", `${call}\r\n`],
    ["that run nothing", "GET / HTTP/1.1\r\n\r\n"],
  ])("does not keep others waiting: %s", async (_name, request) => {
    let turns = 0;
    let count = true;
    const tick = () => {
      turns++;
      if (count) setImmediate(tick);
    };
    setImmediate(tick);
    await using server = await serve((exchange) => exchange.reply({ body: noBytes }));
    using raw = await RawSocket.connect(server.address);
    const before = turns;
    raw.write(request.repeat(960));
    await raw.until((received) => received.split("HTTP/1.1 ").length === 961, "all replies");
    count = false;
    expect(turns - before).toBeGreaterThanOrEqual(30);
  });
});
