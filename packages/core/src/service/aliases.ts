/** Names of go-micro's implementations and the packages that carry them. */

/** What a plugin provides. */
export type PluginKind =
  | "registry"
  | "broker"
  | "transport"
  | "client"
  | "server"
  | "selector"
  | "store"
  | "cache"
  | "configSource"
  | "encoder"
  | "auth"
  | "sync"
  | "logger"
  | "tracer"
  | "metrics"
  | "runtime"
  | "profile";

export const pluginKinds: ReadonlySet<string> = new Set<PluginKind>([
  "registry",
  "broker",
  "transport",
  "client",
  "server",
  "selector",
  "store",
  "cache",
  "configSource",
  "encoder",
  "auth",
  "sync",
  "logger",
  "tracer",
  "metrics",
  "runtime",
  "profile",
]);

/** Go's names for what has another name here, by kind. */
const names: Readonly<Partial<Record<PluginKind, ReadonlyMap<string, string>>>> = {
  registry: new Map([["etcdv3", "etcd"]]),
  broker: new Map([["segmentio", "kafka"]]),
  selector: new Map([
    // The default of go-micro stands on the registry cache and was called so.
    ["cache", "registry"],
    ["roundrobin", "roundRobin"],
  ]),
};

/** Implementations that live in a package named after something else. */
const packages: Readonly<Partial<Record<PluginKind, ReadonlyMap<string, string>>>> = {
  client: new Map([["grpc", "@micro/transport-grpc"]]),
  server: new Map([["grpc", "@micro/transport-grpc"]]),
  cache: new Map([["redis", "@micro/store-redis"]]),
};

/** Names of packages that exist, for "did you mean": by kind, those that are not built in. */
const published: Readonly<Partial<Record<PluginKind, readonly string[]>>> = {
  registry: ["etcd", "consul", "mdns"],
  broker: ["nats", "kafka", "rabbitmq"],
};

/** The names a kind's implementations are known by, Go's included. */
export function knownNames(kind: PluginKind, builtIn: readonly string[]): readonly string[] {
  return [...builtIn, ...(published[kind] ?? []), ...(names[kind]?.keys() ?? []), ...(packages[kind]?.keys() ?? [])];
}

/** The name an implementation has here: `etcdv3` is `etcd`. */
export function pluginName(kind: PluginKind, name: string): string {
  return names[kind]?.get(name) ?? name;
}

/** The module to import for a name that is not built in. A scope or a path is taken as it stands. */
export function pluginModule(kind: PluginKind, name: string): string {
  if (isModule(name)) return name;
  const own = pluginName(kind, name);
  if (kind === "configSource" || kind === "encoder") return "@micro/config-sources";
  return packages[kind]?.get(own) ?? `@micro/${kind}-${own}`;
}

/** True for `@scope/name`, `./file.js` and absolute paths. */
export function isModule(name: string): boolean {
  return /^(?:@|\.{1,2}[/\\]|[/\\]|[A-Za-z]:[/\\]|file:)/.test(name);
}
