/** What a service that chooses RabbitMQ by name gives the broker: addresses, user, certificates, durability. */
import { joinPem } from "@micro/core";
import type { FlagDefinition, PluginContext } from "@micro/core";
import type { RabbitmqBrokerOptions } from "./options.ts";

export const pluginFlags: readonly FlagDefinition[] = [
  { name: "rabbitmq_user", usage: "User of the RabbitMQ broker, for addresses without one", variable: "RABBITMQ_USER" },
  { name: "rabbitmq_password", usage: "Password of the RabbitMQ broker's user", variable: "RABBITMQ_PASSWORD" },
  {
    name: "rabbitmq_exchange",
    usage: "Exchange of the RabbitMQ broker (default: micro)",
    variable: "RABBITMQ_EXCHANGE",
  },
  {
    name: "rabbitmq_durable",
    usage: "Events survive a restart of RabbitMQ: true or false",
    variable: "RABBITMQ_DURABLE",
  },
];

/** `amqps://` addresses use the certificates of the service. */
export function pluginOptions({ addresses, logger, service, tls, flags }: PluginContext): RabbitmqBrokerOptions {
  const flag = (name: string): string | undefined => {
    const value = flags?.string(name);
    return value === "" ? undefined : value;
  };
  const durable = flag("rabbitmq_durable") ?? "false";
  if (!["true", "false"].includes(durable))
    throw new TypeError(`rabbitmq_durable must be true or false, not ${JSON.stringify(durable)}`);
  const secure = tls.secure || addresses.some((address) => address.startsWith("amqps://"));
  return {
    ...(addresses.length === 0 ? {} : { addresses }),
    user: flag("rabbitmq_user"),
    password: flag("rabbitmq_password"),
    exchange: flag("rabbitmq_exchange"),
    durable: durable === "true",
    name: service,
    ...(secure ? { tls: { ca: joinPem(tls.tls?.ca), cert: joinPem(tls.tls?.cert), key: joinPem(tls.tls?.key) } } : {}),
    logger,
  };
}
