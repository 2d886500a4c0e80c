/** What every registry with a server has to survive, run with services that call each other all the time. */
import assert from "node:assert/strict";
import { createService, silentLogger, type Registry } from "@micro/core";
import { faultProxy } from "@micro/core/testing";

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
}

// Longer than a server takes to stop: etcd gives its watchers 5 s, in which leases end and cannot be renewed.
const ttlMs = 8_000;
const intervalMs = 2_000;
/** After the fault: one interval, a retry's backoff, and a busy machine. */
const patienceMs = intervalMs + 8_000;

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
export function instance(registry: Registry, label: string) {
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
  const greeter = instance(make(), "first");
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
    const { label } = await caller.call<{ label: string }>("greeter", "Greeter.Hello", {}, { timeoutMs: 2_000 });
    return label;
  };
  await eventually("the first call", 5_000, async () => (await call()) === "first");
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
    /** Calls went on all the time; the service is registered again, and the caller sees who comes. */
    async isWhole(address: (() => Registry) | undefined): Promise<void> {
      const probe = (address ?? connect)();
      stack.defer(() => probe[Symbol.asyncDispose]());
      await eventually("registered again", patienceMs, async () => (await probe.getService("greeter")).length > 0);
      const before = calls;
      await eventually("calls go on", 2_000, async () => calls > before);
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
  const { start, connect, revoke } = options;
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
    "a server that is frozen for longer than the TTL": withServer(async (server) => {
      server.freeze();
      await wait(ttlMs + 2_000);
      server.thaw();
    }),
    "a registration that is taken away behind our back": withServer(async (server, { nodeId }) => {
      await revoke(server.address, nodeId);
    }),
    "a partition for longer than the TTL": async () => {
      const server = await start();
      try {
        await using proxy = await faultProxy({ target: server.address });
        await using on = await scene(() => connect(proxy.address));
        await using probe = connect(server.address);
        proxy.set({ toTarget: { drop: true }, toClient: { drop: true } });
        await eventually("others see it gone", ttlMs * 3, async () => (await probe.getService("greeter")).length === 0);
        proxy.heal();
        await on.isWhole(undefined);
      } finally {
        await server.dispose();
      }
    },
  };
}
