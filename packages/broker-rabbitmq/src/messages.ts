/** Messages as go-micro's plugin writes them: the body verbatim, the header as AMQP headers (`broker/rabbitmq`). */
import { Metadata, MicroError, checkOptionNames, wireHeader } from "@micro/core";
import type { BrokerMessage, OptionNames } from "@micro/core";
import type { AmqpMessage, AmqpProperties } from "./amqp-client.ts";
import { source } from "./errors.ts";
import type { RabbitmqPublishOptions } from "./options.ts";

/** AMQP's properties of a message. @throws {TypeError} naming the option that is wrong. */
export function writeProperties(
  header: Metadata,
  persistent: boolean,
  options: RabbitmqPublishOptions | undefined,
): AmqpProperties {
  const properties: AmqpProperties = {};
  if (header.size > 0) {
    // The client makes it the prototype of another object: one without a prototype of its own would be slow.
    const headers: Record<string, string> = {};
    for (const [name, value] of wireHeader(header))
      if (name === "__proto__") Object.defineProperty(headers, name, { value, enumerable: true });
      else headers[name] = value;
    properties.headers = headers;
  }
  if (persistent) properties.deliveryMode = 2;
  if (options !== undefined) addOptions(properties, options);
  return properties;
}

const optionNames: OptionNames<RabbitmqPublishOptions> = {
  persistent: true,
  priority: true,
  expirationMs: true,
  mandatory: true,
  contentType: true,
  contentEncoding: true,
  correlationId: true,
  replyTo: true,
  messageId: true,
  timestamp: true,
  type: true,
  userId: true,
  appId: true,
};

const textOptions = [
  "contentType",
  "contentEncoding",
  "correlationId",
  "replyTo",
  "messageId",
  "type",
  "userId",
  "appId",
] as const;

function addOptions(properties: AmqpProperties, options: RabbitmqPublishOptions): void {
  checkOptionNames("publish: rabbitmq", options, optionNames);
  const { persistent, priority, expirationMs, timestamp } = options;
  // As Go leaves it out where it is not asked for.
  if (persistent === true) properties.deliveryMode = 2;
  else if (persistent === false) delete properties.deliveryMode;
  if (priority !== undefined) {
    if (!Number.isInteger(priority) || priority < 0 || priority > 255)
      throw wrongOption("priority` must be a whole number from 0 to 255");
    properties.priority = priority;
  }
  if (expirationMs !== undefined) {
    if (!(typeof expirationMs === "number" && expirationMs >= 0 && expirationMs <= 0xffff_ffff))
      throw wrongOption("expirationMs` must be a number of milliseconds, 0 or more");
    properties.expiration = String(Math.ceil(expirationMs));
  }
  if (timestamp !== undefined) {
    if (!(timestamp instanceof Date) || !(timestamp.getTime() >= 0)) throw wrongOption("timestamp` must be a Date");
    properties.timestamp = Math.floor(timestamp.getTime() / 1_000);
  }
  for (const name of textOptions) {
    const value = options[name];
    if (value === undefined) continue;
    if (typeof value !== "string" || Buffer.byteLength(value) > 255)
      throw wrongOption(`${name}\` must be a text of at most 255 bytes`);
    properties[name] = value;
  }
}

function wrongOption(rule: string): TypeError {
  return new TypeError(`publish: \`rabbitmq.${rule}`);
}

/** A message as handlers get it; its header is read when somebody asks for it. */
export class ReceivedMessage implements BrokerMessage {
  readonly body: Buffer;
  readonly #message: AmqpMessage;
  #header: Metadata | undefined = undefined;

  constructor(message: AmqpMessage) {
    this.body = message.content;
    this.#message = message;
  }

  get header(): Metadata {
    return (this.#header ??= readHeader(this.#message));
  }
}

/** What AMQP has for it besides is read as Go does. */
function readHeader({ headers, contentType, routingKey }: AmqpMessage): Metadata {
  const header = new Metadata();
  if (headers !== undefined)
    for (const [name, value] of Object.entries(headers)) if (name !== "") header.keep(name, asText(value));
  // As go-micro v4.7 and later.
  if (!header.get("Micro-Topic") && routingKey !== "") header.keep("Micro-Topic", routingKey);
  if (typeof contentType === "string" && contentType !== "" && !header.has("Content-Type"))
    header.keep("Content-Type", contentType);
  return header;
}

/** Publishers other than go-micro write any type. */
function asText(value: unknown): string {
  if (typeof value === "string") return value;
  if (value === null || value === undefined) return "";
  if (Buffer.isBuffer(value)) return value.toString();
  if (typeof value === "number" || typeof value === "boolean" || typeof value === "bigint") return String(value);
  if (typeof value !== "object") return "";
  // The client's form of types that JavaScript lacks.
  if ("!" in value && "value" in value) return asText(value.value);
  return JSON.stringify(value) ?? "";
}

const maxKeyBytes = 255;

/** @throws {MicroError} `bad_request` for what no routing key can be. */
export function checkTopic(topic: string): void {
  // A character takes at most three bytes of a key.
  if (topic.length * 3 <= maxKeyBytes || Buffer.byteLength(topic) <= maxKeyBytes) return;
  throw new MicroError(
    `broker rabbitmq: ${JSON.stringify(topic.slice(0, 100))}… is no topic: it has ${Buffer.byteLength(topic)} bytes, and a routing key at most ${maxKeyBytes}`,
    { id: source, code: "bad_request" },
  );
}

/** True for the routing keys that a topic exchange's binding matches: `*` is one word, `#` any number of them. */
export function keyMatcher(pattern: string): (key: string) => boolean {
  if (!/[*#]/.test(pattern)) return (key) => key === pattern;
  const words = pattern.split(".");
  return (key) => matchesWords(words, key.split("."));
}

function matchesWords(pattern: readonly string[], words: readonly string[]): boolean {
  // Which numbers of words the pattern so far can stand for.
  let reached = new Set([0]);
  for (const part of pattern) {
    const next = new Set<number>();
    for (const at of reached) {
      if (part === "#") for (let end = at; end <= words.length; end++) next.add(end);
      else if (at < words.length && (part === "*" || part === words[at])) next.add(at + 1);
    }
    reached = next;
  }
  return reached.has(words.length);
}
