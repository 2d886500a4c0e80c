/** What a listener does on the wire, seen through bare sockets that behave as Go peers, old peers and rude ones do. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { MicroError } from "../../src/errors.ts";
import { Metadata } from "../../src/metadata.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import type { Listener, ServerExchange, ServerStream, Transport } from "../../src/transport/transport.ts";
import { RawSocket, waitFor } from "../support/raw-socket.ts";

let transport: Transport;
let listener: Listener;
let seen: ServerExchange[];
let handle: (exchange: ServerExchange) => void;

beforeEach(async () => {
  seen = [];
  handle = (exchange) => exchange.reply({ contentType: exchange.contentType, body: exchange.body });
  transport = httpTransport({ firstRequestTimeoutMs: 1_000, stalledTimeoutMs: 1_000 });
  listener = await transport.listen(
    (exchange) => {
      seen.push(exchange);
      handle(exchange);
    },
    { address: "127.0.0.1:0" },
  );
});

afterEach(async () => {
  await listener[Symbol.asyncDispose]();
  await transport[Symbol.asyncDispose]();
});

/** A request as Go's client writes it. */
function goRequest(headers: Record<string, string>, body = ""): string {
  const all = { Accept: "application/json", "Content-Type": "application/json", ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  const framing = body === "" ? "Transfer-Encoding: chunked\r\n" : `Content-Length: ${body.length}\r\n`;
  return (
    `POST / HTTP/1.1\r\nHost: ${listener.address}\r\nUser-Agent: Go-http-client/1.1\r\n${framing}${lines.toSorted().join("")}\r\n` +
    (body === "" ? "0\r\n\r\n" : body)
  );
}

const call = { "Micro-Endpoint": "Greeter.Hello", "Micro-Method": "Greeter.Hello", "Micro-Service": "greeter" };

describe("replies", () => {
  it("to a Go client: 200, a length, its id, its content type", async () => {
    using raw = await RawSocket.connect(listener.address);
    raw.write(goRequest({ ...call, "Micro-Id": "7", Timeout: "5000000000" }, '{"name":"bob"}\n'));
    await raw.until((received) => received.endsWith("}\n"), "the reply");
    expect(raw.received).toBe(
      'HTTP/1.1 200 OK\r\nContent-Length: 15\r\nMicro-Id: 7\r\nContent-Type: application/json\r\n\r\n{"name":"bob"}\n',
    );
    expect(seen[0]?.id).toBe("7");
    expect(seen[0]?.timeoutMs).toBe(5_000);
    expect(seen[0]?.header.get("User-Agent")).toBe("Go-http-client/1.1");
  });

  it("errors travel in both headers, on one line, as UTF-8", async () => {
    handle = (exchange) => exchange.reply({ error: "nö\nbob", notRun: true, body: Buffer.alloc(0) });
    using raw = await RawSocket.connect(listener.address);
    raw.write(goRequest({ ...call, "Micro-Id": "7" }));
    await raw.until((received) => received.endsWith("\r\n\r\n"), "the reply");
    expect(raw.received).toContain(
      "\r\nMicro-Error: n\xc3\xb6 bob\r\nX-Micro-Error: n\xc3\xb6 bob\r\nMicro-Retry: not-run\r\n",
    );
    expect(raw.received).toMatch(/^HTTP\/1\.1 200 OK\r\nContent-Length: 0\r\n/);
  });

  it("pipelined requests with the same id, or none, are calls of their own and answered as they finish", async () => {
    const waiting: ServerExchange[] = [];
    handle = (exchange) => void waiting.push(exchange);
    using raw = await RawSocket.connect(listener.address);
    raw.write(
      goRequest({ ...call, "Micro-Id": "1" }, "a") +
        goRequest({ ...call, "Micro-Id": "1" }, "b") +
        goRequest(call, "c"),
    );
    await waitFor(() => waiting.length === 3, "three calls");
    for (const exchange of waiting.toReversed()) exchange.reply({ body: exchange.body });
    await raw.until((received) => received.endsWith("a"), "three replies");
    expect(raw.received.match(/\r\n\r\n./g)).toEqual(["\r\n\r\nc", "\r\n\r\nb", "\r\n\r\na"]);
  });

  it("a request with Connection: close is the last one", async () => {
    using raw = await RawSocket.connect(listener.address);
    raw.write(goRequest({ ...call, Connection: "close" }, "a") + goRequest(call, "b"));
    await raw.until((_, { closed }) => closed, "the connection is closed");
    expect(raw.received).toMatch(/Connection: close\r\n\r\na$/);
  });
});

describe("what an exchange is told", () => {
  it.each([
    ["unparsable", "soon", undefined],
    ["negative", "-5", undefined],
    ["expired", "0", 0],
    ["a second", "1000000000", 1_000],
  ])("a timeout: %s", async (_name, timeout, expected) => {
    using raw = await RawSocket.connect(listener.address);
    raw.write(goRequest({ ...call, Timeout: timeout }, "a"));
    await raw.until((received) => received.endsWith("a"), "the reply");
    expect(seen[0]?.timeoutMs).toBe(expected);
  });

  it.each<[string, Record<string, string>, boolean]>([
    ["all of Go's headers", call, false],
    ["the endpoint alone", { "Micro-Endpoint": "A.B" }, false],
    ["the old method header alone", { "Micro-Method": "A.B" }, false],
    ["X-Micro-Endpoint alone", { "X-Micro-Endpoint": "A.B" }, false],
    ["no header at all", {}, true],
    ["a target", { ...call, "Micro-Target": "x" }, true],
    ["an X-Micro-Target", { ...call, "X-Micro-Target": "x" }, true],
    ["a target and a protocol", { ...call, "Micro-Target": "x", "Micro-Protocol": "mucp" }, false],
    ["a protocol alone", { "Micro-Protocol": "mucp" }, false],
    ["a topic alone", { "Micro-Topic": "t" }, false],
  ])("old protocol or not: %s", async (_name, headers, expected) => {
    using raw = await RawSocket.connect(listener.address);
    raw.write(goRequest(headers, "a"));
    await raw.until((received) => received.endsWith("a"), "the reply");
    expect(seen[0]?.oldProtocol).toBe(expected);
    expect(seen[0]?.topic).toBe(headers["Micro-Topic"]);
    if (headers["Micro-Method"] ?? headers["X-Micro-Endpoint"]) expect(seen[0]?.endpoint).not.toBe("");
  });
});

function echo(exchange: ServerExchange): void {
  const open = exchange.stream();
  void (async () => {
    for (let body = await open.receive(); body !== undefined; body = await open.receive()) await open.send({ body });
    open.end();
  })().catch(() => {});
}

/** The head of a later message of stream 3. */
function short(length: number, type = ""): string {
  return `HTTP/1.1 200 OK\r\nMicro-Stream: 3\r\n${type}Content-Length: ${length}\r\n\r\n`;
}

describe("streams of Go clients", () => {
  const stream = { ...call, "Micro-Id": "3", "Micro-Stream": "3" };
  const messageOf = (id: number): string =>
    goRequest({ ...call, "Micro-Id": String(id), "Micro-Stream": String(id) }, "x");

  it("opening message, items, end marker: each reply names the stream", async () => {
    handle = echo;
    using raw = await RawSocket.connect(listener.address);
    raw.write(goRequest(stream, "dropped") + goRequest(stream, "one"));
    await raw.until((received) => received.endsWith("one"), "the item");
    expect(raw.received).toBe(
      "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nMicro-Service: greeter\r\nMicro-Method: Greeter.Hello\r\n" +
        "Micro-Endpoint: Greeter.Hello\r\nMicro-Id: 3\r\nMicro-Stream: 3\r\n\r\none",
    );
    raw.write(goRequest({ ...stream, "Micro-Error": "EOS" }));
    await raw.until((received) => received.includes("Micro-Error: EOS\r\n"), "the end marker");
    expect(seen.length).toBe(1);
  });

  it("items after the first name the stream, their length, and a type other than the one asked for", async () => {
    handle = (exchange) => {
      const open = exchange.stream();
      void open.send({ contentType: "application/json", body: Buffer.from("one") });
      void open.send({ contentType: "application/json", body: Buffer.from("22") });
      void open.send({ contentType: "text/plain", body: Buffer.from("three") });
      void open.send({ contentType: "text/plain", body: Buffer.alloc(20_000, "4") });
      void open.send({
        contentType: "application/json",
        metadata: new Metadata({ "X-Tag": "t" }),
        body: Buffer.alloc(0),
      });
      void open.send({ contentType: "application/json", body: Buffer.alloc(0) });
      void open.send({ contentType: "application/json", body: Buffer.alloc(0) });
      open.end();
    };
    using raw = await RawSocket.connect(listener.address);
    raw.write(goRequest({ ...stream, "Content-Type": "application/json" }, "dropped"));
    await raw.until((received) => received.includes("Micro-Error: EOS\r\n\r\n"), "the end marker");
    const names =
      "Micro-Service: greeter\r\nMicro-Method: Greeter.Hello\r\nMicro-Endpoint: Greeter.Hello\r\nMicro-Id: 3\r\nMicro-Stream: 3\r\n";
    const json = "Content-Type: application/json\r\n";
    const whole = (length: number, rest: string): string =>
      `HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n${names}${rest}\r\n`;
    expect(raw.received).toBe(
      [
        `${whole(3, json)}one${short(2)}22${whole(5, "Content-Type: text/plain\r\n")}three`,
        `${short(20_000, "Content-Type: text/plain\r\n")}${"4".repeat(20_000)}`,
        whole(0, `${json}X-Tag: t\r\n`) + whole(0, json) + short(0) + whole(0, "Micro-Error: EOS\r\n"),
      ].join(""),
    );
  });

  it("a Go caller that ends its stream and leaves lets the handler finish, for 30 s", async () => {
    const reasons: MicroError[] = [];
    const streams: ServerStream[] = [];
    handle = (exchange) => {
      streams.push(exchange.stream());
      exchange.cancellation.onCancel((reason) => void reasons.push(reason));
    };
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    try {
      using raw = await RawSocket.connect(listener.address);
      const other = { ...call, "Micro-Id": "4", "Micro-Stream": "4" };
      const end = { "Micro-Error": "EOS" };
      raw.write(
        goRequest(stream) + goRequest(other) + goRequest({ ...stream, ...end }) + goRequest({ ...other, ...end }),
      );
      while (streams.length < 2) await new Promise((resolve) => void setImmediate(resolve));
      expect(await Promise.all(streams.map((each) => each.receive()))).toEqual([undefined, undefined]);
      raw.socket.end();
      while (vi.getTimerCount() < 2) await new Promise((resolve) => void setImmediate(resolve));
      streams[0]?.end();
      expect(vi.getTimerCount()).toBe(1);
      vi.advanceTimersByTime(29_999);
      expect(reasons).toEqual([]);
      vi.advanceTimersByTime(1);
      expect(reasons.map(({ code }) => code)).toEqual(["aborted"]);
    } finally {
      vi.useRealTimers();
    }
  });

  it("several share a connection", async () => {
    handle = echo;
    using raw = await RawSocket.connect(listener.address);
    const other = { ...call, "Micro-Id": "4", "Micro-Stream": "4" };
    raw.write(goRequest(stream, "x") + goRequest(other, "x") + goRequest(stream, "to 3") + goRequest(other, "to 4"));
    await raw.until((received) => received.includes("to 3") && received.includes("to 4"), "both items");
    expect(seen.length).toBe(2);
  });

  it("what comes after the end does not run the handler again", async () => {
    handle = (exchange) => exchange.stream().end();
    using raw = await RawSocket.connect(listener.address);
    raw.write(goRequest(stream, "x"));
    await raw.until((received) => received.includes("EOS"), "the end marker");
    raw.write(
      goRequest(stream, "late") +
        goRequest({ ...stream, "Micro-Error": "EOS" }) +
        goRequest({ ...call, "Micro-Id": "9" }, "x"),
    );
    await raw.until((received) => received.split("EOS").length > 2, "the next exchange");
    expect(seen.map(({ id }) => id)).toEqual(["3", "9"]);
  });

  it("the last 64 that have ended on a connection are remembered, and no more", async () => {
    handle = (exchange) => exchange.stream().end();
    using raw = await RawSocket.connect(listener.address);
    const ids = Array.from({ length: 65 }, (_, index) => index);
    for (const id of ids) raw.write(messageOf(id));
    await waitFor(() => seen.length === ids.length, "all have ended");
    // Late ones of all, the first last: that is forgotten, and a new exchange.
    for (const id of [...ids.slice(1), 0]) raw.write(messageOf(id));
    raw.write(messageOf(99));
    await waitFor(() => seen.at(-1)?.id === "99", "the next exchange");
    expect(seen.slice(ids.length).map(({ id }) => id)).toEqual(["0", "99"]);
  });

  it("closing at once after the end marker lets the handler finish", async () => {
    const all: string[] = [];
    let done = false;
    const gone = Promise.withResolvers<void>();
    handle = (exchange) => {
      const open = exchange.stream();
      void (async () => {
        for (let body = await open.receive(); body !== undefined; body = await open.receive()) {
          all.push(Buffer.from(body).toString());
          // At the first message still when the caller has gone.
          await gone.promise;
        }
        done = exchange.cancellation.reason === undefined;
        open.end();
      })();
    };
    using raw = await RawSocket.connect(listener.address);
    raw.write(goRequest(stream, "x") + ["a", "b", "c"].map((item) => goRequest(stream, item)).join(""));
    raw.write(goRequest({ ...stream, "Micro-Error": "EOS" }));
    raw.socket.destroySoon();
    await waitFor(() => raw.closed, "the caller has gone");
    gone.resolve();
    await waitFor(() => done, "the handler ends by itself");
    expect(all).toEqual(["a", "b", "c"]);
  });

  it("closing without the end marker cancels the handler", async () => {
    handle = echo;
    using raw = await RawSocket.connect(listener.address);
    raw.write(goRequest(stream, "x"));
    await waitFor(() => seen.length === 1, "the stream is open");
    raw.socket.destroy();
    await waitFor(() => seen[0]?.cancellation.reason?.code === "aborted", "the handler is cancelled");
  });

  it("a second end marker is answered while the handler works, so that a caller knows us from Go", async () => {
    handle = (exchange) => void exchange.stream();
    using raw = await RawSocket.connect(listener.address);
    const end = goRequest({ ...stream, "Micro-Error": "EOS" });
    raw.write(goRequest(stream, "x") + end + end);
    await raw.until((received) => received === "HTTP/1.1 102 Processing\r\n\r\n", "an informational reply");
  });
});

describe("limits", () => {
  it("a peer that never asks is dropped", async () => {
    using raw = await RawSocket.connect(listener.address);
    await raw.until((_, { closed }) => closed, "the connection is closed");
    expect(raw.received).toBe("");
  });

  it("a head that trickles is cut off", async () => {
    using raw = await RawSocket.connect(listener.address);
    raw.write("POST / HTTP/1.1\r\nX: ");
    const drip = setInterval(() => raw.write("a"), 50);
    try {
      await raw.until((_, { closed }) => closed, "the connection is closed");
    } finally {
      clearInterval(drip);
    }
    expect(raw.received).toMatch(/^HTTP\/1\.1 408 /);
  });

  it.each([
    ["stops", "Content-Length: 100000\r\n\r\n", "", 1],
    ["trickles", "Content-Length: 100000\r\n\r\n", "a", 20],
    ["trickles in chunks", "Transfer-Encoding: chunked\r\n\r\n", "1;ext=12345678\r\na\r\n", 20],
  ])("a body that %s is cut off, and its caller told that it was not run", async (_name, framing, drop, everyMs) => {
    using raw = await RawSocket.connect(listener.address);
    using steady = await RawSocket.connect(listener.address);
    const head = "POST / HTTP/1.1\r\nMicro-Endpoint: T.M\r\n";
    raw.write(head + framing);
    steady.write(`${head}Content-Length: 100000\r\n\r\n`);
    const drip = setInterval(() => {
      if (drop !== "" && !raw.closed) raw.write(drop);
    }, everyMs);
    // More than it must be, and still far from whole when the other is cut off.
    const pour = setInterval(() => steady.write("a".repeat(300)), 20);
    try {
      await raw.until((_, { closed }) => closed, "the connection is closed");
      expect(steady.closed).toBe(false);
    } finally {
      clearInterval(drip);
      clearInterval(pour);
    }
    expect(raw.received).toMatch(/^HTTP\/1\.1 200 OK\r\n.*Micro-Error: \{[^\r]*"code":408.*Micro-Retry: not-run\r\n/s);
    expect(seen).toEqual([]);
  });

  it("a peer that asks and does not read is not read from any more", async () => {
    const answer = Buffer.alloc(100_000, "x");
    handle = (exchange) => exchange.reply({ body: answer });
    using raw = await RawSocket.connect(listener.address);
    raw.socket.pause();
    for (let index = 0; index < 2_000; index++) raw.write(goRequest(call, "a"));
    let last = -1;
    // Until nothing moves any more; a busy machine only makes the count smaller.
    while (seen.length !== last || seen.length === 0) {
      last = seen.length;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(seen.length).toBeLessThan(500);
    raw.socket.resume();
    await waitFor(() => seen.length === 2_000, "all are served once it reads");
  });

  it("exchanges on one connection are bounded", async () => {
    const few = httpTransport({ maxExchangesPerConnection: 3 });
    const waiting: ServerExchange[] = [];
    await using own = await few.listen((exchange) => void waiting.push(exchange), { address: "127.0.0.1:0" });
    using raw = await RawSocket.connect(own.address);
    for (let index = 0; index < 10; index++) raw.write(goRequest({ ...call, "Micro-Id": String(index) }, "a"));
    for (let index = 0; index < 10; index++) {
      await waitFor(() => waiting.length > index, "the next exchange");
      expect(waiting.length).toBeLessThanOrEqual(index + 3);
      waiting[index]?.reply({ body: Buffer.alloc(0) });
    }
    await few[Symbol.asyncDispose]();
  });

  it("connections are bounded", async () => {
    const few = httpTransport({ maxConnections: 2 });
    await using own = await few.listen(handle, { address: "127.0.0.1:0" });
    using one = await RawSocket.connect(own.address);
    using two = await RawSocket.connect(own.address);
    one.write(goRequest(call, "a"));
    two.write(goRequest(call, "a"));
    await two.until((received) => received.endsWith("a"), "the reply");
    using three = await RawSocket.connect(own.address);
    await three.until((_, { closed }) => closed, "the third is closed");
    await few[Symbol.asyncDispose]();
  });
});

function resources(): string[] {
  return process
    .getActiveResourcesInfo()
    .filter((name) => !name.startsWith("FS"))
    .toSorted();
}

describe("disposal", () => {
  it("tells idle peers that their next request was not run", async () => {
    using raw = await RawSocket.connect(listener.address);
    raw.write(goRequest(call, "a"));
    await raw.until((received) => received.endsWith("a"), "the reply");
    raw.received = "";
    await listener[Symbol.asyncDispose]();
    await raw.until((_, { closed }) => closed, "the connection is closed");
    expect(raw.received).toMatch(
      /^HTTP\/1\.1 200 OK\r\n.*Micro-Error: \{[^\r]*"code":408[^\r]*\}\r\n.*Micro-Retry: not-run\r\n/s,
    );
  });

  it("does not wait for peers that neither read nor close", async () => {
    handle = (exchange) => exchange.reply({ body: Buffer.alloc(4_000_000) });
    using raw = await RawSocket.connect(listener.address);
    raw.socket.pause();
    raw.write(goRequest(call, "a"));
    await waitFor(() => seen.length === 1, "the call");
    const start = performance.now();
    await listener[Symbol.asyncDispose]();
    expect(performance.now() - start).toBeLessThan(8_000);
  });

  it("leaves no socket and no timer", async () => {
    const own = httpTransport();
    const before = resources();
    const bound = await own.listen(handle, { address: "127.0.0.1:0" });
    const request = {
      service: "s",
      endpoint: "A.B",
      contentType: "application/json",
      metadata: undefined,
      body: Buffer.from("x"),
    };
    await Promise.all(
      Array.from({ length: 20 }, () => own.call(bound.address, request, { deadline: performance.now() + 5_000 })),
    );
    await bound[Symbol.asyncDispose]();
    await own[Symbol.asyncDispose]();
    await waitFor(() => resources().length <= before.length, `nothing is left, but ${resources().join(" ")}`);
  });
});
