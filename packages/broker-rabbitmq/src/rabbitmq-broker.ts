/** The broker on RabbitMQ. One connection publishes and one consumes: a server short of memory stops reading from those that publish, and must go on reading acknowledgements. */
import {
  IdleRelease,
  MicroError,
  Subscription,
  checkPublishOptions,
  checkSubscription,
  detach,
  unlessInside,
  outgoingHeader,
  silentLogger,
} from "@micro/core";
import type {
  Broker,
  BrokerHandler,
  Logger,
  OutgoingBrokerMessage,
  PublishOptions,
  SubscribeOptions,
  Subscriber,
} from "@micro/core";
import type { AmqpLink } from "./amqp-client.ts";
import { Connection } from "./connection.ts";
import { closedError, fromAmqp, isRefusal } from "./errors.ts";
import { checkTopic, writeProperties } from "./messages.ts";
import { readOptions } from "./options.ts";
import type { RabbitmqBrokerOptions, RabbitmqSettings } from "./options.ts";
import { Publisher } from "./publisher.ts";
import type { Outgoing } from "./publisher.ts";
import { QueueFeed } from "./queue-feed.ts";
import { readSubscribeOptions } from "./subscribe-options.ts";
import { Topology } from "./topology.ts";

/**
 * A broker on RabbitMQ, with go-micro's exchange and messages. Connects with the first use.
 * @throws {TypeError} for options that make no sense.
 */
export function rabbitmqBroker(options: RabbitmqBrokerOptions = {}): Broker {
  return new RabbitmqBroker(readOptions(options), options.logger ?? silentLogger);
}

/** What publishes may take to be confirmed when the broker is disconnected. */
const goodbyeMs = 5_000;
const further = { rabbitmq: true } as const;

interface Active {
  readonly subscription: Subscription;
  readonly feed: QueueFeed;
  /** The last refusal that was told: the next attempt's is the same most of the time. */
  refusal: string | undefined;
  /** Ends what keeps it on the present connection. */
  release: (() => void) | undefined;
}

class RabbitmqBroker implements Broker {
  readonly name = "rabbitmq";
  readonly #settings: RabbitmqSettings;
  readonly #logger: Logger;
  readonly #topology: Topology;
  readonly #publisher: Publisher;
  readonly #publishing: Connection;
  readonly #consuming: Connection;
  readonly #active = new Set<Active>();
  readonly #feeds = new Map<string, Set<QueueFeed>>();
  #disconnecting: Promise<void> | undefined;
  readonly #idleRelease = new IdleRelease({
    isIdle: () => this.#active.size === 0 && this.#publisher.isIdle,
    close: async () => void (await Promise.all([this.#publishing.stop(), this.#consuming.stop()])),
  });

  constructor(settings: RabbitmqSettings, logger: Logger) {
    this.#settings = settings;
    this.#logger = logger;
    this.#topology = new Topology(settings, logger);
    const backend = (): string => `RabbitMQ at ${settings.nodes.map(({ address }) => address).join(", ")}`;
    const publisher = new Publisher(settings, this.#topology, logger, backend, () => this.#idleRelease.settled());
    this.#publisher = publisher;
    this.#publishing = new Connection({
      settings,
      logger,
      onLink: (link) => {
        publisher.attach(link);
        this.#publishing.keep(link, {
          run: (up) => publisher.run(link, up),
          ended: () => false,
          failed: (error) => publisher.down(fromAmqp(error, "publishing")),
        });
      },
      onDown: (reason) => publisher.down(reason),
    });
    this.#consuming = new Connection({
      settings,
      logger,
      onLink: (link) => this.#active.forEach((active) => this.#serve(active, link)),
      onDown: (reason, refused) => {
        if (refused) this.#active.forEach((active) => refuse(active, reason));
      },
    });
  }

  get address(): string {
    return (this.#publishing.link ?? this.#consuming.link)?.address ?? this.#settings.nodes[0]!.address;
  }

  async connect(options: PublishOptions = {}): Promise<void> {
    this.#throwIfClosed();
    this.#idleRelease.keep();
    this.#publishing.start();
    await this.#publisher.gate.connected(options);
  }

  publish(topic: string, message: OutgoingBrokerMessage, options: PublishOptions = {}): Promise<void> {
    try {
      this.#throwIfClosed();
      checkPublishOptions(options, further);
      return this.#publish(this.#outgoing(topic, message, options), options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #publish(outgoing: Outgoing, options: PublishOptions): Promise<void> {
    this.#publishing.start();
    return this.#publisher.publish(outgoing, options);
  }

  #outgoing(topic: string, message: OutgoingBrokerMessage, { rabbitmq }: PublishOptions): Outgoing {
    const header = outgoingHeader(topic, message);
    checkTopic(topic);
    const { exchange, durable } = this.#settings;
    // As Go does: the routing key is only a queue then.
    if (exchange === "") header.set("Micro-Topic", topic);
    const properties = writeProperties(header, durable, rabbitmq);
    if (rabbitmq?.mandatory === true) makeMandatory(properties);
    const { body } = message;
    return { exchange, key: topic, body: Buffer.from(body.buffer, body.byteOffset, body.byteLength), properties };
  }

  /**
   * Publish what failed for good. Where nobody takes it a durable queue of that name is made, so that it does not
   * vanish.
   */
  async #bury(topic: string, message: OutgoingBrokerMessage): Promise<void> {
    const options: PublishOptions = { rabbitmq: { mandatory: true, persistent: true } };
    const outgoing = this.#outgoing(topic, message, options);
    if (!this.#topology.keepsThroughDefault) {
      try {
        await this.#publish(outgoing, options);
        return;
      } catch (error) {
        if (!MicroError.is(error) || error.code !== "not_found") throw error;
      }
    }
    this.#publishing.start();
    await this.#publisher.gate.pass();
    const link = this.#publishing.link;
    if (link !== undefined)
      try {
        await this.#topology.keep(link, topic);
      } catch (error) {
        throw fromAmqp(error, `the queue of dead letters ${topic}`);
      }
    await this.#publish(this.#topology.keepsThroughDefault ? { ...outgoing, exchange: "" } : outgoing, options);
  }

  subscribe(topic: string, handler: BrokerHandler, options: SubscribeOptions = {}): Subscriber {
    this.#throwIfClosed();
    checkSubscription(topic, handler, options, further);
    checkTopic(topic);
    const queue = readSubscribeOptions(this.#settings, topic, options.queue, options.rabbitmq);
    const subscription: Subscription = new Subscription({
      broker: this.name,
      owner: this,
      topic,
      handler,
      options,
      logger: this.#logger,
      lastResort: options.rabbitmq?.onFailure === "reject" ? "drop" : "retry",
      publish: (deadLetter, message) => this.#bury(deadLetter, message),
      stop: () => feed.stop(),
      close: async () => {
        this.#active.delete(active);
        await feed.close();
        active.release?.();
        this.#idleRelease.settled();
      },
    });
    const feed = new QueueFeed({
      topic,
      queue,
      consumer: subscription.consumer,
      settings: this.#settings,
      topology: this.#topology,
      byQueue: this.#feeds,
    });
    const active: Active = { subscription, feed, refusal: undefined, release: undefined };
    this.#active.add(active);
    this.#consuming.start();
    const { link } = this.#consuming;
    if (link !== undefined) this.#serve(active, link);
    return subscription;
  }

  /** Keep a subscription on this connection for as long as there are both. */
  #serve(active: Active, link: AmqpLink): void {
    const { subscription, feed } = active;
    active.release = this.#consuming.keep(link, {
      ended: () => subscription.ended,
      run: (up) =>
        feed.run(link, () => {
          up();
          active.refusal = undefined;
          subscription.holds();
        }),
      failed: (error) => {
        const failure = fromAmqp(error, `subscribing to ${subscription.topic}`);
        if (isRefusal(failure)) refuse(active, failure);
        else subscription.consumer.report(failure);
      },
    });
  }

  #throwIfClosed(): void {
    if (this.#disconnecting !== undefined) throw closedError();
  }

  async release(): Promise<void> {
    if (this.#disconnecting === undefined) await this.#idleRelease.release();
  }

  disconnect(options: { timeoutMs?: number | undefined } = {}): Promise<void> {
    return unlessInside(this, (this.#disconnecting ??= detach(() => this.#disconnect(options))));
  }

  async #disconnect(options: { timeoutMs?: number | undefined }): Promise<void> {
    await Promise.all([...this.#active].map(({ subscription }) => subscription.unsubscribe(options)));
    this.#idleRelease.end();
    await this.#publisher.end(Math.min(options.timeoutMs ?? goodbyeMs, goodbyeMs));
    await Promise.all([this.#publishing.stop(), this.#consuming.stop()]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.disconnect();
  }
}

/** A mandatory message that comes back is known by its id. */
function makeMandatory(properties: Outgoing["properties"]): void {
  properties.mandatory = true;
  properties.messageId ??= crypto.randomUUID();
}

function refuse(active: Active, failure: MicroError): void {
  if (active.refusal === failure.detail) return;
  active.refusal = failure.detail;
  active.subscription.refused(failure);
}
