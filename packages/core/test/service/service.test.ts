import { once } from "node:events";
import net from "node:net";
import { describe, expect, it } from "vitest";
import { contextKey } from "../../src/context.ts";
import type { MethodDefinition, ServiceDefinition } from "../../src/definition.ts";
import { MicroError, badRequest } from "../../src/errors.ts";
import { memoryNetwork, memoryRegistry } from "../../src/registry/memory.ts";
import type { Registry, Service } from "../../src/registry/registry.ts";
import { cachedSelector } from "../../src/selector/cached-selector.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import { mucpClient } from "../../src/client/mucp-client.ts";
import { memoryTransport } from "../../src/transport/memory.ts";
import type { ServiceOptions } from "../../src/service/options.ts";
import type { PluginDescriptor } from "../../src/service/plugins.ts";
import { ServiceExit, createService } from "../../src/service/service.ts";
import type { MicroService } from "../../src/service/service.ts";
import { faultyRegistry } from "../support/faulty-registry.ts";
import { keepingLogger, waitFor } from "../support/service.ts";

type Hello = MethodDefinition<{ name: string }, { name: string }, { msg: string }, { msg: string }, "unary">;
const Greeter: ServiceDefinition<{ hello: Hello }> = {
  service: "greeter",
  type: "Greeter",
  contentType: "application/json",
  methods: {
    hello: { name: "Hello", kind: "unary", request: { name: "Request" }, response: { name: "Response" } },
  },
};
const hello = ({ name }: { name: string }) => ({ msg: `Hello ${name}` });

/** Services that find each other, on loopback, without waiting for anybody at stop. */
function site() {
  const network = memoryNetwork();
  const logger = keepingLogger();
  const all: MicroService[] = [];
  return {
    logger,
    registry: () => memoryRegistry({ network }),
    service(options: ServiceOptions = {}): MicroService {
      const service = createService({
        name: "greeter",
        registry: memoryRegistry({ network }),
        address: typeof options.server === "object" ? undefined : "127.0.0.1:0",
        spreadMs: 0,
        logger,
        args: [],
        env: {},
        exit() {},
        ...options,
      });
      all.push(service);
      return service;
    },
    async [Symbol.asyncDispose]() {
      for (const service of all) await service.stop().catch(() => {});
    },
  };
}

describe("a service", () => {
  it("answers callers that find it by name, with and without a definition", async () => {
    await using place = site();
    const service = place.service();
    service.handle(Greeter, { hello });
    await service.start();
    const client = place.service({ name: "greeter.client" });
    expect(await client.client(Greeter).hello({ name: "John" })).toEqual({ msg: "Hello John" });
    expect(await client.client.call("greeter", "Greeter.Hello", { name: "Jane" })).toEqual({ msg: "Hello Jane" });
    expect(await client.client.client(Greeter).hello({ name: "Jo" })).toEqual({ msg: "Hello Jo" });
    expect(await client.call("greeter", "Greeter.Hello", { name: "Jim" })).toEqual({ msg: "Hello Jim" });
    expect(client.client.name).toBe("mucp");
  });

  it("streams by name", async () => {
    await using place = site();
    const service = place.service();
    service.handle("Greeter", {
      async *count({ to }: { to: number }) {
        for (let i = 1; i <= to; i++) yield { i };
      },
    });
    await service.start();
    const stream = await place.service({ name: "c" }).stream<unknown, { i: number }>("greeter", "Greeter.Count");
    await stream.send({ to: 3 });
    stream.closeSend();
    const items: number[] = [];
    for await (const { i } of stream) items.push(i);
    expect(items).toEqual([1, 2, 3]);
  });

  it("registers a node as Go's servers do, without the Debug handlers", async () => {
    await using place = site();
    const service = place.service({ version: "1.2.0", id: "me", metadata: { zone: "a", protocol: "wrong" } });
    service.handle(Greeter, { hello });
    expect([service.ready, service.address, service.nodeId]).toEqual([false, undefined, "greeter-me"]);
    await service.start();
    const [record] = await place.registry().getService("greeter");
    expect(record?.version).toBe("1.2.0");
    expect(record?.nodes).toEqual([
      {
        id: "greeter-me",
        address: service.address,
        metadata: {
          zone: "a",
          protocol: "mucp",
          server: "mucp",
          transport: "http",
          broker: "http",
          registry: "memory",
          wire: "micro/1",
        },
      },
    ]);
    expect(service.address).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(record?.endpoints.map(({ name }) => name)).toEqual(["Greeter.Hello"]);
    expect(service.ready).toBe(true);
    expect(await place.service({ name: "c" }).call("greeter", "Debug.Health", {})).toEqual({ status: "ok" });
  });

  it("is ready while it is registered: not once its TTL has passed, nor dropped, nor held back; and calls go on", async () => {
    const registry = faultyRegistry("etcd");
    let allowed = true;
    await using place = site();
    const times = { registerTtlMs: 400, registerIntervalMs: 100 };
    const service = place.service({ registry, ...times, id: "me", registerCheck: () => allowed });
    service.handle(Greeter, { hello });
    await service.start();
    const direct = place.service({ name: "c" });
    const call = () => direct.call("greeter", "Greeter.Hello", { name: "x" }, { address: service.address });
    const becomes = (ready: boolean) => waitFor(() => service.ready === ready || undefined, `ready: ${ready}`);
    registry.down = true;
    await waitFor(() => place.logger.lines.some((line) => line.includes("could not be refreshed")) || undefined, "it");
    await becomes(false);
    expect(await call()).toEqual({ msg: "Hello x" });
    registry.down = false;
    await becomes(true);
    // As long as nobody mends it: the next attempt waits for this.
    const held = Promise.withResolvers<void>();
    const register = registry.register.bind(registry);
    registry.register = async (...parameters) => {
      await held.promise;
      return register(...parameters);
    };
    const [record] = await registry.getService("greeter");
    registry.send({ action: "delete", service: record! });
    await becomes(false);
    held.resolve();
    await becomes(true);
    allowed = false;
    await becomes(false);
    allowed = true;
    await becomes(true);
    const told = place.logger.lines.filter((line) => line.includes("Registration lost"));
    expect(told).toEqual([
      "error Registry [etcd] Registration lost, it is retried: registry etcd: connection refused",
      "warn Registry [etcd] Registration lost, it is retried: the registry has dropped it",
    ]);
    await service.stop();
    expect(service.ready).toBe(false);
  });

  it("advertises the address it is told to", async () => {
    await using place = site();
    const service = place.service({ advertise: "example.org:80" });
    await service.start();
    const [record] = await place.registry().getService("greeter");
    expect(record?.nodes[0]?.address).toBe("example.org:80");
  });

  it("says what Go's services say", async () => {
    await using place = site();
    const service = place.service({ id: "me" });
    service.subscribe("topic", () => {}, { internal: true });
    await service.start();
    const { address } = service;
    const broker = service.broker.address;
    await service.stop();
    const lines = place.logger.lines.filter((line) => line.startsWith("info"));
    expect(lines).toEqual([
      "info Starting [service] greeter",
      `info Transport [http] Listening on ${address}`,
      `info Broker [http] Connected to ${broker}`,
      "info Registry [memory] Registering node: greeter-me",
      "info Registry [memory] Deregistering node: greeter-me",
    ]);
  });

  it("does no input or output when it is made, and can be stopped at once", async () => {
    const service = createService({ name: "idle", registry: "not-installed", transport: "neither" });
    service.handle(Greeter, { hello });
    expect(service.options.registry).toBe("not-installed");
    await service.stop();
  });

  it("keeps user's own Debug handlers", async () => {
    await using place = site();
    const service = place.service();
    service.handle("Debug", { health: () => ({ status: "mine" }) });
    await service.start();
    expect(await place.service({ name: "c" }).call("greeter", "Debug.Health", {})).toEqual({ status: "mine" });
  });

  it("tells its log, and its calls once the memory tracer is chosen, to Debug", async () => {
    await using place = site();
    const service = place.service();
    service.handle(Greeter, { hello });
    await service.init({ args: ["--tracer=memory"] });
    await service.start();
    const client = place.service({ name: "c" });
    await client.call("greeter", "Greeter.Hello", { name: "x" });
    const { spans } = await client.call<{ spans: { name: string }[] }>("greeter", "Debug.Trace", {});
    expect(spans.map(({ name }) => name)).toEqual(["greeter.Greeter.Hello"]);
    const log = await client.stream<unknown, { message: string }>("greeter", "Debug.Log");
    await log.send({});
    const messages: string[] = [];
    for await (const { message } of log) messages.push(message);
    expect(messages).toContain("Starting [service] greeter");
  });

  it("tells nothing of its log where `redact` gives no text", async () => {
    await using place = site();
    const service = place.service({ logger: "console", redact: () => undefined as unknown as string });
    await service.init({ args: [], env: { MICRO_LOG_LEVEL: "info" } });
    await service.start();
    service.logger.info("hunter2", { token: "abc" });
    const log = await place.service({ name: "c" }).stream<unknown, { message: string }>("greeter", "Debug.Log");
    await log.send({});
    const records: unknown[] = [];
    for await (const record of log) records.push(record);
    expect(records).not.toEqual([]);
    expect(JSON.stringify(records)).not.toMatch(/hunter|abc|Starting/);
  });

  it.each([
    [{ name: "" }, "`name` must be a text"],
    [{ drainTimeoutMs: -1 }, "`drainTimeoutMs` must be a number of milliseconds"],
    [{ registerTtlMs: 1000, registerIntervalMs: 1000 }, "must exceed the interval"],
    [{ metadata: { a: 1 as unknown as string } }, 'metadata "a" must be a text'],
    [{ beforeStart: [1 as never] }, "`beforeStart` must be a function"],
    [{ transport: memoryTransport(), poolSize: 1 }, "`poolSize` cannot be set on a transport made elsewhere"],
    [{ plugins: [{ kind: "regisrty", name: "x", create() {} } as never] }, "`kind` must be one of registry"],
  ] satisfies [ServiceOptions, string][])("refuses %j", (options, message) => {
    expect(() => createService(options)).toThrow(TypeError);
    expect(() => createService(options)).toThrow(message);
  });
});

describe("settings", () => {
  it("win in the order createService, init, variable, flag", async () => {
    await using place = site();
    const names = async (env: Record<string, string>, args: string[], init: ServiceOptions) => {
      const service = place.service({ name: "a", env, args });
      await service.init(init);
      return service.name;
    };
    expect(await names({}, [], {})).toBe("a");
    expect(await names({}, [], { name: "i" })).toBe("i");
    expect(await names({ MICRO_SERVER_NAME: "b" }, [], { name: "i" })).toBe("b");
    expect(await names({ MICRO_SERVER_NAME: "b" }, ["--server_name=c"], { name: "i" })).toBe("c");
  });

  it("of an init after the first are applied, but weaker than variables and flags, which are read once", async () => {
    await using place = site();
    const env: Record<string, string> = { MICRO_SERVER_VERSION: "v" };
    let actions = 0;
    const service = place.service({ env, action: () => void actions++ });
    await service.init();
    env["MICRO_SERVER_VERSION"] = "changed";
    await service.init({ name: "later", version: "weaker", id: "x" });
    expect([service.name, service.version, service.options.id, actions]).toEqual(["later", "v", "x", 1]);
  });

  it("without init come from the options alone", async () => {
    await using place = site();
    const service = place.service({ env: { MICRO_SERVER_NAME: "b" }, args: ["--unknown"] });
    await service.start();
    expect(service.name).toBe("greeter");
  });

  it("join lists and metadata across createService, init and flags", async () => {
    await using place = site();
    const order: string[] = [];
    const service = place.service({
      metadata: { a: "1", b: "1" },
      beforeStart: () => void order.push("first"),
      args: ["--server_metadata=b=3,c=3"],
    });
    await service.init({ metadata: { b: "2", d: "2" }, beforeStart: [() => void order.push("second")] });
    expect(service.options.metadata).toEqual({ a: "1", b: "3", c: "3", d: "2" });
    await service.start();
    expect(order).toEqual(["first", "second"]);
  });

  it("keep one id however often they are applied", async () => {
    await using place = site();
    const service = place.service();
    const before = service.nodeId;
    await service.init({ version: "2" });
    expect(service.nodeId).toBe(before);
    expect(before).toMatch(/^greeter-[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
  });

  it("exchange the pieces behind typed clients and handlers that were made before", async () => {
    await using place = site();
    const service = place.service({ name: "wrong", registry: "memory" });
    service.handle(Greeter, { hello });
    const greeter = service.client(Greeter, { timeoutMs: 1000 });
    await expect(greeter.hello({ name: "x" })).rejects.toMatchObject({ code: "not_found" });
    await service.init({ registry: place.registry(), args: ["--server_name=greeter"] });
    await service.start();
    expect(await greeter.hello({ name: "John" })).toEqual({ msg: "Hello John" });
  });

  it("leave pieces alone whose settings did not change", async () => {
    await using place = site();
    const service = place.service({ registry: "memory", transport: "memory" });
    const { registry, transport } = service;
    await service.init({ args: ["--server_name=other"], env: { MICRO_LOG_LEVEL: "debug" } });
    expect([service.registry === registry, service.transport === transport]).toEqual([true, true]);
    await service.init({ transport: "http" });
    expect([service.registry === registry, service.transport === transport]).toEqual([true, false]);
  });

  it("let a logger taken before init follow its level", async () => {
    await using place = site();
    const service = place.service({ logger: "console", env: { MICRO_LOG_LEVEL: "warn" } });
    const { logger } = service;
    const child = logger.child({ part: "x" });
    expect([logger.level, child.enabled("info")]).toEqual(["info", true]);
    await service.init();
    expect([logger.level, child.enabled("info"), child.enabled("warn")]).toEqual(["warn", false, true]);
  });

  it("cannot be applied once the service has been started", async () => {
    await using place = site();
    const service = place.service();
    await service.start();
    await expect(service.init()).rejects.toThrow(TypeError);
  });

  it("refuse what an instance given in code cannot take, naming the variable", async () => {
    await using place = site();
    const lines: string[] = [];
    const service = place.service({ env: { MICRO_REGISTRY_ADDRESS: "a:1" } });
    const write = process.stderr.write.bind(process.stderr);
    process.stderr.write = ((text: string, done: () => void) => {
      lines.push(text);
      done();
      return true;
    }) as typeof process.stderr.write;
    try {
      await expect(service.init()).rejects.toMatchObject({ exitCode: 1 });
    } finally {
      process.stderr.write = write;
    }
    expect(lines.join("")).toBe(
      "greeter: MICRO_REGISTRY_ADDRESS: `registryAddress` cannot be set on a registry made elsewhere; give it to that registry\n",
    );
  });

  it("warn of variables whose piece does not exist, that nothing reads or that have no effect, and of certificates that are not verified", async () => {
    await using place = site();
    const service = place.service({
      env: { MICRO_STORE: "redis", MICRO_TLS_INSECURE: "true", MICRO_OTHER: "1", MICRO_REGISTY: "etcd" },
    });
    await service.init();
    await service.start();
    expect(place.logger.lines.filter((line) => line.startsWith("warn"))).toEqual([
      "warn MICRO_STORE is set, but this version has no store yet: ignored",
      "warn MICRO_REGISTY is set, and nothing reads it; did you mean MICRO_REGISTRY?",
      "warn Certificates of other nodes are not verified",
    ]);
  });
});

it.each([
  [{ MICRO_REGISTRY_ADDRESS: "127.0.0.1:1" }, [], "MICRO_REGISTRY_ADDRESS"],
  [{}, ["--registry_address=127.0.0.1:1"], "--registry_address"],
])("an address of a registry that was not chosen is warned of: %j %j", async (env, args, source) => {
  await using place = site();
  const service = place.service({ registry: "memory", env, args });
  await service.init();
  expect(place.logger.lines.filter((line) => line.startsWith("warn"))).toEqual([
    `warn ${source} is set, but the registry is memory, which takes no address: ignored; choose one by --registry or MICRO_REGISTRY`,
  ]);
});

describe("hooks", () => {
  it("run in the order given, around the server and the registration", async () => {
    await using place = site();
    const order: string[] = [];
    const nodes = async () => (await place.registry().getService("greeter")).length;
    const hook = (name: string) => async () => void order.push(`${name} ${await nodes()}`);
    const service = place.service({
      beforeStart: [hook("beforeStart 1"), hook("beforeStart 2")],
      afterStart: hook("afterStart"),
      beforeStop: [hook("beforeStop 1"), hook("beforeStop 2")],
      afterStop: hook("afterStop"),
    });
    await service.start();
    await service.stop();
    expect(order).toEqual([
      "beforeStart 1 0",
      "beforeStart 2 0",
      "afterStart 1",
      "beforeStop 1 1",
      "beforeStop 2 1",
      "afterStop 0",
    ]);
  });

  it("beforeStart ends the start at the first error, before anything listens", async () => {
    await using place = site();
    const order: number[] = [];
    let failing = true;
    const service = place.service({
      beforeStart: [
        () => void order.push(1),
        () => {
          if (failing) throw new Error("not today");
        },
        () => void order.push(3),
      ],
    });
    await expect(service.start()).rejects.toThrow("not today");
    expect([order, service.ready, service.address]).toEqual([[1], false, undefined]);
    expect(place.logger.lines.join("\n")).not.toContain("Listening");
    failing = false;
    await service.start();
    expect(service.ready).toBe(true);
  });

  it("afterStart reports its error once the service, which was up, is stopped again", async () => {
    await using place = site();
    const service = place.service({
      afterStart() {
        throw new Error("too late");
      },
    });
    await expect(service.run()).rejects.toThrow("too late");
    expect(place.logger.lines).toContain(`info Registry [memory] Deregistering node: ${service.nodeId}`);
    await expect(service.start()).rejects.toMatchObject({ code: "closed" });
  });

  it("beforeStop and afterStop all run, and the last error is reported by stop", async () => {
    await using place = site();
    const order: string[] = [];
    const fail = (name: string) => () => {
      order.push(name);
      throw new Error(name);
    };
    const service = place.service({ beforeStop: [fail("a"), fail("b")], afterStop: [fail("c"), fail("d")] });
    await service.start();
    await expect(service.stop()).rejects.toThrow("d");
    expect(order).toEqual(["a", "b", "c", "d"]);
    expect(await place.registry().getService("greeter")).toEqual([]);
  });
});

describe("stopping", () => {
  it("serves calls until deregistration has spread, finishes what runs, and refuses the rest", async () => {
    await using place = site();
    const events: string[] = [];
    const running = Promise.withResolvers<void>();
    const finish = Promise.withResolvers<void>();
    // Whatever fails below, the handler must not hold up the end of the test.
    using cleanup = new DisposableStack();
    cleanup.defer(() => finish.resolve());
    const service = place.service({ spreadMs: 300, afterStop: () => void events.push("afterStop") });
    service.handle("Greeter", {
      hello,
      async slow() {
        running.resolve();
        await finish.promise;
        return { done: true };
      },
    });
    await service.start();
    const client = place.service({ name: "c" });
    const address = service.address!;
    const call = (endpoint: string) =>
      client.call("greeter", endpoint, { name: "x" }, { address, retries: 0, timeoutMs: 5000 });
    const slow = call("Greeter.Slow").then((answer: unknown) => (events.push("answered"), answer));
    await running.promise;

    const stopping = service.stop().then(() => events.push("stopped"));
    expect(service.ready).toBe(false);
    await waitFor(
      async () => (await place.registry().getService("greeter")).length === 0 || undefined,
      "deregistration",
    );
    expect(await call("Greeter.Hello")).toEqual({ msg: "Hello x" });
    const refused = await waitFor(
      () =>
        call("Greeter.Hello").then(
          () => undefined,
          (error: unknown) => error,
        ),
      "a refusal",
    );
    finish.resolve();
    expect(refused).toMatchObject({ code: "unavailable", notRun: true });
    expect(events).toEqual([]);
    expect(await slow).toEqual({ done: true });
    await stopping;
    expect(events).toEqual(["answered", "afterStop", "stopped"]);
  });

  it("gives up on calls that outlast drainTimeoutMs, and cancels them", async () => {
    await using place = site();
    const reasons: unknown[] = [];
    const running = Promise.withResolvers<void>();
    const service = place.service({ drainTimeoutMs: 50 });
    service.handle("Greeter", {
      hang: (_request: unknown, context: { signal: AbortSignal }) =>
        new Promise((_resolve, reject) => {
          running.resolve();
          context.signal.addEventListener("abort", () => {
            reasons.push(context.signal.reason);
            reject(context.signal.reason as Error);
          });
        }),
    });
    await service.start();
    const call = place.service({ name: "c" }).call("greeter", "Greeter.Hang", {}, { retries: 0 });
    const failed = call.then(
      () => undefined,
      (error: unknown) => error,
    );
    await running.promise;
    await service.stop();
    expect(MicroError.is(await failed)).toBe(true);
    expect(reasons).toHaveLength(1);
  });

  it("may be asked for twice, at once, and before a start", async () => {
    await using place = site();
    const service = place.service();
    await service.start();
    await Promise.all([service.stop(), service.stop(), service[Symbol.asyncDispose]()]);
    await service.stop();
    await place.service().stop();
    await expect(service.call("greeter", "Greeter.Hello", {})).rejects.toMatchObject({ code: "closed" });
  });

  it("ends a start that is under way", async () => {
    await using place = site();
    const asked = Promise.withResolvers<void>();
    const hanging: Registry = {
      ...unusable("hanging"),
      getService: async () => [],
      register: (_service, options) => {
        asked.resolve();
        return new Promise((_resolve, reject) => {
          options?.signal?.addEventListener("abort", () => reject(options.signal?.reason as Error));
        });
      },
      deregister: async () => {},
    };
    const service = place.service({ registry: hanging });
    const run = service.run();
    await asked.promise;
    await service.stop();
    await run;
  });

  it("is done by the end of a using block", async () => {
    await using place = site();
    {
      await using service = place.service();
      await service.start();
      expect(await place.registry().getService("greeter")).toHaveLength(1);
    }
    expect(await place.registry().getService("greeter")).toEqual([]);
  });

  it("is started by an AbortSignal, and leaves no listener on it", async () => {
    await using place = site();
    const controller = new AbortController();
    const service = place.service({ signal: controller.signal, handleSignals: false });
    const run = service.run();
    await waitFor(() => service.ready || undefined, "the start");
    controller.abort();
    await run;
    expect(service.ready).toBe(false);

    const other = place.service({ signal: AbortSignal.abort() });
    await other.run();
    expect(place.logger.lines.filter((line) => line.includes("Starting"))).toHaveLength(1);
  });

  it("leaves no listener for signals behind", async () => {
    await using place = site();
    const before = signalListeners();
    const service = place.service();
    const run = service.run();
    await waitFor(() => service.ready || undefined, "the start");
    expect(signalListeners()).toEqual(before.map((listeners) => listeners + 1));
    await service.stop();
    await run;
    expect(signalListeners()).toEqual(before);
  });

  it("closes what the service made and leaves open what it was given", async () => {
    await using place = site();
    const registry = place.registry();
    const transport = httpTransport();
    const service = place.service({ registry, transport });
    await service.start();
    await service.stop();
    await registry.listServices();
    const listener = await transport.listen(() => {}, { address: "127.0.0.1:0" });
    await listener[Symbol.asyncDispose]();
    await transport[Symbol.asyncDispose]();

    const own = place.service({ registry: "memory" });
    const made = own.registry;
    await own.stop();
    await expect(made.listServices()).rejects.toMatchObject({ code: "closed" });
  });
});

describe("a start that fails", () => {
  it("is undone, and may be tried again", async () => {
    await using place = site();
    const blocker = net.createServer().listen(0, "127.0.0.1");
    await once(blocker, "listening");
    const { port } = blocker.address() as net.AddressInfo;
    const service = place.service({ address: `127.0.0.1:${port}` });
    await expect(service.start()).rejects.toMatchObject({ code: "unavailable" });
    expect(await place.registry().getService("greeter")).toEqual([]);
    blocker.close();
    await once(blocker, "close");
    await service.start();
    expect(service.address).toBe(`127.0.0.1:${port}`);
  });

  it("because of the registry says so, and leaves nothing listening", async () => {
    await using place = site();
    const service = place.service({ registry: unusable("broken") });
    await expect(service.start()).rejects.toMatchObject({
      code: "unavailable",
      message: "broken is down; MICRO_START_WAIT=true, --start_wait or `startWait` wait for it",
    });
    expect(place.logger.lines.filter((line) => line.includes("Listening"))).toEqual([]);
  }, 15_000);

  it("is refused while the service runs", async () => {
    await using place = site();
    const service = place.service();
    await service.start();
    await expect(service.start()).rejects.toThrow(TypeError);
  });
});

describe("the register check", () => {
  it("keeps the service out of the registry until it is true", async () => {
    await using place = site();
    let healthy = false;
    const service = place.service({ registerCheck: () => healthy, registerIntervalMs: 20, registerTtlMs: 10_000 });
    const registered = async () => (await place.registry().getService("greeter")).length === 1;
    await service.start();
    expect(await registered()).toBe(false);
    healthy = true;
    await waitFor(async () => (await registered()) || undefined, "the registration");
    healthy = false;
    await waitFor(async () => !(await registered()) || undefined, "the deregistration");
  });
});

describe("wrappers", () => {
  it("see endpoint and service, and the first listed runs first, across createService and init", async () => {
    await using place = site();
    const seen: string[] = [];
    const note = (label: string) => (next: (request: unknown, context: never) => unknown) => {
      return (request: unknown, context: { service: string; endpoint: string }) => {
        seen.push(`${label} ${context.service} ${context.endpoint}`);
        return next(request, context as never);
      };
    };
    const service = place.service({ wrapHandler: [note("handler 1"), note("handler 2")] });
    await service.init({ wrapHandler: [note("handler 3")] });
    service.handle(Greeter, { hello });
    await service.start();
    const client = place.service({
      name: "c",
      wrapClient: [note("client 1"), note("client 2")],
      wrapCall: [note("call 1"), note("call 2")],
    });
    await client.call("greeter", "Greeter.Hello", { name: "x" });
    expect(seen).toEqual(
      ["client 1", "client 2", "call 1", "call 2", "handler 1", "handler 2", "handler 3"].map(
        (label) => `${label} greeter Greeter.Hello`,
      ),
    );
  });

  it("hand typed values to the handler", async () => {
    await using place = site();
    const account = contextKey<string>("account");
    const service = place.service({
      wrapHandler: [
        (next) => (request, context) =>
          next(request, context.with(account, context.metadata.get("Authorization") ?? "nobody")),
      ],
    });
    service.handle("Greeter", {
      whoami: (_request: unknown, context: { get(key: typeof account): string | undefined }) => ({
        account: context.get(account),
      }),
    });
    await service.start();
    const client = place.service({ name: "c" });
    expect(await client.call("greeter", "Greeter.Whoami", {}, { metadata: { authorization: "john" } })).toEqual({
      account: "john",
    });
  });
});

describe("errors", () => {
  it("of a handler arrive with code, id, detail and status", async () => {
    await using place = site();
    const service = place.service();
    service.handle("Greeter", {
      bad() {
        throw badRequest("com.example.srv.service", "invalid field");
      },
      slow: (_request: unknown, { signal }: { signal: AbortSignal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason as Error));
        }),
    });
    await service.start();
    const client = place.service({ name: "c" });
    const error = await client.call("greeter", "Greeter.Bad", {}).catch((reason: unknown) => reason);
    expect(JSON.parse(JSON.stringify(error))).toEqual({
      id: "com.example.srv.service",
      code: 400,
      detail: "invalid field",
      status: "Bad Request",
    });
    const late = await client
      .call("greeter", "Greeter.Slow", {}, { timeoutMs: 100 })
      .catch((reason: unknown) => reason);
    expect(late).toMatchObject({ code: "timeout", statusCode: 408 });
  });
});

describe("plugins", () => {
  it("in code are chosen by name, by alias, by variable and by flag", async () => {
    await using place = site();
    const made: string[] = [];
    const etcd: PluginDescriptor = {
      kind: "registry",
      name: "etcd",
      flags: [{ name: "etcd_prefix", variable: "ETCD_PREFIX" }],
      create(context) {
        made.push(`${context.service} ${context.addresses.join("+")} ${context.flags?.string("etcd_prefix")}`);
        return place.registry();
      },
    };
    for (const registry of ["etcd", "etcdv3"]) {
      const service = place.service({ plugins: [etcd], registry, env: { ETCD_PREFIX: "/p" } });
      await service.init({ args: ["--registry_address=a:1,b:2"] });
      expect(service.registry.name).toBe("memory");
    }
    const byVariable = place.service({ plugins: [etcd], registry: undefined, env: { MICRO_REGISTRY: "etcdv3" } });
    await byVariable.init({ args: ["--etcd_prefix", "x"] });
    await byVariable.start();
    expect(made).toEqual(["greeter a:1+b:2 /p", "greeter a:1+b:2 /p", "greeter  x"]);
  });

  it("of every built-in kind are used", async () => {
    await using place = site();
    const made: string[] = [];
    const logger = keepingLogger();
    const plugins: PluginDescriptor[] = [
      {
        kind: "transport",
        name: "own",
        create(context) {
          made.push(`transport ${context.tls.secure}`);
          return httpTransport();
        },
      },
      {
        kind: "selector",
        name: "own",
        create(context) {
          made.push(`selector ${context.registry.name}`);
          return cachedSelector({ registry: context.registry, logger: context.logger });
        },
      },
      {
        kind: "client",
        name: "own",
        create(context) {
          made.push(`client ${context.client.from}`);
          return mucpClient(context.client);
        },
      },
      {
        kind: "logger",
        name: "own",
        create(context) {
          made.push(`logger ${context.logger.name}`);
          return logger;
        },
      },
    ];
    const server = place.service();
    server.handle(Greeter, { hello });
    await server.start();
    const client = place.service({
      name: "c",
      plugins,
      transport: "own",
      selector: "own",
      client: "own",
      logger: "own",
      timeoutMs: 1000,
    });
    expect(await client.client(Greeter).hello({ name: "x" })).toEqual({ msg: "Hello x" });
    expect(made.toSorted()).toEqual(["client c", "logger console", "selector memory", "transport false"]);
    client.logger.info("to the plugin");
    expect(logger.lines).toContain("info to the plugin");
  });

  it("by name alone need init", async () => {
    await using place = site();
    const service = place.service({ registry: "nowhere" });
    await expect(service.call("x", "Y.Z", {})).rejects.toThrow(
      'registry "nowhere" is not loaded yet: await service.init()',
    );
  });

  it("cannot share kind and name", () => {
    expect(() => createService({ plugins: [twice(), twice()] })).toThrow(
      'createService: there is already a registry plugin called "twice"',
    );
    const same = twice();
    createService({ plugins: [same, same] });
  });

  it("for the protocol of a node are asked for by package name, and used when they are there", async () => {
    await using place = site();
    const record: Service = {
      name: "spoken",
      version: "1",
      metadata: {},
      endpoints: [],
      nodes: [{ id: "spoken-1", address: "127.0.0.1:9", metadata: { protocol: "grpc" } }],
    };
    await using registry = place.registry();
    await registry.register(record);
    const without = place.service({ name: "c" });
    const error = await without.call("spoken", "A.B", {}).catch((reason: unknown) => reason);
    expect(
      MicroError.is(error) && JSON.stringify([error.detail, error.attempts.map(({ error: each }) => each.detail)]),
    ).toContain("npm i @micro/transport-grpc");

    const grpc: PluginDescriptor = {
      kind: "client",
      name: "grpc",
      create: (context) => mucpClient(context.client),
      createProtocol: () => ({ protocol: "grpc", attempt: async (request) => ({ spoken: request }) }),
    };
    const client = place.service({ name: "c", plugins: [grpc] });
    expect(await client.call("spoken", "A.B", { x: 1 })).toEqual({ spoken: { x: 1 } });
  });
});

describe("the end of the process", () => {
  it("goes through the option exit", async () => {
    await using place = site();
    const codes: number[] = [];
    const service = place.service({ args: ["--version"], version: "1.2.3", exit: (code) => void codes.push(code) });
    await expect(service.init()).rejects.toThrow(ServiceExit);
    expect(codes).toEqual([0]);
  });
});

const signalListeners = () => ["SIGINT", "SIGTERM", "SIGQUIT"].map((signal) => process.listenerCount(signal));

const twice = (): PluginDescriptor => ({ kind: "registry", name: "twice", create: () => memoryRegistry() });

function unusable(name: string): Registry {
  const down = () => Promise.reject(new MicroError(`${name} is down`, { code: "unavailable" }));
  return {
    name,
    register: down,
    deregister: down,
    getService: down,
    listServices: down,
    watch: () => ({
      ready: down(),
      async *[Symbol.asyncIterator]() {
        yield await down();
      },
      async [Symbol.asyncDispose]() {},
    }),
    async [Symbol.asyncDispose]() {},
  };
}
