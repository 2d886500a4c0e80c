/** Settings of one subscription, their check, and the queue they ask for. */
import { checkOptionNames } from "@micro/core";
import type { OptionNames } from "@micro/core";
import type { RabbitmqSettings } from "./options.ts";

/** A value of a table of arguments. */
export type RabbitmqArgument = string | number | boolean;

/** What AMQP has for one subscription. */
export interface RabbitmqSubscribeOptions {
  /** The queue survives the server and stays without consumers. Only for subscriptions with a queue name. Default: the broker's `durable`. */
  durable?: boolean | undefined;
  /** The queue goes with its last consumer. Default: the opposite of `durable`. */
  autoDelete?: boolean | undefined;
  /** A `quorum` queue is always durable. Default: what the server makes by default. */
  queueType?: "classic" | "quorum" | undefined;
  /**
   * How often a quorum queue hands out one message before it drops it, or gives it to `x-dead-letter-exchange`: every
   * return counts, also those of a process that ended or lost its connection. `server`: what the server does by itself,
   * 20 in RabbitMQ 4; others that declare the queue without this argument, as Go does, need that. A queue that exists
   * with another limit is used as it is. Default: `none`.
   */
  deliveryLimit?: number | "none" | "server" | undefined;
  /** Further arguments of the queue, e.g. `{ "x-max-length": 1000, "x-dead-letter-exchange": "dead" }`. */
  arguments?: Readonly<Record<string, RabbitmqArgument>> | undefined;
  /** Arguments of the binding: Go's `Headers` option. */
  bindingArguments?: Readonly<Record<string, RabbitmqArgument>> | undefined;
  /** Consumers of a higher priority get messages first. Default: 0. */
  priority?: number | undefined;
  /**
   * A message that failed for good, without a `deadLetter` topic: goes on being retried here, or is rejected, which
   * hands it to the queue's `x-dead-letter-exchange`, or drops it if there is none (Go's default). Default: `retry`.
   */
  onFailure?: "retry" | "reject" | undefined;
}

/** How a subscription's queue is declared. */
export interface QueueSettings {
  /** Empty: named by the server, for this subscription alone. */
  readonly name: string;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly exclusive: boolean;
  readonly arguments: Readonly<Record<string, RabbitmqArgument>>;
  /** Arguments beside those, for a server that knows them and a queue that does not exist without them. */
  readonly preferred: Readonly<Record<string, RabbitmqArgument>>;
  /** Dropping what came too often is what somebody asked for. */
  readonly limitChosen: boolean;
  readonly bindingArguments: Readonly<Record<string, RabbitmqArgument>>;
  readonly priority: number | undefined;
}

const optionNames: OptionNames<RabbitmqSubscribeOptions> = {
  durable: true,
  autoDelete: true,
  queueType: true,
  deliveryLimit: true,
  arguments: true,
  bindingArguments: true,
  priority: true,
  onFailure: true,
};

/** How often a quorum queue hands out one message. */
const deliveryLimitArgument = "x-delivery-limit";

/** @throws {TypeError} naming the option that is wrong. */
export function readSubscribeOptions(
  settings: RabbitmqSettings,
  topic: string,
  queue: string | undefined,
  options: RabbitmqSubscribeOptions = {},
): QueueSettings {
  checkOptionNames("subscribe: rabbitmq", options, optionNames);
  const { durable, autoDelete, queueType, deliveryLimit, priority, onFailure } = options;
  if (queueType !== undefined && queueType !== "classic" && queueType !== "quorum")
    throw wrongOption("queueType` must be `classic` or `quorum`");
  if (onFailure !== undefined && onFailure !== "retry" && onFailure !== "reject")
    throw wrongOption("onFailure` must be `retry` or `reject`");
  const isLimit = typeof deliveryLimit === "number" && Number.isSafeInteger(deliveryLimit) && deliveryLimit > 0;
  if (deliveryLimit !== undefined && deliveryLimit !== "none" && deliveryLimit !== "server" && !isLimit)
    throw wrongOption("deliveryLimit` must be `none`, `server` or a whole number above 0");
  if (deliveryLimit !== undefined && queueType !== "quorum")
    throw wrongOption('deliveryLimit` is one of quorum queues: set `queueType: "quorum"`, too');
  const asked = readArguments("arguments", options.arguments);
  if (deliveryLimit !== undefined && Object.hasOwn(asked, deliveryLimitArgument))
    throw wrongOption(`deliveryLimit\` and \`arguments["${deliveryLimitArgument}"]\` say the same: set one of them`);
  const limitChosen = isLimit || deliveryLimit === "server" || Object.hasOwn(asked, deliveryLimitArgument);
  if (priority !== undefined && !Number.isInteger(priority)) throw wrongOption("priority` must be a whole number");
  if (queueType === "quorum" && durable === false) throw wrongOption("durable` cannot be false for a quorum queue");
  // Without an exchange a topic is the name of a queue.
  const name = queue ?? (settings.exchange === "" ? topic : "");
  if (name === "" && (durable === true || queueType === "quorum"))
    throw wrongOption("durable` needs a `queue`: one named by the server could not be found again");
  if (name.startsWith("amq.")) throw new TypeError("subscribe: `queue` must not begin with `amq.`, the server's own");
  if (Buffer.byteLength(name) > 255) throw new TypeError("subscribe: `queue` must be of at most 255 bytes");
  const isDurable = name !== "" && (durable ?? (queueType === "quorum" || settings.durable));
  return {
    name,
    durable: isDurable,
    autoDelete: name === "" || (autoDelete ?? !isDurable),
    exclusive: name === "",
    arguments: {
      ...(queueType === undefined ? {} : { "x-queue-type": queueType }),
      ...(isLimit ? { [deliveryLimitArgument]: deliveryLimit } : {}),
      ...asked,
    },
    preferred: queueType === "quorum" && !limitChosen ? { [deliveryLimitArgument]: -1 } : {},
    limitChosen,
    bindingArguments: readArguments("bindingArguments", options.bindingArguments),
    priority,
  };
}

function wrongOption(rule: string): TypeError {
  return new TypeError(`subscribe: \`rabbitmq.${rule}`);
}

function readArguments(
  option: string,
  table: Readonly<Record<string, RabbitmqArgument>> = {},
): Record<string, RabbitmqArgument> {
  const read = Object.create(null) as Record<string, RabbitmqArgument>;
  for (const [name, value] of Object.entries(table)) {
    if (!["string", "number", "boolean"].includes(typeof value) || Buffer.byteLength(name) > 128)
      throw new TypeError(
        `subscribe: \`rabbitmq.${option}\` must hold texts, numbers and booleans: ${JSON.stringify(name.slice(0, 64))} does not`,
      );
    read[name] = value;
  }
  return read;
}
