import { describe, expect, it, onTestFinished } from "vitest";
import { contextKey, currentContext, Context, runInContext } from "../../src/context.ts";
import { registryCache } from "../../src/registry/cache.ts";
import type { CacheSnapshot, RegistryCacheOptions } from "../../src/registry/cache.ts";
import { fakeClock } from "@micro/testing";
import { faultyRegistry, memoryLogger, record } from "../support/faulty-registry.ts";

const ids = (snapshot: CacheSnapshot): string[] => snapshot.nodes.map(({ node }) => node.id).toSorted();

const large = (id: string) => ({ id, address: `${id}:80`, metadata: { x: "x".repeat(10_000) } });

function setUp(options: Partial<RegistryCacheOptions> = {}) {
  const registry = faultyRegistry();
  const clock = fakeClock();
  const logger = memoryLogger();
  const cache = registryCache({ registry, logger, clock, random: () => 0.5, ...options });
  onTestFinished(async () => {
    await cache[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
    expect(registry.counts.watching).toBe(0);
    expect(clock.pending).toBe(0);
  });
  return { registry, clock, logger, cache, warm: async () => void (await cache.get("greeter")) };
}

/** What `get` gives without waiting. */
function now(answer: CacheSnapshot | Promise<CacheSnapshot>): CacheSnapshot {
  if (answer instanceof Promise) {
    answer.catch(() => {});
    throw new Error("the cache answered with a promise");
  }
  return answer;
}

describe("two caches", () => {
  it("share nothing, though their registries have one name: what one knows is at its addresses only", async () => {
    const [here, there] = [faultyRegistry("etcd"), faultyRegistry("etcd")];
    await here.register(record("greeter", [["a", "here:80"]]));
    await there.register(record("greeter", [["a", "there:80"]]));
    const caches = [here, there].map((registry) => registryCache({ registry, logger: memoryLogger() }));
    const addresses = async (): Promise<string[][]> =>
      Promise.all(caches.map(async (cache) => (await cache.get("greeter")).nodes.map(({ node }) => node.address)));
    expect(await addresses()).toEqual([["here:80"], ["there:80"]]);
    await there.register(record("greeter", [["b", "new:80"]]));
    await expect.poll(addresses).toEqual([["here:80"], ["there:80", "new:80"]]);
    for (const cache of caches) await cache[Symbol.asyncDispose]();
    expect([here.counts.watching, there.counts.watching]).toEqual([0, 0]);
  });
});

describe("registryCache", () => {
  it("asks nothing before the first look-up", async () => {
    const { registry, clock } = setUp();
    await clock.settle();
    expect(registry.counts).toMatchObject({ getService: 0, watch: 0 });
  });

  it("answers the first look-up with a promise and later ones at once", async () => {
    const { registry, cache } = setUp();
    await registry.register(record("greeter", ["a", "b"]));
    const first = cache.get("greeter");
    expect(first).toBeInstanceOf(Promise);
    expect(ids(await first)).toEqual(["a", "b"]);
    expect(ids(now(cache.get("greeter")))).toEqual(["a", "b"]);
    expect(registry.counts).toMatchObject({ getService: 1, watch: 1 });
  });

  it("gives immutable snapshots that share nothing with later ones", async () => {
    const { registry, cache, clock, warm } = setUp();
    await registry.register(record("greeter", ["a"]));
    await warm();
    const before = now(cache.get("greeter"));
    expect(() => (before.nodes as unknown[]).push(1)).toThrow(TypeError);
    expect(() => (before.services[0]!.nodes as unknown[]).push(1)).toThrow(TypeError);
    await registry.register(record("greeter", ["b"]));
    await clock.settle();
    const after = now(cache.get("greeter"));
    expect(ids(before)).toEqual(["a"]);
    expect(ids(after)).toEqual(["a", "b"]);
    expect(after.version).not.toBe(before.version);
    expect(after.nodes[1]!.service).toBe(after.services[0]);
  });

  it("watches before it lists, so that what changes in between is not missed", async () => {
    const { registry, cache, clock } = setUp();
    await registry.register(record("greeter", ["a", "b"]));
    const { promise, resolve } = Promise.withResolvers<void>();
    registry.hold = promise;
    const first = cache.get("greeter");
    await clock.settle();
    await registry.register(record("greeter", ["c"]));
    await registry.deregister(record("greeter", ["a"]));
    await clock.settle();
    resolve();
    expect(ids(await first)).toEqual(["b", "c"]);
    expect(registry.counts.getService).toBe(1);
  });

  it("shares one look-up among all who wait, found or not", async () => {
    const { registry, cache } = setUp();
    await Promise.all(Array.from({ length: 100 }, async () => cache.get("greeter")));
    expect(registry.counts.getService).toBe(1);
  });

  it("does not hammer the registry for a service that is missing", async () => {
    const { registry, cache, clock } = setUp();
    for (let step = 0; step < 1_000; step++) {
      expect(ids(await cache.get("greeter"))).toEqual([]);
      await clock.advance(10);
    }
    // 10 s; at most one look-up every 2 s in the long run.
    expect(registry.counts.getService).toBeGreaterThan(4);
    expect(registry.counts.getService).toBeLessThan(12);
  });

  it("finds a service that starts up at once, although it was missing a moment ago", async () => {
    const { registry, cache, clock, warm } = setUp();
    await warm();
    await registry.register(record("greeter", ["a"]));
    await clock.settle();
    expect(ids(now(cache.get("greeter")))).toEqual(["a"]);
  });

  it("follows events: new nodes, changed nodes, removed nodes, removed versions", async () => {
    const { registry, cache, clock, warm } = setUp();
    await registry.register(record("greeter", ["a", "b"]));
    await registry.register(record("greeter", ["c", "d"], "2.0.0"));
    await warm();
    const addressOf = (id: string) => now(cache.get("greeter")).nodes.find(({ node }) => node.id === id)?.node.address;

    registry.send({ action: "update", service: record("greeter", [["b", "elsewhere:80"], "e"]) });
    await clock.settle();
    expect(ids(now(cache.get("greeter")))).toEqual(["a", "b", "c", "d", "e"]);
    expect(addressOf("b")).toBe("elsewhere:80");

    registry.send({ action: "delete", service: record("greeter", ["a", "unknown"]) });
    await clock.settle();
    expect(ids(now(cache.get("greeter")))).toEqual(["b", "c", "d", "e"]);

    registry.send({ action: "delete", service: record("greeter", [], "2.0.0") });
    await clock.settle();
    expect(ids(now(cache.get("greeter")))).toEqual(["b", "e"]);
    expect(now(cache.get("greeter")).services.map(({ version }) => version)).toEqual(["1.0.0"]);
  });

  it("moves a node that appears under another version, and ignores the late end of the old one", async () => {
    const { registry, cache, clock, warm } = setUp();
    await registry.register(record("greeter", ["a"]));
    await warm();
    registry.send({ action: "create", service: record("greeter", ["a"], "2.0.0") });
    registry.send({ action: "delete", service: record("greeter", ["a"], "1.0.0") });
    await clock.settle();
    const { services, nodes } = now(cache.get("greeter"));
    expect(services.map(({ version }) => version)).toEqual(["2.0.0"]);
    expect(nodes).toHaveLength(1);
  });

  it("keeps the snapshot when an event or a list repeats what is known", async () => {
    const { registry, cache, clock, warm } = setUp();
    await registry.register(record("greeter", ["a"]));
    await warm();
    const { version, fetchedAt } = now(cache.get("greeter"));
    for (let copy = 0; copy < 6; copy++) registry.send({ action: "create", service: record("greeter", ["a"]) });
    await clock.settle();
    expect(now(cache.get("greeter")).version).toBe(version);
    await clock.advance(70_000);
    expect(registry.counts.getService).toBe(2);
    expect(now(cache.get("greeter")).version).toBe(version);
    expect(now(cache.get("greeter")).fetchedAt).toBeGreaterThan(fetchedAt);
  });

  it("gives a node another incarnation when it was gone or has moved, and only then", async () => {
    const { registry, cache, clock, warm } = setUp();
    const incarnation = () => now(cache.get("greeter")).nodes.find(({ node }) => node.id === "a")!.incarnation;
    await registry.register(record("greeter", ["a", "b"]));
    await warm();
    const first = incarnation();
    registry.send({
      action: "update",
      service: record("greeter", [{ id: "a", address: "a:80", metadata: { zone: "1" } }]),
    });
    await clock.settle();
    expect(incarnation()).toBe(first);
    await registry.deregister(record("greeter", ["a"]));
    await registry.register(record("greeter", ["a"]));
    await clock.settle();
    const second = incarnation();
    expect(second).not.toBe(first);
    await registry.register(record("greeter", [["a", "elsewhere:80"]]));
    await clock.settle();
    expect(incarnation()).not.toBe(second);
  });

  it("lists again every ttlMs, which finds what no event told", async () => {
    const { registry, cache, clock, warm } = setUp({ ttlMs: 1_000 });
    await registry.register(record("greeter", ["a", "b"]));
    await warm();
    registry.lost.add("a");
    await clock.advance(1_500);
    expect(ids(now(cache.get("greeter")))).toEqual(["b"]);
  });

  it("serves what it knows while the registry is down, and says how old it is and why", async () => {
    const { registry, cache, clock, logger, warm } = setUp();
    await registry.register(record("greeter", ["a"]));
    await warm();
    registry.down = true;
    registry.breakWatches();
    await clock.advance(300_000);
    expect(ids(now(cache.get("greeter")))).toEqual(["a"]);
    const facts = cache.describe("greeter");
    expect(facts).toMatchObject({ registry: "faulty", nodes: 1, watching: false });
    expect(facts.ageMs).toBeGreaterThanOrEqual(299_000);
    expect(facts.staleReason).toContain("connection refused");
    expect(facts.lastError?.code).toBe("unavailable");
    expect(logger.lines.filter((line) => line.startsWith("warn"))).toHaveLength(1);

    registry.down = false;
    await clock.advance(60_000);
    expect(cache.describe("greeter")).toMatchObject({ watching: true, staleReason: undefined, lastError: undefined });
    expect(logger.lines).toHaveLength(2);
    expect(logger.lines[1]).toMatch(/^info .*current again/);
  });

  it("empties when a list succeeds and is empty", async () => {
    const { registry, cache, clock, warm } = setUp({ ttlMs: 1_000 });
    await registry.register(record("greeter", ["a"]));
    await warm();
    registry.lost.add("a");
    await clock.advance(1_500);
    expect(ids(await cache.get("greeter"))).toEqual([]);
  });

  it("keeps the last nodes until a list confirms their end, for they may be back at once", async () => {
    const { registry, cache, clock, warm } = setUp();
    await registry.register(record("greeter", ["a", "b"]));
    await warm();
    // Two that are left, one after the other: the first goes at once.
    await registry.deregister(record("greeter", ["a"]));
    await clock.settle();
    expect(ids(now(cache.get("greeter")))).toEqual(["b"]);
    await registry.deregister(record("greeter", ["b"]));
    await clock.settle();
    expect(ids(now(cache.get("greeter")))).toEqual(["b"]);
    await registry.register(record("greeter", ["b"]));
    await clock.advance(5_000);
    expect(ids(now(cache.get("greeter")))).toEqual(["b"]);
    // Somebody else takes the place: who was kept goes.
    await registry.deregister(record("greeter", ["b"]));
    await registry.register(record("greeter", ["c"]));
    await clock.settle();
    expect(ids(now(cache.get("greeter")))).toEqual(["c"]);
    await registry.deregister(record("greeter", ["c"]));
    await clock.advance(14_900);
    expect(ids(now(cache.get("greeter")))).toEqual(["c"]);
    await clock.advance(200);
    expect(ids(await cache.get("greeter"))).toEqual([]);
    // Traffic that finds nobody there needs no patience.
    await registry.register(record("greeter", ["d"]));
    await clock.advance(2_000);
    expect(ids(now(cache.get("greeter")))).toEqual(["d"]);
    await registry.deregister(record("greeter", ["d"]));
    await clock.settle();
    expect(ids(now(cache.get("greeter")))).toEqual(["d"]);
    cache.recheck("greeter");
    await clock.settle();
    expect(ids(await cache.get("greeter"))).toEqual([]);
  });

  it("does not believe an empty list after lists that got no answer, for 35 s", async () => {
    const { registry, cache, clock, warm } = setUp({ ttlMs: 10_000, timeoutMs: 1_000 });
    await registry.register(record("greeter", ["a"]));
    await warm();
    const held = Promise.withResolvers<void>();
    registry.hold = held.promise;
    await clock.advance(15_000);
    expect(cache.describe("greeter").lastError?.code).toBe("timeout");
    registry.lost.add("a");
    registry.hold = undefined;
    held.resolve();
    await clock.advance(30_000);
    expect(cache.describe("greeter").lastError).toBeUndefined();
    expect(ids(now(cache.get("greeter")))).toEqual(["a"]);
    await clock.advance(20_000);
    expect(ids(await cache.get("greeter"))).toEqual([]);
  });

  it("keeps the last nodes while the registry that reported their end does not answer", async () => {
    const { registry, cache, clock, warm } = setUp();
    await registry.register(record("greeter", ["a"]));
    await warm();
    registry.send({ action: "delete", service: record("greeter", ["a"]) });
    await clock.settle();
    registry.down = true;
    await clock.advance(30_000);
    expect(ids(now(cache.get("greeter")))).toEqual(["a"]);
  });

  it("does not believe a registry that comes back without anybody, for 35 s", async () => {
    const { registry, cache, clock, warm } = setUp();
    await registry.register(record("greeter", ["a", "b"]));
    await warm();
    registry.lost.add("a").add("b");
    registry.breakWatches();
    await clock.advance(30_000);
    expect(ids(now(cache.get("greeter")))).toEqual(["a", "b"]);
    // One has registered again: from then on the registry is believed.
    registry.lost.delete("b");
    await clock.advance(2_000);
    expect(ids(now(cache.get("greeter")))).toEqual(["b"]);
    registry.lost.add("b");
    registry.breakWatches();
    await clock.advance(40_000);
    expect(ids(await cache.get("greeter"))).toEqual([]);
  });

  it("finds what changed while the watch was broken", async () => {
    const { registry, cache, clock, warm } = setUp();
    await registry.register(record("greeter", ["a"]));
    await warm();
    registry.watchDown = true;
    registry.breakWatches();
    await clock.settle();
    await registry.register(record("greeter", ["b"]));
    await registry.deregister(record("greeter", ["a"]));
    expect(ids(now(cache.get("greeter")))).toEqual(["a"]);
    registry.watchDown = false;
    await clock.advance(200);
    expect(ids(now(cache.get("greeter")))).toEqual(["b"]);
  });

  it("lists more often while it cannot watch", async () => {
    const { registry, cache, clock, warm } = setUp();
    registry.watchDown = true;
    await registry.register(record("greeter", ["a"]));
    await warm();
    await registry.register(record("greeter", ["b"]));
    await clock.advance(10_100);
    expect(ids(now(cache.get("greeter")))).toEqual(["a", "b"]);
  });

  it("retries a broken watch with growing pauses", async () => {
    const { registry, clock, warm } = setUp();
    await registry.register(record("greeter", ["a"]));
    await warm();
    registry.watchDown = true;
    registry.breakWatches();
    await clock.advance(60_000);
    // 50, 100, 200, … 15000 ms: about a dozen.
    expect(registry.counts.watch).toBeGreaterThan(8);
    expect(registry.counts.watch).toBeLessThan(16);
  });

  it("keeps a node that one list lacks where lists are incomplete, until a second one lacks it soon after", async () => {
    const { registry, cache, clock, warm } = setUp({ missesToRemove: 2, ttlMs: 60_000 });
    await registry.register(record("greeter", ["a", "b"]));
    await warm();
    registry.lost.add("a");
    await clock.advance(60_500);
    expect(ids(now(cache.get("greeter")))).toEqual(["a", "b"]);
    registry.lost.clear();
    await clock.advance(1_000);
    registry.lost.add("a");
    await clock.advance(60_000);
    expect(ids(now(cache.get("greeter")))).toEqual(["a", "b"]);
    await clock.advance(1_000);
    expect(ids(now(cache.get("greeter")))).toEqual(["b"]);
    registry.lost.add("b");
    await clock.advance(62_000);
    expect(ids(await cache.get("greeter"))).toEqual([]);
  });

  it("takes two lists to drop a node of mdns, one elsewhere", async () => {
    const registry = faultyRegistry("mdns");
    const { cache, clock } = setUp({ registry, ttlMs: 60_000 });
    await registry.register(record("greeter", ["a"]));
    await cache.get("greeter");
    registry.lost.add("a");
    await clock.advance(60_500);
    expect(ids(now(cache.get("greeter")))).toEqual(["a"]);
    await clock.advance(1_000);
    expect(ids(await cache.get("greeter"))).toEqual([]);
    await registry[Symbol.asyncDispose]();
  });

  it("rechecks on a hint of the traffic, at most once a second", async () => {
    const { registry, cache, clock, warm } = setUp();
    await registry.register(record("greeter", ["a", "b"]));
    await warm();
    registry.lost.add("a");
    await clock.advance(1_000);
    for (let hint = 0; hint < 100; hint++) cache.recheck("greeter");
    await clock.advance(100);
    expect(registry.counts.getService).toBe(2);
    expect(ids(now(cache.get("greeter")))).toEqual(["b"]);
    cache.recheck("never asked for");
    expect(registry.counts.getService).toBe(2);
  });

  it("tells the registry's error when it has never answered, and asks again soon", async () => {
    const { registry, cache, clock } = setUp();
    registry.down = true;
    await expect(cache.get("greeter")).rejects.toMatchObject({ code: "unavailable" });
    for (let caller = 0; caller < 50; caller++)
      await expect(cache.get("greeter")).rejects.toThrow("connection refused");
    expect(registry.counts.getService).toBe(1);
    registry.down = false;
    await registry.register(record("greeter", ["a"]));
    await clock.advance(250);
    expect(ids(await cache.get("greeter"))).toEqual(["a"]);
  });

  it("ends the wait of a caller by its deadline or signal, and nobody else's", async () => {
    const { registry, cache, clock } = setUp();
    await registry.register(record("greeter", ["a"]));
    const { promise, resolve } = Promise.withResolvers<void>();
    registry.hold = promise;
    const controller = new AbortController();
    const patient = cache.get("greeter");
    const hurried = expect(
      cache.get("greeter", { deadline: clock.now() + 100 }) as Promise<CacheSnapshot>,
    ).rejects.toMatchObject({ code: "timeout" });
    const cancelled = expect(
      cache.get("greeter", { signal: controller.signal }) as Promise<CacheSnapshot>,
    ).rejects.toMatchObject({ code: "aborted" });
    await clock.advance(200);
    controller.abort();
    await hurried;
    await cancelled;
    resolve();
    expect(ids(await patient)).toEqual(["a"]);
    expect(registry.counts.getService).toBe(1);
  });

  it("gives up a list that hangs, and finds the service with the next one", async () => {
    const { registry, cache, clock } = setUp({ timeoutMs: 1_000 });
    registry.hold = new Promise(() => {});
    await registry.register(record("greeter", ["a"]));
    const hanging = expect(cache.get("greeter") as Promise<CacheSnapshot>).rejects.toMatchObject({ code: "timeout" });
    await clock.advance(1_200);
    await hanging;
    registry.hold = undefined;
    await clock.advance(1_000);
    expect(ids(await cache.get("greeter"))).toEqual(["a"]);
  });

  it("forgets a service nobody asks for, and says so", async () => {
    const { registry, cache, clock, warm } = setUp();
    const dropped: string[] = [];
    const end = cache.onDrop((name) => dropped.push(name));
    await registry.register(record("greeter", ["a"]));
    await registry.register(record("other", ["b"]));
    await warm();
    await cache.get("other");
    for (let minute = 0; minute < 15; minute++) {
      await clock.advance(60_000);
      now(cache.get("other"));
    }
    expect(dropped).toEqual(["greeter"]);
    expect(registry.counts.watching).toBe(1);
    end();
    await warm();
    expect(ids(now(cache.get("greeter")))).toEqual(["a"]);
  });

  it("forgets names nobody offers within half a minute", async () => {
    const { registry, cache, clock } = setUp();
    for (let index = 0; index < 50; index++) await cache.get(`missing-${index}`);
    expect(registry.counts.watching).toBe(50);
    await clock.advance(30_000);
    expect(registry.counts.watching).toBe(0);
  });

  it("bounds the number of services, names nobody offers first", async () => {
    const { registry, cache, clock } = setUp({ maxServices: 10 });
    await registry.register(record("greeter", ["a"]));
    await cache.get("greeter");
    for (let index = 0; index < 100; index++) await cache.get(`missing-${index}`);
    await clock.settle();
    expect(registry.counts.watching).toBe(10);
    expect(ids(now(cache.get("greeter")))).toEqual(["a"]);
  });

  it("bounds the number of nodes with a warning", async () => {
    const { registry, cache, logger } = setUp({ maxNodes: 3 });
    await registry.register(record("greeter", ["a", "b", "c", "d"]));
    expect(ids(await cache.get("greeter"))).toEqual(["a", "b", "c"]);
    expect(logger.lines).toEqual([expect.stringMatching(/^warn .*more than 3 nodes/)]);
  });

  it("bounds what a service may hold in bytes, and leaves every other its even share", async () => {
    const { registry, cache, logger } = setUp({ maxBytes: 400_000 });
    await registry.register(
      record(
        "flooded",
        Array.from({ length: 50 }, (_, index) => large(`n${index}`)),
      ),
    );
    const { nodes } = await cache.get("flooded");
    expect(nodes.length).toBeGreaterThan(1);
    expect(nodes.length).toBeLessThan(10);
    expect(cache.bytes).toBeLessThanOrEqual(100_000);
    expect(logger.lines).toEqual([expect.stringMatching(/^warn .*others ignored/)]);
    for (const name of ["a", "b", "c", "d", "e", "f"]) {
      await registry.register(
        record(
          name,
          Array.from({ length: 50 }, (_, index) => large(`${name}${index}`)),
        ),
      );
      expect((await cache.get(name)).nodes.length, name).toBeGreaterThan(1);
    }
    // Even shares of what was full already: twice the bound at most.
    expect(cache.bytes).toBeLessThanOrEqual(800_000);
  });

  it("gives back the bytes and the places of what it no longer holds", async () => {
    const { registry, cache, clock } = setUp({ maxServices: 3, idleMs: 60_000 });
    for (let round = 0; round < 5; round++) {
      for (const name of ["a", "b", "c"]) {
        await registry.register(record(name, [`${name}-1`, [`${name}-2`, `${name}:${round}`]]));
        await cache.get(name);
      }
      expect(registry.counts.watching).toBe(3);
      const full = cache.bytes;
      registry.send({ action: "delete", service: record("a", ["a-1"]) });
      await clock.settle();
      expect(cache.bytes).toBeLessThan(full);
      expect(cache.bytes).toBeGreaterThan(0);
      await clock.advance(180_000);
      expect([cache.bytes, registry.counts.watching]).toEqual([0, 0]);
    }
  });

  it("fails as not run and unavailable while the registry is away", async () => {
    const { registry, cache, clock } = setUp();
    registry.down = true;
    const failure = cache.get("greeter") as Promise<CacheSnapshot>;
    const failed = expect(failure).rejects.toMatchObject({ code: "unavailable", notRun: true });
    await clock.advance(2_000);
    await failed;
  });

  it("keeps domains apart", async () => {
    const { registry, cache } = setUp();
    const asked: (string | undefined)[] = [];
    const getService = registry.getService.bind(registry);
    registry.getService = async (name, options) => {
      asked.push(options?.domain);
      return getService(name, options);
    };
    await registry.register(record("greeter", ["a"]));
    await cache.get("greeter");
    await cache.get("greeter", { domain: "green" });
    expect(ids(now(cache.get("greeter", { domain: "green" })))).toEqual(["a"]);
    expect(asked).toEqual([undefined, "green"]);
    expect(cache.describe("greeter", "blue").ageMs).toBeUndefined();
  });

  it("forgets a service of another domain as it does those of its own", async () => {
    const { registry, cache, clock } = setUp();
    const dropped: (string | undefined)[] = [];
    cache.onDrop((_, domain) => dropped.push(domain));
    await registry.register(record("greeter", ["a"]));
    await cache.get("greeter", { domain: "green" });
    await clock.advance(15 * 60_000);
    expect([dropped, registry.counts.watching]).toEqual([["green"], 0]);
    // What was forgotten no longer follows the registry.
    await registry.register(record("greeter", ["a", "b"]));
    expect(ids(await cache.get("greeter", { domain: "green" }))).toEqual(["a", "b"]);
    expect(registry.counts.watching).toBe(1);
  });

  it("runs its background work outside of the call that started it", async () => {
    const { registry, cache } = setUp();
    const seen: unknown[] = [];
    const getService = registry.getService.bind(registry);
    const watch = registry.watch.bind(registry);
    registry.getService = async (name, options) => {
      seen.push(currentContext());
      return getService(name, options);
    };
    registry.watch = (options) => {
      seen.push(currentContext());
      return watch(options);
    };
    const context = new Context({ service: "s", endpoint: "e" }).with(contextKey<number>("n"), 1);
    await runInContext(context, async () => cache.get("greeter"));
    expect(seen).toEqual([undefined, undefined]);
  });

  it("survives names and keys that objects would trip over", async () => {
    const { registry, cache } = setUp();
    const hostile = {
      id: "__proto__",
      address: "a:1",
      metadata: JSON.parse('{"__proto__":"x"}') as Record<string, string>,
    };
    await registry.register(record("__proto__", [hostile]));
    expect(ids(await cache.get("__proto__"))).toEqual(["__proto__"]);
    expect(ids(await cache.get("constructor"))).toEqual([]);
    expect(({} as Record<string, unknown>)["x"]).toBeUndefined();
  });

  it("applies 10 000 events and ends where the registry stands", async () => {
    const { registry, cache, clock, warm } = setUp();
    await registry.register(record("greeter", ["anchor"]));
    await warm();
    let seed = 7;
    const next = (bound: number): number => (seed = (seed * 48_271) % 0x7fff_ffff) % bound;
    for (let step = 0; step < 10_000; step++) {
      const id = `n${next(200)}`;
      if (next(2) === 0) await registry.register(record("greeter", [id]));
      else await registry.deregister(record("greeter", [id]));
      if (step % 500 === 0) now(cache.get("greeter"));
    }
    await clock.settle();
    expect(ids(now(cache.get("greeter")))).toEqual(registry.nodesOf("greeter").toSorted());
    expect(registry.counts.getService).toBe(1);
  });

  it("shows changes of a huge service in batches, so that copying takes a small part of the time", async () => {
    const fake = fakeClock();
    let cost = 0;
    // A clock on which copying the nodes takes 10 ms.
    const clock: typeof fake = Object.create(fake, { now: { value: () => fake.now() + (cost += 10) } }) as typeof fake;
    const { registry, cache } = setUp({ clock });
    await registry.register(
      record(
        "greeter",
        Array.from({ length: 2_000 }, (_, index) => `n${index}`),
      ),
    );
    await cache.get("greeter");
    let versions = 0;
    let last = 0;
    for (let change = 0; change < 100; change++) {
      registry.send({ action: "create", service: record("greeter", [`extra-${change}`]) });
      await fake.settle();
      const { version } = now(cache.get("greeter"));
      if (version !== last) versions++;
      last = version;
    }
    expect(versions).toBeGreaterThan(2);
    expect(versions).toBeLessThan(25);
    cost += 1_000;
    expect(now(cache.get("greeter")).nodes).toHaveLength(2_100);
  });

  it("refuses look-ups once closed, and may be closed twice", async () => {
    const { registry, cache } = setUp();
    registry.hold = new Promise(() => {});
    const waiting = expect(cache.get("greeter") as Promise<CacheSnapshot>).rejects.toMatchObject({ code: "closed" });
    await Promise.resolve();
    await cache[Symbol.asyncDispose]();
    await cache[Symbol.asyncDispose]();
    await waiting;
    await expect(cache.get("greeter")).rejects.toMatchObject({ code: "closed" });
  });

  it("names a limit that makes no sense", () => {
    const registry = faultyRegistry();
    expect(() => registryCache({ registry, logger: memoryLogger(), ttlMs: 0 })).toThrow(/ttlMs must be above 0/);
  });
});
