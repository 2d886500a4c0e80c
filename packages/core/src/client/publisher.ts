/**
 * Publishes events as go-micro's clients do (`client/rpc_client.go`, `Publish`): headers, body by content type, broker.
 *
 * For authors of clients; users publish with a client or a service.
 */
import type { Broker } from "../broker/broker.ts";
import { checkEventPublishOptions } from "../broker/option-names.ts";
import { Frame, type Codec, type CodecTable } from "../codec/codec.ts";
import { codecTable, encodeMessage } from "../codec/table.ts";
import { currentContext } from "../context.ts";
import type { MessageType } from "../definition.ts";
import { MicroError } from "../errors.ts";
import { Metadata } from "../metadata.ts";
import { checkOptionNames, type OptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import { readTopic, type NamedTopic, type TopicDefinition } from "../topic.ts";
import { wrap, type Next } from "../wrapper.ts";
import { expectContext } from "./call-context.ts";
import { clientId } from "./deadline.ts";
import { outgoingMetadata } from "./metadata.ts";
import { wrongField } from "./proto-check.ts";
import type { EventPublisher, EventPublishOptions, PublishContext, PublishWrapper } from "./publish.ts";
import { traced } from "./trace.ts";

/** What {@link eventPublisher} is made of. */
export interface EventPublisherOptions {
  /** A function is asked for every event: the broker may be chosen, or exchanged, later. */
  broker: Broker | (() => Broker);
  /** Further codecs by content type. Default: none. */
  codecs?: CodecTable | undefined;
  /** Content type of topics by name. Default: `application/json`. */
  contentType?: string | undefined;
  /** Metadata of every event. Default: none. */
  metadata?: Metadata | undefined;
  /** The first listed is the outermost. */
  wrapPublish?: readonly PublishWrapper[] | undefined;
}

/** Make a publisher: what `Client.publish` of a client plugin delegates to. */
export function eventPublisher(options: EventPublisherOptions): EventPublisher {
  checkOptionNames("eventPublisher", options, optionNames);
  return new BrokerPublisher(options);
}

const optionNames: OptionNames<EventPublisherOptions> = {
  broker: optionKinds.brokerOrFunction,
  codecs: optionKinds.codecs,
  contentType: true,
  metadata: optionKinds.metadata,
  wrapPublish: optionKinds.functions,
};

class Publication implements PublishContext {
  readonly #named: NamedTopic;
  readonly contentType: string;
  readonly metadata: Metadata;
  readonly options: EventPublishOptions;

  constructor(named: NamedTopic, contentType: string, metadata: Metadata, options: EventPublishOptions) {
    this.#named = named;
    this.contentType = contentType;
    this.metadata = metadata;
    this.options = options;
  }
  get topic(): string {
    return this.#named.name;
  }
  get exchange(): string {
    return this.options.exchange ?? this.#named.name;
  }
  get definition(): TopicDefinition | undefined {
    return this.#named.definition;
  }
}

class BrokerPublisher implements EventPublisher {
  readonly #options: EventPublisherOptions;
  readonly #codecs: ReadonlyMap<string, Codec>;
  readonly #publish: Next<PublishContext>;

  constructor(options: EventPublisherOptions) {
    this.#options = options;
    this.#codecs = codecTable(options.codecs);
    this.#publish = wrap<PublishContext>(options.wrapPublish ?? [], (message, context) =>
      this.#send(message, expectContext(context, Publication)),
    );
  }

  async publish(topic: string | TopicDefinition, message: unknown, options: EventPublishOptions = {}): Promise<void> {
    const named = readTopic(topic, "publish");
    checkOptions(options);
    const contentType =
      options.contentType ?? named.definition?.contentType ?? this.#options.contentType ?? "application/json";
    const metadata = outgoingMetadata(this.#options.metadata, currentContext(), undefined, options.metadata);
    await this.#publish(message, new Publication(named, contentType, new Metadata(metadata), options));
  }

  async #send(message: unknown, publication: Publication): Promise<void> {
    const { topic, exchange, contentType, metadata } = publication;
    const type = publication.definition?.message;
    if (type !== undefined && !(message instanceof Frame)) await check(topic, type, message);
    const body = this.#encode(topic, contentType, message, type);
    // Last, so that nothing else can take their names.
    const header = new Metadata(metadata)
      .set("Content-Type", contentType)
      .set("Micro-Topic", topic)
      .set("Micro-Id", crypto.randomUUID());
    const { broker } = this.#options;
    const { metadata: _, contentType: __, exchange: ___, ...options } = publication.options;
    try {
      await (typeof broker === "function" ? broker() : broker).publish(exchange, { header, body }, options);
    } catch (error) {
      throw traced(error);
    }
  }

  /** Codecs with an envelope leave it out, as Go's do: an event has neither endpoint nor id. */
  #encode(topic: string, contentType: string, message: unknown, type: MessageType | undefined): Uint8Array {
    if (message instanceof Frame) return message.data;
    const codec = this.#codecs.get(contentType);
    if (codec === undefined)
      throw new MicroError(`topic ${topic}: unsupported Content-Type: ${contentType}`, { id: clientId, code: "codec" });
    try {
      return encodeMessage(codec, message, type);
    } catch (cause) {
      const field = culprit(codec, message, type);
      const reason = cause instanceof Error ? cause.message : String(cause);
      // A message its type cannot take is the publisher's mistake, like one a validator refuses.
      const code = type === undefined ? "codec" : "bad_request";
      throw new MicroError(`topic ${topic}: ${field}${reason}`, { id: clientId, code, cause });
    }
  }
}

/** What is sent is what was passed, not what the validator makes of it: subscribers run the same validator on it. */
async function check(topic: string, type: MessageType, message: unknown): Promise<void> {
  try {
    await type.validate?.(message);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MicroError(`topic ${topic}: ${reason}`, { id: clientId, code: "bad_request", cause });
  }
  const wrong = type.binary === undefined ? undefined : wrongField(type, message);
  if (wrong !== undefined) throw new MicroError(`topic ${topic}: ${wrong}`, { id: clientId, code: "bad_request" });
}

/** The field that cannot be encoded, followed by a colon: encoders do not name it. Empty if none fails alone. */
function culprit(codec: Codec, message: unknown, type: MessageType | undefined): string {
  if (type?.binary === undefined || typeof message !== "object" || message === null) return "";
  for (const [name, value] of Object.entries(message)) {
    try {
      encodeMessage(codec, { [name]: value }, type);
    } catch {
      return `${name}: `;
    }
  }
  return "";
}

function checkOptions(options: EventPublishOptions): void {
  checkEventPublishOptions("publish", options);
  for (const name of ["contentType", "exchange"] as const) {
    const value: unknown = options[name];
    if (value !== undefined && (typeof value !== "string" || value === ""))
      throw new TypeError(`publish: \`${name}\` must be a text that is not empty`);
  }
}
