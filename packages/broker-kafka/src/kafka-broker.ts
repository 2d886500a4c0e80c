/** The broker on Kafka. */
import {
  ConnectionGate,
  IdleRelease,
  MicroError,
  Subscription,
  checkOptionNames,
  checkPublishOptions,
  checkSubscription,
  detach,
  unlessInside,
  encodeEnvelope,
  outgoingHeader,
  publishTimeout,
  silentLogger,
  supervise,
} from "@micro/core";
import type {
  Broker,
  BrokerHandler,
  Logger,
  OptionNames,
  OutgoingBrokerMessage,
  PublishOptions,
  SubscribeOptions,
  Subscriber,
  Supervisor,
} from "@micro/core";
import { BroadcastFeed } from "./broadcast-feed.ts";
import { closedError, fromKafka, isRefusal, source, typeOf } from "./errors.ts";
import type { Feed } from "./feed.ts";
import { GroupFeed } from "./group-feed.ts";
import type { OutgoingRecord } from "./kafka-client.ts";
import { Link } from "./link.ts";
import { readOptions } from "./options.ts";
import type { KafkaBrokerOptions, KafkaSettings } from "./options.ts";
import { Publisher, aborted } from "./publisher.ts";
import { recordHeaders } from "./records.ts";

/** What only Kafka has, for one publish. */
export interface KafkaPublishOptions {
  /** Messages with the same key go to the same partition, and so stay in order. Default: none, each goes to the next partition in turn. */
  key?: string | Uint8Array | undefined;
  /** The partition, whatever the key. */
  partition?: number | undefined;
}

/** What only Kafka has, for one subscription. */
export interface KafkaSubscribeOptions {
  /** Where a queue begins that has never read the topic, and a subscription without a queue: with what is published from now on, or with the oldest message there is. Default: `newest`, as Go. */
  start?: "newest" | "oldest" | undefined;
}

declare module "@micro/core" {
  interface PublishOptions {
    /** With `@micro/broker-kafka`. */
    kafka?: KafkaPublishOptions | undefined;
  }
  interface SubscribeOptions {
    /** With `@micro/broker-kafka`. */
    kafka?: KafkaSubscribeOptions | undefined;
  }
}

/**
 * A broker on Kafka, with go-micro's messages. Connects with the first use.
 * @throws {TypeError} for options that make no sense.
 */
export function kafkaBroker(options: KafkaBrokerOptions = {}): Broker {
  return new KafkaBroker(readOptions(options), options.logger ?? silentLogger);
}

/** What brokers take in one request; what a topic takes of one message is theirs to say. */
const maxRecordBytes = 100 * 1024 * 1024;
const retry = { minDelayMs: 50, maxDelayMs: 2_000 };
const further = { kafka: true } as const;
const publishNames: OptionNames<KafkaPublishOptions> = { key: true, partition: true };
const subscribeNames: OptionNames<KafkaSubscribeOptions> = { start: true };

interface Active {
  readonly subscription: Subscription;
  supervisor: Supervisor | undefined;
  /** Why it does not hold, and that the error handler knows. */
  failure: string | undefined;
  /** Attempts in a row that met a coordinator not ready yet. */
  settling: number;
}

const settlingTypes: ReadonlySet<string> = new Set([
  "GROUP_LOAD_IN_PROGRESS",
  "GROUP_COORDINATOR_NOT_AVAILABLE",
  "NOT_COORDINATOR_FOR_GROUP",
]);
const maxSettling = 10;

class KafkaBroker implements Broker {
  readonly name = "kafka";
  readonly #settings: KafkaSettings;
  readonly #logger: Logger;
  readonly #gate: ConnectionGate;
  readonly #link: Link;
  readonly #publisher: Publisher;
  readonly #active = new Set<Active>();
  #closed = false;
  #disconnecting: Promise<void> | undefined;
  readonly #idleRelease = new IdleRelease({
    isIdle: () => this.#active.size === 0 && this.#publisher.isIdle && this.#gate.waiting === 0,
    close: () => this.#link.rest(),
  });

  constructor(settings: KafkaSettings, logger: Logger) {
    this.#settings = settings;
    this.#logger = logger;
    this.#gate = new ConnectionGate({
      name: "kafka",
      backend: () => `Kafka at ${settings.addresses.join(", ")}`,
      maxWaiting: settings.maxWaiting,
    });
    this.#link = new Link({
      settings,
      logger,
      gate: this.#gate,
      onUp: () => this.#publisher.resume(),
      onRefused: (error) => {
        for (const { subscription } of this.#active) subscription.refused(error);
      },
    });
    this.#publisher = new Publisher(this.#link, logger, () => this.#idleRelease.settled());
  }

  get address(): string {
    return this.#settings.addresses[0]!;
  }

  async connect(options: { signal?: AbortSignal | undefined; timeoutMs?: number | undefined } = {}): Promise<void> {
    this.#start();
    this.#idleRelease.keep();
    await this.#gate.connected(options);
  }

  /** Keep a connection from now on. */
  #start(): void {
    if (this.#disconnecting !== undefined) throw closedError();
    this.#link.start();
  }

  publish(topic: string, message: OutgoingBrokerMessage, options: PublishOptions = {}): Promise<void> {
    try {
      if (this.#disconnecting !== undefined) throw closedError();
      checkPublishOptions(options, further);
      return this.#publish(topic, message, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Also what handlers of subscriptions that are ending give to the dead letter topic. */
  #publish(topic: string, message: OutgoingBrokerMessage, options: PublishOptions): Promise<void> {
    const header = outgoingHeader(topic, message);
    const timeoutMs = publishTimeout(options);
    checkTopic(topic);
    const key = readKey(options.kafka);
    const record: OutgoingRecord = {
      key,
      value: encodeEnvelope(header, message.body),
      headers: recordHeaders(header),
    };
    if (options.kafka?.partition !== undefined) record.partition = options.kafka.partition;
    if (record.value.length > maxRecordBytes) throw tooLarge(topic, record.value.length);
    if (this.#closed) throw closedError();
    this.#link.start();
    const what = `broker kafka: publishing to ${topic}`;
    const { signal } = options;
    if (signal?.aborted === true) throw aborted(signal);
    const waiting = this.#gate.pass(options);
    if (waiting === undefined) return this.#publisher.publish(topic, record, timeoutMs, signal, what);
    const begin = performance.now();
    return waiting.then(() => {
      if (signal?.aborted === true) throw aborted(signal);
      const left = Math.max(0, timeoutMs - (performance.now() - begin));
      return this.#publisher.publish(topic, record, left, signal, what);
    });
  }

  subscribe(topic: string, handler: BrokerHandler, options: SubscribeOptions = {}): Subscriber {
    if (this.#disconnecting !== undefined) throw closedError();
    checkSubscription(topic, handler, options, further);
    checkTopic(topic);
    if (options.deadLetter !== undefined) checkTopic(options.deadLetter);
    checkOptionNames("subscribe: kafka", options.kafka, subscribeNames);
    const { start = "newest" } = options.kafka ?? {};
    if (start !== "newest" && start !== "oldest")
      throw new TypeError("subscribe: `kafka.start` must be `newest` or `oldest`");
    const subscription: Subscription = new Subscription({
      broker: "kafka",
      owner: this,
      topic,
      handler,
      options,
      logger: this.#logger,
      lastResort: "retry",
      publish: async (deadLetter, message) => this.#publish(deadLetter, message, {}),
      stop: () => feed.stop(),
      close: async () => {
        try {
          await feed.close();
        } finally {
          this.#active.delete(active);
          await active.supervisor?.stop();
          this.#idleRelease.settled();
        }
      },
    });
    const { queue, autoAck } = options;
    const feedOptions = {
      settings: this.#settings,
      logger: this.#logger,
      topic,
      consumer: subscription.consumer,
      start,
      explicit: autoAck === false,
    };
    const feed: Feed = queue === undefined ? new BroadcastFeed(feedOptions) : new GroupFeed(feedOptions, queue);
    const active: Active = { subscription, supervisor: undefined, failure: undefined, settling: 0 };
    if (options.signal?.aborted === true) return subscription;
    this.#active.add(active);
    this.#start();
    active.supervisor = supervise({
      ...retry,
      run: ({ signal, up }) => this.#serve(active, feed, signal, up),
    });
    return subscription;
  }

  /** Make a subscription hold; settles when it no longer does. */
  async #serve(active: Active, feed: Feed, signal: AbortSignal, up: () => void): Promise<void> {
    const { subscription } = active;
    const { topic } = subscription;
    const link = await this.#link.connected(signal);
    let held = false;
    try {
      await link.topics.ensure(topic);
      await feed.run(signal, () => {
        held = true;
        active.failure = undefined;
        active.settling = 0;
        up();
        subscription.holds();
      });
    } catch (error) {
      if (signal.aborted || subscription.ended) return;
      const failure = fromKafka(error, `subscribing to ${topic}`);
      link.topics.forget(topic);
      // Deleted, or so new that not every broker knows of it: the next attempt makes it, or says that there is none.
      if (typeOf(error) === "UNKNOWN_TOPIC_OR_PARTITION") throw failure;
      // A group's coordinator that is starting, or has just moved: worth a word only if that lasts.
      if (settlingTypes.has(typeOf(error) ?? "") && ++active.settling <= maxSettling) throw failure;
      // Once: it is tried again every two seconds.
      const known = active.failure === failure.detail;
      active.failure = failure.detail;
      if (isRefusal(failure) && !held && !known) subscription.refused(failure);
      else if (this.#link.current === link && !known) subscription.consumer.report(failure);
      throw failure;
    }
  }

  async release(): Promise<void> {
    if (this.#disconnecting === undefined) await this.#idleRelease.release();
  }

  disconnect(options: { timeoutMs?: number | undefined } = {}): Promise<void> {
    return unlessInside(this, (this.#disconnecting ??= detach(() => this.#disconnect(options))));
  }

  async #disconnect({ timeoutMs = 30_000 }: { timeoutMs?: number | undefined }): Promise<void> {
    const begin = performance.now();
    await Promise.all([...this.#active].map(({ subscription }) => subscription.unsubscribe({ timeoutMs })));
    this.#idleRelease.end();
    const left = Math.max(50, timeoutMs - (performance.now() - begin));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, Math.min(left, 0x7fff_ffff))));
    // What waits for the cluster at the gate is not sent any more; what has passed it is.
    if (!this.#gate.isOpen) this.#gate.fail(closedError(), true);
    await Promise.race([this.#publisher.idle(), late]);
    clearTimeout(timer);
    this.#closed = true;
    this.#gate.fail(closedError(), true);
    this.#publisher.end();
    await this.#link.stop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.disconnect();
  }
}

/** @throws {MicroError} `bad_request` for a name that Kafka has no topics of. */
function checkTopic(topic: string): void {
  if (/^[\w.-]{1,249}$/.test(topic) && topic !== "." && topic !== "..") return;
  throw new MicroError(
    `broker kafka: ${JSON.stringify(topic.slice(0, 260))} cannot be a topic: Kafka takes 1 to 249 letters of a-z, A-Z, 0-9, ".", "_" and "-"`,
    { id: source, code: "bad_request" },
  );
}

function readKey(options: KafkaPublishOptions | undefined): Buffer | string | null {
  if (options === undefined) return null;
  checkOptionNames("publish: kafka", options, publishNames);
  const { key, partition } = options;
  if (partition !== undefined && !(Number.isInteger(partition) && partition >= 0))
    throw new TypeError("publish: `kafka.partition` must be a whole number, 0 or more");
  if (key === undefined) return null;
  if (typeof key === "string") return key;
  if (key instanceof Uint8Array) return Buffer.from(key);
  throw new TypeError("publish: `kafka.key` must be a text or a Uint8Array");
}

function tooLarge(topic: string, bytes: number): MicroError {
  const text = `broker kafka: the message for ${topic} has ${bytes} bytes on the wire, and Kafka takes requests of ${maxRecordBytes}`;
  return new MicroError(text, { id: source, code: "too_large" });
}
