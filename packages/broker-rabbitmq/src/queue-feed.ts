/** Feeds one subscription from its queue: declared, bound and consumed again on every connection, over a channel of its own. */
import { MicroError } from "@micro/core";
import type { BrokerMessage, Consumer, Delivery } from "@micro/core";
import { Acknowledger } from "./acknowledger.ts";
import type { AmqpChannel, AmqpLink, AmqpMessage } from "./amqp-client.ts";
import { serverText, source } from "./errors.ts";
import { ReceivedMessage, keyMatcher } from "./messages.ts";
import type { RabbitmqSettings } from "./options.ts";
import type { QueueSettings } from "./subscribe-options.ts";
import type { Topology } from "./topology.ts";

/** Settings of {@link QueueFeed}. */
export interface QueueFeedOptions {
  readonly topic: string;
  readonly queue: QueueSettings;
  readonly consumer: Consumer;
  readonly settings: RabbitmqSettings;
  readonly topology: Topology;
  /** The feeds of this process by the name of their queue; this one joins them. */
  readonly byQueue: Map<string, Set<QueueFeed>>;
}

/** Bindings are made anew so often: nobody tells when an exchange or a binding was deleted. */
const rebindMs = 15_000;
/** How long a message of somebody else's topic is kept before it goes back. */
const foreignPauseMs = 1_000;
const goodbyeMs = 2_000;
/** How often a quorum queue has handed out a message before. */
const deliveryCountHeader = "x-delivery-count";
/** Half of what RabbitMQ 4 has for a limit. */
const manyDeliveries = 10;
/** What AMQP has room for. */
const maxPrefetch = 65_535;

/** What one channel has handed out. */
class Session {
  readonly channel: AmqpChannel;
  readonly acknowledger: Acknowledger;
  /** A queue of this subscription alone: what it held is gone with the connection. */
  readonly exclusive: boolean;
  /** Resolves with the consumer's tag. */
  consuming: Promise<string> | undefined;

  constructor(channel: AmqpChannel, exclusive: boolean, consumer: Consumer) {
    this.channel = channel;
    this.exclusive = exclusive;
    this.acknowledger = new Acknowledger(channel, (count) => {
      // What nobody will deliver again needs no word.
      if (!exclusive) consumer.report(notSent(`${count} acknowledgements`));
    });
  }
}

class QueueDelivery implements Delivery {
  readonly topic: string;
  readonly message: BrokerMessage;
  readonly session: Session;
  readonly #tag: number;

  constructor(session: Session, message: AmqpMessage) {
    this.session = session;
    this.#tag = message.tag;
    this.topic = message.routingKey;
    this.message = new ReceivedMessage(message);
  }

  ack(): void {
    if (this.session.acknowledger.ack(this.#tag) || this.session.exclusive) return;
    throw notSent(`the acknowledgement of a message of ${this.topic}`);
  }
  giveBack(): void {
    this.session.acknowledger.reject(this.#tag, true);
  }
  drop(): void {
    this.session.acknowledger.reject(this.#tag, false);
  }
}

function notSent(what: string): MicroError {
  const text = `broker rabbitmq: ${what} could not be sent: what it was for will be delivered again`;
  return new MicroError(text, { id: source, code: "unavailable" });
}

/** See the head of this file. */
export class QueueFeed {
  readonly #options: QueueFeedOptions;
  readonly #matches: (key: string) => boolean;
  readonly #foreignTold = new Set<string>();
  readonly #pauses = new Set<NodeJS.Timeout>();
  #session: Session | undefined;
  /** The queue may have a limit of deliveries that nobody chose. */
  #mayDrop = false;
  #stopping = false;

  constructor(options: QueueFeedOptions) {
    this.#options = options;
    const { settings, topic, queue, byQueue } = options;
    // Elsewhere the routing key does not say whose a message is.
    this.#matches = settings.exchangeKind === "topic" ? keyMatcher(topic) : (key) => key === topic;
    if (queue.name === "") return;
    const feeds = byQueue.get(queue.name) ?? new Set();
    byQueue.set(queue.name, feeds.add(this));
  }

  /** Consume over this connection until its channel ends. @param up called once messages come. */
  async run(link: AmqpLink, up: () => void): Promise<void> {
    const { topology, queue, settings, topic, consumer } = this.#options;
    await topology.ensureExchange(link);
    const { name, asPreferred } = await topology.declareQueue(link, queue);
    this.#mayDrop =
      queue.name !== "" && !queue.limitChosen && !(asPreferred && Object.keys(queue.preferred).length > 0);
    const channel = await link.openChannel();
    const session = new Session(channel, queue.exclusive, consumer);
    let rebind: NodeJS.Timeout | undefined;
    try {
      await channel.prefetch(Math.min(consumer.prefetch, maxPrefetch));
      const bind = (): Promise<void> => channel.bindQueue(name, settings.exchange, topic, queue.bindingArguments);
      if (settings.exchange !== "") {
        await bind();
        // A failure ends the channel.
        rebind = setInterval(() => void bind().catch(() => {}), rebindMs).unref();
      }
      if (this.#stopping) return;
      const cancelled = Promise.withResolvers<Error>();
      // Messages come before the answer to this does, and from then on whoever stops has this session to wait for.
      this.#session = session;
      session.consuming = channel.consume(name, queue.priority, {
        message: (message) => this.#receive(session, message),
        cancelled: () => cancelled.resolve(new Error(`the queue ${JSON.stringify(name)} was deleted`)),
      });
      await session.consuming;
      if (this.#stopping) return;
      up();
      const reason = await Promise.race([cancelled.promise, channel.closed]);
      // Whatever the reason was, it held until now, and will again.
      const why = reason === undefined ? "the channel was closed" : serverText(reason);
      const text = `broker rabbitmq: the subscription to ${topic} was interrupted: ${why}`;
      throw new MicroError(text, { id: source, code: "unavailable", cause: reason });
    } catch (error) {
      topology.forgetExchange(link);
      throw error;
    } finally {
      clearInterval(rebind);
      // One that is stopping ends its session itself, when all is settled.
      if (!this.#stopping || this.#session !== session) this.#leave(session);
    }
  }

  /** The server has what this session handed out, or will have. */
  #leave(session: Session): void {
    if (this.#session === session) this.#session = undefined;
    session.acknowledger.flush();
    session.channel.close().catch(() => {});
    this.#revoke(session);
  }

  /** What waits for its turn and came with this session will come with another one. */
  #revoke(session: Session): void {
    const gone = (delivery: Delivery): boolean =>
      delivery instanceof QueueDelivery && delivery.session === session && !session.exclusive;
    for (const feed of this.#feeds()) feed.#options.consumer.revoke(gone);
  }

  #feeds(): Iterable<QueueFeed> {
    return this.#options.byQueue.get(this.#options.queue.name) ?? [this];
  }

  #receive(session: Session, message: AmqpMessage): void {
    session.acknowledger.took(message.tag);
    if (this.#mayDrop) this.#watchLimit(message);
    const feed = this.#addressee(message);
    if (feed !== undefined) void feed.#options.consumer.deliver(new QueueDelivery(session, message));
    else this.#giveBackLater(session, message);
  }

  /** Said while there is time: of what a queue drops nobody is told. */
  #watchLimit({ headers, routingKey }: AmqpMessage): void {
    const count = headers?.[deliveryCountHeader];
    if (typeof count !== "number" || count < manyDeliveries) return;
    this.#mayDrop = false;
    const { consumer, queue } = this.#options;
    const text = `broker rabbitmq: a message of ${JSON.stringify(routingKey)} was handed out ${count} times and not handled: the queue ${queue.name} drops what comes more often than its delivery limit, which is 20 in RabbitMQ 4 unless the queue or a policy has another; give it \`x-delivery-limit: -1\`, by a new queue with \`queueType: "quorum"\` or by a policy, or say \`deliveryLimit: "server"\` if that is wanted`;
    consumer.report(new MicroError(text, { id: source, code: "conflict" }));
  }

  /** A queue bound to several topics has one name for all of them, as in Go; each message goes where its topic is handled. */
  #addressee({ exchange, routingKey }: AmqpMessage): QueueFeed | undefined {
    const { settings, queue } = this.#options;
    const isOurs = exchange === settings.exchange && settings.exchange !== "" && settings.exchangeKind !== "fanout";
    if (queue.name === "" || !isOurs || this.#matches(routingKey)) return this;
    for (const feed of this.#feeds()) if (!feed.#stopping && feed.#matches(routingKey)) return feed;
    return undefined;
  }

  /** Another process subscribes that topic with this queue, or did: it shall have the message. */
  #giveBackLater(session: Session, { tag, routingKey }: AmqpMessage): void {
    const { consumer, queue } = this.#options;
    if (!this.#foreignTold.has(routingKey) && this.#foreignTold.size < 100) {
      this.#foreignTold.add(routingKey);
      const text = `broker rabbitmq: the queue ${queue.name} is bound to ${JSON.stringify(routingKey)}, too, which nobody subscribes in this process: such messages go back, and hold up others; unbind it, or use another queue name`;
      consumer.report(new MicroError(text, { id: source, code: "conflict" }));
    }
    const timer = setTimeout(() => {
      this.#pauses.delete(timer);
      session.acknowledger.reject(tag, true);
    }, foreignPauseMs).unref();
    this.#pauses.add(timer);
  }

  /** No more messages, once those on their way are there. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const session = this.#session;
    if (session?.consuming === undefined || !session.channel.isOpen) return;
    await limited(session.consuming.then((tag) => session.channel.cancel(tag)));
  }

  /** To be called once everything is settled; what is not goes back to the queue. */
  async close(): Promise<void> {
    const { byQueue, queue } = this.#options;
    for (const timer of this.#pauses) clearTimeout(timer);
    const session = this.#session;
    if (session !== undefined) {
      session.acknowledger.flush();
      await limited(session.channel.close());
      this.#revoke(session);
    }
    const feeds = byQueue.get(queue.name);
    feeds?.delete(this);
    if (feeds?.size === 0) byQueue.delete(queue.name);
  }
}

/** Not longer than a server that is away deserves, and whatever it says. */
async function limited(work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, goodbyeMs)));
  await Promise.race([work.catch(() => {}), late]);
  clearTimeout(timer);
}
