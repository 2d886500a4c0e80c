/** One `subscribe()` call: kept as long as nobody ends it, and true while its server runs. */
import type { Broker, BrokerEvent, BrokerMessage, Subscriber, SubscriberStats } from "../broker/broker.ts";
import { Cancellation, Context, detach, runInContext } from "../context.ts";
import type { ContextKey, ContextSource } from "../context.ts";
import { MicroError, fromError, newError } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import type { Metadata } from "../metadata.ts";
import type { Endpoint, Value } from "../registry/registry.ts";
import { anyValue } from "./endpoints.ts";
import { valueOf } from "../registry/values.ts";
import type { EventReader } from "./event-messages.ts";
import { brokerEvent } from "./events.ts";
import { type Job, Limiter } from "./limiter.ts";
import { isThenable } from "./messages.ts";
import type { EventMethod, SubscriptionArguments } from "./subscription-arguments.ts";
import { type Work, asWork, unlessInside } from "../work.ts";

/** What all subscriptions of a server share. */
export interface SubscriptionHost {
  readonly service: string;
  readonly reader: EventReader;
  readonly maxMessageBytes: number | undefined;
  readonly logger: Logger;
  /** Who waits for handlers beside their subscription. */
  readonly owner: object | undefined;
  /** A subscription will not be made again. */
  readonly ended: (subscription: EventSubscription) => void;
}

/** Events that came over the transport and wait for their turn. */
const maxWaiting = 1024;

const noStats: SubscriberStats = { received: 0, handled: 0, failed: 0, deadLettered: 0, dropped: 0, inFlight: 0 };

/** See the head of this file. */
export class EventSubscription implements Subscriber {
  readonly #host: SubscriptionHost;
  readonly #given: SubscriptionArguments;
  /** Who waits for its handlers. */
  readonly #owners: readonly (object | undefined)[];
  readonly #ready = Promise.withResolvers<void>();
  #live: Subscriber | undefined;
  #holding = false;
  #ended: Promise<void> | undefined;
  #removeAbort: (() => void) | undefined;
  /** Of several methods, those that have handled an event which others failed on. */
  readonly #handled = new WeakMap<BrokerEvent, Set<EventMethod>>();
  /** Places of events that come over the transport: as many as the broker has for its own. */
  readonly #places: Limiter<Job> | undefined;
  #cancellation = new Cancellation();
  #signal: AbortSignal | undefined;

  constructor(host: SubscriptionHost, given: SubscriptionArguments) {
    this.#host = host;
    this.#given = given;
    this.#owners = [this, host.owner];
    this.#ready.promise.catch(() => {}); // Need not be awaited.
    const { signal, concurrency } = given.options;
    this.#places = concurrency === undefined ? undefined : new Limiter(concurrency, maxWaiting);
    if (signal === undefined) return;
    const abort = () => void this.unsubscribe();
    this.#removeAbort = () => signal.removeEventListener("abort", abort);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  }

  get topic(): string {
    return this.#given.topic.name;
  }
  get queue(): string | undefined {
    return this.#given.options.queue;
  }
  get ready(): Promise<void> {
    return this.#ready.promise;
  }
  get stats(): SubscriberStats {
    return this.#live?.stats ?? noStats;
  }
  get ended(): boolean {
    return this.#ended !== undefined;
  }

  endpoints(): Endpoint[] {
    const { topic, methods, options } = this.#given;
    if (options.internal === true) return [];
    const type = topic.definition?.message;
    const request: Value = type === undefined ? anyValue : valueOf(type);
    const metadata = { subscriber: "true", topic: topic.name };
    return methods.map(({ endpoint }) => ({ name: endpoint, request, response: null, metadata }));
  }

  /**
   * Make it true. Resolves once it holds; a rejection need not be handled.
   * @throws what `Broker.subscribe` throws.
   */
  begin(broker: Broker): Promise<void> {
    const { signal: _, internal: __, ...options } = this.#given.options;
    const { maxMessageBytes, logger } = this.#host;
    // A broker that was made elsewhere has a logger of its own, or none.
    const live = broker.subscribe(this.topic, this.#handle, { maxMessageBytes, logger, ...options });
    this.#live = live;
    this.#holding = true;
    const current = () => this.#holding && this.#live === live;
    live.ready.then(
      () => current() && this.#ready.resolve(),
      (error: unknown) => current() && this.#ready.reject(error),
    );
    return live.ready;
  }

  /** Make it untrue for now. Never rejects. */
  async end(timeoutMs: number): Promise<void> {
    this.#holding = false;
    await this.#live?.unsubscribe({ timeoutMs });
  }

  unsubscribe(options: { timeoutMs?: number | undefined } = {}): Promise<void> {
    return unlessInside(this, (this.#ended ??= detach(() => this.#unsubscribe(options))));
  }

  async #unsubscribe(options: { timeoutMs?: number | undefined }): Promise<void> {
    this.#removeAbort?.();
    this.#host.ended(this);
    this.#holding = false;
    const { service } = this.#host;
    this.#ready.reject(new MicroError(`the subscription to ${this.topic} has ended`, { id: service, code: "closed" }));
    await this.#live?.unsubscribe(options);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.unsubscribe();
  }

  /** An event of the broker. */
  readonly #handle = (event: BrokerEvent): void | Promise<void> => {
    const cancellation = this.#cancellationBy(event.signal);
    const source = new EventSource(event, cancellation, this.#given.options.autoAck === false, this.#owners);
    let result: void | Promise<void>;
    try {
      result = this.#run(new EventContext(this.#host.service, event, source), event);
    } catch (error) {
      source.release();
      throw error;
    }
    if (result !== undefined) return result.finally(() => source.release());
    source.release();
  };

  /** An event that came over the transport: handled once, and refused with what its handler throws. */
  async deliver(context: Context): Promise<void> {
    if (this.#places === undefined) return this.#deliver(context);
    if (!this.#places.tryEnter()) await this.#turn(this.#places);
    try {
      context.signal.throwIfAborted();
      await this.#deliver(context);
    } finally {
      this.#places.release();
    }
  }

  #turn(places: Limiter<Job>): Promise<void> {
    return new Promise((resolve, reject) => {
      if (!places.wait({ start: resolve }))
        reject(newError(this.#host.service, `the subscription to ${this.topic} is overloaded`, 503));
    });
  }

  async #deliver(context: Context): Promise<void> {
    const event = new TransportEvent(context);
    await this.#run(context.with(brokerEvent, event), event);
    if (event.refusal !== undefined) throw event.refusal;
  }

  #run(context: Context, event: BrokerEvent): void | Promise<void> {
    const { topic } = this.#given;
    const { reader } = this.#host;
    // Decoders and validators are code of the user's as well.
    return runInContext(context, () => {
      const checked = reader.check(topic, reader.decode(topic, context.contentType, context.body));
      if (!isThenable(checked)) return this.#invoke(checked, context, event);
      return Promise.resolve(checked).then((message) => this.#invoke(message, context, event));
    });
  }

  #invoke(message: unknown, context: Context, event: BrokerEvent): void | Promise<void> {
    const { methods } = this.#given;
    if (methods.length > 1) return this.#invokeAll(message, context, event);
    const result: unknown = methods[0]!.invoke(message, context);
    return isThenable(result) ? (result as Promise<void>) : undefined;
  }

  /** Side by side, as Go does; on another attempt only those that failed. */
  async #invokeAll(message: unknown, context: Context, event: BrokerEvent): Promise<void> {
    let handled = this.#handled.get(event);
    if (handled === undefined) this.#handled.set(event, (handled = new Set()));
    const done = handled;
    const errors: MicroError[] = [];
    const attempt = async (method: EventMethod): Promise<void> => {
      try {
        await (method.invoke(message, context) as unknown);
        done.add(method);
      } catch (error) {
        errors.push(fromError(error));
      }
    };
    await Promise.all(this.#given.methods.filter((method) => !done.has(method)).map(attempt));
    // One that may succeed another time decides that there is another time.
    const first = errors.find(({ code }) => code !== "bad_request" && code !== "codec") ?? errors[0];
    if (first === undefined) return;
    if (errors.length === 1) throw first;
    throw new MicroError(errors.map(({ detail }) => detail).join("\n"), {
      id: first.id,
      code: first.code,
      statusCode: first.statusCode,
      cause: new AggregateError(errors),
    });
  }

  /** One for all events of a signal: listening to it for each of them would cost more than most handlers do. */
  #cancellationBy(signal: AbortSignal): Cancellation {
    if (signal === this.#signal) return this.#cancellation;
    this.#signal = signal;
    const cancellation = new Cancellation();
    const cancel = () => cancellation.cancel(fromError(signal.reason));
    if (signal.aborted) cancel();
    else signal.addEventListener("abort", cancel, { once: true });
    return (this.#cancellation = cancellation);
  }
}

/** What a context asks for. An event gets a cancellation of its own when somebody asks: what listens to it ends with it. */
class EventSource implements ContextSource, Work {
  readonly header: Metadata;
  readonly remote = "";
  readonly local = "";
  readonly #subscription: Cancellation;
  readonly #owners: readonly (object | undefined)[];
  /** What the broker runs, if it says so: that lasts as long as the event is not settled. */
  readonly #outer: Work | undefined;
  #own: Cancellation | undefined;
  #unlink: (() => void) | undefined;
  #released = false;

  /** @param outlives the handler may return before the event is settled: its cancellation is the subscription's then. */
  constructor(
    event: BrokerEvent,
    subscription: Cancellation,
    outlives: boolean,
    owners: readonly (object | undefined)[],
  ) {
    this.header = event.message.header;
    this.#outer = asWork(event);
    this.#subscription = subscription;
    this.#owners = owners;
    if (outlives) this.#own = subscription;
  }

  get cancellation(): Cancellation {
    if (this.#own !== undefined) return this.#own;
    const own = new Cancellation();
    this.#own = own;
    this.#unlink = this.#subscription.onCancel((reason) => own.cancel(reason));
    return own;
  }

  get running(): boolean {
    return this.#outer?.running ?? !this.#released;
  }

  isOf(owner: object): boolean {
    return this.#owners.includes(owner) || this.#outer?.isOf(owner) === true;
  }

  release(): void {
    this.#released = true;
    if (this.#unlink === undefined) return;
    this.#unlink();
    this.#own?.end();
  }
}

/** Holds its event without the map that other values need. */
class EventContext extends Context {
  readonly #event: BrokerEvent;

  constructor(service: string, event: BrokerEvent, source: EventSource) {
    const contentType = source.header.get("Content-Type");
    super({ service, endpoint: event.topic, contentType, body: event.message.body, source, work: source });
    this.#event = event;
  }

  override get<T>(key: ContextKey<T>): T | undefined {
    return (key as ContextKey<unknown>) === brokerEvent ? (this.#event as T) : super.get(key);
  }

  override with<T>(key: ContextKey<T>, value: T): Context {
    return super.with(brokerEvent, this.#event).with(key, value);
  }
}

/** An event that no broker knows of. */
class TransportEvent implements BrokerEvent {
  readonly #context: Context;
  readonly attempt = 1;
  refusal: unknown;
  #settled = false;

  constructor(context: Context) {
    this.#context = context;
  }
  get topic(): string {
    return this.#context.endpoint;
  }
  get message(): BrokerMessage {
    return { header: this.#context.metadata, body: this.#context.body };
  }
  get signal(): AbortSignal {
    return this.#context.signal;
  }
  ack(): Promise<void> {
    this.#settled = true;
    return Promise.resolve();
  }
  nack(error?: unknown): void {
    if (!this.#settled) this.refusal = error ?? new MicroError("the handler refused the message", { code: "internal" });
    this.#settled = true;
  }
}
