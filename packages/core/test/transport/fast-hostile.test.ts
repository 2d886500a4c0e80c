import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { defaultSettings, encodePreface, parsePreface } from "../../src/transport/fast/preface.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import type { ExchangeHandler, ServerExchange } from "../../src/transport/transport.ts";
import { call, defineRoute, fakeListener, FastPeer, frame, preface } from "../support/fast-peer.ts";
import { RawSocket, waitFor } from "../support/raw-socket.ts";

const wire = "micro/1";
const noBytes = new Uint8Array(0);

function field(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0, 0, 0, name.length]),
    Buffer.from(name),
    Buffer.from([0, value.length]),
    Buffer.from(value),
  ]);
}

async function listening(handler?: ExchangeHandler, maxMessageBytes?: number) {
  const transport = httpTransport({ maxExchangesPerConnection: 50, direct: false });
  const exchanges: ServerExchange[] = [];
  const listener = await transport.listen(
    (exchange) => {
      exchanges.push(exchange);
      if (handler !== undefined) handler(exchange);
      else if (exchange.endpoint === "T.M") exchange.reply({ contentType: "x", body: exchange.body });
    },
    { address: "127.0.0.1:0", maxMessageBytes },
  );
  return {
    address: listener.address,
    exchanges,
    async [Symbol.asyncDispose]() {
      await listener[Symbol.asyncDispose]();
      await transport[Symbol.asyncDispose]();
    },
  };
}

describe("a listener of the fast wire", () => {
  it.each<[string, Buffer[], number, RegExp]>([
    ["an unknown frame type", [frame(77, 0, 1)], 1, /no frames of type 77/],
    ["a reserved flag of OPEN", [frame(2, 32, 1, [0, 1])], 1, /flags 32/],
    ["a reserved flag of DATA", [frame(3, 128, 1)], 1, /flags 128/],
    ["flags where there are none", [frame(8, 1, 0, "12345678")], 1, /flags 1/],
    ["DATA for an exchange that never was", [frame(3, 0, 9)], 1, /exchange 9/],
    ["END for an exchange that never was", [frame(4, 0, 9)], 1, /exchange 9/],
    ["RESET for an exchange that never was", [frame(5, 0, 9, [0, 1])], 1, /exchange 9/],
    ["WINDOW for an exchange that never was", [frame(6, 0, 9, [0, 0, 0, 1])], 1, /exchange 9/],
    ["an even id", [frame(2, 0, 2, [0, 1])], 1, /id 2 is even/],
    ["id 0", [frame(2, 0, 0, [0, 1])], 1, /id 0 is even/],
    ["the top bit of an id", [frame(2, 0, 0x8000_0001, [0, 1])], 1, /is even or used up/],
    ["an id used again", [call(1), call(1)], 1, /id 1 is even or used up/],
    ["a lower id", [call(5), call(3)], 1, /id 3 is even or used up/],
    ["a route that is not defined", [frame(2, 0, 1, [0, 9])], 2, /id 9 is no route/],
    ["OPEN without a route", [frame(2, 0, 1, [0])], 1, /ends inside/],
    ["OPEN that ends in its timeout", [frame(2, 4, 1, [0, 1, 0, 0])], 1, /ends inside/],
    ["OPEN that ends in its metadata", [frame(2, 8, 1, [0, 1, 0, 200, 0])], 1, /ends inside/],
    ["metadata that ends in a field", [frame(2, 8, 1, [0, 1, 0, 4, 0, 0, 0, 9])], 1, /inside of a field/],
    ["a field that is not defined", [frame(2, 8, 1, [0, 1, 0, 2, 0, 7])], 2, /id 7 is no field/],
    ["a route as a field", [frame(2, 8, 1, [0, 1, 0, 2, 0, 1])], 2, /id 1 is no field/],
    ["a WINDOW of the wrong length", [call(1), frame(6, 0, 1, [1])], 1, /wrong length/],
    ["a PING of the wrong length", [frame(7, 0, 0, "x")], 1, /wrong form/],
    ["a RESET without a code", [call(1), frame(5, 0, 1, [1])], 1, /without a code/],
    ["an END with a payload", [call(1), frame(4, 0, 1, "x")], 1, /with a payload/],
    ["a dictionary id out of range", [frame(1, 0, 0, [0xff, 0xff, 2, 0, 0, 0, 0])], 2, /out of range/],
    ["a DEFINE that is cut", [frame(1, 0, 0, [0, 2, 2, 0, 9])], 2, /ends inside of a text/],
  ])("closes a connection with the reason for %s", async (_name, parts, code, reason) => {
    await using server = await listening();
    using other = await FastPeer.connect(server.address);
    using peer = await FastPeer.connect(server.address);
    peer.write(...parts);
    await peer.refused(code, reason);
    await other.serves(1);
  });

  it("takes no more dictionary text than it said", async () => {
    await using server = await listening();
    using peer = await FastPeer.connect(server.address);
    peer.write(
      ...[2, 3, 4, 5, 6].map((id) =>
        frame(1, 0, 0, Buffer.concat([Buffer.from([0, id, 2, 0, 1, 65, 0x40, 0]), Buffer.alloc(0x4000, 66)])),
      ),
    );
    await peer.refused(2, /more than 65536 bytes/);
  });

  it("answers a PING", async () => {
    await using server = await listening();
    using peer = await FastPeer.connect(server.address);
    peer.write(frame(7, 0, 0, "12345678"));
    expect((await peer.until(({ type }) => type === 8, "PONG")).payload.toString()).toBe("12345678");
  });

  it("resets only the exchange that sends more than its credit", async () => {
    await using server = await listening();
    using peer = await FastPeer.connect(server.address);
    peer.write(defineRoute(1, "T.S"), frame(2, 2, 1, [0, 1]), defineRoute());
    peer.write(...Array.from({ length: 5 }, () => frame(3, 0, 1, Buffer.alloc(30_000))));
    await peer.reset(1, 5);
    expect(server.exchanges[0]?.cancellation.reason?.code).toBe("aborted");
    await peer.serves(3);
  });

  it("resets only the exchange that is given more credit than there may be", async () => {
    await using server = await listening();
    using peer = await FastPeer.connect(server.address);
    peer.write(defineRoute(1, "T.S"), frame(2, 2, 1, [0, 1]), defineRoute());
    peer.write(frame(6, 0, 1, [0x7f, 0xff, 0xff, 0xff]), frame(6, 0, 1, [0x7f, 0xff, 0xff, 0xff]));
    await peer.reset(1, 5);
    await peer.serves(3);
  });

  it("resets only the exchange whose message is too large, whether it is sent at once or in parts", async () => {
    await using server = await listening(undefined, 1000);
    using peer = await FastPeer.connect(server.address);
    peer.write(call(1, "x".repeat(1001)));
    await peer.reset(1, 3);
    peer.write(
      frame(2, 1, 3, Buffer.concat([Buffer.from([0, 1]), Buffer.alloc(600)])),
      frame(3, 0, 3, Buffer.alloc(600)),
    );
    await peer.reset(3, 3);
    expect(server.exchanges).toEqual([]);
    await peer.serves(5);
  });

  it("resets an exchange whose caller goes on after the end", async () => {
    await using server = await listening();
    using peer = await FastPeer.connect(server.address);
    peer.write(defineRoute(1, "T.S"), frame(2, 2, 1, [0, 1]), frame(4, 0, 1), frame(3, 0, 1, "late"), defineRoute());
    await peer.reset(1, 4);
    await peer.serves(3);
  });

  it("drops what comes late for an exchange that is over", async () => {
    await using server = await listening();
    using peer = await FastPeer.connect(server.address);
    await peer.serves(1);
    peer.write(frame(3, 0, 1, "late"), frame(4, 0, 1), frame(6, 0, 1, [0, 0, 0, 1]), frame(5, 0, 1, [0, 1]));
    await peer.serves(3);
    expect(server.exchanges.length).toBe(2);
  });

  it("refuses as not run what is above its limit", async () => {
    await using server = await listening(() => {});
    using peer = await FastPeer.connect(server.address);
    for (let index = 0; index < 50; index++) {
      const id = index * 2 + 1;
      peer.write(call(id));
    }
    peer.write(call(101));
    await peer.reset(101, 6);
    await waitFor(() => server.exchanges.length === 50, "all others run");
    for (const exchange of server.exchanges) exchange.reply({ body: noBytes });
    peer.write(call(103));
    await waitFor(() => server.exchanges.length === 51, "there is room again");
  });

  it("does not let names that describe a message in through metadata", async () => {
    await using server = await listening();
    using peer = await FastPeer.connect(server.address);
    const fields = Buffer.concat([
      field("Micro-Endpoint", "Other"),
      field("a b", "1"),
      field("__proto__", "1"),
      field("x-ok", "1"),
    ]);
    peer.write(frame(2, 8, 1, Buffer.concat([Buffer.from([0, 1, 0, fields.length]), fields])));
    await waitFor(() => server.exchanges.length === 1, "the call arrives");
    const { header } = server.exchanges[0] as ServerExchange;
    expect(header.get("Micro-Endpoint")).toBe("T.M");
    expect(header.has("a b")).toBe(false);
    expect(header.get("X-Ok")).toBe("1");
    expect(({} as { polluted?: unknown }).polluted).toBe(undefined);
  });

  it.each<[string, Buffer]>([
    ["a version above its own", encodePreface({ lowest: 2, highest: 9, chosen: 0, settings: defaultSettings })],
    ["bytes that only begin like a preface", Buffer.from("\0micro--", "latin1")],
    ["zeros", Buffer.alloc(64)],
  ])("answers %s with its versions, and closes", async (_name, bytes) => {
    await using server = await listening();
    using raw = await RawSocket.connect(server.address);
    raw.write(bytes);
    await raw.until((_received, { closed }) => closed, "it closes");
    expect(parsePreface(Buffer.from(raw.received, "latin1"))?.preface).toMatchObject({
      chosen: 0,
      lowest: 1,
      highest: 1,
    });
  });

  it("answers a preface on a TLS port, and TLS on a plain one", async () => {
    const transport = httpTransport({ secure: true });
    await using secure = await transport.listen(() => {}, { address: "127.0.0.1:0" });
    using raw = await RawSocket.connect(secure.address);
    raw.write(preface);
    await raw.until((_received, { closed }) => closed, "it closes");
    expect(parsePreface(Buffer.from(raw.received, "latin1"))?.preface.chosen).toBe(0);
    await using plain = await listening();
    using hello = await RawSocket.connect(plain.address);
    hello.write(Buffer.from("160301006b0100006703", "hex"));
    await hello.until((_received, { closed }) => closed, "it closes");
    expect(hello.received).toMatch(/^HTTP\/1\.1 400 /);
    await transport[Symbol.asyncDispose]();
  });

  it("survives random bytes behind the preface", async () => {
    await using server = await listening();
    let seed = 12_345;
    const random = (): number => (seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0) >>> 16;
    for (let round = 0; round < 60; round++) {
      using raw = await RawSocket.connect(server.address);
      const frames = Array.from({ length: 30 }, () =>
        frame(
          random() % 11,
          random() % 3 === 0 ? random() % 64 : 0,
          random() % 12,
          Buffer.from(Array.from({ length: random() % 20 }, () => random() & 3)),
        ),
      );
      raw.write(Buffer.concat([preface, defineRoute(), call(1), ...frames]));
      raw.socket.end();
      await raw.until((_received, { closed }) => closed, "it closes");
    }
    using peer = await FastPeer.connect(server.address);
    await peer.serves(1);
  });
});

/** A call to what answers a preface with `answer`; HTTP requests on the same port are answered, too. */
async function callTo(answer: (socket: import("node:net").Socket, received: Buffer) => void) {
  const peer = await fakeListener((socket, received) => {
    if (received[0] === 0) answer(socket, received);
    else if (received.includes("\r\n\r\n"))
      socket.end("HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nby HTTP!");
  });
  const transport = httpTransport({ direct: false });
  const request = { service: "test", endpoint: "T.M", contentType: "x", metadata: undefined, body: Buffer.from("hi") };
  return {
    peer,
    call: (ms = 5_000) => transport.call(peer.address, request, { wire, deadline: performance.now() + ms }),
    open: () => transport.open(peer.address, request, { wire, deadline: performance.now() + 5_000 }),
    async [Symbol.asyncDispose]() {
      await transport[Symbol.asyncDispose]();
      await peer[Symbol.asyncDispose]();
    },
  };
}

const accepted = encodePreface({ lowest: 1, highest: 1, chosen: 1, settings: defaultSettings });

describe("a client of the fast wire", () => {
  it.each<[string, (socket: import("node:net").Socket) => void]>([
    ["answers with HTTP", (socket) => void socket.end("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")],
    [
      "speaks no common version",
      (socket) => void socket.end(encodePreface({ lowest: 7, highest: 9, chosen: 0, settings: defaultSettings })),
    ],
  ])("goes over HTTP when the peer %s, and remembers", async (_name, answer) => {
    let prefaces = 0;
    await using fixture = await callTo((socket) => {
      prefaces++;
      answer(socket);
    });
    const replies = await Promise.all([fixture.call(), fixture.call(), fixture.call()]);
    expect(replies.map(({ body }) => Buffer.from(body).toString())).toEqual(["by HTTP!", "by HTTP!", "by HTTP!"]);
    await fixture.call();
    const stream = await fixture.open();
    stream.cancel();
    expect(prefaces).toBe(1);
  });

  it("fails as not run when the peer does not answer, and asks anew", async () => {
    let prefaces = 0;
    await using fixture = await callTo((socket, received) => {
      if (received.length !== preface.length) socket.write(frame(3, 2, 1, "well"));
      else if (++prefaces > 1) socket.write(accepted);
    });
    const error = await fixture.call(100).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: "timeout", notRun: true });
    expect(Buffer.from((await fixture.call()).body).toString()).toBe("well");
    expect(prefaces).toBe(2);
  });

  it.each<[string, Buffer, RegExp]>([
    ["an unknown frame type", frame(66, 0, 1), /no frames of type 66/],
    ["a frame for a call that never was", frame(3, 2, 99, "x"), /exchange 99/],
    ["fields that are cut", frame(3, 2 | 8, 1, [0, 200, 1]), /inside of its fields/],
    ["OPEN", frame(2, 0, 1, [0, 1]), /no frames of type 2/],
    ["more and end at once", frame(3, 3, 1, "x"), /flags 3/],
  ])("fails its calls with protocol for %s, says so to the peer, and connects anew", async (_name, bytes, reason) => {
    let said = "";
    await using fixture = await callTo((socket, received) => {
      said = received.toString("latin1");
      if (received.length === preface.length) socket.write(accepted);
      else if (received.includes("hi")) socket.write(fixture.peer.connections() === 1 ? bytes : frame(3, 2, 1, "well"));
    });
    const error = await fixture.call().catch((caught: unknown) => caught);
    expect(MicroError.is(error) && error.code).toBe("protocol");
    expect((error as MicroError).message).toMatch(reason);
    await waitFor(() => reason.test(said), "GOAWAY arrives");
    expect(Buffer.from((await fixture.call()).body).toString()).toBe("well");
  });

  it("keeps a mistake in one call from the others", async () => {
    await using fixture = await callTo((socket, received) => {
      if (received.length === preface.length) socket.write(accepted);
      else if (received.includes("hi") && received.lastIndexOf("hi") !== received.indexOf("hi"))
        socket.write(Buffer.concat([frame(3, 1, 1, "half"), frame(3, 4, 1, [0, 0]), frame(3, 2, 3, "fine")]));
    });
    const [first, second] = await Promise.allSettled([fixture.call(), fixture.call()]);
    expect(first).toMatchObject({ status: "rejected", reason: { code: "protocol" } });
    expect(second.status === "fulfilled" && Buffer.from(second.value.body).toString()).toBe("fine");
  });

  it("takes GOAWAY for what it says: later calls did not run, earlier ones are answered", async () => {
    await using fixture = await callTo((socket, received) => {
      if (received.length === preface.length) socket.write(accepted);
      else if (received.lastIndexOf("hi") !== received.indexOf("hi"))
        socket.write(Buffer.concat([frame(9, 0, 0, [0, 0, 0, 1, 0, 0]), frame(3, 2, 1, "answered")]));
    });
    const [first, second] = await Promise.allSettled([fixture.call(), fixture.call()]);
    expect(first.status === "fulfilled" && Buffer.from(first.value.body).toString()).toBe("answered");
    expect(second).toMatchObject({ status: "rejected", reason: { code: "unavailable", notRun: true } });
  });

  it("reads the codes of RESET", async () => {
    const codes = [
      [3, "too_large", false],
      [4, "protocol", false],
      [6, "unavailable", true],
      [7, "internal", false],
      [999, "internal", false],
    ] as const;
    let next = 0;
    await using fixture = await callTo((socket, received) => {
      if (received.length === preface.length) socket.write(accepted);
      else if (received.includes("hi")) {
        const id = next * 2 + 1;
        socket.write(frame(5, 0, id, [codes[next]![0] >> 8, codes[next]![0] & 0xff]));
      }
    });
    for (const [, code, notRun] of codes) {
      const error = await fixture.call().catch((caught: unknown) => caught);
      expect(error).toMatchObject({ code, notRun });
      next++;
    }
  });
});
