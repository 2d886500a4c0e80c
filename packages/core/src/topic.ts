/** Typed topics: what is published under a name, checked by the compiler, by the publisher and by the subscriber. */
import { frameType } from "./codec/table.ts";
import type { MessageType } from "./definition.ts";
import { checkOptionNames } from "./option-check.ts";
import type { Value } from "./registry/registry.ts";
import { generatedFault, isMessageType, isSchema, messageType, pascalCase } from "./schema.ts";
import type { GeneratedMessage, MessageSource, NoGenerated, SourceInput, SourceOutput, Travels } from "./schema.ts";

/** A topic and its messages, as {@link defineTopic} makes it: `In` is published, `Out` arrives. */
export interface TopicDefinition<In = any, Out = In> {
  readonly topic: string;
  readonly message: MessageType<In, Out>;
  /** Content type of what is published by this definition. */
  readonly contentType: string;
}

export interface DefineTopicOptions {
  /** Default: `application/protobuf` for protobuf messages, `application/octet-stream` for `frameType`, else `application/json`. */
  contentType?: string | undefined;
  /** Description for the registry, for validators that cannot describe themselves. Default: from the validator's JSON Schema, else the name only. */
  value?: Value | undefined;
}

/**
 * Define a topic: `defineTopic("user.created", z.object({ id: z.number() }))`, or with a message type such as
 * `jsonMessage<User>("User")` and `protoMessage(User)` give.
 *
 * A publisher passes a validator's input and that is what travels, as JSON; subscribers get its output. Both check. What JSON
 * makes of the input must be such an input again: `z.coerce.date()` takes the text that a date becomes, `z.date()` does not.
 * @throws {TypeError} for an empty name, an option that does not exist, or a `source` that is neither a validator nor a message type.
 */
export function defineTopic<Source extends MessageSource | GeneratedMessage>(
  topic: string,
  source: Source & TravelsItself<Source> & NoGeneratedItself<Source>,
  options: DefineTopicOptions = {},
): TopicDefinition<SourceInput<Source>, SourceOutput<Source>> {
  if (typeof topic !== "string" || topic === "") throw new TypeError("defineTopic: the topic is empty");
  if (!isSchema(source) && !isMessageType(source))
    throw (
      generatedFault(`defineTopic(${JSON.stringify(topic)}): what is passed`, source) ??
      new TypeError(
        `defineTopic(${JSON.stringify(topic)}): pass a Standard Schema validator (zod, valibot, arktype, …) or a message type`,
      )
    );
  checkOptionNames(`defineTopic(${JSON.stringify(topic)})`, options, { contentType: true, value: true });
  // `user.created` holds messages of type `UserCreated`, unless they have a name of their own.
  const message = messageType(
    pascalCase(topic) || "Event",
    source as MessageSource,
    options.value,
    false,
  ) as MessageType<SourceInput<Source>, SourceOutput<Source>>;
  return { topic, message, contentType: options.contentType ?? defaultContentType(message) };
}

function defaultContentType(message: MessageType): string {
  if (message === frameType) return "application/octet-stream";
  return message.binary === undefined ? "application/json" : "application/protobuf";
}

/** As `NoGenerated`, where the message is an argument of its own. */
type NoGeneratedItself<Source> =
  NoGenerated<Source, "source"> extends { readonly source: infer Reason } ? Reason : unknown;

/** As `Travels`, where the validator is an argument of its own. */
type TravelsItself<Source> = Travels<Source, "source"> extends { readonly source: infer Reason } ? Reason : unknown;

/** A topic as publishers and subscribers pass it: by name, or typed. @internal */
export interface NamedTopic {
  readonly name: string;
  /** Undefined for a topic by name. */
  readonly definition: TopicDefinition | undefined;
}

/** @param method who asks, for the error. @throws {TypeError} for anything that is no topic. @internal */
export function readTopic(topic: unknown, method: string): NamedTopic {
  if (typeof topic === "string" && topic !== "") return { name: topic, definition: undefined };
  const { topic: name, message, contentType } = (topic ?? {}) as Partial<TopicDefinition>;
  if (typeof topic !== "object" || typeof name !== "string" || name === "" || !isMessageType(message))
    throw new TypeError(
      `${method}: the first argument is the topic, a text that is not empty or what defineTopic() gives`,
    );
  if (typeof contentType !== "string" || contentType === "")
    throw new TypeError(
      `${method}: the topic ${JSON.stringify(name)} has no content type; define it with defineTopic()`,
    );
  return { name, definition: topic as TopicDefinition };
}
