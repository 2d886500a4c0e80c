/** Publishing: options, wrappers, and what a client and a service offer. */
import type { PublishOptions } from "../broker/broker.ts";
import { checkEventPublishOptions } from "../broker/option-names.ts";
import { Metadata, readMetadata, type MetadataInit } from "../metadata.ts";
import { readTopic, type TopicDefinition } from "../topic.ts";
import type { Wrapper } from "../wrapper.ts";

/** Options of one published event; those of the broker's plugin are among them. */
export interface EventPublishOptions extends PublishOptions {
  /** Sent with the event, over what the incoming call or event brought. */
  metadata?: MetadataInit | undefined;
  /** Default: the topic definition's, else the client's (`application/json`). */
  contentType?: string | undefined;
  /** Topic of the broker, where it differs from the one in the message (`Micro-Topic`). Go's `WithExchange`. Default: the topic. */
  exchange?: string | undefined;
}

/** What {@link PublishWrapper}s see of an event. Metadata may be changed before `next`. */
export interface PublishContext {
  readonly topic: string;
  /** The topic given to the broker. */
  readonly exchange: string;
  readonly contentType: string;
  /** Metadata to be sent: the incoming call's or event's, and the publisher's. */
  readonly metadata: Metadata;
  readonly options: EventPublishOptions;
  /** Undefined for a topic by name. */
  readonly definition: TopicDefinition | undefined;
}

/** Around every publish: `(next) => (message, context) => next(message, context)`. In Go a client wrapper does this, too. */
export type PublishWrapper = Wrapper<PublishContext>;

/** Where events are published; clients and services offer it. */
export interface EventPublisher {
  /**
   * Publish to a typed topic. Resolves once the broker has the event, as far as it says so: see `Broker.publish`.
   *
   * An event published inside a handler carries the metadata of the incoming call or event on, and is never given
   * more time than that has.
   * @throws {MicroError} `bad_request` for a message that the topic's type refuses, naming topic and field; `codec` for
   * one that cannot be encoded; what `Broker.publish` throws.
   */
  publish<In>(topic: TopicDefinition<In, any>, message: NoInfer<In>, options?: EventPublishOptions): Promise<void>;
  /** Publish by name, no types. A `Frame` is sent as it is. */
  publish(topic: string, message: unknown, options?: EventPublishOptions): Promise<void>;
}

/** One topic's publisher, as {@link createEvent} makes it. Go's `micro.Event`. */
export interface TopicPublisher<In = any> {
  readonly topic: string;
  /** As {@link EventPublisher.publish}; these options go over the event's own. */
  publish(message: In, options?: EventPublishOptions): Promise<void>;
}

/**
 * A publisher for one topic: `const created = createEvent(UserCreated, service); await created.publish({ id: 7 })`.
 * Go's `micro.NewEvent(topic, client)`; `service.createEvent(topic)` is the same.
 * @param publisher a client or a service.
 * @param options defaults of every publish; metadata is merged.
 */
export function createEvent<In>(
  topic: TopicDefinition<In, any>,
  publisher: EventPublisher,
  options?: EventPublishOptions,
): TopicPublisher<In>;
export function createEvent(topic: string, publisher: EventPublisher, options?: EventPublishOptions): TopicPublisher;
export function createEvent(
  topic: string | TopicDefinition,
  publisher: EventPublisher,
  options?: EventPublishOptions,
): TopicPublisher {
  const { name } = readTopic(topic, "createEvent");
  checkEventPublishOptions("createEvent", options);
  // Its names and values, too, before anything is published.
  if (options?.metadata !== undefined) readMetadata(options.metadata);
  return {
    topic: name,
    publish: (message, own) => publisher.publish(topic as string, message, overlaid(options, own)),
  };
}

function overlaid(
  base: EventPublishOptions | undefined,
  own: EventPublishOptions | undefined,
): EventPublishOptions | undefined {
  if (base === undefined || own === undefined) return base ?? own;
  const given = Object.entries(own).filter(([, value]) => value !== undefined);
  const merged: EventPublishOptions = { ...base, ...Object.fromEntries(given) };
  if (base.metadata !== undefined && own.metadata !== undefined)
    merged.metadata = new Metadata(base.metadata).merge(own.metadata);
  return merged;
}
