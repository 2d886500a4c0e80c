import { describe, expect, it, onTestFinished } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { registryCache } from "../../src/registry/cache.ts";
import { cachedSelector } from "../../src/selector/cached-selector.ts";
import type { CachedSelectorOptions } from "../../src/selector/cached-selector.ts";
import { filterVersion } from "../../src/selector/filters.ts";
import { HealthTable, verdictOf } from "../../src/selector/health.ts";
import type { PickOptions, Selection, StrategyName } from "../../src/selector/selector.ts";
import { WrongServiceError } from "../../src/selector/wrong-service.ts";
import { ServiceView } from "../../src/selector/service-view.ts";
import { fakeClock } from "@micro/testing";
import { faultyRegistry, memoryLogger, record } from "../support/faulty-registry.ts";

const withErrno = (code: string): Error => Object.assign(new Error(`connect ${code}`), { code });
const refused = new MicroError("connection refused", {
  code: "unavailable",
  notRun: true,
  cause: withErrno("ECONNREFUSED"),
});
const draining = new MicroError("draining", { id: "greeter", code: "unavailable", notRun: true });
const timedOut = new MicroError("context deadline exceeded", { id: "go.micro.client", code: "timeout" });
const broken = new MicroError("connection lost", { code: "unavailable", cause: withErrno("ECONNRESET") });
const aborted = new MicroError("cancelled", { code: "aborted" });
const misplaced = new MicroError("this is billing, not greeter", {
  id: "billing",
  code: "unavailable",
  notRun: true,
  cause: new WrongServiceError("this is billing, not greeter"),
});

function seeded(seed = 42): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 0x7fff_ffff;
    return state / 0x7fff_ffff;
  };
}

async function setUp(nodes: readonly string[], options: Partial<CachedSelectorOptions> = {}) {
  const registry = faultyRegistry();
  const clock = fakeClock();
  const logger = memoryLogger();
  const random = seeded();
  const selector = cachedSelector({ registry, logger, clock, random, ...options });
  onTestFinished(async () => {
    await selector[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
    expect(clock.pending).toBe(0);
  });
  if (nodes.length > 0) {
    await registry.register(record("greeter", nodes));
    (await selector.pick("greeter")).done(aborted);
  }

  function pick(pickOptions?: PickOptions): Selection {
    const selection = selector.pick("greeter", pickOptions);
    if (selection instanceof Promise) throw new Error("pick() gave a promise");
    return selection;
  }
  /** One attempt at the node, which ends with `error` after `durationMs`. */
  async function attempt(id: string, error?: MicroError, durationMs = 0): Promise<void> {
    const selection = pick({ filters: [(node) => node.id === id] });
    await clock.advance(durationMs);
    selection.done(error);
  }
  /** How often each node is picked, every attempt succeeding at once. */
  function picked(count: number, pickOptions?: PickOptions): Record<string, number> {
    const counts: Record<string, number> = {};
    for (let index = 0; index < count; index++) {
      const selection = pick(pickOptions);
      counts[selection.node.id] = (counts[selection.node.id] ?? 0) + 1;
      selection.done(undefined);
    }
    return counts;
  }
  return { registry, clock, logger, selector, pick, attempt, picked };
}

/** Whether a strategy would see the node at this moment. */
function sees(pick: (options: PickOptions) => Selection, id: string): boolean {
  let seen = false;
  const look: PickOptions["strategy"] = (candidates) => {
    seen = candidates.some(({ node }) => node.id === id);
    return candidates.find(({ node }) => node.id !== id) ?? candidates[0]!;
  };
  pick({ strategy: look }).done(undefined);
  return seen;
}

describe("cachedSelector: ejection", () => {
  it("puts a node that refuses out at once, also when it is one of two", async () => {
    const { attempt, picked } = await setUp(["a", "b"]);
    await attempt("b", refused);
    expect(picked(100)).toEqual({ a: 100 });
  });

  it("lets one attempt at a time try a node whose time out is over", async () => {
    const { attempt, pick, picked, clock } = await setUp(["a", "b"], { strategy: "roundRobin" });
    await attempt("b", refused);
    await clock.advance(1_000);
    const onlyB: PickOptions = {
      strategy: (candidates) => candidates.find(({ node }) => node.id === "b") ?? candidates[0]!,
    };
    const probe = pick(onlyB);
    expect(probe.node.id).toBe("b");
    expect(pick(onlyB).node.id).toBe("a");
    expect(picked(50)).toEqual({ a: 50 });
    probe.done(aborted);
    const second = pick(onlyB);
    expect(second.node.id).toBe("b");
    second.done(undefined);
    expect(picked(200)["b"]).toBeGreaterThan(0);
  });

  it("gives the place of a probe whose end is never told away after a while", async () => {
    const { attempt, pick, clock } = await setUp(["a", "b"]);
    const onlyB: PickOptions = {
      strategy: (candidates) => candidates.find(({ node }) => node.id === "b") ?? candidates[0]!,
    };
    await attempt("b", refused);
    await clock.advance(1_000);
    expect(pick(onlyB).node.id).toBe("b");
    await clock.advance(29_000);
    expect(pick(onlyB).node.id).toBe("a");
    await clock.advance(1_000);
    expect(pick(onlyB).node.id).toBe("b");
  });

  it("lets a node come back slowly: a tenth of its share, growing over ten successes", async () => {
    const { attempt, picked, clock, pick } = await setUp(["a", "b"], { strategy: "random" });
    await attempt("b", refused);
    await clock.advance(1_000);
    await attempt("b", undefined);
    const weights: number[] = [];
    const read: PickOptions = {
      strategy: (candidates) => {
        const b = candidates.find(({ node }) => node.id === "b")!;
        weights.push(b.weight);
        return b;
      },
    };
    for (let success = 0; success < 10; success++) pick(read).done(undefined);
    expect(weights.slice(0, 9).map((weight) => Math.round(weight * 10))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(weights[9]).toBe(1);
    expect(picked(1_000)["b"]).toBeGreaterThan(400);
  });

  it("lets a node come back with time, too, where there is little traffic", async () => {
    const { attempt, clock, pick } = await setUp(["a", "b"]);
    await attempt("b", refused);
    await clock.advance(1_000);
    await attempt("b", undefined);
    await clock.advance(5_000);
    let weight = 0;
    pick({
      strategy: (candidates) => {
        weight = candidates.find(({ node }) => node.id === "b")!.weight;
        return candidates[0]!;
      },
    }).done(undefined);
    expect(weight).toBeCloseTo(0.5, 5);
  });

  it("doubles the time out with each failed probe, to 30 s, and starts over after a minute of health", async () => {
    const { attempt, clock, picked } = await setUp(["a", "b"], { strategy: "random" });
    const timesOut: number[] = [];
    const measure = async (): Promise<void> => {
      const from = clock.now();
      for (;;) {
        await clock.advance(500);
        let ready = false;
        const look: PickOptions["strategy"] = (candidates) => {
          ready = candidates.some(({ node }) => node.id === "b");
          return candidates.find(({ node }) => node.id === "a")!;
        };
        picked(1, { strategy: look });
        if (ready) break;
      }
      timesOut.push(clock.now() - from);
    };
    for (let failure = 0; failure < 7; failure++) {
      await attempt("b", refused);
      await measure();
    }
    expect(timesOut).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    for (let success = 0; success < 11; success++) await attempt("b");
    await clock.advance(60_000);
    await attempt("b", refused);
    await measure();
    expect(timesOut.at(-1)).toBe(1_000);
  });

  it("does not lengthen the time out for attempts that began before it", async () => {
    const { pick, clock, picked } = await setUp(["a", "b"], { strategy: "random" });
    const onlyB: PickOptions = { filters: [(node) => node.id === "b"] };
    const running = Array.from({ length: 100 }, () => pick(onlyB));
    for (const selection of running) selection.done(refused);
    await clock.advance(1_000);
    expect(picked(300)["b"]).toBeGreaterThan(0);
  });

  it("is not impressed by the late success of an attempt that began before the ejection", async () => {
    const { pick, attempt, picked } = await setUp(["a", "b"]);
    const early = pick({ filters: [(node) => node.id === "b"] });
    await attempt("b", refused);
    early.done(undefined);
    expect(picked(50)).toEqual({ a: 50 });
  });

  it("puts a node out after three timeouts in a row, not for single ones", async () => {
    const { attempt, picked } = await setUp(["a", "b"], { strategy: "roundRobin" });
    await attempt("b", timedOut, 500);
    await attempt("b", timedOut, 500);
    await attempt("b");
    await attempt("b", timedOut, 500);
    await attempt("b", timedOut, 500);
    expect(picked(10)).toEqual({ a: 5, b: 5 });
    await attempt("b", timedOut, 500);
    await attempt("b", timedOut, 500);
    await attempt("b", broken);
    expect(picked(10)).toEqual({ a: 10 });
  });

  it("puts a node out that fails every second attempt", async () => {
    const { attempt, picked } = await setUp(["a", "b"], { strategy: "roundRobin" });
    for (let pair = 0; pair < 5; pair++) {
      await attempt("b");
      await attempt("b", broken);
    }
    expect(picked(10)).toEqual({ a: 10 });
  });

  it("does not blame a node for callers that waited for less than it usually needs", async () => {
    const { attempt, picked } = await setUp(["a", "b"], { strategy: "roundRobin" });
    for (let index = 0; index < 5; index++) await attempt("b", undefined, 200);
    for (let index = 0; index < 20; index++) await attempt("b", timedOut, 50);
    expect(picked(10)).toEqual({ a: 5, b: 5 });
  });

  it("leaves at least half of the nodes in when they merely fail", async () => {
    const { attempt, picked } = await setUp(["a", "b", "c", "d"], { strategy: "roundRobin" });
    for (const id of ["a", "b", "c", "d"]) for (let index = 0; index < 3; index++) await attempt(id, broken);
    expect(picked(10)).toEqual({ c: 5, d: 5 });
    // Those that refuse are out, however many.
    await attempt("c", refused);
    expect(picked(10)).toEqual({ d: 10 });
  });

  it.each([
    [1, 1],
    [2, 1],
    [3, 2],
    [5, 3],
  ])("puts out at most half of %i that merely fail, rounded up: %i", async (count, outAtMost) => {
    const ids = Array.from({ length: count }, (_, index) => `n${index}`);
    const { attempt, pick } = await setUp(ids);
    for (const id of ids) for (let index = 0; index < 3; index++) await attempt(id, broken);
    let left = 0;
    pick({ strategy: (candidates) => ((left = candidates.length), candidates[0]!) }).done(undefined);
    // One that is alone is used although it is out, without a strategy being asked.
    expect(left).toBe(count - outAtMost);
  });

  it("uses nodes all the same when all are out, the one that failed longest ago first", async () => {
    const { attempt, pick } = await setUp(["a", "b", "c"]);
    for (const id of ["b", "c", "a"]) await attempt(id, refused);
    const order = Array.from({ length: 6 }, () => {
      const selection = pick();
      selection.done(refused);
      return selection.node.id;
    });
    expect(order).toEqual(["b", "c", "a", "b", "c", "a"]);
  });

  it("goes back to the first node that answers again after all were out", async () => {
    const { attempt, picked, pick } = await setUp(["a", "b", "c"]);
    for (const id of ["a", "b", "c"]) await attempt(id, refused);
    pick().done(refused);
    const answering = pick();
    answering.done(undefined);
    expect(picked(20)).toEqual({ [answering.node.id]: 20 });
  });

  it("does not lengthen the time out of nodes used for want of others", async () => {
    const { attempt, picked, pick, clock } = await setUp(["a", "b"], { strategy: "random" });
    await attempt("a", refused);
    await attempt("b", refused);
    for (let index = 0; index < 100; index++) pick().done(refused);
    await clock.advance(1_000);
    picked(100);
    expect(Object.keys(picked(100)).toSorted()).toEqual(["a", "b"]);
  });

  it("prefers nodes not tried yet, even if they are out, to those tried", async () => {
    const { attempt, pick } = await setUp(["a", "b"]);
    await attempt("b", refused);
    const second = pick({ exclude: new Set(["a"]) });
    expect(second.node.id).toBe("b");
    second.done(refused);
    const third = pick({ exclude: new Set(["a", "b"]) });
    expect(third.node.id).toBe("a");
    third.done(undefined);
  });

  it("leaves a draining node alone for a second, and takes it back at full weight", async () => {
    const { attempt, picked, clock } = await setUp(["a", "b"], { strategy: "roundRobin" });
    await attempt("b", draining);
    await clock.advance(999);
    expect(picked(10)).toEqual({ a: 10 });
    await clock.advance(1);
    await attempt("b");
    expect(picked(10)).toEqual({ a: 5, b: 5 });
  });

  it("prefers a busy node to one that is gone when there is no other", async () => {
    const { attempt, pick } = await setUp(["a", "b"]);
    await attempt("a", draining);
    await attempt("b", refused);
    const selection = pick();
    expect(selection.node.id).toBe("a");
    selection.done(undefined);
  });

  it("takes errors of the application for success", async () => {
    const { attempt, picked } = await setUp(["a", "b"], { strategy: "roundRobin" });
    const error = new MicroError("no such user", { id: "greeter", statusCode: 404 });
    for (let index = 0; index < 30; index++) await attempt("b", error);
    expect(picked(10)).toEqual({ a: 5, b: 5 });
  });

  it("forgets what it held against a node that is registered anew", async () => {
    const { attempt, picked, registry, clock } = await setUp(["a", "b", "c"], { strategy: "roundRobin" });
    await attempt("b", refused);
    await attempt("c", refused);
    expect(picked(10)).toEqual({ a: 10 });
    await registry.deregister(record("greeter", ["b"]));
    await registry.register(record("greeter", ["b"]));
    await registry.register(record("greeter", [["c", "elsewhere:80"]]));
    await clock.settle();
    expect(picked(9)).toEqual({ a: 3, b: 3, c: 3 });
  });

  it("keeps what it holds against a node when something else changes", async () => {
    const { attempt, picked, registry, clock } = await setUp(["a", "b"], { strategy: "roundRobin" });
    await attempt("b", refused);
    await registry.register(record("greeter", ["c"]));
    await clock.settle();
    expect(picked(10)).toEqual({ a: 5, c: 5 });
  });

  it("asks the registry about a node that refused, so that a crashed one is dropped soon", async () => {
    const { attempt, picked, registry, clock, logger } = await setUp(["a", "b"]);
    await clock.advance(1_000);
    registry.lost.add("b");
    await attempt("b", refused);
    await clock.settle();
    expect(registry.counts.getService).toBe(2);
    await clock.advance(30_000);
    expect(picked(100)).toEqual({ a: 100 });
    expect(logger.lines).toContain("info Selector [registry] b at b:80 is left out: connection refused");
  });
});

describe("cachedSelector: a record that leads to another service", () => {
  it("is left out at once, for 1 s, then twice as long each time up to 30 s", async () => {
    const { attempt, clock, pick } = await setUp(["a", "b"]);
    for (const outMs of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
      await attempt("b", misplaced);
      await clock.advance(outMs - 1);
      expect(sees(pick, "b")).toBe(false);
      await clock.advance(1);
      expect(sees(pick, "b")).toBe(true);
    }
    // An answer shows that the service has its port again.
    await attempt("b");
    await attempt("b", misplaced);
    await clock.advance(1_000);
    expect(sees(pick, "b")).toBe(true);
  });

  it("is out no longer for attempts that were under way", async () => {
    const { pick, clock } = await setUp(["a", "b"]);
    const running = Array.from({ length: 50 }, () => pick({ filters: [(node) => node.id === "b"] }));
    for (const selection of running) selection.done(misplaced);
    await clock.advance(1_000);
    expect(sees(pick, "b")).toBe(true);
  });

  it("stays out when something else changes, and is forgotten when it is registered anew", async () => {
    const { attempt, picked, registry, clock } = await setUp(["a", "b"], { strategy: "roundRobin" });
    await attempt("b", misplaced);
    await registry.register(record("greeter", ["c"]));
    await clock.settle();
    expect(picked(10)).toEqual({ a: 5, c: 5 });
    await registry.deregister(record("greeter", ["b"]));
    await registry.register(record("greeter", ["b"]));
    await clock.settle();
    expect(picked(9)).toEqual({ a: 3, b: 3, c: 3 });
  });

  it("leaves the latency and the failures of its address as they are", async () => {
    const { attempt, picked, pick, selector, registry } = await setUp(["a", "b"], { strategy: "roundRobin" });
    await registry.register(record("billing", [["billing-1", "b:80"]]));
    (await selector.pick("billing")).done(undefined);
    await attempt("b", broken);
    await attempt("b", broken);
    await attempt("b", misplaced);
    let latencyMs: number | undefined = -1;
    const billing = selector.pick("billing", {
      strategy: (candidates) => ((latencyMs = candidates[0]!.latencyMs), candidates[0]!),
    });
    (billing as Selection).done(broken);
    expect(latencyMs).toBe(0);
    expect(picked(4)).toEqual({ a: 4 });
    expect(pick({ filters: [(node) => node.id === "b"] }).node.id).toBe("b");
  });

  it("comes after nodes that merely failed where nothing else is left", async () => {
    const { attempt, pick } = await setUp(["a", "b", "c"]);
    await attempt("a", misplaced);
    await attempt("b", misplaced);
    await attempt("c", refused);
    const selection = pick();
    expect(selection.node.id).toBe("c");
    selection.done(refused);
    const next = pick({ exclude: new Set(["c"]) });
    expect(next.node.id).toBe("a");
    next.done(undefined);
  });

  it("counts among those that are out when others merely fail", async () => {
    const { attempt, pick } = await setUp(["a", "b", "c"]);
    await attempt("b", misplaced);
    for (const id of ["c", "a"]) for (let index = 0; index < 3; index++) await attempt(id, broken);
    let left: string[] = [];
    pick({
      strategy: (candidates) => ((left = candidates.map(({ node }) => node.id)), candidates[0]!),
    }).done(undefined);
    expect(left).toEqual(["a"]);
  });

  it("is told in the log, and the registry is asked about it", async () => {
    const { attempt, registry, clock, logger } = await setUp(["a", "b"]);
    await clock.advance(1_000);
    await attempt("b", misplaced);
    await clock.settle();
    expect(registry.counts.getService).toBe(2);
    expect(logger.lines).toContain("info Selector [registry] b at b:80 is left out: this is billing, not greeter");
  });
});

describe("cachedSelector: balance", () => {
  it("counts attempts down once, however often done is told", async () => {
    const { pick } = await setUp(["a"]);
    let inFlight = -1;
    const look: PickOptions = {
      strategy: (candidates) => {
        inFlight = candidates[0]!.inFlight;
        return candidates[0]!;
      },
    };
    const one = pick(look);
    const two = pick(look);
    one.done(undefined);
    one.done(refused);
    pick(look).done(undefined);
    expect(inFlight).toBe(1);
    two.done(undefined);
    pick(look).done(undefined);
    expect(inFlight).toBe(0);
  });

  it("learns latencies and prefers the quick node, without forgetting the slow one for ever", async () => {
    const { attempt, picked, clock } = await setUp(["quick", "slow"]);
    for (let index = 0; index < 3; index++) {
      await attempt("quick", undefined, 5);
      await attempt("slow", undefined, 80);
    }
    expect(picked(20)).toEqual({ quick: 20 });
    await clock.advance(30_000);
    expect(Object.keys(picked(40))).toContain("slow");
  });

  it("does not send a burst to a node it knows nothing about", async () => {
    const { attempt, pick, registry, clock } = await setUp(["a", "b", "c"]);
    for (const id of ["a", "b", "c"]) await attempt(id, undefined, 10);
    await registry.register(record("greeter", ["fresh"]));
    await clock.settle();
    const burst = Array.from({ length: 30 }, () => pick());
    const counts = burst.filter(({ node }) => node.id === "fresh").length;
    expect(counts).toBe(1);
    for (const selection of burst) selection.done(undefined);
  });

  it("counts round robin for each service by itself", async () => {
    const { picked, pick, registry, selector } = await setUp(["a", "b"], { strategy: "roundRobin" });
    await registry.register(record("other", ["x", "y"]));
    (await selector.pick("other")).done(undefined);
    const order: string[] = [];
    for (let index = 0; index < 4; index++) {
      const selection = pick();
      order.push(selection.node.id);
      selection.done(undefined);
      (await selector.pick("other")).done(undefined);
    }
    expect(order[0]).not.toBe(order[1]);
    expect(order.slice(0, 2)).toEqual(order.slice(2));
    expect(picked(10)).toEqual({ a: 5, b: 5 });
  });

  it("refuses a strategy that does not exist, or that makes up a node", async () => {
    const { pick, registry } = await setUp(["a"]);
    expect(() => pick({ strategy: "fastest" as StrategyName })).toThrow(TypeError);
    expect(() => pick({ strategy: () => ({}) as never })).toThrow(/one of the candidates/);
    const strategy = "fastest" as StrategyName;
    expect(() => cachedSelector({ registry, logger: memoryLogger(), strategy })).toThrow(TypeError);
  });
});

describe("cachedSelector: a cache that is another's", () => {
  it("is left without a listener of the selector's once that is closed", async () => {
    const registry = faultyRegistry();
    const cache = registryCache({ registry, logger: memoryLogger(), clock: fakeClock() });
    let listeners = 0;
    const onDrop = cache.onDrop.bind(cache);
    cache.onDrop = (listener) => {
      listeners++;
      const remove = onDrop(listener);
      return () => {
        listeners--;
        remove();
      };
    };
    const selector = cachedSelector({ registry: cache, logger: memoryLogger() });
    expect(listeners).toBe(1);
    await selector[Symbol.asyncDispose]();
    expect(listeners).toBe(0);
    await cache[Symbol.asyncDispose]();
  });
});

describe("cachedSelector: errors", () => {
  it("says which registry was asked, how long ago, and which nodes a filter left out", async () => {
    const { pick, clock } = await setUp(["a", "b"]);
    await clock.advance(1_500);
    expect(() => pick({ filters: [filterVersion("3.0.0")] })).toThrow(
      "service greeter: not found; registry faulty, asked 1.5 s ago; " +
        "a at a:80 is left out by a filter (version=3.0.0), b at b:80 is left out by a filter (version=3.0.0)",
    );
  });

  it("says so when the registry could not be asked lately", async () => {
    const { selector, registry, clock } = await setUp([]);
    await expect(selector.pick("greeter")).rejects.toMatchObject({
      code: "not_found",
      statusCode: 404,
      id: "go.micro.client",
      notRun: true,
    });
    registry.down = true;
    registry.breakWatches();
    await clock.advance(3_000);
    await expect((async () => selector.pick("greeter"))()).rejects.toThrow(
      /^service greeter: not found; registry faulty, asked 3\.\d s ago; it may be out of date: .*connection refused/,
    );
  });

  it("is unavailable, not not_found, when the registry has never answered", async () => {
    const { selector, registry } = await setUp([]);
    registry.down = true;
    await expect(selector.pick("greeter")).rejects.toMatchObject({
      code: "unavailable",
      statusCode: 503,
      detail: "error selecting greeter node: registry faulty: connection refused",
    });
  });

  it("names ten nodes at most", async () => {
    const many = Array.from({ length: 50 }, (_, index) => `n${index}`);
    const { pick } = await setUp(many);
    expect(() => pick({ filters: [() => false] })).toThrow(/, 40 more$/);
  });
});

describe("cachedSelector: memory", () => {
  it("drops the records of nodes that vanish", async () => {
    const registry = faultyRegistry();
    const clock = fakeClock();
    const cache = registryCache({ registry, logger: memoryLogger(), clock });
    const table = new HealthTable({ clock, ejectionMs: 1_000, maxEjectionMs: 30_000 });
    const view = new ServiceView("greeter", undefined, table);
    await registry.register(record("greeter", ["anchor"]));
    for (let generation = 0; generation < 50; generation++) {
      await registry.register(record("greeter", [`n${generation}`]));
      if (generation > 0) await registry.deregister(record("greeter", [`n${generation - 1}`]));
      await clock.settle();
      view.update(await cache.get("greeter"));
    }
    expect(table.size).toBe(2);
    view.release();
    expect(table.size).toBe(0);
    await cache[Symbol.asyncDispose]();
  });

  it("drops the records of a service nobody uses", async () => {
    const { attempt, picked, selector, clock } = await setUp(["a", "b"], {
      ejectionMs: 3_600_000,
      maxEjectionMs: 3_600_000,
    });
    await attempt("b", refused);
    expect(picked(20)).toEqual({ a: 20 });
    await clock.advance(700_000);
    (await selector.pick("greeter")).done(aborted);
    expect(Object.keys(picked(20)).toSorted()).toEqual(["a", "b"]);
  });

  it("bounds the records of addresses that callers name", () => {
    const clock = fakeClock();
    const table = new HealthTable({ clock, ejectionMs: 1_000, maxEjectionMs: 30_000 });
    const busy = table.named("busy:1");
    busy.begin();
    for (let port = 0; port < 5_000; port++) table.named(`host:${port}`);
    expect(table.size).toBeLessThan(1_100);
    expect(table.named("busy:1")).toBe(busy);
  });
});

describe("cachedSelector: under load", () => {
  it("loses no more than the first refused attempts when one of three nodes is killed", async () => {
    const { pick, registry, clock } = await setUp(["a", "b", "c"]);
    const alive = new Set(["a", "b", "c"]);
    let refusals = 0;
    const lost: number[] = [];

    async function call(number: number): Promise<void> {
      const tried = new Set<string>();
      for (;;) {
        const selection = pick({ exclude: tried });
        const { id } = selection.node;
        if (tried.has(id)) return void lost.push(number);
        tried.add(id);
        if (alive.has(id)) {
          await new Promise<void>((resolve) => clock.setTimeout(resolve, 20));
          return selection.done(undefined);
        }
        await new Promise<void>((resolve) => clock.setTimeout(resolve, 1));
        refusals++;
        selection.done(refused);
      }
    }

    const calls: Promise<void>[] = [];
    for (let number = 0; number < 2_000; number++) {
      calls.push(call(number));
      await clock.advance(5);
      if (number === 500) {
        alive.delete("b");
        registry.lost.add("b");
      }
    }
    await clock.advance(1_000);
    await Promise.all(calls);
    expect(lost).toEqual([]);
    // The one that found out, and probes until the registry's list confirmed it.
    expect(refusals).toBeGreaterThan(0);
    expect(refusals).toBeLessThanOrEqual(3);
    expect(registry.counts.getService).toBeLessThan(4);
  });

  it("spreads the load again over a node that was killed and comes back", async () => {
    const { pick, clock } = await setUp(["a", "b", "c"]);
    let dead = true;
    const counts: Record<string, number> = { a: 0, b: 0, c: 0 };
    const running: Promise<void>[] = [];
    for (let number = 0; number < 3_000; number++) {
      const selection = pick();
      const { id } = selection.node;
      if (number >= 2_000) counts[id]!++;
      if (id === "b" && dead) selection.done(refused);
      else
        running.push(
          new Promise<void>((resolve) => clock.setTimeout(resolve, 20)).then(() => selection.done(undefined)),
        );
      await clock.advance(5);
      if (number === 1_000) dead = false;
    }
    await clock.advance(100);
    await Promise.all(running);
    for (const count of Object.values(counts)) expect(count).toBeGreaterThan(250);
  });
});

describe("verdictOf", () => {
  it.each([
    ["nothing", undefined, "success"],
    ["a refused connection", refused, "refused"],
    ["an unreachable host", new MicroError("x", { code: "unavailable", cause: withErrno("EHOSTUNREACH") }), "refused"],
    [
      "a dial that took too long",
      new MicroError("x", { id: "transport.http", code: "timeout", notRun: true }),
      "refused",
    ],
    ["an address that makes no sense", new MicroError("x", { code: "bad_request", notRun: true }), "refused"],
    ["a draining node", draining, "busy"],
    ["a passed deadline", timedOut, "failure"],
    ["a broken connection", broken, "failure"],
    ["unreadable bytes", new MicroError("x", { code: "protocol" }), "failure"],
    ["a web server", new MicroError("404", { id: "transport.http", code: "internal" }), "failure"],
    ["a caller that gave up", aborted, "neutral"],
    [
      "no file descriptors",
      new MicroError("x", { code: "unavailable", notRun: true, cause: withErrno("EMFILE") }),
      "neutral",
    ],
    ["a handler's error", new MicroError("x", { id: "greeter", code: "internal" }), "success"],
    ["a handler's refusal", new MicroError("x", { id: "greeter", code: "forbidden" }), "success"],
  ] as const)("takes %s for what it is", (_what, error, verdict) => {
    expect(verdictOf(error)).toBe(verdict);
  });
});
