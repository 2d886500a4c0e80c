import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { rabbitmqBroker } from "@micro/broker-rabbitmq";
import type { RabbitmqBrokerOptions } from "@micro/broker-rabbitmq";
import type { Broker, BrokerEvent, MicroError, SubscribeOptions } from "@micro/core";
import type { ConsumeMessage } from "amqplib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { keepingLogger } from "../../core/test/support/service.ts";
import { at } from "./support/list.ts";
import { endRabbitmq, missing, rabbitmqUrl, startShared, withBareChannel } from "./support/rabbitmq.ts";

beforeAll(startShared, 90_000);
afterAll(endRabbitmq);

const utf8 = (text: string): Uint8Array => Buffer.from(text);
const text = ({ message }: BrokerEvent): string => Buffer.from(message.body).toString();
const unique = (name: string): string => `${name}-${crypto.randomUUID()}`;

async function until(what: string, test: () => boolean, withinMs = 10_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!test()) {
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await sleep(10);
  }
}

async function connect(options: RabbitmqBrokerOptions = {}): Promise<Broker> {
  return rabbitmqBroker({ addresses: [await rabbitmqUrl()], ...options });
}

/** A subscription that remembers texts and errors. */
function inbox(broker: Broker, topic: string, options: SubscribeOptions = {}) {
  const events: BrokerEvent[] = [];
  const errors: MicroError[] = [];
  const subscriber = broker.subscribe(topic, (event) => void events.push(event), {
    onError: (error) => errors.push(error),
    ...options,
  });
  return { subscriber, events, errors, texts: () => events.map(text) };
}

/** Take a message and leave it unhandled, so often; then handle it, or see that it is gone. */
async function returned(
  broker: Broker,
  topic: string,
  options: SubscribeOptions,
  times: number,
): Promise<MicroError[]> {
  const errors: MicroError[] = [];
  for (let round = 0; round < times; round++) {
    const taken = Promise.withResolvers<void>();
    const handler = (): Promise<void> => (taken.resolve(), new Promise(() => {}));
    const subscriber = broker.subscribe(topic, handler, { ...options, onError: (error) => errors.push(error) });
    await taken.promise;
    await subscriber.unsubscribe({ timeoutMs: 0 }).catch(() => {});
  }
  return errors.filter(({ code }) => code === "conflict");
}

/** What another AMQP client gets of a topic. */
async function overheard(
  exchange: string,
  topic: string,
  publish: () => Promise<void>,
  count = 1,
): Promise<ConsumeMessage[]> {
  return withBareChannel(await rabbitmqUrl(), async (channel) => {
    await channel.assertExchange(exchange, "topic", { durable: false });
    const { queue } = await channel.assertQueue("", { exclusive: true });
    await channel.bindQueue(queue, exchange, topic);
    const got: ConsumeMessage[] = [];
    await channel.consume(queue, (message) => void (message !== null && got.push(message)), { noAck: true });
    await publish();
    await until("the message is overheard", () => got.length >= count);
    return got;
  });
}

describe.skipIf(missing !== undefined)("on the wire", () => {
  it("writes what Go's plugin writes: topic as routing key, body verbatim, header as texts", async () => {
    await using broker = await connect();
    const topic = unique("bytes");
    const body = randomBytes(300);
    const header = { "Content-Type": "application/json", "Micro-Id": "abc", "Micro-Topic": topic };
    const message = at(await overheard("micro", topic, () => broker.publish(topic, { header, body })));
    expect(message.fields).toMatchObject({ exchange: "micro", routingKey: topic });
    expect(message.content.equals(body)).toBe(true);
    expect({ ...message.properties.headers }).toEqual({ ...header, "Micro-ID": "abc" });
    expect(message.properties).toMatchObject({
      deliveryMode: undefined,
      contentType: undefined,
      messageId: undefined,
    });
  });

  it("writes AMQP's properties where they are asked for", async () => {
    await using broker = await connect();
    const topic = unique("properties");
    const rabbitmq = {
      persistent: true,
      priority: 7,
      expirationMs: 60_000,
      contentType: "text/plain",
      contentEncoding: "identity",
      correlationId: "c",
      replyTo: "r",
      messageId: "m",
      timestamp: new Date(1_700_000_000_000),
      type: "t",
      userId: "guest",
      appId: "a",
    };
    const message = at(await overheard("micro", topic, () => broker.publish(topic, { body: utf8("x") }, { rabbitmq })));
    expect(message.properties).toMatchObject({
      deliveryMode: 2,
      priority: 7,
      expiration: "60000",
      contentType: "text/plain",
      contentEncoding: "identity",
      correlationId: "c",
      replyTo: "r",
      messageId: "m",
      timestamp: 1_700_000_000,
      type: "t",
      userId: "guest",
      appId: "a",
    });
  });

  it("makes messages persistent with `durable`, unless one says otherwise", async () => {
    const exchange = unique("durable");
    await using broker = await connect({ durable: true, durableExchange: false, exchange });
    const publish = async () => {
      await broker.publish("a", { body: utf8("1") });
      await broker.publish("a", { body: utf8("2") }, { rabbitmq: { persistent: false } });
    };
    const messages = await overheard(exchange, "a", publish, 2);
    expect(messages.map(({ properties }) => properties.deliveryMode as unknown)).toEqual([2, undefined]);
  });

  it("reads headers of any type, and fills in topic and content type", async () => {
    await using broker = await connect();
    const topic = unique("foreign");
    const { subscriber, events } = inbox(broker, topic);
    await subscriber.ready;
    await withBareChannel(await rabbitmqUrl(), async (channel) => {
      const headers = {
        Text: "grüße",
        Number: 7,
        Double: 1.5,
        Yes: true,
        Nothing: null,
        Bytes: Buffer.from("raw"),
        When: { "!": "timestamp", value: 1_700_000_000 },
        List: [1, "b"],
        Table: { inner: "x" },
        constructor: "c",
        __proto__: { polluted: "no" },
      };
      channel.publish("micro", topic, Buffer.from("hello"), { headers, contentType: "text/plain" });
      await channel.waitForConfirms();
    });
    await until("it has come", () => events.length === 1);
    const { header } = at(events).message;
    expect(text(at(events))).toBe("hello");
    expect(Object.fromEntries(header)).toMatchObject({
      Text: "grüße",
      Number: "7",
      Double: "1.5",
      Yes: "true",
      Nothing: "",
      Bytes: "raw",
      When: "1700000000",
      List: '[1,"b"]',
      Table: '{"inner":"x"}',
      Constructor: "c",
      "Micro-Topic": topic,
      "Content-Type": "text/plain",
    });
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  });

  it("declares as Go's plugins do by default, in either order", async () => {
    const url = await rabbitmqUrl();
    const [ours, theirs] = [unique("ours"), unique("theirs")];
    const asGo = (queue: string) =>
      withBareChannel(url, async (channel) => {
        await channel.assertExchange("micro", "topic", { durable: false, autoDelete: false });
        await channel.assertQueue(queue, { durable: false, autoDelete: true, exclusive: false });
      });
    await asGo(theirs);
    await using broker = await connect();
    const first = inbox(broker, "order", { queue: theirs });
    const second = inbox(broker, "order", { queue: ours });
    await Promise.all([first.subscriber.ready, second.subscriber.ready]);
    await asGo(ours);
    expect([...first.errors, ...second.errors]).toEqual([]);
  });

  it("binds with wildcards, and says which topic a message had", async () => {
    await using broker = await connect();
    const name = crypto.randomUUID();
    const one = inbox(broker, `${name}.*.made`);
    const all = inbox(broker, `${name}.#`);
    await Promise.all([one.subscriber.ready, all.subscriber.ready]);
    for (const end of ["a.made", "b.made", "a.b.made", "a.gone"])
      await broker.publish(`${name}.${end}`, { body: utf8(end) });
    await until("they have come", () => all.events.length === 4 && one.events.length === 2);
    expect(one.events.map(({ topic }) => topic)).toEqual([`${name}.a.made`, `${name}.b.made`]);
  });

  it("publishes to the queue itself with `withoutExchange`, with Micro-Topic as Go", async () => {
    await using broker = await connect({ withoutExchange: true });
    const topic = unique("direct");
    const { subscriber, events } = inbox(broker, topic);
    await subscriber.ready;
    await broker.publish(topic, { body: utf8("1") });
    await until("it has come", () => events.length === 1);
    expect(at(events).topic).toBe(topic);
    expect(at(events).message.header.get("Micro-Topic")).toBe(topic);
  });

  it("gives every subscription everything on a fanout exchange", async () => {
    await using broker = await connect({ exchange: unique("fanout"), exchangeKind: "fanout" });
    const { subscriber, texts } = inbox(broker, "a");
    await subscriber.ready;
    await broker.publish("b", { body: utf8("1") });
    await until("it has come", () => texts().length === 1);
  });
});

describe.skipIf(missing !== undefined)("what exists otherwise on the server", () => {
  it("an exchange of another kind is refused by name", async () => {
    const exchange = unique("kind");
    await withBareChannel(await rabbitmqUrl(), async (channel) => {
      await channel.assertExchange(exchange, "direct", { durable: false });
    });
    await using broker = await connect({ exchange });
    const { subscriber } = inbox(broker, "a");
    await expect(subscriber.ready).rejects.toMatchObject({
      code: "bad_request",
      message: expect.stringContaining(`inequivalent arg 'type' for exchange '${exchange}'`) as string,
    });
    await expect(broker.publish("a", { body: utf8("1") })).rejects.toMatchObject({ code: "bad_request" });
  });

  it("an exchange and a queue that last less are used as they are, with a warning", async () => {
    const [exchange, queue] = [unique("exchange"), unique("queue")];
    await withBareChannel(await rabbitmqUrl(), async (channel) => {
      await channel.assertExchange(exchange, "topic", { durable: false });
      await channel.assertQueue(queue, { durable: false, autoDelete: true });
    });
    const logger = keepingLogger();
    await using broker = await connect({ exchange, durable: true, logger });
    const { subscriber, texts } = inbox(broker, "a", { queue });
    await subscriber.ready;
    await broker.publish("a", { body: utf8("1") });
    await until("it has come", () => texts().length === 1);
    expect(logger.lines.filter((line) => line.startsWith("warn"))).toEqual([
      expect.stringContaining(`${exchange} exists and is not durable`),
      expect.stringContaining(`${queue} exists and is not durable`),
    ]);
  });

  it("a durable queue serves where none was asked for", async () => {
    const queue = unique("queue");
    const url = await rabbitmqUrl();
    await withBareChannel(url, (channel) => channel.assertQueue(queue, { durable: true }));
    await using broker = await connect();
    const { subscriber, texts } = inbox(broker, queue, { queue });
    await subscriber.ready;
    await broker.publish(queue, { body: utf8("1") });
    await until("it has come", () => texts().length === 1);
    await subscriber.unsubscribe();
    await withBareChannel(url, (channel) => channel.deleteQueue(queue));
  });

  it("arguments that an existing queue lacks, and such as the server does not take, are refused; others go on", async () => {
    const url = await rabbitmqUrl();
    const queue = unique("queue");
    await using broker = await connect();
    const good = inbox(broker, "good");
    const first = inbox(broker, "a", { queue });
    await Promise.all([good.subscriber.ready, first.subscriber.ready]);
    const other = inbox(broker, "a", { queue, rabbitmq: { arguments: { "x-max-length": 5 } } });
    await expect(other.subscriber.ready).rejects.toMatchObject({
      code: "bad_request",
      message: expect.stringContaining(`x-max-length`) as string,
    });
    const invalid = inbox(broker, "a", { queue: unique("queue"), rabbitmq: { arguments: { "x-max-length": "many" } } });
    await expect(invalid.subscriber.ready).rejects.toMatchObject({ code: "bad_request" });
    // Time is what this is about: it is tried again meanwhile, and refused alike, and that is not told again.
    await sleep(500);
    expect(invalid.errors).toHaveLength(1);
    expect(at(invalid.errors).detail).toContain("x-max-length");
    await broker.publish("good", { body: utf8("1") });
    await broker.publish("a", { body: utf8("2") });
    await until("both have come", () => good.texts().length === 1 && first.texts().length === 1);
    expect([...good.errors, ...first.errors]).toEqual([]);
    await withBareChannel(url, (channel) => channel.deleteQueue(queue));
  });
});

describe.skipIf(missing !== undefined)("queues", () => {
  it("one for two topics: each message goes to the handler of its topic", async () => {
    await using broker = await connect();
    const [queue, one, two] = [unique("queue"), unique("one"), unique("two")];
    const first = inbox(broker, one, { queue });
    const second = inbox(broker, two, { queue });
    await Promise.all([first.subscriber.ready, second.subscriber.ready]);
    for (let index = 0; index < 20; index++)
      for (const topic of [one, two]) await broker.publish(topic, { body: utf8(topic) });
    await until("all have come", () => first.events.length === 20 && second.events.length === 20);
    expect(new Set(first.texts())).toEqual(new Set([one]));
    expect(new Set(second.texts())).toEqual(new Set([two]));
  });

  it("one for topics of two processes: a message reaches the one that handles it", async () => {
    await using broker = await connect();
    await using other = await connect();
    const [queue, one, two] = [unique("queue"), unique("one"), unique("two")];
    const first = inbox(broker, one, { queue });
    const second = inbox(other, two, { queue });
    await Promise.all([first.subscriber.ready, second.subscriber.ready]);
    for (let index = 0; index < 6; index++) await broker.publish(two, { body: utf8(String(index)) });
    await until("all have come", () => second.events.length === 6, 20_000);
    expect(first.events).toEqual([]);
    expect(first.errors.map(({ code }) => code)).toEqual(["conflict"]);
  });

  it("quorum: what was not handled is there for the next subscriber", async () => {
    const queue = unique("quorum");
    const options: SubscribeOptions = { queue, rabbitmq: { queueType: "quorum" } };
    await using broker = await connect({ durable: true, exchange: "quorum" });
    const { subscriber } = inbox(broker, queue, options);
    await subscriber.ready;
    await subscriber.unsubscribe();
    await broker.publish(queue, { body: utf8("kept") });
    const next = inbox(broker, queue, options);
    await until("it has come", () => next.texts().length === 1);
    await next.subscriber.unsubscribe();
    await withBareChannel(await rabbitmqUrl(), (channel) => channel.deleteQueue(queue));
  });

  it("quorum: what was returned more often than the server's own limit still comes", { timeout: 60_000 }, async () => {
    const queue = unique("quorum");
    const options: SubscribeOptions = { queue, rabbitmq: { queueType: "quorum" } };
    await using broker = await connect({ durable: true, exchange: "quorum" });
    const first = inbox(broker, queue, options);
    await first.subscriber.ready;
    await first.subscriber.unsubscribe();
    await broker.publish(queue, { body: utf8("kept") });
    expect(await returned(broker, queue, options, 25)).toEqual([]);
    const last = inbox(broker, queue, options);
    await until("it has come", () => last.texts().length === 1);
    expect(last.texts()).toEqual(["kept"]);
    await last.subscriber.unsubscribe();
    await withBareChannel(await rabbitmqUrl(), (channel) => channel.deleteQueue(queue));
  });

  it("quorum: a queue that others made with the server's limit is used, and told of while there is time", async () => {
    const queue = unique("quorum");
    await withBareChannel(await rabbitmqUrl(), (channel) =>
      channel.assertQueue(queue, { durable: true, arguments: { "x-queue-type": "quorum" } }),
    );
    await using broker = await connect({ durable: true, exchange: "quorum" });
    const options: SubscribeOptions = { queue, rabbitmq: { queueType: "quorum" } };
    const first = inbox(broker, queue, options);
    await first.subscriber.ready;
    await first.subscriber.unsubscribe();
    await broker.publish(queue, { body: utf8("kept") });
    const conflicts = await returned(broker, queue, options, 12);
    expect(conflicts.map(({ detail }) => detail)).toEqual([
      expect.stringContaining(`was handed out 10 times and not handled: the queue ${queue} drops`),
      expect.stringContaining(`was handed out 11 times`),
    ]);
    const chosen = { queue, rabbitmq: { queueType: "quorum", deliveryLimit: "server" } } as const;
    expect(await returned(broker, queue, chosen, 1)).toEqual([]);
    const last = inbox(broker, queue, chosen);
    await until("it has come", () => last.texts().length === 1);
    await last.subscriber.unsubscribe();
    await withBareChannel(await rabbitmqUrl(), (channel) => channel.deleteQueue(queue));
  });

  it("quorum: a limit that was asked for holds", async () => {
    const queue = unique("quorum");
    await using broker = await connect({ durable: true, exchange: "quorum" });
    const options: SubscribeOptions = { queue, rabbitmq: { queueType: "quorum", deliveryLimit: 2 } };
    const first = inbox(broker, queue, options);
    await first.subscriber.ready;
    await first.subscriber.unsubscribe();
    await broker.publish(queue, { body: utf8("too often") });
    expect(await returned(broker, queue, options, 3)).toEqual([]);
    await broker.publish(queue, { body: utf8("next") });
    const last = inbox(broker, queue, options);
    await until("the next one has come", () => last.texts().length === 1);
    expect(last.texts()).toEqual(["next"]);
    await last.subscriber.unsubscribe();
    await withBareChannel(await rabbitmqUrl(), (channel) => channel.deleteQueue(queue));
  });

  it("a subscription whose queue is deleted gets a new one", async () => {
    await using broker = await connect();
    const queue = unique("queue");
    const { subscriber, texts, errors } = inbox(broker, queue, { queue });
    await subscriber.ready;
    await withBareChannel(await rabbitmqUrl(), (channel) => channel.deleteQueue(queue));
    await until("it is told", () => errors.length > 0);
    for (let index = 0; texts().length === 0 && index < 100; index++) {
      await broker.publish(queue, { body: utf8(String(index)) });
      await sleep(50);
    }
    expect(texts().length).toBeGreaterThan(0);
    expect(errors.map(({ code }) => code)).toEqual(["unavailable"]);
  });

  it("a handler that failed for good hands the message to the queue's dead letter exchange, with `onFailure: reject`", async () => {
    await using broker = await connect();
    const [queue, dead, topic] = [unique("queue"), unique("dead"), unique("topic")];
    const buried = inbox(broker, dead);
    const failing = broker.subscribe(topic, () => Promise.reject(new Error("not today")), {
      queue,
      retries: 1,
      backoff: () => 1,
      onError() {},
      rabbitmq: {
        onFailure: "reject",
        arguments: { "x-dead-letter-exchange": "micro", "x-dead-letter-routing-key": dead },
      },
    });
    await Promise.all([buried.subscriber.ready, failing.ready]);
    await broker.publish(topic, { header: { Zone: "1" }, body: utf8("1") });
    await until("it is buried", () => buried.events.length === 1);
    expect(at(buried.events).message.header.get("Zone")).toBe("1");
    expect(at(buried.events).message.header.get("x-death")).toContain('"rejected"');
    expect(failing.stats).toMatchObject({ failed: 2, dropped: 1, inFlight: 0 });
  });
});

describe.skipIf(missing !== undefined)("dead letters nobody waits for", () => {
  for (const [name, options] of [
    ["topic", {}],
    ["fanout", { exchange: unique("fanout"), exchangeKind: "fanout" }],
    ["no exchange", { withoutExchange: true }],
  ] as const)
    it(`are kept in a durable queue of that name: ${name}`, async () => {
      await using broker = await connect(options);
      const [topic, dead] = [unique("topic"), unique("dead")];
      const failing = inbox(broker, topic);
      await failing.subscriber.unsubscribe();
      const subscriber = broker.subscribe(topic, () => Promise.reject(new Error("not today")), {
        queue: topic,
        deadLetter: dead,
        retries: 0,
        onError() {},
      });
      await subscriber.ready;
      for (const body of ["1", "2"]) await broker.publish(topic, { body: utf8(body) });
      await until("both are buried", () => subscriber.stats.deadLettered === 2);
      await subscriber.unsubscribe();
      await withBareChannel(await rabbitmqUrl(), async (channel) => {
        await channel.assertQueue(dead, { durable: true });
        for (const body of ["1", "2"]) {
          const message = await channel.get(dead, { noAck: true });
          expect(message !== false && message.content.toString()).toBe(body);
          expect(message !== false && message.properties.headers!["Micro-Dead-Topic"]).toBe(topic);
          expect(message !== false && message.properties.deliveryMode).toBe(2);
        }
        expect(await channel.get(dead)).toBe(false);
        await channel.deleteQueue(dead);
      });
    });
});

describe.skipIf(missing !== undefined)("publishing", () => {
  it("a mandatory message nobody takes is not_found, others around it are published", async () => {
    await using broker = await connect();
    const topic = unique("topic");
    const { subscriber, texts } = inbox(broker, topic);
    await subscriber.ready;
    const rabbitmq = { mandatory: true };
    const publish = (to: string, body: string) => broker.publish(to, { body: utf8(body) }, { rabbitmq });
    const outcomes = await Promise.allSettled([
      publish(topic, "1"),
      publish(unique("nobody"), "2"),
      publish(topic, "3"),
      broker.publish(unique("nobody"), { body: utf8("4") }),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled", "fulfilled"]);
    expect(outcomes[1]).toMatchObject({ reason: { code: "not_found" } });
    await until("both have come", () => texts().length === 2);
  });

  it("refuses topics and headers AMQP cannot carry", async () => {
    await using broker = await connect();
    const long = "ü".repeat(128);
    await expect(broker.publish(long, { body: utf8("1") })).rejects.toMatchObject({ code: "bad_request" });
    expect(() => broker.subscribe(long, () => {})).toThrow(/255/);
    for (const header of [{ Big: "x".repeat(70_000) }, { [`X-${"y".repeat(300)}`]: "1" }])
      await expect(broker.publish("a", { header, body: utf8("1") })).rejects.toMatchObject({ code: "bad_request" });
    await broker.publish("a", { body: utf8("1") });
  });

  it("a full queue that refuses is unavailable", async () => {
    await using broker = await connect();
    const topic = unique("full");
    const options: SubscribeOptions = {
      queue: topic,
      autoAck: false,
      prefetch: 1,
      rabbitmq: { arguments: { "x-max-length": 1, "x-overflow": "reject-publish" } },
    };
    const { subscriber, events } = inbox(broker, topic, options);
    await subscriber.ready;
    await broker.publish(topic, { body: utf8("1") });
    await until("it has come", () => events.length === 1);
    const outcomes = await Promise.allSettled(
      ["2", "3", "4"].map((body) => broker.publish(topic, { body: utf8(body) })),
    );
    const refused = outcomes.filter(({ status }) => status === "rejected");
    expect(refused.length).toBeGreaterThan(0);
    for (const outcome of refused) expect(outcome).toMatchObject({ reason: { code: "unavailable" } });
    await at(events).ack();
  });

  it("a message the server ends the channel for is refused; those around it are published", async () => {
    await using broker = await connect();
    const topic = unique("topic");
    const { subscriber, texts } = inbox(broker, topic);
    await subscriber.ready;
    const bodies = Array.from({ length: 20 }, (_, index) => String(index));
    const outcomes = await Promise.allSettled(
      bodies.map((body) =>
        // The server takes nobody's name but the connection's.
        broker.publish(
          topic,
          { body: utf8(body) },
          { rabbitmq: body === "7" || body === "12" ? { userId: "eve" } : {} },
        ),
      ),
    );
    outcomes.forEach((outcome, index) => {
      if (index === 7 || index === 12)
        expect(outcome).toMatchObject({ status: "rejected", reason: { code: "bad_request" } });
      else expect(outcome.status).toBe("fulfilled");
    });
    await broker.publish(topic, { body: utf8("after") });
    await until("all have come", () => texts().includes("after"));
    const seen = new Set(texts());
    expect(bodies.filter((body) => !seen.has(body))).toEqual(["7", "12"]);
    const alone = broker.publish(topic, { body: utf8("x") }, { rabbitmq: { userId: "eve" } });
    await expect(alone).rejects.toMatchObject({
      code: "bad_request",
      message: expect.stringContaining("eve") as string,
    });
  });

  it("goes on when the exchange was deleted, and subscriptions are bound again", { timeout: 40_000 }, async () => {
    const exchange = unique("exchange");
    await using broker = await connect({ exchange });
    const { subscriber, texts } = inbox(broker, "a");
    await subscriber.ready;
    await broker.publish("a", { body: utf8("before") });
    await withBareChannel(await rabbitmqUrl(), (channel) => channel.deleteExchange(exchange));
    const end = performance.now() + 30_000;
    while (!texts().includes("after") && performance.now() < end) {
      await broker.publish("a", { body: utf8("after") });
      await sleep(250);
    }
    expect(texts()).toContain("after");
  });

  it("waits its turn behind what is unconfirmed, in order, and is bounded", async () => {
    await using broker = await connect({ maxUnconfirmed: 4, maxWaiting: 200 });
    const topic = unique("window");
    const { subscriber, texts } = inbox(broker, topic);
    await Promise.all([subscriber.ready, broker.connect()]);
    const bodies = Array.from({ length: 150 }, (_, index) => String(index));
    await Promise.all(bodies.map((body) => broker.publish(topic, { body: utf8(body) })));
    await until("all have come", () => texts().length === 150);
    expect(texts()).toEqual(bodies);
    await using other = await connect({ maxUnconfirmed: 4 });
    await other.connect();
    const last = bodies.map((body) => other.publish(topic, { body: utf8(body) }));
    await other.disconnect();
    await Promise.all(last);
    await until("all have come again", () => texts().length === 300);
    const outcomes = await Promise.allSettled(
      Array.from({ length: 400 }, () => broker.publish(topic, { body: utf8("x") })),
    );
    const refused = outcomes.filter(({ status }) => status === "rejected");
    expect(refused).toHaveLength(400 - 204);
    expect(refused[0]).toMatchObject({ reason: { code: "unavailable" } });
  });
});
