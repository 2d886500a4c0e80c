/** What every selector does, as tests. */
import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import {
  MicroError,
  checkOptionNames,
  type Node,
  type Registry,
  type Service,
  type PickOptions,
  type Selection,
  type Selector,
  WrongServiceError,
} from "@micro/core";
import { defineSuite } from "./runner.ts";
import type { Skips, SuiteCase, TestRunner } from "./runner.ts";

/** A fresh selector and the empty registry it looks services up in. */
export interface SelectorFixture extends AsyncDisposable {
  readonly selector: Selector;
  readonly registry: Registry;
}

/** Settings of {@link selectorConformance}. */
export interface SelectorConformanceOptions {
  /** How soon a change in the registry must be seen, in milliseconds. Default: 5000. */
  settleMs?: number | undefined;
  skip?: Skips | undefined;
}

const refused = (): MicroError =>
  new MicroError("connection refused", {
    code: "unavailable",
    notRun: true,
    cause: Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" }),
  });

const misplaced = (): MicroError =>
  new MicroError("this is billing, not greeter", {
    id: "billing",
    code: "unavailable",
    notRun: true,
    cause: new WrongServiceError("this is billing, not greeter"),
  });

/**
 * Declare the suite.
 * @throws {TypeError} if `skip` names no test, or gives no reason.
 */
export function selectorConformance(
  runner: TestRunner,
  create: () => Promise<SelectorFixture>,
  options: SelectorConformanceOptions = {},
): void {
  checkOptionNames("selectorConformance", options, { settleMs: true, skip: true });
  defineSuite(runner, "selector", create, cases(options.settleMs ?? 5_000), options.skip);
}

function cases(settleMs: number): Record<string, SuiteCase<SelectorFixture>> {
  return {
    "picks a registered node": async ({ selector, registry }) => {
      const service = greeter(["a"]);
      await registry.register(service);
      const selection = await selector.pick("greeter");
      assert.equal(selection.node.id, "a");
      assert.equal(selection.node.address, service.nodes[0]?.address);
      assert.equal(selection.service.name, "greeter");
      assert.equal(selection.service.version, "1.0.0");
      selection.done(undefined);
    },

    "picks without a promise once the service is known": async ({ selector, registry }) => {
      await registry.register(greeter(["a"]));
      (await selector.pick("greeter")).done(undefined);
      const again = selector.pick("greeter");
      assert.ok(!(again instanceof Promise), "the second pick gave a promise");
      again.done(undefined);
    },

    "answers a service nobody offers with not_found, 404, and Go's text and id": async ({ selector }) => {
      const error = await failureOf(async () => selector.pick("missing"));
      assert.equal(error.code, "not_found");
      assert.equal(error.statusCode, 404);
      assert.equal(error.notRun, true);
      assert.equal(error.id, "go.micro.client");
      assert.match(error.detail, /^service missing: not found/);
    },

    "finds a service that appears after it was missing": async ({ selector, registry }) => {
      await failureOf(async () => selector.pick("greeter"));
      await registry.register(greeter(["a"]));
      await eventually(settleMs, async () => (await idOf(selector)) === "a");
    },

    "gives all nodes their turn": async ({ selector, registry }) => {
      await registry.register(greeter(["a", "b", "c"]));
      // A strategy that looks at latency may leave a node alone for a moment.
      await eventually(settleMs, async () => (await picks(selector, 200)).size === 3);
    },

    "stops picking a node that was deregistered": async ({ selector, registry }) => {
      await registry.register(greeter(["a", "b"]));
      await picks(selector, 10);
      await registry.deregister(greeter(["a"]));
      await eventually(settleMs, async () => !(await picks(selector, 30)).has("a"));
    },

    "picks only what every filter keeps": async ({ selector, registry }) => {
      await registry.register(greeter(["a", "b"]));
      await registry.register(greeter(["c", "d"], "2.0.0"));
      const filters = [
        (_node: Node, service: Service) => service.version === "2.0.0",
        (node: Node) => node.metadata["zone"] === "zone of d",
      ];
      assert.deepEqual([...(await picks(selector, 50, { filters })).keys()], ["d"]);
    },

    "answers not_found when filters keep nothing": async ({ selector, registry }) => {
      await registry.register(greeter(["a"]));
      const error = await failureOf(async () => selector.pick("greeter", { filters: [() => false] }));
      assert.equal(error.code, "not_found");
      assert.match(error.detail, /^service greeter: not found/);
    },

    "uses the strategy of the call": async ({ selector, registry }) => {
      await registry.register(greeter(["a", "b", "c"]));
      const seen = await picks(selector, 50, {
        strategy: (candidates) => candidates.toSorted((one, other) => (one.node.id < other.node.id ? 1 : -1))[0]!,
      });
      assert.deepEqual([...seen.keys()], ["c"]);
    },

    "knows its strategies by name": async ({ selector, registry }) => {
      await registry.register(greeter(["a", "b"]));
      for (const strategy of ["powerOfTwoChoices", "random", "roundRobin"] as const)
        await eventually(settleMs, async () => (await picks(selector, 60, { strategy })).size === 2);
    },

    "takes excluded nodes only when nothing else is left": async ({ selector, registry }) => {
      await registry.register(greeter(["a", "b", "c"]));
      const some = await picks(selector, 50, { exclude: new Set(["a", "b"]) });
      assert.deepEqual([...some.keys()], ["c"]);
      const all = await picks(selector, 50, { exclude: new Set(["a", "b", "c"]) });
      assert.ok(all.size > 0);
    },

    "takes an excluded address, whatever node has it, only when nothing else is left": async ({
      selector,
      registry,
    }) => {
      const [a, b] = greeter(["a", "b"]).nodes as [Node, Node];
      await registry.register({ ...greeter([]), nodes: [a, b, { ...a, id: "stale" }] });
      const some = await picks(selector, 50, { exclude: new Set([a.address]) });
      assert.deepEqual([...some.keys()], ["b"]);
      const all = await picks(selector, 50, { exclude: new Set([a.address, b.address]) });
      assert.ok(all.size > 0);
    },

    "leaves all nodes of an address that refuses alone": async ({ selector, registry }) => {
      const [a, b] = greeter(["a", "b"]).nodes as [Node, Node];
      await registry.register({ ...greeter([]), nodes: [a, b, { ...a, id: "stale" }] });
      await until(selector, "a", refused());
      assert.deepEqual([...(await picks(selector, 100)).keys()], ["b"]);
    },

    "leaves a record alone that led to another service, and not its address": async ({ selector, registry }) => {
      const [a, b] = greeter(["a", "b"]).nodes as [Node, Node];
      await registry.register(greeter(["a", "b"]));
      await registry.register({ ...greeter([]), name: "billing", nodes: [{ ...a, id: "billing-1" }] });
      (await selector.pick("billing")).done(undefined);
      await until(selector, "a", misplaced());
      assert.deepEqual([...(await picks(selector, 100)).keys()], ["b"]);
      // The process there is well, and its own service's only one.
      const free = await selector.pick("billing", {
        strategy: (candidates) => {
          assert.deepEqual(
            candidates.map(({ weight, inFlight }) => [weight, inFlight]),
            [[1, 0]],
          );
          return candidates[0]!;
        },
      });
      assert.equal(free.node.id, "billing-1");
      free.done(undefined);
      // Without another it is still asked: its service may have its port again.
      const last = await selector.pick("greeter", { filters: [(node) => node.id !== b.id] });
      assert.equal(last.node.id, "a");
      last.done(undefined);
      await eventually(settleMs, async () => (await picks(selector, 50)).has("a"));
    },

    "leaves a node that refuses alone": async ({ selector, registry }) => {
      await registry.register(greeter(["a", "b", "c"]));
      await until(selector, "b", refused());
      assert.ok(!(await picks(selector, 100)).has("b"), "the refusing node was picked again at once");
    },

    "still picks when every node has refused": async ({ selector, registry }) => {
      await registry.register(greeter(["a", "b"]));
      await until(selector, "a", refused());
      await until(selector, "b", refused());
      assert.ok((await picks(selector, 4, {}, refused())).size > 0);
    },

    "counts errors of the application as success": async ({ selector, registry }) => {
      await registry.register(greeter(["a", "b"]));
      const error = new MicroError("no such user", { id: "greeter", code: "not_found" });
      await eventually(settleMs, async () => (await picks(selector, 200, {}, error)).size === 2);
      await eventually(settleMs, async () => (await picks(selector, 200)).size === 2);
    },

    "counts attempts running until done, which may be told twice": async ({ selector, registry }) => {
      await registry.register(greeter(["a"]));
      let running = -1;
      const strategy: PickOptions["strategy"] = (candidates) => {
        running = candidates[0]!.inFlight;
        return candidates[0]!;
      };
      const first = await selector.pick("greeter", { strategy });
      const second = await selector.pick("greeter", { strategy });
      assert.equal(running, 1);
      first.done(undefined);
      first.done(undefined);
      second.done(undefined);
      (await selector.pick("greeter", { strategy })).done(undefined);
      assert.equal(running, 0);
    },

    "gives a node for an address without asking the registry": async ({ selector }) => {
      const selection = selector.pickAddress("127.0.0.1:4321");
      assert.equal(selection.node.address, "127.0.0.1:4321");
      selection.done(refused());
      selector.pickAddress("127.0.0.1:4321").done(undefined);
    },

    "keeps the health of an address for the node registered there": async ({ selector, registry }) => {
      const service = greeter(["a", "b"]);
      await registry.register(service);
      await picks(selector, 1);
      selector.pickAddress(service.nodes[0]!.address).done(refused());
      assert.ok(!(await picks(selector, 50)).has("a"));
    },

    "gives up a look-up whose signal is aborted": async ({ selector, registry }) => {
      await registry.register(greeter(["a"]));
      const error = await failureOf(async () => selector.pick("greeter", { signal: AbortSignal.abort() }));
      assert.equal(error.code, "aborted");
    },

    "refuses to pick once closed, and may be closed twice": async ({ selector, registry }) => {
      await registry.register(greeter(["a"]));
      const selection = await selector.pick("greeter");
      await selector[Symbol.asyncDispose]();
      await selector[Symbol.asyncDispose]();
      selection.done(undefined);
      const error = await failureOf(async () => selector.pick("greeter"));
      assert.equal(error.code, "closed");
    },
  };
}

function greeter(ids: readonly string[], version = "1.0.0"): Service {
  return {
    name: "greeter",
    version,
    metadata: {},
    endpoints: [{ name: "Greeter.Hello", request: null, response: null, metadata: {} }],
    nodes: ids.map((id) => ({
      id,
      address: `127.0.0.1:${30_000 + id.charCodeAt(0)}`,
      metadata: { zone: `zone of ${id}` },
    })),
  };
}

/** How often each node was picked. */
async function picks(
  selector: Selector,
  count: number,
  options: PickOptions = {},
  error?: MicroError,
): Promise<Map<string, number>> {
  const seen = new Map<string, number>();
  for (let index = 0; index < count; index++) {
    const selection = await selector.pick("greeter", options);
    seen.set(selection.node.id, (seen.get(selection.node.id) ?? 0) + 1);
    selection.done(error);
  }
  return seen;
}

async function idOf(selector: Selector): Promise<string | undefined> {
  let selection: Selection;
  try {
    selection = await selector.pick("greeter");
  } catch {
    return undefined;
  }
  selection.done(undefined);
  return selection.node.id;
}

/** Let an attempt at node `id` fail with `error`. */
async function until(selector: Selector, id: string, error: MicroError): Promise<void> {
  const selection = await selector.pick("greeter", { filters: [(node) => node.id === id] });
  selection.done(error);
}

async function failureOf(run: () => Promise<unknown>): Promise<MicroError> {
  const error = await run().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error !== undefined, "it should have failed");
  assert.ok(MicroError.is(error), "it failed with something else than a MicroError");
  return error;
}

async function eventually(limitMs: number, holds: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + limitMs; !(await holds()); await delay(10))
    assert.ok(performance.now() < end, `still not true after ${limitMs} ms`);
}
