/** The {@link Subscriber} every broker returns: a consumer, whether it holds, and how it ends. */
import { detach } from "../context.ts";
import { MicroError } from "../errors.ts";
import type { Subscriber, SubscriberStats } from "./broker.ts";
import { unlessInside } from "../work.ts";
import { Consumer } from "./consumer.ts";
import type { ConsumerOptions } from "./consumer.ts";

/** Settings of {@link Subscription}. */
export interface SubscriptionOptions extends ConsumerOptions {
  /** Tell the backend to deliver no more. Called once, before draining. A rejection is reported. */
  readonly stop: () => void | Promise<void>;
  /** Release the rest. Called once, after draining. A rejection is reported. */
  readonly close?: (() => void | Promise<void>) | undefined;
}

/** See the head of this file. The plugin feeds `consumer`, and calls `holds()` or `refused()`. */
export class Subscription implements Subscriber {
  readonly topic: string;
  readonly queue: string | undefined;
  readonly consumer: Consumer;
  readonly #options: SubscriptionOptions;
  readonly #ready = Promise.withResolvers<void>();
  readonly #removeAbort: () => void;
  #ending: Promise<void> | undefined;

  /** @throws {TypeError} for options that make no sense. */
  constructor(options: SubscriptionOptions) {
    this.#options = options;
    this.topic = options.topic;
    this.queue = options.options.queue;
    this.consumer = new Consumer(options);
    // Need not be awaited: a refusal is reported to the error handler, too.
    this.#ready.promise.catch(() => {});
    const { signal } = options.options;
    const abort = () => void this.unsubscribe();
    signal?.addEventListener("abort", abort, { once: true });
    this.#removeAbort = () => signal?.removeEventListener("abort", abort);
    if (signal?.aborted === true) queueMicrotask(abort);
  }

  get ready(): Promise<void> {
    return this.#ready.promise;
  }
  get stats(): SubscriberStats {
    return this.consumer.stats;
  }
  /** True from the beginning of its end. */
  get ended(): boolean {
    return this.#ending !== undefined;
  }

  /** The backend delivers from now on. */
  holds(): void {
    this.#ready.resolve();
  }

  /** The backend will not have it, however often it is asked. */
  refused(error: MicroError): void {
    this.#ready.reject(error);
    this.consumer.report(error);
  }

  /** Never rejects: what fails on the way is reported to the error handler. */
  unsubscribe(options: { timeoutMs?: number | undefined } = {}): Promise<void> {
    return unlessInside(this.consumer, (this.#ending ??= detach(() => this.#end(options.timeoutMs))));
  }

  async #end(timeoutMs: number | undefined): Promise<void> {
    this.#removeAbort();
    const id = `go.micro.broker.${this.#options.broker}`;
    this.#ready.reject(new MicroError(`the subscription to ${this.topic} has ended`, { id, code: "closed" }));
    await this.#attempt(this.#options.stop);
    await this.consumer.drain(timeoutMs);
    await this.#attempt(this.#options.close);
  }

  async #attempt(step: (() => void | Promise<void>) | undefined): Promise<void> {
    try {
      await step?.();
    } catch (error) {
      this.consumer.report(error);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.unsubscribe();
  }
}
