/**
 * What every registry must do. Run it against your own with any test runner:
 *
 * ```ts
 * registryConformance({ describe, it }, async () => ({ registry, connect, [Symbol.asyncDispose] }));
 * ```
 *
 * Codes are asserted, never messages.
 */
import assert from "node:assert/strict";
import {
  MicroError,
  type ErrorCode,
  checkOptionNames,
  type Endpoint,
  type Node,
  type Registry,
  type RegistryEvent,
  type Service,
  type Watcher,
} from "@micro/core";
import { defineSuite, type Skips, type SuiteCase, type TestRunner } from "./runner.ts";

/** A fresh and empty registry for one test. */
export interface RegistryFixture extends AsyncDisposable {
  readonly registry: Registry;
  /** Another instance that shares the backend: what a second process would see. The suite disposes it. */
  readonly connect: () => Promise<Registry>;
}

/** Settings of {@link registryConformance}. */
export interface RegistryConformanceOptions {
  /** Shortest TTL the backend keeps to, in milliseconds. Default: 100. */
  minTtlMs?: number | undefined;
  /** For how long the suite waits for a change to be seen, in milliseconds. Default: 5000. */
  patienceMs?: number | undefined;
  /** Tests that do not apply, with the reason. A name that is no test is an error. */
  skip?: Skips | undefined;
}

/**
 * Declare the suite.
 * @throws {TypeError} if `skip` names no test, or gives no reason.
 */
export function registryConformance(
  runner: TestRunner,
  create: () => Promise<RegistryFixture>,
  options: RegistryConformanceOptions = {},
): void {
  checkOptionNames("registryConformance", options, { minTtlMs: true, patienceMs: true, skip: true });
  const { minTtlMs = 100, patienceMs = 5_000, skip } = options;
  const cases = {
    ...recordCases(patienceMs),
    ...domainCases(patienceMs),
    ...expiryCases(minTtlMs, patienceMs),
    ...watchCases(patienceMs),
    ...nameCases(),
    ...timeCases(),
    ...endCases(patienceMs),
    ...leftoverCases(patienceMs),
  };
  defineSuite(runner, "registry conformance", create, cases, skip);
}

type Cases = Readonly<Record<string, SuiteCase<RegistryFixture>>>;

function recordCases(patienceMs: number): Cases {
  return {
    "look-up: an unknown service is an empty list": async ({ registry }) => {
      assert.deepEqual(await registry.getService("nobody"), []);
    },
    "register: the service is found with its nodes": async ({ registry }) => {
      await registry.register(service({ nodes: [node("a"), node("b")] }));
      const [found, ...rest] = await registry.getService("greeter");
      assert.equal(rest.length, 0);
      assert.equal(found?.name, "greeter");
      assert.equal(found.version, "1.0.0");
      assert.deepEqual(plainNodes(found), plainNodes(service({ nodes: [node("a"), node("b")] })));
    },
    "register: other services are not found under the name": async ({ registry }) => {
      await registry.register(service({ name: "greeter2", nodes: [node("a")] }));
      await registry.register(service({ name: "a.greeter", nodes: [node("b")] }));
      await registry.register(service({ nodes: [node("c")] }));
      assert.deepEqual(ids(await registry.getService("greeter")), ["c"]);
      assert.deepEqual(ids(await registry.getService("greeter2")), ["a"]);
      assert.deepEqual(ids(await registry.getService("a.greeter")), ["b"]);
      assert.deepEqual(await registry.getService("Greeter"), []);
    },
    "register: several nodes one by one": async ({ registry }) => {
      for (const id of ["a", "b", "c"]) await registry.register(service({ nodes: [node(id)] }));
      assert.deepEqual(ids(await registry.getService("greeter")), ["a", "b", "c"]);
    },
    "register: each version is a service of its own": async ({ registry }) => {
      await registry.register(service({ version: "1.0.0", nodes: [node("a"), node("b")] }));
      await registry.register(service({ version: "2.0.0", nodes: [node("c")] }));
      await registry.register(service({ version: "", nodes: [node("d")] }));
      const versions = (await registry.getService("greeter")).toSorted((a, b) => (a.version < b.version ? -1 : 1));
      assert.deepEqual(
        versions.map((found) => [found.version, ids([found])]),
        [
          ["", ["d"]],
          ["1.0.0", ["a", "b"]],
          ["2.0.0", ["c"]],
        ],
      );
    },
    "register: again with other metadata and address replaces the node": async ({ registry }) => {
      await registry.register(service({ nodes: [node("a", { metadata: { zone: "1", old: "yes" } }), node("b")] }));
      const changed = node("a", { address: "127.0.0.1:9999", metadata: { zone: "2" } });
      await registry.register(service({ nodes: [changed] }));
      const [found] = await registry.getService("greeter");
      assert.deepEqual(plainNodes(found), plainNodes(service({ nodes: [changed, node("b")] })));
    },
    "register: again with other endpoints replaces them": async ({ registry }) => {
      await registry.register(service({ nodes: [node("a")], endpoints: [endpoint("Greeter.Hello")] }));
      await registry.register(service({ nodes: [node("a")], endpoints: [endpoint("Greeter.Bye")] }));
      const [found] = await registry.getService("greeter");
      assert.deepEqual(
        found?.endpoints.map(({ name }) => name),
        ["Greeter.Bye"],
      );
    },
    "register: endpoints come back as they went": async ({ registry }) => {
      const endpoints = [
        endpoint("Greeter.Hello"),
        { name: "Greeter.Stream", request: null, response: null, metadata: { stream: "true" } },
      ];
      await registry.register(service({ nodes: [node("a")], endpoints }));
      const [found] = await registry.getService("greeter");
      assert.deepEqual(plain(found?.endpoints), plain(endpoints));
    },
    "register: many endpoints come back as they went": async ({ registry }) => {
      const endpoints = Array.from({ length: 100 }, (_, index) => endpoint(`Greeter.Method${index}`));
      await registry.register(service({ nodes: [node("a")], endpoints }));
      const [found] = await registry.getService("greeter");
      assert.deepEqual(plain(found?.endpoints), plain(endpoints));
    },
    "register: metadata of nodes in UTF-8, empty, long and with odd names": async ({ registry }) => {
      const metadata = Object.fromEntries([
        ["größe", "日本語 🚀"],
        ["empty", ""],
        ["long", "x".repeat(2_000)],
        ['quote"back\\slash\n', "<&>\u2028"],
        ["__proto__", "harmless"],
        ["constructor", "harmless"],
      ]);
      await registry.register(service({ nodes: [node("a", { metadata }), node("b", { metadata: {} })] }));
      const [found] = await registry.getService("greeter");
      assert.deepEqual(
        plainNodes(found),
        plainNodes(service({ nodes: [node("a", { metadata }), node("b", { metadata: {} })] })),
      );
    },
    "register: metadata with many entries": async ({ registry }) => {
      const metadata = Object.fromEntries(
        Array.from({ length: 200 }, (_, index) => [`key-${index}`, `value ${index}`]),
      );
      await registry.register(service({ nodes: [node("a", { metadata })] }));
      const [found] = await registry.getService("greeter");
      assert.deepEqual(plainNodes(found), plainNodes(service({ nodes: [node("a", { metadata })] })));
    },
    "register: metadata of the service": async ({ registry }) => {
      await registry.register(service({ nodes: [node("a")], metadata: { owner: "team ä" } }));
      const [found] = await registry.getService("greeter");
      assert.deepEqual(plain(found?.metadata), { owner: "team ä" });
    },
    "register: IPv6 addresses keep their brackets": async ({ registry }) => {
      await registry.register(service({ nodes: [node("a", { address: "[fd00::1]:8080" })] }));
      const [found] = await registry.getService("greeter");
      assert.equal(found?.nodes[0]?.address, "[fd00::1]:8080");
    },
    "register: changing the object afterwards changes nothing": async ({ registry }) => {
      const metadata: Record<string, string> = { zone: "1" };
      const nodes = [node("a", { metadata })];
      await registry.register({ ...service(), nodes });
      metadata["zone"] = "2";
      nodes.push(node("b"));
      const [found] = await registry.getService("greeter");
      assert.deepEqual(plainNodes(found), plainNodes(service({ nodes: [node("a", { metadata: { zone: "1" } })] })));
    },
    "register: what is no service is refused": async ({ registry }) => {
      const bad: unknown[] = [
        service({ name: "", nodes: [node("a")] }),
        service({ nodes: [] }),
        service({ nodes: [node("")] }),
        { ...service(), nodes: [{ ...node("a"), metadata: { port: 8080 } }] },
        { ...service({ nodes: [node("a")] }), endpoints: "none" },
        null,
      ];
      for (const record of bad)
        await rejects(registry.register(record as Service), "bad_request", JSON.stringify(record));
      assert.deepEqual(await registry.getService("greeter"), []);
    },
    "list: every service, once": async ({ registry }) => {
      assert.deepEqual(await registry.listServices(), []);
      await registry.register(service({ version: "1.0.0", nodes: [node("a"), node("b")] }));
      await registry.register(service({ version: "2.0.0", nodes: [node("c")] }));
      await registry.register(service({ name: "mailer.jobs", nodes: [node("d")] }));
      const names = (await registry.listServices()).map((found) => found.name);
      assert.deepEqual([...new Set(names)].toSorted(), ["greeter", "mailer.jobs"]);
    },
    "register: a node registered under another version moves there": async ({ registry }) => {
      await registry.register(service({ version: "1.0.0", nodes: [node("a"), node("b")] }));
      await registry.register(service({ version: "2.0.0", nodes: [node("a")] }));
      const versions = (await registry.getService("greeter")).toSorted((a, b) => (a.version < b.version ? -1 : 1));
      assert.deepEqual(
        versions.map((found) => [found.version, ids([found])]),
        [
          ["1.0.0", ["b"]],
          ["2.0.0", ["a"]],
        ],
      );
    },
    "deregister: by node, the others stay": async ({ registry }) => {
      await registry.register(service({ nodes: [node("a"), node("b"), node("c")] }));
      await registry.deregister(service({ nodes: [node("b")] }));
      assert.deepEqual(ids(await registry.getService("greeter")), ["a", "c"]);
    },
    "deregister: a service without nodes is gone, from the list too": async ({ registry }) => {
      await registry.register(service({ nodes: [node("a")] }));
      await registry.register(service({ version: "2.0.0", nodes: [node("b")] }));
      await registry.deregister(service({ nodes: [node("a")] }));
      assert.deepEqual(
        (await registry.getService("greeter")).map((found) => found.version),
        ["2.0.0"],
      );
      await registry.deregister(service({ version: "2.0.0", nodes: [node("b")] }));
      assert.deepEqual(await registry.getService("greeter"), []);
      assert.deepEqual(await registry.listServices(), []);
    },
    "deregister: unknown nodes and services are ignored": async ({ registry }) => {
      await registry.deregister(service({ name: "nobody", nodes: [node("a")] }));
      await registry.register(service({ nodes: [node("a")] }));
      await registry.deregister(service({ nodes: [node("x")] }));
      await registry.deregister(service({ nodes: [] }));
      assert.deepEqual(ids(await registry.getService("greeter")), ["a"]);
    },
    "deregister: and register again": async ({ registry }) => {
      for (let round = 0; round < 3; round++) {
        await registry.register(service({ nodes: [node("a")] }));
        assert.deepEqual(ids(await registry.getService("greeter")), ["a"]);
        await registry.deregister(service({ nodes: [node("a")] }));
        assert.deepEqual(await registry.getService("greeter"), []);
      }
    },
    "second client: sees what the first registers, changes and removes": async ({ registry, connect }) => {
      await using other = await connect();
      await registry.register(service({ nodes: [node("a"), node("b")] }));
      await eventually(patienceMs, async () => assert.deepEqual(ids(await other.getService("greeter")), ["a", "b"]));
      await eventually(patienceMs, async () =>
        assert.deepEqual([...new Set((await other.listServices()).map(({ name }) => name))], ["greeter"]),
      );
      await registry.register(service({ nodes: [node("a", { metadata: { zone: "2" } })] }));
      await eventually(patienceMs, async () => {
        const [found] = await other.getService("greeter");
        assert.deepEqual(plain(found?.nodes.find(({ id }) => id === "a")?.metadata), { zone: "2" });
      });
      await registry.deregister(service({ nodes: [node("a"), node("b")] }));
      await eventually(patienceMs, async () => assert.deepEqual(await other.getService("greeter"), []));
    },
    "second client: nodes of both are one service": async ({ registry, connect }) => {
      await using other = await connect();
      await registry.register(service({ nodes: [node("a")] }));
      await other.register(service({ nodes: [node("b")] }));
      for (const side of [registry, other])
        await eventually(patienceMs, async () => {
          const found = await side.getService("greeter");
          assert.equal(found.length, 1);
          assert.deepEqual(ids(found), ["a", "b"]);
        });
    },
    "concurrency: operations on one node happen in their order": async ({ registry }) => {
      const a = service({ nodes: [node("a")] });
      const changed = service({ nodes: [node("a", { address: "127.0.0.1:9999" })] });
      await Promise.all([registry.register(a), registry.deregister(a), registry.register(changed)]);
      const [found] = await registry.getService("greeter");
      assert.deepEqual(plainNodes(found), plainNodes(changed));
      await Promise.all([registry.register(a), registry.deregister(a)]);
      assert.deepEqual(await registry.getService("greeter"), []);
    },
    "concurrency: many operations at once": async ({ registry }) => {
      const all = Array.from({ length: 30 }, (_, index) => `node-${index.toString().padStart(2, "0")}`);
      await Promise.all(all.map((id) => registry.register(service({ nodes: [node(id)] }))));
      const looks = await Promise.all(Array.from({ length: 10 }, () => registry.getService("greeter")));
      for (const found of looks) assert.deepEqual(ids(found), all);
      await Promise.all(all.slice(5).map((id) => registry.deregister(service({ nodes: [node(id)] }))));
      assert.deepEqual(ids(await registry.getService("greeter")), all.slice(0, 5));
    },
  };
}

function domainCases(patienceMs: number): Cases {
  const domain = "blue";
  return {
    "domain: each is apart from the others and from none": async ({ registry, connect }) => {
      await using other = await connect();
      await registry.register(service({ nodes: [node("a")] }));
      await registry.register(service({ nodes: [node("b")] }), { domain });
      await registry.register(service({ nodes: [node("c")] }), { domain: "green" });
      for (const side of [registry, other])
        await eventually(patienceMs, async () => {
          assert.deepEqual(ids(await side.getService("greeter")), ["a"]);
          assert.deepEqual(ids(await side.getService("greeter", { domain })), ["b"]);
          assert.deepEqual(ids(await side.getService("greeter", { domain: "green" })), ["c"]);
          assert.deepEqual(await side.getService("greeter", { domain: "red" }), []);
        });
      await registry.deregister(service({ nodes: [node("a"), node("b"), node("c")] }), { domain });
      assert.deepEqual(ids(await registry.getService("greeter")), ["a"]);
      assert.deepEqual(await registry.getService("greeter", { domain }), []);
    },
    "domain: a watch sees its own only": async ({ registry }) => {
      await using inside = await observe(registry.watch({ domain }), patienceMs);
      await using outside = await observe(registry.watch(), patienceMs);
      await registry.register(service({ nodes: [node("a")] }), { domain });
      await registry.register(service({ nodes: [node("b")] }));
      await inside.until("create", "a");
      await outside.until("create", "b");
      assert.deepEqual([...new Set(ids(inside.seen.map((event) => event.service)))], ["a"]);
      assert.deepEqual([...new Set(ids(outside.seen.map((event) => event.service)))], ["b"]);
    },
    "domain: `*` is all of them": async ({ registry }) => {
      await using watching = await observe(registry.watch({ domain: "*", service: "greeter" }), patienceMs);
      await registry.register(service({ nodes: [node("a")] }));
      await registry.register(service({ nodes: [node("b")] }), { domain });
      await registry.register(service({ name: "mailer", nodes: [node("m")] }), { domain });
      const found = await registry.getService("greeter", { domain: "*" });
      assert.equal(found.length, 1);
      assert.deepEqual(ids(found), ["a", "b"]);
      const names = (await registry.listServices({ domain: "*" })).map(({ name }) => name);
      assert.deepEqual([...new Set(names)].toSorted(), ["greeter", "mailer"]);
      await watching.until("create", "a");
      await watching.until("create", "b");
      assert.deepEqual([...new Set(watching.seen.map((event) => event.service.name))], ["greeter"]);
    },
    "domain: a service is registered in one, not in all": async ({ registry }) => {
      const registering = registry.register(service({ nodes: [node("a")] }), { domain: "*" });
      await registering.then(
        () => assert.fail("it was accepted"),
        (error: unknown) => {
          // Or the registry carries none at all.
          if (!MicroError.is(error) || error.code !== "not_implemented") hasCode(error, "bad_request");
        },
      );
      assert.deepEqual(await registry.getService("greeter"), []);
    },
  };
}

function expiryCases(minTtlMs: number, patienceMs: number): Cases {
  return {
    "expiry: a node is gone after its TTL": async ({ registry, connect }) => {
      await using other = await connect();
      await registry.register(service({ nodes: [node("a")] }), { ttlMs: minTtlMs });
      await registry.register(service({ nodes: [node("b")] }));
      await eventually(patienceMs + minTtlMs * 3, async () =>
        assert.deepEqual(ids(await other.getService("greeter")), ["b"]),
      );
      assert.deepEqual(ids(await registry.getService("greeter")), ["b"]);
    },
    "expiry: the watch reports it with the node": async ({ registry, connect }) => {
      await using other = await connect();
      await using watching = await observe(other.watch(), patienceMs + minTtlMs * 3);
      await registry.register(service({ nodes: [node("a")] }), { ttlMs: minTtlMs });
      await watching.until("delete", "a");
    },
    "expiry: registering again keeps a node alive": async ({ registry }) => {
      const ttlMs = minTtlMs * 3;
      const end = performance.now() + ttlMs * 2;
      await registry.register(service({ nodes: [node("a")] }), { ttlMs });
      while (performance.now() < end) {
        await sleep(minTtlMs / 2);
        const registered = performance.now();
        await registry.register(service({ nodes: [node("a")] }), { ttlMs });
        const found = await registry.getService("greeter");
        // On a machine that stood still in between, the TTL may have passed.
        if (performance.now() - registered < ttlMs) assert.deepEqual(ids(found), ["a"]);
      }
      await eventually(patienceMs + ttlMs * 3, async () => assert.deepEqual(await registry.getService("greeter"), []));
    },
    "expiry: without a TTL a node stays": async ({ registry }) => {
      await registry.register(service({ nodes: [node("a")] }), { ttlMs: minTtlMs });
      await registry.register(service({ nodes: [node("a")] }));
      await sleep(minTtlMs * 2);
      assert.deepEqual(ids(await registry.getService("greeter")), ["a"]);
    },
  };
}

function watchCases(patienceMs: number): Cases {
  return {
    "watch: the first node is a create": async ({ registry }) => {
      await using watching = await observe(registry.watch(), patienceMs);
      await registry.register(
        service({ nodes: [node("a", { metadata: { zone: "1" } })], endpoints: [endpoint("Greeter.Hello")] }),
      );
      const event = await watching.until("create", "a");
      assert.equal(event.service.name, "greeter");
      assert.equal(event.service.version, "1.0.0");
      assert.deepEqual(
        plainNodes(event.service),
        plainNodes(service({ nodes: [node("a", { metadata: { zone: "1" } })] })),
      );
      assert.deepEqual(plain(event.service.endpoints), plain([endpoint("Greeter.Hello")]));
    },
    "watch: another node of the same version is seen": async ({ registry }) => {
      await registry.register(service({ nodes: [node("a")] }));
      await using watching = await observe(registry.watch(), patienceMs);
      await registry.register(service({ nodes: [node("b")] }));
      await watching.until(["create", "update"], "b");
    },
    "watch: a changed node is an update": async ({ registry }) => {
      await using watching = await observe(registry.watch(), patienceMs);
      await registry.register(service({ nodes: [node("a")] }));
      await watching.until("create", "a");
      await registry.register(service({ nodes: [node("a", { address: "127.0.0.1:7777" })] }));
      const event = await watching.until("update", "a");
      assert.equal(event.service.nodes.find(({ id }) => id === "a")?.address, "127.0.0.1:7777");
    },
    "watch: a removed node is a delete, with its version": async ({ registry }) => {
      await registry.register(service({ nodes: [node("a"), node("b")] }));
      await using watching = await observe(registry.watch(), patienceMs);
      await registry.deregister(service({ nodes: [node("a")] }));
      const event = await watching.until("delete", "a");
      assert.equal(event.service.name, "greeter");
      assert.equal(event.service.version, "1.0.0");
      assert.deepEqual(ids([event.service]), ["a"]);
    },
    "watch: a change right after `ready` is never missed": async ({ registry, connect }) => {
      await using other = await connect();
      for (let round = 0; round < 5; round++) {
        await using watching = await observe(other.watch(), patienceMs);
        await registry.register(service({ nodes: [node(`node-${round}`)] }));
        await watching.until("create", `node-${round}`);
      }
    },
    "watch: filtered by service": async ({ registry }) => {
      await using watching = await observe(registry.watch({ service: "greeter" }), patienceMs);
      await registry.register(service({ name: "mailer", nodes: [node("m")] }));
      await registry.register(service({ nodes: [node("a")] }));
      await watching.until("create", "a");
      assert.deepEqual([...new Set(watching.seen.map((event) => event.service.name))], ["greeter"]);
    },
    "watch: two watchers see the same": async ({ registry, connect }) => {
      await using other = await connect();
      await using first = await observe(registry.watch(), patienceMs);
      await using second = await observe(registry.watch(), patienceMs);
      await using third = await observe(other.watch(), patienceMs);
      await registry.register(service({ nodes: [node("a")] }));
      for (const watching of [first, second, third]) await watching.until("create", "a");
      await first[Symbol.asyncDispose]();
      await registry.deregister(service({ nodes: [node("a")] }));
      for (const watching of [second, third]) await watching.until("delete", "a");
    },
    "watch: aborting ends it without an error": async ({ registry }) => {
      const controller = new AbortController();
      const watcher = registry.watch({ signal: controller.signal });
      await watcher.ready;
      const ended = (async () => {
        for await (const event of watcher) assert.fail(`an event: ${event.action}`);
      })();
      controller.abort();
      await within(patienceMs, ended, "the end of the watch");
    },
    "watch: leaving the loop ends it": async ({ registry }) => {
      const watcher = registry.watch();
      await watcher.ready;
      await registry.register(service({ nodes: [node("a")] }));
      const left = (async () => {
        for await (const event of watcher) {
          assert.equal(event.service.name, "greeter");
          break;
        }
      })();
      await within(patienceMs, left, "the first event");
      // What has ended may be disposed again, and the registry works on.
      await watcher[Symbol.asyncDispose]();
      assert.deepEqual(ids(await registry.getService("greeter")), ["a"]);
    },
    "watch: disposing ends a reader that waits": async ({ registry }) => {
      const watcher = registry.watch();
      await watcher.ready;
      const iterator = watcher[Symbol.asyncIterator]();
      const next = iterator.next();
      await watcher[Symbol.asyncDispose]();
      assert.equal((await within(patienceMs, next, "the end of the watch")).done, true);
    },
  };
}

/** What people, gateways and other languages put into names. */
const oddNames = [
  ".",
  "..",
  "../../x",
  "a/b",
  "a//b",
  "/a",
  "a/",
  "%2e%2e",
  "a?b=c",
  "a#b",
  "a b",
  " a ",
  "a\nb",
  "a\u0000b",
  "größe",
  "日本",
  "*",
  "_services",
  'a"b\\c',
  ".a",
  "a.",
  "x".repeat(64),
  "x".repeat(300),
  "x".repeat(5_000),
];

/** True if the record was taken, and what is taken is found. */
async function works(registry: Registry, record: Service): Promise<boolean> {
  const { name } = record;
  const what = JSON.stringify(record).slice(0, 200);
  const error: unknown = await registry.register(record).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error !== undefined) {
    hasCode(error, "bad_request", what);
    assert.deepEqual(ids(await registry.getService(name)), [], what);
    await registry.deregister(record).catch((reason: unknown) => hasCode(reason, "bad_request", what));
    return false;
  }
  assert.deepEqual(ids(await registry.getService(name)), ids([record]), what);
  return true;
}

function nameCases(): Cases {
  return {
    "names: a service with an odd one is found under it, or refused": async ({ registry }) => {
      for (const name of oddNames) {
        const record = service({ name, nodes: [node("odd")] });
        if (!(await works(registry, record))) continue;
        await registry.deregister(record);
        assert.deepEqual(await registry.getService(name), [], JSON.stringify(name));
      }
    },
    "names: a node with an odd id is found, or refused": async ({ registry }) => {
      for (const id of oddNames) {
        const record = service({ nodes: [node(id)] });
        if (!(await works(registry, record))) continue;
        await registry.deregister(record);
        assert.deepEqual(await registry.getService("greeter"), [], JSON.stringify(id));
      }
    },
    "names: what a backend may write alike stays apart, or is refused": async ({ registry }) => {
      const taken: Service[] = [];
      for (const name of ["a/b", "a-b", "a.b", "A-B", "a_b"]) {
        const record = service({ name, nodes: [node(`node of ${name}`.replaceAll(/[^A-Za-z]/g, "x") + taken.length)] });
        if (await works(registry, record)) taken.push(record);
      }
      for (const record of taken)
        assert.deepEqual(ids(await registry.getService(record.name)), ids([record]), record.name);
      const nodes: string[] = [];
      for (const id of ["n/1", "n-1", "n.1", "n_1"])
        await registry.register(service({ nodes: [node(id)] })).then(
          () => nodes.push(id),
          (error: unknown) => hasCode(error, "bad_request", id),
        );
      assert.deepEqual(ids(await registry.getService("greeter")), nodes.toSorted());
    },
  };
}

function timeCases(): Cases {
  return {
    "options: those that do not exist are a TypeError that names the nearest": async ({ registry }) => {
      const record = service({ nodes: [node("a")] });
      const operations: Record<string, [wrong: string, meant: string, run: (options: object) => unknown]> = {
        register: ["ttl", "ttlMs", (options) => registry.register(record, options)],
        deregister: ["timeout", "timeoutMs", (options) => registry.deregister(record, options)],
        getService: ["singal", "signal", (options) => registry.getService("greeter", options)],
        listServices: ["domian", "domain", (options) => registry.listServices(options)],
        watch: ["servise", "service", (options) => registry.watch(options).ready],
      };
      for (const [operation, [wrong, meant, run]] of Object.entries(operations))
        await assert.rejects(
          async () => run({ [wrong]: 1 }),
          (error) => error instanceof TypeError && error.message.includes(`\`${meant}\``),
          operation,
        );
      assert.deepEqual(await registry.getService("greeter"), []);
    },
    "times: what is no time is a TypeError": async ({ registry }) => {
      const record = service({ nodes: [node("a")] });
      for (const ttlMs of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.MAX_VALUE])
        await assert.rejects(registry.register(record, { ttlMs }), TypeError, `ttlMs ${ttlMs}`);
      for (const timeoutMs of [0, -1, Number.NaN, Number.NEGATIVE_INFINITY]) {
        const what = `timeoutMs ${timeoutMs}`;
        await assert.rejects(registry.register(record, { timeoutMs }), TypeError, what);
        await assert.rejects(registry.deregister(record, { timeoutMs }), TypeError, what);
        await assert.rejects(registry.getService("greeter", { timeoutMs }), TypeError, what);
        await assert.rejects(registry.listServices({ timeoutMs }), TypeError, what);
      }
      assert.deepEqual(await registry.getService("greeter"), []);
    },
    "times: long ones are what they say": async ({ registry }) => {
      let index = 0;
      for (const ttlMs of [2 ** 31 - 1, 2 ** 31, 2 ** 32 + 1, 100 * 365 * 24 * 3_600_000])
        await registry.register(service({ nodes: [node(`node-${index++}`)] }), { ttlMs });
      for (const timeoutMs of [2 ** 31 - 1, 2 ** 31, 2 ** 53, Number.POSITIVE_INFINITY]) {
        const options = { timeoutMs };
        assert.equal(ids(await registry.getService("greeter", options)).length, index, `timeoutMs ${timeoutMs}`);
        assert.equal((await registry.listServices(options)).length > 0, true);
        await registry.register(service({ nodes: [node("node-0")] }), options);
        await registry.deregister(service({ nodes: [node("nobody")] }), options);
      }
    },
  };
}

/** It succeeds, or the registry is closed. */
async function orClosed(operation: Promise<unknown>): Promise<void> {
  try {
    await operation;
  } catch (error) {
    hasCode(error, "closed");
  }
}

/** Signals come from `leaks`: a listener that is left on one fails the case, whatever became of the operations. */
function leftoverCases(patienceMs: number): Cases {
  const record = service({ nodes: [node("a")] });
  return {
    "leaks: one signal for many operations keeps nothing of them": async ({ registry }, leaks) => {
      const { signal } = leaks.controller();
      for (let round = 0; round < 3; round++) {
        await registry.register(record, { signal });
        await registry.register(record, { signal });
        await registry.getService("greeter", { signal, timeoutMs: patienceMs });
        await registry.listServices({ signal });
        await registry.deregister(record, { signal });
        await rejects(registry.register(service({ nodes: [] }), { signal }), "bad_request");
        // In time or not.
        await registry
          .getService("nobody", { signal, timeoutMs: 1 })
          .catch((error: unknown) => hasCode(error, "timeout"));
      }
    },
    "leaks: a watch that has ended keeps nothing": async ({ registry, connect }, leaks) => {
      const { signal } = leaks.controller();
      for (let round = 0; round < 3; round++) {
        const watcher = registry.watch({ signal, service: "greeter" });
        await watcher.ready;
        await watcher[Symbol.asyncDispose]();
      }
      const early = registry.watch({ signal });
      await early[Symbol.asyncDispose]();
      const other = await connect();
      const closed = other.watch({ signal });
      await closed.ready;
      await other[Symbol.asyncDispose]();
      const refused = other.watch({ signal });
      await rejects(refused.ready, "closed");
      await refused[Symbol.asyncDispose]();
    },
    "leaks: what was cancelled keeps nothing": async ({ registry }, leaks) => {
      const ended: Promise<unknown>[] = [];
      const cancelled = (run: (signal: AbortSignal) => Promise<unknown>): void => {
        const controller = leaks.controller();
        ended.push(run(controller.signal).catch((error: unknown) => hasCode(error, "aborted")));
        controller.abort();
      };
      cancelled((signal) => registry.getService("greeter", { signal }));
      cancelled((signal) => registry.listServices({ signal }));
      cancelled((signal) => registry.deregister(record, { signal }));
      cancelled((signal) => registry.watch({ signal }).ready);
      await within(patienceMs, Promise.all(ended), "the end of what was cancelled");
      const controller = leaks.controller();
      const watcher = registry.watch({ signal: controller.signal });
      await watcher.ready;
      controller.abort();
      assert.equal(
        (await within(patienceMs, watcher[Symbol.asyncIterator]().next(), "the end of the watch")).done,
        true,
      );
    },
    "leaks: closing while operations are under way ends them and keeps nothing": async ({ connect }, leaks) => {
      const closing = await connect();
      const { signal } = leaks.controller();
      const running = [
        orClosed(closing.getService("nobody", { signal })),
        orClosed(closing.listServices({ signal })),
        orClosed(closing.register(record, { signal })),
        orClosed(closing.watch({ signal }).ready),
      ];
      await closing[Symbol.asyncDispose]();
      await within(patienceMs, Promise.all(running), "the end of what was under way");
    },
  };
}

function endCases(patienceMs: number): Cases {
  return {
    "limits: an aborted signal is `aborted`": async ({ registry }) => {
      const signal = AbortSignal.abort();
      await rejects(registry.register(service({ nodes: [node("a")] }), { signal }), "aborted");
      await rejects(registry.deregister(service({ nodes: [node("a")] }), { signal }), "aborted");
      await rejects(registry.getService("greeter", { signal }), "aborted");
      await rejects(registry.listServices({ signal }), "aborted");
      assert.deepEqual(await registry.getService("greeter"), []);
    },
    "limits: aborting a look-up ends it": async ({ registry }) => {
      const controller = new AbortController();
      const looking = registry.getService("nobody", { signal: controller.signal }).then(
        (found) => assert.deepEqual(found, [], "done before the abort"),
        (error: unknown) => hasCode(error, "aborted"),
      );
      controller.abort();
      await within(patienceMs, looking, "the look-up");
    },
    "limits: timeoutMs gives a result in time, or `timeout`": async ({ registry }) => {
      await registry.register(service({ nodes: [node("a")] }), { timeoutMs: patienceMs });
      assert.deepEqual(ids(await registry.getService("greeter", { timeoutMs: patienceMs })), ["a"]);
      const hurried = registry.getService("nobody", { timeoutMs: 1 }).then(
        (found) => assert.deepEqual(found, []),
        (error: unknown) => hasCode(error, "timeout"),
      );
      await within(patienceMs, hurried, "the look-up");
    },
    "end: a closed registry refuses with `closed`": async ({ connect }) => {
      const closed = await connect();
      await closed[Symbol.asyncDispose]();
      await rejects(closed.register(service({ nodes: [node("a")] })), "closed");
      await rejects(closed.deregister(service({ nodes: [node("a")] })), "closed");
      await rejects(closed.getService("greeter"), "closed");
      await rejects(closed.listServices(), "closed");
      const watcher = closed.watch();
      await rejects(watcher.ready, "closed");
      await watcher[Symbol.asyncDispose]();
    },
    "end: closing ends watches": async ({ connect }) => {
      const closed = await connect();
      const watcher = closed.watch();
      await watcher.ready;
      const ended = watcher[Symbol.asyncIterator]()
        .next()
        .then(
          (result) => assert.equal(result.done, true),
          (error: unknown) => hasCode(error, "closed"),
        );
      await closed[Symbol.asyncDispose]();
      await within(patienceMs, ended, "the end of the watch");
    },
    "end: closing twice, and at once, is harmless": async ({ connect }) => {
      const closed = await connect();
      await closed.register(service({ nodes: [node("a")] }));
      await Promise.all([closed[Symbol.asyncDispose](), closed[Symbol.asyncDispose]()]);
      await closed[Symbol.asyncDispose]();
    },
    "end: one client's end leaves the other's nodes": async ({ registry, connect }) => {
      const other = await connect();
      await registry.register(service({ nodes: [node("a")] }));
      await eventually(patienceMs, async () => assert.deepEqual(ids(await other.getService("greeter")), ["a"]));
      await other[Symbol.asyncDispose]();
      assert.deepEqual(ids(await registry.getService("greeter")), ["a"]);
    },
    "release: records and watches stay, and whoever uses it afterwards finds it as before": async ({
      registry,
      connect,
    }) => {
      await using other = await connect();
      await other.release?.();
      await other.register(service({ nodes: [node("a")] }));
      await using watching = await observe(other.watch(), patienceMs);
      for (const id of ["b", "c"]) {
        await Promise.all([other.release?.(), other.release?.()]);
        await eventually(patienceMs, async () =>
          assert.equal(ids(await registry.getService("greeter")).includes("a"), true),
        );
        await registry.register(service({ nodes: [node(id)] }));
        await watching.until(["create", "update"], id);
        await eventually(patienceMs, async () =>
          assert.equal(ids(await other.getService("greeter")).includes(id), true),
        );
      }
      await other[Symbol.asyncDispose]();
      await other.release?.();
    },
    "end: unused, it closes": async ({ connect }) => {
      const unused = await connect();
      await within(patienceMs, unused[Symbol.asyncDispose](), "closing");
    },
  };
}

function service(part: Partial<Service> = {}): Service {
  return { name: "greeter", version: "1.0.0", metadata: {}, endpoints: [], nodes: [], ...part };
}

function node(id: string, part: Partial<Node> = {}): Node {
  return { id, address: "127.0.0.1:8080", metadata: { protocol: "mucp" }, ...part };
}

function endpoint(name: string): Endpoint {
  const leaf = { name: "name", type: "string", values: null };
  return {
    name,
    request: { name: "Request", type: "Request", values: [leaf, { name: "tags", type: "[]string", values: null }] },
    response: { name: "Response", type: "Response", values: [{ name: "inner", type: "Inner", values: [leaf] }] },
    metadata: { stream: "false" },
  };
}

function ids(services: readonly Service[]): string[] {
  return services.flatMap(({ nodes }) => nodes.map(({ id }) => id)).toSorted();
}

/** For comparing: registries may give maps with or without a prototype, values as null or empty. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, member]) => [key, plain(member)]));
}

function plainNodes(found: Service | undefined): unknown {
  return plain(found?.nodes.toSorted((a, b) => (a.id < b.id ? -1 : 1)));
}

function hasCode(error: unknown, code: ErrorCode, what = ""): void {
  if (!MicroError.is(error)) throw error;
  assert.equal(error.code, code, `${what} ${error.message}`.trim());
}

async function rejects(promise: Promise<unknown>, code: ErrorCode, what = "the operation"): Promise<void> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
  assert.ok(outcome !== undefined, `${what} was accepted`);
  hasCode(outcome.error, code, what);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Repeat until `check` passes; its last failure is thrown when time is up. */
async function eventually(patienceMs: number, check: () => Promise<void>): Promise<void> {
  const end = performance.now() + patienceMs;
  for (;;)
    try {
      return await check();
    } catch (error) {
      if (performance.now() > end) throw error;
      await sleep(20);
    }
}

async function within<T>(patienceMs: number, promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${patienceMs} ms`)), patienceMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

interface Observation extends AsyncDisposable {
  readonly seen: readonly RegistryEvent[];
  /** Wait for an event of the action about the node; events may repeat. */
  until(action: RegistryEvent["action"] | readonly RegistryEvent["action"][], id: string): Promise<RegistryEvent>;
}

/** Read a watch in the background, once it is ready. */
async function observe(watcher: Watcher, patienceMs: number): Promise<Observation> {
  await within(patienceMs, watcher.ready, "the watch");
  const seen: RegistryEvent[] = [];
  let changed = Promise.withResolvers<void>();
  let failure: unknown;
  const reading = (async () => {
    try {
      for await (const event of watcher) {
        seen.push(event);
        changed.resolve();
        changed = Promise.withResolvers<void>();
      }
    } catch (error) {
      failure = error;
      changed.resolve();
    }
  })();
  return {
    seen,
    async until(actions, id) {
      const end = performance.now() + patienceMs;
      for (;;) {
        if (failure !== undefined) throw failure;
        const found = seen.find(
          ({ action, service: { nodes } }) => [actions].flat().includes(action) && nodes.some((each) => each.id === id),
        );
        if (found !== undefined) return found;
        await within(end - performance.now(), changed.promise, `${[actions].flat().join(" or ")} of ${id}`);
      }
    },
    async [Symbol.asyncDispose]() {
      await watcher[Symbol.asyncDispose]();
      await within(patienceMs, reading, "the end of the watch");
    },
  };
}
