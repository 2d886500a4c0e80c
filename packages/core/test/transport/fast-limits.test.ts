/** What a peer can make a listener of the fast wire keep, start and do: `docs/limits.md`, "The fast wire". */
import { afterEach, describe, expect, it } from "vitest";
import { fromCallers, fromNodes, heldBytes, toCallers } from "../../src/transport/fast/held-bytes.ts";
import { defaultSettings, encodePreface } from "../../src/transport/fast/preface.ts";
import { httpTransport, type HttpTransportOptions } from "../../src/transport/http/http-transport.ts";
import type { ExchangeHandler, ServerExchange } from "../../src/transport/transport.ts";
import { call, defineRoute, fakeListener, FastPeer, frame, preface } from "../support/fast-peer.ts";
import { RawSocket, waitFor } from "../support/raw-socket.ts";

const mebibyte = 1024 * 1024;
const wire = "micro/1";
const noBytes = new Uint8Array(0);
/** One for all, so that what counts as held costs this process little. */
const large = new Uint8Array(mebibyte);

const limits = { fromCallers: fromCallers.limit, toCallers: toCallers.limit };
afterEach(async () => {
  fromCallers.limit = limits.fromCallers;
  toCallers.limit = limits.toCallers;
  await waitFor(() => Object.values(heldBytes()).every((bytes) => bytes === 0), "nothing is held any more");
});

async function listening(handler: ExchangeHandler, options: HttpTransportOptions = {}, maxMessageBytes?: number) {
  const transport = httpTransport({ direct: false, ...options });
  const exchanges: ServerExchange[] = [];
  const listener = await transport.listen(
    (exchange) => {
      exchanges.push(exchange);
      handler(exchange);
    },
    { address: "127.0.0.1:0", maxMessageBytes, maxHeaderBytes: mebibyte },
  );
  return {
    address: listener.address,
    exchanges,
    /** From how many connections exchanges came. */
    connections: () => new Set(exchanges.map(({ remote }) => remote)).size,
    async [Symbol.asyncDispose]() {
      for (const exchange of exchanges) {
        exchange.reply({ body: noBytes });
        exchange.stream().end();
      }
      await listener[Symbol.asyncDispose]();
      await transport[Symbol.asyncDispose]();
    },
  };
}

const echo: ExchangeHandler = (exchange) => exchange.reply({ contentType: "x", body: exchange.body });
const unanswered: ExchangeHandler = () => {};
const endWithCaller: ExchangeHandler = (exchange) =>
  void exchange.cancellation.onCancel(() => exchange.reply({ body: noBytes }));
/** 1 MiB, to calls without a body. */
const largely: ExchangeHandler = (exchange) =>
  exchange.body.length > 10 ? echo(exchange) : exchange.reply({ contentType: "x", body: large });
const open = (id: number, flags = 0, payload: readonly number[] = []): Buffer =>
  frame(2, flags, id, [0, 1, ...payload]);
const toM = (body: string) => ({
  service: "test",
  endpoint: "T.M",
  contentType: "x",
  metadata: undefined,
  body: Buffer.from(body),
});
const ids = (count: number, from = 0): number[] => Array.from({ length: count }, (_, index) => 2 * (from + index) + 1);

describe("frames that are cheap to send", () => {
  const count = 20_000;
  it.each<[string, (index: number) => Buffer]>([
    ["PING", () => frame(7, 0, 0, "12345678")],
    ["PONG", () => frame(8, 0, 0, "12345678")],
    ["DEFINE", () => defineRoute()],
    ["WINDOW of one byte", () => frame(6, 0, 1, [0, 0, 0, 1])],
    ["parts of a message without content", () => frame(3, 1, 1)],
    ["END for what is over", () => frame(4, 0, 3)],
    ["RESET for what is over", () => frame(5, 0, 3, [0, 1])],
    ["GOAWAY", () => frame(9, 0, 0, [0, 0, 0, 0, 0, 0])],
    [
      "calls that are cancelled at once",
      (index) => Buffer.concat([open(2 * index + 5), frame(5, 0, 2 * index + 5, [0, 1])]),
    ],
  ])("come at no more than their rate, whatever goes well between them: %s", async (_name, make) => {
    await using server = await listening((exchange) => {
      if (exchange.endpoint === "T.M" && exchange.body.length > 0) echo(exchange);
      else endWithCaller(exchange);
    });
    using peer = await FastPeer.connect(server.address);
    using other = await FastPeer.connect(server.address);
    peer.write(open(1, 2));
    await peer.serves(3);
    const began = performance.now();
    // One call in 200 is answered: that must not start the count again.
    const parts: Buffer[] = [];
    for (let index = 0; index < count; index++) {
      parts.push(make(index));
      if (index % 200 === 199) parts.push(call(2 * index + 7, "well"));
      // Ids rise.
      if (index % 200 === 199) index += 2;
    }
    peer.write(...parts);
    let asked = 0;
    for (; asked < 20; asked++) await other.serves(2 * asked + 1);
    await peer.serves(2 * count + 101);
    const tookMs = performance.now() - began;
    // A burst of 8000, and 20 each millisecond.
    expect(tookMs).toBeGreaterThan((count - 8_000) / 20 / 2);
    expect(peer.raw.closed).toBe(false);
  });

  it("are no matter to an honest caller who cancels calls by the thousand", async () => {
    await using server = await listening((exchange) => {
      if (exchange.body.length === 3) echo(exchange);
      else endWithCaller(exchange);
    });
    const client = httpTransport({ direct: false });
    for (let round = 0; round < 20; round++) {
      const controllers = Array.from({ length: 500 }, () => new AbortController());
      const calls = controllers.map(({ signal }) =>
        client.call(server.address, toM("hedged"), { wire, signal }).catch((error: { code: string }) => error.code),
      );
      // One of them is answered while the others run.
      const { body } = await client.call(server.address, toM("one"), { wire });
      expect(Buffer.from(body).toString()).toBe("one");
      for (const controller of controllers) controller.abort();
      expect(new Set(await Promise.all(calls))).toEqual(new Set(["aborted"]));
    }
    expect(server.connections()).toBe(1);
    await client[Symbol.asyncDispose]();
  });
});

describe("replies that nobody takes", () => {
  it("hold 16 MiB of a connection and one more: further calls wait, cancelled ones never run, and there is room again", async () => {
    await using server = await listening(largely);
    using peer = await FastPeer.connect(server.address);
    using other = await FastPeer.connect(server.address);
    peer.write(...ids(1000).map((id) => open(id)));
    await other.serves(1);
    peer.write(frame(7, 0, 0, "12345678"));
    await peer.until(({ type }) => type === 8, "PONG");
    await waitFor(() => server.exchanges.length > 15, "as many run as may");
    await other.serves(3);
    const ran = server.exchanges.length - 2;
    expect(ran).toBeLessThan(20);
    expect(heldBytes().toCallers).toBeLessThan(18 * mebibyte);
    // The first is taken: another one runs.
    peer.write(frame(6, 0, 1, [0, 0x20, 0, 0]), frame(6, 0, 3, [0, 0x20, 0, 0]), frame(6, 0, 5, [0, 0x20, 0, 0]));
    await waitFor(() => server.exchanges.length - 2 > ran, "another one runs");
    peer.write(...ids(1000).map((id) => frame(5, 0, id, [0, 1])));
    await waitFor(() => heldBytes().toCallers === 0, "nothing is held");
    await other.serves(5);
    const count = server.exchanges.length;
    await peer.serves(2001);
    expect(server.exchanges.length).toBe(count + 1);
  });

  it("are given up when their callers' deadline has passed, and what waited behind them never runs", async () => {
    await using server = await listening(largely);
    using peer = await FastPeer.connect(server.address);
    peer.write(...ids(300).map((id) => open(id, 4, [0, 0, 1, 0x2c])));
    await waitFor(() => heldBytes().toCallers > 16 * mebibyte, "replies wait");
    const ran = server.exchanges.length;
    await waitFor(() => heldBytes().toCallers === 0, "nothing is held");
    await peer.reset(1, 2);
    await peer.reset(599, 2);
    await peer.serves(2001);
    expect(server.exchanges.length).toBe(ran + 1);
  });

  it("are given up after a while where there is no deadline, if nothing of them is taken", async () => {
    await using server = await listening(largely, { stalledTimeoutMs: 1_000 });
    using peer = await FastPeer.connect(server.address);
    peer.write(open(1), open(3));
    await waitFor(() => heldBytes().toCallers > mebibyte, "replies wait");
    await peer.reset(3, 7);
    await waitFor(() => heldBytes().toCallers === 0, "nothing is held");
    await peer.serves(5);
  });

  it("end with their connection", async () => {
    await using server = await listening(largely);
    const peer = await FastPeer.connect(server.address);
    peer.write(...ids(100).map((id) => open(id)));
    await waitFor(() => heldBytes().toCallers > 15 * mebibyte, "replies wait");
    peer[Symbol.dispose]();
    await waitFor(() => heldBytes().toCallers === 0, "nothing is held");
  });

  it("are never more than a connection's half of what the process keeps, whoever made them how", async () => {
    const held: ServerExchange[] = [];
    await using server = await listening((exchange) =>
      exchange.body.length > 10 ? echo(exchange) : held.push(exchange),
    );
    using peer = await FastPeer.connect(server.address);
    using second = await FastPeer.connect(server.address);
    using other = await FastPeer.connect(server.address);
    for (const one of [peer, second]) one.write(...ids(300).map((id) => open(id)));
    await waitFor(() => held.length === 600, "all run");
    let most = 0;
    for (const exchange of held) {
      exchange.reply({ contentType: "x", body: large });
      most = Math.max(most, heldBytes().toCallers);
    }
    expect(most).toBeGreaterThan(150 * mebibyte);
    expect(most).toBeLessThanOrEqual(256 * mebibyte);
    // It ran: nobody is told otherwise.
    await waitFor(
      () => peer.frames.some(({ type }) => type === 5) && second.frames.some(({ type }) => type === 5),
      "some are reset",
    );
    for (const { type, payload } of [...peer.frames, ...second.frames])
      if (type === 5) expect(payload.readUInt16BE(0)).toBe(7);
    await other.serves(1);
  });

  it("leave room for who holds little when others hold all they may", async () => {
    toCallers.limit = 8 * mebibyte;
    await using server = await listening(largely);
    const peers = await Promise.all(Array.from({ length: 20 }, () => FastPeer.connect(server.address)));
    for (const peer of peers) peer.write(...ids(50).map((id) => open(id)));
    const client = httpTransport({ direct: false });
    const request = {
      service: "test",
      endpoint: "T.M",
      contentType: "x",
      metadata: undefined,
      body: large.subarray(0, 200_000),
    };
    for (let index = 0; index < 20; index++) {
      const { body } = await client.call(server.address, request, { wire, deadline: performance.now() + 10_000 });
      expect(body.length).toBe(200_000);
      expect(heldBytes().toCallers).toBeLessThanOrEqual(8 * mebibyte);
    }
    for (const peer of peers) peer[Symbol.dispose]();
    await client[Symbol.asyncDispose]();
  });
});

describe("handlers", () => {
  it("of one connection do not all start before those of others", async () => {
    let slow = 0;
    let seen = -1;
    await using server = await listening((exchange) => {
      if (exchange.body.length > 0) {
        seen = slow;
        return echo(exchange);
      }
      slow++;
      const until = performance.now() + 3;
      while (performance.now() < until);
      return exchange.reply({ contentType: "x", body: noBytes });
    });
    using peer = await FastPeer.connect(server.address);
    using other = await FastPeer.connect(server.address);
    peer.write(...ids(250).map((id) => open(id)));
    await waitFor(() => slow > 0, "the first runs");
    for (let asked = 0; asked < 10; asked++) {
      const before = slow;
      await other.serves(2 * asked + 1);
      // The first portion is a guess; from then on it is what took two milliseconds.
      expect(seen - before).toBeLessThan(asked === 0 ? 40 : 12);
    }
    expect(slow).toBeLessThan(250);
    await waitFor(() => slow === 250, "all run in the end");
  });

  it("that go on after their callers cancelled count until they end", async () => {
    await using server = await listening(
      (exchange) => {
        if (exchange.body.length > 0) echo(exchange);
      },
      { maxExchangesPerConnection: 50 },
    );
    using peer = await FastPeer.connect(server.address);
    for (const id of ids(200)) {
      peer.write(open(id));
      if (id < 100) await waitFor(() => server.exchanges.length > id >>> 1, "it runs");
      peer.write(frame(5, 0, id, [0, 1]));
    }
    peer.write(open(1001));
    await peer.reset(1001, 6);
    expect(server.exchanges.length).toBe(50);
    server.exchanges[0]!.reply({ body: noBytes });
    server.exchanges[1]!.reply({ body: noBytes });
    await peer.serves(1003);
  });

  it("that wait for their turn when the listener closes are told as not run", async () => {
    const server = await listening((exchange) => exchange.reply({ contentType: "x", body: large }));
    using peer = await FastPeer.connect(server.address);
    peer.write(...ids(200).map((id) => open(id)));
    await waitFor(() => server.exchanges.length > 15, "some run");
    await server[Symbol.asyncDispose]();
    await peer.reset(399, 6);
  });
});

describe("what callers have sent", () => {
  it("is counted whichever way it ends: requests, parts, unread messages, dictionaries", async () => {
    await using server = await listening(unanswered);
    using peer = await FastPeer.connect(server.address);
    const body = large.subarray(0, 30_000);
    const route = Buffer.from([0, 1]);
    peer.write(call(1, "x".repeat(20_000)), frame(2, 1, 3, Buffer.concat([route, body])), open(5, 2));
    await waitFor(() => server.exchanges.length === 2, "they arrive");
    server.exchanges[1]!.stream();
    peer.write(frame(3, 0, 5, body), frame(3, 0, 5, large.subarray(0, 100)), frame(7, 0, 0, "12345678"));
    await peer.until(({ type }) => type === 8, "PONG");
    await waitFor(() => heldBytes().fromCallers >= 80_000, "all of it counts");
    expect(heldBytes().fromCallers).toBeLessThan(90_000);
    peer.write(frame(5, 0, 1, [0, 1]), frame(5, 0, 3, [0, 1]));
    await waitFor(() => heldBytes().fromCallers < 55_000, "the part of a request is gone");
    expect(heldBytes().fromCallers).toBeGreaterThan(50_000);
    // Its caller has gone; it has not.
    server.exchanges[0]!.reply({ body: noBytes });
    await waitFor(() => heldBytes().fromCallers < 32_000, "the request that ran is gone");
    const stream = server.exchanges[1]!.stream();
    await stream.receive();
    await stream.receive();
    await waitFor(() => heldBytes().fromCallers < 1_000, "what was read is gone");
    peer.write(frame(3, 0, 5, body));
    await waitFor(() => heldBytes().fromCallers > 30_000, "unread again");
    stream.end();
    await waitFor(() => heldBytes().fromCallers < 1_000, "what nobody will read is gone");
  });

  it("never is more than the process keeps: new calls are refused as not run, parts and messages end their exchange", async () => {
    fromCallers.limit = mebibyte;
    await using server = await listening(
      (exchange) => {
        if (exchange.opened === "stream") exchange.stream();
        else if (exchange.body.length < 100) echo(exchange);
      },
      {},
      200_000,
    );
    using peer = await FastPeer.connect(server.address);
    const body = large.subarray(0, 30_000);
    let most = 0;
    const timer = setInterval(() => (most = Math.max(most, heldBytes().fromCallers)), 1);
    // Requests whose handlers run on.
    for (const id of ids(40)) {
      peer.write(frame(2, 0, id, Buffer.concat([Buffer.from([0, 1]), body])));
      peer.write(frame(7, 0, 0, "12345678"));
      await waitFor(() => peer.frames.filter(({ type }) => type === 8).length > id >>> 1, "PONG");
    }
    await peer.reset(79, 6);
    // Parts of requests, and messages that nobody reads, on others.
    using parts = await FastPeer.connect(server.address);
    for (const id of ids(20))
      parts.write(frame(2, 1, id, Buffer.concat([Buffer.from([0, 1]), body])), frame(3, 1, id, body));
    await parts.until(({ type }) => type === 5, "RESET");
    using messages = await FastPeer.connect(server.address);
    for (const id of ids(20)) messages.write(open(id, 2), frame(3, 0, id, body), frame(3, 0, id, body));
    await messages.until(({ type }) => type === 5, "RESET");
    for (const { type, payload } of messages.frames) if (type === 5) expect([6, 7]).toContain(payload.readUInt16BE(0));
    using other = await FastPeer.connect(server.address);
    await other.serves(1);
    clearInterval(timer);
    expect(most).toBeGreaterThan(mebibyte / 3);
    expect(most).toBeLessThanOrEqual(mebibyte + 4 * 16_384);
  });

  it("must come: a request that trickles is given up, and one that comes slowly but steadily is not", async () => {
    await using server = await listening(echo, { stalledTimeoutMs: 1_000 });
    using peer = await FastPeer.connect(server.address);
    peer.write(open(1, 1), open(3, 1, [1]));
    const trickling = [3];
    const timer = setInterval(
      () => peer.write(frame(3, 1, 5, Buffer.alloc(300)), ...trickling.map((id) => frame(3, 1, id, "x"))),
      100,
    );
    peer.write(open(5, 1));
    await peer.reset(1, 4);
    await peer.reset(3, 4);
    // Another one has its whole time and is given up as well, while the steady one goes on.
    peer.write(open(7, 1, [1]));
    trickling.splice(0, 1, 7);
    await peer.reset(7, 4);
    clearInterval(timer);
    peer.write(frame(3, 2, 5, "end"));
    await peer.until(({ type, id }) => type === 3 && id === 5, "the reply");
  });

  it("must come: a frame that trickles ends its connection, and so does a preface", async () => {
    await using server = await listening(echo, { stalledTimeoutMs: 1_000, firstRequestTimeoutMs: 1_000 });
    using peer = await FastPeer.connect(server.address);
    peer.write(Buffer.from([0xff, 0xff, 2, 0, 0, 0, 0, 1]));
    using raw = await RawSocket.connect(server.address);
    let sent = 0;
    const timer = setInterval(() => {
      peer.write(Buffer.from([0]));
      if (sent < preface.length - 1) raw.write(preface.subarray(sent, ++sent));
    }, 200);
    await peer.refused(1, /did not arrive in time/);
    await waitFor(() => raw.closed, "the preface is given up");
    clearInterval(timer);
  });

  it("gets no more memory than it fills: the beginning of a frame does not reserve all of it", async () => {
    await using server = await listening(echo);
    using peer = await FastPeer.connect(server.address);
    peer.write(Buffer.from([0xff, 0xff, 2, 0, 0, 0, 0, 1, 0, 1]));
    await waitFor(() => heldBytes().fromCallers > 300, "it is there");
    expect(heldBytes().fromCallers).toBeLessThan(1_000);
  });

  it("of dictionaries is bounded apart from a port's limit of heads, and the client is told so", async () => {
    await using server = await listening(echo);
    using peer = await FastPeer.connect(server.address);
    const entry = Buffer.concat([Buffer.from([0, 2, 2, 0, 1, 65, 0x80, 0]), Buffer.alloc(0x8000, 66)]);
    peer.write(...[2, 3, 4].map((id) => (entry.writeUInt16BE(id, 0), frame(1, 0, 0, entry))));
    await peer.refused(2, /more than 65536 bytes/);
  });
});

describe("a node that is called", () => {
  const accepted = encodePreface({ lowest: 1, highest: 1, chosen: 1, settings: defaultSettings });

  it("ends the connection to a node that floods it", async () => {
    await using node = await fakeListener((socket, received) => {
      if (received.length === preface.length) socket.write(accepted);
      else if (received.includes("hi"))
        socket.write(Buffer.concat(Array.from({ length: 20_000 }, () => frame(7, 0, 0, "12345678"))));
    });
    const client = httpTransport({ direct: false });
    await expect(client.call(node.address, toM("hi"), { wire })).rejects.toMatchObject({
      code: "protocol",
      message: expect.stringContaining(node.address) as string,
    });
    await client[Symbol.asyncDispose]();
  });

  it("takes no more from nodes than the process keeps, and keeps nothing of what failed", async () => {
    const limit = fromNodes.limit;
    fromNodes.limit = mebibyte;
    await using node = await fakeListener((socket, received) => {
      if (received.length === preface.length) socket.write(accepted);
      else if (received.includes("hi"))
        for (let part = 0; part < 60; part++) socket.write(frame(3, 1, 1, large.subarray(0, 30_000)));
    });
    const client = httpTransport({ direct: false });
    const asked = client.call(node.address, toM("hi"), { wire });
    await expect(asked).rejects.toMatchObject({ code: "too_large" });
    expect(heldBytes().fromNodes).toBeLessThan(mebibyte);
    await client[Symbol.asyncDispose]();
    fromNodes.limit = limit;
  });
});
