/** Events over NATS: core NATS as go-micro's plugin, and JetStream where messages must not be lost. */
import type { BrokerPlugin } from "@micro/core";
import { natsBroker } from "./nats-broker.ts";
import { pluginFlags, pluginOptions } from "./plugin.ts";

export { natsBroker } from "./nats-broker.ts";
export type { JetStreamOptions, NatsBrokerOptions, NatsTlsOptions } from "./options.ts";

/** What `createService({ plugins })` and the loading by name take. */
export const plugins: readonly BrokerPlugin[] = [
  { kind: "broker", name: "nats", flags: pluginFlags, create: (context) => natsBroker(pluginOptions(context)) },
];
