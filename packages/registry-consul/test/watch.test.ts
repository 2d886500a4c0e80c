import { createServer } from "node:http";
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
  const server = createServer((request, response) => {
    // Nothing changes for as long as one waits.
    if (healthy && request.url?.includes("index=") === true) return;
    if (!healthy) request.socket.destroy();
    else response.setHeader("X-Consul-Index", "42").end(JSON.stringify(state));
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
      healthy = false;
      server.closeAllConnections();
      await new Promise((resolve) => setTimeout(resolve, 100));
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
    await watcher[Symbol.asyncDispose]();
    await reading;
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
