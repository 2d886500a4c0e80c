import { kafkaBroker, type KafkaBrokerOptions } from "@micro/broker-kafka";
import { MicroError, type Broker, type BrokerEvent, type SubscribeOptions, type Subscriber } from "@micro/core";
import kafkajs from "kafkajs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bareKafka, committed, consume, eventually, makeTopic, produce, withAdmin } from "./support/client.ts";
import { endKafka, kafkaAddress, missing, startShared } from "./support/kafka.ts";

beforeAll(startShared, 90_000);
afterAll(endKafka);

const bytes = (value: string) => new TextEncoder().encode(value);
const text = ({ message }: BrokerEvent) => new TextDecoder().decode(message.body);
const fresh = (name = "t") => `${name}.${crypto.randomUUID()}`;
const connect = async (options: KafkaBrokerOptions = {}): Promise<Broker> =>
  kafkaBroker({ addresses: [await kafkaAddress()], ...options });

/** Subscribe, and remember what comes. */
async function open(
  broker: Broker,
  topic: string,
  options: SubscribeOptions = {},
  handler: (event: BrokerEvent) => void | Promise<void> = () => {},
): Promise<{ subscriber: Subscriber; events: BrokerEvent[]; texts: () => string[] }> {
  const events: BrokerEvent[] = [];
  const subscriber = broker.subscribe(topic, (event) => (events.push(event), handler(event)), options);
  await subscriber.ready;
  return { subscriber, events, texts: () => events.map(text) };
}

const slowly = () => new Promise<void>((resolve) => setTimeout(resolve, 4_000));
const large = (head: string) => bytes(`${head} ${"x".repeat(20_000)}`);
const groups = () => withAdmin(async (admin) => (await admin.listGroups()).groups.map(({ groupId }) => groupId));
const numbers = (count: number, from = 0) => Array.from({ length: count }, (_, index) => String(index + from));

describe.skipIf(missing !== undefined)("records", () => {
  it("are Go's envelope, with the header once more as record headers and no key", async () => {
    await using broker = await connect();
    const topic = fresh();
    const header = { "Content-Type": "application/json", "Micro-Topic": "t", "Micro-Id": "1" };
    await broker.publish(topic, { header, body: bytes('{"a":1}') });
    const [record] = await consume(topic, 1);
    expect(String(record?.value)).toBe(
      '{"Header":{"Content-Type":"application/json","Micro-Topic":"t","Micro-Id":"1","Micro-ID":"1"},"Body":"eyJhIjoxfQ=="}',
    );
    expect(record?.key).toBe(null);
    const headers = Object.entries(record?.headers ?? {}).map(([name, value]) => [name, String(value)]);
    expect(Object.fromEntries(headers)).toEqual({ ...header, "Micro-ID": "1" });
  });

  it("are read from Go, which writes no record headers", async () => {
    await using broker = await connect();
    const topic = fresh();
    await makeTopic(topic);
    const inbox = await open(broker, topic);
    await produce(topic, [
      { value: '{"Header":{"Content-Type":"application/json","Micro-Topic":"t"},"Body":"eyJhIjoxfQ=="}' },
      { value: '{"Header":null,"Body":null}' },
    ]);
    await eventually("both have come", () => inbox.events.length === 2);
    expect(inbox.texts()).toEqual(['{"a":1}', ""]);
    expect(inbox.events.at(0)!.message.header.toJSON()).toEqual({
      "Content-Type": "application/json",
      "Micro-Topic": "t",
    });
  });

  it("are read from programs that know no envelope", async () => {
    await using broker = await connect();
    const topic = fresh();
    await makeTopic(topic);
    const inbox = await open(broker, topic, { kafka: { start: "oldest" } });
    const binary = Buffer.from([0, 1, 2, 255]);
    await produce(topic, [
      { value: '{"id":7}', headers: { traceparent: "00-1" } },
      { value: binary, headers: { "content-type": "application/protobuf", tags: ["a", "b"] } },
      { value: null, key: "deleted" },
      { value: '["Header","Body"]' },
    ]);
    await eventually("all have come", () => inbox.events.length === 4);
    const [json, protobuf, tombstone, list] = inbox.events.map(({ message }) => message);
    expect(Buffer.from(json?.body ?? "").toString()).toBe('{"id":7}');
    expect(json?.header.toJSON()).toEqual({
      Traceparent: "00-1",
      "Micro-Topic": topic,
      "Content-Type": "application/json",
    });
    expect(Buffer.from(protobuf?.body ?? "").equals(binary)).toBe(true);
    expect(protobuf?.header.get("Content-Type")).toBe("application/protobuf");
    expect(protobuf?.header.get("tags")).toBe("b");
    expect(tombstone?.body.length).toBe(0);
    expect(Buffer.from(list?.body ?? "").toString()).toBe('["Header","Body"]');
  });

  it("that are broken envelopes are reported, counted and dead-lettered, and the next ones read", async () => {
    await using broker = await connect();
    const [topic, dead] = [fresh(), fresh("dead")];
    await makeTopic(topic);
    const buried = await open(broker, dead);
    const errors: [string, string | undefined][] = [];
    const inbox = await open(broker, topic, {
      queue: fresh("q"),
      deadLetter: dead,
      onError: (error, event) => errors.push([error.code, event?.topic]),
    });
    await produce(topic, [
      { value: '{"Header":{},"Body":"?"}' },
      { value: '{"Header":{"a":1},"Body":""}' },
      { value: '{"Header":{},"Body":"Z29vZA=="}' },
    ]);
    await eventually("the good one has come", () => inbox.events.length === 1);
    await eventually("both are buried", () => buried.events.length === 2);
    expect(inbox.texts()).toEqual(["good"]);
    expect(errors).toEqual([
      ["codec", topic],
      ["codec", topic],
    ]);
    expect(buried.texts()).toEqual(['{"Header":{},"Body":"?"}', '{"Header":{"a":1},"Body":""}']);
    expect(buried.events.at(0)!.message.header.get("Micro-Dead-Topic")).toBe(topic);
    expect(inbox.subscriber.stats).toEqual({
      received: 3,
      handled: 1,
      failed: 2,
      deadLettered: 2,
      dropped: 0,
      inFlight: 0,
    });
  });

  it("are compressed if asked for, and read however they were", async () => {
    await using broker = await connect({ compression: "gzip" });
    const topic = fresh();
    const inbox = await open(broker, topic);
    await broker.publish(topic, { body: bytes("x".repeat(10_000)) });
    await eventually("it has come", () => inbox.events.length === 1);
    expect(inbox.texts()).toEqual(["x".repeat(10_000)]);
  });

  it("of a transaction that was taken back are not read", async () => {
    await using broker = await connect();
    const topic = fresh();
    await makeTopic(topic);
    const all = await open(broker, topic);
    const queued = await open(broker, topic, { queue: fresh("q") });
    const producer = (await bareKafka()).producer({
      transactionalId: fresh("tx"),
      idempotent: true,
      maxInFlightRequests: 1,
    });
    await producer.connect();
    for (const [value, keep] of [
      ["1", true],
      ["2", false],
      ["3", true],
      ["4", false],
    ] as const) {
      const transaction = await producer.transaction();
      await transaction.send({ topic, messages: [{ value }] });
      await (keep ? transaction.commit() : transaction.abort());
    }
    await producer.send({ topic, messages: [{ value: "5" }] });
    await producer.disconnect();
    for (const inbox of [all, queued]) await eventually("the last one has come", () => inbox.texts().includes("5"));
    for (const inbox of [all, queued]) expect(inbox.texts()).toEqual(["1", "3", "5"]);
  });
});

describe.skipIf(missing !== undefined)("publishing", () => {
  it("with a key always goes to one partition, and keeps the order there", async () => {
    await using broker = await connect({ createTopics: { partitions: 4 } });
    const topic = fresh();
    await Promise.all(
      numbers(40).map((each, index) =>
        broker.publish(topic, { body: bytes(each) }, { kafka: { key: index % 2 === 0 ? "even" : Buffer.from("odd") } }),
      ),
    );
    const records = await consume(topic, 40);
    for (const key of ["even", "odd"]) {
      const own = records.filter((record) => record.key!.toString() === key);
      expect(new Set(own.map(({ partition }) => partition)).size).toBe(1);
      const bodies = own.map(({ value }) =>
        Number(Buffer.from(JSON.parse(String(value)).Body as string, "base64").toString()),
      );
      expect(bodies).toEqual(bodies.toSorted((a, b) => a - b));
      expect(own).toHaveLength(20);
    }
  });

  it("without a key uses all partitions; a partition that is named is used", async () => {
    await using broker = await connect({ createTopics: { partitions: 3 } });
    const topic = fresh();
    await Promise.all(numbers(30).map((each) => broker.publish(topic, { body: bytes(each) })));
    const spread = await consume(topic, 30);
    for (const partition of [0, 1, 2]) expect(spread.filter((each) => each.partition === partition)).toHaveLength(10);
    const named = fresh();
    await Promise.all(
      numbers(5).map((each) => broker.publish(named, { body: bytes(each) }, { kafka: { partition: 2 } })),
    );
    expect((await consume(named, 5)).map(({ partition }) => partition)).toEqual([2, 2, 2, 2, 2]);
  });

  it("to a partition that does not exist is refused, and what went with it is sent", async () => {
    await using broker = await connect();
    const topic = fresh();
    const outcomes = await Promise.allSettled(
      [undefined, 7, undefined].map((partition) =>
        broker.publish(topic, { body: bytes("x") }, { kafka: { partition } }),
      ),
    );
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    const { reason } = outcomes[1] as PromiseRejectedResult;
    expect(reason).toMatchObject({ code: "bad_request" });
    expect(await consume(topic, 2)).toHaveLength(2);
  });

  it("a message larger than the topic takes is `too_large`, and what went with it is sent", async () => {
    await using broker = await connect({ createTopics: { config: { "max.message.bytes": "2000" } } });
    const topic = fresh();
    const sizes = [10, 3_000, 10];
    const outcomes = await Promise.allSettled(
      sizes.map((size) => broker.publish(topic, { body: new Uint8Array(size) })),
    );
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect((outcomes[1] as PromiseRejectedResult).reason).toMatchObject({ code: "too_large" });
    const huge = broker.publish(topic, { body: new Uint8Array(90 * 1024 * 1024) });
    await expect(huge).rejects.toMatchObject({ code: "too_large" });
  });

  it("more at once than a broker takes in one request arrives in order", async () => {
    await using broker = await connect();
    const topic = fresh();
    const inbox = await open(broker, topic);
    await Promise.all(numbers(100).map((each) => broker.publish(topic, { body: large(each) }, { timeoutMs: 20_000 })));
    await eventually("all have come", () => inbox.events.length === 100);
    expect(inbox.texts().map((each) => each.split(" ")[0])).toEqual(numbers(100));
  });

  it("makes a topic as it is told to, or says that there is none", async () => {
    const topic = fresh();
    await using strict = await connect({ createTopics: false });
    await expect(strict.publish(topic, { body: bytes("x") })).rejects.toMatchObject({ code: "not_found" });
    const refused = strict.subscribe(topic, () => {}, { onError() {} });
    await expect(refused.ready).rejects.toMatchObject({ code: "not_found" });
    await using broker = await connect({ createTopics: { partitions: 3, config: { "retention.ms": "86400000" } } });
    await broker.publish(topic, { body: bytes("x") });
    await withAdmin(async (admin) => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
      expect(topics.at(0)!.partitions).toHaveLength(3);
      const { resources } = await admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configNames: ["retention.ms"] }],
      });
      expect(resources.at(0)!.configEntries.at(0)!.configValue).toBe("86400000");
    });
    await strict.publish(topic, { body: bytes("y") });
  });

  it("to a topic that was deleted makes it again, and others do not suffer", async () => {
    await using broker = await connect();
    const [topic, other] = [fresh(), fresh()];
    await broker.publish(topic, { body: bytes("1") });
    await broker.publish(other, { body: bytes("1") });
    await withAdmin((admin) => admin.deleteTopics({ topics: [topic] }));
    await eventually("the topic has gone", () =>
      withAdmin(async (admin) => !(await admin.listTopics()).includes(topic)),
    );
    await broker.publish(topic, { body: bytes("2") }, { timeoutMs: 15_000 });
    await broker.publish(other, { body: bytes("2") }, { timeoutMs: 15_000 });
    expect(await consume(topic, 1)).toHaveLength(1);
    expect(await consume(other, 2)).toHaveLength(2);
  });

  it("that timed out on its way is not waited for, nor counted twice when it is confirmed after all", async () => {
    const broker = await connect();
    await broker.connect();
    const topic = fresh();
    // A topic takes longer than that to be made.
    await expect(broker.publish(topic, { body: bytes("1") }, { timeoutMs: 1 })).rejects.toMatchObject({
      code: "timeout",
    });
    await broker.publish(topic, { body: bytes("2") });
    expect(await consume(topic, 2)).toHaveLength(2);
    // It waits for what is on its way: nothing is.
    await broker.disconnect({ timeoutMs: 120_000 });
  });

  it("finds the broker that lives among several addresses", async () => {
    const dead = ["127.0.0.1:1", "127.0.0.1:2"];
    await using broker = kafkaBroker({ addresses: [...dead, await kafkaAddress()] });
    await broker.connect();
    const topic = fresh();
    const inboxes = [await open(broker, topic), await open(broker, topic, { queue: topic })];
    await broker.publish(topic, { body: bytes("1") });
    for (const { events } of inboxes) await eventually("it has come", () => events.length === 1);
  });

  it("without acknowledgements resolves all the same", async () => {
    for (const acks of ["none", "leader"] as const) {
      await using broker = await connect({ acks });
      const topic = fresh();
      await Promise.all(numbers(10).map((each) => broker.publish(topic, { body: bytes(each) })));
      expect(await consume(topic, 10)).toHaveLength(10);
    }
  });
});

describe.skipIf(missing !== undefined)("a queue", () => {
  it("that is new begins with what is published once it holds, and not with what was before", async () => {
    await using broker = await connect({ createTopics: { partitions: 3 } });
    for (const _ of numbers(5)) {
      const topic = fresh();
      await Promise.all(numbers(6).map((each) => broker.publish(topic, { body: bytes(`early ${each}`) })));
      const inbox = await open(broker, topic, { queue: topic });
      await Promise.all(numbers(9).map((each) => broker.publish(topic, { body: bytes(each) })));
      await eventually("all have come", () => inbox.events.length >= 9);
      expect(inbox.texts().toSorted()).toEqual(numbers(9));
      await inbox.subscriber.unsubscribe();
    }
  });

  it("that is new loses nothing when its first member ends before the first message", async () => {
    await using broker = await connect({ createTopics: { partitions: 3 } });
    const topic = fresh();
    const first = await open(broker, topic, { queue: topic });
    await first.subscriber.unsubscribe();
    await Promise.all(numbers(9).map((each) => broker.publish(topic, { body: bytes(each) })));
    const second = await open(broker, topic, { queue: topic });
    await eventually("all have come", () => second.events.length >= 9);
    expect(second.texts().toSorted()).toEqual(numbers(9));
  });

  it("that is new holds for all members that come at once", async () => {
    const topic = fresh();
    await makeTopic(topic, 4);
    const brokers = await Promise.all(numbers(3).map(() => connect()));
    const inboxes = await Promise.all(
      brokers.map(async (broker, index) => {
        const inbox = await open(broker, topic, { queue: topic });
        // Whoever holds first: what is published now must come, to whichever partition and member it goes.
        await Promise.all(numbers(8).map((each) => broker.publish(topic, { body: bytes(`${index} ${each}`) })));
        return inbox;
      }),
    );
    const all = new Set(numbers(3).flatMap((index) => numbers(8).map((each) => `${index} ${each}`)));
    await eventually("all have come", () => new Set(inboxes.flatMap((inbox) => inbox.texts())).size === all.size);
    await Promise.all(brokers.map((broker) => broker.disconnect()));
  });

  it("begins with the oldest message if asked to", async () => {
    await using broker = await connect();
    const topic = fresh();
    await broker.publish(topic, { body: bytes("early") });
    const start = { start: "oldest" } as const;
    const inbox = await open(broker, topic, { queue: topic, kafka: start });
    const all = await open(broker, topic, { kafka: start });
    await broker.publish(topic, { body: bytes("late") });
    for (const { texts } of [inbox, all]) {
      await eventually("both have come", () => texts().length === 2);
      expect(texts()).toEqual(["early", "late"]);
    }
  });

  it("shares the work of several partitions among its members", async () => {
    const topic = fresh();
    await makeTopic(topic, 4);
    await using one = await connect();
    await using two = await connect();
    const a = await open(one, topic, { queue: topic });
    const b = await open(two, topic, { queue: topic });
    await Promise.all(numbers(40).map((each) => one.publish(topic, { body: bytes(each) })));
    await eventually("all have come", () => a.events.length + b.events.length >= 40);
    expect([...a.texts(), ...b.texts()].toSorted()).toEqual(numbers(40).toSorted());
    expect([a.events.length, b.events.length]).toEqual([20, 20]);
  });

  it("of the same name on another topic takes nothing from it", async () => {
    const [one, two, queue] = [fresh(), fresh(), fresh("q")];
    await makeTopic(one, 3);
    await makeTopic(two, 3);
    await using broker = await connect();
    await using other = await connect();
    const inboxes = [
      await open(broker, one, { queue }),
      await open(other, two, { queue }),
      await open(other, one, { queue }),
    ];
    await Promise.all(
      [one, two].flatMap((topic) => numbers(12).map((each) => broker.publish(topic, { body: bytes(each) }))),
    );
    await eventually("all have come", () => inboxes.reduce((sum, { events }) => sum + events.length, 0) >= 24);
    expect(inboxes.at(1)!.texts().toSorted()).toEqual(numbers(12).toSorted());
    expect([...inboxes.at(0)!.texts(), ...inboxes.at(2)!.texts()].toSorted()).toEqual(numbers(12).toSorted());
  });

  it("is never committed past a message that fails", async () => {
    await using broker = await connect();
    const topic = fresh();
    let heal = false;
    const handler = (event: BrokerEvent) => {
      if (text(event) === "2" && !heal) throw new Error("not yet");
    };
    const options = { queue: topic, concurrency: 4, backoff: () => 20, onError() {} };
    const inbox = await open(broker, topic, options, handler);
    for (const each of numbers(6)) await broker.publish(topic, { body: bytes(each) });
    await eventually("all but one are handled", () => inbox.subscriber.stats.handled === 5);
    await eventually("the first two are committed", async () => (await committed(topic, topic)).get(0) === 2);
    // Further attempts, further commits.
    await broker.publish(topic, { body: bytes("6") });
    await eventually(
      "it goes on failing",
      () => inbox.subscriber.stats.failed > 10 && inbox.subscriber.stats.handled === 6,
    );
    expect((await committed(topic, topic)).get(0)).toBe(2);
    heal = true;
    await eventually("all are committed", async () => (await committed(topic, topic)).get(0) === 7);
  });

  it("is committed when an explicit acknowledgement resolves", async () => {
    await using broker = await connect({ commitIntervalMs: 60_000 });
    const topic = fresh();
    const inbox = await open(broker, topic, { queue: topic, autoAck: false });
    for (const each of numbers(3)) await broker.publish(topic, { body: bytes(each) });
    await eventually("all have come", () => inbox.events.length === 3);
    // Out of order: the second waits for the first, and does not block.
    await inbox.events.at(1)!.ack();
    expect((await committed(topic, topic)).get(0)).toBe(0);
    await inbox.events.at(0)!.ack();
    expect((await committed(topic, topic)).get(0)).toBe(2);
    await inbox.events.at(2)!.ack();
    expect((await committed(topic, topic)).get(0)).toBe(3);
  });

  it("keeps its partitions while a handler runs for longer than the session", async () => {
    await using broker = await connect({ sessionTimeoutMs: 1_500, heartbeatIntervalMs: 300 });
    await using other = await connect({ sessionTimeoutMs: 1_500, heartbeatIntervalMs: 300 });
    const topic = fresh();
    await makeTopic(topic, 2);
    const a = await open(broker, topic, { queue: topic, prefetch: 1 }, slowly);
    const b = await open(other, topic, { queue: topic, prefetch: 1 }, slowly);
    await Promise.all(
      [0, 1].map((partition) => broker.publish(topic, { body: bytes(String(partition)) }, { kafka: { partition } })),
    );
    await eventually("both are handled", () => a.subscriber.stats.handled + b.subscriber.stats.handled === 2);
    expect([a.events.length, b.events.length]).toEqual([1, 1]);
  });

  it(
    "goes on with partitions that are added to the topic, from their first message on",
    { timeout: 60_000 },
    async () => {
      await using broker = await connect({ metadataMaxAgeMs: 1_000 });
      const topic = fresh();
      await makeTopic(topic, 1);
      const inbox = await open(broker, topic, { queue: topic });
      const all = await open(broker, topic);
      await withAdmin((admin) => admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] }));
      // The bare client drops messages for partitions it does not know of.
      await eventually("there are three", () =>
        withAdmin(async (admin) => {
          const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
          return topics.flatMap(({ partitions }) => partitions).length === 3;
        }),
      );
      await produce(
        topic,
        [0, 1, 2].map((partition) => ({ value: String(partition), partition })),
      );
      // Sent twice where the new partitions' leaders were not ready yet.
      for (const [name, { texts }] of Object.entries({ inbox, all }))
        await eventually(`all have come to ${name}`, () => [...new Set(texts())].toSorted().join() === "0,1,2");
    },
  );
});

describe.skipIf(missing !== undefined)("sharing partitions out anew", () => {
  it("while handlers run loses nothing, and finishes what runs", { timeout: 60_000 }, async () => {
    const topic = fresh();
    await makeTopic(topic, 4);
    await using publisher = await connect();
    const sent = numbers(400);
    const seen = new Set<string>();
    let handled = 0;
    const handler = async (event: BrokerEvent) => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      seen.add(text(event));
      handled++;
    };
    const errors: MicroError[] = [];
    const options = { queue: topic, concurrency: 2, onError: (error: MicroError) => errors.push(error) };
    const first = await connect({ heartbeatIntervalMs: 200 });
    const stays = await open(first, topic, options, handler);
    const published = Promise.all(sent.map((each) => publisher.publish(topic, { body: bytes(each) })));
    const others: Broker[] = [];
    for (const _ of numbers(2)) {
      await eventually("it goes on", () => handled > others.length * 60 + 20);
      const other = await connect({ heartbeatIntervalMs: 200 });
      others.push(other);
      await open(other, topic, options, handler);
    }
    await others.at(0)!.disconnect();
    await published;
    await eventually("all have been handled", () => seen.size === sent.length, 30_000);
    await eventually("all is committed", async () => {
      const offsets = await committed(topic, topic);
      return [...offsets.values()].reduce((sum, offset) => sum + offset, 0) === sent.length;
    });
    expect(errors).toEqual([]);
    expect(stays.subscriber.stats.inFlight).toBe(0);
    process.stderr.write(`${handled - sent.length} of ${sent.length} were handled twice\n`);
    await Promise.all([first, ...others.slice(1)].map((broker) => broker.disconnect()));
  });

  it("gives back what waits for a partition that is lost", async () => {
    const topic = fresh();
    await makeTopic(topic, 2);
    await using one = await connect({ heartbeatIntervalMs: 200 });
    await using two = await connect({ heartbeatIntervalMs: 200 });
    const gate = Promise.withResolvers<void>();
    const a = await open(one, topic, { queue: topic }, () => gate.promise);
    await Promise.all(
      numbers(20).map((each, index) => one.publish(topic, { body: bytes(each) }, { kafka: { partition: index % 2 } })),
    );
    await eventually("all are taken", () => a.subscriber.stats.inFlight === 20);
    const b = await open(two, topic, { queue: topic });
    // One of each partition may have been running; here only one handler runs.
    await eventually("the other has handled its partition", () => b.events.length >= 9);
    await eventually("the rest is left", () => a.subscriber.stats.inFlight <= 11);
    gate.resolve();
    await eventually("all are handled", () => new Set([...a.texts(), ...b.texts()]).size === 20);
    expect(a.events.length + b.events.length).toBeLessThanOrEqual(21);
  });
});

describe.skipIf(missing !== undefined)("a subscription without a queue", () => {
  it("leaves no consumer group behind", async () => {
    const before = await groups();
    await using broker = await connect();
    const topic = fresh();
    const inbox = await open(broker, topic);
    await broker.publish(topic, { body: bytes("1") });
    await eventually("it has come", () => inbox.events.length === 1);
    const during = await groups();
    await inbox.subscriber.unsubscribe();
    const known = new Set(before);
    for (const each of [...during, ...(await groups())]) expect(known.has(each) || each.startsWith("bare-")).toBe(true);
  });

  it("ends at once", async () => {
    await using broker = await connect({ maxWaitMs: 5_000 });
    const inbox = await open(broker, fresh());
    const begin = performance.now();
    await inbox.subscriber.unsubscribe();
    expect(performance.now() - begin).toBeLessThan(2_000);
  });

  it("goes on when its topic is deleted and made again", { timeout: 60_000 }, async () => {
    await using broker = await connect();
    const topic = fresh();
    const inbox = await open(broker, topic, { onError() {} });
    for (const each of numbers(5)) await broker.publish(topic, { body: bytes(each) });
    await eventually("all have come", () => inbox.events.length === 5);
    await withAdmin((admin) => admin.deleteTopics({ topics: [topic] }));
    await eventually(
      "what is published then comes",
      async () => {
        await broker.publish(topic, { body: bytes("again") }, { timeoutMs: 10_000 });
        return inbox.texts().includes("again");
      },
      40_000,
    );
  });
});
