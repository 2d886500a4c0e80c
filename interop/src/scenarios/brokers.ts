/** Events over every broker both sides have: bodies, metadata, and who receives them. */
import assert from "node:assert/strict";
import type { BrokerEvent, Metadata } from "@micro/core";
import { type BrokerKind, backends, brokerFlag, isThere, largeBody, newTopic } from "../brokers.ts";
import { GoPublisher, GoSubscriber, filled, sha256 } from "../go-broker.ts";
import { OurSubscriber, ourBrokerService, protoTopic } from "../our-broker.ts";
import type { OurService } from "../our-service.ts";
import type { Scenario } from "../outcome.ts";
import type { Column } from "../pair.ts";
import { waitFor } from "../wait.ts";

const metadata = { Tenant: "acme", Note: "grüße ☃" };
const base64 = (text: string): string => Buffer.from(text).toString("base64");
const octets = "application/octet-stream";

const hasAll = (counts: readonly number[]): boolean => counts.every((count) => count > 0);

/** Publish `probe` until all subscribers have something: a group may not have formed yet, a node not been found. */
async function reachAll(
  publishProbe: () => Promise<void>,
  subscribers: readonly (GoSubscriber | OurSubscriber)[],
): Promise<void> {
  const reached = async (): Promise<number[]> => {
    await publishProbe();
    return subscribers.map(({ events }) => events.length);
  };
  try {
    await waitFor("a probe reaches every subscriber", reached, hasAll, 20_000);
  } catch (cause) {
    const logs = subscribers.map((one) => (one instanceof GoSubscriber ? one.process.describe() : "ours"));
    throw new Error(`${cause instanceof Error ? cause.message : String(cause)}\n${logs.join("\n")}`, { cause });
  }
}

const probe = "probe";
const texts = (events: readonly { readonly text: string }[]): string[] =>
  events.map(({ text }) => text).filter((text) => text !== probe);

/** Wait for as many texts, and see that no more come than that: each of them once. */
async function exactly(what: string, read: () => string[], expected: readonly string[]): Promise<void> {
  await waitFor(what, read, (seen) => seen.length >= expected.length, 10_000);
  assert.deepEqual(read().toSorted(), expected.toSorted(), what);
}

const numbered = (count: number): string[] => Array.from({ length: count }, (_, number) => `message-${number}`);

/** Our service as a publisher, for the time of `run`. */
async function publishing<T>(column: Column, kind: BrokerKind, run: (ours: OurService) => Promise<T>): Promise<T> {
  const ours = ourBrokerService(column.pair, kind);
  await ours.start();
  try {
    return await run(ours);
  } finally {
    await ours.stop();
  }
}

/** What both sides put into every message, and that of the caller. */
function checkMetadata(seen: Metadata | Readonly<Record<string, string>>, topic: string, contentType: string): void {
  const values = Symbol.iterator in seen ? Object.fromEntries(seen) : seen;
  const { Tenant, Note, "Micro-Topic": at, "Content-Type": type } = values;
  assert.deepEqual({ Tenant, Note, at, type }, { ...metadata, at: topic, type: contentType });
  // v2 calls it Micro-Id, later generations Micro-ID.
  assert.match(values["Micro-Id"] ?? values["Micro-ID"] ?? "", /^[0-9a-f]{8}-[0-9a-f-]{27}$/);
}

function scenariosOf(kind: BrokerKind): Scenario[] {
  const common = {
    via: kind === "http" ? ("mdns" as const) : ("address" as const),
    ...(kind === "http" || backends[kind].generations === undefined ? {} : { generations: backends[kind].generations }),
  };
  const scenarios: Scenario[] = [
    {
      ...common,
      name: `${kind} broker: JSON event with metadata`,
      async goToTs({ pair }) {
        const topic = await newTopic(pair, kind);
        await using ours = await OurSubscriber.start(pair, kind, { topic });
        await using go = await GoPublisher.start(pair, brokerFlag(kind));
        await go.publish({ topic, encoding: "json", text: "from a struct", data: base64("a\0b"), header: metadata });
        await go.publish({ topic, encoding: "jsonproto", text: "grüße ☃", header: metadata });
        await exactly("both arrive", () => texts(ours.events), ["from a struct", "grüße ☃"]);
        for (const event of ours.events) checkMetadata(event.metadata, topic, "application/json");
        assert.deepEqual(ours.events.find(({ text }) => text === "from a struct")?.data.toString(), "a\0b");
      },
      async tsToGo(column) {
        const topic = await newTopic(column.pair, kind);
        await using go = await GoSubscriber.start(column.pair, brokerFlag(kind), { topic });
        await publishing(column, kind, async (ours) => {
          await reachAll(() => ours.publish(topic, { text: probe }), [go]);
          await ours.publish(topic, { text: "grüße ☃", data: base64("a\0b") }, { metadata });
          await exactly("it arrives", () => texts(go.events), ["grüße ☃"]);
        });
        const [event] = go.events.filter(({ text }) => text !== probe);
        assert.equal(event?.data, base64("a\0b"));
        checkMetadata(event?.header ?? {}, topic, "application/json");
      },
    },
    {
      ...common,
      name: `${kind} broker: protobuf event with metadata`,
      async goToTs({ pair }) {
        const topic = await newTopic(pair, kind);
        await using ours = await OurSubscriber.start(pair, kind, { topic, encoding: "proto" });
        await using go = await GoPublisher.start(pair, brokerFlag(kind));
        await go.publish({ topic, encoding: "proto", text: "grüße ☃", data: base64("a\0b"), header: metadata });
        await exactly("it arrives", () => texts(ours.events), ["grüße ☃"]);
        assert.equal(Buffer.from(ours.events[0]!.data).toString(), "a\0b");
        checkMetadata(ours.events[0]!.metadata, topic, "application/protobuf");
        // A JSON publisher on the same topic: the content type decides, message by message.
        await go.publish({ topic, encoding: "json", text: "as JSON", data: base64("c") });
        await exactly("the other arrives", () => texts(ours.events), ["grüße ☃", "as JSON"]);
      },
      async tsToGo(column) {
        const topic = await newTopic(column.pair, kind);
        await using go = await GoSubscriber.start(column.pair, brokerFlag(kind), { topic, encoding: "proto" });
        await publishing(column, kind, async (ours) => {
          await reachAll(() => ours.publish(protoTopic(topic), { text: probe }), [go]);
          const message = { text: "grüße ☃", data: Buffer.from("a\0b") };
          await ours.publish(protoTopic(topic), message, { metadata });
          await exactly("it arrives", () => texts(go.events), ["grüße ☃"]);
        });
        const [event] = go.events.filter(({ text }) => text !== probe);
        assert.equal(event?.data, base64("a\0b"));
        checkMetadata(event?.header ?? {}, topic, "application/protobuf");
      },
    },
    {
      ...common,
      name: `${kind} broker: empty bodies`,
      async goToTs({ pair }) {
        const topic = await newTopic(pair, kind);
        await using ours = await OurSubscriber.start(pair, kind, { topic, encoding: "proto" });
        await using go = await GoPublisher.start(pair, brokerFlag(kind));
        // A protobuf message without any field set has no bytes.
        await go.publish({ topic, encoding: "proto", header: metadata });
        await exactly("it arrives", () => texts(ours.events), [""]);
        assert.equal(ours.events[0]!.data.length, 0);
        checkMetadata(ours.events[0]!.metadata, topic, "application/protobuf");
      },
      async tsToGo(column) {
        const topic = await newTopic(column.pair, kind);
        await using go = await GoSubscriber.start(column.pair, brokerFlag(kind), { topic, encoding: "frame" });
        await publishing(column, kind, async (ours) => {
          const send = (body: Uint8Array) =>
            ours.broker.publish(topic, { header: { "Content-Type": octets, "Micro-Topic": topic, ...metadata }, body });
          await reachAll(() => send(Buffer.from("full")), [go]);
          await send(Buffer.alloc(0));
          const others = () => go.events.filter(({ data }) => data !== base64("full"));
          const [event] = await waitFor("it arrives", others, ({ length }) => length > 0, 10_000);
          assert.equal(event?.header["Note"], metadata.Note);
          // Not null, which v4's Kafka plugin takes for a record that is no envelope.
          assert.equal(event?.size, 0);
        });
      },
    },
    {
      ...common,
      name: `${kind} broker: messages without client and server`,
      async goToTs(column) {
        const topic = await newTopic(column.pair, kind);
        await publishing(column, kind, async ({ broker }) => {
          const seen: BrokerEvent[] = [];
          await using subscriber = broker.subscribe(topic, (event) => void seen.push(event));
          await subscriber.ready;
          await using go = await GoPublisher.start(column.pair, brokerFlag(kind));
          await go.publish({ topic, encoding: "broker", data: base64("\0\xff"), header: { own: metadata.Note } });
          const [event] = await waitFor(
            "it arrives",
            () => seen,
            ({ length }) => length > 0,
            10_000,
          );
          assert.deepEqual([event?.topic, event?.message.header.get("Own")], [topic, metadata.Note]);
          assert.equal(Buffer.from(event!.message.body).toString(), "\0\xff");
        });
      },
      async tsToGo(column) {
        const topic = await newTopic(column.pair, kind);
        await using go = await GoSubscriber.start(column.pair, brokerFlag(kind), { topic, encoding: "broker" });
        await publishing(column, kind, async ({ broker }) => {
          await reachAll(() => broker.publish(topic, { body: Buffer.from("probe") }), [go]);
          await broker.publish(topic, { header: { own: metadata.Note }, body: Buffer.from("\0\xff") });
          const others = () => go.events.filter(({ data }) => data !== base64("probe"));
          const [event] = await waitFor("it arrives", others, ({ length }) => length > 0, 10_000);
          assert.deepEqual([event?.text, event?.header["Own"], event?.data], [topic, metadata.Note, base64("\0\xff")]);
        });
      },
    },
    {
      ...common,
      name: `${kind} broker: large bodies (${largeBody[kind] === 1 << 20 ? "1 MiB" : "700 kB"})`,
      async goToTs({ pair }) {
        const topic = await newTopic(pair, kind);
        await using ours = await OurSubscriber.start(pair, kind, { topic, encoding: "proto" });
        await using go = await GoPublisher.start(pair, brokerFlag(kind));
        await go.publish({ topic, encoding: "proto", text: "large", fill: largeBody[kind] });
        await exactly("it arrives", () => texts(ours.events), ["large"]);
        assert.ok(filled(largeBody[kind]).equals(ours.events[0]!.data), "the bytes are others");
      },
      async tsToGo(column) {
        const topic = await newTopic(column.pair, kind);
        await using go = await GoSubscriber.start(column.pair, brokerFlag(kind), { topic, encoding: "proto" });
        const data = filled(largeBody[kind]);
        await publishing(column, kind, async (ours) => {
          await reachAll(() => ours.publish(protoTopic(topic), { text: probe }), [go]);
          await ours.publish(protoTopic(topic), { text: "large", data });
          await exactly("it arrives", () => texts(go.events), ["large"]);
        });
        const event = go.events.find(({ text }) => text === "large");
        assert.deepEqual([event?.size, event?.sha256], [data.length, sha256(data)]);
      },
    },
    {
      ...common,
      name: `${kind} broker: without a queue, every subscriber of both sides`,
      async goToTs({ pair }) {
        const topic = await newTopic(pair, kind);
        await using ours = await OurSubscriber.start(pair, kind, { topic });
        await using theirs = await GoSubscriber.start(pair, brokerFlag(kind), { topic });
        await using go = await GoPublisher.start(pair, brokerFlag(kind), { subscribers: 2 });
        await reachAll(() => go.publish({ topic, encoding: "json", text: probe }), [ours, theirs]);
        for (const text of numbered(20)) await go.publish({ topic, encoding: "json", text });
        for (const { events } of [ours, theirs].map((subscriber) => ({ events: () => texts(subscriber.events) })))
          await exactly("all arrive, once", events, numbered(20));
      },
      async tsToGo(column) {
        const topic = await newTopic(column.pair, kind);
        await using ours = await OurSubscriber.start(column.pair, kind, { topic });
        await using theirs = await GoSubscriber.start(column.pair, brokerFlag(kind), { topic });
        await publishing(column, kind, async (publisher) => {
          await reachAll(() => publisher.publish(topic, { text: probe }), [ours, theirs]);
          for (const text of numbered(20)) await publisher.publish(topic, { text });
          for (const { events } of [ours, theirs].map((subscriber) => ({ events: () => texts(subscriber.events) })))
            await exactly("all arrive, once", events, numbered(20));
        });
      },
    },
    {
      ...common,
      name: `${kind} broker: one queue of a Go and of our subscriber, each event to one`,
      async goToTs({ pair }) {
        const topic = await newTopic(pair, kind, 4);
        const queue = pair.unique("queue");
        await using ours = await OurSubscriber.start(pair, kind, { topic, queue });
        await using theirs = await GoSubscriber.start(pair, brokerFlag(kind), { topic, queue });
        await using go = await GoPublisher.start(pair, brokerFlag(kind), { subscribers: 2 });
        await reachAll(() => go.publish({ topic, encoding: "json", text: probe }), [ours, theirs]);
        for (const text of numbered(40)) await go.publish({ topic, encoding: "json", text });
        await shared(ours, theirs);
      },
      async tsToGo(column) {
        const { pair } = column;
        const topic = await newTopic(pair, kind, 4);
        const queue = pair.unique("queue");
        await using ours = await OurSubscriber.start(pair, kind, { topic, queue });
        await using theirs = await GoSubscriber.start(pair, brokerFlag(kind), { topic, queue });
        await publishing(column, kind, async (publisher) => {
          await reachAll(() => publisher.publish(topic, { text: probe }), [ours, theirs]);
          for (const text of numbered(40)) await publisher.publish(topic, { text });
          await shared(ours, theirs);
        });
      },
    },
  ];
  // A queue of core NATS and a consumer of a stream are two things: each gets every event.
  return kind === "jetstream" ? scenarios.slice(0, -1) : scenarios;
}

/** Between them they have each message once, and neither has them all. */
async function shared(ours: OurSubscriber, theirs: GoSubscriber): Promise<void> {
  await exactly("each arrives at one", () => [...texts(ours.events), ...texts(theirs.events)], numbered(40));
  assert.ok(texts(ours.events).length > 0, "ours got none");
  assert.ok(texts(theirs.events).length > 0, "Go's got none");
}

/** The rows of the http broker, and of each whose server is there. */
export const brokers = (): Scenario[] =>
  (["http", "nats", "jetstream", "rabbitmq", "kafka"] as const).filter(isThere).flatMap(scenariosOf);
