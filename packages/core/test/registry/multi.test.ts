import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { memoryNetwork, memoryRegistry } from "../../src/registry/memory.ts";
import { multiRegistry, type MultiRegistryOptions } from "../../src/registry/multi.ts";
import type { Registry, RegistryEvent, Service } from "../../src/registry/registry.ts";
import { createService } from "../../src/service/service.ts";
import { registryConformance } from "@micro/testing";
import { faultyRegistry } from "../support/faulty-registry.ts";

registryConformance({ describe, it }, async () => {
  const networks = [memoryNetwork(), memoryNetwork()];
  const connect = () => multiRegistry({ write: networks.map((network) => memoryRegistry({ network })) });
  const registry = connect();
  return { registry, connect: async () => connect(), [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose]() };
});

function greeter(...ids: string[]): Service {
  const nodes = ids.map((id) => ({ id, address: "127.0.0.1:1", metadata: {} }));
  return { name: "greeter", version: "1", metadata: {}, endpoints: [], nodes };
}

const idsOf = (services: readonly Service[]): string[] => services.flatMap(({ nodes }) => nodes.map(({ id }) => id));

const starting = (options: MultiRegistryOptions) =>
  createService({
    name: "starts",
    address: "127.0.0.1:0",
    logger: silentLogger,
    registry: multiRegistry(options),
    spreadMs: 0,
    args: [],
    env: {},
    handleSignals: false,
    exit() {},
  });

describe("multi registry", () => {
  it("wants something to write to, and each registry once", () => {
    const memory = memoryRegistry();
    expect(() => multiRegistry({ write: [] })).toThrow(TypeError);
    expect(() => multiRegistry({ write: [memory], read: [memory] })).toThrow(TypeError);
  });

  it("writes to those it writes to and reads from all", async () => {
    const [old, next] = [memoryNetwork(), memoryNetwork()];
    await using before = memoryRegistry({ network: old });
    await using after = memoryRegistry({ network: next });
    await using registry = multiRegistry({
      write: [memoryRegistry({ network: next })],
      read: [memoryRegistry({ network: old })],
    });
    await before.register(greeter("old"));
    await registry.register(greeter("new"));
    expect(idsOf(await registry.getService("greeter")).toSorted()).toEqual(["new", "old"]);
    expect(idsOf(await before.getService("greeter"))).toEqual(["old"]);
    expect(idsOf(await after.getService("greeter"))).toEqual(["new"]);
  });

  it("goes on with one registry down: registering, look-ups with what it said last, and the watch", async () => {
    const down = faultyRegistry();
    const network = memoryNetwork();
    await using beside = memoryRegistry({ network });
    await using registry = multiRegistry({ write: [down, memoryRegistry({ network })] });
    await down.register(greeter("there"));
    await registry.register(greeter("both"));
    expect(idsOf(await registry.getService("greeter")).toSorted()).toEqual(["both", "there"]);
    await using watcher = registry.watch();
    await watcher.ready;
    down.down = true;
    down.breakWatches();
    await registry.register(greeter("later"));
    expect(idsOf(await registry.getService("greeter")).toSorted()).toEqual(["both", "later", "there"]);
    await beside.register(greeter("beside"));
    for await (const { service } of watcher) if (idsOf([service]).includes("beside")) break;
    await expect(registry.deregister(greeter("later"))).rejects.toMatchObject({ code: "unavailable" });
    expect(idsOf(await beside.getService("greeter"))).not.toContain("later");
  });

  it("goes on with what a registry said last, not with what it said before that", async () => {
    const down = faultyRegistry();
    await using registry = multiRegistry({ write: [memoryRegistry()], read: [down] });
    await down.register(greeter("gone"));
    expect(idsOf(await registry.getService("greeter"))).toEqual(["gone"]);
    await down.deregister(greeter("gone"));
    expect(await registry.getService("greeter")).toEqual([]);
    down.down = true;
    await expect(registry.getService("greeter")).rejects.toMatchObject({ code: "unavailable" });
  });

  it("refuses when all are down, and when there is no telling whether a service exists", async () => {
    const down = faultyRegistry();
    down.down = true;
    down.breakWatches();
    await using alone = multiRegistry({ write: [down] });
    await expect(alone.register(greeter("a"))).rejects.toMatchObject({ code: "unavailable" });
    await using half = multiRegistry({ write: [memoryRegistry()], read: [down] });
    await expect(half.getService("greeter")).rejects.toMatchObject({ code: "unavailable" });
  });

  it("lets a service start while one of its registries is away, not while all it writes to are", async () => {
    const [there, away] = [faultyRegistry("there"), faultyRegistry("away")];
    away.down = true;
    away.breakWatches();
    for (const options of [{ write: [away, there] }, { write: [there], read: [away] }]) {
      await using service = starting(options);
      await service.start();
      expect(there.nodesOf("starts")).toEqual([service.nodeId]);
    }
    await using service = starting({ write: [away], read: [there] });
    await expect(service.start()).rejects.toMatchObject({ code: "unavailable" });
    expect(there.nodesOf("starts")).toEqual([]);
  });

  it("remembers what each has said last: 10 000 answers, 64 MiB, and the latest", async () => {
    for (const [count, remembered, metadata] of [
      [10_050, 10_000, {}],
      // A character takes two bytes.
      [40, 31, { padding: "x".repeat(1024 * 1024) }],
    ] as const) {
      let down = false;
      const talkative = Object.assign(memoryRegistry(), {
        async getService(name: string): Promise<Service[]> {
          if (down) throw new MicroError("away", { code: "unavailable" });
          return [{ ...greeter("a"), name, metadata }];
        },
      });
      await using registry = multiRegistry({ write: [talkative] });
      await using beside = multiRegistry({ write: [memoryRegistry()], read: [registry] });
      for (let index = 0; index < count; index++) await beside.getService(`s${index}`);
      down = true;
      const known = async (index: number): Promise<boolean> =>
        (await beside.getService(`s${index}`).catch(() => [])).length > 0;
      expect(await known(count - remembered - 1)).toBe(false);
      for (const index of [count - remembered, count - 1]) expect(await known(index)).toBe(true);
    }
  });

  it("is released with all that it is made of, whatever one of them does", async () => {
    const released: string[] = [];
    const member = (name: string, fail: boolean): Registry =>
      Object.assign(memoryRegistry(), {
        release() {
          released.push(name);
          if (fail) throw new Error("it must not throw");
        },
      });
    const several = { write: [member("a", true), member("b", false)], read: [memoryRegistry(), member("c", false)] };
    await using registry = multiRegistry(several);
    await registry.release?.();
    expect(released).toEqual(["a", "b", "c"]);
  });

  it("does not report as gone what another registry still has", async () => {
    const [a, b] = [memoryNetwork(), memoryNetwork()];
    await using first = memoryRegistry({ network: a });
    await using second = memoryRegistry({ network: b });
    for (const one of [first, second]) await one.register(greeter("moving"));
    await using registry = multiRegistry({ write: [memoryRegistry({ network: a }), memoryRegistry({ network: b })] });
    await using watcher = registry.watch();
    await watcher.ready;
    const events: RegistryEvent[] = [];
    await first.deregister(greeter("moving"));
    const reading = (async () => {
      for await (const event of watcher) {
        events.push(event);
        if (event.action === "delete") return;
      }
    })();
    await expect.poll(() => events.map(({ action }) => action)).toEqual(["update"]);
    expect(idsOf(await registry.getService("greeter"))).toEqual(["moving"]);
    await second.deregister(greeter("moving"));
    await reading;
    expect(events.map(({ action }) => action)).toEqual(["update", "delete"]);
  });
});
