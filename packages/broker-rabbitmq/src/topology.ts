/** Declares exchanges and queues on channels of their own, since a refused declaration ends its channel. */
import { MicroError } from "@micro/core";
import type { Logger } from "@micro/core";
import type { AmqpChannel, AmqpLink } from "./amqp-client.ts";
import { fromAmqp, reply, replyCode, serverText, source } from "./errors.ts";
import type { RabbitmqSettings } from "./options.ts";
import type { QueueSettings } from "./subscribe-options.ts";

/** What one broker declares. What exists already with weaker or stronger settings is used as it is. */
export class Topology {
  readonly #settings: RabbitmqSettings;
  readonly #logger: Logger;
  readonly #exchanges = new WeakMap<AmqpLink, Promise<void>>();
  readonly #told = new Set<string>();

  constructor(settings: RabbitmqSettings, logger: Logger) {
    this.#settings = settings;
    this.#logger = logger;
  }

  /** Once a connection. @throws {MicroError} `bad_request` for one of another kind, `forbidden`. */
  ensureExchange(link: AmqpLink): Promise<void> {
    const { exchange } = this.#settings;
    if (exchange === "") return done;
    const known = this.#exchanges.get(link);
    if (known !== undefined) return known;
    const made = this.#declareExchange(link, exchange);
    made.catch(() => this.forgetExchange(link));
    this.#exchanges.set(link, made);
    return made;
  }

  /** It may be gone: declare it again. */
  forgetExchange(link: AmqpLink): void {
    this.#exchanges.delete(link);
  }

  async #declareExchange(link: AmqpLink, exchange: string): Promise<void> {
    const { exchangeKind, durableExchange } = this.#settings;
    try {
      await scratch(link, (channel) => channel.declareExchange(exchange, exchangeKind, durableExchange));
    } catch (cause) {
      const error = fromAmqp(cause, `the exchange ${exchange}`);
      const setting = differingSetting(cause);
      if (setting === "type" || (setting === undefined && replyCode(cause) !== reply.accessRefused)) throw error;
      // Others have declared it, or only others may.
      await asItIs(link, (channel) => channel.checkExchange(exchange), error);
      if (setting === "durable" && durableExchange)
        this.#warn(
          `the exchange ${exchange} exists and is not durable: its bindings are lost when the server restarts`,
        );
    }
  }

  /** @throws {MicroError} `bad_request` for arguments the server refuses, or that an existing one lacks. */
  async declareQueue(link: AmqpLink, queue: QueueSettings): Promise<DeclaredQueue> {
    const wanted = Object.keys(queue.preferred);
    if (wanted.length > 0) {
      const preferred = { ...queue, arguments: { ...queue.arguments, ...queue.preferred } };
      try {
        const name = await scratch(link, (channel) => channel.declareQueue(queue.name, preferred));
        return { name, asPreferred: true };
      } catch (cause) {
        const refused = refusedArgument(cause);
        if (refused === undefined || !wanted.includes(refused)) return this.#asItMayBe(link, queue, cause);
      }
    }
    try {
      const name = await scratch(link, (channel) => channel.declareQueue(queue.name, queue));
      return { name, asPreferred: wanted.length === 0 };
    } catch (cause) {
      return this.#asItMayBe(link, queue, cause);
    }
  }

  /** One whose declaration was refused, where it exists and may be used. */
  async #asItMayBe(link: AmqpLink, queue: QueueSettings, cause: unknown): Promise<DeclaredQueue> {
    const { name } = queue;
    const error = fromAmqp(cause, `the queue ${JSON.stringify(name)}`);
    const setting = differingSetting(cause);
    if (setting === undefined && replyCode(cause) !== reply.accessRefused) throw error;
    if (setting !== undefined && Object.hasOwn(queue.arguments, setting))
      throw new MicroError(`${error.detail}; delete the queue, or leave ${setting} out to use it as it is`, {
        id: source,
        code: "bad_request",
        cause,
      });
    if (name === "") throw error;
    await asItIs(link, (channel) => channel.checkQueue(name), error);
    if (setting === "durable" && queue.durable)
      this.#warn(`the queue ${name} exists and is not durable: its messages are lost when the server restarts`);
    return { name, asPreferred: false };
  }

  /** A durable queue that takes what is published to `topic` when nobody else does. */
  async keep(link: AmqpLink, topic: string): Promise<void> {
    const none = Object.create(null) as Record<string, never>;
    const settings = { durable: true, autoDelete: false, exclusive: false, arguments: none };
    await this.declareQueue(link, {
      name: topic,
      ...settings,
      bindingArguments: none,
      priority: undefined,
      preferred: none,
      limitChosen: true,
    });
    if (this.keepsThroughDefault) return;
    await this.ensureExchange(link);
    await scratch(link, (channel) => channel.bindQueue(topic, this.#settings.exchange, topic, none));
  }

  /** True where a routing key does not say whom a message is for: dead letters go to their queue directly. */
  get keepsThroughDefault(): boolean {
    return this.#settings.exchange === "" || this.#settings.exchangeKind === "fanout";
  }

  #warn(text: string): void {
    if (this.#told.has(text)) return;
    this.#told.add(text);
    this.#logger.warn(`Broker [rabbitmq] ${text}`);
  }
}

/** A queue that is there. */
export interface DeclaredQueue {
  readonly name: string;
  /** It is known to have the arguments that were preferred, if there were any. */
  readonly asPreferred: boolean;
}

const done = Promise.resolve();

/** Use a channel once. */
async function scratch<T>(link: AmqpLink, use: (channel: AmqpChannel) => Promise<T>): Promise<T> {
  const channel = await link.openChannel();
  const result = await use(channel);
  // Nothing hangs on the goodbye.
  channel.close().catch(() => {});
  return result;
}

/** @throws the error that led here if there is none. */
async function asItIs(
  link: AmqpLink,
  check: (channel: AmqpChannel) => Promise<void>,
  error: MicroError,
): Promise<void> {
  try {
    await scratch(link, check);
  } catch {
    throw error;
  }
}

/** The argument that the server does not know, or that what exists has not. */
function refusedArgument(cause: unknown): string | undefined {
  if (replyCode(cause) !== reply.preconditionFailed) return undefined;
  return /(?:inequivalent|invalid) arg '([^']+)'/.exec(serverText(cause))?.[1];
}

/** The setting in which what exists differs from what was asked for, if that was the reason. */
function differingSetting(cause: unknown): string | undefined {
  if (replyCode(cause) !== reply.preconditionFailed) return undefined;
  return /inequivalent arg '([^']+)'/.exec(serverText(cause))?.[1];
}
