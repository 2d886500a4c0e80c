/** Handlers and subscribers of a service, kept so that they outlive an exchange of the server by `init()`. */
import type { Subscriber } from "../broker/broker.ts";
import type { Endpoint } from "../registry/registry.ts";
import type { EventSubscribeOptions } from "../server/events.ts";
import type { Server, ServerStats, StartOptions } from "../server/server.ts";
import { readSubscription } from "../server/subscription-arguments.ts";
import { ServiceSubscription } from "./service-subscription.ts";

type HandleArguments = readonly [target: unknown, ...rest: unknown[]];
type SubscribeArguments = readonly [topic: unknown, handler: unknown, options: EventSubscribeOptions];

/** The server as a service shows it. */
export class ServiceServer implements Server {
  readonly #current: () => Server;
  readonly #canMake: () => boolean;
  readonly #close: () => Promise<void>;
  readonly #registrations: HandleArguments[] = [];
  readonly #subscriptions = new Map<ServiceSubscription, SubscribeArguments>();

  /**
   * @param canMake false while the server's plugin is not loaded; handlers are only kept then.
   * @param close what disposing it does: the server belongs to the service.
   */
  constructor(current: () => Server, canMake: () => boolean, close: () => Promise<void>) {
    this.#current = current;
    this.#canMake = canMake;
    this.#close = close;
  }

  get name(): string {
    return this.#current().name;
  }
  get address(): string | undefined {
    return this.#current().address;
  }
  get stats(): ServerStats {
    return this.#current().stats;
  }

  handle(...registration: HandleArguments): void {
    // First, because it throws for what cannot be registered.
    if (this.#canMake()) register(this.#current(), registration);
    this.#registrations.push(registration);
  }

  subscribe(topic: unknown, handler: unknown, options: EventSubscribeOptions = {}): Subscriber {
    const { name } = readSubscription(topic, handler, options, []).topic;
    const subscription: ServiceSubscription = new ServiceSubscription(
      name,
      options.queue,
      () => void this.#subscriptions.delete(subscription),
    );
    // Making the server hands over what is kept so far: this one comes after.
    if (this.#canMake()) subscription.attach(subscribe(this.#current(), [topic, handler, options]));
    this.#subscriptions.set(subscription, [topic, handler, options]);
    return subscription;
  }

  /** Whether there are subscribers, so that the start needs the broker. */
  get subscribes(): boolean {
    return this.#subscriptions.size > 0;
  }

  /** Give a server that comes into use the handlers and subscribers so far. */
  handOver(server: Server): void {
    for (const registration of this.#registrations) register(server, registration);
    for (const [subscription, given] of this.#subscriptions) subscription.attach(subscribe(server, given));
  }

  /** True if the user has handlers of this type of their own. */
  has(type: string): boolean {
    return this.#registrations.some(([target]) =>
      typeof target === "string"
        ? target.split(".")[0] === type
        : (target as { type?: unknown }).type === type || (target as object).constructor?.name === type,
    );
  }

  endpoints(): Endpoint[] {
    return this.#current().endpoints();
  }
  start(options?: StartOptions): Promise<void> {
    return this.#current().start(options);
  }
  admit(): void {
    this.#current().admit();
  }
  refuse(): void {
    this.#current().refuse();
  }
  drain(timeoutMs: number): Promise<boolean> {
    return this.#current().drain(timeoutMs);
  }
  stop(): Promise<void> {
    return this.#current().stop();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.#close();
  }
}

function register(server: Server, registration: HandleArguments): void {
  (server.handle as (...args: HandleArguments) => void).apply(server, registration as never);
}

function subscribe(server: Server, given: SubscribeArguments): Subscriber {
  return (server.subscribe as (...args: SubscribeArguments) => Subscriber).apply(server, given as never);
}
