import { once } from "node:events";
import net from "node:net";
import { describe, expect, it } from "vitest";
import type { Broker } from "../../src/broker/broker.ts";
import { memoryBroker } from "../../src/broker/memory.ts";
import { MicroError } from "../../src/errors.ts";
import { memoryNetwork, memoryRegistry } from "../../src/registry/memory.ts";
import type { Registry } from "../../src/registry/registry.ts";
import type { ServiceOptions } from "../../src/service/options.ts";
import { ServiceExit, createService } from "../../src/service/service.ts";
import { watchLeaks } from "@micro/testing";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import { keepingLogger, waitFor } from "../support/service.ts";

const away = (what: string) => new MicroError(`${what}: connection refused`, { code: "unavailable" });

/** Members of `piece` exchanged; the others are its own. */
function but<Piece extends object>(piece: Piece, members: Partial<Piece>): Piece {
  return new Proxy(piece, {
    get(target, name) {
      const value: unknown = Reflect.get(name in members ? members : target, name);
      return typeof value === "function" && !(name in members) ? (value.bind(target) as unknown) : value;
    },
  });
}

/** A registry that is somewhere else, so to speak: it may be away. */
function remote(members: Partial<Registry> = {}): Registry {
  return but<Registry>(memoryRegistry({ network: memoryNetwork() }), { name: "remote", ...members });
}

/** One that takes subscriptions of the http broker, but not the service. */
function withoutRoom(isFull: () => boolean = () => true): Registry {
  const registry = remote();
  return but<Registry>(registry, {
    register: (service, options) =>
      service.name === "greeter" && isFull() ? Promise.reject(away("remote")) : registry.register(service, options),
  });
}

const settings = () =>
  ({
    name: "greeter",
    address: "127.0.0.1:0",
    logger: keepingLogger(),
    spreadMs: 0,
    args: [],
    env: {},
  }) satisfies ServiceOptions;

interface Step {
  readonly options: () => ServiceOptions | Promise<ServiceOptions>;
  readonly error: object;
  /** What is left to do once the start has failed. */
  readonly after?: () => unknown;
}

let blocker: net.Server;
const failing: Readonly<Record<string, Step>> = {
  "a hook": {
    options: () => ({
      beforeStart: () => {
        throw new RangeError("no licence");
      },
    }),
    error: { name: "RangeError" },
  },
  "the registry is away": {
    options: () => ({ registry: remote({ getService: () => Promise.reject(away("remote")) }) }),
    error: {
      code: "unavailable",
      detail: "remote: connection refused; MICRO_START_WAIT=true, --start_wait or `startWait` wait for it",
    },
  },
  listening: {
    options: async () => {
      blocker = net.createServer().listen(0, "127.0.0.1");
      await once(blocker, "listening");
      return { address: `127.0.0.1:${(blocker.address() as net.AddressInfo).port}` };
    },
    error: { code: "unavailable" },
    after: () => blocker.close(),
  },
  "the broker is away": {
    options: () => ({ broker: but<Broker>(memoryBroker(), { connect: () => Promise.reject(away("broker")) }) }),
    error: { code: "unavailable", detail: expect.stringContaining("broker: connection refused") as string },
  },
  subscribing: {
    options: () => {
      const broker = memoryBroker();
      return {
        broker: but<Broker>(broker, {
          subscribe: () => {
            throw new MicroError("no such topic", { code: "bad_request" });
          },
        }),
      };
    },
    error: { code: "bad_request" },
  },
  registering: {
    options: () => ({ registry: withoutRoom() }),
    error: { code: "unavailable", detail: "remote: connection refused" },
  },
  "the hook after it": {
    options: () => ({
      afterStart: () => {
        throw new RangeError("no cache");
      },
    }),
    error: { name: "RangeError" },
  },
};

describe.each(Object.entries(failing))("a start that fails: %s", (_name, { options, error, after }) => {
  it("closes everything it opened", async () => {
    const leaks = watchLeaks();
    leaks.emitter(process.stdout);
    leaks.emitter(process.stderr);
    const given = await options();
    await using registry = given.registry === undefined ? remote() : (given.registry as Registry);
    const service = createService({
      ...settings(),
      registry,
      signal: leaks.controller().signal,
      ...("broker" in given ? {} : { broker: "http", brokerAddress: ["127.0.0.1:0"] }),
      ...given,
    });
    service.subscribe("topic", () => {});
    await expect(service.start()).rejects.toMatchObject(error);
    expect(await registry.listServices()).toEqual([]);
    after?.();
    // Its records have timers.
    await registry[Symbol.asyncDispose]();
    await leaks.end();
    await service.stop();
  }, 20_000);
});

function unmakeable(): never {
  throw new RangeError("no socket");
}

describe("a start that has failed", () => {
  it("because a piece cannot be made may be tried again", async () => {
    const service = createService({
      ...settings(),
      transport: "acme",
      plugins: [{ kind: "transport", name: "acme", create: unmakeable }],
    });
    await expect(service.start()).rejects.toThrow(RangeError);
    await expect(service.start()).rejects.toThrow(RangeError);
    await service.stop();
  });

  it("may be tried again, with pieces of its own, handlers and subscribers as before", async () => {
    let down = true;
    const faulty = withoutRoom(() => down);
    await using service = createService({
      ...settings(),
      registry: faulty,
      broker: "http",
      brokerAddress: ["127.0.0.1:0"],
    });
    const got: unknown[] = [];
    service.handle("Greeter.Hello", () => ({ msg: "Hello" }));
    service.subscribe("topic", (event) => void got.push(event));
    await expect(service.start()).rejects.toMatchObject({ code: "unavailable" });
    expect([service.address, service.ready]).toEqual([undefined, false]);
    down = false;
    await service.start();
    expect(service.ready).toBe(true);
    expect(await service.call("greeter", "Greeter.Hello", {})).toEqual({ msg: "Hello" });
    await service.publish("topic", { id: 7 });
    await waitFor(() => got.length > 0, "the event");
    expect(got).toEqual([{ id: 7 }]);
  }, 20_000);

  it("lets calls that run finish, and refuses others as not run", async () => {
    const registry = remote({ register: () => Promise.reject(away("remote")) });
    const logger = keepingLogger();
    const entered = Promise.withResolvers<void>();
    const leave = Promise.withResolvers<void>();
    await using service = createService({ ...settings(), registry, logger });
    let runs = 0;
    service.handle("Greeter.Hello", async () => {
      runs++;
      entered.resolve();
      await leave.promise;
      return { msg: "Hello" };
    });
    let over = false;
    const start = service.start().catch((error: unknown) => ((over = true), error));
    const address = await waitFor(
      () => logger.lines.map((line) => /Listening on (\S+)/.exec(line)?.[1]).find((found) => found !== undefined),
      "the port",
    );
    // A stale record of an earlier process led here.
    await using caller = createService({
      ...settings(),
      name: "caller",
      registry: remote(),
      transport: httpTransport(),
    });
    const call = caller.call("greeter", "Greeter.Hello", {}, { address });
    await entered.promise;
    await waitFor(
      async () => {
        const late = await caller
          .call("greeter", "Greeter.Hello", {}, { address, retries: 0, timeoutMs: 100 })
          .catch((error: unknown) => error);
        return MicroError.is(late) && late.notRun;
      },
      "the refusal",
      15_000,
    );
    expect(over).toBe(false);
    leave.resolve();
    expect(await call).toEqual({ msg: "Hello" });
    expect(await start).toMatchObject({ code: "unavailable" });
    expect(runs).toBeGreaterThan(0);
  }, 30_000);
});

describe("before the start is complete", () => {
  it("calls are refused as not run, and none by the time the record can be found", async () => {
    const network = memoryNetwork();
    const registry = memoryRegistry({ network });
    const answers: unknown[] = [];
    await using caller = createService({ ...settings(), name: "caller", registry: memoryRegistry({ network }) });
    const visible = but<Registry>(registry, {
      name: "remote",
      // Others find the record before its registration is confirmed.
      async register(...args) {
        await registry.register(...args);
        for (let i = 0; i < 5; i++)
          answers.push(await caller.call("greeter", "Greeter.Hello", {}).catch((error: unknown) => error));
      },
    });
    const subscribing = Promise.withResolvers<void>();
    const mayGoOn = Promise.withResolvers<void>();
    const broker = but<Broker>(memoryBroker(), {
      async connect() {
        subscribing.resolve();
        await mayGoOn.promise;
      },
    });
    const logger = keepingLogger();
    await using service = createService({ ...settings(), registry: visible, broker, logger });
    let runs = 0;
    service.handle("Greeter.Hello", () => ({ runs: ++runs }));
    service.subscribe("topic", () => {});
    const start = service.start();
    await subscribing.promise;
    const line = logger.lines.find((each) => each.includes("Listening on"))!;
    const address = /on (\S+)/.exec(line)![1]!;
    for (const wire of ["auto", "http"] as const) {
      await using stranger = createService({ ...settings(), name: "stranger", registry: memoryRegistry(), wire });
      const early = await stranger
        .call("greeter", "Greeter.Hello", {}, { address, retries: 0 })
        .catch((error: unknown) => error);
      expect(early, wire).toMatchObject({ code: "unavailable", notRun: true });
    }
    expect(runs).toBe(0);
    mayGoOn.resolve();
    await start;
    expect(answers).toEqual([1, 2, 3, 4, 5].map((count) => ({ runs: count })));
  });
});

describe("a start that waits", () => {
  it("says so, goes on once the registry and the broker are there, and has no port until then", async () => {
    const down = { registry: true, broker: true };
    const memory = memoryRegistry({ network: memoryNetwork() });
    const registry = but<Registry>(memory, {
      name: "remote",
      getService: (...args) => (down.registry ? Promise.reject(away("remote")) : memory.getService(...args)),
    });
    const ready = memoryBroker();
    const broker = but<Broker>(ready, {
      connect: (...args) => (down.broker ? Promise.reject(away("broker")) : ready.connect(...args)),
    });
    const logger = keepingLogger();
    await using service = createService({ ...settings(), registry, broker, logger, startWait: true });
    service.subscribe("topic", () => {});
    const start = service.start();
    const said = (text: string) => waitFor(() => logger.lines.some((line) => line === text), text);
    await said("warn Registry [remote] Not there, the start waits for it: remote: connection refused");
    down.registry = false;
    await said("info Registry [remote] There, the start goes on");
    await said("warn Broker [memory] Not there, the start waits for it: broker: connection refused");
    expect(logger.lines.filter((line) => line.includes("Listening"))).toEqual([]);
    down.broker = false;
    await start;
    expect(service.ready).toBe(true);
    // Once, although it was tried more often.
    expect(logger.lines.filter((line) => line.startsWith("warn"))).toHaveLength(2);
  });

  it("fails where waiting mends nothing, and ends with a stop", async () => {
    const leaks = watchLeaks();
    const refusing = remote({
      register: () => Promise.reject(new MicroError("permission denied", { code: "forbidden" })),
    });
    const refused = createService({ ...settings(), registry: refusing, startWait: true });
    await expect(refused.start()).rejects.toMatchObject({ code: "forbidden" });
    await refused.stop();
    let asked = 0;
    for (const answer of [() => Promise.reject(away("remote")), () => new Promise<never>(() => {})]) {
      const getService = () => (asked++, answer());
      const before = asked;
      const service = createService({ ...settings(), registry: remote({ getService }), startWait: true });
      const outcome = service.start().catch((error: unknown) => error);
      await waitFor(() => asked > before, "the registry to be asked");
      await service.stop();
      expect(await outcome).toMatchObject({ code: "aborted" });
    }
    await leaks.end();
  }, 20_000);

  it("waits again where the registry goes away while it registers", async () => {
    let asked = 0;
    const memory = memoryRegistry({ network: memoryNetwork() });
    const registry = but<Registry>(memory, {
      name: "remote",
      register: (...args) => (++asked <= 4 ? Promise.reject(away("remote")) : memory.register(...args)),
    });
    await using service = createService({ ...settings(), registry, startWait: true });
    await service.start();
    expect([service.ready, asked]).toEqual([true, 5]);
  }, 20_000);
});

describe("run()", () => {
  it("ends the process with one line and code 1 where a start cannot work, but throws what hooks throw", async () => {
    const exits: number[] = [];
    const logger = keepingLogger();
    const exit = (code: number) => void exits.push(code);
    const registry = remote({ getService: () => Promise.reject(away("remote")) });
    const service = createService({ ...settings(), logger, registry, exit });
    await expect(service.run()).rejects.toBeInstanceOf(ServiceExit);
    expect(exits).toEqual([1]);
    expect(logger.lines.filter((line) => /error|fatal|warn/.test(line))).toEqual([
      "fatal greeter cannot start: remote: connection refused; MICRO_START_WAIT=true, --start_wait or `startWait` wait for it",
    ]);
    const hooked = createService({
      ...settings(),
      exit,
      beforeStart: () => {
        throw new RangeError("no licence");
      },
    });
    await expect(hooked.run()).rejects.toThrow(RangeError);
    expect(exits).toEqual([1]);
  }, 20_000);
});
