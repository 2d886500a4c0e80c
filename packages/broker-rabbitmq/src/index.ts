/** Events over RabbitMQ: go-micro's exchange and messages, acknowledged on both sides. */
import type { BrokerPlugin } from "@micro/core";
import { pluginFlags, pluginOptions } from "./plugin.ts";
import { rabbitmqBroker } from "./rabbitmq-broker.ts";

export { rabbitmqBroker } from "./rabbitmq-broker.ts";
export type { ExchangeKind, RabbitmqBrokerOptions, RabbitmqPublishOptions, RabbitmqTlsOptions } from "./options.ts";
export type { RabbitmqArgument, RabbitmqSubscribeOptions } from "./subscribe-options.ts";

/** What `createService({ plugins })` and the loading by name take. */
export const plugins: readonly BrokerPlugin[] = [
  { kind: "broker", name: "rabbitmq", flags: pluginFlags, create: (context) => rabbitmqBroker(pluginOptions(context)) },
];
