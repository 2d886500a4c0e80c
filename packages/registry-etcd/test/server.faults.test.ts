import { fileURLToPath } from "node:url";
import { etcdRegistry } from "@micro/registry-etcd";
import { describe, expect, it } from "vitest";
import { processFaults } from "../../core/test/support/process-faults.ts";
import { eventually, instance, registryFaults, slackMs } from "../../core/test/support/registry-faults.ts";
import { keepingLogger } from "../../core/test/support/service.ts";
import { type TestServer, startEtcd } from "../../../scripts/servers.mjs";
import { ownMissing } from "./support/own.ts";

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
  async fill(address) {
    const key = Buffer.from("other").toString("base64");
    for (let count = 0; count < 200; count++) await post(`http://${address}`, "/v3/kv/put", { key, value: key });
  },
});

const saying = (code: string, text: string) => ({
  code: expect.stringMatching(code) as string,
  message: expect.stringContaining(text) as string,
});

describe.skipIf(ownMissing !== undefined)("etcd: services go on through", { timeout: 180_000 }, () => {
  for (const [name, run] of Object.entries(faults)) it(name, run);

  it("the loss of two members of three: without a leader it is said so, and what was known goes on", async () => {
    const members = await startEtcd({ members: 3 });
    const [first, ...others] = members;
    const stack = new AsyncDisposableStack();
    const connect = (options = {}) => stack.use(etcdRegistry({ endpoints: [first.url], timeoutMs: 2_000, ...options }));
    try {
      const greeter = instance(connect(), "first", { registerTtlMs: 60_000 });
      stack.defer(() => greeter.stop());
      await greeter.start();
      const caller = instance(connect(), "caller", { name: "caller", registerTtlMs: 60_000 });
      stack.defer(() => caller.stop());
      await caller.start();
      const call = async () =>
        (await caller.call<{ label: string }>("greeter", "Greeter.Hello", {}, { timeoutMs: slackMs })).label;
      expect(await call()).toBe("first");

      await Promise.all(others.map((member) => member.kill()));
      const leaderless = saying("unavailable", "the cluster has no leader: most of its members may be away");
      await expect(connect({ timeoutMs: 30_000 }).getService("greeter")).rejects.toMatchObject(leaderless);
      await expect
        .poll(() =>
          connect()
            .watch()
            .ready.catch((error: unknown) => error),
        )
        .toMatchObject(leaderless);
      // By default nobody waits as long as etcd does.
      const impatient = saying("timeout", "a cluster that has no leader holds requests");
      const looked = await connect()
        .getService("greeter")
        .catch((error: unknown) => error);
      expect(looked, String(looked)).toMatchObject(impatient);
      const start = await instance(connect(), "failing")
        .start()
        .catch((error: unknown) => error);
      expect(start, String(start)).toMatchObject(saying("^(?:timeout|unavailable)$", "has no leader"));
      expect((await connect({ staleReads: true }).getService("greeter"))[0]?.nodes).toHaveLength(1);
      expect(await call()).toBe("first");
      expect(greeter.ready).toBe(true);

      await Promise.all(others.map((member) => member.start()));
      const second = instance(connect(), "second");
      stack.defer(() => second.stop());
      await expect.poll(() => second.start().then(() => "started", String), { timeout: slackMs }).toBe("started");
      await expect.poll(call, { timeout: slackMs }).toBe("second");
    } finally {
      await stack.disposeAsync();
      await Promise.all(members.map((member) => member.dispose()));
    }
  });

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
        await eventually("a new service is seen", 5_000 + slackMs, async () => seen.has(added.server.address!));
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
});

describe.skipIf(ownMissing !== undefined)(
  "etcd: services go on through",
  { concurrent: true, timeout: 180_000 },
  () => {
    const faultsOfProcesses = processFaults({
      start: () => startEtcd(),
      connect: (address) => etcdRegistry({ endpoints: [address] }),
      program: fileURLToPath(new URL("./support/child.ts", import.meta.url)),
      resolve: fileURLToPath(new URL("./support/resolve.mjs", import.meta.url)),
    });
    for (const [name, run] of Object.entries(faultsOfProcesses)) it(name, run);

    it("an etcd that is full: what stands stays registered and ready, and what changed is written when there is room", async () => {
      const server = await startEtcd({ args: ["--quota-backend-bytes", "8388608"] });
      try {
        await using registry = etcdRegistry({ endpoints: [server.url], timeoutMs: 2_000 });
        const log = keepingLogger();
        const ttlMs = 4_000;
        await using service = instance(registry, "first", {
          logger: log,
          registerTtlMs: ttlMs,
          registerIntervalMs: 500,
        });
        await service.start();
        const filler = {
          key: Buffer.from("filler").toString("base64"),
          value: Buffer.alloc(1_000_000, "x").toString("base64"),
        };
        let refused = "";
        for (let count = 0; count < 30 && !refused.includes("message"); count++)
          refused = JSON.stringify(await post(server.url, "/v3/kv/put", filler));
        expect(refused).toContain("database space exceeded");

        // Time itself is what this is about: a record that nobody renews is gone after its TTL and a second.
        const outliveTtl = async (): Promise<void> => {
          for (const end = performance.now() + ttlMs + 1_500; performance.now() < end;) {
            expect(service.ready).toBe(true);
            expect(await registry.getService("greeter")).toHaveLength(1);
          }
        };
        await outliveTtl();
        // Something new to say, which cannot be said: the old record goes on being renewed.
        service.handle("Late", { hello: () => ({}) });
        await outliveTtl();
        expect(log.lines.filter((line) => line.includes("Registration lost"))).toEqual([]);
        expect(log.lines.filter((line) => line.includes("out of space"))).toHaveLength(1);
        const endpoints = async () => (await registry.getService("greeter"))[0]?.endpoints.map(({ name }) => name);
        expect(await endpoints()).toEqual(["Greeter.Hello"]);

        const { header } = await post(server.url, "/v3/kv/range", { key: filler.key });
        await post(server.url, "/v3/kv/compaction", {
          revision: (header as { revision: string }).revision,
          physical: true,
        });
        await post(server.url, "/v3/maintenance/defragment", {});
        const { alarms } = await post(server.url, "/v3/maintenance/alarm", { action: "GET" });
        for (const alarm of alarms as object[])
          await post(server.url, "/v3/maintenance/alarm", { ...alarm, action: "DEACTIVATE" });
        await eventually("what is new is read", slackMs, async () => (await endpoints())?.length === 2);
        expect(service.ready).toBe(true);
      } finally {
        await server.dispose();
      }
    });

    it("a restart of the server without being gone for a moment, with a TTL above interval and stop", async () => {
      const server = await startEtcd();
      try {
        // Services register every 2 s here, and etcd takes up to 5 s to stop while it is watched.
        await using registry = etcdRegistry({ endpoints: [server.url] });
        await using service = instance(registry, "lasting", { registerTtlMs: 30_000 });
        await service.start();
        const key = Buffer.from(`/micro/registry/greeter/greeter-${service.options.id}`).toString("base64");
        const created = async () => {
          const { kvs } = await post(server.url, "/v3/kv/range", { key });
          return (kvs as { create_revision: string; version: string }[] | undefined)?.map((kv) => kv.create_revision);
        };
        const before = await created();
        expect(before).toHaveLength(1);
        await server.stop();
        await server.start();
        await eventually("read again", slackMs, async () => (await created()) !== undefined);
        expect(await created()).toEqual(before);
      } finally {
        await server.dispose();
      }
    });
  },
);
