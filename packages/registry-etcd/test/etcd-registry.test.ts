import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  createService,
  encodeService,
  silentLogger,
  type RegistryEvent,
  type Service,
  type Watcher,
} from "@micro/core";
import { faultProxy } from "@micro/testing";
import { etcdRegistry, plugins } from "@micro/registry-etcd";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { keepingLogger } from "../../core/test/support/service.ts";
import { makeCertificates, startEtcd } from "../../../scripts/servers.mjs";
import { endEtcd, etcdUrl, missing, startShared } from "./support/etcd.ts";
import { ownMissing } from "./support/own.ts";

beforeAll(startShared, 90_000);
afterAll(endEtcd);

function greeter(id: string, part: Partial<Service> = {}): Service {
  const nodes = [{ id, address: "127.0.0.1:8080", metadata: { protocol: "mucp" } }];
  return { name: "greeter", version: "1", metadata: {}, endpoints: [], nodes, ...part };
}

const idsOf = (services: readonly Service[]): string[] =>
  services.flatMap(({ nodes }) => nodes.map(({ id }) => id)).toSorted();

/** etcd's own HTTP interface, for what others do to the keys. */
async function etcd(url: string, path: string, body: object): Promise<Record<string, unknown>> {
  const response = await fetch(`${url}/v3/${path}`, { method: "POST", body: JSON.stringify(body) });
  return (await response.json()) as Record<string, unknown>;
}
const base64 = (text: string): string => Buffer.from(text).toString("base64");
const put = (url: string, key: string, value: string) =>
  etcd(url, "kv/put", { key: base64(key), value: base64(value) });

const supportFile = (name: string): string => fileURLToPath(new URL(`./support/${name}`, import.meta.url));
const text = (file: string): string => readFileSync(file, "utf8");

/** Read a watch in the background. */
function follow(watcher: Watcher) {
  const events: RegistryEvent[] = [];
  const failure = (async () => {
    for await (const event of watcher) events.push(event);
  })().then(
    () => undefined,
    (error: unknown) => error,
  );
  return { events, failure, told: () => events.map(({ action, service }) => `${action} ${idsOf([service]).join()}`) };
}

describe("etcd options", () => {
  it.each([
    [{ endpoints: [] }, /endpoints/],
    [{ endpoints: ["ftp://host"] }, /ftp:\/\/host/],
    [{ endpoints: ["host:99999"] }, /host:99999/],
    [{ endpoints: ["a:1:2"] }, /a:1:2/],
    [{ endpoints: ["http://a", "https://b"] }, /mixes/],
    [{ username: "root" }, /password/],
    [{ timeoutMs: 0 }, /timeoutMs/],
    [{ tls: { cert: "-----BEGIN CERTIFICATE-----" } }, /tls\.key/],
    [{ tls: { ca: "/etc/ca.pem" } }, /tls\.ca/],
    [{ endpoints: ["http://a"], tls: {} }, /http:\/\//],
    [{ addresses: ["127.0.0.1:2379"] }, /^etcdRegistry: there is no option `addresses`/],
    [{ timeout: 100 }, /^etcdRegistry: there is no option `timeout`; did you mean `timeoutMs`\?$/],
    [{ tls: { certs: "" } }, /^etcdRegistry: tls: there is no option `certs`; did you mean `cert`\?$/],
  ])("refuse %o", (options, message) => {
    expect(() => etcdRegistry(options as object)).toThrow(TypeError);
    expect(() => etcdRegistry(options as object)).toThrow(message);
  });

  it("give an unreachable server as `unavailable`, with its address", async () => {
    await using registry = etcdRegistry({ endpoints: ["127.0.0.1:1"], timeoutMs: 2_000 });
    const refused = { code: "unavailable", message: expect.stringContaining("127.0.0.1:1") as string };
    await expect(registry.getService("greeter")).rejects.toMatchObject(refused);
    await expect(registry.register(greeter("a"), { ttlMs: 5_000 })).rejects.toMatchObject({ code: "unavailable" });
    await expect(registry.watch().ready).rejects.toMatchObject({ code: "unavailable" });
  });

  it("of the wrong form are refused where they come from the environment, too", async () => {
    const env = { MICRO_REGISTRY: "etcd", MICRO_REGISTRY_ADDRESS: "ftp://host" };
    const service = createService({ plugins, logger: silentLogger, env, args: [], handleSignals: false });
    await expect(service.init().then(() => service.start())).rejects.toThrow(/etcdRegistry: endpoint "ftp:\/\/host"/);
    await service.stop();
  });

  it("are taken by a service that chooses etcd by Go's name for it", async () => {
    const env = { MICRO_REGISTRY: "etcdv3", MICRO_REGISTRY_ADDRESS: "127.0.0.1:1,127.0.0.1:2", ETCD_USERNAME: "u" };
    const service = createService({ plugins, logger: silentLogger, env, args: ["--etcd_password=p"] });
    await service.init();
    expect(service.registry.name).toBe("etcd");
    await service.stop();
  });
});

describe.skipIf(missing !== undefined)("etcd registry", () => {
  let url: string;
  let count = 0;
  beforeAll(async () => {
    url = await etcdUrl();
  });
  const fresh = () => {
    const namespace = `/unit-${process.pid}-${++count}`;
    const logger = keepingLogger();
    return { namespace, logger, registry: etcdRegistry({ endpoints: [url], namespace, logger }) };
  };

  it("writes Go's keys and values: one key per node, slashes as dashes", async () => {
    const { registry, namespace } = fresh();
    await using _ = registry;
    await registry.register(greeter("a/1", { name: "go.micro/greeter" }));
    await registry.register(greeter("b", { name: "other" }), { domain: "blue" });
    const { kvs } = await etcd(url, "kv/range", { key: base64(namespace), range_end: base64(`${namespace}0`) });
    const found = (kvs as { key: string; value: string }[]).map(({ key, value }) => [
      Buffer.from(key, "base64").toString(),
      Buffer.from(value, "base64").toString(),
    ]);
    expect(found).toEqual([
      [
        `${namespace}/micro/registry/blue/other/b`,
        '{"name":"other","version":"1","metadata":null,"endpoints":null,"nodes":[{"id":"b","address":"127.0.0.1:8080","metadata":{"protocol":"mucp"}}]}',
      ],
      [
        `${namespace}/micro/registry/go.micro-greeter/a-1`,
        '{"name":"go.micro/greeter","version":"1","metadata":null,"endpoints":null,"nodes":[{"id":"a/1","address":"127.0.0.1:8080","metadata":{"protocol":"mucp"}}]}',
      ],
    ]);
    expect(idsOf(await registry.getService("go.micro/greeter"))).toEqual(["a/1"]);
    expect(await registry.getService("go.micro-greeter")).toEqual([]);
  });

  it("ignores foreign keys, broken JSON and records of others, and says so once", async () => {
    const { registry, namespace, logger } = fresh();
    await using _ = registry;
    const counts: unknown[] = [];
    const warn = logger.warn.bind(logger);
    logger.warn = (message, fields) => {
      counts.push(fields?.["ignored"]);
      warn(message, fields);
    };
    await registry.register(greeter("good"));
    const root = `${namespace}/micro/registry`;
    await put(url, `${root}/greeter/broken`, '{"name":');
    await put(url, `${root}/greeter/other`, encodeService(greeter("other", { name: "mailer" })));
    await put(url, `${root}/greeter/empty`, encodeService(greeter("x", { nodes: [] })));
    await put(url, `${root}/greeter/a/b/c/d`, "foreign");
    await put(url, `${root}/greeter/huge`, `{"name":"${"x".repeat(1_000_000)}"}`);
    const { told } = follow(registry.watch());
    for (let round = 0; round < 2; round++) {
      expect(idsOf(await registry.getService("greeter"))).toEqual(["good"]);
      expect(idsOf(await registry.listServices())).toEqual(["good"]);
    }
    const warnings = logger.lines.filter((line) => line.startsWith("warn"));
    expect(warnings).toHaveLength(5);
    expect(counts).toEqual([1, 2, 3, 4, 5]);
    for (const name of ["broken", "other", "empty", "huge", "a/b/c/d"])
      expect(warnings.filter((line) => line.includes(`${root}/greeter/${name}:`))).toHaveLength(1);
    // A node whose record breaks is gone, the others' events go on.
    await put(url, `${root}/greeter/good`, "broken, too");
    await registry.register(greeter("next"));
    await expect.poll(told).toEqual(["delete good", "create next"]);
    // Twice each in look-ups and lists, then the one that broke.
    await put(url, `${root}/greeter/one-more`, "{}");
    await registry.getService("greeter");
    expect(counts.at(-1)).toBeGreaterThan(5 * 4);
  });

  it("refuses a record larger than etcd takes", async () => {
    const { registry } = fresh();
    await using _ = registry;
    const nodes = [{ id: "a", address: "127.0.0.1:1", metadata: { big: "x".repeat(3_000_000) } }];
    await expect(registry.register(greeter("a", { nodes }))).rejects.toMatchObject({ code: "bad_request" });
  });

  it("writes nothing when a registration is refreshed unchanged, and a changed endpoint or version at once", async () => {
    const { registry } = fresh();
    await using _ = registry;
    const watching = follow(registry.watch());
    for (let round = 0; round < 3; round++) await registry.register(greeter("a"), { ttlMs: 10_000 });
    const endpoints = [{ name: "Greeter.Hello", request: null, response: null, metadata: {} }];
    await registry.register(greeter("a", { endpoints }), { ttlMs: 10_000 });
    await registry.register(greeter("a", { version: "2" }), { ttlMs: 10_000 });
    await expect.poll(watching.told).toEqual(["create a", "update a", "delete a", "create a"]);
    expect(watching.events.map(({ service }) => service.version)).toEqual(["1", "1", "1", "2"]);
  });

  it.skipIf(ownMissing !== undefined)(
    "lengthens TTLs to etcd's least, 2 s, and rounds them up to whole seconds",
    async () => {
      const server = await startEtcd();
      try {
        await using registry = etcdRegistry({ endpoints: [server.url] });
        for (const [ttlMs, granted] of [
          [100, "2"],
          [1_500, "2"],
          [2_001, "3"],
          [90_000, "90"],
        ] as const) {
          const id = `ttl-${ttlMs}`;
          await registry.register(greeter(id), { ttlMs });
          const { kvs } = await etcd(server.url, "kv/range", { key: base64(`/micro/registry/greeter/${id}`) });
          const [{ lease: ID } = { lease: "" }] = kvs as { lease: string }[];
          expect(await etcd(server.url, "lease/timetolive", { ID })).toMatchObject({ grantedTTL: granted });
        }
        // The short ones are gone without a refresh, not sooner than asked for.
        const ids = async () => idsOf(await registry.getService("greeter"));
        expect(await ids()).toContain("ttl-2001");
        await expect.poll(ids, { timeout: 20_000 }).toEqual(["ttl-90000"]);
      } finally {
        await server.dispose();
      }
    },
  );

  it.skipIf(ownMissing !== undefined)("leaves one lease per node, and none after deregistering", async () => {
    const server = await startEtcd();
    try {
      await using registry = etcdRegistry({ endpoints: [server.url] });
      const leases = async () =>
        ((await etcd(server.url, "lease/leases", {}))["leases"] as unknown[] | undefined) ?? [];
      for (const ttlMs of [10_000, 20_000, 20_000, 30_000]) await registry.register(greeter("a"), { ttlMs });
      await expect.poll(async () => (await leases()).length).toBe(1);
      await registry.deregister(greeter("a"));
      await expect.poll(async () => (await leases()).length).toBe(0);
    } finally {
      await server.dispose();
    }
  });

  it("tells every event of a batch: several keys of one lease, and of one transaction", async () => {
    const { registry, namespace } = fresh();
    await using _ = registry;
    const watching = follow(registry.watch());
    const { ID } = await etcd(url, "lease/grant", { TTL: 60 });
    const ids = Array.from({ length: 40 }, (_unused, index) => `n${index.toString().padStart(2, "0")}`);
    const key = (id: string): string => base64(`${namespace}/micro/registry/greeter/${id}`);
    const requests = ids.map((id) => ({
      request_put: { key: key(id), value: base64(encodeService(greeter(id))), lease: ID },
    }));
    await registry.getService("greeter");
    await etcd(url, "kv/txn", { success: requests });
    await expect.poll(() => watching.events.length).toBe(40);
    await etcd(url, "lease/revoke", { ID });
    await expect.poll(watching.told).toEqual([...ids.map((id) => `create ${id}`), ...ids.map((id) => `delete ${id}`)]);
    expect(watching.events.at(-1)?.service.nodes[0]?.address).toBe("127.0.0.1:8080");
  });

  it("lists more than a page at one revision", async () => {
    const { registry, namespace } = fresh();
    await using _ = registry;
    const requests = Array.from({ length: 2_300 }, (_unused, index) => ({
      request_put: {
        key: base64(`${namespace}/micro/registry/greeter/n${index}`),
        value: base64(encodeService(greeter(`n${index}`))),
      },
    }));
    while (requests.length > 0) await etcd(url, "kv/txn", { success: requests.splice(0, 100) });
    expect(idsOf(await registry.getService("greeter"))).toHaveLength(2_300);
  });

  it("goes on with a watch where it was when the connection is cut", async () => {
    const { registry: writer, namespace } = fresh();
    await using _ = writer;
    await using proxy = await faultProxy({ target: new URL(url).host });
    await using registry = etcdRegistry({ endpoints: [proxy.address], namespace, timeoutMs: 10_000 });
    await writer.register(greeter("there"));
    await registry.getService("greeter");
    const watcher = registry.watch();
    await watcher.ready;
    const watching = follow(watcher);
    for (let round = 0; round < 5; round++) {
      await writer.register(greeter(`before-${round}`));
      await proxy.refuse(true);
      proxy.cut();
      await writer.register(greeter(`during-${round}`));
      await writer.deregister(greeter(`before-${round}`));
      await proxy.refuse(false);
      await writer.register(greeter(`after-${round}`));
    }
    const expected = Array.from({ length: 5 }, (_unused, round) => [
      `create before-${round}`,
      `create during-${round}`,
      `delete before-${round}`,
      `create after-${round}`,
    ]).flat();
    await expect.poll(watching.told, { timeout: 10_000 }).toEqual(expected);
    await watcher[Symbol.asyncDispose]();
    expect(await watching.failure).toBeUndefined();
  });

  it.skipIf(ownMissing !== undefined)(
    "fails a watch whose place was compacted while the connection was lost",
    async () => {
      const server = await startEtcd();
      try {
        await using proxy = await faultProxy({ target: server.address });
        await using registry = etcdRegistry({ endpoints: [proxy.address], timeoutMs: 10_000 });
        await using writer = etcdRegistry({ endpoints: [server.url] });
        const watcher = registry.watch();
        await watcher.ready;
        const watching = follow(watcher);
        await proxy.refuse(true);
        proxy.cut();
        for (const id of ["a", "b", "c"]) await writer.register(greeter(id));
        const { header } = await etcd(server.url, "kv/range", { key: base64("x") });
        await etcd(server.url, "kv/compaction", {
          revision: (header as { revision: string }).revision,
          physical: true,
        });
        await proxy.refuse(false);
        expect(await watching.failure).toMatchObject({ code: "unavailable" });
      } finally {
        await server.dispose();
      }
    },
  );

  it.skipIf(ownMissing !== undefined)(
    "fails a watch of a server that was emptied and filled beyond what was seen, and one that cannot tell",
    async () => {
      const server = await startEtcd();
      try {
        for (const known of [true, false]) {
          await using proxy = await faultProxy({ target: server.address });
          await using registry = etcdRegistry({ endpoints: [proxy.address], timeoutMs: 30_000 });
          await using direct = etcdRegistry({ endpoints: [server.url] });
          if (known) await direct.register(greeter("a"), { ttlMs: 60_000 });
          expect(idsOf(await registry.getService("greeter"))).toEqual(known ? ["a"] : []);
          const watcher = registry.watch();
          await watcher.ready;
          const watching = follow(watcher);
          await proxy.refuse(true);
          proxy.cut();
          await server.kill();
          server.forget();
          await server.start();
          // The same key at the same revision, and more.
          await direct.register(greeter("a"), { ttlMs: 60_000 });
          for (let other = 0; other < 10; other++) await direct.register(greeter(`n${other}`));
          for (let other = 0; other < 10; other++) await direct.deregister(greeter(`n${other}`));
          await direct.deregister(greeter("a"));
          await proxy.refuse(false);
          const failed = { code: "unavailable", message: expect.stringContaining("history") as string };
          expect(await watching.failure).toMatchObject(failed);
        }
      } finally {
        await server.dispose();
      }
    },
  );

  it("does not keep a process alive for a watch in the background", async () => {
    const child = spawn(process.execPath, ["--import", supportFile("resolve.mjs"), supportFile("client.ts"), url], {
      stdio: ["ignore", "pipe", "inherit"],
      timeout: 20_000,
    });
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
    const [code] = (await once(child, "close")) as [number | null];
    expect([output.trim(), code]).toEqual(["done", 0]);
  });
});

describe.skipIf(ownMissing !== undefined)("etcd security", () => {
  it("logs in, refuses a wrong password, no user and missing rights, and outlives changed users", async () => {
    const server = await startEtcd({ args: ["--auth-token-ttl", "2"] });
    try {
      for (const [path, body] of [
        ["auth/user/add", { name: "root", password: "r" }],
        ["auth/role/add", { name: "root" }],
        ["auth/user/grant", { user: "root", role: "root" }],
        ["auth/user/add", { name: "guest", password: "g" }],
        ["auth/enable", {}],
      ] as const)
        await etcd(server.url, path, body);
      const endpoints = [server.url];
      await using root = etcdRegistry({ endpoints, username: "root", password: "r" });
      await root.register(greeter("a"), { ttlMs: 10_000 });
      expect(idsOf(await root.getService("greeter"))).toEqual(["a"]);
      await using wrong = etcdRegistry({ endpoints, username: "root", password: "x" });
      await expect(wrong.getService("greeter")).rejects.toMatchObject({ code: "unauthorized" });
      await using nobody = etcdRegistry({ endpoints });
      const anonymous = { code: "unauthorized", message: expect.stringContaining("username") as string };
      await expect(nobody.getService("greeter")).rejects.toMatchObject(anonymous);
      await expect(nobody.watch().ready).rejects.toMatchObject({ code: "unauthorized" });
      await using guest = etcdRegistry({ endpoints, username: "guest", password: "g" });
      await expect(guest.register(greeter("b"))).rejects.toMatchObject({ code: "forbidden" });
      await expect(guest.watch().ready).rejects.toMatchObject({ code: "forbidden" });
      // The session ends with the server, which keeps its tokens in memory.
      await server.kill();
      await server.start();
      await expect.poll(async () => idsOf(await root.getService("greeter")), { timeout: 10_000 }).toEqual(["a"]);
      await root.register(greeter("a"), { ttlMs: 10_000 });
      const watcher = root.watch();
      await watcher.ready;
      await watcher[Symbol.asyncDispose]();
    } finally {
      await server.dispose();
    }
  });

  it("talks TLS and mTLS, and refuses a wrong authority, a missing and an expired certificate", async () => {
    const folder = mkdtempSync(join(tmpdir(), "micro-certificates-"));
    const files = makeCertificates(folder);
    const server = await startEtcd({ tls: { ...files.server, ca: files.ca, clientAuth: true } });
    try {
      const make = (tls: { ca: string; cert?: string; key?: string }) =>
        etcdRegistry({ endpoints: [server.url], tls, timeoutMs: 3_000 });
      const pair = ({ cert, key }: { cert: string; key: string }) => ({ cert: text(cert), key: text(key) });
      const ca = text(files.ca);
      await using good = make({ ca, ...pair(files.client) });
      await good.register(greeter("a"), { ttlMs: 10_000 });
      expect(idsOf(await good.getService("greeter"))).toEqual(["a"]);
      const bad = [
        make({ ca: text(files.otherCa), ...pair(files.client) }),
        make({ ca }),
        make({ ca, ...pair(files.expired) }),
        etcdRegistry({ endpoints: [server.address], timeoutMs: 3_000 }),
        // TLS to what does not speak it.
        etcdRegistry({ endpoints: [(await etcdUrl()).replace("http:", "https:")], timeoutMs: 3_000 }),
      ];
      for (const registry of bad) {
        await expect(registry.getService("greeter")).rejects.toMatchObject({ code: "unavailable" });
        await registry[Symbol.asyncDispose]();
      }
      await using untrusting = make({ ca: text(files.otherCa), ...pair(files.client) });
      await expect(untrusting.getService("greeter")).rejects.toThrow(/`tls`/);
    } finally {
      await server.dispose();
      rmSync(folder, { recursive: true });
    }
    const expired = mkdtempSync(join(tmpdir(), "micro-certificates-"));
    const old = makeCertificates(expired);
    const outdated = await startEtcd({ tls: old.expired });
    try {
      await using registry = etcdRegistry({ endpoints: [outdated.url], tls: { ca: text(old.ca) }, timeoutMs: 3_000 });
      await expect(registry.getService("greeter")).rejects.toThrow(/expired/);
    } finally {
      await outdated.dispose();
      rmSync(expired, { recursive: true });
    }
  });
});
