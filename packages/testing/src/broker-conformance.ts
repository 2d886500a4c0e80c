/**
 * What every broker must do. Run it against your own with any test runner:
 *
 * ```ts
 * brokerConformance({ describe, it }, async () => ({ broker, connect, topic, [Symbol.asyncDispose] }));
 * ```
 *
 * Codes are asserted, never messages.
 */
import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import { getEventListeners } from "node:events";
import {
  type Broker,
  type BrokerEvent,
  type BrokerHandler,
  type OutgoingBrokerMessage,
  type SubscribeOptions,
  type Subscriber,
  Context,
  currentContext,
  runInContext,
  MicroError,
  errors,
  type ErrorCode,
  type MetadataInit,
  checkOptionNames,
  type OptionNames,
  optionKinds,
} from "@micro/core";
import { defineSuite, type Skips, type SuiteCase, type TestRunner } from "./runner.ts";

/** A broker for one test. */
export interface BrokerFixture extends AsyncDisposable {
  readonly broker: Broker;
  /** Another instance on the same backend: what a second process would have. The suite disposes it. */
  readonly connect: () => Promise<Broker>;
  /** A topic nobody has used yet. The suite appends up to three letters or digits to it for topics that are similar. */
  readonly topic: () => string;
}

/** A user of the backend whose rights can be changed, for one test. */
export interface RestrictedBroker extends AsyncDisposable {
  /** This user's. It may use every topic, unless {@link restrict} says otherwise. Its logger fills {@link errors}. */
  readonly broker: Broker;
  /** A user's who may use every topic. */
  readonly other: Broker;
  readonly topic: () => string;
  /** What was logged at `error` so far. */
  readonly errors: () => readonly string[];
  /** From now on the user may (not) publish to the topic, and subscribe to it. */
  restrict(topic: string, rights: { readonly publish: boolean; readonly subscribe: boolean }): Promise<void>;
  /** False where the backend asks only when a connection first uses a topic, so that a right taken away is not missed before the next one. */
  readonly revokes: boolean;
}

/** Settings of {@link brokerConformance}. */
export interface BrokerConformanceOptions {
  /**
   * The backend delivers at least once: what was not acknowledged when its subscriber ended goes to another one of the
   * queue, and a message whose handler goes on failing is retried for ever. With false a subscriber's messages end
   * with it, and what failed for good is dropped. Default: true.
   */
  redelivers?: boolean | undefined;
  /**
   * A broker whose backend cannot be reached, made for one test and disposed by the suite: for what publishes do then.
   * Default: those tests are left out.
   */
  unreachable?: (() => Promise<Broker>) | undefined;
  /** A user with changing rights: for what the backend refuses to do. Default: those tests are left out. */
  restricted?: (() => Promise<RestrictedBroker>) | undefined;
  /** For how long the suite waits for something to happen, in milliseconds. Default: 10000. */
  patienceMs?: number | undefined;
  /** For how long nothing must come before the suite believes that nothing will, in milliseconds. Default: 200. */
  quietMs?: number | undefined;
  /** Tests that do not apply, with the reason. A name that is no test is an error. */
  skip?: Skips | undefined;
}

const optionNames: OptionNames<BrokerConformanceOptions> = {
  redelivers: true,
  unreachable: optionKinds.function,
  restricted: optionKinds.function,
  patienceMs: true,
  quietMs: true,
  skip: true,
};

interface Patience {
  readonly patienceMs: number;
  readonly quietMs: number;
}

type Cases = Readonly<Record<string, SuiteCase<BrokerFixture>>>;

/**
 * Declare the suite.
 * @throws {TypeError} if `skip` names no test, or gives no reason.
 */
export function brokerConformance(
  runner: TestRunner,
  create: () => Promise<BrokerFixture>,
  options: BrokerConformanceOptions = {},
): void {
  checkOptionNames("brokerConformance", options, optionNames);
  const { redelivers = true, unreachable, restricted, patienceMs = 10_000, quietMs = 200, skip } = options;
  const patience = { patienceMs, quietMs };
  const cases = {
    ...messageCases(patience),
    ...fanOutCases(patience),
    ...queueCases(patience),
    ...acknowledgementCases(patience),
    ...failureCases(patience),
    ...(redelivers ? atLeastOnceCases(patience) : atMostOnceCases(patience)),
    ...paceCases(patience),
    ...unsubscribeCases(patience),
    ...argumentCases(patience),
    ...endCases(patience),
    ...releaseCases(patience),
    ...leakCases(patience),
    ...(unreachable === undefined ? {} : absenceCases(patience, unreachable)),
    ...(restricted === undefined ? {} : rightsCases(patience, restricted)),
  };
  defineSuite(runner, "broker conformance", create, cases, skip);
}

function messageCases(patience: Patience): Cases {
  return {
    "round trip: a message arrives with its topic, header and body": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      await broker.publish(name, { header: { "Content-Type": "application/json", Zone: "1" }, body: utf8('{"a":1}') });
      const event = await inbox.first();
      assert.equal(event.topic, name);
      assert.equal(event.attempt, 1);
      assert.equal(event.signal.aborted, false);
      assert.equal(event.message.header.get("Content-Type"), "application/json");
      assert.equal(event.message.header.get("Zone"), "1");
      assert.equal(text(event), '{"a":1}');
      await inbox.never(2);
    },
    "round trip: from one instance to another, both ways": async ({ broker, connect, topic }) => {
      await using other = await connect();
      const name = topic();
      await using here = await open(broker, name, patience);
      await using there = await open(other, name, patience);
      await broker.publish(name, message("from here"));
      await other.publish(name, message("from there"));
      for (const inbox of [here, there])
        assert.deepEqual((await inbox.until(2)).map(text).toSorted(), ["from here", "from there"]);
    },
    "round trip: without a header": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      await broker.publish(name, { body: utf8("bare") });
      assert.equal(text(await inbox.first()), "bare");
    },
    "round trip: many messages one after the other, each once": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      const sent = numbers(50);
      for (const each of sent) await broker.publish(name, message(each));
      assert.deepEqual((await inbox.until(50)).map(text), sent);
      await inbox.never(51);
    },
    "round trip: concurrent publishes of two instances, each once": async ({ broker, connect, topic }) => {
      await using other = await connect();
      const name = topic();
      await using inbox = await open(broker, name, patience, { concurrency: 4 });
      const sent = numbers(200);
      await Promise.all(sent.map((each, index) => (index % 2 === 0 ? broker : other).publish(name, message(each))));
      assert.deepEqual((await inbox.until(200)).map(text).toSorted(), sent.toSorted());
      await inbox.never(201);
    },
    "topics: one does not get the messages of another, however similar": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      for (const each of [`${name}2`, `${name}-2`, `${name}.2`, topic()]) await broker.publish(each, message(each));
      await broker.publish(name, message("mine"));
      assert.equal(text(await inbox.first()), "mine");
      await inbox.never(2);
    },
    "header: UTF-8, empty and long values, quotes and backslashes arrive as they went": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      const header = {
        "X-Greeting": "grüße 日本語 🚀",
        "X-Empty": "",
        "X-Long": "x".repeat(4_096),
        "X-Odd": `"quoted", back\\slash; <&> \u2028 =`,
        "X-Blank": "  around  ",
      };
      await broker.publish(name, { header, body: utf8("") });
      const received = (await inbox.first()).message.header;
      for (const [key, value] of Object.entries(header)) assert.equal(received.get(key), value.trim(), key);
    },
    "header: names are found in any case": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      await broker.publish(name, { header: { "x-ZONE-name": "1", "Content-type": "text/plain" }, body: utf8("") });
      const received = (await inbox.first()).message.header;
      for (const key of ["X-Zone-Name", "x-zone-name", "X-ZONE-NAME"]) assert.equal(received.get(key), "1", key);
      assert.equal(received.get("content-type"), "text/plain");
      assert.equal(received.get("constructor"), undefined);
    },
    "header: Micro-Id is the publisher's": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      const sent = crypto.randomUUID();
      await broker.publish(name, { header: { "Micro-Id": sent, "Micro-Topic": name }, body: utf8("") });
      const received = (await inbox.first()).message.header;
      assert.equal(received.get("Micro-Id"), sent);
      assert.equal(received.get("Micro-ID"), sent);
      assert.equal(received.get("Micro-Topic"), name);
    },
    "header: many entries": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      const header = numbers(100).map((each): [string, string] => [`X-Entry-${each}`, `value ${each}`]);
      await broker.publish(name, { header, body: utf8("") });
      const received = (await inbox.first()).message.header;
      for (const [key, value] of header) assert.equal(received.get(key), value, key);
    },
    "body: every byte value": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      const body = Uint8Array.from({ length: 512 }, (_, index) => index % 256);
      await broker.publish(name, { body });
      assert.deepEqual(bytes(await inbox.first()), body);
    },
    "body: empty": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      await broker.publish(name, { header: { Zone: "1" }, body: new Uint8Array(0) });
      const event = await inbox.first();
      assert.equal(event.message.body.byteLength, 0);
      assert.equal(event.message.header.get("Zone"), "1");
    },
    "body: sizes around one, two and three bytes": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      const bodies = [1, 2, 3, 4, 5].map((size) => new Uint8Array(randomBytes(size)));
      for (const body of bodies) await broker.publish(name, { body });
      assert.deepEqual((await inbox.until(5)).map(bytes), bodies);
    },
    "body: 1 MiB": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      const body = new Uint8Array(randomBytes(1_048_576));
      await broker.publish(name, { body }, { timeoutMs: patience.patienceMs });
      assert.ok(Buffer.from(body).equals(bytes(await inbox.first())), "the body has changed on the way");
    },
    "body: part of a larger buffer": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      await broker.publish(name, { body: utf8("xxhelloxx").subarray(2, 7) });
      assert.equal(text(await inbox.first()), "hello");
    },
    "body: changing it after the publish changes nothing": async ({ broker, topic }) => {
      const name = topic();
      const gate = Promise.withResolvers<void>();
      await using inbox = await open(broker, name, patience, {}, () => gate.promise);
      const body = utf8("before");
      await broker.publish(name, { body });
      body.fill(0);
      gate.resolve();
      assert.equal(text(await inbox.first()), "before");
    },
    "context: a handler is nobody's nested call": async ({ broker, topic }) => {
      const name = topic();
      let seen: unknown = "not called";
      await using inbox = await open(broker, name, patience, {}, () => void (seen = currentContext()));
      const context = new Context({ service: "caller", endpoint: "Caller.Call" });
      await runInContext(context, () => broker.publish(name, message("inside")));
      await inbox.first();
      assert.equal(seen, undefined);
    },
    "context: a handler runs in what surrounded its subscription, whoever published": async ({ broker, topic }) => {
      const name = topic();
      const storage = new AsyncLocalStorage<string>();
      const seen: unknown[] = [];
      await using inbox = await storage.run("subscriber", () =>
        open(broker, name, patience, {}, () => void seen.push(storage.getStore())),
      );
      await storage.run("publisher", () => broker.publish(name, message("1")));
      await inbox.until(1);
      await broker.publish(name, message("2"));
      await inbox.until(2);
      assert.deepEqual(seen, ["subscriber", "subscriber"]);
    },
  };
}

function fanOutCases(patience: Patience): Cases {
  return {
    "fan-out: two subscriptions of one instance both get every message": async ({ broker, topic }) => {
      const name = topic();
      await using first = await open(broker, name, patience);
      await using second = await open(broker, name, patience);
      for (const each of numbers(5)) await broker.publish(name, message(each));
      for (const inbox of [first, second]) {
        assert.deepEqual((await inbox.until(5)).map(text), numbers(5));
        await inbox.never(6);
      }
    },
    "fan-out: subscriptions of several instances all get every message": async ({ broker, connect, topic }) => {
      await using second = await connect();
      await using third = await connect();
      const name = topic();
      await using a = await open(broker, name, patience);
      await using b = await open(second, name, patience);
      await using c = await open(third, name, patience);
      for (const each of numbers(5)) await second.publish(name, message(each));
      for (const inbox of [a, b, c]) {
        assert.deepEqual((await inbox.until(5)).map(text), numbers(5));
        await inbox.never(6);
      }
    },
    "fan-out: what one handler does to its message is not seen by another": async ({ broker, topic }) => {
      const name = topic();
      await using first = await open(broker, name, patience, {}, spoilHeader);
      const seen: unknown[] = [];
      const look = ({ message: { header } }: BrokerEvent) => void seen.push(header.get("Zone"), header.get("Kept"));
      await using second = await open(broker, name, patience, {}, look);
      await broker.publish(name, { header: { Zone: "1", Kept: "2" }, body: utf8("") });
      await Promise.all([first.first(), second.first()]);
      assert.deepEqual(seen, ["1", "2"]);
    },
    "fan-out: a failing handler does not keep the message from others": async ({ broker, topic }) => {
      const name = topic();
      await using first = await open(
        broker,
        name,
        patience,
        { retries: 0, onError() {}, deadLetter: `${name}d` },
        failAlways,
      );
      await using second = await open(broker, name, patience);
      for (const each of numbers(3)) await broker.publish(name, message(each));
      assert.deepEqual((await second.until(3)).map(text), numbers(3));
      await first.until(3);
    },
    "publish: before there is any subscriber, and received once there is one": async ({ broker, connect, topic }) => {
      await using other = await connect();
      const name = topic();
      await broker.publish(name, message("early"));
      await using inbox = await open(other, name, patience);
      await broker.publish(name, message("later"));
      await inbox.see("later");
      await using queued = await open(other, name, patience, { queue: "jobs" });
      await broker.publish(name, message("latest"));
      await queued.see("latest");
      await inbox.see("latest");
    },
  };
}

/** Queues as nobody should name them: some of what they say is a word of a protocol or of a file system. */
const oddNames = [
  "go.micro.srv.mailer",
  "two words",
  "a\ttab",
  "a line\r\nPUB spoiled 0\r\n\r\n",
  "nul\0",
  "*",
  "all.>",
  ".",
  "a/b:c?d#e%20",
  "größe-✓",
  "__proto__",
  "x".repeat(200),
  "x".repeat(5_000),
];

function queueCases(patience: Patience): Cases {
  return {
    "queue: its members in several instances get each message once": async ({ broker, connect, topic }) => {
      await using other = await connect();
      const name = topic();
      await using a = await open(broker, name, patience, { queue: "jobs" });
      await using b = await open(other, name, patience, { queue: "jobs" });
      const sent = numbers(60);
      for (const [index, each] of sent.entries()) await (index % 2 === 0 ? broker : other).publish(name, message(each));
      await together([a, b], 60, patience);
      assert.deepEqual([...a.events, ...b.events].map(text).toSorted(), sent.toSorted());
      await together([a, b], 61, patience, false);
    },
    "queue: an odd name is refused, or works, and spoils nothing beside it": async ({ broker, connect, topic }) => {
      await using other = await connect();
      const plain = topic();
      await using beside = await open(broker, plain, patience);
      const attempt = async (queue: string): Promise<void> => {
        const name = topic();
        await using members = new AsyncDisposableStack();
        const inboxes: Inbox[] = [];
        try {
          for (const each of [broker, other])
            inboxes.push(members.use(await open(each, name, patience, { queue, onError() {} })));
        } catch (error) {
          const { code, detail } = errors.fromError(error);
          assert.ok(
            error instanceof TypeError || code === "bad_request",
            `${JSON.stringify(queue)}: ${code} ${detail}`,
          );
          return;
        }
        for (const each of numbers(4)) await broker.publish(name, message(each));
        await together(inboxes, 4, patience);
        const got = inboxes.flatMap(({ events }) => events.map(text));
        assert.deepEqual(got.toSorted(), numbers(4), JSON.stringify(queue));
      };
      await Promise.all(oddNames.map(attempt));
      await other.publish(plain, message("after"));
      assert.equal(text(await beside.first()), "after");
      assert.equal(beside.events.length, 1);
    },
    "queue: its members in several instances share the work": async ({ broker, connect, topic }) => {
      await using other = await connect();
      const name = topic();
      await using a = await open(broker, name, patience, { queue: "jobs" });
      await using b = await open(other, name, patience, { queue: "jobs" });
      for (const each of numbers(60)) await broker.publish(name, message(each));
      await together([a, b], 60, patience);
      assert.ok(a.events.length > 0 && b.events.length > 0, `one member got all of them`);
    },
    "queue: its members in one instance get each message once": async ({ broker, topic }) => {
      const name = topic();
      await using a = await open(broker, name, patience, { queue: "jobs" });
      await using b = await open(broker, name, patience, { queue: "jobs" });
      const sent = numbers(40);
      for (const each of sent) await broker.publish(name, message(each));
      await together([a, b], 40, patience);
      assert.deepEqual([...a.events, ...b.events].map(text).toSorted(), sent.toSorted());
      await together([a, b], 41, patience, false);
    },
    "queue: two of them both get every message": async ({ broker, connect, topic }) => {
      await using other = await connect();
      const name = topic();
      await using jobs = await open(broker, name, patience, { queue: "jobs" });
      await using mails = await open(other, name, patience, { queue: "mails" });
      await using alsoMails = await open(broker, name, patience, { queue: "mails" });
      const sent = numbers(20);
      for (const each of sent) await broker.publish(name, message(each));
      assert.deepEqual((await jobs.until(20)).map(text).toSorted(), sent.toSorted());
      await together([mails, alsoMails], 20, patience);
      assert.deepEqual([...mails.events, ...alsoMails.events].map(text).toSorted(), sent.toSorted());
      await jobs.never(21);
    },
    "queue: a subscriber without one beside it gets everything, too": async ({ broker, topic }) => {
      const name = topic();
      await using queued = await open(broker, name, patience, { queue: "jobs" });
      await using all = await open(broker, name, patience);
      for (const each of numbers(10)) await broker.publish(name, message(each));
      assert.deepEqual((await queued.until(10)).map(text).toSorted(), numbers(10).toSorted());
      assert.deepEqual((await all.until(10)).map(text), numbers(10));
      await queued.never(11);
      await all.never(11);
    },
    "queue: of one topic has nothing to do with the same name on another": async ({ broker, topic }) => {
      const [one, two] = [topic(), topic()];
      await using a = await open(broker, one, patience, { queue: "jobs" });
      await using b = await open(broker, two, patience, { queue: "jobs" });
      await broker.publish(one, message("one"));
      await broker.publish(two, message("two"));
      assert.equal(text(await a.first()), "one");
      assert.equal(text(await b.first()), "two");
      await a.never(2);
      await b.never(2);
    },
    "queue: when a member leaves, the others get everything": async ({ broker, connect, topic }) => {
      await using other = await connect();
      const name = topic();
      await using stays = await open(broker, name, patience, { queue: "jobs" });
      await using leaves = await open(other, name, patience, { queue: "jobs" });
      await broker.publish(name, message("before"));
      await together([stays, leaves], 1, patience);
      const handled = stays.events.length;
      await leaves.subscriber.unsubscribe();
      for (const each of numbers(20)) await broker.publish(name, message(each), { timeoutMs: patience.patienceMs });
      assert.deepEqual((await stays.until(handled + 20)).slice(handled).map(text).toSorted(), numbers(20).toSorted());
    },
  };
}

function acknowledgementCases(patience: Patience): Cases {
  return {
    "retry: a handler that fails twice is given the message a third time": async ({ broker, topic }) => {
      const name = topic();
      const attempts: number[] = [];
      const handler = ({ attempt }: BrokerEvent) => {
        attempts.push(attempt);
        if (attempt < 3) throw new Error(`attempt ${attempt}`);
      };
      await using inbox = await open(broker, name, patience, { retries: 3, backoff: soon, onError() {} }, handler);
      await broker.publish(name, { header: { Zone: "1" }, body: utf8("again") });
      const events = await inbox.until(3);
      assert.deepEqual(attempts, [1, 2, 3]);
      for (const event of events) assert.equal(text(event), "again");
      assert.equal(events[2]!.message.header.get("Zone"), "1");
      await inbox.never(4);
      await inbox.counts({ received: 1, handled: 1, failed: 2, deadLettered: 0, dropped: 0, inFlight: 0 });
    },
    "acknowledgement: a handler that acknowledges itself is given the message once": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience, { autoAck: false }, acknowledgeTwice);
      await broker.publish(name, message("1"));
      await inbox.first();
      await inbox.counts({ received: 1, handled: 1, failed: 0, deadLettered: 0, dropped: 0, inFlight: 0 });
      await inbox.never(2);
    },
    "acknowledgement: later than the handler's end": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience, { autoAck: false });
      await broker.publish(name, message("1"));
      const event = await inbox.first();
      await inbox.counts({ received: 1, handled: 0, failed: 0, deadLettered: 0, dropped: 0, inFlight: 1 });
      await event.ack();
      await inbox.counts({ received: 1, handled: 1, failed: 0, deadLettered: 0, dropped: 0, inFlight: 0 });
      await inbox.never(2);
    },
    "acknowledgement: a refused message is retried, and its attempts counted": async ({ broker, topic }) => {
      const name = topic();
      const attempts: number[] = [];
      const handler = async (event: BrokerEvent) => {
        attempts.push(event.attempt);
        if (event.attempt === 1) event.nack(new Error("not now"));
        else if (event.attempt === 2) event.nack();
        else await event.ack();
      };
      const options = { autoAck: false, retries: 3, backoff: soon, onError() {} };
      await using inbox = await open(broker, name, patience, options, handler);
      await broker.publish(name, message("1"));
      await inbox.until(3);
      await inbox.counts({ received: 1, handled: 1, failed: 2, deadLettered: 0, dropped: 0, inFlight: 0 });
      assert.deepEqual(attempts, [1, 2, 3]);
      await inbox.never(4);
    },
    "acknowledgement: after a refusal, and a refusal after it, change nothing": async ({ broker, topic }) => {
      const name = topic();
      const options = { autoAck: false, retries: 3, backoff: soon, onError() {} };
      await using inbox = await open(broker, name, patience, options, changeItsMind);
      await broker.publish(name, message("1"));
      await inbox.until(2);
      await inbox.counts({ received: 1, handled: 1, failed: 1, deadLettered: 0, dropped: 0, inFlight: 0 });
      await inbox.never(3);
    },
    "acknowledgement: messages that lack one count against the prefetch": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience, { autoAck: false, prefetch: 2 });
      const { published } = publishAll(broker, name, numbers(3), patience);
      const [first] = await inbox.until(2);
      await inbox.never(3);
      await first!.ack();
      const events = await inbox.until(3);
      await published;
      assert.deepEqual(events.map(text), numbers(3));
      for (const event of events) await event.ack();
    },
  };
}

function failureCases(patience: Patience): Cases {
  return {
    "dead letter: gets what failed for good, with the reason": async ({ broker, topic }) => {
      const [name, dead] = [topic(), topic()];
      await using buried = await open(broker, dead, patience);
      const options = { deadLetter: dead, retries: 2, backoff: soon, onError() {} };
      await using inbox = await open(broker, name, patience, options, failAlways);
      const body = new Uint8Array(randomBytes(100));
      await broker.publish(name, { header: { Zone: "1", "Micro-Id": "abc" }, body });
      const event = await buried.first();
      assert.deepEqual(bytes(event), body);
      const { header } = event.message;
      assert.equal(header.get("Zone"), "1");
      assert.equal(header.get("Micro-Id"), "abc");
      assert.equal(header.get("Micro-Dead-Topic"), name);
      assert.equal(header.get("Micro-Attempts"), "3");
      const error = JSON.parse(header.get("Micro-Error") ?? "") as Record<string, unknown>;
      assert.deepEqual([error["id"], error["code"], error["detail"]], ["greeter", 409, "not today: ü"]);
      await inbox.counts({ received: 1, handled: 0, failed: 3, deadLettered: 1, dropped: 0, inFlight: 0 });
      await inbox.never(4);
      await buried.never(2);
    },
    "dead letter: the messages after it are handled": async ({ broker, topic }) => {
      const [name, dead] = [topic(), topic()];
      await using buried = await open(broker, dead, patience);
      const options = { deadLetter: dead, retries: 1, backoff: soon, onError() {} };
      await using inbox = await open(broker, name, patience, options, failOnBad);
      for (const each of ["1", "bad", "2"]) await broker.publish(name, message(each));
      assert.equal(text(await buried.first()), "bad");
      await inbox.counts({ received: 3, handled: 2, failed: 2, deadLettered: 1, dropped: 0, inFlight: 0 });
    },
    "failure: what would fail again is not retried": async ({ broker, topic }) => {
      const [name, dead] = [topic(), topic()];
      await using buried = await open(broker, dead, patience);
      const options = { deadLetter: dead, retries: 5, backoff: soon, onError() {} };
      await using inbox = await open(broker, name, patience, options, failAsTold);
      for (const why of ["codec", "bad_request"]) await broker.publish(name, { header: { Why: why }, body: utf8(why) });
      const events = await buried.until(2);
      for (const { message: each } of events) assert.equal(each.header.get("Micro-Attempts"), "1");
      await inbox.counts({ received: 2, handled: 0, failed: 2, deadLettered: 2, dropped: 0, inFlight: 0 });
      await inbox.never(3);
    },
    "failure: what would fail again is dropped without a dead letter topic": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience, { retries: 5, onError() {} }, failAsTold);
      for (const why of ["bad_request", ""]) await broker.publish(name, { header: { Why: why }, body: utf8("good") });
      await inbox.counts({ received: 2, handled: 1, failed: 1, deadLettered: 0, dropped: 1, inFlight: 0 });
    },
    "failure: a message larger than the subscription takes is told of, buried, and never handled": async ({
      broker,
      topic,
    }) => {
      const [name, dead] = [topic(), topic()];
      const told: ErrorCode[] = [];
      await using buried = await open(broker, dead, patience);
      const options = {
        deadLetter: dead,
        maxMessageBytes: 100,
        onError: (error: MicroError) => void told.push(error.code),
      };
      await using inbox = await open(broker, name, patience, options);
      for (const each of ["x".repeat(101), "y".repeat(100)]) await broker.publish(name, message(each));
      assert.equal(text(await inbox.first()), "y".repeat(100));
      assert.equal(text(await buried.first()), "x".repeat(101));
      assert.deepEqual(told, ["too_large"]);
      await inbox.counts({ received: 2, handled: 1, failed: 1, deadLettered: 1, dropped: 0, inFlight: 0 });
    },
    "failure: the error handler is told of each attempt": async ({ broker, topic }) => {
      const [name, dead] = [topic(), topic()];
      const told: unknown[] = [];
      const options: SubscribeOptions = {
        deadLetter: dead,
        retries: 1,
        backoff: soon,
        onError(error, event) {
          told.push([MicroError.is(error), error.detail, event?.topic, event?.attempt, event && text(event)]);
        },
      };
      await using inbox = await open(broker, name, patience, options, failUntil(9));
      await broker.publish(name, message("x"));
      await inbox.counts({ received: 1, handled: 0, failed: 2, deadLettered: 1, dropped: 0, inFlight: 0 });
      assert.deepEqual(told, [
        [true, "attempt 1", name, 1, "x"],
        [true, "attempt 2", name, 2, "x"],
      ]);
    },
    "failure: an error handler that throws does no harm": async ({ broker, topic }) => {
      const name = topic();
      const options: SubscribeOptions = {
        retries: 3,
        backoff: soon,
        onError() {
          throw new Error("the error handler is broken, too");
        },
      };
      await using inbox = await open(broker, name, patience, options, failUntil(2));
      for (const each of ["1", "2"]) await broker.publish(name, message(each));
      await inbox.counts({ received: 2, handled: 2, failed: 2, deadLettered: 0, dropped: 0, inFlight: 0 });
    },
  };
}

function atLeastOnceCases(patience: Patience): Cases {
  return {
    "at least once: without a dead letter topic a message is retried until it succeeds": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience, { retries: 1, backoff: soon, onError() {} }, failUntil(6));
      await broker.publish(name, message("1"));
      await inbox.until(6);
      await inbox.counts({ received: 1, handled: 1, failed: 5, deadLettered: 0, dropped: 0, inFlight: 0 });
    },
    "at least once: what was cancelled goes to another member of the queue": async ({ broker, connect, topic }) => {
      await using other = await connect();
      const name = topic();
      await using first = await open(broker, name, patience, { queue: "jobs", onError() {} }, untilCancelled);
      await broker.publish(name, message("1"));
      const event = await first.first();
      await first.subscriber.unsubscribe({ timeoutMs: 50 });
      assert.equal(event.signal.aborted, true);
      await using second = await open(other, name, patience, { queue: "jobs" });
      await second.see("1");
    },
    "at least once: what was not acknowledged goes to another member of the queue": async ({
      broker,
      connect,
      topic,
    }) => {
      await using other = await connect();
      const name = topic();
      await using first = await open(broker, name, patience, { queue: "jobs", autoAck: false });
      for (const each of numbers(3)) await broker.publish(name, message(each));
      const [event] = await first.until(3);
      await event!.ack();
      await first.subscriber.unsubscribe({ timeoutMs: 50 });
      await using second = await open(other, name, patience, { queue: "jobs" });
      for (const each of numbers(3).slice(1)) await second.see(each);
      assert.ok(!second.events.some((each) => text(each) === "0"), "what was acknowledged came again");
    },
    "at least once: what waits in a subscriber that ends goes to another member of the queue": async ({
      broker,
      connect,
      topic,
    }) => {
      await using other = await connect();
      const name = topic();
      const gate = Promise.withResolvers<void>();
      await using first = await open(broker, name, patience, { queue: "jobs" }, () => gate.promise);
      for (const each of numbers(5)) await broker.publish(name, message(each));
      await first.first();
      const ended = first.subscriber.unsubscribe();
      gate.resolve();
      await ended;
      await using second = await open(other, name, patience, { queue: "jobs" });
      await eventually(patience, () => {
        const seen = new Set([...first.events, ...second.events].map(text));
        assert.deepEqual([...seen].toSorted(), numbers(5));
      });
    },
  };
}

function atMostOnceCases(patience: Patience): Cases {
  return {
    "at most once: without a dead letter topic a message that failed for good is dropped": async ({
      broker,
      topic,
    }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience, { retries: 2, backoff: soon, onError() {} }, failOnBad);
      for (const each of ["bad", "good"]) await broker.publish(name, message(each));
      await inbox.see("good");
      await inbox.counts({ received: 2, handled: 1, failed: 3, deadLettered: 0, dropped: 1, inFlight: 0 });
      await inbox.never(5);
    },
    "at most once: what is cancelled at the end of a subscription is counted as dropped": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience, {}, untilCancelled);
      await broker.publish(name, message("1"));
      const event = await inbox.first();
      await inbox.subscriber.unsubscribe({ timeoutMs: 50 });
      assert.equal(event.signal.aborted, true);
      assert.equal(inbox.subscriber.stats.dropped, 1);
      assert.equal(inbox.subscriber.stats.inFlight, 0);
    },
  };
}

function paceCases(patience: Patience): Cases {
  return {
    "order: one publisher's messages are handled in its order, one at a time": async ({ broker, connect, topic }) => {
      await using other = await connect();
      const name = topic();
      let running = 0;
      const handler = async () => {
        assert.equal(++running, 1);
        await sleep(Math.random() * 3);
        running--;
      };
      await using inbox = await open(other, name, patience, {}, handler);
      const sent = numbers(40);
      for (const each of sent) await broker.publish(name, message(each));
      assert.deepEqual((await inbox.until(40)).map(text), sent);
    },
    "order: a message that is retried holds up those after it": async ({ broker, topic }) => {
      const name = topic();
      const handler = (event: BrokerEvent) => {
        if (text(event) === "1" && event.attempt < 3) throw new Error("not yet");
      };
      await using inbox = await open(broker, name, patience, { retries: 3, backoff: soon, onError() {} }, handler);
      for (const each of numbers(4)) await broker.publish(name, message(each));
      assert.deepEqual((await inbox.until(6)).map(text), ["0", "1", "1", "1", "2", "3"]);
    },
    "slow subscriber: as many handlers run at once as it allows, and no more": async ({ broker, topic }) => {
      const name = topic();
      const gate = Promise.withResolvers<void>();
      let running = 0;
      let most = 0;
      const handler = async () => {
        most = Math.max(most, ++running);
        await gate.promise;
        running--;
      };
      await using inbox = await open(broker, name, patience, { concurrency: 3, prefetch: 8 }, handler);
      const { published } = publishAll(broker, name, numbers(8), patience);
      await inbox.until(3);
      await inbox.never(4);
      gate.resolve();
      await inbox.until(8);
      await published;
      assert.equal(most, 3);
    },
    "slow subscriber: it is given no more than its prefetch, and the rest later": async ({ broker, topic }) => {
      const name = topic();
      const gate = Promise.withResolvers<void>();
      let most = 0;
      const handler = async () => {
        most = Math.max(most, inbox.subscriber.stats.inFlight);
        await gate.promise;
      };
      await using inbox = await open(broker, name, patience, { prefetch: 4 }, handler);
      const { published } = publishAll(broker, name, numbers(20), patience);
      await eventually(patience, () => assert.equal(inbox.subscriber.stats.inFlight, 4));
      await sleep(patience.quietMs);
      assert.equal(inbox.subscriber.stats.inFlight, 4);
      assert.equal(inbox.subscriber.stats.received, 4);
      gate.resolve();
      assert.deepEqual((await inbox.until(20)).map(text).toSorted(), numbers(20).toSorted());
      await published;
      assert.ok(most <= 4, `${most} messages were taken at once`);
      await inbox.counts({ received: 20, handled: 20, failed: 0, deadLettered: 0, dropped: 0, inFlight: 0 });
    },
    "slow subscriber: it is given no more bytes than it takes, and the rest later": async ({ broker, topic }) => {
      const name = topic();
      const gate = Promise.withResolvers<void>();
      await using inbox = await open(broker, name, patience, { prefetchBytes: 1_000 }, () => gate.promise);
      const bodies = numbers(9).map((each) => each.repeat(400));
      const { published } = publishAll(broker, name, bodies, patience);
      await eventually(patience, () => assert.equal(inbox.subscriber.stats.inFlight, 3));
      await sleep(patience.quietMs);
      assert.equal(inbox.subscriber.stats.received, 3);
      gate.resolve();
      assert.deepEqual((await inbox.until(9)).map(text).toSorted(), bodies);
      await published;
    },
    "slow subscriber: one message larger than all it takes at once is taken": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience, { prefetchBytes: 10 });
      for (const each of numbers(3)) await broker.publish(name, message(each.repeat(400)));
      await inbox.until(3);
    },
    "slow subscriber: another one of the topic is not held up": async ({ broker, connect, topic }) => {
      await using other = await connect();
      const name = topic();
      const gate = Promise.withResolvers<void>();
      await using slow = await open(broker, name, patience, { prefetch: 1 }, () => gate.promise);
      await using quick = await open(other, name, patience);
      const { published } = publishAll(broker, name, numbers(10), patience);
      assert.deepEqual((await quick.until(10)).map(text).toSorted(), numbers(10).toSorted());
      // It may get its first one later than the other has all.
      await slow.until(1);
      assert.equal(slow.events.length, 1);
      gate.resolve();
      await slow.until(10);
      await published;
    },
    "statistics: what was taken, handled and failed": async ({ broker, topic }) => {
      const name = topic();
      const gate = Promise.withResolvers<void>();
      await using inbox = await open(broker, name, patience, {}, () => gate.promise);
      assert.deepEqual(inbox.subscriber.stats, {
        received: 0,
        handled: 0,
        failed: 0,
        deadLettered: 0,
        dropped: 0,
        inFlight: 0,
      });
      for (const each of numbers(3)) await broker.publish(name, message(each));
      await inbox.counts({ received: 3, handled: 0, failed: 0, deadLettered: 0, dropped: 0, inFlight: 3 });
      gate.resolve();
      await inbox.counts({ received: 3, handled: 3, failed: 0, deadLettered: 0, dropped: 0, inFlight: 0 });
      assert.equal(inbox.subscriber.topic, name);
      assert.equal(inbox.subscriber.queue, undefined);
    },
  };
}

function unsubscribeCases(patience: Patience): Cases {
  return {
    "unsubscribe: what runs is finished, and nothing comes after": async ({ broker, topic }) => {
      const name = topic();
      const gate = Promise.withResolvers<void>();
      let finished = false;
      const handler = async () => {
        await gate.promise;
        finished = true;
      };
      await using inbox = await open(broker, name, patience, {}, handler);
      await broker.publish(name, message("1"));
      const event = await inbox.first();
      let ended = false;
      const ending = inbox.subscriber.unsubscribe().then(() => (ended = true));
      await sleep(patience.quietMs);
      assert.equal(ended, false);
      gate.resolve();
      await within(patience, ending, "the end of the subscription");
      assert.equal(finished, true);
      assert.equal(event.signal.aborted, false);
      await broker.publish(name, message("2"));
      await inbox.never(2);
      assert.equal(inbox.subscriber.stats.handled, 1);
    },
    "unsubscribe: a handler of its own does not wait for itself, others wait for it": async ({ broker, topic }) => {
      const name = topic();
      const gate = Promise.withResolvers<void>();
      const steps: string[] = [];
      const late = Promise.withResolvers<void>();
      await using inbox = await open(broker, name, patience, {}, async () => {
        await inbox.subscriber.unsubscribe();
        steps.push("asked");
        // Begun by the handler, but nobody waits for it: it may wait.
        void gate.promise
          .then(() => new Promise((resolve) => void setImmediate(resolve)))
          .then(() => inbox.subscriber.unsubscribe())
          .then(() => late.resolve());
        await gate.promise;
        steps.push("handled");
      });
      await broker.publish(name, message("1"));
      await inbox.first();
      await eventually(patience, () => assert.deepEqual(steps, ["asked"]));
      const ending = inbox.subscriber.unsubscribe().then(() => steps.push("ended"));
      gate.resolve();
      await within(patience, ending, "the end of the subscription");
      assert.deepEqual(steps, ["asked", "handled", "ended"]);
      assert.equal(inbox.subscriber.stats.handled, 1);
      await within(patience, late.promise, "the end that the handler left behind");
    },
    "unsubscribe: twice, at once and again": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      await Promise.all([inbox.subscriber.unsubscribe(), inbox.subscriber.unsubscribe()]);
      await inbox.subscriber.unsubscribe();
      await inbox.subscriber[Symbol.asyncDispose]();
      await broker.publish(name, message("1"));
      await inbox.never(1);
    },
    "unsubscribe: before it holds": async ({ broker, topic }) => {
      const name = topic();
      const subscriber = broker.subscribe(name, () => assert.fail("a message came"));
      await within(patience, subscriber.unsubscribe(), "the end of the subscription");
      await broker.publish(name, message("1"));
      await sleep(patience.quietMs);
      assert.equal(subscriber.stats.received, 0);
    },
    "unsubscribe: the other subscriptions of the topic stay": async ({ broker, topic }) => {
      const name = topic();
      await using first = await open(broker, name, patience);
      await using second = await open(broker, name, patience);
      await first.subscriber.unsubscribe();
      await broker.publish(name, message("1"));
      assert.equal(text(await second.first()), "1");
      await first.never(1);
    },
    "unsubscribe: and subscribe again, several times": async ({ broker, topic }) => {
      const name = topic();
      for (const each of numbers(3)) {
        await using inbox = await open(broker, name, patience);
        await broker.publish(name, message(each));
        await inbox.see(each);
      }
    },
    "unsubscribe: by its signal, which keeps no listener": async ({ broker, topic }, leaks) => {
      const name = topic();
      const controller = leaks.controller();
      await using inbox = await open(broker, name, patience, { signal: controller.signal });
      await broker.publish(name, message("1"));
      await inbox.first();
      controller.abort();
      await within(patience, inbox.subscriber.unsubscribe(), "the end of the subscription");
      assert.equal(getEventListeners(controller.signal, "abort").length, 0);
      await broker.publish(name, message("2"));
      await inbox.never(2);
      // One that ends otherwise leaves nothing on a signal that lives on.
      const later = leaks.controller();
      await using second = await open(broker, name, patience, { signal: later.signal });
      await second.subscriber.unsubscribe();
      assert.equal(getEventListeners(later.signal, "abort").length, 0);
    },
    "subscribe: with a signal that has aborted ends at once": async ({ broker, topic }) => {
      const name = topic();
      const subscriber = broker.subscribe(name, () => assert.fail("a message came"), { signal: AbortSignal.abort() });
      await subscriber.ready.catch(() => {});
      await within(patience, subscriber.unsubscribe(), "the end of the subscription");
      await broker.publish(name, message("1"));
      await sleep(patience.quietMs);
      assert.equal(subscriber.stats.received, 0);
    },
    "subscribe: from inside a handler": async ({ broker, topic }) => {
      const [name, second] = [topic(), topic()];
      const opened = Promise.withResolvers<Inbox>();
      const handler = () => open(broker, second, patience).then(opened.resolve, opened.reject);
      await using inbox = await open(broker, name, patience, {}, handler);
      await broker.publish(name, message("1"));
      await inbox.first();
      await using nested = await within(patience, opened.promise, "the second subscription");
      await broker.publish(second, message("2"));
      assert.equal(text(await nested.first()), "2");
    },
    "publish: from inside a handler": async ({ broker, topic }) => {
      const [question, answer] = [topic(), topic()];
      await using answers = await open(broker, answer, patience);
      const handler = (event: BrokerEvent) => broker.publish(answer, message(`re: ${text(event)}`));
      await using questions = await open(broker, question, patience, {}, handler);
      for (const each of numbers(3)) await broker.publish(question, message(each));
      assert.deepEqual(
        (await answers.until(3)).map(text),
        numbers(3).map((each) => `re: ${each}`),
      );
      assert.equal(questions.events.length, 3);
    },
  };
}

function argumentCases(patience: Patience): Cases {
  return {
    "arguments: a subscription that makes no sense is a TypeError": async ({ broker, topic }) => {
      const name = topic();
      const bad: [unknown, unknown, unknown][] = [
        ["", () => {}, {}],
        [7, () => {}, {}],
        [name, undefined, {}],
        [name, "handler", {}],
        ...[
          { queue: "" },
          { queue: 7 },
          { deadLetter: "" },
          { deadLetter: name },
          { concurrency: 0 },
          { concurrency: 1.5 },
          { prefetch: 0 },
          { concurrency: 4, prefetch: 2 },
          { retries: -1 },
          { retries: "3" },
          { prefetchBytes: 0 },
          { maxMessageBytes: "1" },
        ].map((options): [unknown, unknown, unknown] => [name, () => {}, options]),
      ];
      for (const [on, handler, options] of bad)
        assert.throws(
          () => void broker.subscribe(on as string, handler as BrokerHandler, options as SubscribeOptions),
          TypeError,
          JSON.stringify([on, options]),
        );
    },
    "arguments: a publish that makes no sense is a TypeError": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      const body = utf8("x");
      const bad: [unknown, unknown, unknown][] = [
        ["", { body }, {}],
        [undefined, { body }, {}],
        [name, undefined, {}],
        [name, {}, {}],
        [name, { body: "text" }, {}],
        [name, { body, header: { Zone: 7 } }, {}],
        [name, { body, header: { "": "x" } }, {}],
        [name, { body }, { timeoutMs: -1 }],
        [name, { body }, { timeoutMs: "5s" }],
        [name, { body }, { timeoutMs: Number.NaN }],
      ];
      for (const [on, what, options] of bad)
        await assert.rejects(
          async () => broker.publish(on as string, what as OutgoingBrokerMessage, options as object),
          TypeError,
          JSON.stringify([on, options]),
        );
      await inbox.never(1);
    },
    "arguments: an option that does not exist is a TypeError that names the nearest": async ({ broker, topic }) => {
      const name = topic();
      const subscribe = (options: unknown): unknown => broker.subscribe(name, () => {}, options as SubscribeOptions);
      const publish = (options: unknown): unknown => broker.publish(name, message("x"), options as object);
      const wrong: [(options: unknown) => unknown, unknown, string][] = [
        [subscribe, { queu: "workers" }, "`queue`"],
        [subscribe, { concurency: 4 }, "`concurrency`"],
        [subscribe, { deadletter: "dead" }, "`deadLetter`"],
        [subscribe, { [`${broker.name}x`]: {} }, `\`${broker.name}\``],
        [subscribe, "workers", "workers"],
        [subscribe, 7, "7"],
        [publish, { timeout: 100 }, "`timeoutMs`"],
        [publish, { singal: AbortSignal.abort() }, "`signal`"],
        [publish, { [`${broker.name}x`]: {} }, `\`${broker.name}\``],
        [publish, 100, "100"],
      ];
      for (const [take, options, named] of wrong)
        await assert.rejects(
          async () => take(options),
          (error) => error instanceof TypeError && error.message.includes(named),
          `${JSON.stringify(options)} should be refused, naming ${named}`,
        );
    },
    "arguments: what is refused leaves no listener on its signal": async ({ broker, topic }, leaks) => {
      const { signal } = leaks.controller();
      const refused: [unknown, SubscribeOptions][] = [
        // What no broker takes, and topics that some do not.
        ...[{ concurrency: 0 }, { deadLetter: "" }].map((options): [string, SubscribeOptions] => [topic(), options]),
        ...["", " ", "a b", ".", "..", "a.*", "a.>.b", "\u0000", "x".repeat(300), "x".repeat(70_000), 7].map(
          (name): [unknown, SubscribeOptions] => [name, {}],
        ),
      ];
      for (const [name, options] of refused)
        try {
          await broker.subscribe(name as string, () => {}, { onError() {}, ...options, signal }).unsubscribe();
        } catch {
          assert.equal(getEventListeners(signal, "abort").length, 0, String(name).slice(0, 50));
        }
      assert.equal(getEventListeners(signal, "abort").length, 0);
    },
    "arguments: what other brokers have under keys of their own is not looked at": async ({ broker, topic }) => {
      const name = topic();
      const others = { elsewhere: { priority: 1 }, nowhere: undefined };
      await using inbox = await open(broker, name, patience, others as SubscribeOptions);
      await broker.publish(name, message("1"), others as object);
      assert.equal(text(await inbox.first()), "1");
    },
    "publish: an aborted signal sends nothing": async ({ broker, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      await rejects(broker.publish(name, message("1"), { signal: AbortSignal.abort() }), "aborted");
      await broker.publish(name, message("2"));
      assert.equal(text(await inbox.first()), "2");
      await inbox.never(2);
    },
    "publish: what the backend said while this process was busy past the limit counts": async ({
      broker,
      connect,
      topic,
    }) => {
      await using other = await connect();
      const name = topic();
      await using inbox = await open(other, name, patience);
      // Whatever the first message of a topic needs is there.
      await broker.publish(name, message("0"), { timeoutMs: patience.patienceMs });
      const published = broker.publish(name, message("1"), { timeoutMs: busyMs / 2 });
      // It goes out, and nothing comes in: not even time for a server that is slow.
      for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
      block(busyMs);
      await published;
      await inbox.see("1");
    },
    "publish: keeps no listener on its signal": async ({ broker, topic }, leaks) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      const { signal } = leaks.controller();
      for (const each of numbers(3)) await broker.publish(name, message(each), { signal });
      await inbox.until(3);
      assert.equal(getEventListeners(signal, "abort").length, 0);
    },
    "connect: an aborted signal": async ({ connect }) => {
      await using other = await connect();
      await rejects(other.connect({ signal: AbortSignal.abort() }), "aborted");
    },
    "connect: twice, and what it is called": async ({ broker }) => {
      await Promise.all([broker.connect(), broker.connect()]);
      await broker.connect({ timeoutMs: patience.patienceMs });
      assert.notEqual(broker.name, "");
      assert.equal(typeof broker.address, "string");
    },
  };
}

function endCases(patience: Patience): Cases {
  return {
    "disconnected: everything is refused": async ({ connect, topic }) => {
      await using other = await connect();
      const name = topic();
      const subscriber = other.subscribe(name, () => {});
      await within(patience, subscriber.ready, "the subscription");
      await other.disconnect();
      await rejects((async () => other.publish(name, message("1")))(), "closed", "a publish");
      await rejects((async () => other.connect())(), "closed", "a connection");
      assert.throws(
        () => other.subscribe(name, () => {}),
        (error) => (hasCode(error, "closed"), true),
      );
      await subscriber.unsubscribe();
    },
    "disconnected: at once, without ever having been connected": async ({ connect, topic }) => {
      await using other = await connect();
      await within(patience, other.disconnect(), "the end");
      await rejects((async () => other.publish(topic(), message("1")))(), "closed");
    },
    "disconnect: twice, at once and again": async ({ connect, topic }) => {
      const other = await connect();
      const name = topic();
      await using _ = await open(other, name, patience);
      await other.publish(name, message("1"));
      await within(patience, Promise.all([other.disconnect(), other.disconnect()]), "the end");
      await other.disconnect();
      await other[Symbol.asyncDispose]();
    },
    "disconnect: what runs is finished, and nothing comes after": async ({ broker, connect, topic }) => {
      const other = await connect();
      const name = topic();
      const gate = Promise.withResolvers<void>();
      let finished = false;
      const handler = async () => {
        await gate.promise;
        finished = true;
      };
      await using inbox = await open(other, name, patience, {}, handler);
      await broker.publish(name, message("1"));
      await inbox.first();
      const ending = other.disconnect();
      await sleep(patience.quietMs);
      gate.resolve();
      await within(patience, ending, "the end");
      assert.equal(finished, true);
      await broker.publish(name, message("2"));
      await inbox.never(2);
    },
    "disconnect: handlers that do not end are cancelled": async ({ broker, connect, topic }) => {
      const other = await connect();
      const name = topic();
      await using inbox = await open(other, name, patience, { onError() {} }, () => new Promise<void>(() => {}));
      await broker.publish(name, message("1"));
      const event = await inbox.first();
      await within(patience, other.disconnect({ timeoutMs: 50 }), "the end");
      assert.equal(event.signal.aborted, true);
    },
    "disconnect: a handler of its own does not wait for itself, others wait for it": async ({
      broker,
      connect,
      topic,
    }) => {
      const other = await connect();
      const name = topic();
      const gate = Promise.withResolvers<void>();
      const steps: string[] = [];
      await using inbox = await open(other, name, patience, {}, async () => {
        await other.disconnect();
        steps.push("asked");
        await gate.promise;
        steps.push("handled");
      });
      await broker.publish(name, message("1"));
      await inbox.first();
      await eventually(patience, () => assert.deepEqual(steps, ["asked"]));
      const ending = other.disconnect().then(() => steps.push("ended"));
      gate.resolve();
      await within(patience, ending, "the end");
      assert.deepEqual(steps, ["asked", "handled", "ended"]);
    },
    "disconnect: the publishes before it arrive": async ({ broker, connect, topic }) => {
      const other = await connect();
      const name = topic();
      await using inbox = await open(broker, name, patience);
      await other.publish(name, message("first"));
      const published = Promise.all(numbers(20).map((each) => other.publish(name, message(each))));
      await within(patience, other.disconnect(), "the end");
      await published;
      await inbox.until(21);
    },
    "disconnect: other instances go on": async ({ broker, connect, topic }) => {
      const other = await connect();
      const name = topic();
      await using inbox = await open(broker, name, patience);
      await using gone = await open(other, name, patience);
      await other.disconnect();
      await broker.publish(name, message("1"), { timeoutMs: patience.patienceMs });
      await inbox.see("1");
      assert.equal(gone.subscriber.stats.inFlight, 0);
    },
    "disconnect: leaves no timer, socket or server behind": async ({ broker, connect, topic }) => {
      const name = topic();
      await using inbox = await open(broker, name, patience);
      await broker.publish(name, message("before"));
      await inbox.first();
      const before = resources();
      for (const _ of numbers(2)) {
        const other = await connect();
        const mine = await open(other, name, patience);
        const { signal } = new AbortController();
        await other.publish(name, message("1"), { signal });
        await mine.see("1");
        await other.disconnect();
        assert.equal(getEventListeners(signal, "abort").length, 0);
      }
      await eventually(patience, () => {
        const after = resources();
        for (const [kind, count] of after)
          assert.ok(count <= (before.get(kind) ?? 0), `${count} of ${kind}, ${before.get(kind) ?? 0} before`);
      });
    },
  };
}

function releaseCases(patience: Patience): Cases {
  return {
    "release: whoever uses it afterwards finds it as before": async ({ broker, connect, topic }) => {
      await using other = await connect();
      const [here, there] = [topic(), topic()];
      await using inbox = await open(broker, here, patience);
      for (const each of numbers(3)) {
        await using mine = await open(other, there, patience);
        await other.publish(here, message(each));
        await inbox.see(each);
        await broker.publish(there, message(each), { timeoutMs: patience.patienceMs });
        await mine.see(each);
        await mine.subscriber.unsubscribe();
        await within(patience, Promise.resolve(other.release?.()), "the release");
      }
      await other.publish(here, message("late"), { timeoutMs: patience.patienceMs });
      await inbox.see("late");
    },
    "release: publishes under way arrive, and subscriptions go on": async ({ broker, connect, topic }) => {
      await using other = await connect();
      const name = topic();
      await using inbox = await open(broker, name, patience);
      await other.publish(name, message("first"), { timeoutMs: patience.patienceMs });
      const published = numbers(20).map((each) => other.publish(name, message(each)));
      await within(patience, Promise.resolve(other.release?.()), "the release");
      await Promise.all(published);
      await inbox.until(21);
      await using mine = await open(other, name, patience);
      await within(patience, Promise.resolve(other.release?.()), "the release");
      await broker.publish(name, message("still there"));
      await mine.see("still there");
    },
    "release: before its first use, twice, and after its end": async ({ connect, topic }) => {
      await using other = await connect();
      await other.release?.();
      await Promise.all([other.release?.(), other.release?.()]);
      await other.publish(topic(), message("1"), { timeoutMs: patience.patienceMs });
      await other.disconnect();
      await other.release?.();
    },
  };
}

/** Nothing is left on what was handed in, whichever way it ended; timers, sockets and ports are seen by the suite itself. */
function leakCases(patience: Patience): Cases {
  return {
    "leaks: a signal for many publishes and subscriptions, each of which ends otherwise": async (
      { broker, connect, topic },
      leaks,
    ) => {
      const { signal } = leaks.controller();
      const name = topic();
      const other = await connect();
      await other.connect({ signal });
      await using inbox = await open(other, name, patience, { signal });
      await using failing = await open(other, name, patience, { signal, retries: 0, onError() {} }, failAsTold);
      for (const each of numbers(20)) await broker.publish(name, message(each, { Why: "codec" }), { signal });
      await broker.publish("x".repeat(70_000), message("1"), { signal, timeoutMs: 50 }).catch(() => {});
      await inbox.until(20);
      await failing.until(20);
      await failing.subscriber.unsubscribe();
      assert.ok(getEventListeners(signal, "abort").length <= 1, "more than the subscription listens");
      await within(patience, other.disconnect(), "the end");
      assert.equal(getEventListeners(signal, "abort").length, 0);
    },
    "leaks: a signal that ends publishes and subscriptions": async ({ broker, topic }, leaks) => {
      const controller = leaks.controller();
      const { signal } = controller;
      const gate = Promise.withResolvers<void>();
      const name = topic();
      const inbox = await open(broker, name, patience, { signal, prefetch: 1 }, () => gate.promise);
      const publishing = numbers(5).map((each) =>
        broker.publish(name, message(each), { signal, timeoutMs: patience.patienceMs }).catch(() => {}),
      );
      await inbox.first();
      controller.abort();
      gate.resolve();
      await Promise.all(publishing);
      await within(patience, inbox.subscriber.unsubscribe(), "the end of the subscription");
      assert.equal(getEventListeners(signal, "abort").length, 0);
    },
    "leaks: what a handler fails at, is cancelled in, or never acknowledges": async ({ connect, topic }, leaks) => {
      const { signal } = leaks.controller();
      const [name, dead] = [topic(), topic()];
      const other = await connect();
      const options = { signal, retries: 1, backoff: soon, deadLetter: dead, onError() {} };
      await using buried = await open(other, dead, patience, { signal });
      await using fails = await open(other, name, patience, options, failAlways);
      await using hangs = await open(other, name, patience, { signal, onError() {} }, untilCancelled);
      await using silent = await open(other, name, patience, { signal, autoAck: false });
      for (const each of numbers(3)) await other.publish(name, message(each), { signal });
      await buried.until(3);
      await Promise.all([fails.until(6), hangs.first(), silent.until(3)]);
      await within(patience, other.disconnect({ timeoutMs: 50 }), "the end");
      for (const { subscriber } of [buried, fails, hangs, silent]) assert.equal(subscriber.stats.inFlight, 0);
      assert.equal(getEventListeners(signal, "abort").length, 0);
    },
  };
}

function absenceCases(patience: Patience, unreachable: () => Promise<Broker>): Cases {
  const patient = { ...patience };
  return {
    "backend away: a publish waits up to its deadline": async ({ topic }) => {
      await using broker = await unreachable();
      const begin = performance.now();
      await rejects(broker.publish(topic(), message("1"), { timeoutMs: 150 }), "timeout");
      assert.ok(performance.now() - begin >= 140, "it did not wait");
    },
    "backend away: a publish that waits is cancelled by its signal": async ({ topic }, leaks) => {
      await using broker = await unreachable();
      const controller = leaks.controller();
      const publishing = broker.publish(topic(), message("1"), {
        signal: controller.signal,
        timeoutMs: patient.patienceMs,
      });
      await sleep(20);
      controller.abort();
      await within(patient, rejects(publishing, "aborted"), "the end of the publish");
      assert.equal(getEventListeners(controller.signal, "abort").length, 0);
    },
    "backend away: connecting says so, soon after its limit": async (_fixture, leaks) => {
      await using broker = await unreachable();
      const { signal } = leaks.controller();
      const begin = performance.now();
      await rejects(broker.connect({ timeoutMs: 150, signal }), "unavailable", "connecting");
      assert.ok(performance.now() - begin < patient.patienceMs / 2, "it took its time");
    },
    "backend away: publishes that time out or are cut off keep no listener": async ({ topic }, leaks) => {
      const broker = await unreachable();
      const { signal } = leaks.controller();
      await rejects(broker.publish(topic(), message("1"), { timeoutMs: 50, signal }), "timeout");
      assert.equal(getEventListeners(signal, "abort").length, 0, "after the limit");
      const publishing = broker.publish(topic(), message("2"), { timeoutMs: patient.patienceMs, signal });
      const subscriber = broker.subscribe(topic(), () => {}, { onError() {}, signal });
      publishing.catch(() => {});
      subscriber.ready.catch(() => {});
      await sleep(20);
      await within(patient, broker.disconnect({ timeoutMs: 50 }), "the end");
      await publishing.catch(() => {});
      assert.equal(getEventListeners(signal, "abort").length, 0, "after the end");
    },
    "backend away: a subscription waits, and can be ended": async ({ topic }) => {
      await using broker = await unreachable();
      const subscriber = broker.subscribe(topic(), () => {}, { onError() {} });
      const held = subscriber.ready.then(
        () => true,
        () => false,
      );
      await sleep(patient.quietMs);
      await within(patient, subscriber.unsubscribe({ timeoutMs: 50 }), "the end of the subscription");
      assert.equal(await within(patient, held, "its ready"), false);
    },
    "backend away: disconnecting ends what waits": async ({ topic }) => {
      await using broker = await unreachable();
      const publishing = broker.publish(topic(), message("1"), { timeoutMs: patient.patienceMs * 2 });
      publishing.catch(() => {});
      await sleep(20);
      await within(patient, broker.disconnect({ timeoutMs: 50 }), "the end");
      await within(
        patient,
        publishing.then(
          () => assert.fail("the publish succeeded"),
          (error: unknown) => assert.ok(MicroError.is(error), String(error)),
        ),
        "the end of the publish",
      );
    },
  };
}

const everything = { publish: true, subscribe: true };

function rightsCases(patience: Patience, restricted: () => Promise<RestrictedBroker>): Cases {
  /** Repeats the publish until it comes to that. */
  const publishes = async (broker: Broker, topic: string, body: string, code: ErrorCode | undefined): Promise<void> => {
    const end = performance.now() + patience.patienceMs;
    for (;;) {
      const error: unknown = await broker.publish(topic, message(body), { timeoutMs: patience.patienceMs }).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      if (code === undefined ? error === undefined : MicroError.is(error) && error.code === code) return;
      if (performance.now() > end) throw error ?? new Error("the publish still succeeds");
      await sleep(50);
    }
  };
  return {
    "rights: a publish that the user may not make is refused and logged, soon, and others go on": async () => {
      await using place = await restricted();
      const { broker, other } = place;
      const [closed, allowed] = [place.topic(), place.topic()];
      await using unheard = await open(other, closed, patience);
      await using inbox = await open(other, allowed, patience);
      await broker.publish(allowed, message("before"), { timeoutMs: patience.patienceMs });
      await place.restrict(closed, { publish: false, subscribe: true });
      for (const each of numbers(2)) {
        const begin = performance.now();
        const publishing = broker.publish(closed, message(each), { timeoutMs: patience.patienceMs * 2 });
        await rejects(publishing, "forbidden", "the publish");
        assert.ok(performance.now() - begin < patience.patienceMs, "it took its time");
      }
      const several = [closed, allowed, closed, allowed].map((name) => broker.publish(name, message(name)));
      const outcomes = (await Promise.allSettled(several)).map(({ status }) => status);
      assert.deepEqual(outcomes, ["rejected", "fulfilled", "rejected", "fulfilled"]);
      await inbox.until(3);
      await unheard.never(1);
      await place.restrict(closed, everything);
      await publishes(broker, closed, "allowed", undefined);
      await unheard.see("allowed");
    },
    "rights: a subscription the user may not have is refused, told of, and holds once it may": async () => {
      await using place = await restricted();
      const { broker, other } = place;
      const name = place.topic();
      await other.publish(name, message("before"), { timeoutMs: patience.patienceMs });
      await place.restrict(name, { publish: true, subscribe: false });
      const told: ErrorCode[] = [];
      const got: string[] = [];
      await using subscriber = broker.subscribe(name, (event) => void got.push(text(event)), {
        onError: (error) => void told.push(error.code),
      });
      await within(patience, rejects(subscriber.ready, "forbidden", "the subscription"), "the refusal");
      assert.ok(told.includes("forbidden"));
      await sleep(patience.quietMs * 3);
      assert.ok(told.length < 5, `the error handler was told ${told.length} times`);
      await place.restrict(name, everything);
      await arrives(other, name, got, patience);
    },
    "rights: what is taken away from who has it is missed, told of, and used again when it is given back": async () => {
      await using place = await restricted();
      if (!place.revokes) return;
      const { broker, other } = place;
      const name = place.topic();
      const told: ErrorCode[] = [];
      const got: string[] = [];
      await using inbox = await open(other, name, patience);
      await using _ = await open(
        broker,
        name,
        patience,
        { onError: (error) => void told.push(error.code) },
        (event) => void got.push(text(event)),
      );
      await broker.publish(name, message("before"));
      await inbox.see("before");
      for (let round = 0; round < 2; round++) {
        await place.restrict(name, { publish: false, subscribe: false });
        await publishes(broker, name, "forbidden", "forbidden");
        await eventually(patience, () => assert.ok(told.includes("forbidden"), "the subscriber was not told"));
        told.length = 0;
        await place.restrict(name, everything);
        await publishes(broker, name, `allowed ${round}`, undefined);
        await inbox.see(`allowed ${round}`);
        await arrives(other, name, got, patience);
      }
    },
    "rights: what a publish is refused is in the log": async () => {
      await using place = await restricted();
      const name = place.topic();
      await place.other.publish(name, message("before"), { timeoutMs: patience.patienceMs });
      await place.restrict(name, { publish: false, subscribe: true });
      await rejects(place.broker.publish(name, message("1")), "forbidden", "the publish");
      await eventually(patience, () =>
        assert.ok(
          place.errors().some((line) => line.includes(name)),
          `the log has ${place.errors().join("; ")}`,
        ),
      );
      assert.ok(place.errors().length < 3, place.errors().join("; "));
    },
  };
}

/** What is published from now on arrives, sooner or later: a subscription is tried again with pauses. */
async function arrives(publisher: Broker, topic: string, got: readonly string[], patience: Patience): Promise<void> {
  const end = performance.now() + patience.patienceMs;
  for (let count = 0; ; count++) {
    await publisher.publish(topic, message(`again ${count}`), { timeoutMs: patience.patienceMs });
    await sleep(50);
    if (got.some((each) => each.startsWith("again"))) return;
    assert.ok(performance.now() < end, "the subscription stays dead");
  }
}

/** A subscription that remembers what it got: an event for every attempt. */
interface Inbox extends AsyncDisposable {
  readonly subscriber: Subscriber;
  readonly events: readonly BrokerEvent[];
  first(): Promise<BrokerEvent>;
  /** The events, once there are `count`. */
  until(count: number): Promise<readonly BrokerEvent[]>;
  /** A message with this text has come. */
  see(body: string): Promise<void>;
  /** It stays at less than `count`. */
  never(count: number): Promise<void>;
  counts(stats: Subscriber["stats"]): Promise<void>;
}

async function open(
  broker: Broker,
  topic: string,
  patience: Patience,
  options: SubscribeOptions = {},
  handler: BrokerHandler = () => {},
): Promise<Inbox> {
  const events: BrokerEvent[] = [];
  const subscriber = broker.subscribe(
    topic,
    (event) => {
      events.push(event);
      return handler(event);
    },
    options,
  );
  await within(patience, subscriber.ready, `the subscription to ${topic}`);
  const until = async (count: number): Promise<readonly BrokerEvent[]> => {
    await eventually(patience, () => assert.ok(events.length >= count, `${events.length} of ${count} messages came`));
    return events;
  };
  return {
    subscriber,
    events,
    until,
    async first() {
      return (await until(1))[0]!;
    },
    async see(body) {
      await eventually(patience, () =>
        assert.ok(
          events.some((event) => text(event) === body),
          `${body} did not come`,
        ),
      );
    },
    async never(count) {
      await sleep(patience.quietMs);
      assert.ok(events.length < count, `a message too many came: ${events.map(text).join(", ").slice(0, 200)}`);
    },
    async counts(stats) {
      await eventually(patience, () => assert.deepEqual(subscriber.stats, stats));
    },
    async [Symbol.asyncDispose]() {
      await subscriber.unsubscribe({ timeoutMs: 100 });
    },
  };
}

/** Wait until several inboxes have `count` events between them; or, with false, see that they stay below. */
async function together(
  inboxes: readonly Inbox[],
  count: number,
  patience: Patience,
  reached: boolean = true,
): Promise<void> {
  const sum = () => inboxes.reduce((total, { events }) => total + events.length, 0);
  if (reached) return eventually(patience, () => assert.ok(sum() >= count, `${sum()} of ${count} messages came`));
  await sleep(patience.quietMs);
  assert.ok(sum() < count, "a message came twice");
}

/** Publish in order without waiting in between: a broker may hold publishers back. */
function publishAll(
  broker: Broker,
  topic: string,
  bodies: readonly string[],
  { patienceMs }: Patience,
): { published: Promise<unknown> } {
  const published = Promise.all(
    bodies.map((body) => broker.publish(topic, message(body), { timeoutMs: patienceMs * 2 })),
  );
  // Awaited by the test, which may fail before it gets there.
  published.catch(() => {});
  return { published };
}

const soon = () => 5;

/** A handler whose attempts before the given one fail, with a text that says which it was. */
function failUntil(succeeding: number): BrokerHandler {
  return async ({ attempt }) => {
    await Promise.resolve();
    if (attempt < succeeding) throw new Error(`attempt ${attempt}`);
  };
}

function failAlways(): never {
  throw new MicroError("not today: ü", { id: "greeter", code: "conflict" });
}

function failOnBad(event: BrokerEvent): void {
  if (text(event) === "bad") throw new Error("not this one");
}

/** Fails for good where the header `Why` is a code of such an error. */
function failAsTold({ message: { header } }: BrokerEvent): void {
  const why = header.get("Why");
  if (why === "codec" || why === "bad_request") throw new MicroError("unreadable", { code: why });
}

async function acknowledgeTwice(event: BrokerEvent): Promise<void> {
  await event.ack();
  await event.ack();
}

async function changeItsMind(event: BrokerEvent): Promise<void> {
  if (event.attempt === 1) {
    event.nack(new Error("not now"));
    await event.ack();
  } else {
    await event.ack();
    event.nack(new Error("too late"));
  }
}

/** Runs until its subscription is cancelled. */
function untilCancelled({ signal }: BrokerEvent): Promise<void> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
}

function spoilHeader({ message: { header } }: BrokerEvent): void {
  header.set("Zone", "spoilt").delete("Kept");
}

function message(body: string, header: MetadataInit = {}): OutgoingBrokerMessage {
  return { header, body: utf8(body) };
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function utf8(value: string): Uint8Array {
  return encoder.encode(value);
}

function text(event: BrokerEvent): string {
  return decoder.decode(event.message.body);
}

/** A plain array of bytes: a body may be a Buffer. */
function bytes(event: BrokerEvent): Uint8Array {
  return new Uint8Array(event.message.body);
}

function numbers(count: number): string[] {
  return Array.from({ length: count }, (_, index) => String(index));
}

/** Longer than any server takes for a message. */
const busyMs = 400;

/** Keep the event loop from turning. */
function block(durationMs: number): void {
  for (const end = performance.now() + durationMs; performance.now() < end;);
}

/** What keeps the process alive, by kind. */
function resources(): Map<string, number> {
  const counts = new Map<string, number>();
  for (const kind of process.getActiveResourcesInfo()) {
    // Handlers, streams of the runner and look-ups of names come and go.
    if (/Timeout|TCP|UDP|TLS|Pipe/.test(kind)) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return counts;
}

function hasCode(error: unknown, code: ErrorCode, what = ""): void {
  if (!MicroError.is(error)) throw error;
  assert.equal(error.code, code, `${what} ${error.message}`.trim());
}

async function rejects(promise: Promise<unknown>, code: ErrorCode, what = "the operation"): Promise<void> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
  assert.ok(outcome !== undefined, `${what} was accepted`);
  hasCode(outcome.error, code, what);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Repeat until `check` passes; its last failure is thrown when time is up. */
async function eventually({ patienceMs }: Patience, check: () => void): Promise<void> {
  const end = performance.now() + patienceMs;
  for (;;)
    try {
      return check();
    } catch (error) {
      if (performance.now() > end) throw error;
      await sleep(5);
    }
}

async function within<T>({ patienceMs }: Patience, promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${patienceMs} ms`)), patienceMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
