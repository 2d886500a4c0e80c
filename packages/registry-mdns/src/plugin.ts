/** What a service that chooses mdns by name gives the registry. Go has no flags for these: they are options in code. */
import type { FlagDefinition, MdnsRegistryOptions, PluginContext } from "@micro/core";

export const pluginFlags: readonly FlagDefinition[] = [
  { name: "mdns_domain", usage: "Domain of the names in multicast DNS (default micro)", variable: "MICRO_MDNS_DOMAIN" },
  {
    name: "mdns_interface",
    type: "list",
    usage: "Network interfaces of mdns, by name or address (default all)",
    variable: "MICRO_MDNS_INTERFACE",
  },
  {
    name: "mdns_ttl",
    type: "duration",
    usage: "How long others go without asking again, in whole seconds (default 120s)",
    variable: "MICRO_MDNS_TTL",
  },
  { name: "mdns_loopback", type: "boolean", usage: "Keep mdns on this machine", variable: "MICRO_MDNS_LOOPBACK" },
];

/** @throws {TypeError} naming the flag or variable that is wrong. */
export function pluginOptions({ logger, flags }: PluginContext): MdnsRegistryOptions {
  if (flags === undefined) return { logger };
  const domain = flags.string("mdns_domain");
  const interfaces = flags.list("mdns_interface");
  const ttlMs = flags.durationMs("mdns_ttl");
  if (flags.isSet("mdns_ttl") && !(ttlMs >= 1_000 && ttlMs % 1_000 === 0))
    throw new TypeError(`${flags.source("mdns_ttl")}: it must be a whole number of seconds from 1s, e.g. 120s`);
  return {
    ...(domain === "" ? {} : { domain }),
    ...(interfaces.length === 0 ? {} : { interfaces }),
    ...(ttlMs === 0 ? {} : { ttlSeconds: ttlMs / 1_000 }),
    ...(flags.boolean("mdns_loopback") ? { loopbackOnly: true } : {}),
    logger,
  };
}
