/** What a stranger who reaches the http broker's port can make it keep, and wait for: no more than at the server's own. */
import { describe, expect, it } from "vitest";
import { httpBroker, memoryRegistry } from "@micro/core";
import type { Broker, BrokerEvent, HttpBrokerOptions, SubscribeOptions } from "@micro/core";
import { RawSocket, waitFor } from "../support/raw-socket.ts";

const envelope = (body: Uint8Array | string) =>
  JSON.stringify({ Header: { "Micro-Topic": "topic" }, Body: Buffer.from(body).toString("base64") });

/** A broker with one subscription, and how to write to it. */
async function open(
  options: Partial<HttpBrokerOptions> = {},
  handler: (event: BrokerEvent) => void | Promise<void> = () => {},
  subscribe: SubscribeOptions = {},
) {
  const stack = new AsyncDisposableStack();
  const registry = stack.use(memoryRegistry());
  const broker: Broker = stack.use(httpBroker({ registry, address: "127.0.0.1:0", ...options }));
  const subscriber = broker.subscribe("topic", handler, { onError() {}, ...subscribe });
  await subscriber.ready;
  const [service] = await registry.getService("micro.http.broker");
  const { id } = service!.nodes[0]!;
  return {
    broker,
    subscriber,
    connect: () => RawSocket.connect(broker.address),
    request: (body: string, headers = "") =>
      `POST /?id=${id} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n${headers}Content-Length: ${body.length}\r\n\r\n${body}`,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

describe("the http broker's port", () => {
  const brief = { firstRequestTimeoutMs: 1_000, stalledTimeoutMs: 1_000, idleTimeoutMs: 1_000 };

  it("closes a connection that says nothing", async () => {
    await using place = await open(brief);
    using raw = await place.connect();
    await raw.until((_, { closed }) => closed, "the end");
    expect(raw.received).toBe("");
  });

  it("closes half a head, however busily it grows", async () => {
    await using place = await open(brief);
    using raw = await place.connect();
    raw.write("POST /?id=1 HTTP/1.1\r\n");
    const timer = setInterval(() => raw.write("X-A: b\r\n"), 100);
    try {
      await raw.until((_, { closed }) => closed, "the end");
      expect(raw.received).toMatch(/^HTTP\/1\.1 408 /);
    } finally {
      clearInterval(timer);
    }
  });

  it("closes a body that trickles, and not one that comes slowly but surely", async () => {
    await using place = await open({ ...brief, minBytesPerSecond: 1_000 });
    const text = envelope(Buffer.alloc(9_000));
    const slow = place.request(text);
    using trickling = await place.connect();
    using surely = await place.connect();
    trickling.write(slow.slice(0, 300));
    surely.write(slow.slice(0, 300));
    let at = 300;
    const timer = setInterval(() => {
      trickling.write("x");
      surely.write(slow.slice(at, (at += 400)));
    }, 100);
    try {
      await trickling.until((_, { closed }) => closed, "the end");
      expect(trickling.received).toMatch(/^HTTP\/1\.1 408 /);
      await surely.until((received) => received.startsWith("HTTP/1.1 200 "), "the answer");
    } finally {
      clearInterval(timer);
    }
  });

  it("closes a connection that rests", async () => {
    await using place = await open(brief);
    using raw = await place.connect();
    raw.write(place.request(envelope("x")));
    await raw.until((received, { closed }) => received.startsWith("HTTP/1.1 200 ") && closed, "the end");
  });

  it("has so many connections, and no more", async () => {
    await using place = await open({ maxConnections: 2 });
    using first = await place.connect();
    using second = await place.connect();
    using third = await place.connect();
    await third.until((_, { closed }) => closed, "the end of the third");
    second.write(place.request(envelope("x")));
    await second.until((received) => received.startsWith("HTTP/1.1 200 "), "the answer");
    expect(first.closed).toBe(false);
  });

  it("answers a hundred probes that wait for a word before the body", async () => {
    await using place = await open();
    using raw = await place.connect();
    const [head, body] = place.request(envelope("x"), "Expect: 100-continue\r\n").split("\r\n\r\n");
    raw.write(`${head}\r\n\r\n`);
    await raw.until((received) => received === "HTTP/1.1 100 Continue\r\n\r\n", "the word");
    raw.write(body!);
    await raw.until((received) => received.includes("HTTP/1.1 200 "), "the answer");
  });

  it.each([
    ["a page", "Origin: https://evil.example\r\nSec-Fetch-Mode: no-cors\r\n"],
    ["a page that hides where it is from", "Origin: null\r\n"],
    ["a page whose name was pointed here", "Origin: http://a\r\nMicro-Topic: topic\r\n"],
    ["a navigation", "Sec-Fetch-Mode: navigate\r\n"],
  ])("runs nothing for %s", async (_name, headers) => {
    const handled: string[] = [];
    await using place = await open({}, () => void handled.push("event"));
    using raw = await place.connect();
    raw.write(place.request(envelope("x"), headers));
    await raw.until((received) => received.startsWith("HTTP/1.1 403 "), "the refusal");
    // The connection serves others: a proxy may be in between.
    raw.write(place.request(envelope("y")));
    await raw.until((received) => received.includes("HTTP/1.1 200 "), "the answer");
    expect(place.subscriber.stats.received).toBe(1);
  });

  it("refuses a body above its limit: by its length, as an envelope, and at the publisher", async () => {
    const handled: number[] = [];
    await using place = await open({}, ({ message }) => void handled.push(message.body.byteLength));
    using raw = await place.connect();
    raw.write("POST / HTTP/1.1\r\nContent-Length: 6000000\r\n\r\n");
    await raw.until((received, { closed }) => received.startsWith("HTTP/1.1 413 ") && closed, "the refusal");
    const limit = 4 * 1024 * 1024;
    using other = await place.connect();
    other.write(place.request(envelope(Buffer.alloc(limit + 1))));
    await other.until((received) => received.startsWith("HTTP/1.1 413 "), "the refusal");
    other.write(place.request(envelope(Buffer.alloc(limit))));
    await other.until((received) => received.includes("HTTP/1.1 200 "), "the answer");
    await expect(place.broker.publish("topic", { body: Buffer.alloc(limit + 1) })).rejects.toMatchObject({
      code: "too_large",
    });
    await place.broker.publish("topic", { body: Buffer.alloc(limit) });
    await waitFor(() => handled.length === 2, "two messages");
    expect(handled).toEqual([limit, limit]);
  });

  it("reads no more of who takes no answers, and closes", async () => {
    let refused = 0;
    await using place = await open({ stalledTimeoutMs: 1_000 }, undefined, { onError: () => void refused++ });
    using raw = await place.connect();
    const head = place.request("{}").split("\r\n")[0]!;
    raw.socket.pause();
    // A word of the publisher's for two of ours: with what the system keeps of both there are some megabytes.
    const request = `${head}\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}`;
    const count = 200_000;
    raw.write(request.repeat(count));
    await waitFor(() => refused > 0, "the first of them");
    // It is not reading that ends the wait: the end itself is in line behind the answers.
    await waitFor(() => raw.closed || raw.failed, "the end");
    expect(refused).toBeLessThan(count / 2);
    using other = await place.connect();
    other.write(place.request(envelope("hello")));
    await other.until((received) => received.startsWith("HTTP/1.1 200 "), "an answer");
  });

  it("gives back what unfinished messages have kept, however their connections end", async () => {
    // Room for two of the largest messages.
    await using place = await open({ maxMessageBytes: 300_000, maxUnfinishedBytes: 1, ...brief });
    const large = place.request(envelope(Buffer.alloc(300_000, 1)));
    const half = large.slice(0, large.length / 2);
    for (let round = 0; round < 3; round++) {
      const sockets = await Promise.all(Array.from({ length: 6 }, () => place.connect()));
      for (const socket of sockets) socket.write(half);
      // Some are refused for the others' sake; of the rest one is cut, one ends, one is late.
      await waitFor(() => sockets.filter(({ closed }) => closed).length >= 2, "refusals");
      const [cut, ended] = sockets.filter(({ closed }) => !closed);
      cut?.socket.destroy();
      ended?.socket.end();
      for (const socket of sockets) await socket.until((_, { closed }) => closed, "the end");
    }
    for (let count = 0; count < 4; count++) {
      using raw = await place.connect();
      raw.write(half);
      raw.write(large.slice(half.length));
      await raw.until((received) => received.startsWith("HTTP/1.1 200 "), "the answer");
    }
  });

  it("bounds the bytes that wait for a subscription to have room, and gives them back", async () => {
    const gate = Promise.withResolvers<void>();
    await using place = await open({ maxMessageBytes: 300_000, maxUnfinishedBytes: 1 }, () => gate.promise, {
      prefetch: 1,
    });
    // Go's publishers, which would wait for half a minute.
    const request = place.request(envelope(Buffer.alloc(300_000, 1)), "User-Agent: Go-http-client/1.1\r\n");
    const sockets = await Promise.all(Array.from({ length: 9 }, () => place.connect()));
    for (const socket of sockets) socket.write(request);
    await waitFor(() => sockets.filter(({ received }) => received.startsWith("HTTP/1.1 503 ")).length >= 4, "refusals");
    gate.resolve();
    await waitFor(() => sockets.every(({ received }) => received !== ""), "all answers");
    for (const socket of sockets) socket[Symbol.dispose]();
    for (let count = 0; count < 6; count++) {
      using raw = await place.connect();
      raw.write(request);
      await raw.until((received) => received.startsWith("HTTP/1.1 200 "), "the answer");
    }
  });

  it.each([
    ["many arrays", `{"Body":null,"x":[${"[],".repeat(1_000_000)}[]]}`],
    ["deep arrays", `{"Body":null,"x":${"[".repeat(2_000_000)}${"]".repeat(2_000_000)}}`],
    [
      "many headers",
      `{"Header":{"Micro-Topic":"topic"${Array.from({ length: 30_000 }, (_, index) => `,"X-${index}":""`).join("")}},"Body":""}`,
    ],
  ])("does not parse an envelope of %s", async (_name, body) => {
    const errors: string[] = [];
    await using place = await open({}, () => {}, { onError: (error) => void errors.push(error.detail) });
    using raw = await place.connect();
    raw.write(place.request(body));
    await raw.until((received) => received.startsWith("HTTP/1.1 500 "), "the refusal");
    expect(errors).toEqual([expect.stringContaining("more than 1024 arrays, objects and members")]);
  });
});
