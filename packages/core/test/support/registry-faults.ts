/** What every registry with a server has to survive, run with services that call each other all the time. */
import assert from "node:assert/strict";
import { createService, MicroError, silentLogger, type Registry, type ServiceOptions } from "@micro/core";
import { faultProxy } from "@micro/testing";
import { keepingLogger } from "./service.ts";

/** A server that can be mistreated. */
export interface FaultyServer {
  /** `host:port` */
  readonly address: string;
  start(): Promise<unknown>;
  stop(): Promise<void>;
  kill(): Promise<void>;
  freeze(): void;
  thaw(): void;
  forget(): void;
  dispose(): Promise<void>;
}

export interface RegistryFaultOptions {
  readonly start: () => Promise<FaultyServer>;
  readonly connect: (address: string) => Registry;
  /** Take the registration away without the service's doing. */
  readonly revoke: (address: string, nodeId: string) => Promise<void>;
  /** Write so much of something else that revisions are beyond those of before. */
  readonly fill: (address: string) => Promise<void>;
}

// Longer than a server takes to stop: etcd gives its watchers 5 s, in which leases end and cannot be renewed.
const ttlMs = 8_000;
const intervalMs = 2_000;
/** What a retry's backoff and a machine busy with other things may add to what is promised. */
export const slackMs = 10_000;
/** The promise: whole again within one interval. */
const patienceMs = intervalMs + slackMs;

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export async function eventually(what: string, limitMs: number, check: () => Promise<boolean>): Promise<number> {
  const started = performance.now();
  for (let failure: unknown; ;) {
    try {
      if (await check()) return performance.now() - started;
      failure = undefined;
    } catch (error) {
      failure = error;
    }
    if (performance.now() - started > limitMs)
      throw new Error(`${what}: not within ${limitMs} ms`, failure === undefined ? {} : { cause: failure });
    await wait(50);
  }
}

/** A service that says which instance it is. */
export function instance(registry: Registry, label: string, options: ServiceOptions = {}) {
  const service = createService({
    name: "greeter",
    address: "127.0.0.1:0",
    registry,
    logger: silentLogger,
    handleSignals: false,
    args: [],
    env: {},
    registerTtlMs: ttlMs,
    registerIntervalMs: intervalMs,
    spreadMs: 0,
    ...options,
  });
  service.handle("Greeter", { hello: () => ({ label }) });
  return service;
}

/** One greeter, and a program that calls it every 20 ms. */
async function scene(connect: () => Registry) {
  const stack = new AsyncDisposableStack();
  const make = (): Registry => {
    const registry = connect();
    stack.defer(() => registry[Symbol.asyncDispose]());
    return registry;
  };
  const log = keepingLogger();
  const greeter = instance(make(), "first", { logger: log });
  await greeter.start();
  const caller = createService({
    name: "caller",
    registry: make(),
    logger: silentLogger,
    handleSignals: false,
    args: [],
    env: {},
  });
  stack.defer(() => caller.stop());
  const call = async (): Promise<string> => {
    const { label } = await caller.call<{ label: string }>("greeter", "Greeter.Hello", {}, { timeoutMs: slackMs });
    return label;
  };
  await eventually("the first call", slackMs, async () => (await call()) === "first");
  let calls = 0;
  const failures: unknown[] = [];
  const ended = new AbortController();
  const traffic = (async () => {
    while (!ended.signal.aborted) {
      try {
        await call();
        calls++;
      } catch (error) {
        failures.push(error);
      }
      await wait(20);
    }
  })();
  return {
    greeter,
    get nodeId(): string {
      return `greeter-${greeter.options.id}`;
    },
    /** How often the greeter said that its registration is lost. */
    get losses(): number {
      return log.lines.filter((line) => line.includes("Registration lost")).length;
    },
    /** Calls went on all the time; the service is registered again, and the caller sees who comes. */
    async isWhole(address: (() => Registry) | undefined): Promise<void> {
      const probe = (address ?? connect)();
      stack.defer(() => probe[Symbol.asyncDispose]());
      await eventually("registered again", patienceMs, async () => (await probe.getService("greeter")).length > 0);
      await eventually("ready", patienceMs, async () => greeter.ready);
      const before = calls;
      await eventually("calls go on", slackMs, async () => calls > before);
      assert.deepEqual(failures, [], "no call failed");
      const second = instance(probe, "second");
      await second.start();
      try {
        await eventually("a new instance is seen", patienceMs, async () => (await call()) === "second");
      } finally {
        await second.stop();
      }
      // And its going, too: with nobody else there, everything would fail if it were still called.
      await eventually("its end is seen", patienceMs, async () => {
        for (let count = 0; count < 10; count++) if ((await call()) !== "first") return false;
        return true;
      });
    },
    async [Symbol.asyncDispose](): Promise<void> {
      ended.abort();
      await traffic;
      await greeter.stop();
      await stack.disposeAsync();
    },
  };
}

/** The faults by name; each is a test's body. */
export function registryFaults(options: RegistryFaultOptions): Readonly<Record<string, () => Promise<void>>> {
  const { start, connect, revoke, fill } = options;
  const withServer =
    (fault: (server: FaultyServer, on: Awaited<ReturnType<typeof scene>>) => Promise<void>) => async () => {
      const server = await start();
      try {
        await using on = await scene(() => connect(server.address));
        await fault(server, on);
        await on.isWhole(undefined);
      } finally {
        server.thaw();
        await server.dispose();
      }
    };
  return {
    "its start while the server is away: told of at once, it goes on when the server is there": async () => {
      const server = await start();
      const stack = new AsyncDisposableStack();
      try {
        await server.kill();
        const make = (): Registry => stack.use(connect(server.address));
        const advice = /answers there: see `\w+`, or --registry_address \(connect ECONNREFUSED/;
        const failing = instance(make(), "failing");
        await assert.rejects(
          failing.start(),
          (error) => MicroError.is(error) && error.code === "unavailable" && advice.test(error.message),
        );
        const log = keepingLogger();
        const told = (text: RegExp): number => log.lines.filter((line) => text.test(line)).length;
        const service = instance(make(), "first", { logger: log, startWait: true });
        stack.defer(() => service.stop());
        const starting = service.start();
        await eventually("it says that it waits", slackMs, async () => told(/Not there, the start waits/) === 1);
        assert.equal(told(advice), 1);
        assert.equal(service.ready, false);
        await server.start();
        await starting;
        const probe = make();
        await eventually("registered", patienceMs, async () => (await probe.getService("greeter")).length === 1);
        // And later: it says so, and that it is well again.
        await server.kill();
        const refused = new RegExp(`it is retried: registry \\w+: refresh of .* at http://${server.address}: `);
        await eventually("it says what is wrong", patienceMs, async () => told(refused) === 1);
        await server.start();
        await eventually("it says that it is well", patienceMs, async () => told(/Registered again/) === 1);
        assert.equal(service.ready, true);
      } finally {
        await stack.disposeAsync();
        await server.dispose();
      }
    },
    "restart of the server": withServer(async (server) => {
      await server.stop();
      await server.start();
    }),
    "kill -9 of the server, and a while without it": withServer(async (server) => {
      await server.kill();
      await wait(intervalMs * 1.5);
      await server.start();
    }),
    "restart of the server with an empty state": withServer(async (server) => {
      await server.kill();
      server.forget();
      await server.start();
    }),
    "restart of the server with an empty state that has been filled beyond the old one": async () => {
      const server = await start();
      try {
        await using proxy = await faultProxy({ target: server.address });
        await using on = await scene(() => connect(proxy.address));
        await proxy.refuse(true);
        proxy.cut();
        await server.kill();
        server.forget();
        await server.start();
        await fill(server.address);
        await proxy.refuse(false);
        await on.isWhole(undefined);
      } finally {
        await server.dispose();
      }
    },
    "a server that is frozen for longer than the TTL": withServer(async (server, on) => {
      server.freeze();
      await wait(ttlMs + 2_000);
      await eventually("not ready", slackMs, async () => !on.greeter.ready);
      assert.equal(on.losses, 1, "it says so once");
      server.thaw();
    }),
    "a registration that is taken away behind our back": withServer(async (server, on) => {
      await revoke(server.address, on.nodeId);
      await eventually("it is noticed", intervalMs + slackMs, async () => on.losses === 1);
    }),
    "a partition for longer than the TTL": async () => {
      const server = await start();
      try {
        await using proxy = await faultProxy({ target: server.address });
        await using on = await scene(() => connect(proxy.address));
        await using probe = connect(server.address);
        proxy.set({ toTarget: { drop: true }, toClient: { drop: true } });
        await eventually("others see it gone", ttlMs * 3, async () => (await probe.getService("greeter")).length === 0);
        await eventually("not ready", slackMs, async () => !on.greeter.ready);
        assert.equal(on.losses, 1, "it says so once");
        proxy.heal();
        await on.isWhole(undefined);
      } finally {
        await server.dispose();
      }
    },
  };
}
