import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { memoryNetwork, memoryRegistry } from "../../src/registry/memory.ts";
import type { RegistryEvent, Service } from "../../src/registry/registry.ts";
import { registryConformance } from "@micro/testing";

registryConformance({ describe, it }, async () => {
  const network = memoryNetwork();
  const registry = memoryRegistry({ network });
  return {
    registry,
    connect: async () => memoryRegistry({ network }),
    [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
  };
});

function greeter(ids: readonly string[], part: Partial<Service> = {}): Service {
  const nodes = ids.map((id) => ({ id, address: "127.0.0.1:1", metadata: {} }));
  return { name: "greeter", version: "1", metadata: {}, endpoints: [], nodes, ...part };
}

/** The events of what `change` does, in order. */
async function eventsOf(registry: ReturnType<typeof memoryRegistry>, change: () => Promise<void>): Promise<string[]> {
  const events: RegistryEvent[] = [];
  const watcher = registry.watch();
  await watcher.ready;
  await change();
  const marker = greeter(["end"], { name: "marker" });
  await registry.register(marker);
  for await (const event of watcher) {
    if (event.service.name === "marker") break;
    events.push(event);
  }
  await registry.deregister(marker);
  return events.map(
    ({ action, service }) => `${action} ${service.version}: ${service.nodes.map(({ id }) => id).join()}`,
  );
}

describe("memory registry", () => {
  it("says nothing when a registration is merely refreshed", async () => {
    await using registry = memoryRegistry();
    await registry.register(greeter(["a"]));
    expect(await eventsOf(registry, () => registry.register(greeter(["a"])))).toEqual([]);
  });

  it("reports new and changed nodes of one registration apart", async () => {
    await using registry = memoryRegistry();
    await registry.register(greeter(["a"]));
    const changed = { id: "a", address: "127.0.0.1:2", metadata: {} };
    const both = { ...greeter(["b"]), nodes: [changed, ...greeter(["b"]).nodes] };
    expect(await eventsOf(registry, () => registry.register(both))).toEqual(["create 1: b", "update 1: a"]);
  });

  it("reports all nodes of a version whose endpoints change", async () => {
    await using registry = memoryRegistry();
    await registry.register(greeter(["a", "b"]));
    const endpoints = [{ name: "Greeter.Hello", request: null, response: null, metadata: {} }];
    expect(await eventsOf(registry, () => registry.register(greeter(["a"], { endpoints })))).toEqual(["update 1: a,b"]);
  });

  it("moves a node that registers under another version", async () => {
    await using registry = memoryRegistry();
    await registry.register(greeter(["a"]));
    const events = await eventsOf(registry, () => registry.register(greeter(["a"], { version: "2" })));
    expect(events).toEqual(["delete 1: a", "create 2: a"]);
    expect((await registry.getService("greeter")).map(({ version }) => version)).toEqual(["2"]);
  });

  it("reports each expiry once, with the nodes", async () => {
    await using registry = memoryRegistry();
    const watcher = registry.watch();
    await watcher.ready;
    await registry.register(greeter(["a", "b"]), { ttlMs: 20 });
    await registry.register(greeter(["c"]), { ttlMs: 60 });
    const seen: string[] = [];
    for await (const { action, service } of watcher) {
      seen.push(`${action}: ${service.nodes.map(({ id }) => id).join()}`);
      if (seen.length === 4) break;
    }
    expect(seen).toEqual(["create: a,b", "create: c", "delete: a,b", "delete: c"]);
    expect(await registry.listServices()).toEqual([]);
  });

  it("holds preloaded services without expiry", async () => {
    await using registry = memoryRegistry({ services: [greeter(["a"])] });
    expect((await registry.getService("greeter"))[0]?.nodes[0]?.id).toBe("a");
  });

  it("removes what an instance registered when it is disposed, and nothing else", async () => {
    const network = memoryNetwork();
    await using left = memoryRegistry({ network });
    const right = memoryRegistry({ network });
    await left.register(greeter(["a", "shared"]));
    await right.register(greeter(["b"]));
    await right.register(greeter(["shared"]));
    await left.register(greeter(["shared"]));
    await right[Symbol.asyncDispose]();
    expect((await left.getService("greeter"))[0]?.nodes.map(({ id }) => id)).toEqual(["a", "shared"]);
  });

  it("keeps domains apart", async () => {
    await using registry = memoryRegistry();
    await registry.register(greeter(["a"]), { domain: "eu" });
    expect(await registry.getService("greeter")).toEqual([]);
    expect(await registry.listServices()).toEqual([]);
    expect(await registry.listServices({ domain: "eu" })).toHaveLength(1);
  });

  it("does not let a reader change what it holds", async () => {
    await using registry = memoryRegistry({ services: [greeter(["a"])] });
    const [found] = await registry.getService("greeter");
    expect(() => (found!.nodes as unknown[]).push({})).toThrow(TypeError);
    expect(() => Object.assign(found!.nodes[0]!.metadata, { x: "y" })).toThrow(TypeError);
  });

  it("fails a watch whose reader is too slow", async () => {
    await using registry = memoryRegistry();
    const watcher = registry.watch();
    await watcher.ready;
    for (let index = 0; index < 1_100; index++) await registry.register(greeter([`n${index}`]));
    const error = await (async () => {
      for await (const _ of watcher);
    })().catch((cause: unknown) => cause);
    expect(MicroError.is(error) && error.code).toBe("unavailable");
  });

  it("refuses a network of another make, and a TTL that is none", async () => {
    expect(() => memoryRegistry({ network: { kind: "memory network" } })).toThrow(TypeError);
    await using registry = memoryRegistry();
    await expect(registry.register(greeter(["a"]), { ttlMs: 0 })).rejects.toThrow(TypeError);
  });

  it("leaves no timer behind", async () => {
    const registry = memoryRegistry();
    const before = process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
    await registry.register(greeter(["a"]), { ttlMs: 60_000 });
    await registry[Symbol.asyncDispose]();
    expect(process.getActiveResourcesInfo().filter((name) => name === "Timeout").length).toBeLessThanOrEqual(before);
  });
});
