/** What a service that chooses etcd by name gives the registry: addresses, user, certificates. */
import { joinPem } from "@micro/core";
import type { FlagDefinition, PluginContext } from "@micro/core";
import type { EtcdRegistryOptions } from "./options.ts";

/** The variables are those of Go's plugin (`registry/etcd/etcd.go`). */
export const pluginFlags: readonly FlagDefinition[] = [
  { name: "etcd_username", usage: "User of the etcd registry", variable: "ETCD_USERNAME" },
  { name: "etcd_password", usage: "Password of the etcd registry's user", variable: "ETCD_PASSWORD" },
];

/** `https://` addresses use the certificates of the service. */
export function pluginOptions({ addresses, logger, tls, flags }: PluginContext): EtcdRegistryOptions {
  const flag = (name: string): string | undefined => {
    const value = flags?.string(name);
    return value === "" ? undefined : value;
  };
  const username = flag("etcd_username");
  const password = flag("etcd_password");
  const secure = addresses.some((address) => address.startsWith("https://"));
  return {
    ...(addresses.length === 0 ? {} : { endpoints: addresses }),
    // As Go: one without the other counts for nothing.
    ...(username === undefined || password === undefined ? {} : { username, password }),
    ...(secure && tls.tls !== undefined
      ? { tls: { ca: joinPem(tls.tls.ca), cert: joinPem(tls.tls.cert), key: tls.tls.key } }
      : {}),
    logger,
  };
}
