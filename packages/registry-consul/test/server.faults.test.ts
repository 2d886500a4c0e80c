import { fileURLToPath } from "node:url";
import { consulRegistry } from "@micro/registry-consul";
import { describe, expect, it } from "vitest";
import { keepingLogger } from "../../core/test/support/service.ts";
import { processFaults } from "../../core/test/support/process-faults.ts";
import { instance, registryFaults, slackMs } from "../../core/test/support/registry-faults.ts";
import { startConsul } from "../../../scripts/servers.mjs";
import { ownMissing } from "./support/own.ts";

const faults = registryFaults({
  start: () => startConsul(),
  connect: (address) => consulRegistry({ addresses: [address], timeoutMs: 2_000, waitMs: 2_000 }),
  async revoke(address, nodeId) {
    await fetch(`http://${address}/v1/agent/service/deregister/${encodeURIComponent(nodeId)}`, { method: "PUT" });
  },
  async fill(address) {
    for (let count = 0; count < 200; count++)
      await fetch(`http://${address}/v1/kv/other`, { method: "PUT", body: String(count) });
  },
});

describe.skipIf(ownMissing !== undefined)("Consul: services go on through", { timeout: 180_000 }, () => {
  for (const [name, run] of Object.entries(faults)) it(name, run);

  it("a cluster without a leader: a start says so or waits for one, what runs is called, and new ones are seen afterwards", async () => {
    const members = await startConsul({ members: 3 });
    const [first, ...others] = members;
    const stack = new AsyncDisposableStack();
    const connect = (staleReads = false) =>
      stack.use(consulRegistry({ addresses: [first.address], timeoutMs: 2_000, waitMs: 2_000, staleReads }));
    // Which of the two depends on who waits longer.
    const leaderless = {
      code: expect.stringMatching(/^(?:unavailable|timeout)$/) as string,
      message: expect.stringMatching(/have no leader holds|Consul has no leader: most of its servers/) as string,
    };
    try {
      const [probe, stale] = [connect(), connect(true)];
      const found = async (registry = probe) =>
        (await registry.getService("greeter")).flatMap(({ nodes }) => nodes.map(({ id }) => id));
      const lose = async (): Promise<void> => {
        await Promise.all(others.map((member) => member.kill()));
        await expect
          .poll(() => found().catch((error: unknown) => error), { timeout: slackMs })
          .toMatchObject(leaderless);
      };
      const heal = () => Promise.all(others.map((member) => member.start()));
      await expect.poll(() => found().catch(() => undefined), { timeout: slackMs }).toEqual([]);

      await lose();
      expect(await found(stale)).toEqual([]);
      const patient = stack.use(consulRegistry({ addresses: [first.address], timeoutMs: 30_000 }));
      await expect(patient.getService("greeter")).rejects.toMatchObject({
        code: "unavailable",
        message: expect.stringContaining("Consul has no leader: most of its servers are away") as string,
      });
      await expect(instance(connect(), "failing").start()).rejects.toMatchObject(leaderless);
      const log = keepingLogger();
      const greeter = instance(connect(), "first", { logger: log, startWait: true });
      stack.defer(() => greeter.stop());
      const starting = greeter.start();
      await expect
        .poll(() => log.lines.filter((line) => line.includes("the start waits")), { timeout: slackMs })
        .toEqual([expect.stringContaining("no leader")]);
      await heal();
      await starting;

      const caller = instance(connect(), "caller", { name: "caller" });
      stack.defer(() => caller.stop());
      await caller.start();
      const call = async () =>
        (await caller.call<{ label: string }>("greeter", "Greeter.Hello", {}, { timeoutMs: slackMs })).label;
      expect(await call()).toBe("first");
      await lose();
      // Two intervals of refreshes, all of which the agent takes.
      const refreshed = performance.now() + 4_000;
      while (performance.now() < refreshed) {
        expect(await call()).toBe("first");
        expect(greeter.ready).toBe(true);
      }
      expect(await found(stale)).toEqual([greeter.nodeId]);
      await heal();
      await expect.poll(() => found().catch(() => []), { timeout: slackMs }).toEqual([greeter.nodeId]);
      const second = instance(connect(), "second");
      stack.defer(() => second.stop());
      await second.start();
      await expect.poll(call, { timeout: slackMs }).toBe("second");
      expect(log.lines.filter((line) => line.includes("Registration lost"))).toEqual([]);
    } finally {
      await stack.disposeAsync();
      await Promise.all(members.map((member) => member.dispose()));
    }
  });
});

describe.skipIf(ownMissing !== undefined)(
  "Consul: services go on through",
  { concurrent: true, timeout: 180_000 },
  () => {
    const faultsOfProcesses = processFaults({
      start: () => startConsul(),
      connect: (address) => consulRegistry({ addresses: [address] }),
      program: fileURLToPath(new URL("./support/child.ts", import.meta.url)),
      resolve: fileURLToPath(new URL("./support/resolve.mjs", import.meta.url)),
    });
    for (const [name, run] of Object.entries(faultsOfProcesses)) it(name, run);
  },
);
