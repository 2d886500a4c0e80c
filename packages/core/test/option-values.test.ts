import { describe, expect, it } from "vitest";
import {
  cachedSelector,
  consoleLogger,
  createEvent,
  createService,
  defineService,
  httpBroker,
  jsonCodecWith,
  jsonMessage,
  memoryBroker,
  memoryRegistry,
  memoryTransport,
  Metadata,
  mucpClient,
  mucpServer,
  multiRegistry,
  registrar,
  registryCache,
  registryWatcher,
  sleep,
  supervise,
  unary,
  withLimit,
  type Context,
} from "../src/index.ts";

const logger = consoleLogger({ write: () => {} });
const registry = memoryRegistry();
const message = jsonMessage("Message");
const Greeter = defineService("greeter", { hello: unary({ request: message, response: message }) });
const service = () => createService({ registry: "memory", broker: "memory", handleSignals: false });
const client = (given: object) =>
  mucpClient({ transport: memoryTransport(), selector: cachedSelector({ registry, logger }), logger, ...given });

class Shop {
  order(): void {}
}

/** Who takes the option, by the text its errors begin with. */
type Takers = Record<string, (value: any) => unknown>;

const signals: Takers = {
  "greeter Greeter.Hello": (signal) => service().call("greeter", "Greeter.Hello", {}, { signal }),
  "greeter Greeter.Count": (signal) => service().stream("greeter", "Greeter.Count", { signal }),
  "client(Greeter)": (signal) => service().client(Greeter, { signal }),
  publish: (signal) => service().publish("user.created", {}, { signal }),
  createEvent: (signal) => createEvent("user.created", service(), { signal }),
  subscribe: (signal) => service().subscribe("user.created", () => {}, { signal }),
  createService: (signal) => createService({ signal }),
  init: (signal) => service().init({ signal }),
  "registry.getService": (signal) => registry.getService("greeter", { signal }),
  "registry.watch": (signal) => registry.watch({ signal }),
  registryWatcher: (signal) => registryWatcher({ open: async () => () => {}, signal }),
  sleep: (signal) => sleep(1, { signal }),
  withLimit: (signal) => withLimit(Promise.resolve(), { what: "it", signal }),
};

const functions: Record<string, [option: string, take: (value: any) => unknown]> = {
  "greeter Greeter.Hello": ["retry", (retry) => service().call("greeter", "Greeter.Hello", {}, { retry })],
  "client(Greeter)": ["backoff", (backoff) => service().client(Greeter, { backoff })],
  subscribe: ["onError", (onError) => service().subscribe("user.created", () => {}, { onError })],
  createService: ["registerCheck", (registerCheck) => createService({ registerCheck })],
  init: ["action", (action) => service().init({ action })],
  registrar: ["check", (check) => registrar({ registry, logger, service: () => ({}) as never, check })],
  supervise: ["run", (run) => supervise({ run })],
  consoleLogger: ["redact", (redact) => consoleLogger({ redact })],
};

const lists: Record<string, [option: string, take: (value: any) => unknown]> = {
  createService: ["wrapHandler", (wrapHandler) => createService({ wrapHandler })],
  init: ["wrapSubscriber", (wrapSubscriber) => service().init({ wrapSubscriber })],
  mucpClient: ["wrapCall", (wrapCall) => client({ wrapCall })],
  mucpServer: [
    "wrapHandler",
    (wrapHandler) => mucpServer({ name: "greeter", logger, transport: memoryTransport(), wrapHandler }),
  ],
  "greeter Greeter.Hello: select": [
    "filters",
    (filters) => service().call("greeter", "Greeter.Hello", {}, { select: { filters } }),
  ],
};

async function refusal(take: () => unknown): Promise<string> {
  const error: unknown = await Promise.resolve()
    .then(take)
    .catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(TypeError);
  return (error as Error).message;
}

const refusalOf = (options: object) => refusal(() => service().call("greeter", "Greeter.Hello", {}, options));

describe("a value of the wrong kind is told of where it is passed, with what it must be and what it is", () => {
  it.each(Object.entries(signals))("%s: signals", async (what, take) => {
    for (const [value, is] of [
      [new AbortController(), "an AbortController: pass its `.signal`"],
      [() => {}, "a function: call it"],
      [Promise.resolve(), "a promise: await it"],
      [null, "null"],
      [1000, "1000"],
      ["now", '"now"'],
      [{}, "an object"],
    ] as const)
      expect(await refusal(() => take(value))).toBe(`${what}: \`signal\` must be an AbortSignal, not ${is}`);
  });

  it.each(Object.entries(functions))("%s: functions", async (what, [option, take]) => {
    for (const [value, is] of [
      [true, "true"],
      ["always", '"always"'],
      [Promise.resolve(() => {}), "a promise: await it"],
      [[() => {}], "a list"],
    ] as const)
      expect(await refusal(() => take(value))).toBe(`${what}: \`${option}\` must be a function, not ${is}`);
  });

  it.each(Object.entries(lists))("%s: lists of functions", async (what, [option, take]) => {
    for (const [value, is] of [
      [() => {}, "a function: put it into a list, [ … ]"],
      [[5], "a list with 5 at [0]"],
      [[() => {}, undefined], "a list with undefined at [1]"],
      [{ 0: () => {} }, "an object"],
    ] as const)
      expect(await refusal(() => take(value))).toBe(`${what}: \`${option}\` must be a list of functions, not ${is}`);
  });

  it.each<[option: string, value: () => unknown, text: string]>([
    [
      "logger",
      () => ({ info() {}, warn() {}, error() {} }),
      "without `enabled`, `log`, `trace`, `debug`, `child`; docs/",
    ],
    ["logger", () => console, "an object without `enabled`, `child`; docs/logging.md shows how to hand in another"],
    ["registry", () => ({}), "an object without `register`, `deregister`, `getService`, `listServices`, `watch`"],
    ["registry", () => memoryRegistry, "a function: call it, `memoryRegistry()`"],
    ["registry", () => Promise.resolve(registry), "a promise: await it"],
    ["registry", () => memoryBroker(), "a broker"],
    ["registry", () => service(), "a ComposedService: pass its `.registry`"],
    ["registry", () => Shop, "a class: make one, `new Shop()`"],
    ["registry", () => "", '""'],
    ["registry", () => [registry], "a list"],
    ["broker", () => registry, "a registry"],
    ["broker", () => memoryBroker, "a function: call it, `memoryBroker()`"],
    ["transport", () => ({ name: "x" }), "an object without `call`, `open`, `listen`"],
    ["selector", () => memoryTransport(), "a transport"],
    ["client", () => 5, "5"],
    ["server", () => null, "null"],
    ["address", () => 8080, "8080"],
    ["registryAddress", () => "127.0.0.1:2379", '"127.0.0.1:2379": put it into a list, [ … ]'],
    ["brokerAddress", () => [4222], "a list with 4222 at [0]"],
    ["contentType", () => ({}), "an object"],
    ["secure", () => "true", '"true"'],
    ["codecs", () => jsonCodecWith({}), 'a codec: say of what, as in { "application/x": codec }'],
    ["codecs", () => ({ "application/x": 5 }), 'an object with 5 for "application/x"'],
    ["beforeStart", () => [5], "a list with 5 at [0]"],
    ["beforeStart", () => Promise.resolve(), "a promise: await it"],
    ["wrapHandler", () => [[() => {}]], "a list with a list at [0]"],
    ["plugins", () => ({}), "an object"],
  ])("createService: %s", async (option, value, text) => {
    const told = await refusal(() => createService({ [option]: value() }));
    expect(told).toContain(`createService: \`${option}\` must be `);
    expect(told).toContain(text);
  });

  it("pieces of other pieces", async () => {
    expect(await refusal(() => client({ transport: registry }))).toBe(
      "mucpClient: `transport` must be a transport, not a registry",
    );
    expect(await refusal(() => client({ broker: 5 }))).toBe(
      "mucpClient: `broker` must be a broker, or a function that gives one, not 5",
    );
    expect(await refusal(() => httpBroker({ registry: memoryRegistry as never }))).toBe(
      "httpBroker: `registry` must be a registry, not a function: call it, `memoryRegistry()`",
    );
    expect(await refusal(() => registryCache({ registry, logger: {} } as never))).toContain(
      "registryCache: `logger` must be a logger, not an object without `enabled`",
    );
    expect(await refusal(() => multiRegistry({ write: registry } as never))).toBe(
      "multiRegistry: `write` must be a list of registries, not a MemoryRegistry: put it into a list, [ … ]",
    );
  });

  it.each([
    ["shop", '"shop": by its name a service is called with `call`'],
    [undefined, "undefined"],
    [null, "null"],
    [{ Greeter }, "an object: pass its `.Greeter`"],
    [Promise.resolve(Greeter), "a promise: await it"],
  ])("a client of %j", async (definition, is) => {
    const needed =
      "client: the first argument must be a service definition, as defineService() or protoc-gen-micro makes it";
    expect(await refusal(() => service().client(definition as never))).toBe(`${needed}, not ${is}`);
    expect(await refusal(() => client({}).client(definition as never))).toBe(`${needed}, not ${is}`);
  });

  it.each<[value: unknown, text: string]>([
    ["tenant", '`metadata` must be metadata: an object of texts, a list of pairs, or a Metadata, not "tenant"'],
    [5, "`metadata` must be metadata: an object of texts, a list of pairs, or a Metadata, not 5"],
    [null, "`metadata` must be metadata: an object of texts, a list of pairs, or a Metadata, not null"],
    [
      Promise.resolve({}),
      "`metadata` must be metadata: an object of texts, a list of pairs, or a Metadata, not a promise: await it",
    ],
    [{ tenant: 5 }, 'metadata "tenant": the value must be a string, not number'],
    [{ "a b": "c" }, 'metadata: "a b" cannot be a name'],
  ])("metadata %j", async (metadata, text) => {
    for (const take of [
      () => service().call("greeter", "Greeter.Hello", {}, { metadata: metadata as never }),
      () => service().stream("greeter", "Greeter.Count", { metadata: metadata as never }),
      () => service().client(Greeter, { metadata: metadata as never }),
      () => service().publish("user.created", {}, { metadata: metadata as never }),
      () => createEvent("user.created", service(), { metadata: metadata as never }),
    ])
      expect(await refusal(take)).toContain(text);
  });

  it("values of calls are quoted as they are", async () => {
    expect(await refusalOf({ retries: "1" })).toBe(
      'greeter Greeter.Hello: `retries` must be a number of at least 0, not "1"',
    );
    expect(await refusalOf({ timeoutMs: "5s" })).toBe(
      'greeter Greeter.Hello: `timeoutMs` must be a number of milliseconds, not "5s"',
    );
    expect(await refusalOf({ address: 8080 })).toBe(
      "greeter Greeter.Hello: `address` must be `host:port`, or a list of at least one of them, not 8080",
    );
    expect(await refusalOf({ address: [] })).toContain("`address` must be");
    expect(await refusalOf({ select: 5 })).toContain("select");
    expect(await refusalOf({ select: { strategy: 5 } })).toBe(
      "greeter Greeter.Hello: select: `strategy` must be a function, or the name of one, not 5",
    );
  });
});

it("an error of what was passed ends in the frame that passed it", async () => {
  const given = { metadata: { "a b": "c" } };
  async function ofTheProgram(): Promise<unknown> {
    return await service().client(Greeter).hello({}, given);
  }
  async function byName(): Promise<unknown> {
    return await service().call("greeter", "Greeter.Hello", {}, given);
  }
  for (const call of [ofTheProgram, byName]) {
    const error = await call().catch((reason: Error) => reason);
    expect((error as Error).stack).toContain(call.name);
  }
});

it("what is right in another copy, realm or form passes", async () => {
  const foreign = {
    aborted: false,
    reason: undefined,
    addEventListener() {},
    removeEventListener() {},
  };
  await sleep(0, { signal: foreign as never });
  const made = createService({
    registry,
    logger,
    client: service().client,
    env: {},
    args: [],
    metadata: { zone: "a" },
  });
  expect(made.registry).toBe(registry);
  expect(() => service().client(Greeter, { metadata: new Map([["a", "b"]]), signal: undefined })).not.toThrow();
  expect(() => service().client(Greeter, { metadata: new Metadata({ a: "b" }) })).not.toThrow();
  expect(() => createService({ beforeStart: () => {}, afterStart: [() => {}], codecs: new Map() })).not.toThrow();
});

it("a call whose signal is a controller is refused at once where the node is known, and ends no process at its deadline", async () => {
  await using server = createService({ name: "shop", registry, address: "127.0.0.1:0", logger, spreadMs: 0 });
  server.handle("Shop", {
    order: (_: unknown, { signal }: Context) =>
      new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error))),
  });
  await server.start();
  const options = { address: server.address!, timeoutMs: 20, signal: new AbortController() as never };
  expect(await refusal(() => server.call("shop", "Shop.Order", {}, options))).toBe(
    "shop Shop.Order: `signal` must be an AbortSignal, not an AbortController: pass its `.signal`",
  );
  await expect(server.call("shop", "Shop.Order", {}, { ...options, signal: undefined })).rejects.toMatchObject({
    code: "timeout",
  });
});
