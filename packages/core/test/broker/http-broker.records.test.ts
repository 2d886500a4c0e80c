/** What records in the registry may make a publisher do: they outlive their processes, and anybody may have written them. */
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { createService, memoryRegistry, silentLogger } from "@micro/core";
import type { HttpBrokerOptions } from "@micro/core";
import { selfSigned } from "../../src/net/self-signed.ts";
import { broadcast, failureOf, HttpBrokerPlace, inboxOf } from "../support/http-broker-place.ts";
import { waitFor } from "../support/raw-socket.ts";

const body = Buffer.from("hello");

class Place extends HttpBrokerPlace {
  /** A record as a subscription of ours leaves it behind, with the address of somebody else. */
  async stale(topic: string, address: string, queue = broadcast, metadata: object = {}): Promise<void> {
    await this.register(topic, address, queue, { wire: "pipelined", ...metadata });
  }

  /** A server that does as it is told with each connection. */
  async serve(server: Server): Promise<string> {
    const sockets = new Set<Socket>();
    server.on("connection", (socket: Socket) => sockets.add(socket.on("error", () => {})));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    this.stack.defer(async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    });
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  async service(handled: string[]): Promise<string> {
    const service = this.stack.use(
      createService({
        name: "other",
        registry: memoryRegistry({ network: this.network }),
        broker: "memory",
        address: "127.0.0.1:0",
        logger: silentLogger,
        spreadMs: 0,
      }),
    );
    service.handle("Other", { call: () => void handled.push("call") });
    service.subscribe("topic", () => void handled.push("event"));
    await service.start();
    return service.address!;
  }
}

type Other = (place: Place, handled: string[]) => Promise<string>;

const others: Record<string, Other> = {
  "a service": (place, handled) => place.service(handled),
  "the http broker of another process": async (place) => {
    const broker = place.broker();
    await broker.subscribe("something else", () => {}).ready;
    return broker.address;
  },
  "a web server that finds everything fine": (place) =>
    place.serve(createHttpServer((_request, reply) => void reply.end("<html>welcome</html>"))),
  "a web server that finds nothing": (place) =>
    place.serve(createHttpServer((_request, reply) => void reply.writeHead(404).end())),
  "a web server that fails": (place) =>
    place.serve(createHttpServer((_request, reply) => void reply.writeHead(500).end())),
  "a server that speaks something else": (place) =>
    place.serve(createServer((socket) => void socket.end("-ERR unknown command 'POST'\r\n"))),
  "a server that closes without a word": (place) =>
    place.serve(createServer((socket) => void socket.once("data", () => socket.destroy()))),
};

describe("a record that has outlived its process, at whose address there is now", () => {
  for (const [name, begin] of Object.entries(others)) {
    it(`${name}: another member of the queue has the message`, async () => {
      await using place = new Place();
      const handled: string[] = [];
      const address = await begin(place, handled);
      await place.stale("topic", address, "workers");
      const { bodies } = await inboxOf(place.broker(), "topic", { queue: "workers" });
      const publisher = place.broker();
      for (let count = 0; count < 8; count++) await publisher.publish("topic", { body }, { timeoutMs: 5_000 });
      await waitFor(() => bodies.length === 8, "the messages");
      expect(handled).toEqual([]);
    });

    it(`${name}: other subscribers have it, and the publish succeeds`, async () => {
      await using place = new Place();
      const handled: string[] = [];
      const address = await begin(place, handled);
      await place.stale("topic", address);
      const { bodies } = await inboxOf(place.broker(), "topic");
      const publisher = place.broker();
      for (let count = 0; count < 3; count++) await publisher.publish("topic", { body }, { timeoutMs: 5_000 });
      await waitFor(() => bodies.length === 3, "the messages");
      expect(handled).toEqual([]);
    });
  }

  it("a web server: the node is dropped, and not asked again", async () => {
    await using place = new Place();
    let asked = 0;
    const address = await place.serve(
      createHttpServer((_request, reply) => {
        asked++;
        reply.end();
      }),
    );
    await place.stale("topic", address, "workers");
    const { bodies } = await inboxOf(place.broker(), "topic", { queue: "workers" });
    const publisher = place.broker();
    for (let count = 0; count < 40; count++) await publisher.publish("topic", { body });
    await waitFor(() => bodies.length === 40, "the messages");
    expect(asked).toBeLessThanOrEqual(1);
  });

  it("a proxy that cannot reach it: the publish is not taken for delivered", async () => {
    await using place = new Place();
    const address = await place.serve(createHttpServer((_request, reply) => void reply.writeHead(502).end()));
    await place.stale("topic", address);
    const error = await failureOf(place.broker().publish("topic", { body }, { timeoutMs: 200 }));
    expect([error.code, error.detail]).toEqual(["unavailable", expect.stringContaining("502")]);
  });
});

describe("a publisher with TLS", () => {
  const tls = selfSigned({ hosts: ["127.0.0.1"] });
  for (const [name, options] of Object.entries({
    certificates: { tls },
    "an authority": { tls: { ca: tls.cert } },
    "an authority, and receiving in clear": { tls: { ca: tls.cert }, secure: false },
    "a certificate made for it": { secure: true },
    "certificates it does not verify": { tls, insecureSkipVerify: true },
  } satisfies Record<string, Partial<HttpBrokerOptions>>))
    for (const record of [
      { secure: "false" },
      { secure: "" },
      { secure: "no" },
      { secure: undefined, wire: undefined },
    ])
      it(`sends nothing in clear whatever a record says: ${name}, ${JSON.stringify(record)}`, async () => {
        await using place = new Place();
        const seen: Buffer[] = [];
        const address = await place.serve(
          createServer((socket) => void socket.on("data", (chunk) => seen.push(chunk)).end("HTTP/1.1 200 OK\r\n\r\n")),
        );
        const { secure, wire } = { wire: "pipelined", ...record };
        const metadata = { ...(secure === undefined ? {} : { secure }), ...(wire === undefined ? {} : { wire }) };
        await place.stale("topic", address, broadcast, metadata);
        const failure = await failureOf(place.broker(options).publish("topic", { body }, { timeoutMs: 400 }));
        expect(failure.code).toBe("unavailable");
        expect(failure.detail).toContain(address);
        expect(seen.length).toBeGreaterThan(0);
        // The first byte of a TLS handshake.
        expect(seen[0]![0]).toBe(0x16);
        expect(Buffer.concat(seen).includes("Micro-Topic")).toBe(false);
      });

  it("publishes to a node that speaks TLS and whose record denies it", async () => {
    await using place = new Place();
    const receiving = place.broker({ tls });
    const { bodies } = await inboxOf(receiving, "other");
    const services = await place.registry.getService("micro.http.broker");
    const node = services[0]!.nodes[0]!;
    await place.registry.register({
      ...services[0]!,
      nodes: [{ ...node, metadata: { ...node.metadata, secure: "false" } }],
    });
    await place.broker({ tls: { ca: tls.cert } }).publish("other", { body });
    await waitFor(() => bodies.length === 1, "the message");
  });
});
