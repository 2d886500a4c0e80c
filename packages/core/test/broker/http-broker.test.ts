import { once } from "node:events";
import { createServer, request } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";
import type { AddressInfo } from "node:net";
import os from "node:os";
import { describe, expect, it, vi } from "vitest";
import { decodeEnvelope, httpBroker, memoryRegistry, MicroError } from "@micro/core";
import type { HttpBrokerOptions, Registry } from "@micro/core";
import { selfSigned } from "../../src/net/self-signed.ts";
import { faultyRegistry } from "../support/faulty-registry.ts";
import { broadcast, failureOf, HttpBrokerPlace, inboxOf, recordOf } from "../support/http-broker-place.ts";
import { RawSocket, waitFor } from "../support/raw-socket.ts";

const utf8 = (text: string) => Buffer.from(text);

class Bench extends HttpBrokerPlace {
  /** A subscriber such as Go's: a node in the registry, and an HTTP server. */
  async goSubscriber(topic: string, options: { queue?: string; answer?: Answer; metadata?: object } = {}) {
    const received: Received[] = [];
    const busy = new Map<object, number>();
    const server = createServer((incoming, reply) => {
      const { socket } = incoming;
      busy.set(socket, (busy.get(socket) ?? 0) + 1);
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.on("end", () => {
        received.push({ incoming, body: Buffer.concat(chunks), inFlight: busy.get(socket)! });
        reply.on("close", () => busy.set(socket, busy.get(socket)! - 1));
        (options.answer ?? accept)(reply, received.length, incoming);
      });
    });
    server.keepAliveTimeout = 30_000;
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const close = async () => {
      server.closeAllConnections();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    };
    this.stack.defer(close);
    const node = await this.register(topic, address, options.queue, options.metadata);
    return { received, address, node, close };
  }
}

interface Received {
  readonly incoming: IncomingMessage;
  readonly body: Buffer;
  /** Requests without an answer on the same connection, this one included. */
  readonly inFlight: number;
}
type Answer = (reply: ServerResponse, count: number, incoming: IncomingMessage) => void;

const accept: Answer = (reply) => void reply.end();
async function post(address: string, path: string, body: string | Buffer, options: { method?: string } = {}) {
  const [host, port] = address.split(":");
  const sent = request({ host, port, path, method: options.method ?? "POST", agent: false });
  sent.end(body);
  const [reply] = (await once(sent, "response")) as [IncomingMessage];
  let text = "";
  for await (const chunk of reply) text += String(chunk);
  return { status: reply.statusCode, text, headers: reply.headers };
}

const envelope = (topic: string, body: string) =>
  JSON.stringify({ Header: { "Micro-Topic": topic }, Body: utf8(body).toString("base64") });

const brokerError = (code: number, detail: unknown, status: string) => ({
  id: "go.micro.broker",
  code,
  detail,
  status,
});

const interfaceOf = (address: string, internal: boolean): os.NetworkInterfaceInfo[] => [
  { address, family: "IPv4", internal, netmask: "255.0.0.0", mac: "00:00:00:00:00:00", cidr: null },
];

/** A port nobody listens on. */
async function deadAddress(): Promise<string> {
  const server = createTcpServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return `127.0.0.1:${port}`;
}

describe("the registration of a subscription", () => {
  it("is go-micro's, with a node for each subscription", async () => {
    await using bench = new Bench();
    const broker = bench.broker();
    await inboxOf(broker, "user.created");
    await inboxOf(broker, "user.created", { queue: "mailer" });
    const nodes = (await bench.nodes()).toSorted((a, b) => (a.version < b.version ? -1 : 1));
    expect(nodes.map(({ version }) => version)).toEqual([broadcast, "mailer"]);
    for (const { id, address, metadata } of nodes) {
      expect(id).toMatch(/^user\.created-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
      expect(address).toBe(broker.address);
      expect(metadata).toMatchObject({ broker: "http", topic: "user.created", secure: "false" });
    }
    expect(nodes[0]!.id).not.toBe(nodes[1]!.id);
  });

  it("goes with the subscription", async () => {
    await using bench = new Bench();
    const { subscriber } = await inboxOf(bench.broker(), "a");
    await subscriber.unsubscribe();
    expect(await bench.nodes()).toEqual([]);
  });

  it.each([
    "orders." + "x".repeat(200),
    "eine Schlange / mit Umlaut: ü",
    "..",
    "a..b",
    "x".repeat(27),
    "🚀",
    "a".repeat(63) + ".b",
  ])("has an id that fits a DNS label, whatever the topic: %s", async (topic) => {
    await using bench = new Bench();
    const { bodies } = await inboxOf(bench.broker(), topic);
    const [node] = await bench.nodes();
    expect(node!.id).toMatch(/^[A-Za-z0-9._-]+$/);
    for (const label of node!.id.split(".")) expect(label.length).toBeLessThanOrEqual(63);
    expect(node!.metadata["topic"]).toBe(topic);
    await bench.broker().publish(topic, { body: utf8("hello") });
    await waitFor(() => bodies.length === 1, "the message");
  });

  it("advertises an address that others can dial", async () => {
    await using bench = new Bench();
    for (const [options, expected] of [
      [{ address: ":0" }, /^(?!0\.0\.0\.0|\[::\])/],
      [{ address: "127.0.0.1:0", advertise: "broker.example" }, /^broker\.example:[1-9]\d+$/],
      [{ address: "127.0.0.1:0", advertise: "10.1.2.3:0" }, /^10\.1\.2\.3:[1-9]\d+$/],
      [{ address: "127.0.0.1:0", advertise: "10.1.2.3:99" }, /^10\.1\.2\.3:99$/],
    ] as const) {
      const broker = bench.broker(options);
      expect(broker.address).toBe("");
      await using subscriber = broker.subscribe("a", () => {});
      await subscriber.ready;
      const [node] = await bench.nodes();
      expect(node!.address).toMatch(expected);
      expect(broker.address).toMatch(/^(127\.0\.0\.1|\[::\]):[1-9]\d+$/);
    }
  });

  it("advertises the address among the machine's at which a connection is taken", async () => {
    // Nobody is connected to at the address of a group: that interface leads nowhere.
    const spy = vi.spyOn(os, "networkInterfaces").mockReturnValue({
      eth0: interfaceOf("224.0.0.1", false),
      lo: interfaceOf("127.0.0.1", true),
    });
    try {
      for (const advertise of [undefined, ":0", ":4711"]) {
        await using bench = new Bench();
        const broker = bench.broker({ address: "0.0.0.0:0", advertise });
        await broker.subscribe("a", () => {}).ready;
        const port = advertise === ":4711" ? "4711" : broker.address.split(":")[1];
        expect((await bench.nodes()).map(({ address }) => address)).toEqual([`127.0.0.1:${port}`]);
      }
    } finally {
      spy.mockRestore();
    }
  });

  it("is bound by listen(), whatever the registry does", async () => {
    await using bench = new Bench();
    const registry = memoryRegistry();
    registry.getService = () => new Promise<never>(() => {});
    const broker = bench.broker({ registry });
    await Promise.all([broker.listen!(), broker.listen!()]);
    const { address } = broker;
    expect(address).toMatch(/^127\.0\.0\.1:\d+$/);
    await broker.listen!();
    expect(broker.address).toBe(address);
    await broker.disconnect();
    await expect(broker.listen!()).rejects.toMatchObject({ code: "closed" });
  });

  it("opens its port with the first subscription: connecting and publishing open none", async () => {
    await using bench = new Bench();
    await inboxOf(bench.broker(), "a");
    const broker = bench.broker();
    await broker.connect();
    await broker.publish("a", { body: utf8("1") });
    expect(broker.address).toBe("");
    await broker.subscribe("b", () => {}).ready;
    expect(broker.address).toMatch(/^127\.0\.0\.1:\d+$/);
  });

  it("waits for a port that is taken, says so, and takes it when it is free", async () => {
    await using bench = new Bench();
    const taken = createTcpServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const address = `127.0.0.1:${(taken.address() as AddressInfo).port}`;
    const broker = bench.broker({ address });
    expect((await failureOf(broker.listen!())).code).toBe("unavailable");
    const errors: MicroError[] = [];
    const subscriber = broker.subscribe("a", () => {}, { onError: (error) => errors.push(error) });
    await waitFor(() => errors.length > 0, "the error");
    expect(errors[0]!.detail).toContain(`cannot listen on ${address}`);
    taken.close();
    await subscriber.ready;
    expect(await bench.nodes()).toHaveLength(1);
  });

  it("is refused where the registry cannot hold it", async () => {
    const registry = memoryRegistry();
    const refusing: Registry = {
      name: "picky",
      register: () => Promise.reject(new MicroError("no such names", { code: "bad_request" })),
      deregister: (service, options) => registry.deregister(service, options),
      getService: (name, options) => registry.getService(name, options),
      listServices: (options) => registry.listServices(options),
      watch: (options) => registry.watch(options),
      [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
    };
    await using broker = httpBroker({ registry: refusing, address: "127.0.0.1:0" });
    const subscriber = broker.subscribe("a", () => {}, { onError() {} });
    expect((await failureOf(subscriber.ready)).code).toBe("bad_request");
    await refusing[Symbol.asyncDispose]();
  });
});

describe("receiving", () => {
  it("answers as Go does, in Go's order, and says more where Go's publishers do not look", async () => {
    await using bench = new Bench();
    const broker = bench.broker();
    const errors: MicroError[] = [];
    const { bodies, subscriber } = await inboxOf(broker, "topic.a", { onError: (error) => errors.push(error) });
    const [node] = await bench.nodes();
    const path = `/?id=${node!.id}`;
    const answers = [];
    for (const [method, target, body] of [
      ["GET", path, ""],
      ["POST", path, "not json"],
      ["POST", path, "null"],
      ["POST", path, JSON.stringify({ Header: {}, Body: "" })],
      ["POST", "/?id=nobody", envelope("topic.a", "x")],
      ["POST", "/", envelope("topic.a", "x")],
      ["POST", path, envelope("topic.b", "x")],
      ["POST", path, envelope("topic.a", "hello")],
      ["POST", `/any/path?x=%20&id=${encodeURIComponent(node!.id)}`, envelope("topic.a", "again")],
    ] as const) {
      const { status, text, headers } = await post(broker.address, target, body, { method });
      if (status !== 200) expect(headers["content-type"]).toBe("text/plain; charset=utf-8");
      answers.push([status, text === "" ? "" : (JSON.parse(text) as { code: number; detail: string })]);
    }
    expect(answers).toEqual([
      [405, brokerError(400, "Method not allowed", "Bad Request")],
      [500, brokerError(500, expect.stringMatching(/^Error parsing request body: /), "Internal Server Error")],
      [500, brokerError(500, expect.stringMatching(/^Error parsing request body: /), "Internal Server Error")],
      [500, brokerError(500, "Topic not found", "Internal Server Error")],
      [404, brokerError(404, "no such subscription", "Not Found")],
      [404, brokerError(404, "no such subscription", "Not Found")],
      [404, brokerError(404, "no such subscription", "Not Found")],
      [200, ""],
      [200, ""],
    ]);
    expect(bodies).toEqual(["hello", "again"]);
    // What could not be read is known to the subscription.
    expect(errors.map(({ code }) => code)).toEqual(["codec", "codec", "bad_request", "bad_request"]);
    expect(subscriber.stats).toMatchObject({ received: 6, handled: 2, failed: 4, dropped: 4, inFlight: 0 });
  });

  it("reads what Go sends", async () => {
    await using bench = new Bench();
    const broker = bench.broker();
    const { bodies } = await inboxOf(broker, "topic.a");
    const [node] = await bench.nodes();
    const body = envelope("topic.a", "from go");
    using raw = await RawSocket.connect(broker.address);
    raw.write(
      `POST /?id=${node!.id} HTTP/1.1\r\nHost: ${broker.address}\r\nUser-Agent: Go-http-client/1.1\r\n` +
        `Content-Length: ${body.length}\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n${body}`,
    );
    await raw.until(
      (received) => received === "HTTP/1.1 200 OK\r\nMicro-Broker: http\r\nContent-Length: 0\r\n\r\n",
      "the answer",
    );
    const chunked = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
    raw.write(
      `POST /?id=${node!.id} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n${chunked}`,
    );
    await raw.until((_, { closed }) => closed, "the end");
    expect(bodies).toEqual(["from go", "from go"]);
  });

  it("refuses what is too large, or no HTTP, and lives on", async () => {
    await using bench = new Bench();
    const broker = bench.broker({ maxMessageBytes: 1_000 });
    const { bodies } = await inboxOf(broker, "a");
    const [node] = await bench.nodes();
    for (const [bytes, status] of [
      ["POST / HTTP/1.1\r\nContent-Length: 263481\r\n\r\n", "413"],
      ["GARBAGE\r\n\r\n", "400"],
      [`POST / HTTP/1.1\r\nX: ${"x".repeat(70_000)}\r\n\r\n`, "431"],
    ] as const) {
      using raw = await RawSocket.connect(broker.address);
      raw.write(bytes);
      await raw.until((received, { closed }) => closed && received.startsWith(`HTTP/1.1 ${status} `), status);
    }
    expect((await failureOf(bench.broker().publish("a", { body: Buffer.alloc(2_000) }))).code).toBe("too_large");
    expect((await post(broker.address, `/?id=${node!.id}`, envelope("a", "fine"))).status).toBe(200);
    expect(bodies).toEqual(["fine"]);
  });

  it("takes further requests before it has answered the first, and keeps their order", async () => {
    await using bench = new Bench();
    const broker = bench.broker();
    const gate = Promise.withResolvers<void>();
    const bodies: string[] = [];
    const subscriber = broker.subscribe(
      "a",
      async ({ message }) => {
        await gate.promise;
        bodies.push(Buffer.from(message.body).toString());
      },
      { prefetch: 2 },
    );
    await subscriber.ready;
    const [node] = await bench.nodes();
    using raw = await RawSocket.connect(broker.address);
    const requests = Array.from({ length: 5 }, (_, index) => {
      const body = envelope("a", String(index));
      return `POST /?id=${node!.id} HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    });
    raw.write(requests.join(""));
    await waitFor(() => subscriber.stats.received === 2, "two messages");
    gate.resolve();
    await raw.until((received) => received.split("200 OK").length === 6, "five answers");
    await waitFor(() => bodies.length === 5, "five messages");
    expect(bodies).toEqual(["0", "1", "2", "3", "4"]);
  });

  it("tells a publisher that has waited for room to come again", async () => {
    await using bench = new Bench();
    const broker = bench.broker();
    const gate = Promise.withResolvers<void>();
    const subscriber = broker.subscribe("a", () => gate.promise, { prefetch: 1 });
    await subscriber.ready;
    const [node] = await bench.nodes();
    const path = `/?id=${node!.id}`;
    expect((await post(broker.address, path, envelope("a", "1"))).status).toBe(200);
    expect((await post(broker.address, path, envelope("a", "2"))).status).toBe(503);
    gate.resolve();
    await waitFor(() => subscriber.stats.inFlight === 0, "room");
    expect((await post(broker.address, path, envelope("a", "3"))).status).toBe(200);
  });

  it("keeps Go's publishers waiting instead, for they would take the refusal for success", async () => {
    await using bench = new Bench();
    const broker = bench.broker();
    const gate = Promise.withResolvers<void>();
    const subscriber = broker.subscribe("a", () => gate.promise, { prefetch: 1 });
    await subscriber.ready;
    const [node] = await bench.nodes();
    const body = envelope("a", "x");
    const head = `POST /?id=${node!.id} HTTP/1.1\r\nHost: a\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: ${body.length}`;
    using first = await RawSocket.connect(broker.address);
    using second = await RawSocket.connect(broker.address);
    first.write(`${head}\r\n\r\n${body}`);
    await first.until((received) => received !== "", "an answer");
    second.write(`${head}\r\n\r\n${body}`);
    // Longer than one of ours would have to wait for its refusal.
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    expect([second.received, subscriber.stats.received]).toEqual(["", 1]);
    gate.resolve();
    await second.until((received) => received.startsWith("HTTP/1.1 200 "), "an answer");
    await waitFor(() => subscriber.stats.handled === 2, "both messages");
  });

  it("survives publishers that go away in the middle", async () => {
    await using bench = new Bench();
    const broker = bench.broker();
    const { bodies } = await inboxOf(broker, "a");
    const [node] = await bench.nodes();
    for (let index = 0; index < 20; index++) {
      const socket = connect(Number(broker.address.split(":")[1]), "127.0.0.1");
      await once(socket, "connect");
      socket.write(`POST /?id=${node!.id} HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"Header"`);
      socket.resetAndDestroy();
    }
    expect((await post(broker.address, `/?id=${node!.id}`, envelope("a", "fine"))).status).toBe(200);
    expect(bodies).toEqual(["fine"]);
  });
});

describe("publishing to subscribers of Go", () => {
  it("posts what Go posts, one request at a time on a connection that is used again", async () => {
    await using bench = new Bench();
    const { received, node, address } = await bench.goSubscriber("topic.a");
    const broker = bench.broker();
    for (const each of ["1", "2", "3"])
      await broker.publish("topic.a", { header: { "Micro-Id": "7", "content-type": "text/plain" }, body: utf8(each) });
    expect(received).toHaveLength(3);
    expect(new Set(received.map(({ incoming }) => incoming.socket)).size).toBe(1);
    const { incoming, body } = received[0]!;
    expect([incoming.method, incoming.url]).toEqual(["POST", `/?id=${node.id}`]);
    expect(incoming.headers).toMatchObject({ host: address, "content-type": "application/json" });
    expect(JSON.parse(body.toString())).toEqual({
      Header: { "Micro-Id": "7", "Micro-ID": "7", "Content-Type": "text/plain", "Micro-Topic": "topic.a" },
      Body: "MQ==",
    });
  });

  it("does not send a request on a connection that has yet to answer another", async () => {
    await using bench = new Bench();
    const waiting: ServerResponse[] = [];
    const { received } = await bench.goSubscriber("a", { answer: (reply) => void waiting.push(reply) });
    const broker = bench.broker();
    const published = Promise.all(Array.from({ length: 40 }, () => broker.publish("a", { body: utf8("x") })));
    while (received.length < 40) {
      await waitFor(() => waiting.length > 0, "a request");
      for (const reply of waiting.splice(0)) reply.end();
      await new Promise(setImmediate);
    }
    for (const reply of waiting.splice(0)) reply.end();
    await published;
    expect(Math.max(...received.map(({ inFlight }) => inFlight))).toBe(1);
    const connections = new Set(received.map(({ incoming }) => incoming.socket)).size;
    expect(connections).toBeGreaterThan(1);
    expect(connections).toBeLessThanOrEqual(16);
  });

  it("overwrites Micro-Topic, and passes over nodes that are no subscriptions of the topic", async () => {
    await using bench = new Bench();
    const mine = await bench.goSubscriber("a");
    const other = await bench.goSubscriber("b");
    const foreign = await bench.goSubscriber("a", { metadata: { broker: "grpc" } });
    await bench.broker().publish("a", { header: { "Micro-Topic": "b" }, body: utf8("x") });
    expect([mine.received.length, other.received.length, foreign.received.length]).toEqual([1, 0, 0]);
    expect(decodeEnvelope(mine.received[0]!.body).header.get("Micro-Topic")).toBe("a");
  });

  it("gives each queue one copy, and every broadcast subscriber one", async () => {
    await using bench = new Bench();
    const first = await bench.goSubscriber("a", { queue: "jobs" });
    const second = await bench.goSubscriber("a", { queue: "jobs" });
    const alone = await bench.goSubscriber("a", { queue: "mails" });
    const all = [await bench.goSubscriber("a"), await bench.goSubscriber("a")];
    const broker = bench.broker();
    for (let index = 0; index < 30; index++) await broker.publish("a", { body: utf8(String(index)) });
    expect(first.received.length + second.received.length).toBe(30);
    expect(Math.min(first.received.length, second.received.length)).toBeGreaterThan(0);
    for (const { received } of [alone, ...all]) expect(received).toHaveLength(30);
  });
});

describe("a delivery that fails", () => {
  it("is tried again after an answer that is no success", async () => {
    await using bench = new Bench();
    const { received } = await bench.goSubscriber("a", {
      answer: (reply, count) => void reply.writeHead(count < 3 ? 500 : 200).end(),
    });
    await bench.broker().publish("a", { body: utf8("x") });
    expect(received).toHaveLength(3);
  });

  it("is tried again after the connection was closed", async () => {
    await using bench = new Bench();
    const { received } = await bench.goSubscriber("a", {
      answer: (reply, count) => void (count === 2 ? reply.destroy() : reply.end()),
    });
    const broker = bench.broker();
    await broker.publish("a", { body: utf8("1") });
    await broker.publish("a", { body: utf8("2") });
    expect(received).toHaveLength(3);
  });

  it("is an error at the deadline, which names the node and the reason", async () => {
    await using bench = new Bench();
    const { node } = await bench.goSubscriber("a", { answer: (reply) => void reply.writeHead(500).end("broken") });
    const error = await failureOf(bench.broker().publish("a", { body: utf8("x") }, { timeoutMs: 150 }));
    expect(error.code).toBe("unavailable");
    expect(error.detail).toContain(node.id);
    expect(error.detail).toContain("it answered 500 broken");
  });

  it("is an error at once if it would fail again", async () => {
    await using bench = new Bench();
    const { received } = await bench.goSubscriber("a", { answer: (reply) => void reply.writeHead(413).end() });
    expect((await failureOf(bench.broker().publish("a", { body: utf8("x") }))).code).toBe("too_large");
    expect(received).toHaveLength(1);
  });

  it("times out where no answer comes", async () => {
    await using bench = new Bench();
    const { received } = await bench.goSubscriber("a", { answer() {} });
    const error = await failureOf(bench.broker().publish("a", { body: utf8("x") }, { timeoutMs: 150 }));
    expect(error.code).toBe("timeout");
    expect(received).toHaveLength(1);
  });

  it("goes to another member of the queue", async () => {
    await using bench = new Bench();
    const dead = await deadAddress();
    for (let index = 0; index < 5; index++) await bench.register("a", dead, "jobs");
    await bench.goSubscriber("a", { queue: "jobs", answer: (reply) => void reply.writeHead(404).end() });
    await bench.goSubscriber("a", { queue: "jobs", answer: (reply) => void reply.writeHead(503).end() });
    await bench.goSubscriber("a", { queue: "jobs", answer: (reply) => void reply.destroy() });
    // One of ours answers at once, or it is dead.
    await bench.goSubscriber("a", { queue: "jobs", answer() {}, metadata: { wire: "pipelined" } });
    const { received } = await bench.goSubscriber("a", { queue: "jobs" });
    const broker = bench.broker();
    for (let index = 0; index < 10; index++) await broker.publish("a", { body: utf8(String(index)) });
    expect(received.map(({ body }) => String(decodeEnvelope(body).body))).toEqual(
      Array.from({ length: 10 }, (_, index) => String(index)),
    );
  });

  it("sends one of ours the next before it has answered, however much it has answered before", async () => {
    await using bench = new Bench();
    const held: ServerResponse[] = [];
    const answer: Answer = (reply, count) => {
      held.push(reply.setHeader("Micro-Broker", "http"));
      if (count <= 5 || held.length === 2) for (const one of held.splice(0)) one.end();
    };
    const { received } = await bench.goSubscriber("a", { queue: "jobs", answer, metadata: { wire: "pipelined" } });
    const broker = bench.broker();
    const body = Buffer.alloc(1024 * 1024);
    for (let index = 0; index < 5; index++) await broker.publish("a", { body });
    await Promise.all([broker.publish("a", { body }), broker.publish("a", { body })]);
    expect([received.length, received.at(-1)?.inFlight]).toEqual([7, 2]);
  });

  it("of a queue without a member that lives is an error, whoever else has the message", async () => {
    await using bench = new Bench();
    await bench.register("a", await deadAddress(), "jobs");
    const { received } = await bench.goSubscriber("a");
    const error = await failureOf(bench.broker().publish("a", { body: utf8("x") }, { timeoutMs: 200 }));
    expect(error.code).toBe("unavailable");
    expect(error.detail).toContain("the queue jobs");
    expect(error.detail).toContain("connection refused");
    expect(received).toHaveLength(1);
  });

  it("at a subscriber that died is no error while others have the message, and is not waited for every time", async () => {
    await using bench = new Bench();
    await bench.register("a", await deadAddress());
    const { received } = await bench.goSubscriber("a");
    const broker = bench.broker();
    await broker.publish("a", { body: utf8("first") });
    const begin = performance.now();
    await broker.publish("a", { body: utf8("second") });
    expect(performance.now() - begin).toBeLessThan(400);
    expect(received).toHaveLength(2);
  });

  it("at the only subscriber is an error, until it leaves the registry", async () => {
    await using bench = new Bench();
    const node = await bench.register("a", await deadAddress());
    const broker = bench.broker();
    const error = await failureOf(broker.publish("a", { body: utf8("x") }, { timeoutMs: 200 }));
    expect(error.code).toBe("unavailable");
    expect(error.detail).toContain(`${node.id} at ${node.address}`);
    const publishing = broker.publish("a", { body: utf8("x") });
    await bench.registry.deregister(recordOf(broadcast, node));
    await publishing;
  });

  it("at an address nobody can dial is an error of that node alone", async () => {
    await using bench = new Bench();
    await bench.register("a", "no address");
    const { received } = await bench.goSubscriber("a");
    await bench.broker().publish("a", { body: utf8("x") });
    expect(received).toHaveLength(1);
  });

  it("at a subscriber that has just left does not count", async () => {
    await using bench = new Bench();
    await bench.goSubscriber("a", { answer: (reply) => void reply.writeHead(404).end() });
    await bench.broker().publish("a", { body: utf8("x") });
  });

  it("holds up no other topic", async () => {
    await using bench = new Bench();
    await bench.goSubscriber("slow", { answer() {} });
    const { received } = await bench.goSubscriber("quick");
    const broker = bench.broker();
    const stuck = failureOf(broker.publish("slow", { body: utf8("x") }, { timeoutMs: 1_000 }));
    for (let index = 0; index < 20; index++) await broker.publish("quick", { body: utf8("x") });
    expect(received).toHaveLength(20);
    expect((await stuck).code).toBe("timeout");
  });
});

describe("the registry", () => {
  it("may go away once subscribers are known", async () => {
    const registry = faultyRegistry();
    await using subscribing = httpBroker({ registry, address: "127.0.0.1:0" });
    await using publishing = httpBroker({ registry, address: "127.0.0.1:0" });
    const { bodies } = await inboxOf(subscribing, "a");
    await publishing.publish("a", { body: utf8("1") });
    registry.down = true;
    registry.breakWatches();
    await publishing.publish("a", { body: utf8("2") });
    await waitFor(() => bodies.length === 2, "two messages");
  });

  it("is waited for by publishes and subscriptions", async () => {
    const registry = faultyRegistry();
    registry.down = true;
    await using broker = httpBroker({ registry, address: "127.0.0.1:0" });
    expect((await failureOf(broker.connect({ timeoutMs: 50 }))).code).toBe("unavailable");
    const errors: MicroError[] = [];
    const received: string[] = [];
    const subscriber = broker.subscribe("a", ({ topic }) => void received.push(topic), {
      onError: (error) => errors.push(error),
    });
    const publishing = broker.publish("b", { body: utf8("x") });
    await waitFor(() => registry.counts.register > 0, "a registration");
    registry.down = false;
    await publishing;
    await subscriber.ready;
    await broker.publish("a", { body: utf8("x") });
    await waitFor(() => received.length === 1, "the message");
  });

  it("bounds the publishes that wait for it", async () => {
    const registry = faultyRegistry();
    registry.down = true;
    await using broker = httpBroker({ registry, address: "127.0.0.1:0", maxPublishes: 2 });
    const waiting = [1, 2].map(() => failureOf(broker.publish("a", { body: utf8("x") }, { timeoutMs: 200 })));
    await Promise.resolve();
    expect((await failureOf(broker.publish("a", { body: utf8("x") }))).code).toBe("unavailable");
    expect((await Promise.all(waiting)).map(({ code }) => code)).toEqual(["timeout", "timeout"]);
  });
});

describe("TLS", () => {
  it("is spoken to nodes that say so, and certificates are verified", async () => {
    await using bench = new Bench();
    const tls = selfSigned({ hosts: ["127.0.0.1"] });
    const receiving = bench.broker({ tls });
    const { bodies } = await inboxOf(receiving, "a");
    expect((await bench.nodes())[0]!.metadata["secure"]).toBe("true");
    const error = await failureOf(bench.broker().publish("a", { body: utf8("1") }, { timeoutMs: 300 }));
    expect(error.code).toBe("unavailable");
    expect(error.detail).toMatch(/self-signed/);
    await bench.broker({ tls: { ca: tls.cert } }).publish("a", { body: utf8("2") });
    await bench.broker({ insecureSkipVerify: true }).publish("a", { body: utf8("3") });
    await waitFor(() => bodies.length === 2, "two messages");
    expect(bodies).toEqual(["2", "3"]);
    // Plain HTTP at this port is an error of the connection, not of the process.
    using raw = await RawSocket.connect(receiving.address);
    raw.write("POST / HTTP/1.1\r\n\r\n");
    await raw.until((_, { closed }) => closed, "the end");
  });

  it("makes a certificate where there is none", async () => {
    await using bench = new Bench();
    const { bodies } = await inboxOf(bench.broker({ secure: true }), "a");
    await bench.broker({ insecureSkipVerify: true }).publish("a", { body: utf8("1") });
    await waitFor(() => bodies.length === 1, "the message");
  });
});

describe("httpBroker", () => {
  it("refuses options that make no sense, and opens nothing", () => {
    const registry = memoryRegistry();
    for (const options of [
      undefined,
      {},
      { registry, maxMessageBytes: 0 },
      { registry, maxConnections: -1 },
      { registry, maxPublishes: Number.NaN },
      { registry, spreadMs: -1 },
      { registry, tls: { cert: "x" } },
    ])
      expect(() => httpBroker(options as unknown as HttpBrokerOptions)).toThrow(TypeError);
    expect(() => httpBroker({ registry, address: "nonsense" })).toThrow(MicroError);
  });

  it("delivers to its own subscriptions without the network", async () => {
    await using bench = new Bench();
    const broker = bench.broker();
    const { bodies } = await inboxOf(broker, "a");
    const body = utf8("x");
    const before = process.getActiveResourcesInfo().filter((kind) => kind === "TCPSocketWrap").length;
    await broker.publish("a", { body });
    body.fill(0);
    expect(bodies).toEqual(["x"]);
    expect(process.getActiveResourcesInfo().filter((kind) => kind === "TCPSocketWrap")).toHaveLength(before);
  });
});
