/**
 * The subscribers of one server: kept, subscribed to the broker while the server runs, described for the registry, and
 * run for events that come over the transport. Source: go-micro `server/rpc_server.go`, `server/subscriber.go`.
 *
 * For authors of servers; users subscribe with a server or a service.
 */
import type { Broker, Subscriber } from "../broker/broker.ts";
import { withLimit } from "../clock.ts";
import type { CodecTable } from "../codec/codec.ts";
import { codecTable } from "../codec/table.ts";
import type { Context } from "../context.ts";
import { MicroError, fromError, stringify } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import { checkOptionNames, type OptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import type { Endpoint } from "../registry/registry.ts";
import { EventReader } from "./event-messages.ts";
import { EventSubscription, type SubscriptionHost } from "./event-subscription.ts";
import type { EventSubscribeOptions, SubscriberRegistration, SubscriberWrapper } from "./events.ts";
import { defaultContentType } from "./messages.ts";
import { readSubscription } from "./subscription-arguments.ts";

/** What {@link Subscribers} is made of. */
export interface SubscribersOptions {
  /** The service's name, for contexts and errors. */
  readonly service: string;
  readonly logger: Logger;
  /** A function is asked at the start, and by subscriptions made later. Undefined: nobody can subscribe. */
  readonly broker: Broker | (() => Broker) | undefined;
  /** Further codecs by content type. Default: none. */
  readonly codecs?: CodecTable | undefined;
  /** What a message without `Content-Type` is taken for. Default: `application/protobuf`, as Go's mucp server does. */
  readonly contentType?: string | undefined;
  /** Largest event, in bytes, of subscriptions that do not say otherwise. Default: the broker's. */
  readonly maxMessageBytes?: number | undefined;
  /** The first listed is the outermost. */
  readonly wrapSubscriber?: readonly SubscriberWrapper[] | undefined;
  /** The server: a handler that ends it is not waited for by itself (`unlessInside`). Default: none. */
  readonly owner?: object | undefined;
}

const optionNames: OptionNames<SubscribersOptions> = {
  service: true,
  logger: optionKinds.logger,
  broker: optionKinds.brokerOrFunction,
  codecs: optionKinds.codecs,
  contentType: true,
  maxMessageBytes: true,
  wrapSubscriber: optionKinds.functions,
  owner: true,
};

/** A consumer group may take seconds to form. */
const readyLimitMs = 30_000;
const failedStartDrainMs = 5_000;

/** See the head of this file. A server delegates `subscribe` to it, and calls the rest at the times named. */
export class Subscribers implements SubscriberRegistration {
  readonly #options: SubscribersOptions;
  readonly #host: SubscriptionHost;
  readonly #wrappers: readonly SubscriberWrapper[];
  readonly #subscriptions = new Set<EventSubscription>();
  /** Set while the server runs. */
  #broker: Broker | undefined;
  #starting: AbortController | undefined;

  constructor(options: SubscribersOptions) {
    checkOptionNames("Subscribers", options, optionNames);
    this.#options = options;
    this.#wrappers = [...(options.wrapSubscriber ?? [])];
    this.#host = {
      service: options.service,
      reader: new EventReader(options.service, codecTable(options.codecs), options.contentType ?? defaultContentType),
      maxMessageBytes: options.maxMessageBytes,
      logger: options.logger,
      owner: options.owner,
      ended: (subscription) => void this.#subscriptions.delete(subscription),
    };
  }

  subscribe(topic: unknown, handler: unknown, options: EventSubscribeOptions = {}): Subscriber {
    if (this.#options.broker === undefined)
      throw new TypeError("subscribe: the server has no broker; give it one as `broker`");
    const subscription = new EventSubscription(this.#host, readSubscription(topic, handler, options, this.#wrappers));
    if (subscription.ended) return subscription;
    // First, because it throws for what the broker cannot carry.
    try {
      if (this.#broker !== undefined) void subscription.begin(this.#broker);
    } catch (error) {
      // There will be none: what it listens to is let go.
      void subscription.unsubscribe();
      throw error;
    }
    this.#subscriptions.add(subscription);
    return subscription;
  }

  /** True if somebody subscribed to exactly this topic. */
  has(topic: string): boolean {
    for (const subscription of this.#subscriptions) if (subscription.topic === topic) return true;
    return false;
  }

  /** Endpoints to register after those of the handlers: by topic, descending, as Go does. Internal ones are left out. */
  endpoints(): Endpoint[] {
    return [...this.#subscriptions]
      .toSorted((a, b) => (a.topic < b.topic ? 1 : a.topic > b.topic ? -1 : 0))
      .flatMap((subscription) => subscription.endpoints());
  }

  /**
   * Connect the broker and subscribe, once the server listens. Resolves when every subscription holds.
   *
   * Only where there are subscribers: a service that publishes, or does neither, opens no second port and starts without the
   * broker.
   * @throws {MicroError} what `Broker.connect` throws, `aborted` by {@link stop}; nothing is subscribed then.
   */
  async start(): Promise<void> {
    const { broker: given, logger } = this.#options;
    if (given === undefined) return;
    const broker = typeof given === "function" ? given() : given;
    const starting = new AbortController();
    this.#starting = starting;
    const { signal } = starting;
    try {
      const subscribes = this.#subscriptions.size > 0;
      if (subscribes) {
        await broker.listen?.();
        await connect(broker, signal);
        logger.info(`Broker [${broker.name}] Connected to ${broker.address}`);
      }
      if (signal.aborted) throw signal.reason;
      this.#broker = broker;
      const ready = Promise.all([...this.#subscriptions].map((subscription) => subscription.begin(broker)));
      await withLimit(ready, { signal, timeoutMs: readyLimitMs, what: `broker ${broker.name}: subscribing` });
    } catch (error) {
      // Events of the subscriptions that held already were taken: their handlers may finish.
      await this.#end(signal.aborted ? 0 : failedStartDrainMs);
      throw error;
    } finally {
      if (this.#starting === starting) this.#starting = undefined;
    }
  }

  /** Take no more events, and let running handlers finish for up to `timeoutMs`; then they are cancelled. Never rejects. */
  drain(timeoutMs: number): Promise<void> {
    return this.#end(timeoutMs);
  }

  /** End at once, a start included. They may be started again. Never rejects. */
  stop(): Promise<void> {
    this.#starting?.abort(
      new MicroError("the server was stopped while it started", { id: this.#options.service, code: "aborted" }),
    );
    return this.#end(0);
  }

  async #end(timeoutMs: number): Promise<void> {
    this.#broker = undefined;
    await Promise.all([...this.#subscriptions].map((subscription) => subscription.end(timeoutMs)));
  }

  /**
   * Run the subscribers of an event that came over the transport; its topic is the context's endpoint.
   * @throws {MicroError} their failures as one error with Go's text (`server/rpc_router.go`, `ProcessMessage`).
   */
  async deliver(context: Context): Promise<void> {
    const topic = context.endpoint;
    const subscriptions = [...this.#subscriptions].filter((subscription) => subscription.topic === topic);
    const outcomes = await Promise.allSettled(subscriptions.map((subscription) => subscription.deliver(context)));
    const errors = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason as unknown] : []));
    if (errors.length === 0) return;
    const texts = errors.map((error) => (MicroError.is(error) ? stringify(error) : fromError(error).detail));
    throw new MicroError(`subscriber error: ${texts.join("\n")}`, {
      id: "go.micro.server",
      code: "internal",
      cause: errors[0],
    });
  }
}

async function connect(broker: Broker, signal: AbortSignal): Promise<void> {
  try {
    await broker.connect({ signal });
  } catch (cause) {
    if (signal.aborted) throw signal.reason;
    const { code, statusCode, detail, id } = fromError(cause);
    throw new MicroError(`Broker [${broker.name}] cannot be connected: ${detail}`, { id, code, statusCode, cause });
  }
}
