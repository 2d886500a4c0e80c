/** What a service that chooses NATS by name gives the broker: addresses, user, certificates, JetStream. */
import { joinPem } from "@micro/core";
import type { FlagDefinition, PluginContext } from "@micro/core";
import type { NatsBrokerOptions } from "./options.ts";

export const pluginFlags: readonly FlagDefinition[] = [
  { name: "nats_user", usage: "User of the NATS broker", variable: "NATS_USER" },
  { name: "nats_password", usage: "Password of the NATS broker's user", variable: "NATS_PASSWORD" },
  { name: "nats_token", usage: "Token of the NATS broker", variable: "NATS_TOKEN" },
  { name: "nats_jetstream", usage: "Keep events until they are handled: true or false", variable: "NATS_JETSTREAM" },
];

/** `tls://` addresses use the certificates of the service. */
export function pluginOptions({ addresses, logger, service, tls, flags }: PluginContext): NatsBrokerOptions {
  const flag = (name: string): string | undefined => {
    const value = flags?.string(name);
    return value === "" ? undefined : value;
  };
  const jetstream = flag("nats_jetstream") ?? "false";
  if (!["true", "false"].includes(jetstream))
    throw new TypeError(`nats_jetstream must be true or false, not ${JSON.stringify(jetstream)}`);
  const secure = tls.secure || addresses.some((address) => address.startsWith("tls://"));
  return {
    ...(addresses.length === 0 ? {} : { servers: addresses }),
    user: flag("nats_user"),
    password: flag("nats_password"),
    token: flag("nats_token"),
    jetstream: jetstream === "true",
    name: service,
    ...(secure ? { tls: { ca: joinPem(tls.tls?.ca), cert: joinPem(tls.tls?.cert), key: joinPem(tls.tls?.key) } } : {}),
    logger,
  };
}
