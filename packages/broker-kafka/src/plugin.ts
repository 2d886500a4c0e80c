/** What a service that chooses Kafka by name gives the broker: addresses, user, certificates. */
import { joinPem } from "@micro/core";
import type { FlagDefinition, PluginContext } from "@micro/core";
import type { KafkaBrokerOptions, KafkaSaslOptions } from "./options.ts";

export const pluginFlags: readonly FlagDefinition[] = [
  { name: "kafka_username", usage: "User of the Kafka broker", variable: "KAFKA_USERNAME" },
  { name: "kafka_password", usage: "Password of the Kafka broker's user", variable: "KAFKA_PASSWORD" },
  {
    name: "kafka_mechanism",
    usage: "How the user logs in to Kafka: plain (default), scram-sha-256 or scram-sha-512",
    variable: "KAFKA_MECHANISM",
  },
];

/** A service that is `secure` talks TLS to Kafka, with its certificates. */
export function pluginOptions({ addresses, logger, service, tls, flags }: PluginContext): KafkaBrokerOptions {
  const flag = (name: string): string | undefined => {
    const value = flags?.string(name);
    return value === "" ? undefined : value;
  };
  const username = flag("kafka_username");
  const password = flag("kafka_password");
  const mechanism = (flag("kafka_mechanism") ?? "plain") as KafkaSaslOptions["mechanism"];
  const { ca, cert, key, passphrase, servername } = tls.tls ?? {};
  return {
    ...(addresses.length === 0 ? {} : { addresses }),
    clientId: service,
    ...(username === undefined || password === undefined ? {} : { sasl: { mechanism, username, password } }),
    ...(tls.secure ? { tls: { ca: joinPem(ca), cert: joinPem(cert), key, passphrase, servername } } : {}),
    logger,
  };
}
