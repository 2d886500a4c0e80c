import { afterEach, describe, expect, it, vi } from "vitest";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import { waitFor } from "../support/service.ts";

const wire = "micro/1";
const request = { service: "a", endpoint: "A.B", contentType: "x", metadata: undefined, body: new Uint8Array(0) };

/** A listener that answers late with its peer's port, and a caller. */
async function place() {
  const transport = httpTransport();
  const caller = httpTransport({ direct: false });
  const listener = await transport.listen(
    (exchange) => void setImmediate(() => exchange.reply({ body: Buffer.from(exchange.remote) })),
    { address: "127.0.0.1:0" },
  );
  const call = async (workers: string | undefined) => {
    const deadline = performance.now() + 10_000;
    const { body } = await caller.call(listener.address, request, { wire, workers, deadline });
    return Buffer.from(body).toString();
  };
  return {
    /** How many of so many calls at once came over each connection. */
    async spread(workers: string | undefined, calls: number): Promise<Map<string, number>> {
      const counts = new Map<string, number>();
      const remotes = await Promise.all(Array.from({ length: calls }, () => call(workers)));
      for (const remote of remotes) counts.set(remote, (counts.get(remote) ?? 0) + 1);
      return counts;
    },
    async [Symbol.asyncDispose]() {
      await caller[Symbol.asyncDispose]();
      await listener[Symbol.asyncDispose]();
      await transport[Symbol.asyncDispose]();
    },
  };
}

async function full(at: Awaited<ReturnType<typeof place>>, workers: string, connections: number): Promise<Set<string>> {
  return await waitFor(
    async () => {
      const counts = await at.spread(workers, 100);
      return counts.size === connections && new Set(counts.keys());
    },
    `${connections} connections`,
    25_000,
  );
}

describe("an address that several processes share", () => {
  afterEach(() => void vi.restoreAllMocks());

  it("gets a connection for each, one after the other as they are needed, and calls spread evenly", async () => {
    await using at = await place();
    for (let turn = 0; turn < 20; turn++) expect((await at.spread("4", 1)).size).toBe(1);
    const connections = await full(at, "4", 4);
    expect([...(await at.spread("4", 100)).values()]).toEqual([25, 25, 25, 25]);
    expect(new Set((await at.spread("4", 100)).keys())).toEqual(connections);
  });

  it("gets one where the node says nothing of it, or nonsense, and no more than 64", { timeout: 60_000 }, async () => {
    for (const workers of [undefined, "", "0", "-3", "many", "1.5", "NaN", "Infinity"]) {
      await using at = await place();
      await at.spread(workers, 50);
      expect((await at.spread(workers, 50)).size).toBe(1);
    }
    await using at = await place();
    const connections = await waitFor(
      async () => {
        const counts = await at.spread("1000000", 200);
        return counts.size >= 64 && counts.size;
      },
      "many connections",
      40_000,
    );
    await at.spread("1000000", 200);
    expect([connections, (await at.spread("1000000", 200)).size]).toEqual([64, 64]);
  });

  it("gets others in place of those that are a minute old, so that a process that is new gets some", async () => {
    await using at = await place();
    const first = await full(at, "3", 3);
    const now = performance.now.bind(performance);
    vi.spyOn(performance, "now").mockImplementation(() => now() + 80_000);
    const second = await waitFor(
      async () => {
        const counts = new Set((await at.spread("3", 100)).keys());
        return counts.size === 3 && ![...counts].some((remote) => first.has(remote)) && counts;
      },
      "three other connections",
      20_000,
    );
    expect(second.size).toBe(3);
    // The old ones are closed once nothing runs on them: what is left is the listener's end of the new ones.
    await waitFor(async () => {
      await at.spread("3", 1);
      return process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap").length === 3;
    }, "the end of the old connections");
  });

  it("goes back to one when the node is a single process again", async () => {
    await using at = await place();
    await full(at, "3", 3);
    expect((await at.spread(undefined, 50)).size).toBe(1);
  });
});
