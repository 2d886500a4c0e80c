import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { etcdRegistry } from "@micro/registry-etcd";
import { describe, expect, it } from "vitest";
import { eventually, instance, registryFaults } from "../../core/test/support/registry-faults.ts";
import { type TestServer, startEtcd } from "../../../scripts/servers.mjs";
import { missing } from "./support/etcd.ts";

async function post(url: string, path: string, body: object): Promise<Record<string, unknown>> {
  const response = await fetch(`${url}${path}`, { method: "POST", body: JSON.stringify(body) });
  return (await response.json()) as Record<string, unknown>;
}

const faults = registryFaults({
  start: () => startEtcd(),
  connect: (address) => etcdRegistry({ endpoints: [address], timeoutMs: 2_000 }),
  async revoke(address) {
    const { leases } = await post(`http://${address}`, "/v3/lease/leases", {});
    for (const { ID } of leases as { ID: string }[]) await post(`http://${address}`, "/v3/lease/revoke", { ID });
  },
});

describe.skipIf(missing !== undefined)("etcd: services go on through", { timeout: 60_000 }, () => {
  for (const [name, run] of Object.entries(faults)) it(name, run);

  it("the loss of a member of three, one after the other", async () => {
    const members = await startEtcd({ members: 3 });
    const endpoints = members.map(({ url }) => url);
    const stack = new AsyncDisposableStack();
    try {
      const connect = () => stack.use(etcdRegistry({ endpoints, timeoutMs: 3_000 }));
      const first = instance(connect(), "first");
      stack.defer(() => first.stop());
      await first.start();
      const watching = connect();
      const watcher = watching.watch();
      await watcher.ready;
      const seen = new Set<string>();
      const reading = (async () => {
        for await (const { service } of watcher) for (const { address } of service.nodes) seen.add(address);
      })();
      for (const member of members) {
        await member.kill();
        const added = instance(connect(), "added");
        await added.start();
        await eventually("a new service is seen", 15_000, async () => seen.has(added.server.address!));
        expect((await watching.getService("greeter"))[0]?.nodes).toHaveLength(2);
        await added.stop();
        await member.start();
      }
      await watcher[Symbol.asyncDispose]();
      await reading;
    } finally {
      await stack.disposeAsync();
      await Promise.all(members.map((member: TestServer) => member.dispose()));
    }
  });

  it("a freeze of their own process, and are gone after kill -9", async () => {
    const server = await startEtcd();
    const program = fileURLToPath(new URL("./support/greeter.ts", import.meta.url));
    const resolve = fileURLToPath(new URL("./support/resolve.mjs", import.meta.url));
    const child = spawn(process.execPath, ["--import", resolve, program, server.url], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      await using registry = etcdRegistry({ endpoints: [server.url] });
      const there = async () => (await registry.getService("greeter")).length > 0;
      await eventually("registered", 15_000, there);
      child.kill("SIGSTOP");
      await eventually("gone while frozen", 15_000, async () => !(await there()));
      child.kill("SIGCONT");
      await eventually("registered again", 6_000, there);
      child.kill("SIGKILL");
      await eventually("gone after its end", 15_000, async () => !(await there()));
    } finally {
      child.kill("SIGKILL");
      await server.dispose();
    }
  });
});
