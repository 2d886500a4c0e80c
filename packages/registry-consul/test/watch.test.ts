import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { consulRegistry } from "@micro/registry-consul";
import { expect, it } from "vitest";

/** What an agent's health endpoint says of a node of go-micro. */
function entry(id: string, ModifyIndex: number) {
  const Service = { ID: id, Service: "greeter", Address: "127.0.0.1", Port: 80, Tags: ["v=1"], ModifyIndex };
  return { Node: { Address: "127.0.0.1" }, Service, Checks: [] };
}

/** A real agent that lost its state seldom arrives at the very index it had before: this one always does. */
it("does not trust an index across an interruption: an agent may have lost its state and count anew", async () => {
  let state: object[] = [entry("a", 7), entry("b", 8)];
  let healthy = true;
  /** Queries that wait for a change. */
  let waiting = 0;
  let refused = 0;
  let holding = true;
  const held: ServerResponse[] = [];
  const server = createServer((request, response) => {
    // Nothing changes for as long as one waits.
    if (healthy && holding && request.url?.includes("index=") === true) {
      waiting++;
      held.push(response);
      return;
    }
    if (!healthy) {
      refused++;
      request.socket.destroy();
    } else response.setHeader("X-Consul-Index", "42").end(JSON.stringify(state));
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  try {
    const { port } = server.address() as AddressInfo;
    await using registry = consulRegistry({ addresses: [`127.0.0.1:${port}`] });
    const watcher = registry.watch({ service: "greeter" });
    await watcher.ready;
    const told: string[] = [];
    const reading = (async () => {
      for await (const { action, service } of watcher)
        told.push(...service.nodes.map(({ id, address }) => `${action} ${id} ${address}`));
    })();
    const restart = async (next: object[]): Promise<void> => {
      await expect.poll(() => waiting, { timeout: 10_000 }).toBe(1);
      healthy = false;
      waiting = 0;
      held.length = 0;
      server.closeAllConnections();
      await expect.poll(() => refused, { timeout: 10_000 }).toBeGreaterThan(0);
      refused = 0;
      state = next;
      healthy = true;
    };
    // Another address under the same number; one that is gone; one that is new; and one with nothing but a new number.
    const moved = entry("a", 7);
    moved.Service.Port = 81;
    await restart([moved, entry("c", 8)]);
    await expect
      .poll(() => told.toSorted(), { timeout: 10_000 })
      .toEqual(["create c 127.0.0.1:80", "delete b 127.0.0.1:80", "update a 127.0.0.1:81"]);
    await restart([{ ...moved, Service: { ...moved.Service, ModifyIndex: 3 } }, entry("c", 8), entry("d", 9)]);
    await expect.poll(() => told.slice(3), { timeout: 10_000 }).toEqual(["create d 127.0.0.1:80"]);
    // It happened between two queries: the next one learns of it once it has waited.
    await expect.poll(() => waiting, { timeout: 10_000 }).toBe(1);
    state = [entry("e", 9)];
    holding = false;
    for (const response of held.splice(0)) response.setHeader("X-Consul-Index", "42").end(JSON.stringify(state));
    await expect
      .poll(() => told.slice(4).toSorted(), { timeout: 10_000 })
      .toEqual(["create e 127.0.0.1:80", "delete a 127.0.0.1:81", "delete c 127.0.0.1:80", "delete d 127.0.0.1:80"]);
    await watcher[Symbol.asyncDispose]();
    await reading;
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
