/** The broker on NATS. One connection; what should be subscribed is subscribed again on every new one. */
import {
  ConnectionGate,
  IdleRelease,
  Metadata,
  MicroError,
  Subscription,
  checkPublishOptions,
  checkSubscription,
  detach,
  unlessInside,
  encodeEnvelope,
  publishTimeout,
  publishWithin,
  silentLogger,
  supervise,
  brokerLine,
  logConnectionLost,
} from "@micro/core";
import type {
  Broker,
  BrokerHandler,
  Logger,
  OutgoingBrokerMessage,
  PublishOptions,
  SubscribeOptions,
  Subscriber,
  Supervisor,
} from "@micro/core";
import { CoreFeed } from "./core-subscription.ts";
import { closedError, fromNats, isRefusal, source } from "./errors.ts";
import { JetStreamFeed, ensureStream } from "./jetstream.ts";
import { openLink } from "./nats-client.ts";
import type { NatsLink } from "./nats-client.ts";
import { RefusedPublishes } from "./refused-publishes.ts";
import { readOptions } from "./options.ts";
import type { NatsBrokerOptions, NatsSettings } from "./options.ts";
import { checkPattern, checkQueue, checkTopic } from "./subjects.ts";

/**
 * A broker on NATS, with go-micro's messages. Connects with the first use.
 * @throws {TypeError} for options that make no sense.
 */
export function natsBroker(options: NatsBrokerOptions = {}): Broker {
  return new NatsBroker(readOptions(options), options.logger ?? silentLogger);
}

/** What may be on its way to the server, at most, before publishes wait for it to have read some. */
const maxUnreadBytes = 4 * 1024 * 1024;
/** How often it is asked how far it is. */
const flushBytes = 512 * 1024;
const retry = { minDelayMs: 50, maxDelayMs: 2_000 };
/** Topics known to be allowed; a program that has more of them asks again now and then. */
const maxAllowed = 10_000;
/** By which requests to the server outlast the publishes they are made for. */
const spareMs = 5_000;
const further = { nats: true } as const;

interface Active {
  readonly subscription: Subscription;
  readonly feed: CoreFeed | JetStreamFeed;
  /** Why it does not hold, and that the error handler knows: it is tried again and again. */
  failure: string | undefined;
  /** Resolves when it ends, or the connection does that it is on. */
  over: PromiseWithResolvers<void>;
}

class NatsBroker implements Broker {
  readonly name = "nats";
  readonly #settings: NatsSettings;
  readonly #logger: Logger;
  readonly #gate: ConnectionGate;
  readonly #active = new Set<Active>();
  readonly #publishing = new Set<Promise<void>>();
  /** Topics that this connection has been seen to publish to; with JetStream the streams show it. */
  #allowed = new Set<string>();
  readonly #refused: RefusedPublishes;
  /** Topics whose stream is there, and the making of those that are not yet. */
  readonly #streams = new Map<string, Promise<void> | undefined>();
  /** Resolves with the outcome of the first attempt to connect. */
  readonly #tried = Promise.withResolvers<void>();
  #supervisor: Supervisor | undefined;
  #link: NatsLink | undefined;
  #lost = false;
  /** Bytes published on this link, those before the last flush, and those the server has read. */
  #sent = 0;
  #flushedAt = 0;
  #read = 0;
  /** The flush that publishes wait for, when there is too much on its way. */
  #flushing: Promise<void> | undefined;
  #disconnecting: Promise<void> | undefined;
  /** The former connection is being closed. */
  #leaving: Promise<void> | undefined;
  readonly #idleRelease = new IdleRelease({
    isIdle: () => this.#active.size === 0 && this.#publishing.size === 0 && this.#gate.waiting === 0,
    close: () => this.#leave(),
  });

  constructor(settings: NatsSettings, logger: Logger) {
    this.#settings = settings;
    this.#logger = logger;
    this.#refused = new RefusedPublishes(logger);
    this.#gate = new ConnectionGate({
      name: "nats",
      backend: () => `NATS at ${settings.servers.join(", ")}`,
      maxWaiting: settings.maxWaiting,
    });
  }

  get address(): string {
    return this.#link?.server ?? this.#settings.servers[0]!;
  }

  async connect(options: PublishOptions = {}): Promise<void> {
    this.#start();
    this.#idleRelease.keep();
    await this.#gate.connected(options);
  }

  /** Keep a connection from now on. */
  #start(): void {
    if (this.#disconnecting !== undefined) throw closedError();
    this.#supervisor ??= supervise({ run: (task) => this.#run(task.signal, task.up), ...retry });
  }

  async #run(signal: AbortSignal, up: () => void): Promise<void> {
    let link: NatsLink;
    await this.#leaving;
    try {
      link = await openLink(this.#settings, [...new Set([...this.#settings.servers, ...this.#cluster])]);
    } catch (error) {
      if (!signal.aborted) this.#refusedOrAway(error);
      throw error;
    } finally {
      this.#tried.resolve();
    }
    if (signal.aborted) {
      await link.close();
      return;
    }
    this.#cluster = link.cluster;
    this.#link = link;
    this.#sent = this.#flushedAt = this.#read = 0;
    this.#flushing = undefined;
    this.#allowed = new Set();
    link.onRefused = (subject, error) => {
      this.#allowed.delete(subject);
      this.#refused.add(subject, error);
    };
    link.onError = (error) => this.#complaint(link, error);
    // The service says so of the first one.
    this.#logger.log(this.#lost ? "info" : "debug", `Broker [nats] Connected to ${link.server}`);
    for (const active of this.#active) if (!active.subscription.ended) this.#serve(active, link);
    up();
    this.#gate.open();
    const reason = await link.closed;
    for (const active of this.#active) active.over.resolve();
    if (signal.aborted) return;
    this.#link = undefined;
    this.#lost = true;
    this.#streams.clear();
    this.#gate.close(reason ?? "the connection was closed");
    const error = fromNats(reason ?? new Error("the connection was closed"), `the connection to ${link.server}`);
    logConnectionLost(this.#logger, "nats", error);
    throw error;
  }

  #cluster: readonly string[] = [];

  /** The server says what is wrong to the connection, not to what caused it. */
  #complaint(link: NatsLink, error: Error): void {
    const failure = fromNats(error, `the connection to ${link.server}`);
    this.#logger.error(brokerLine(failure));
    // Which of them it is about is not said: those that do not hold yet, if anything.
    if (/subscriptions exceeded/i.test(error.message))
      for (const { subscription } of this.#active) subscription.consumer.report(failure);
  }

  /** Who waits learns at once what waiting cannot mend; the next attempt is made all the same. */
  #refusedOrAway(error: unknown): void {
    const failure = fromNats(error, "connecting");
    if (!isRefusal(failure)) {
      this.#gate.close(failure);
      return;
    }
    this.#gate.fail(failure);
    for (const { subscription } of this.#active) subscription.refused(failure);
  }

  publish(topic: string, message: OutgoingBrokerMessage, options: PublishOptions = {}): Promise<void> {
    try {
      checkPublishOptions(options, further);
      const allowed = this.#allowed.has(topic);
      if (!allowed) checkTopic(topic);
      this.#start();
      const { header, body } = message;
      const payload = encodeEnvelope(header instanceof Metadata ? header : new Metadata(header), body);
      if (this.#settings.jetstream !== undefined) return this.#remember(this.#store(topic, payload, options));
      const waiting = this.#gate.pass(options);
      if (waiting !== undefined) return this.#remember(this.#sendLater(waiting, topic, payload, options));
      return allowed ? this.#send(topic, payload, options) : this.#remember(this.#sendFirst(topic, payload, options));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Disconnecting waits for it. */
  #remember(publish: Promise<void>): Promise<void> {
    this.#publishing.add(publish);
    const forget = (): void => {
      this.#publishing.delete(publish);
      this.#idleRelease.settled();
    };
    publish.then(forget, forget);
    return publish;
  }

  async #sendLater(waiting: Promise<void>, topic: string, payload: Uint8Array, options: PublishOptions): Promise<void> {
    const deadline = performance.now() + publishTimeout(options);
    await waiting;
    await this.#sendFirst(topic, payload, { ...options, timeoutMs: Math.max(0, deadline - performance.now()) });
  }

  /** The first messages of a topic over a connection wait for the server to have read them: if the user may not publish there, it says so by then. */
  async #sendFirst(topic: string, payload: Uint8Array, options: PublishOptions): Promise<void> {
    const link = this.#link;
    if (link === undefined) return this.#sendLater(this.#gate.pass(options) ?? done, topic, payload, options);
    const read = this.#refused.during(topic, async () => {
      await this.#send(topic, payload, options);
      await readBy(link, topic);
    });
    await publishWithin(read, { ...options, broker: "nats", topic });
    if (this.#link !== link) return;
    if (this.#allowed.size >= maxAllowed) this.#allowed.clear();
    this.#allowed.add(topic);
    this.#refused.forget(topic);
  }

  #send(topic: string, payload: Uint8Array, options: PublishOptions): Promise<void> {
    const link = this.#link!;
    this.#checkSize(link, topic, payload);
    try {
      link.publish(topic, payload);
    } catch (error) {
      throw fromNats(error, `publishing to ${topic}`);
    }
    this.#sent += payload.length;
    if (this.#idleRelease.released) this.#idleRelease.settled();
    if (this.#sent - this.#flushedAt >= flushBytes) this.#flush(link);
    if (this.#flushing === undefined || this.#sent - this.#read < maxUnreadBytes) return done;
    return publishWithin(this.#flushing, { ...options, broker: "nats", topic });
  }

  #checkSize(link: NatsLink, topic: string, payload: Uint8Array): void {
    if (payload.length <= link.maxPayload) return;
    const text = `broker nats: the message for ${topic} has ${payload.length} bytes on the wire, and the server takes ${link.maxPayload} (\`max_payload\`)`;
    throw new MicroError(text, { id: source, code: "too_large" });
  }

  #flush(link: NatsLink): void {
    const sent = (this.#flushedAt = this.#sent);
    const flushing = this.#flushOnce(link, sent);
    // A publish that waits for it hears of a failure; the others were made at most once anyway.
    flushing.catch(() => {});
    this.#flushing = flushing;
  }

  async #flushOnce(link: NatsLink, sent: number): Promise<void> {
    try {
      await link.flush();
    } catch (error) {
      throw fromNats(error, "publishing");
    }
    if (this.#link === link) this.#read = sent;
  }

  /** Publish to a stream. The server drops repetitions of a message's id, so an unclear outcome is tried again. */
  async #store(topic: string, payload: Uint8Array, options: PublishOptions): Promise<void> {
    const deadline = performance.now() + publishTimeout(options);
    const remaining = (): number => Math.max(0, deadline - performance.now());
    const msgID = crypto.randomUUID();
    for (let tries = 0; ; tries++) {
      const waiting = this.#gate.pass(tries === 0 ? options : { ...options, timeoutMs: remaining() });
      if (waiting !== undefined) await waiting;
      const link = this.#link;
      if (link === undefined) continue;
      this.#checkSize(link, topic, payload);
      try {
        const made = this.#ensureStream(link, topic);
        if (made !== undefined)
          await publishWithin(made, { ...options, broker: "nats", topic, timeoutMs: remaining() });
        const timeoutMs = remaining();
        // The client's own limit would pass before an answer is read that came while this process was busy.
        const timeout = Math.ceil(timeoutMs) + spareMs;
        const stored = link.jetstream.publish(topic, payload, { msgID, timeout });
        await publishWithin(stored, { ...options, broker: "nats", topic, timeoutMs });
        return;
      } catch (error) {
        const failure = fromNats(error, `publishing to ${topic}`);
        if (remaining() === 0 || failure.code !== "unavailable") throw failure;
        // The stream may be gone, with the state of the server.
        this.#streams.delete(topic);
        await pause(Math.min(50 * 2 ** Math.min(tries, 5), remaining()), options.signal);
      }
    }
  }

  /** Looked up once a topic and connection. @returns undefined once it is known to be there. */
  #ensureStream(link: NatsLink, topic: string): Promise<void> | undefined {
    if (this.#streams.has(topic)) return this.#streams.get(topic);
    const streams = this.#streams;
    const made = ensureStream(link, topic, this.#settings.jetstream!).then(
      () => {
        if (streams.get(topic) === made) streams.set(topic, undefined);
        return undefined;
      },
      (error: unknown) => {
        if (streams.get(topic) === made) streams.delete(topic);
        throw error;
      },
    );
    if (streams.size >= 10_000) streams.clear();
    streams.set(topic, made);
    return made;
  }

  subscribe(topic: string, handler: BrokerHandler, options: SubscribeOptions = {}): Subscriber {
    if (this.#disconnecting !== undefined) throw closedError();
    const { jetstream } = this.#settings;
    checkSubscription(topic, handler, options, further);
    checkPattern(topic);
    checkQueue(options.queue);
    if (options.deadLetter !== undefined) checkTopic(options.deadLetter);
    const subscription: Subscription = new Subscription({
      broker: "nats",
      owner: this,
      topic,
      handler,
      options,
      logger: this.#logger,
      lastResort: jetstream === undefined ? "drop" : "retry",
      publish: (deadLetter, message) => this.publish(deadLetter, message),
      stop: () => feed.stop(),
      close: async () => {
        if (feed instanceof JetStreamFeed) await feed.close();
        this.#active.delete(active);
        active.over.resolve();
        this.#idleRelease.settled();
      },
    });
    const { consumer } = subscription;
    const feed =
      jetstream === undefined
        ? new CoreFeed(topic, options.queue, consumer, this.#settings)
        : new JetStreamFeed(topic, options.queue, consumer, jetstream, this.#refused);
    const active: Active = { subscription, feed, failure: undefined, over: Promise.withResolvers() };
    this.#active.add(active);
    this.#start();
    if (this.#link !== undefined) this.#serve(active, this.#link);
    return subscription;
  }

  /** Keep a subscription on this link for as long as there are both. */
  #serve(active: Active, link: NatsLink): void {
    const { subscription, feed } = active;
    const over = Promise.withResolvers<void>();
    active.over = over;
    const supervisor = supervise({
      ...retry,
      run: async ({ up }) => {
        try {
          await feed.run(link, over.promise, () => {
            up();
            active.failure = undefined;
            subscription.holds();
          });
        } catch (error) {
          if (this.#link !== link || subscription.ended) return;
          const failure = fromNats(error, `subscribing to ${subscription.topic}`);
          // Once: it is tried again every two seconds, and holds when it is allowed (again).
          const known = active.failure === failure.detail;
          active.failure = failure.detail;
          if (isRefusal(failure) && !known) subscription.refused(failure);
          else if (!known) subscription.consumer.report(failure);
          throw failure;
        } finally {
          if (this.#link !== link || subscription.ended) void supervisor.stop();
        }
      },
    });
  }

  async release(): Promise<void> {
    if (this.#disconnecting === undefined) await this.#idleRelease.release();
  }

  /** Close the connection, for now. */
  async #leave(): Promise<void> {
    const link = this.#forgetLink();
    const stopped = this.#supervisor?.stop();
    this.#supervisor = undefined;
    // An attempt to connect that is under way cannot be called off.
    if (link === undefined) return;
    this.#leaving = closeLink(link);
    await this.#leaving;
    await stopped;
  }

  /** Nothing goes over it any more. */
  #forgetLink(): NatsLink | undefined {
    const link = this.#link;
    this.#link = undefined;
    this.#streams.clear();
    this.#gate.close("the connection was closed");
    return link;
  }

  disconnect(options: { timeoutMs?: number | undefined } = {}): Promise<void> {
    return unlessInside(this, (this.#disconnecting ??= detach(() => this.#disconnect(options))));
  }

  async #disconnect(options: { timeoutMs?: number | undefined }): Promise<void> {
    await Promise.all([...this.#active].map(({ subscription }) => subscription.unsubscribe(options)));
    this.#idleRelease.end();
    await this.#leaving;
    // The first attempt to connect decides whether anybody listens.
    if (this.#supervisor !== undefined) await this.#tried.promise;
    const link = this.#link;
    // What was published is sent, if the server still listens: each publish has its own deadline.
    if (link !== undefined) await Promise.race([Promise.allSettled(this.#publishing), link.closed]);
    this.#gate.fail(closedError(), true);
    const stopped = this.#supervisor?.stop();
    if (link !== undefined) await closeLink(link);
    await stopped;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.disconnect();
  }
}

const done = Promise.resolve();

/** Resolves once the server has read what was published to the topic so far, and has had its say about it. */
async function readBy(link: NatsLink, topic: string): Promise<void> {
  try {
    await link.flush();
  } catch (error) {
    throw fromNats(error, `publishing to ${topic}`);
  }
  // What it says is handed on a few turns after it has been read.
  await new Promise(setImmediate);
}

/** Send what was published, if the server still listens, and close. */
async function closeLink(link: NatsLink): Promise<void> {
  await publishWithin(link.flush(), { broker: "nats", topic: "*", timeoutMs: 2_000 }).catch(() => {});
  await link.close();
}

function pause(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const wake = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, delayMs);
    signal?.addEventListener("abort", wake, { once: true });
  });
}
