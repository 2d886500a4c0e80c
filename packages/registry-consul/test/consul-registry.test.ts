import { getEventListeners, once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateSync } from "node:zlib";
import { createService, silentLogger, type Registry, type RegistryEvent, type Service } from "@micro/core";
import { consulRegistry, plugins } from "@micro/registry-consul";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { keepingLogger } from "../../core/test/support/service.ts";
import { makeCertificates, startConsul } from "../../../scripts/servers.mjs";
import { ConsulClient } from "../src/consul-client.ts";
import { readOptions } from "../src/options.ts";
import { consulUrl, emptyConsul, endConsul, missing, startShared } from "./support/consul.ts";
import { ownMissing } from "./support/own.ts";

beforeAll(startShared, 90_000);
afterAll(endConsul);

function greeter(id: string, part: Partial<Service> = {}): Service {
  const nodes = [{ id, address: "127.0.0.1:8080", metadata: { protocol: "mucp" } }];
  return { name: "greeter", version: "1", metadata: {}, endpoints: [], nodes, ...part };
}

const idsOf = (services: readonly Service[]): string[] =>
  services.flatMap(({ nodes }) => nodes.map(({ id }) => id)).toSorted();

const contents = (file: string): string => readFileSync(file, "utf8");
const pair = ({ cert, key }: { cert: string; key: string }) => ({ cert: contents(cert), key: contents(key) });

async function found(registry: Registry, ids: readonly string[]): Promise<Service[]> {
  await expect.poll(async () => idsOf(await registry.getService("greeter")), { timeout: 5_000 }).toEqual(ids);
  return registry.getService("greeter");
}

// Made by Go's own encoder.
const goVersion = "v-789c32d433d03300040000ffff02ce00ee";
const goEmptyVersion = "v-789c010000ffff00000001";
const goMetadata = "t-789caa562a28ca2fc94fcecf51b252ca2d4d2e50aa05040000ffff46a906e2";
const endpoint = '{"name":"Greeter.Hello","request":null,"response":null,"metadata":{"stream":"true"}}';
const zlib = (prefix: string, text: string): string => `${prefix}-${deflateSync(text).toString("hex")}`;

describe("Consul options", () => {
  it.each([
    [{ addresses: [] }, /addresses/],
    [{ addresses: ["ftp://host"] }, /ftp:\/\/host/],
    [{ addresses: ["host:0"] }, /host:0/],
    [{ addresses: ["http://a", "https://b"] }, /mixes/],
    [{ addresses: ["http://a"], tls: {} }, /http:\/\//],
    [{ timeoutMs: -1 }, /timeoutMs/],
    [{ tcpCheck: { intervalMs: 0 } }, /tcpCheck\.intervalMs/],
    [{ tls: { cert: "-----BEGIN CERTIFICATE-----" } }, /tls\.key/],
    [{ tls: { ca: "/etc/ca.pem" } }, /tls\.ca/],
    [{ token: "a b" }, /token/],
    [{ endpoints: ["127.0.0.1:8500"] }, /^consulRegistry: there is no option `endpoints`$/],
    [{ dataCenter: "dc1" }, /^consulRegistry: there is no option `dataCenter`; did you mean `datacenter`\?$/],
    [
      { tls: { serverName: "a" } },
      /^consulRegistry: tls: there is no option `serverName`; did you mean `servername`\?$/,
    ],
    [
      { tcpCheck: { interval: 1 } },
      /^consulRegistry: tcpCheck: there is no option `interval`; did you mean `intervalMs`/,
    ],
    [{ httpCheck: { intervalMs: 1, paht: "/" } }, /httpCheck: there is no option `paht`; did you mean `path`\?$/],
  ])("refuse %o", (options, message) => {
    expect(() => consulRegistry(options as object)).toThrow(TypeError);
    expect(() => consulRegistry(options as object)).toThrow(message);
  });

  it("give an unreachable agent as `unavailable`, with its address", async () => {
    await using registry = consulRegistry({ addresses: ["127.0.0.1:1"] });
    const refused = { code: "unavailable", message: expect.stringContaining("127.0.0.1:1") as string };
    await expect(registry.getService("greeter")).rejects.toMatchObject(refused);
    await expect(registry.register(greeter("a"), { ttlMs: 5_000 })).rejects.toMatchObject(refused);
    await expect(registry.watch().ready).rejects.toMatchObject(refused);
  });

  it("give what is no Consul as `protocol`", async () => {
    const server = createServer((_request, response) => response.end("<html>")).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as AddressInfo;
    await using registry = consulRegistry({ addresses: [`127.0.0.1:${port}`] });
    await expect(registry.getService("greeter")).rejects.toMatchObject({ code: "protocol" });
    server.close();
  });

  it("of the wrong form are refused where they come from the environment, too", async () => {
    const env = { MICRO_REGISTRY: "consul", MICRO_REGISTRY_ADDRESS: "host:0" };
    const service = createService({ plugins, logger: silentLogger, env, args: [], handleSignals: false });
    await expect(service.init().then(() => service.start())).rejects.toThrow(/consulRegistry: address "host:0"/);
    await service.stop();
  });

  it("are taken by a service that chooses Consul by name", async () => {
    const env = { MICRO_REGISTRY: "consul", MICRO_REGISTRY_ADDRESS: "127.0.0.1:1", CONSUL_HTTP_TOKEN: "t" };
    const service = createService({ plugins, logger: silentLogger, env, args: [] });
    await service.init();
    expect(service.registry.name).toBe("consul");
    await service.stop();
  });
});

describe.skipIf(missing !== undefined)("Consul registry", () => {
  let url: string;
  beforeEach(async () => {
    url = await consulUrl();
    await emptyConsul(url);
  });
  const agent = async (path: string, body?: object): Promise<unknown> => {
    const put = body === undefined ? {} : { method: "PUT", body: JSON.stringify(body) };
    const response = await fetch(`${url}/v1/agent/${path}`, put);
    const text = await response.text();
    return text === "" ? undefined : (JSON.parse(text) as unknown);
  };
  const others = (id: string, tags: readonly string[], more: object = {}) =>
    agent("service/register", { ID: id, Name: "greeter", Address: "10.0.0.1", Port: 80, Tags: tags, ...more });

  it("reads Go's tags, the compressed and the plain ones, and leaves out what is not go-micro's", async () => {
    const logger = keepingLogger();
    const counts: unknown[] = [];
    const warn = logger.warn.bind(logger);
    logger.warn = (message, fields) => {
      counts.push(fields?.["ignored"]);
      warn(message, fields);
    };
    await using registry = consulRegistry({ addresses: [url], logger });
    await others("go", [goMetadata, zlib("e", endpoint), goVersion]);
    await others("old", ['t={"zone":"1"}', `e=${endpoint}`, "v=1.0.0"]);
    await others("versionless", [goEmptyVersion]);
    await others("foreign", ["primary", "v2"]);
    await others("broken", ["t-zz", "t-7", zlib("t", '["no object"]'), zlib("e", "{"), "e-00ff", "v=3"]);
    await others("bomb", [zlib("t", `{"a":"${"x".repeat(2_000_000)}"}`), "v=4"]);
    const services = await found(registry, ["bomb", "broken", "go", "old", "versionless"]);
    const of = (version: string) => services.find((service) => service.version === version);
    const nodes = Object.fromEntries(of("1.0.0")!.nodes.map((node) => [node.id, { ...node.metadata }]));
    expect(nodes).toEqual({ go: { protocol: "mucp" }, old: { zone: "1" } });
    expect(of("1.0.0")?.endpoints.map(({ name, metadata }) => [name, { ...metadata }])).toEqual([
      ["Greeter.Hello", { stream: "true" }],
    ]);
    expect(idsOf([of("")!])).toEqual(["versionless"]);
    expect({ ...of("3")?.nodes[0]?.metadata }).toEqual({});
    expect({ ...of("4")?.nodes[0]?.metadata }).toEqual({});
    expect(of("3")?.nodes[0]?.address).toBe("10.0.0.1:80");
    const warned = logger.lines.length;
    expect(warned).toBeGreaterThan(4);
    expect(counts).toEqual(counts.toSorted((a, b) => Number(a) - Number(b)));
    expect(counts.at(-1)).toBeGreaterThanOrEqual(warned);
    await registry.getService("greeter");
    expect(logger.lines).toHaveLength(warned);
    expect((await registry.listServices()).map(({ name }) => name)).toEqual(["greeter"]);
  });

  it("goes on telling of others when records come that are not ours, broken or huge", async () => {
    await using registry = consulRegistry({ addresses: [url] });
    for (const service of ["greeter", undefined]) {
      const watcher = registry.watch({ service });
      await watcher.ready;
      const told: string[] = [];
      const reading = (async () => {
        for await (const { action, service: changed } of watcher) told.push(`${action} ${idsOf([changed]).join()}`);
      })();
      await others("foreign", ["primary"]);
      await others("broken", ["v-zz"]);
      await others("bomb", [zlib("v", "x".repeat(2_000_000))]);
      await registry.register(greeter("a"), { ttlMs: 60_000 });
      await expect.poll(() => told, { timeout: 10_000 }).toEqual(["create a"]);
      await registry.deregister(greeter("a"));
      await expect.poll(() => told, { timeout: 10_000 }).toEqual(["create a", "delete a"]);
      await watcher[Symbol.asyncDispose]();
      await reading;
    }
  });

  it("refuses what is too large for a tag that others read", async () => {
    await using registry = consulRegistry({ addresses: [url] });
    const huge = "x".repeat(2_000_000);
    const nodes = [{ id: "huge", address: "127.0.0.1:1", metadata: { big: huge } }];
    const endpoints = [{ name: huge, request: null, response: null, metadata: {} }];
    for (const [service, what] of [
      [greeter("", { nodes }), 'metadata "big"'],
      [greeter("a", { endpoints }), "endpoint xxx"],
      [greeter("a", { version: huge }), "version of greeter"],
    ] as const)
      await expect(registry.register(service)).rejects.toMatchObject({
        code: "bad_request",
        message: expect.stringContaining(what) as string,
      });
    expect(await registry.getService("greeter")).toEqual([]);
  });

  it("writes what Go reads: host, port, tags in hex, and the check", async () => {
    await using registry = consulRegistry({ addresses: [url] });
    await registry.register(greeter("a"), { ttlMs: 90_000 });
    const services = (await agent("services")) as Record<string, { Address: string; Port: number; Tags: string[] }>;
    expect(services["a"]).toMatchObject({ Address: "127.0.0.1", Port: 8080, Meta: { protocol: "mucp" } });
    expect(services["a"]?.Tags).toEqual([zlib("t", '{"protocol":"mucp"}'), zlib("v", "1")]);
    const checks = (await agent("checks")) as Record<string, { Type: string; Status: string }>;
    expect(checks["service:a"]).toMatchObject({ Type: "ttl", Status: "passing" });
  });

  it("keeps nodes of one service apart, and refreshes without writing", async () => {
    await using registry = consulRegistry({ addresses: [url] });
    const both = greeter("a", { nodes: [...greeter("a").nodes, ...greeter("b").nodes] });
    await registry.register(both, { ttlMs: 60_000 });
    const index = async () => (await fetch(`${url}/v1/health/service/greeter`)).headers.get("x-consul-index");
    await found(registry, ["a", "b"]);
    const before = await index();
    for (let round = 0; round < 3; round++) await registry.register(both, { ttlMs: 60_000 });
    expect(await index()).toBe(before);
  });

  it("lets Consul check by TCP and by HTTP, and refreshes such nodes without an error", async () => {
    let healthy = true;
    const server = createServer((_request, response) => void response.writeHead(healthy ? 200 : 500).end());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const node = (id: string) => [{ id, address: `127.0.0.1:${port}`, metadata: {} }];
    try {
      await using byTcp = consulRegistry({ addresses: [url], tcpCheck: { intervalMs: 200, timeoutMs: 1_000 } });
      await using byHttp = consulRegistry({ addresses: [url], httpCheck: { intervalMs: 200, path: "/health" } });
      for (let round = 0; round < 2; round++) {
        await byTcp.register(greeter("", { nodes: node("tcp") }), { ttlMs: 1_000 });
        await byHttp.register(greeter("", { nodes: node("http") }), { ttlMs: 1_000 });
      }
      await found(byTcp, ["http", "tcp"]);
      healthy = false;
      await found(byTcp, ["tcp"]);
      healthy = true;
      await found(byTcp, ["http", "tcp"]);
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await found(byTcp, []);
    } finally {
      server.close();
    }
  });

  it("refuses domains, and an address no node can have", async () => {
    await using registry = consulRegistry({ addresses: [url] });
    const domain = "blue";
    await expect(registry.register(greeter("a"), { domain })).rejects.toMatchObject({ code: "not_implemented" });
    await expect(registry.getService("greeter", { domain })).rejects.toMatchObject({ code: "not_implemented" });
    await expect(registry.watch({ domain }).ready).rejects.toMatchObject({ code: "not_implemented" });
    const nodes = [{ id: "a", address: "a:b:c", metadata: {} }];
    await expect(registry.register(greeter("a", { nodes }))).rejects.toMatchObject({ code: "bad_request" });
  });

  it("finds mesh services by `connect`", async () => {
    await using mesh = consulRegistry({ addresses: [url], connect: true });
    await using plain = consulRegistry({ addresses: [url] });
    await mesh.register(greeter("native"));
    await plain.register(greeter("plain"));
    await found(mesh, ["native"]);
    await found(plain, ["native", "plain"]);
  });

  it("goes to the next agent when one is gone, and gives an unknown datacenter as an error", async () => {
    await using registry = consulRegistry({ addresses: ["127.0.0.1:1", url], staleReads: true });
    await registry.register(greeter("a"), { ttlMs: 60_000 });
    await found(registry, ["a"]);
    await using elsewhere = consulRegistry({ addresses: [url], datacenter: "nowhere" });
    await expect(elsewhere.getService("greeter")).rejects.toMatchObject({ code: "unavailable" });
  });

  it("tells of services that come and go while all are watched", async () => {
    await using registry = consulRegistry({ addresses: [url] });
    await registry.register(greeter("known", { name: "before" }));
    const watcher = registry.watch();
    await watcher.ready;
    const events: RegistryEvent[] = [];
    const reading = (async () => {
      for await (const event of watcher) events.push(event);
    })();
    const told = () => events.map(({ action, service }) => `${action} ${service.name} ${idsOf([service]).join()}`);
    for (let round = 0; round < 3; round++) {
      await registry.register(greeter("x", { name: "coming" }));
      await expect.poll(() => told().length, { timeout: 5_000 }).toBe(round * 2 + 1);
      await registry.deregister(greeter("x", { name: "coming" }));
      await expect.poll(() => told().length, { timeout: 5_000 }).toBe(round * 2 + 2);
    }
    await registry.deregister(greeter("known", { name: "before" }));
    const rounds = Array.from({ length: 3 }, () => ["create coming x", "delete coming x"]).flat();
    await expect.poll(told, { timeout: 5_000 }).toEqual([...rounds, "delete before known"]);
    await watcher[Symbol.asyncDispose]();
    await reading;
  });
});

describe.skipIf(ownMissing !== undefined)("Consul security", () => {
  it("uses a token, and says when it does not allow something", async () => {
    const token = crypto.randomUUID();
    const server = await startConsul({ dev: true, token });
    try {
      await using good = consulRegistry({ addresses: [server.url], token });
      await good.register(greeter("a"), { ttlMs: 60_000 });
      expect(idsOf(await good.getService("greeter"))).toEqual(["a"]);
      await using none = consulRegistry({ addresses: [server.url] });
      await expect(none.register(greeter("b"))).rejects.toMatchObject({ code: "forbidden" });
      // To the anonymous Consul does not even say that it withholds something.
      expect(await none.getService("greeter")).toEqual([]);
      const headers = { "X-Consul-Token": token };
      const made = await fetch(`${server.url}/v1/acl/token`, { method: "PUT", headers, body: "{}" });
      const { SecretID } = (await made.json()) as { SecretID: string };
      await using powerless = consulRegistry({ addresses: [server.url], token: SecretID });
      await expect(powerless.getService("greeter")).rejects.toMatchObject({ code: "forbidden" });
      await expect(powerless.register(greeter("b"))).rejects.toMatchObject({ code: "forbidden" });
      await using wrong = consulRegistry({ addresses: [server.url], token: crypto.randomUUID() });
      await expect(wrong.getService("greeter")).rejects.toMatchObject({ code: "forbidden" });
    } finally {
      await server.dispose();
    }
  });

  it("talks TLS and mTLS, and refuses a wrong authority, a missing and an expired certificate", async () => {
    const folder = mkdtempSync(join(tmpdir(), "micro-certificates-"));
    const files = makeCertificates(folder);
    const server = await startConsul({ dev: true, tls: { ...files.server, ca: files.ca } });
    try {
      const make = (tls: { ca: string; cert?: string; key?: string }, insecureSkipVerify = false) =>
        consulRegistry({ addresses: [server.httpsUrl], tls, insecureSkipVerify });
      const ca = contents(files.ca);
      const otherCa = contents(files.otherCa);
      for (const registry of [
        make({ ca, ...pair(files.client) }),
        make({ ca: otherCa, ...pair(files.client) }, true),
      ]) {
        await registry.register(greeter("a"), { ttlMs: 60_000 });
        expect(idsOf(await registry.getService("greeter"))).toEqual(["a"]);
        await registry[Symbol.asyncDispose]();
      }
      for (const tls of [{ ca: otherCa, ...pair(files.client) }, { ca }, { ca, ...pair(files.expired) }]) {
        await using registry = make(tls);
        await expect(registry.getService("greeter")).rejects.toMatchObject({
          code: "unavailable",
          message: expect.stringContaining("`tls`") as string,
        });
      }
      // Neither end speaks what the other one does.
      for (const address of [server.httpsUrl.replace("https:", "http:"), server.url.replace("http:", "https:")]) {
        await using registry = consulRegistry({ addresses: [address] });
        await expect(registry.getService("greeter")).rejects.toMatchObject({ name: "MicroError" });
      }
    } finally {
      await server.dispose();
    }
    const outdated = await startConsul({ dev: true, tls: { ...files.expired, ca: files.ca } });
    try {
      const tls = { ca: contents(files.ca), ...pair(files.client) };
      await using registry = consulRegistry({ addresses: [outdated.httpsUrl], tls });
      await expect(registry.getService("greeter")).rejects.toThrow(/expired/);
    } finally {
      await outdated.dispose();
      rmSync(folder, { recursive: true });
    }
  });
});

describe("the client of Consul", () => {
  it("leaves no listener on its own signal, whether requests succeed, fail or run out of time", async () => {
    const server = createServer((request, response) => {
      if (request.url === "/slow") return;
      response.statusCode = request.url === "/bad" ? 500 : 200;
      response.end("{}");
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const client = new ConsulClient(readOptions({ addresses: [`127.0.0.1:${port}`] }));
    for (let round = 0; round < 5; round++) {
      await client.request("a look-up", "/good");
      await expect(client.request("a look-up", "/bad")).rejects.toMatchObject({ code: "unavailable" });
      await expect(client.request("a look-up", "/slow", { timeoutMs: 20 })).rejects.toMatchObject({ code: "timeout" });
    }
    expect(getEventListeners(client.closed, "abort")).toHaveLength(0);
    client.close();
    server.closeAllConnections();
    server.close();
  });
});
