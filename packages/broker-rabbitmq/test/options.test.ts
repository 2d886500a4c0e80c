import { plugins, rabbitmqBroker } from "@micro/broker-rabbitmq";
import type { RabbitmqBrokerOptions, RabbitmqPublishOptions, RabbitmqSubscribeOptions } from "@micro/broker-rabbitmq";
import { memoryRegistry, silentLogger } from "@micro/core";
import type { BrokerPluginContext } from "@micro/core";
import { describe, expect, it } from "vitest";
import { Acknowledger } from "../src/acknowledger.ts";
import type { AmqpChannel } from "../src/amqp-client.ts";
import { keyMatcher } from "../src/messages.ts";
import { readOptions } from "../src/options.ts";
import { at } from "./support/list.ts";

const pem = "-----BEGIN CERTIFICATE-----\n";

const context = (values: Record<string, string>, part: Partial<BrokerPluginContext> = {}): BrokerPluginContext => ({
  service: "greeter",
  version: "1",
  logger: silentLogger,
  addresses: [],
  domain: undefined,
  tls: { secure: false, tls: undefined } as BrokerPluginContext["tls"],
  flags: { string: (name: string) => values[name] ?? "" } as BrokerPluginContext["flags"],
  registry: memoryRegistry(),
  ...part,
});

/** Remembers what it is told. */
function channel() {
  const words: unknown[] = [];
  const open = {
    isOpen: true,
    isEnding: false,
    ack: (tag: number, upTo: boolean) => !open.isEnding && words.push([tag, upTo]) > 0,
    reject: (tag: number, requeue: boolean) => !open.isEnding && words.push([tag, requeue ? "back" : "drop"]) > 0,
  };
  return { words, open, channel: open as unknown as AmqpChannel };
}

describe("addresses", () => {
  const local = { host: "127.0.0.1", port: 5672, address: "127.0.0.1:5672", secure: false };
  const guest = { user: "guest", password: "guest", vhost: "/" };
  for (const [address, expected] of [
    ["127.0.0.1", { ...local, ...guest }],
    ["127.0.0.1:5672", { ...local, ...guest }],
    ["amqp://127.0.0.1/", { ...local, ...guest }],
    ["amqp://me:p%40ss@127.0.0.1:5672/a%2Fb", { ...local, user: "me", password: "p@ss", vhost: "a/b" }],
    ["amqp://me@127.0.0.1", { ...local, user: "me", password: "", vhost: "/" }],
    ["amqps://mq.example", { host: "mq.example", port: 5671, address: "mq.example:5671", secure: true, ...guest }],
    ["amqp://[::1]:7000", { host: "::1", port: 7_000, address: "[::1]:7000", secure: false, ...guest }],
  ] as const)
    it(address, () => {
      expect(readOptions({ addresses: [address] }).nodes).toEqual([expected]);
    });

  it("get the user and TLS of the options where they have none of their own", () => {
    const { nodes } = readOptions({ addresses: ["a", "amqp://x:y@b:1"], user: "me", password: "secret", tls: {} });
    expect(nodes).toMatchObject([
      { user: "me", password: "secret", secure: true, port: 5_671 },
      { user: "x", password: "y", secure: true, port: 1 },
    ]);
  });
});

describe("options that make no sense are refused by name", () => {
  const bad: readonly [RabbitmqBrokerOptions | object, RegExp][] = [
    [{ addresses: [] }, /`addresses`/],
    [{ addresses: "127.0.0.1" }, /`addresses`/],
    [{ addresses: ["http://a"] }, /address "http:\/\/a"/],
    [{ addresses: ["amqp://a:1/b/c"] }, /address/],
    [{ addresses: ["amqp://a?heartbeat=5"] }, /address/],
    [{ addresses: ["a:70000"] }, /address/],
    [{ addresses: ["amqp://%zz:x@a"] }, /address/],
    [{ addresses: [7] }, /address 7/],
    [{ user: "me" }, /`user` and `password`/],
    [{ exchange: "" }, /`exchange`/],
    [{ exchange: "x".repeat(256) }, /`exchange`/],
    [{ exchangeKind: "headers" }, /`exchangeKind`/],
    [{ heartbeatMs: 10 }, /`heartbeatMs`/],
    [{ maxWaiting: -1 }, /`maxWaiting`/],
    [{ maxUnconfirmed: 0 }, /`maxUnconfirmed`/],
    [{ maxUnconfirmedBytes: "1 MiB" }, /`maxUnconfirmedBytes`/],
    [{ tls: { ca: "ca.pem" } }, /`tls.ca` must be PEM/],
    [{ tls: { cert: pem } }, /`tls.cert` and `tls.key`/],
    [{ externalAuth: true }, /`externalAuth` needs TLS/],
    [{ adresses: ["a"] }, /rabbitmqBroker: there is no option `adresses`; did you mean `addresses`/],
    [{ heartbeat: 5_000 }, /`heartbeat`; did you mean `heartbeatMs`/],
    [{ tls: { certs: pem } }, /rabbitmqBroker: tls: there is no option `certs`; did you mean `cert`/],
  ];
  for (const [options, pattern] of bad)
    it(JSON.stringify(options), () => {
      expect(() => rabbitmqBroker(options)).toThrow(pattern);
      expect(() => rabbitmqBroker(options)).toThrow(TypeError);
    });

  it("and no password is shown", () => {
    expect(() => rabbitmqBroker({ addresses: ["amqp://me:secret@host:port/"] })).toThrow(/^(?!.*secret)/);
  });

  const subscriptions: readonly [string | undefined, RabbitmqSubscribeOptions | object, RegExp][] = [
    ["q", { queueType: "stream" }, /queueType/],
    ["q", { queueType: "quorum", durable: false }, /durable/],
    [undefined, { durable: true }, /durable/],
    ["q", { onFailure: "drop" }, /onFailure/],
    ["q", { queueType: "quorum", deliveryLimit: 0 }, /deliveryLimit` must be/],
    ["q", { queueType: "quorum", deliveryLimit: -1 }, /deliveryLimit` must be/],
    ["q", { queueType: "quorum", deliveryLimit: "off" }, /deliveryLimit` must be/],
    ["q", { deliveryLimit: 5 }, /deliveryLimit` is one of quorum queues: set `queueType: "quorum"`/],
    ["q", { queueType: "quorum", deliveryLimit: 5, arguments: { "x-delivery-limit": 5 } }, /say the same/],
    ["q", { priority: 1.5 }, /priority/],
    ["q", { arguments: { "x-a": null } }, /arguments/],
    ["q", { bindingArguments: { x: [] } }, /bindingArguments/],
    ["amq.q", {}, /amq\./],
    ["q".repeat(256), {}, /255/],
    ["q", { queuetype: "quorum" }, /subscribe: rabbitmq: there is no option `queuetype`; did you mean `queueType`/],
    ["q", 5 as unknown as object, /subscribe: rabbitmq: options are an object/],
  ];
  it("of a subscription", async () => {
    await using broker = rabbitmqBroker({ addresses: ["127.0.0.1:9"] });
    for (const [queue, rabbitmq, pattern] of subscriptions)
      expect(() => broker.subscribe("a", () => {}, { queue, rabbitmq })).toThrow(pattern);
  });

  const publishes: readonly (RabbitmqPublishOptions | object)[] = [
    { priority: 256 },
    { expirationMs: -1 },
    { expirationMs: "1s" },
    { timestamp: 5 },
    { messageId: 7 },
    { type: "x".repeat(256) },
    { expiration: 1_000 },
    { persistant: true },
  ];
  it("of a publish", async () => {
    await using broker = rabbitmqBroker({ addresses: ["127.0.0.1:9"] });
    for (const rabbitmq of publishes)
      await expect(broker.publish("a", { body: new Uint8Array(0) }, { rabbitmq })).rejects.toThrow(TypeError);
  });
});

describe("the plugin", () => {
  it("reads addresses, flags and certificates", async () => {
    const plugin = at(plugins);
    expect([plugin.kind, plugin.name]).toEqual(["broker", "rabbitmq"]);
    await using plain = plugin.create(context({}));
    expect(plain.address).toBe("127.0.0.1:5672");
    await using two = plugin.create(context({}, { addresses: ["amqp://u:p@10.0.0.5", "10.0.0.6"] }));
    expect(two.address).toBe("10.0.0.5:5672");
    await using secure = plugin.create(context({}, { addresses: ["amqps://10.0.0.5"] }));
    expect(secure.address).toBe("10.0.0.5:5671");
    expect(() => plugin.create(context({ rabbitmq_durable: "yes" }))).toThrow(/rabbitmq_durable/);
    expect(() => plugin.create(context({ rabbitmq_user: "me" }))).toThrow(/`user` and `password`/);
    for (const flag of plugin.flags ?? []) expect(flag.variable).toBe(flag.name.toUpperCase());
  });
});

describe("topics with wildcards", () => {
  for (const [pattern, matching, others] of [
    ["a.b", ["a.b"], ["a", "a.b.c", "a.x"]],
    ["a.*", ["a.b", "a."], ["a", "a.b.c", "b.b"]],
    ["*.b", ["a.b"], ["b", "a.a.b"]],
    ["a.#", ["a", "a.b", "a.b.c"], ["b", "ab"]],
    ["#", ["", "a", "a.b"], []],
    ["#.b", ["b", "a.b", "a.a.b"], ["b.a"]],
    ["a.#.c.*", ["a.c.d", "a.b.c.d", "a.c.c.c"], ["a.c", "a.b.d"]],
    ["a*", ["a*"], ["ab"]],
  ] as const)
    it(pattern, () => {
      const matches = keyMatcher(pattern);
      for (const key of matching) expect([key, matches(key)]).toEqual([key, true]);
      for (const key of others) expect([key, matches(key)]).toEqual([key, false]);
    });
});

describe("acknowledgements", () => {
  it("are one word for what follows each other, and never for what is not settled", () => {
    const { words, channel: to } = channel();
    const acknowledger = new Acknowledger(to, () => {});
    for (let tag = 1; tag <= 8; tag++) acknowledger.took(tag);
    for (const tag of [2, 1, 3, 5, 8]) acknowledger.ack(tag);
    acknowledger.flush();
    expect(words.splice(0)).toEqual([
      [3, true],
      [5, false],
      [8, false],
    ]);
    acknowledger.reject(4, true);
    acknowledger.ack(6);
    acknowledger.flush();
    expect(words.splice(0)).toEqual([
      [4, "back"],
      [6, true],
    ]);
    acknowledger.ack(7);
    acknowledger.flush();
    acknowledger.flush();
    expect(words).toEqual([[7, true]]);
  });

  it("that come too late are counted", async () => {
    const { words, open, channel: to } = channel();
    let lost = 0;
    const acknowledger = new Acknowledger(to, (count) => (lost += count));
    for (let tag = 1; tag <= 3; tag++) acknowledger.took(tag);
    expect(acknowledger.ack(1)).toBe(true);
    open.isOpen = false;
    await new Promise((resolve) => setImmediate(resolve));
    expect([lost, words]).toEqual([1, []]);
    expect(acknowledger.ack(2)).toBe(false);
    acknowledger.reject(3, true);
    expect(words).toEqual([]);
  });

  it("that come while the channel ends are counted, too", () => {
    const { open, channel: to } = channel();
    let lost = 0;
    const acknowledger = new Acknowledger(to, (count) => (lost += count));
    for (let tag = 1; tag <= 5; tag++) acknowledger.took(tag);
    for (const tag of [1, 2, 4]) acknowledger.ack(tag);
    open.isEnding = true;
    acknowledger.flush();
    expect(lost).toBe(3);
  });
});
