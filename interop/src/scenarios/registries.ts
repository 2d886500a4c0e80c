/** Discovery through servers: what each side sees of the other's records in etcd and in Consul. */
import assert from "node:assert/strict";
import type { Registry, RegistryEvent, Service } from "@micro/core";
import { consulRegistry } from "@micro/registry-consul";
import { etcdRegistry } from "@micro/registry-etcd";
import { type Scenario, succeeded } from "../outcome.ts";
import { ourGreeter, ourProgram } from "../our-service.ts";
import { servers } from "../servers.ts";
import { waitFor } from "../wait.ts";

const backends = {
  etcd: (address: string): Registry => etcdRegistry({ endpoints: [address] }),
  consul: (address: string): Registry => consulRegistry({ addresses: [address] }),
};

const hello = { name: "HelloRequest", type: "HelloRequest", values: [{ name: "name", type: "string", values: null }] };

/** The Go line of a look-up, or of an event. */
interface Told {
  readonly action?: string;
  readonly service?: Service;
}

function scenario(kind: keyof typeof backends): Scenario {
  const connect = (): Registry => backends[kind](servers[kind]!);
  return {
    name: `${kind}: seen, read whole, called, watched, deregistered`,
    via: "address",
    // Go finds ours.
    async goToTs({ pair }) {
      const name = pair.unique(kind);
      const registry = `${kind}@${servers[kind]}`;
      await using own = connect();
      const { service } = ourGreeter({ name, version: "7", metadata: { region: "here" }, registry: own, spreadMs: 0 });
      await using watch = pair.start("watch", "-registry", registry, "-service", name);
      await watch.line("ready", ({ ready }) => ready === true);
      await service.start();
      try {
        const seen = (line: Told) => line.service?.name === name && (line.service.nodes?.length ?? 0) > 0;
        const { service: watched } = (await watch.line("an event", (line) => seen(line), 15_000)) as Told;
        assert.equal(watched?.nodes[0]?.address, service.server.address);
        await using reader = pair.start("registry", "-registry", registry, "-service", name);
        const { services } = succeeded(await reader.line("a result", (line) => "ok" in line || "fatal" in line));
        const [found, ...others] = services as Service[];
        assert.ok(found !== undefined && others.length === 0, JSON.stringify(services));
        assert.equal(found.version, "7");
        assert.equal(found.nodes[0]?.metadata["region"], "here");
        assert.equal(found.nodes[0]?.metadata["protocol"], "mucp");
        assert.deepEqual(found.endpoints.find((endpoint) => endpoint.name === "Greeter.Hello")?.request, hello);
        const call = { service: name, registry, endpoint: "Plain.Hello", body: { name: "x" }, address: undefined };
        const result = await pair.goClient("mdns", { ...call, await: "15s" });
        assert.deepEqual(succeeded(result)["response"], { msg: "Hello x" });
      } finally {
        await service.stop();
      }
      const gone = (line: Told) => line.action === "delete" && line.service?.name === name;
      await watch.line("its end", (line) => gone(line), 15_000);
    },
    // We find Go's: two versions of one service.
    async tsToGo({ pair }) {
      const name = pair.unique(kind);
      const start = (version: string) =>
        pair.startServer(
          name,
          "-registry",
          `${kind}@${servers[kind]}`,
          "-version",
          version,
          "-metadata",
          "region=there",
        );
      await using own = connect();
      const caller = ourProgram({ name: "caller", registry: own });
      const watcher = own.watch();
      await watcher.ready;
      const events: RegistryEvent[] = [];
      const reading = (async () => {
        for await (const event of watcher) if (event.service.name === name) events.push(event);
      })();
      const told = (action: string, id: string) => () =>
        events.some((event) => event.action === action && event.service.nodes.some((node) => node.id === id));
      try {
        await using first = await start("7");
        {
          await using second = await start("8");
          for (const { id } of [first, second])
            await waitFor("our watch sees it come", told("create", id), Boolean, 15_000);
          const found = (await own.getService(name)).toSorted((a, b) => (a.version < b.version ? -1 : 1));
          assert.deepEqual(
            found.map(({ version, nodes }) => [version, nodes.map(({ id, address }) => [id, address])]),
            [
              ["7", [[first.id, first.address]]],
              ["8", [[second.id, second.address]]],
            ],
          );
          assert.equal(found[0]?.nodes[0]?.metadata["region"], "there");
          const request = found[1]?.endpoints.find((endpoint) => endpoint.name === "Plain.Hello")?.request;
          assert.deepEqual(request, hello);
          assert.deepEqual(await caller.call(name, "Plain.Hello", { name: "x" }), { msg: "Hello x" });
          second.process.kill("SIGTERM");
          await second.process.exited;
          await waitFor("our watch sees it go", told("delete", second.id), Boolean, 15_000);
        }
        assert.deepEqual(
          (await own.getService(name)).map(({ version }) => version),
          ["7"],
        );
        assert.deepEqual(await caller.call(name, "Plain.Hello", { name: "y" }), { msg: "Hello y" });
      } finally {
        await caller.stop();
        await watcher[Symbol.asyncDispose]();
        await reading;
      }
    },
  };
}

const endpoint = (method: string) => ({
  name: `Greeter.${method}`,
  request: { ...hello, values: [{ name: "inner", type: "Inner", values: hello.values }] },
  response: null,
  metadata: { stream: "true", ä: "ö" },
});

/** What is to be compared; Go prints no metadata as null. */
function partsOf(services: readonly Service[]) {
  return services.map(({ version, endpoints, nodes }) => ({
    version,
    endpoints: endpoints.map(({ name }) => name),
    nodes: nodes
      .toSorted((a, b) => (a.id < b.id ? -1 : 1))
      .map(({ id, metadata }) => [id, (metadata as Record<string, string> | null) ?? {}]),
  }));
}

function seven(nodes: readonly unknown[], method = "Hello") {
  return { version: "7", endpoints: [`Greeter.${method}`], nodes };
}

/** Our records in all their parts, and what becomes of them, as Go's registry reads them. */
function records(kind: keyof typeof backends): Scenario {
  return {
    name: `${kind}: versions, metadata, endpoints and their changes, read whole`,
    via: "address",
    async goToTs({ pair }) {
      const name = pair.unique(kind);
      const registry = `${kind}@${servers[kind]}`;
      await using own = backends[kind](servers[kind]!);
      const read = async (): Promise<Service[]> => {
        await using reader = pair.start("registry", "-registry", registry, "-service", name);
        const line = await reader.line("a result", (one) => "ok" in one || "fatal" in one);
        // etcd's registry has an error for nobody, Consul's an empty list.
        if (!("ok" in line)) assert.match(JSON.stringify(line), /not found/);
        return ((line as { services?: Service[] }).services ?? []).toSorted((a, b) => (a.version < b.version ? -1 : 1));
      };
      const record = (version: string, id: string, metadata: Record<string, string>, method = "Hello"): Service => ({
        name,
        version,
        metadata: {},
        endpoints: [endpoint(method)],
        nodes: [{ id, address: "127.0.0.1:1", metadata }],
      });
      const ttlMs = 30_000;
      const odd = { größe: "日本語 🚀", empty: "", 'quote"\\': "<&>\u2028" };
      await own.register(record("7", `${name}-a`, odd), { ttlMs });
      await own.register(record("7", `${name}-b`, { zone: "1" }), { ttlMs });
      await own.register(record("8", `${name}-c`, {}), { ttlMs });
      const first = await read();
      const eight = { version: "8", endpoints: ["Greeter.Hello"], nodes: [[`${name}-c`, {}]] };
      const b = [`${name}-b`, { zone: "1" }];
      assert.deepEqual(partsOf(first), [seven([[`${name}-a`, odd], b]), eight]);
      assert.deepEqual(first[0]?.endpoints[0], endpoint("Hello"));
      // Other metadata and another endpoint, of both nodes: the first one seen describes the version.
      await own.register(record("7", `${name}-a`, { zone: "2" }, "Bye"), { ttlMs });
      await own.register(record("7", `${name}-b`, { zone: "1" }, "Bye"), { ttlMs });
      assert.deepEqual(partsOf(await read()), [seven([[`${name}-a`, { zone: "2" }], b], "Bye"), eight]);
      for (const [version, id] of [
        ["7", "a"],
        ["7", "b"],
        ["8", "c"],
      ] as const)
        await own.deregister(record(version, `${name}-${id}`, {}));
      assert.deepEqual(await read(), []);
    },
  };
}

/** The scenarios for each server that is there. */
export const registries = (): Scenario[] =>
  (Object.keys(backends) as (keyof typeof backends)[])
    .filter((kind) => servers[kind] !== undefined)
    .flatMap((kind) => [scenario(kind), records(kind)]);
