import { kafkaBroker, plugins } from "@micro/broker-kafka";
import { memoryRegistry, MicroError, silentLogger, type BrokerPluginContext, type FlagValues } from "@micro/core";
import { describe, expect, it } from "vitest";
import { fromKafka } from "../src/errors.ts";
import { assignRanges } from "../src/range-assigner.ts";
import { PartitionProgress } from "../src/progress.ts";

const pem = "-----BEGIN CERTIFICATE-----";
const sasl = { mechanism: "plain", username: "app", password: "apw" } as const;

describe("Kafka options", () => {
  it.each<[object, RegExp]>([
    [{ addresses: [] }, /addresses/],
    [{ addresses: ["a:b"] }, /a:b/],
    [{ addresses: ["host:99999"] }, /host:99999/],
    [{ addresses: ["kafka://host"] }, /kafka:\/\/host/],
    [{ addresses: ["[::1]:9092"] }, /IPv6/],
    [{ addresses: [7 as unknown as string] }, /address 7/],
    [{ clientId: "" }, /clientId/],
    [{ acks: "some" as "all" }, /acks/],
    [{ compression: "snappy" as "gzip" }, /compression/],
    [{ tls: { cert: pem } }, /tls\.key/],
    [{ tls: { ca: "/etc/ca.pem" } }, /tls\.ca/],
    [{ sasl: { ...sasl, mechanism: "gssapi" as "plain" } }, /mechanism/],
    [{ sasl: { ...sasl, password: "" } }, /password/],
    [{ createTopics: { partitions: 0 } }, /createTopics\.partitions/],
    [{ createTopics: { replicationFactor: 1.5 } }, /createTopics\.replicationFactor/],
    [{ createTopics: { config: { "retention.ms": 7 as unknown as string } } }, /retention\.ms/],
    [{ sessionTimeoutMs: 0 }, /sessionTimeoutMs/],
    [{ heartbeatIntervalMs: 10_000 }, /heartbeatIntervalMs/],
    [{ requestTimeoutMs: Number.NaN }, /requestTimeoutMs/],
    [{ maxWaiting: -1 }, /maxWaiting/],
    [{ brokers: ["a"] }, /kafkaBroker: there is no option `brokers`$/],
    [{ adresses: ["a"] }, /`adresses`; did you mean `addresses`/],
    [{ sessionTimeout: 5 }, /`sessionTimeout`; did you mean `sessionTimeoutMs`/],
    [{ tls: { ca: pem, serverName: "a" } }, /kafkaBroker: tls: .*`servername`/],
    [{ sasl: { ...sasl, user: "app" } as unknown as typeof sasl }, /kafkaBroker: sasl: there is no option `user`/],
    [{ createTopics: { partition: 3 } }, /kafkaBroker: createTopics: .*`partitions`/],
    [{ maxWaitMs: "5" as unknown as number }, /maxWaitMs/],
  ])("refuse %o", (options, message) => {
    expect(() => kafkaBroker(options)).toThrow(TypeError);
    expect(() => kafkaBroker(options)).toThrow(message);
  });

  it("have defaults, and connect nothing", async () => {
    await using broker = kafkaBroker();
    expect(broker.name).toBe("kafka");
    expect(broker.address).toBe("127.0.0.1:9092");
    expect(process.getActiveResourcesInfo().filter((kind) => kind.startsWith("TCP"))).toEqual([]);
  });

  it("take addresses without a port", async () => {
    await using broker = kafkaBroker({ addresses: ["kafka.example"] });
    expect(broker.address).toBe("kafka.example:9092");
  });
});

describe("Kafka topics", () => {
  it.each(["a b", "ä", "a/b", ".", "..", "a*", "x".repeat(250)])("cannot be called %j", async (topic) => {
    await using broker = kafkaBroker();
    const wrong = expect.objectContaining({ code: "bad_request" });
    await expect(broker.publish(topic, { body: new Uint8Array(0) })).rejects.toEqual(wrong);
    expect(() => broker.subscribe(topic, () => {})).toThrow(wrong);
    expect(() => broker.subscribe("a", () => {}, { deadLetter: topic })).toThrow(wrong);
  });

  it("are published to with keys and partitions that make sense", async () => {
    await using broker = kafkaBroker();
    const body = new Uint8Array(0);
    for (const kafka of [
      { partition: -1 },
      { partition: 1.5 },
      { key: 7 as unknown as string },
      { keys: "a" } as object,
    ])
      await expect(broker.publish("a", { body }, { kafka })).rejects.toThrow(TypeError);
    expect(() => broker.subscribe("a", () => {}, { kafka: { start: "here" as "newest" } })).toThrow(TypeError);
    expect(() => broker.subscribe("a", () => {}, { kafka: { begin: "oldest" } as object })).toThrow(
      "subscribe: kafka: there is no option `begin`",
    );
  });
});

const context = (flags: Record<string, string>, part: Partial<BrokerPluginContext> = {}): BrokerPluginContext => ({
  service: "greeter",
  version: "1",
  logger: silentLogger,
  addresses: [],
  domain: undefined,
  tls: { secure: false, tls: undefined, insecureSkipVerify: false },
  flags: { string: (name: string) => flags[name] ?? "" } as FlagValues,
  registry: memoryRegistry(),
  ...part,
});
const create = (...given: Parameters<typeof context>) => plugins.at(0)!.create(context(...given));

describe("the plugin", () => {
  it("is a broker called kafka", async () => {
    expect(plugins.map(({ kind, name }) => [kind, name])).toEqual([["broker", "kafka"]]);
    await using broker = create({});
    expect(broker.address).toBe("127.0.0.1:9092");
  });

  it("takes the service's addresses, its flags and its certificates", async () => {
    await using broker = create({}, { addresses: ["a:1", "b"] });
    expect(broker.address).toBe("a:1");
    const user = { kafka_username: "app", kafka_password: "apw" };
    expect(() => create({ ...user, kafka_mechanism: "gssapi" })).toThrow(/mechanism/);
    const tls = { secure: true, tls: { ca: "/etc/ca.pem" }, insecureSkipVerify: false };
    expect(() => create(user, { tls })).toThrow(/tls\.ca/);
    await using _ = create(user, { tls: { ...tls, tls: { ca: [pem, pem] } } });
  });
});

describe("partitions", () => {
  it("are shared out among the members that asked for their topic, as Go and Java do", () => {
    const members = [
      { memberId: "c", topics: ["one", "two"] },
      { memberId: "a", topics: ["one"] },
      { memberId: "b", topics: ["one", "gone"] },
    ];
    const partitions: Record<string, number[]> = { one: [0, 1, 2, 3], two: [1, 0], gone: [] };
    const assigned = assignRanges(members, (topic) => partitions[topic] ?? []);
    expect(Object.fromEntries([...assigned].map(([id, topics]) => [id, Object.fromEntries(topics)]))).toEqual({
      a: { one: [0, 1] },
      b: { one: [2] },
      c: { one: [3], two: [0, 1] },
    });
  });

  it("are committed up to the first message that is not settled", () => {
    const progress = new PartitionProgress(0, 10);
    const a = progress.take(10);
    const b = progress.take(12);
    const c = progress.take(13);
    expect(progress.position).toBe(14);
    expect(progress.settle(b)).toBe(false);
    expect(progress.watermark).toBe(10);
    expect(progress.settle(a)).toBe(true);
    expect(progress.watermark).toBe(13);
    expect(progress.ahead).toBe(1);
    progress.passTo(20);
    expect(progress.watermark).toBe(13);
    progress.settle(c);
    expect(progress.watermark).toBe(20);
    expect(progress.ahead).toBe(0);
  });

  it("are committed so with thousands of messages settled in any order", () => {
    const progress = new PartitionProgress(0, 0);
    const open = new Set(Array.from({ length: 5_000 }, (_, offset) => progress.take(offset)));
    for (const taken of [...open].toSorted(() => Math.random() - 0.5)) {
      open.delete(taken);
      progress.settle(taken);
      const first = open.values().next().value;
      if (open.size % 100 === 0) expect(progress.watermark).toBe(first?.offset ?? 5_000);
    }
  });
});

const wrapped = (type: string) => new Error("outer", { cause: Object.assign(new Error("inner"), { type }) });

it("errors of the client keep their codes through its wrapping", () => {
  expect(fromKafka(wrapped("TOPIC_AUTHORIZATION_FAILED"), "x").code).toBe("forbidden");
  expect(fromKafka(wrapped("MESSAGE_TOO_LARGE"), "x").code).toBe("too_large");
  expect(fromKafka(wrapped("NOT_LEADER_FOR_PARTITION"), "x").code).toBe("unavailable");
  expect(fromKafka(new AggregateError([wrapped("INVALID_TOPIC_EXCEPTION")], "all"), "x").code).toBe("bad_request");
  expect(fromKafka("text", "x").detail).toContain("text");
  const own = new MicroError("own", { code: "bad_request" });
  expect(fromKafka(new Error("outer", { cause: own }), "x")).toBe(own);
});
