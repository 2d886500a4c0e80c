/** Subscribing: handlers of events, options, wrappers, and what a server and a service offer. */
import type { BrokerEvent, Subscriber, SubscribeOptions } from "../broker/broker.ts";
import { contextKey, type Context, type ContextKey } from "../context.ts";
import type { TopicDefinition } from "../topic.ts";
import type { Wrapper } from "../wrapper.ts";

/**
 * Handles one event. `event` is the decoded message; `context` has topic (`endpoint`), headers (`metadata`), signal and
 * raw body, and is inherited by calls and publishes made inside; `delivery` is the message on its way through the
 * broker: its attempt, and `ack()` and `nack()` for subscriptions with `autoAck: false`.
 *
 * A rejection, or a throw, is a negative acknowledgement: the event is retried, dead-lettered or dropped, as the
 * options say.
 */
export type EventHandler<Out = any> = (event: Out, context: Context, delivery: BrokerEvent) => void | Promise<void>;

/** Around every event handler: `(next) => (event, context) => next(event, context)`. Go's `server.SubscriberWrapper`. */
export type SubscriberWrapper = Wrapper<Context>;

/**
 * Under this key the context of an event holds what its handler gets as third argument, for wrappers:
 * `context.get(brokerEvent)?.attempt`.
 */
export const brokerEvent: ContextKey<BrokerEvent> = contextKey<BrokerEvent>("brokerEvent");

/** Options of one subscription; those of the broker's plugin are among them. */
export interface EventSubscribeOptions extends SubscribeOptions {
  /** Not listed in the registry. Go's `InternalSubscriber`. Default: false. */
  internal?: boolean | undefined;
}

/** Methods that can handle the events of a topic; other members are left alone. */
export type EventHandlersOf<Out, Instance> = {
  readonly [Name in keyof Instance]: Instance[Name] extends (...args: never[]) => unknown
    ? EventHandler<Out>
    : Instance[Name];
};

/**
 * What subscribers can be registered with; servers and services offer it.
 *
 * Before the start a subscription is only kept, and made with the start; `ready` of the returned one resolves then.
 * Each has its own retries: of two for one topic each gets every event, unless they share a queue.
 */
export interface SubscriberRegistration {
  /**
   * Subscribe to a typed topic.
   * @throws {TypeError} for a wrong topic, handler or option. Where the server runs already, {MicroError} for what the
   * broker cannot carry, and `closed`.
   */
  subscribe<Out>(
    topic: TopicDefinition<any, Out>,
    handler: EventHandler<NoInfer<Out>>,
    options?: EventSubscribeOptions,
  ): Subscriber;
  /** An object whose methods all get every event; one that fails is retried without the others. */
  subscribe<Out>(
    topic: TopicDefinition<any, Out>,
    handlers: Readonly<Record<string, EventHandler<NoInfer<Out>>>>,
    options?: EventSubscribeOptions,
  ): Subscriber;
  /** The same of a class instance. */
  subscribe<Out, Instance extends EventHandlersOf<Out, Instance>>(
    topic: TopicDefinition<any, Out>,
    instance: Instance extends (...args: never[]) => unknown ? never : Instance,
    options?: EventSubscribeOptions,
  ): Subscriber;
  /** Subscribe by name: the message is decoded by its content type and not checked. */
  subscribe(topic: string, handler: EventHandler | object, options?: EventSubscribeOptions): Subscriber;
}
