/** A subscription as a service shows it: it outlives an exchange of the server by `init()`. */
import type { Subscriber, SubscriberStats } from "../broker/broker.ts";
import { MicroError } from "../errors.ts";

const noStats: SubscriberStats = { received: 0, handled: 0, failed: 0, deadLettered: 0, dropped: 0, inFlight: 0 };

/** Follows the subscription of the server in use, if there is one yet. */
export class ServiceSubscription implements Subscriber {
  readonly topic: string;
  readonly queue: string | undefined;
  readonly #removed: () => void;
  readonly #ready = Promise.withResolvers<void>();
  #current: Subscriber | undefined;
  #ended = false;

  /** @param removed called once it shall not be handed to another server. */
  constructor(topic: string, queue: string | undefined, removed: () => void) {
    this.topic = topic;
    this.queue = queue;
    this.#removed = removed;
    this.#ready.promise.catch(() => {}); // Need not be awaited.
  }

  attach(subscriber: Subscriber): void {
    this.#current = subscriber;
    const current = () => this.#current === subscriber;
    subscriber.ready.then(
      () => current() && this.#ready.resolve(),
      (error: unknown) => current() && this.#ready.reject(error),
    );
  }

  get ready(): Promise<void> {
    return this.#ready.promise;
  }
  get stats(): SubscriberStats {
    return this.#current?.stats ?? noStats;
  }

  async unsubscribe(options?: { timeoutMs?: number | undefined }): Promise<void> {
    if (!this.#ended) this.#removed();
    this.#ended = true;
    if (this.#current === undefined)
      this.#ready.reject(new MicroError(`the subscription to ${this.topic} has ended`, { code: "closed" }));
    await this.#current?.unsubscribe(options);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.unsubscribe();
  }
}
