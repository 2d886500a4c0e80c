/** Events over Kafka. */
import type { BrokerPlugin } from "@micro/core";
import { kafkaBroker } from "./kafka-broker.ts";
import { pluginFlags, pluginOptions } from "./plugin.ts";

export { kafkaBroker, type KafkaPublishOptions, type KafkaSubscribeOptions } from "./kafka-broker.ts";
export type { KafkaBrokerOptions, KafkaSaslOptions, KafkaTlsOptions, KafkaTopicOptions } from "./options.ts";

/** What `createService({ plugins })` and the loading by name take. */
export const plugins: readonly BrokerPlugin[] = [
  { kind: "broker", name: "kafka", flags: pluginFlags, create: (context) => kafkaBroker(pluginOptions(context)) },
];
