/** Service discovery in Consul. */
import type { RegistryPlugin } from "@micro/core";
import { consulRegistry } from "./consul-registry.ts";
import { pluginFlags, pluginOptions } from "./plugin.ts";

export { consulRegistry } from "./consul-registry.ts";
export type { ConsulRegistryOptions, ConsulTlsOptions, HttpCheckOptions, TcpCheckOptions } from "./options.ts";

/** What `createService({ plugins })` and the loading by name take. */
export const plugins: readonly RegistryPlugin[] = [
  { kind: "registry", name: "consul", flags: pluginFlags, create: (context) => consulRegistry(pluginOptions(context)) },
];
