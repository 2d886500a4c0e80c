/** What a service that chooses Consul by name gives the registry: addresses, token, certificates. */
import { joinPem } from "@micro/core";
import type { FlagDefinition, PluginContext } from "@micro/core";
import type { ConsulRegistryOptions } from "./options.ts";

/** The variables are those of Consul's own clients; the addresses of the service go before the variable. */
export const pluginFlags: readonly FlagDefinition[] = [
  { name: "consul_http_addr", usage: "Consul agent, when no registry_address is given", variable: "CONSUL_HTTP_ADDR" },
  { name: "consul_http_token", usage: "ACL token of the Consul registry", variable: "CONSUL_HTTP_TOKEN" },
];

/** `https://` addresses use the certificates of the service. */
export function pluginOptions({ addresses, logger, tls, flags }: PluginContext): ConsulRegistryOptions {
  const flag = (name: string): string | undefined => {
    const value = flags?.string(name);
    return value === "" ? undefined : value;
  };
  const address = flag("consul_http_addr");
  const own = addresses.length === 0 && address !== undefined ? [address] : addresses;
  const secure = own.some((each) => each.startsWith("https://"));
  return {
    ...(own.length === 0 ? {} : { addresses: own }),
    token: flag("consul_http_token"),
    ...(secure && tls.tls !== undefined
      ? { tls: { ca: joinPem(tls.tls.ca), cert: joinPem(tls.tls.cert), key: tls.tls.key } }
      : {}),
    ...(secure ? { insecureSkipVerify: tls.insecureSkipVerify } : {}),
    logger,
  };
}
