/** Service discovery in etcd v3. */
import type { RegistryPlugin } from "@micro/core";
import { etcdRegistry } from "./etcd-registry.ts";
import { pluginOptions, pluginFlags } from "./plugin.ts";

export { etcdRegistry } from "./etcd-registry.ts";
export type { EtcdRegistryOptions, EtcdTlsOptions } from "./options.ts";

/** What `createService({ plugins })` and the loading by name take. */
export const plugins: readonly RegistryPlugin[] = [
  { kind: "registry", name: "etcd", flags: pluginFlags, create: (context) => etcdRegistry(pluginOptions(context)) },
];
