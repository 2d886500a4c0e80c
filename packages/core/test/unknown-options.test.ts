import { describe, expect, it } from "vitest";
import {
  cachedSelector,
  cacheWrapper,
  consoleLogger,
  createService,
  debugHandlers,
  defineService,
  defineTopic,
  createEvent,
  eventPublisher,
  httpBroker,
  httpTransport,
  jitteredBackoff,
  jsonCodecWith,
  jsonMessage,
  logRing,
  mdnsRegistry,
  memoryBroker,
  memoryRegistry,
  memoryTransport,
  mucpClient,
  mucpServer,
  multiRegistry,
  powerOfTwoChoices,
  protoMessage,
  randomChoice,
  registrar,
  registryCache,
  registryWatcher,
  roundRobin,
  sleep,
  spanRing,
  Subscribers,
  supervise,
  unary,
  withLimit,
} from "../src/index.ts";
import {
  brokerConformance,
  clientConformance,
  codecConformance,
  faultProxy,
  registryConformance,
  selectorConformance,
  serverConformance,
  transportConformance,
} from "@micro/testing";

const logger = consoleLogger({ write: () => {} });
const registry = memoryRegistry();
const record = { name: "greeter", version: "1", metadata: {}, endpoints: [], nodes: [] };
const greeting = jsonMessage("Greeting");
const definition = defineService("greeter", { hello: unary({ request: greeting, response: greeting }) });
const runner = { describe: () => {}, it: () => {} } as never;
const fixture = (): never => {
  throw new Error("no suite runs here");
};

/** Who takes options, what is misspelt, what is meant. The error begins with the key; arguments are as users have them. */
const takers: Record<string, [wrong: string, meant: string, take: (options: any) => unknown]> = {
  mucpClient: [
    "timeout",
    "timeoutMs",
    (wrong) =>
      mucpClient({ transport: memoryTransport(), selector: cachedSelector({ registry, logger }), logger, ...wrong }),
  ],
  "greeter Greeter.Hello": [
    "timeout",
    "timeoutMs",
    (wrong) => createService({ registry: "memory" }).call("greeter", "Greeter.Hello", {}, wrong),
  ],
  "greeter Greeter.Count": [
    "streamTimeout",
    "streamTimeoutMs",
    (wrong) => createService({ registry: "memory" }).client.stream("greeter", "Greeter.Count", wrong),
  ],
  "greeter Greeter.Hello: select": [
    "filter",
    "filters",
    (select) => createService({ registry: "memory" }).client(definition).hello({}, { select }),
  ],
  "client(Greeter)": ["servise", "service", (wrong) => createService({ registry: "memory" }).client(definition, wrong)],
  httpTransport: ["maxMessageByte", "maxMessageBytes", httpTransport],
  "httpTransport: tls": ["certificate", "", (tls) => httpTransport({ tls })],
  "createService: tls": ["serverName", "servername", (tls) => createService({ tls })],
  "createService: debug": ["logs", "log", (debug) => createService({ debug })],
  "createService: probes": ["readiness", "", (probes) => createService({ probes })],
  "flags: --colour": [
    "vairable",
    "variable",
    (wrong) => createService({ flags: [{ name: "colour", ...wrong }], args: [], env: {} }).init(),
  ],
  run: ["worker", "workers", (wrong) => createService({ registry: "memory" }).run(wrong)],
  "handle(Greeter)": ["intern", "internal", (wrong) => createService().handle("Greeter", { hello() {} }, wrong)],
  mucpServer: [
    "maxConcurency",
    "maxConcurrency",
    (wrong) => mucpServer({ name: "greeter", logger, transport: memoryTransport(), ...wrong }),
  ],
  "server.start": [
    "holds",
    "hold",
    (wrong) => mucpServer({ name: "greeter", logger, transport: memoryTransport() }).start(wrong),
  ],
  Subscribers: [
    "wrapSubscribers",
    "wrapSubscriber",
    (wrong) => new Subscribers({ service: "greeter", logger, broker: undefined, ...wrong }),
  ],
  debugHandlers: ["trace", "traces", (wrong) => debugHandlers({ ...wrong } as never)],
  eventPublisher: ["codec", "codecs", eventPublisher],
  httpBroker: ["maxPublish", "maxPublishes", (wrong) => httpBroker({ registry, ...wrong })],
  "httpBroker: tls": ["certificate", "", (tls) => httpBroker({ registry, tls })],
  memoryBroker: ["maxWaitng", "maxWaiting", memoryBroker],
  cachedSelector: ["ttl", "ttlMs", (wrong) => cachedSelector({ registry, logger, ...wrong })],
  powerOfTwoChoices: ["rnadom", "random", powerOfTwoChoices],
  randomChoice: ["rnadom", "random", randomChoice],
  roundRobin: ["rnadom", "random", roundRobin],
  cacheWrapper: ["maxEntrys", "maxEntries", cacheWrapper],
  consoleLogger: ["levle", "level", consoleLogger],
  logRing: ["sise", "size", (wrong) => logRing({ logger, ...wrong })],
  spanRing: ["sise", "size", spanRing],
  jsonCodecWith: ["maxPart", "maxParts", jsonCodecWith],
  protoMessage: ["jsonName", "jsonNames", (wrong) => protoMessage({ encode() {}, decode() {} } as never, wrong)],
  'defineTopic("user.created")': [
    "contenttype",
    "contentType",
    (wrong) => defineTopic("user.created", greeting, wrong),
  ],
  defineService: ["tpye", "type", (wrong) => defineService("greeter", {}, wrong)],
  unary: ["metdata", "metadata", (wrong) => unary({ request: greeting, response: greeting, ...wrong })],
  "unary: value": ["requests", "request", (value) => unary({ request: greeting, response: greeting, value })],
  jitteredBackoff: ["maxDelay", "maxDelayMs", jitteredBackoff],
  memoryRegistry: ["service", "services", memoryRegistry],
  mdnsRegistry: ["ttl", "ttlSeconds", mdnsRegistry],
  multiRegistry: ["reads", "read", (wrong) => multiRegistry({ write: [registry], ...wrong })],
  registryCache: ["ttl", "ttlMs", (wrong) => registryCache({ registry, logger, ...wrong })],
  registryWatcher: ["maxQueue", "maxQueued", (wrong) => registryWatcher({ open: async () => () => {}, ...wrong })],
  registrar: ["interval", "intervalMs", (wrong) => registrar({ registry, logger, service: () => record, ...wrong })],
  "registry.register": ["ttl", "ttlMs", (wrong) => registry.register(record, wrong)],
  "registry.watch": ["servise", "service", (wrong) => registry.watch(wrong)],
  supervise: ["stableAfter", "stableAfterMs", (wrong) => supervise({ run: async () => {}, ...wrong })],
  sleep: ["singal", "signal", (wrong) => sleep(1, wrong)],
  withLimit: ["timeout", "timeoutMs", (wrong) => withLimit(Promise.resolve(), { what: "nothing", ...wrong })],
  faultProxy: ["tarrget", "target", faultProxy],
  brokerConformance: ["patience", "patienceMs", (wrong) => brokerConformance(runner, fixture, wrong)],
  clientConformance: ["skips", "skip", (wrong) => clientConformance(runner, fixture, wrong)],
  codecConformance: ["skips", "skip", (wrong) => codecConformance(runner, fixture, { samples: [], ...wrong })],
  registryConformance: ["minTtl", "minTtlMs", (wrong) => registryConformance(runner, fixture, wrong)],
  selectorConformance: ["settle", "settleMs", (wrong) => selectorConformance(runner, fixture, wrong)],
  serverConformance: ["skips", "skip", (wrong) => serverConformance(runner, fixture, wrong)],
  transportConformance: ["skips", "skip", (wrong) => transportConformance(runner, fixture, wrong)],
};

const events = () => createService({ registry: "memory", broker: "memory" });

describe("an option that does not exist is refused, and the nearest one named", () => {
  it.each(Object.entries(takers))("%s", async (what, [wrong, meant, take]) => {
    const error: unknown = await Promise.resolve()
      .then(() => take({ [wrong]: 1 }))
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(TypeError);
    expect((error as Error).message).toBe(
      `${what}: there is no option \`${wrong}\`${meant === "" ? "" : `; did you mean \`${meant}\`?`}`,
    );
  });

  it.each<[string, string, (options: any) => unknown]>([
    ["subscribe", "queue", (wrong) => events().subscribe("user.created", () => {}, wrong)],
    ["subscribe", "internal", (wrong) => events().subscribe("user.created", () => {}, wrong)],
    ["publish", "timeoutMs", (wrong) => events().publish("user.created", {}, wrong)],
    ["publish", "metadata", (wrong) => events().publish("user.created", {}, wrong)],
    ["publish", "exchange", (wrong) => createEvent("user.created", events()).publish({}, wrong)],
    ["createEvent", "contentType", (wrong) => createEvent("user.created", events(), wrong)],
  ])("%s takes %s, and nothing that is called nearly so", async (what, meant, take) => {
    const wrong = meant.slice(0, -1);
    // An object might be what another broker has.
    for (const value of [1, {}]) {
      const error: unknown = await Promise.resolve()
        .then(() => take({ [wrong]: value }))
        .catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(TypeError);
      expect((error as Error).message).toBe(`${what}: there is no option \`${wrong}\`; did you mean \`${meant}\`?`);
    }
  });

  it("what a client of another kind calls metadata is refused", async () => {
    for (const name of ["headers", "header"])
      await expect(events().publish("user.created", {}, { [name]: { tenant: "acme" } })).rejects.toThrow(
        `publish: there is no option \`${name}\`; did you mean \`metadata\`?`,
      );
  });

  it("no broker that there is has a name that is taken for a slip", async () => {
    const brokers =
      "gocloud googlepubsub grpc http kafka memory mqtt nats nsq proxy pulsar rabbitmq redis segmentio snssqs sqs stan stomp";
    const options = Object.fromEntries(brokers.split(" ").map((name) => [name, {}]));
    await using service = events();
    await service.publish("user.created", {}, options);
    await service.subscribe("user.created", () => {}, options).unsubscribe();
  });

  it("calls with their options as a number or text are refused, too", async () => {
    await using service = createService({ registry: "memory", handleSignals: false });
    for (const [wrong, named] of [
      [100, "100"],
      ["100", '"100"'],
      [null, "null"],
    ] as const)
      await expect(service.call("greeter", "Greeter.Hello", {}, wrong as never)).rejects.toThrow(
        `greeter Greeter.Hello: options are an object, such as { address: … }, not ${named}`,
      );
  });
});
