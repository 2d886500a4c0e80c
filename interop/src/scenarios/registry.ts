/** Discovery over mdns: what each side sees of the other's records, and of their coming and going. */
import assert from "node:assert/strict";
import type { Endpoint, RegistryEvent, Service } from "@micro/core";
import { type Scenario, succeeded } from "../outcome.ts";
import { ourGreeter } from "../our-service.ts";
import type { Pair, Via } from "../pair.ts";
import { waitFor } from "../wait.ts";

const greeterEndpoints = ["Chat", "Count", "Echo", "Fail", "Forward", "Hello", "Meta", "Nothing", "Sleep", "Slept"];
const names = (endpoints: readonly Endpoint[]): string[] => endpoints.map(({ name }) => name);

/** Our watch, from now on. */
function watching(registry: { watch(): AsyncIterable<RegistryEvent> & AsyncDisposable & { ready: Promise<void> } }): {
  events: RegistryEvent[];
  ready: Promise<void>;
} & AsyncDisposable {
  const watcher = registry.watch();
  const events: RegistryEvent[] = [];
  const done = (async () => {
    for await (const event of watcher) events.push(event);
  })();
  return {
    events,
    ready: watcher.ready,
    async [Symbol.asyncDispose]() {
      await watcher[Symbol.asyncDispose]();
      await done;
    },
  };
}

export const registry: readonly Scenario[] = [
  {
    name: "look-up: version, node, metadata and endpoints",
    via: "mdns",
    // Go looks ours up.
    async goToTs({ pair }) {
      await using reader = pair.start("registry", "-service", pair.ourName);
      const { services } = succeeded(await reader.line("a result", (line) => "ok" in line || "fatal" in line));
      const [found, ...others] = services as (Service & {
        nodes: { id: string; address: string; metadata: object }[];
      })[];
      assert.ok(found !== undefined && others.length === 0, `found ${JSON.stringify(services)}`);
      assert.equal(found.version, "1.2.3");
      assert.equal(found.nodes.length, 1);
      const [node] = found.nodes;
      assert.equal(node?.address, pair.ourAddress);
      assert.ok(node.id.startsWith(`${pair.ourName}-`), node.id);
      assert.deepEqual(node.metadata, {
        protocol: "mucp",
        server: "mucp",
        transport: "http",
        registry: "mdns",
        broker: "http",
        wire: "micro/1",
        region: "here",
      });
      const greeter = found.endpoints.filter(({ name }) => name.startsWith("Greeter."));
      assert.deepEqual(
        names(greeter),
        greeterEndpoints.map((name) => `Greeter.${name}`),
      );
      const hello = greeter.find(({ name }) => name === "Greeter.Hello");
      assert.deepEqual(hello?.request, {
        name: "HelloRequest",
        type: "HelloRequest",
        values: [{ name: "name", type: "string", values: null }],
      });
      assert.deepEqual(hello?.response, {
        name: "HelloResponse",
        type: "HelloResponse",
        values: [{ name: "msg", type: "string", values: null }],
      });
      assert.equal(greeter.find(({ name }) => name === "Greeter.Chat")?.metadata?.["stream"], "true");
      assert.ok(!names(found.endpoints).some((name) => name.startsWith("Debug.")), "Debug is hidden");
    },
    // We look Go's up.
    async tsToGo({ pair, go }) {
      const lookUp = (): Promise<Service[]> => pair.ours.registry.getService(go.name);
      const [found, ...others] = await waitFor("Go's service is found", lookUp, (services) => services.length > 0);
      assert.ok(found !== undefined && others.length === 0);
      assert.equal(found.version, "1.0.0");
      assert.equal(found.nodes.length, 1);
      const [node] = found.nodes;
      assert.deepEqual([node?.id, node?.address], [go.id, go.address]);
      const { broker, ...metadata } = node!.metadata;
      assert.equal(broker, "http");
      assert.deepEqual(
        { ...metadata },
        { protocol: "mucp", server: "mucp", transport: "http", registry: "mdns", region: "there" },
      );
      const greeter = found.endpoints.filter(({ name }) => name.startsWith("Greeter."));
      assert.deepEqual(
        names(greeter),
        greeterEndpoints.map((name) => `Greeter.${name}`),
      );
      const plain = found.endpoints.find(({ name }) => name === "Plain.Hello");
      assert.deepEqual(plain?.request, {
        name: "HelloRequest",
        type: "HelloRequest",
        values: [{ name: "name", type: "string", values: null }],
      });
      assert.equal(greeter.find(({ name }) => name === "Greeter.Chat")?.metadata["stream"], "true");
    },
  },
  {
    name: "list of services",
    via: "mdns",
    async goToTs({ pair, go }) {
      const list = async (): Promise<string[]> => {
        await using reader = pair.start("registry");
        const { services } = succeeded(await reader.line("a result", (line) => "ok" in line || "fatal" in line));
        return (services as Service[]).map(({ name }) => name);
      };
      await waitFor("both are listed", list, (listed) => listed.includes(pair.ourName) && listed.includes(go.name));
    },
    async tsToGo({ pair, go }) {
      const list = async (): Promise<string[]> => (await pair.ours.registry.listServices()).map(({ name }) => name);
      await waitFor("both are listed", list, (listed) => listed.includes(pair.ourName) && listed.includes(go.name));
    },
  },
  {
    name: "the other side's watch sees start and stop",
    via: "mdns",
    // Go watches ours.
    async goToTs({ pair }) {
      const name = pair.unique("seen");
      await using watch = pair.start("watch");
      await watch.line("ready", ({ ready }) => ready === true);
      const { service } = ourGreeter({ name, version: "7", spreadMs: 0 });
      const of = (action: string) => (line: { action?: string; service?: Service }) =>
        line.action === action && line.service?.name === name;
      await service.start();
      try {
        const created = (await watch.line("create", of("create"), 10_000)) as unknown as { service: Service };
        assert.equal(created.service.version, "7");
        assert.equal(created.service.nodes[0]?.address, service.server.address);
      } finally {
        await service.stop();
      }
      const deleted = (await watch.line("delete", of("delete"), 10_000)) as unknown as { service: Service };
      assert.equal(deleted.service.nodes.length, 1);
    },
    // We watch Go's.
    async tsToGo({ pair }) {
      const name = pair.unique("seen");
      await using watch = watching(pair.ours.registry);
      await watch.ready;
      const of = (action: string) => () =>
        watch.events.find((event) => event.action === action && event.service.name === name);
      let id: string;
      {
        await using server = await pair.startServer(name, "-version", "7");
        ({ id } = server);
        const created = await waitFor("our watch sees it come", of("create"), (event) => event !== undefined, 10_000);
        assert.equal(created?.service.version, "7");
        assert.deepEqual(
          created?.service.nodes.map(({ address }) => address),
          [server.address],
        );
        server.process.kill("SIGTERM");
        await server.process.exited;
      }
      const deleted = await waitFor("our watch sees it go", of("delete"), (event) => event !== undefined, 10_000);
      assert.deepEqual(
        deleted?.service.nodes.map((node) => node.id),
        [id],
      );
    },
  },
  {
    name: "a stopped service is not called any more",
    via: "mdns",
    async goToTs({ pair, via }) {
      const name = pair.unique("gone");
      const { service } = ourGreeter({ name, spreadMs: 0 });
      await service.start();
      succeeded(await pair.goClient(via, { service: name, endpoint: "Plain.Hello", body: { name: "x" } }));
      await service.stop();
      const again = { service: name, endpoint: "Plain.Hello", body: { name: "x" }, await: "0s" };
      const line = await pair.goClient(via, again);
      assert.match(line["error"]?.detail as string, /not found/);
    },
    async tsToGo({ pair }) {
      const name = pair.unique("gone");
      await using server = await pair.startServer(name);
      assert.deepEqual(await pair.ours.client.call(name, "Plain.Hello", { name: "x" }), { msg: "Hello x" });
      server.process.kill("SIGTERM");
      await server.process.exited;
      const code = async (): Promise<string> => {
        try {
          await pair.ours.client.call(name, "Plain.Hello", { name: "x" }, { timeoutMs: 1_000 });
          return "answered";
        } catch (error) {
          return (error as { code: string }).code;
        }
      };
      // Refused at once, not found as soon as the watch has told it.
      await waitFor("nothing is left to call", code, (seen) => seen === "not_found");
    },
  },
  {
    name: "a name with dots, found and called",
    via: "mdns",
    async goToTs({ pair, via }) {
      const name = `go.micro.srv.${pair.unique("dots")}`;
      await foundAndCalled(pair, via, name, "127.0.0.1:0");
    },
    async tsToGo({ pair }) {
      await using server = await pair.startServer(`go.micro.srv.${pair.unique("dots")}`);
      assert.deepEqual(await callWhenFound(pair, server.name), { msg: "Hello dots" });
    },
  },
  {
    name: "a node with an IPv6 address, found and called",
    via: "mdns",
    async goToTs({ pair, via }) {
      await foundAndCalled(pair, via, pair.unique("six"), "[::1]:0");
    },
    async tsToGo({ pair }) {
      await using server = await pair.startServer(pair.unique("six"), "-address", "[::1]:0");
      assert.match(server.address, /^\[::1\]:/);
      assert.deepEqual(await callWhenFound(pair, server.name), { msg: "Hello dots" });
    },
  },
];

/** Start a service of ours and let a Go client find and call it. */
async function foundAndCalled(pair: Pair, via: Via, name: string, address: string): Promise<void> {
  const { service } = ourGreeter({ name, address, spreadMs: 0 });
  await service.start();
  try {
    const result = await pair.goClient(via, { service: name, endpoint: "Plain.Hello", body: { name: "dots" } });
    assert.deepEqual(succeeded(result)["response"], { msg: "Hello dots" });
  } finally {
    await service.stop();
  }
}

async function callWhenFound(pair: Pair, name: string): Promise<unknown> {
  await waitFor(
    "Go's service is found",
    () => pair.ours.registry.getService(name),
    (services) => services.length > 0,
  );
  return pair.ours.client.call(name, "Plain.Hello", { name: "dots" });
}
