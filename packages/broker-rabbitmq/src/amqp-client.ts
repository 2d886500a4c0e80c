/** The AMQP client, as far as this package uses it: another one is put in place here. */
import { connect, credentials } from "amqplib";
import type { Channel, ChannelModel, ConfirmChannel, ConsumeMessage, Message, Options } from "amqplib";
import { fromAmqp } from "./errors.ts";
import type { RabbitmqNode, RabbitmqSettings } from "./options.ts";
import type { RabbitmqArgument } from "./subscribe-options.ts";

type Arguments = Readonly<Record<string, RabbitmqArgument>>;

/** One connection. It is never mended: once `closed` settles, another one is made. */
export interface AmqpLink {
  /** `host:port`. */
  readonly address: string;
  /** Resolves with the reason when it is over. */
  readonly closed: Promise<Error>;
  /** The server takes no messages: memory or disk are low. Told again when that is over, with undefined. */
  onBlocked: ((reason: string | undefined) => void) | undefined;
  openChannel(): Promise<AmqpChannel>;
  openConfirmChannel(): Promise<AmqpConfirmChannel>;
  /** Never rejects. */
  close(): Promise<void>;
}

/** A message as it came. */
export interface AmqpMessage {
  readonly tag: number;
  readonly exchange: string;
  readonly routingKey: string;
  readonly content: Buffer;
  /** Values as AMQP has them. */
  readonly headers: Readonly<Record<string, unknown>> | undefined;
  readonly contentType: unknown;
}

/** What a consumer is told. Neither may throw. */
export interface AmqpReceiver {
  message(message: AmqpMessage): void;
  /** The server delivers no more, for instance because the queue was deleted. */
  cancelled(): void;
}

/** A channel. An operation the server refuses ends it; the operation rejects with the server's reason. */
export interface AmqpChannel {
  /** Resolves when it is over, with the server's reason if it was the channel's own fault. */
  readonly closed: Promise<Error | undefined>;
  /** False as soon as it is being closed. */
  readonly isOpen: boolean;
  prefetch(count: number): Promise<void>;
  declareExchange(name: string, kind: string, durable: boolean): Promise<void>;
  /** Rejects if it does not exist. */
  checkExchange(name: string): Promise<void>;
  /** Resolves with its name. */
  declareQueue(
    name: string,
    options: { durable: boolean; autoDelete: boolean; exclusive: boolean; arguments: Arguments },
  ): Promise<string>;
  /** Rejects if it does not exist. */
  checkQueue(name: string): Promise<void>;
  bindQueue(queue: string, exchange: string, key: string, args: Arguments): Promise<void>;
  /** Resolves with the consumer's tag. */
  consume(queue: string, priority: number | undefined, receiver: AmqpReceiver): Promise<string>;
  cancel(consumerTag: string): Promise<void>;
  /** False if the channel has ended, or is about to: nothing was said. */
  ack(tag: number, upTo: boolean): boolean;
  /** False if the channel has ended, or is about to: nothing was said. */
  reject(tag: number, requeue: boolean): boolean;
  close(): Promise<void>;
}

/** What AMQP has for a message besides its body. */
export type AmqpProperties = Options.Publish;

/** What became of a message; `lost`: the channel ended first, and nobody knows. */
export type Confirmation = "taken" | "refused" | "lost";

export interface AmqpConfirmChannel extends AmqpChannel {
  /** A mandatory message no queue takes comes back before it is confirmed. */
  onReturned: ((messageId: string) => void) | undefined;
  /** Throws once closed, or if the properties cannot be written. The body is not copied. */
  publish(
    exchange: string,
    key: string,
    content: Buffer,
    properties: AmqpProperties,
    confirmed: (outcome: Confirmation) => void,
  ): void;
}

const connectTimeoutMs = 5_000;

/** Connect to a node. @throws {MicroError} */
export async function openLink(settings: RabbitmqSettings, node: RabbitmqNode): Promise<AmqpLink> {
  let model: ChannelModel;
  try {
    model = await connect(
      {
        protocol: node.secure ? "amqps" : "amqp",
        hostname: node.host,
        port: node.port,
        username: node.user,
        password: node.password,
        heartbeat: settings.heartbeatSeconds,
        // It is unescaped on the way.
        vhost: encodeURIComponent(node.vhost),
      },
      {
        // A message is not to wait for its predecessor's acknowledgement by TCP.
        noDelay: true,
        keepAlive: true,
        timeout: connectTimeoutMs,
        ...(settings.externalAuth ? { credentials: credentials.external() } : {}),
        ...(settings.name === undefined ? {} : { clientProperties: { connection_name: settings.name } }),
        ...(node.secure ? settings.tls : {}),
      },
    );
  } catch (error) {
    throw fromAmqp(error, `connecting to ${node.address}`);
  }
  return new Link(node.address, model);
}

class Link implements AmqpLink {
  readonly address: string;
  readonly closed: Promise<Error>;
  onBlocked: ((reason: string | undefined) => void) | undefined;
  readonly #model: ChannelModel;
  #isClosed = false;

  constructor(address: string, model: ChannelModel) {
    this.address = address;
    this.#model = model;
    let reason: Error | undefined;
    model.on("error", (error: Error) => (reason ??= error));
    model.on("blocked", (why: string) => this.onBlocked?.(why));
    model.on("unblocked", () => this.onBlocked?.(undefined));
    this.closed = new Promise((resolve) => {
      model.on("close", (error?: Error) => {
        this.#isClosed = true;
        // After missed heartbeats nobody reads what the client sends before it lets go of the socket.
        socketOf(model)?.destroy();
        resolve(reason ?? error ?? new Error("the connection was closed"));
      });
    });
  }

  async openChannel(): Promise<AmqpChannel> {
    return new OpenChannel(await this.#model.createChannel());
  }

  async openConfirmChannel(): Promise<AmqpConfirmChannel> {
    return new OpenConfirmChannel(await this.#model.createConfirmChannel());
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    const timer = setTimeout(() => socketOf(this.#model)?.destroy(new Error("no answer to the goodbye")), 2_000);
    // It never resolves if the connection breaks meanwhile.
    const closing = Promise.resolve().then(() => this.#model.close());
    await Promise.race([closing.catch(() => {}), this.closed]);
    clearTimeout(timer);
    socketOf(this.#model)?.destroy();
  }
}

/** The client has no public way to let go of a socket whose other end is silent. */
function socketOf(model: ChannelModel): { destroy(error?: Error): void } | undefined {
  return (model.connection as { stream?: { destroy(error?: Error): void } }).stream;
}

class OpenChannel implements AmqpChannel {
  readonly closed: Promise<Error | undefined>;
  isOpen = true;
  readonly #channel: Channel;

  constructor(channel: Channel) {
    this.#channel = channel;
    let reason: Error | undefined;
    channel.on("error", (error: Error) => (reason ??= error));
    this.closed = new Promise((resolve) => {
      channel.on("close", () => {
        this.isOpen = false;
        resolve(reason);
      });
    });
  }

  async prefetch(count: number): Promise<void> {
    await this.#channel.prefetch(count);
  }
  async declareExchange(name: string, kind: string, durable: boolean): Promise<void> {
    await this.#channel.assertExchange(name, kind, { durable });
  }
  async checkExchange(name: string): Promise<void> {
    await this.#channel.checkExchange(name);
  }
  async declareQueue(name: string, options: Parameters<AmqpChannel["declareQueue"]>[1]): Promise<string> {
    return (await this.#channel.assertQueue(name, options)).queue;
  }
  async checkQueue(name: string): Promise<void> {
    await this.#channel.checkQueue(name);
  }
  async bindQueue(queue: string, exchange: string, key: string, args: Arguments): Promise<void> {
    await this.#channel.bindQueue(queue, exchange, key, args);
  }

  async consume(queue: string, priority: number | undefined, receiver: AmqpReceiver): Promise<string> {
    const receive = (message: ConsumeMessage | null): void => {
      if (message === null) {
        receiver.cancelled();
        return;
      }
      const { fields, properties, content } = message;
      receiver.message({
        tag: fields.deliveryTag,
        exchange: fields.exchange,
        routingKey: fields.routingKey,
        content,
        headers: properties.headers,
        contentType: properties.contentType,
      });
    };
    const options = { noAck: false, ...(priority === undefined ? {} : { priority }) };
    return (await this.#channel.consume(queue, receive, options)).consumerTag;
  }

  async cancel(consumerTag: string): Promise<void> {
    await this.#channel.cancel(consumerTag);
  }
  ack(tag: number, upTo: boolean): boolean {
    return this.#say(() => this.#channel.ack(onlyTag(tag), upTo));
  }
  reject(tag: number, requeue: boolean): boolean {
    return this.#say(() => this.#channel.nack(onlyTag(tag), false, requeue));
  }
  /** The client throws from the moment at which a channel begins to end, and tells of its end later. */
  #say(words: () => void): boolean {
    if (!this.isOpen) return false;
    try {
      words();
      return true;
    } catch (error) {
      if (!isEnding(error)) throw error;
      this.isOpen = false;
      return false;
    }
  }
  async close(): Promise<void> {
    if (!this.isOpen) return;
    this.isOpen = false;
    await this.#channel.close();
  }
}

/** What the client throws on a channel that is closed or being closed. */
function isEnding(error: unknown): boolean {
  return error instanceof Error && error.name === "IllegalOperationError";
}

/** The client looks at nothing else of a message it acknowledges. */
function onlyTag(deliveryTag: number): Message {
  return { fields: { deliveryTag } } as Message;
}

class OpenConfirmChannel extends OpenChannel implements AmqpConfirmChannel {
  onReturned: ((messageId: string) => void) | undefined;
  readonly #channel: ConfirmChannel;

  constructor(channel: ConfirmChannel) {
    super(channel);
    this.#channel = channel;
    channel.on("return", ({ properties }) => this.onReturned?.(String(properties.messageId)));
  }

  publish(
    exchange: string,
    key: string,
    content: Buffer,
    properties: AmqpProperties,
    confirmed: (outcome: Confirmation) => void,
  ): void {
    try {
      // Its answer, whether there is room in its buffer, is of no use: what is unconfirmed is bounded.
      this.#channel.publish(exchange, key, content, properties, (error: unknown) => {
        if (error === null || error === undefined) confirmed("taken");
        else confirmed(error instanceof Error && error.message === "message nacked" ? "refused" : "lost");
      });
    } catch (error) {
      if (isEnding(error)) this.isOpen = false;
      throw error;
    }
  }
}
