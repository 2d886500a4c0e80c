/** A subscription on core NATS: at-most-once. The server cannot be held back, so what is too much here is dropped, counted and reported. */
import { MicroError, Metadata, decodeEnvelope } from "@micro/core";
import type { BrokerMessage, Consumer, Delivery } from "@micro/core";
import { fromNats, source } from "./errors.ts";
import type { LinkSubscription, NatsLink } from "./nats-client.ts";

/** What may wait for a slow handler. */
export interface PendingLimits {
  readonly maxPendingMessages: number;
  readonly maxPendingBytes: number;
}

/** How often lost messages are reported, at most. */
const reportIntervalMs = 1_000;
const drainTimeoutMs = 2_000;

/** Feeds one consumer from one link after another. */
export class CoreFeed {
  readonly #consumer: Consumer;
  readonly #topic: string;
  readonly #queue: string | undefined;
  readonly #maxMessages: number;
  readonly #maxBytes: number;
  #subscription: LinkSubscription | undefined;
  #bytes = 0;
  #lost = 0;
  #report: NodeJS.Timeout | undefined;

  constructor(topic: string, queue: string | undefined, consumer: Consumer, limits: PendingLimits) {
    this.#topic = topic;
    this.#queue = queue;
    this.#consumer = consumer;
    this.#maxMessages = consumer.prefetch + limits.maxPendingMessages;
    this.#maxBytes = limits.maxPendingBytes;
  }

  /** Subscribe on a new link. Resolves once the server knows. @param refused the server does not want it. */
  async attach(link: NatsLink, refused: (error: MicroError) => void): Promise<void> {
    this.#subscription = link.subscribe(this.#topic, this.#queue, {
      message: (subject, payload) => this.#receive(subject, payload),
      refused: (error) => refused(fromNats(error, `subscribing to ${this.#topic}`)),
    });
    await link.flush();
  }

  /** No more messages; those on their way are taken. */
  async stop(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, drainTimeoutMs)));
    try {
      // A connection that is gone has nothing on its way.
      await Promise.race([this.#subscription?.drain().catch(() => {}), late]);
    } finally {
      clearTimeout(timer);
    }
    this.#reportLost();
  }

  #receive(subject: string, payload: Uint8Array): void {
    if (this.#consumer.inFlight >= this.#maxMessages || this.#bytes + payload.length > this.#maxBytes) {
      this.#lose();
      return;
    }
    this.#bytes += payload.length;
    const forget = (): void => void (this.#bytes -= payload.length);
    let message: BrokerMessage;
    try {
      message = decodeEnvelope(payload);
    } catch (error) {
      const delivery: Delivery = { topic: subject, message: { header: new Metadata(), body: payload }, ack: forget };
      this.#consumer.unreadable(fromNats(error, `a message of ${subject}`), delivery);
      return;
    }
    void this.#consumer.deliver({ topic: subject, message, ack: forget });
  }

  #lose(): void {
    this.#lost++;
    this.#report ??= setTimeout(() => this.#reportLost(), reportIntervalMs).unref();
  }

  #reportLost(): void {
    clearTimeout(this.#report);
    this.#report = undefined;
    if (this.#lost === 0) return;
    const lost = this.#lost;
    this.#lost = 0;
    const text = `broker nats: ${lost} messages of ${this.#topic} were dropped: the subscriber is too slow for them`;
    this.#consumer.lost(lost, new MicroError(text, { id: source, code: "unavailable" }));
  }
}
