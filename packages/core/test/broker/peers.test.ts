/** What an http broker keeps of the nodes it publishes to. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { RemoteNode } from "../../src/broker/http/node.ts";
import { Peers } from "../../src/broker/http/peers.ts";
import { PublishRun } from "../../src/broker/http/publish-run.ts";
import { waitFor } from "../support/raw-socket.ts";

const body = Buffer.from("{}");

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** A node whose requests are answered by `answer`, and those who publish to it. */
async function open(answer: (reply: ServerResponse) => void = (reply) => void reply.end()) {
  const server = createServer((incoming, reply) => void incoming.resume().on("end", () => answer(reply)));
  let connections = 0;
  server.on("connection", (socket) => {
    connections++;
    socket.on("close", () => connections--);
  });
  // It is the publisher's to close.
  server.keepAliveTimeout = 0;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const node: RemoteNode = { id: "node", address, secure: false, pipelined: false };
  const peers = new Peers(() => undefined);
  return {
    peers,
    node,
    connections: () => connections,
    async send() {
      using run = new PublishRun(10_000, undefined);
      return (await peers.send(node, body, run)).kind;
    },
    async [Symbol.asyncDispose]() {
      peers.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

describe("a node that was unreachable", () => {
  it("is left alone for twice as long each time, at most 10 s, until it takes a message", async () => {
    const now = performance.now.bind(performance);
    let skipped = 0;
    vi.spyOn(performance, "now").mockImplementation(() => now() + skipped);
    await using place = await open();
    expect(await place.send()).toBe("accepted");
    const { peers, node } = place;
    // Each second time it is just not over, and then it is: some time passes here besides.
    const isLeftFor = (ms: number): boolean => {
      skipped += ms - 100;
      const before = peers.isEjected(node.id);
      skipped += 100;
      return before && !peers.isEjected(node.id);
    };
    expect(peers.eject(node.id)).toBe(true);
    expect(isLeftFor(500)).toBe(true);
    for (const ms of [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]) {
      expect(peers.eject(node.id)).toBe(false);
      expect([ms, isLeftFor(ms)]).toEqual([ms, true]);
    }
    peers.eject(node.id);
    expect(await place.send()).toBe("accepted");
    expect(peers.isEjected(node.id)).toBe(false);
    expect(peers.eject(node.id)).toBe(true);
    expect(isLeftFor(500)).toBe(true);
  });
});

describe("a node that is not registered any more", () => {
  it("keeps its connection until what it carries is answered, and no longer", async () => {
    // Nobody comes by to close what is idle.
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const replies: ServerResponse[] = [];
    await using place = await open((reply) => void replies.push(reply));
    const sent = place.send();
    await waitFor(() => replies.length === 1, "the request");
    place.peers.retain(() => false);
    expect(place.connections()).toBe(1);
    replies[0]!.end();
    expect(await sent).toBe("accepted");
    await waitFor(() => place.connections() === 0, "the end of the connection");
  });
});
