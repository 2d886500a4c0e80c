/** Messages kept by JetStream until they are handled: at-least-once. */
import { createHash } from "node:crypto";
import { AckPolicy, DeliverPolicy, RetentionPolicy, StorageType } from "@nats-io/jetstream";
import type { JetStreamManager, JsMsg } from "@nats-io/jetstream";
import { MicroError, Metadata, decodeEnvelope } from "@micro/core";
import type { BrokerMessage, Consumer, Delivery } from "@micro/core";
import { fromNats, source } from "./errors.ts";
import type { NatsLink } from "./nats-client.ts";
import type { JetStreamSettings } from "./options.ts";
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
  const readable = text.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, 60);
  return `${prefix}_${readable}_${createHash("sha256").update(text).digest("hex").slice(0, 8)}`;
}

/** Feeds one subscription's consumer from its JetStream consumer. */
export class JetStreamFeed {
  readonly #topic: string;
  readonly #queue: string | undefined;
  readonly #consumer: Consumer;
  readonly #settings: JetStreamSettings;
  /** A queue's is shared and stays; a broadcast subscription's is its own and goes with it. */
  readonly #name: string;
  readonly #unsettled = new Set<JsMsg>();
  readonly #inProgress: NodeJS.Timeout;
  #stopping = false;
  #messages: { close(): Promise<unknown> } | undefined;
  #removable: { readonly manager: JetStreamManager; readonly stream: string } | undefined;

  constructor(topic: string, queue: string | undefined, consumer: Consumer, settings: JetStreamSettings) {
    this.#topic = topic;
    this.#queue = queue;
    this.#consumer = consumer;
    this.#settings = settings;
    this.#name = queue === undefined ? `micro_${crypto.randomUUID()}` : derivedName(queue, `${queue} ${topic}`);
    // Long handlers, and messages that wait for their turn, are no reason to deliver again.
    this.#inProgress = setInterval(() => {
      for (const message of this.#unsettled) attempt(() => message.working());
    }, settings.ackWaitMs / 3).unref();
  }

  /** Consume on this link until it is over. @param up called once messages come. */
  async run(link: NatsLink, up: () => void): Promise<void> {
    const stream = await ensureStream(link, this.#topic, this.#settings);
    const manager = await link.jetstream.jetstreamManager(false);
    await this.#ensureConsumer(manager, stream);
    const consumer = await link.jetstream.consumers.get(stream, this.#name);
    if (this.#queue === undefined) this.#removable = { manager, stream };
    if (this.#stopping) return;
    const messages = await consumer.consume({
      max_messages: this.#consumer.prefetch,
      abort_on_missing_resource: true,
      idle_heartbeat: 5_000,
    });
    this.#messages = messages;
    up();
    for await (const message of messages) {
      const room = this.#deliver(message);
      if (room !== undefined) await room;
    }
  }

  async #ensureConsumer(manager: JetStreamManager, stream: string): Promise<void> {
    const config = {
      ack_policy: AckPolicy.Explicit,
      ack_wait: nanos(this.#settings.ackWaitMs),
      deliver_policy: DeliverPolicy.New,
      filter_subject: this.#topic,
      max_ack_pending: Math.max(1_000, this.#consumer.prefetch * 4),
      max_deliver: -1,
    };
    try {
      await manager.consumers.add(
        stream,
        this.#queue === undefined
          ? { ...config, name: this.#name, inactive_threshold: nanos(inactiveThresholdMs) }
          : { ...config, durable_name: this.#name },
      );
    } catch (error) {
      // One with other settings serves as well: it is somebody's choice.
      await manager.consumers.info(stream, this.#name).catch(() => {
        throw error;
      });
    }
  }

  #deliver(message: JsMsg): Promise<void> | undefined {
    this.#unsettled.add(message);
    const settle = (tell: () => void): void => {
      this.#unsettled.delete(message);
      try {
        tell();
      } catch (cause) {
        const text = `broker nats: the acknowledgement of a message of ${message.subject} could not be sent: it will be delivered again`;
        throw new MicroError(text, { id: source, code: "unavailable", cause });
      }
    };
    const ack = () => settle(() => message.ack());
    const giveBack = () => attempt(() => settle(() => message.nak()));
    let decoded: BrokerMessage;
    try {
      decoded = decodeEnvelope(message.data);
    } catch (error) {
      const raw: Delivery = {
        topic: message.subject,
        message: { header: new Metadata(), body: message.data },
        ack,
        giveBack,
      };
      this.#consumer.unreadable(fromNats(error, `a message of ${message.subject}`), raw);
      return this.#consumer.room();
    }
    return this.#consumer.deliver({ topic: message.subject, message: decoded, ack, giveBack });
  }

  /** No more messages. What was fetched and not looked at goes back with the next delivery. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#messages?.close();
  }

  /** To be called once everything is settled. */
  async close(): Promise<void> {
    clearInterval(this.#inProgress);
    const removable = this.#removable;
    if (removable === undefined) return;
    await limited(removable.manager.consumers.delete(removable.stream, this.#name)).catch(() => {});
  }
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
