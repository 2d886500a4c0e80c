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
  /** Received, and waiting for room in the consumer. */
  #pending: Delivery[] = [];
  #first = 0;
  #pumping = false;
  #bytes = 0;
  #lost = 0;
  #report: NodeJS.Timeout | undefined;

  constructor(topic: string, queue: string | undefined, consumer: Consumer, limits: PendingLimits) {
    this.#topic = topic;
    this.#queue = queue;
    this.#consumer = consumer;
    this.#maxMessages = limits.maxPendingMessages;
    this.#maxBytes = limits.maxPendingBytes;
  }

  /**
   * Subscribe on a link, and stay until the server takes that back or `over` resolves.
   * @param up called once the server knows.
   * @throws {MicroError} why the server does not want it, or not any more.
   */
  async run(link: NatsLink, over: Promise<void>, up: () => void): Promise<void> {
    const refusal = Promise.withResolvers<never>();
    refusal.promise.catch(() => {});
    this.#subscription = link.subscribe(this.#topic, this.#queue, {
      message: ({ subject, data }) => this.#receive(subject, data),
      refused: (error) => refusal.reject(fromNats(error, `subscribing to ${this.#topic}`)),
    });
    // A refusal comes before the answer to this.
    await Promise.race([link.flush(), refusal.promise]);
    up();
    await Promise.race([over, refusal.promise]);
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
    if (this.#pending.length - this.#first >= this.#maxMessages || this.#bytes + payload.length > this.#maxBytes) {
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
    const delivery: Delivery = { topic: subject, message, ack: forget };
    if (!this.#pumping && this.#consumer.room() === undefined) void this.#consumer.deliver(delivery);
    else {
      this.#pending.push(delivery);
      void this.#pump();
    }
  }

  /** Hand over what waits, as there is room. */
  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#first < this.#pending.length) {
      const room = this.#consumer.room();
      if (room !== undefined) await room;
      else void this.#consumer.deliver(this.#pending[this.#first++]!);
      if (this.#first > 1_024) {
        this.#pending = this.#pending.slice(this.#first);
        this.#first = 0;
      }
    }
    this.#pending = [];
    this.#first = 0;
    this.#pumping = false;
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
