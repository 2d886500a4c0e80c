/** Messages kept by JetStream until they are handled: at-least-once. */
import { createHash } from "node:crypto";
import { AckPolicy, DeliverPolicy, RetentionPolicy, StorageType } from "@nats-io/jetstream";
import type { ConsumerConfig, ConsumerInfo, JetStreamManager } from "@nats-io/jetstream";
import { MicroError, Metadata, decodeEnvelope } from "@micro/core";
import type { BrokerMessage, Consumer, Delivery } from "@micro/core";
import { fromNats, isApiError, source } from "./errors.ts";
import type { LinkMessage, NatsLink } from "./nats-client.ts";
import type { JetStreamSettings } from "./options.ts";
import type { RefusedPublishes } from "./refused-publishes.ts";
import { PullSession } from "./pull.ts";
import { isPattern } from "./subjects.ts";

const nanos = (milliseconds: number): number => Math.round(milliseconds * 1e6);
/** A broadcast subscription that was not ended by its process is removed by the server after this. */
const inactiveThresholdMs = 5 * 60_000;

/** The stream that holds a topic, made if need be. @throws {MicroError} */
export async function ensureStream(link: NatsLink, topic: string, settings: JetStreamSettings): Promise<string> {
  const what = `the stream of ${topic}`;
  try {
    const manager = await link.jetstream.jetstreamManager(false);
    const found = await findStream(manager, topic);
    if (found !== undefined) return found;
    if (!settings.createStreams || isPattern(topic))
      throw new MicroError(
        `broker nats: no stream holds ${topic}${isPattern(topic) ? "; one is only made for a topic without wildcards" : " and `createStreams` is off"}`,
        { id: source, code: "bad_request" },
      );
    const name = derivedName("MICRO", topic);
    try {
      await manager.streams.add({
        name,
        subjects: [topic],
        retention: settings.retention === "interest" ? RetentionPolicy.Interest : RetentionPolicy.Limits,
        storage: settings.storage === "file" ? StorageType.File : StorageType.Memory,
        num_replicas: settings.replicas,
        ...(settings.maxAgeMs === undefined ? {} : { max_age: nanos(settings.maxAgeMs) }),
      });
      return name;
    } catch (error) {
      // Somebody else may have made one meanwhile.
      const made = await findStream(manager, topic);
      if (made === undefined) throw error;
      return made;
    }
  } catch (error) {
    throw fromNats(error, what);
  }
}

async function findStream(manager: JetStreamManager, topic: string): Promise<string | undefined> {
  const [name] = await manager.streams.names(topic).next();
  return name;
}

/** A name NATS takes (no dots, blanks or wildcards), one for each text. */
function derivedName(prefix: string, text: string): string {
  const hash = createHash("sha256").update(text).digest("hex").slice(0, 8);
  return `${readable(prefix)}_${readable(text)}_${hash}`;
}

const readable = (text: string): string => text.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, 60);

/** What the server is told of a message: handled, not handled, being handled. */
const acknowledged = Buffer.from("+ACK");
const refused = Buffer.from("-NAK");
const inProgress = Buffer.from("+WPI");

const mostHeadBytes = 64 * 1024;

/** A message handed out by one connection's session. */
interface Handed {
  readonly link: NatsLink;
  readonly reply: string;
}

/** What a consumer of the server's was, for making it again. */
interface HeldConsumer {
  /** When its stream was made: another one of the same name counts anew. */
  readonly streamMade: string;
  /** Everything of the stream up to here was handled before this process joined. */
  readonly floor: number;
  /** Of the last message this process was given. */
  last: Handed | undefined;
}

/** Feeds one subscription's consumer from its JetStream consumer. */
export class JetStreamFeed {
  readonly #topic: string;
  readonly #queue: string | undefined;
  readonly #consumer: Consumer;
  readonly #settings: JetStreamSettings;
  /** A queue's is shared and stays; a broadcast subscription's is its own and goes with it. */
  readonly #name: string;
  readonly #refused: RefusedPublishes;
  readonly #unsettled = new Set<Handed>();
  readonly #keepAlive: NodeJS.Timeout;
  #stopping = false;
  #session: PullSession | undefined;
  /** Where the server's consumer, if it should be gone, goes on: it was there before. */
  #held: HeldConsumer | undefined;
  #removable: { readonly manager: JetStreamManager; readonly stream: string } | undefined;

  constructor(
    topic: string,
    queue: string | undefined,
    consumer: Consumer,
    settings: JetStreamSettings,
    refusals: RefusedPublishes,
  ) {
    this.#refused = refusals;
    this.#topic = topic;
    this.#queue = queue;
    this.#consumer = consumer;
    this.#settings = settings;
    this.#name = queue === undefined ? `micro_${crypto.randomUUID()}` : derivedName(queue, `${queue} ${topic}`);
    // Long handlers, and messages that wait for their turn, are no reason to deliver again.
    this.#keepAlive = setInterval(() => {
      for (const handed of this.#unsettled) attempt(() => handed.link.publish(handed.reply, inProgress));
    }, settings.ackWaitMs / 3).unref();
  }

  /** Consume on this link until that fails or `over` resolves. @param up called once messages come. */
  async run(link: NatsLink, over: Promise<void>, up: () => void): Promise<void> {
    const stream = await ensureStream(link, this.#topic, this.#settings);
    const manager = await link.jetstream.jetstreamManager(false);
    await this.#ensureConsumer(manager, stream);
    if (this.#queue === undefined) this.#removable = { manager, stream };
    if (this.#stopping) return;
    const session = new PullSession({
      link,
      stream,
      consumer: this.#name,
      room: () => (this.#consumer.room() === undefined ? this.#consumer.prefetch - this.#consumer.inFlight : 0),
      // The server would never hand out a message larger than what is asked for.
      roomBytes: () => Math.max(this.#consumer.roomBytes, link.maxPayload + mostHeadBytes),
      receive: (message) => this.#receive(link, message),
    });
    this.#session = session;
    try {
      // A server that does not want to be asked says so elsewhere.
      await this.#refused.during(session.subject, async () => {
        session.start();
        up();
        await Promise.race([session.over, over]);
      });
    } finally {
      await session.stop();
    }
  }

  async #ensureConsumer(manager: JetStreamManager, stream: string): Promise<void> {
    const found = await find(() => manager.consumers.info(stream, this.#name));
    const made = await find(() => manager.streams.info(stream));
    // Who may not ask cannot tell one that is gone from one that is there, and makes it as at first, which changes none.
    if (found === "forbidden" || made === "forbidden") this.#held = undefined;
    const streamMade = typeof made === "object" ? made.created : undefined;
    const info = typeof found === "object" ? found : await this.#makeConsumer(manager, stream, streamMade);
    if (info === undefined || streamMade === undefined) return;
    if (this.#held?.streamMade !== streamMade)
      this.#held = { streamMade, floor: info.ack_floor.stream_seq, last: undefined };
  }

  async #makeConsumer(
    manager: JetStreamManager,
    stream: string,
    streamMade: string | undefined,
  ): Promise<ConsumerInfo | undefined> {
    const config = {
      ack_policy: AckPolicy.Explicit,
      ack_wait: nanos(this.#settings.ackWaitMs),
      filter_subject: this.#topic,
      max_ack_pending: Math.max(1_000, this.#consumer.prefetch * 4),
      max_deliver: -1,
      ...(this.#queue === undefined
        ? { name: this.#name, inactive_threshold: nanos(inactiveThresholdMs) }
        : { durable_name: this.#name }),
    };
    try {
      return await manager.consumers.add(stream, { ...config, ...this.#beginning(streamMade) });
    } catch (error) {
      // Its messages are kept until somebody takes them, and so none may be passed over.
      if (isApiError(error) && error.code === mustDeliverAll)
        return manager.consumers.add(stream, { ...config, deliver_policy: DeliverPolicy.All });
      // Another member was quicker. One with other settings serves as well: it is somebody's choice.
      const found = await find(() => manager.consumers.info(stream, this.#name));
      if (typeof found === "object") return found;
      throw error;
    }
  }

  /** One that was there and is gone, deleted or too long unused, goes on where it was: what came meanwhile is not lost. */
  #beginning(streamMade: string | undefined): Pick<ConsumerConfig, "deliver_policy" | "opt_start_seq"> {
    const held = this.#held;
    if (held === undefined) return { deliver_policy: DeliverPolicy.New };
    // All that is in a stream made since came since.
    if (held.streamMade !== streamMade) return { deliver_policy: DeliverPolicy.All };
    // What is being handled was given by the old one, which cannot give it to anybody else if that fails.
    const unsettled = [...this.#unsettled].map(sequenceOf);
    const next =
      unsettled.length > 0
        ? Math.min(...unsettled)
        : 1 + (held.last === undefined ? held.floor : sequenceOf(held.last));
    return { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: next };
  }

  #receive(link: NatsLink, { subject, data, reply }: LinkMessage): void {
    if (reply === undefined) return;
    const handed: Handed = { link, reply };
    this.#unsettled.add(handed);
    if (this.#held !== undefined) this.#held.last = handed;
    const settle = (word: Buffer): void => {
      this.#unsettled.delete(handed);
      link.publish(reply, word);
      // Its place is free: ask for as many as there is room for.
      queueMicrotask(() => this.#session?.pull());
    };
    const ack = (): void => {
      try {
        settle(acknowledged);
      } catch (cause) {
        const text = `broker nats: the acknowledgement of a message of ${subject} could not be sent: it will be delivered again`;
        throw new MicroError(text, { id: source, code: "unavailable", cause });
      }
    };
    const giveBack = (): void => attempt(() => settle(refused));
    let message: BrokerMessage;
    try {
      message = decodeEnvelope(data);
    } catch (error) {
      const raw: Delivery = { topic: subject, message: { header: new Metadata(), body: data }, ack, giveBack };
      this.#consumer.unreadable(fromNats(error, `a message of ${subject}`), raw);
      return;
    }
    void this.#consumer.deliver({ topic: subject, message, ack, giveBack });
  }

  /** No more messages, once those on their way are there: draining the consumer gives them back. */
  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#session !== undefined) await limited(this.#session.stop());
  }

  /** To be called once everything is settled. */
  async close(): Promise<void> {
    clearInterval(this.#keepAlive);
    const removable = this.#removable;
    if (removable === undefined) return;
    await limited(removable.manager.consumers.delete(removable.stream, this.#name)).catch(() => {});
  }
}

/** `consumer must be deliver all on workqueue stream`. */
const mustDeliverAll = 10_101;

/** What the server tells of one of its things; undefined if there is none. */
async function find<T>(ask: () => Promise<T>): Promise<T | "forbidden" | undefined> {
  try {
    return await ask();
  } catch (error) {
    if (isApiError(error) && error.status === 404) return undefined;
    if (fromNats(error, "").code === "forbidden") return "forbidden";
    throw error;
  }
}

/**
 * The place of a message in its stream, from the subject its acknowledgement goes to:
 * `$JS.ACK.<stream>.<consumer>.<deliveries>.<place>.…`, or `$JS.ACK.<domain>.<account>.<stream>.…` of newer servers.
 */
function sequenceOf({ reply }: Handed): number {
  const words = reply.split(".");
  return Number(words[words.length <= 9 ? 5 : 7]);
}

const goodbyeMs = 2_000;

/** Not longer than a server that is away deserves; the server removes an unused consumer by itself. */
async function limited(work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, goodbyeMs)));
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** For what the connection may be too dead for; the message comes again then. */
function attempt(send: () => void): void {
  try {
    send();
  } catch {
    // Redelivery after the acknowledgement time is the answer to that.
  }
}
