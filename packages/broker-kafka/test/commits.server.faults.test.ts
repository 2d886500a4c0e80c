/** What a queue's subscribers are given again, and what not: after clean ends, after kills, after connections that were lost. */
import { spawn, type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { kafkaBroker, type KafkaBrokerOptions } from "@micro/broker-kafka";
import type { Broker, BrokerEvent, Subscriber, SubscribeOptions } from "@micro/core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Unavailable, ensureServer, startKafka } from "../../../scripts/servers.mjs";
import type { KafkaServer } from "../../../scripts/servers.mjs";
import { committed, eventually, withAdmin } from "./support/client.ts";
import { missing } from "./support/kafka.ts";
import { proxyInFront } from "./support/proxied.ts";

/** Nothing is committed but by the end. */
const never = 600_000;
const text = ({ message }: BrokerEvent) => Buffer.from(message.body).toString();
const fresh = () => `commits.${crypto.randomUUID()}`;
const numbers = (count: number, from = 0) => Array.from({ length: count }, (_, index) => String(index + from));

interface Inbox {
  readonly subscriber: Subscriber;
  readonly texts: string[];
}

/** Subscribe with the topic's name as queue, and note what is handled. */
async function open(
  broker: Broker,
  topic: string,
  options: SubscribeOptions = {},
  handler: (event: BrokerEvent) => void | Promise<void> = () => {},
): Promise<Inbox> {
  const texts: string[] = [];
  const note = async (event: BrokerEvent) => {
    texts.push(text(event));
    await handler(event);
  };
  const subscriber = broker.subscribe(topic, note, { queue: topic, ...options });
  await subscriber.ready;
  return { subscriber, texts };
}

const publishAll = (broker: Broker, topic: string, bodies: readonly string[]) =>
  Promise.all(bodies.map((body) => broker.publish(topic, { body: Buffer.from(body) }, { timeoutMs: 20_000 })));

const missingOf = { "4.3": missing, "3.9": await missingOld() };

async function missingOld(): Promise<string | undefined> {
  try {
    await ensureServer("kafka-3.9", (line) => process.stderr.write(`${line}\n`));
    return undefined;
  } catch (error) {
    if (!(error instanceof Unavailable) || process.env["CI"] === "true") throw error;
    return error.message;
  }
}

describe.each(["4.3", "3.9"] as const)("what Kafka %s delivers to a queue", { timeout: 120_000 }, (version) => {
  const skipped = missingOf[version] !== undefined;
  let server: KafkaServer;
  beforeAll(async () => {
    if (!skipped) server = await startKafka({ version });
  }, 90_000);
  afterAll(() => server?.dispose());

  const connect = (options: KafkaBrokerOptions = {}) =>
    kafkaBroker({ addresses: [server.address], createTopics: { partitions: 1 }, heartbeatIntervalMs: 200, ...options });

  const ends: Record<string, (inbox: Inbox, broker: Broker, stop: AbortController) => Promise<void>> = {
    "unsubscribe()": ({ subscriber }) => subscriber.unsubscribe(),
    "disconnect()": (_, broker) => broker.disconnect(),
    "its signal": async ({ subscriber }, _, stop) => {
      stop.abort();
      await subscriber.unsubscribe();
    },
  };
  for (const [name, end] of Object.entries(ends))
    it.skipIf(skipped)(`nothing again after a clean end: by ${name}`, async () => {
      const topic = fresh();
      await using publisher = connect({ createTopics: { partitions: 3 } });
      const stop = new AbortController();
      await using first = connect({ commitIntervalMs: never, createTopics: { partitions: 3 } });
      const gate = Promise.withResolvers<void>();
      // The last to be handled is still running when the end comes: it is waited for, and counts.
      const before = await open(first, topic, { signal: stop.signal, concurrency: 30 }, () => gate.promise);
      await publishAll(publisher, topic, numbers(30));
      await eventually("all are being handled", () => before.texts.length === 30);
      const ended = end(before, first, stop);
      gate.resolve();
      await ended;
      expect(before.subscriber.stats).toMatchObject({ handled: 30, inFlight: 0 });
      await publishAll(publisher, topic, numbers(10, 30));
      await using second = connect();
      const after = await open(second, topic);
      await eventually("what came in between is handled", () => after.texts.length >= 10);
      expect(after.texts.toSorted()).toEqual(numbers(10, 30));
      // Three partitions: whatever comes again would have come by the time that these have.
      await publishAll(publisher, topic, numbers(9, 40));
      await eventually("the last are handled", () => after.texts.length >= 19);
      expect(after.texts.toSorted()).toEqual(numbers(19, 30));
    });

  it.skipIf(skipped)("each once where one ends in the middle of many and another goes on", async () => {
    const topic = fresh();
    await using publisher = connect();
    await using first = connect({ commitIntervalMs: never });
    const before: Inbox = await open(first, topic, { prefetch: 8 }, ({ attempt }) => {
      expect(attempt).toBe(1);
      if (before.texts.length === 20) void before.subscriber.unsubscribe();
    });
    await publishAll(publisher, topic, numbers(200));
    await eventually("it has begun to end", () => before.texts.length >= 20);
    await before.subscriber.unsubscribe();
    await using second = connect();
    const after = await open(second, topic);
    await eventually("all are handled", () => before.texts.length + after.texts.length >= 200);
    expect([...before.texts, ...after.texts]).toEqual(numbers(200));
  });

  it.skipIf(skipped)("again what was not committed when its process was killed, and nothing else", async () => {
    const topic = fresh();
    await using broker = connect({ sessionTimeoutMs: 2_000 });
    // The queue begins here, and its first member leaves nothing behind but that.
    await (await open(broker, topic)).subscriber.unsubscribe();
    await publishAll(broker, topic, numbers(400));
    const worker = startWorker(server.address, topic);
    const handled: string[] = [];
    worker.lines((line) => handled.push(line));
    try {
      await eventually("some are committed", async () => (await at(topic)) >= 50, 60_000);
      worker.child.kill("SIGKILL");
      await worker.ended;
      // Its last words may still have been in the pipe.
      const from = await at(topic);
      expect(handled.length).toBeGreaterThanOrEqual(from);
      expect(handled).toEqual(numbers(handled.length));
      const after = await open(broker, topic);
      await eventually("the rest is handled", () => after.texts.length >= 400 - from, 60_000);
      expect(after.texts).toEqual(numbers(400 - from, from));
      process.stderr.write(
        `kafka ${version}: ${from} of ${handled.length} were committed when the process was killed\n`,
      );
    } finally {
      worker.child.kill("SIGKILL");
    }
  });

  const at = async (topic: string) => (await committed(topic, topic, server.address)).get(0) ?? 0;

  it.skipIf(skipped)("nothing again to a member that lost its connection before it could commit", async () => {
    const own = await startKafka({ version });
    try {
      await using proxy = await proxyInFront(own);
      const options = {
        createTopics: { partitions: 1 },
        addresses: [proxy.address],
        sessionTimeoutMs: 2_000,
        heartbeatIntervalMs: 200,
      };
      await using publisher = kafkaBroker(options);
      await using broker = kafkaBroker({ ...options, commitIntervalMs: never });
      const topic = fresh();
      const gate = Promise.withResolvers<void>();
      const inbox = await open(broker, topic, { concurrency: 2, onError() {} }, async (event) => {
        if (text(event) === "3") await gate.promise;
      });
      await publishAll(publisher, topic, numbers(10));
      await eventually("all but one are handled", () => inbox.subscriber.stats.handled === 9);
      // Once what it has handled is all that it reads again, and once there is more.
      for (const quiet of [true, false]) {
        const former = await memberOf(topic, proxy.address);
        proxy.cut();
        const again = async () => ![undefined, former].includes(await memberOf(topic, proxy.address));
        if (quiet) await eventually("it is a member again", again, 30_000);
        await publishAll(publisher, topic, [`quiet: ${quiet}`]);
        await eventually("it goes on", () => inbox.texts.includes(`quiet: ${quiet}`), 30_000);
      }
      gate.resolve();
      await eventually("all are handled", () => inbox.subscriber.stats.handled === 12);
      expect(inbox.texts).toEqual([...numbers(10), "quiet: true", "quiet: false"]);
      await inbox.subscriber.unsubscribe();
      const offsets = await committed(topic, topic, proxy.address);
      expect([...offsets]).toEqual([[0, 12]]);
    } finally {
      await own.dispose();
    }
  });
});

/** The one member of the queue; undefined while there is none, or partitions are being shared out. */
async function memberOf(queue: string, address: string): Promise<string | undefined> {
  return withAdmin(async (admin) => {
    const { groups } = await admin.describeGroups([queue]);
    const [group] = groups;
    return group?.state === "Stable" ? group.members[0]?.memberId : undefined;
  }, address);
}

interface Worker {
  readonly child: ChildProcess;
  readonly ended: Promise<void>;
  lines(take: (line: string) => void): void;
}

function startWorker(address: string, topic: string): Worker {
  const program = fileURLToPath(new URL("./support/worker.ts", import.meta.url));
  const resolve = fileURLToPath(new URL("./support/resolve.mjs", import.meta.url));
  const child = spawn(process.execPath, ["--import", resolve, program, address, topic], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout });
  return {
    child,
    ended: new Promise((done) => lines.on("close", done)),
    lines: (take) => void lines.on("line", (line) => line !== "ready" && take(line)),
  };
}
