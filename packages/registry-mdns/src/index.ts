/**
 * The mdns registry under its plugin name. It is core's default; this package exists so that `--registry=mdns` and
 * imports by plugin name work like those of every other registry.
 */
import { mdnsRegistry, type RegistryPlugin } from "@micro/core";
import { pluginFlags, pluginOptions } from "./plugin.ts";

export { mdnsRegistry, type MdnsRegistryOptions } from "@micro/core";

/** What `createService({ plugins })` and the loading by name take. */
export const plugins: readonly RegistryPlugin[] = [
  { kind: "registry", name: "mdns", create: (context) => mdnsRegistry(pluginOptions(context)), flags: pluginFlags },
];
