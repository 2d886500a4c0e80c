/**
 * The flags every service has: go-micro's table (`config/cmd/cmd.go`), as far as the pieces exist.
 *
 * A flag's variable is `MICRO_` and its name in upper case.
 */
import { nearest } from "../nearest.ts";
import { UsageError, flagVariables } from "./flags.ts";
import type { FlagDefinition, FlagValues } from "./flags.ts";
import type { ServiceOptions } from "./options.ts";

interface ServiceFlag extends FlagDefinition {
  /** What it sets. Only asked for a flag or variable that was given and is not empty. */
  readonly apply: (values: FlagValues, name: string) => Partial<ServiceOptions>;
}

const variableOf = (name: string) => `MICRO_${name.toUpperCase().replaceAll("-", "_")}`;

function text(name: string, usage: string, apply: (value: string) => Partial<ServiceOptions>): ServiceFlag {
  return { name, usage, variable: variableOf(name), apply: (values) => apply(values.string(name)) };
}

function list(name: string, usage: string, apply: (value: readonly string[]) => Partial<ServiceOptions>): ServiceFlag {
  return { name, type: "list", usage, variable: variableOf(name), apply: (values) => apply(values.list(name)) };
}

function integer(
  name: string,
  usage: string,
  minimum: number,
  apply: (value: number) => Partial<ServiceOptions>,
): ServiceFlag {
  const read = (values: FlagValues) => apply(atLeast(minimum, values.number(name), values.source(name)));
  return { name, type: "integer", usage, variable: variableOf(name), apply: read };
}

function duration(name: string, usage: string, apply: (valueMs: number) => Partial<ServiceOptions>): ServiceFlag {
  const read = (values: FlagValues) => {
    const valueMs = values.durationMs(name);
    if (valueMs <= 0) throw new UsageError(`${values.source(name)}: the duration must be above 0`);
    return apply(valueMs);
  };
  return { name, type: "duration", usage, variable: variableOf(name), apply: read };
}

function atLeast(minimum: number, value: number, source: string | undefined): number {
  if (value < minimum) throw new UsageError(`${source}: ${value} is too small; at least ${minimum} is needed`);
  return value;
}

const serviceFlags: readonly ServiceFlag[] = [
  text("client", "Client: mucp, or the name of a plugin", (client) => ({ client })),
  duration("client_request_timeout", "Limit of a call, retries included, e.g. 500ms, 5s, 1m", (timeoutMs) => ({
    timeoutMs,
  })),
  integer("client_retries", "Extra attempts of a call", 0, (retries) => ({ retries })),
  integer("client_pool_size", "Idle connections kept per address", 1, (poolSize) => ({ poolSize })),
  duration("client_pool_ttl", "Age at which a pooled connection is closed, e.g. 1m", (poolTtlMs) => ({ poolTtlMs })),
  integer("register_ttl", "Seconds a registration lives unless renewed", 1, (seconds) => ({
    registerTtlMs: seconds * 1000,
  })),
  integer("register_interval", "Seconds between registrations; 0 = register once", 0, (seconds) => ({
    registerIntervalMs: seconds * 1000,
  })),
  {
    name: "start_wait",
    type: "boolean",
    usage: "Wait for a registry or broker that is away at the start, instead of ending with code 1",
    variable: variableOf("start_wait"),
    apply: (values) => ({ startWait: values.boolean("start_wait") }),
  },
  text("server", "Server: mucp, or the name of a plugin", (server) => ({ server })),
  text("server_name", "Name of the service", (name) => ({ name })),
  text("server_version", "Version of the service, e.g. 1.1.0", (version) => ({ version })),
  text("server_id", "Id of this instance; its node is called NAME-ID", (id) => ({ id })),
  text("server_address", "Address to listen on: host:port, :0 for any port, host:5000-6000", (address) => ({
    address,
  })),
  {
    name: "probes",
    type: "boolean",
    usage: "Answer GET /healthz and GET /readyz on the port",
    variable: variableOf("probes"),
    apply: (values) => ({ probes: values.boolean("probes") }),
  },
  text("server_advertise", "Address put into the registry instead of the bound one", (advertise) => ({ advertise })),
  {
    name: "server_metadata",
    type: "map",
    usage: "Node metadata, key=value; repeat it or separate by commas",
    variable: variableOf("server_metadata"),
    apply: (values) => ({ metadata: Object.fromEntries(values.map("server_metadata")) }),
  },
  text("broker", "Broker: http, memory, or the name of a plugin such as nats", (broker) => ({ broker })),
  list("broker_address", "Addresses of the broker, comma separated", (brokerAddress) => ({ brokerAddress })),
  text("registry", "Registry: mdns, memory, or the name of a plugin such as etcd", (registry) => ({ registry })),
  list("registry_address", "Addresses of the registry, comma separated", (registryAddress) => ({ registryAddress })),
  text("transport", "Transport: http, memory, or the name of a plugin", (transport) => ({ transport })),
  list("transport_address", "Addresses the transport needs, comma separated", (transportAddress) => ({
    transportAddress,
  })),
  text("selector", "Selector: registry, random, roundRobin, or the name of a plugin", (selector) => ({ selector })),
  {
    ...text("tracer", "Tracer: memory, for Debug.Trace", () => ({})),
    apply: (values) => {
      const tracer = values.string("tracer");
      if (tracer !== "memory")
        throw new UsageError(
          `${values.source("tracer")}: tracer ${JSON.stringify(tracer)} does not exist; there is memory`,
        );
      return { tracer };
    },
  },
  list("plugin", "Modules that export plugins, comma separated", () => ({})),
];

/** Flags of go-micro whose piece this version does not have: using one is an error, its variable gets a warning. */
const laterFlags: ReadonlyMap<string, string> = new Map([
  ...["store", "store_address", "store_database", "store_table"].map((name) => [name, "store"] as const),
  ["tracer_address", "tracer with an address"],
  ...["auth", "auth_id", "auth_secret", "auth_namespace", "auth_public_key", "auth_private_key"].map(
    (name) => [name, "auth"] as const,
  ),
  ...["", "_client_id", "_client_secret", "_endpoint", "_redirect", "_scope"].map(
    (suffix) => [`auth_provider${suffix}`, "auth provider"] as const,
  ),
  ["config", "config source"],
  ["runtime", "runtime"],
  ["runtime_source", "runtime"],
  ["profile", "profiler"],
  ["debug-profile", "profiler"],
]);

/** Variables of go-micro that no flag stands for: they send all calls elsewhere, so that not heeding them is worth a word. */
const laterVariables: readonly [variable: string, piece: string][] = [
  ["MICRO_PROXY", "proxy"],
  ["MICRO_NETWORK", "network"],
  ["MICRO_NETWORK_ADDRESS", "network"],
  ["MICRO_ROUTER", "router"],
  ["MICRO_ROUTER_ADDRESS", "router"],
];

/** Definitions of the flags above, and `help` and `version` unless the program has flags of these names. */
export function serviceFlagDefinitions(own: readonly FlagDefinition[]): FlagDefinition[] {
  const taken = new Set(own.map((flag) => flag.name));
  const help: FlagDefinition[] = [
    { name: "help", type: "boolean", usage: "Show this help" },
    { name: "h", type: "boolean", hidden: true },
    { name: "version", type: "boolean", usage: "Print the version" },
    { name: "v", type: "boolean", hidden: true },
  ];
  return [
    ...serviceFlags,
    ...[...laterFlags.keys()].filter((name) => !taken.has(name)).map((name) => ({ name, hidden: true })),
    ...help.filter((flag) => !taken.has(flag.name)),
  ];
}

/** What flags and variables set, and which of them set it. */
export interface AppliedFlags {
  readonly options: Partial<ServiceOptions>;
  /** `--registry` or `MICRO_REGISTRY` by option name. */
  readonly sources: ReadonlyMap<string, string>;
}

/** Read the table's flags. @throws {UsageError} for values out of range and flags of later pieces. */
export function applyServiceFlags(values: FlagValues, own: readonly FlagDefinition[]): AppliedFlags {
  const taken = new Set(own.map((flag) => flag.name));
  for (const [name, piece] of laterFlags) {
    if (!taken.has(name) && values.isSet(name))
      throw new UsageError(`--${name} is a flag of go-micro, but this version has no ${piece} yet; leave it out`);
  }
  const options: Partial<ServiceOptions> = {};
  const sources = new Map<string, string>();
  for (const flag of serviceFlags) {
    const source = values.source(flag.name);
    if (source === undefined) continue;
    // Go ignores an empty text, so that a script may pass on what it was not given.
    if ((flag.type ?? "string") === "string" && values.string(flag.name) === "") continue;
    const applied = flag.apply(values, flag.name);
    for (const name of Object.keys(applied)) sources.set(name, source);
    Object.assign(options, applied);
  }
  return { options, sources };
}

/** Variables that are no flag's. */
const otherVariables = ["MICRO_LOG_LEVEL", "MICRO_LOG_FORMAT", "MICRO_PLUGIN", "MICRO_TLS_INSECURE"];

/**
 * Variables that are set, that nothing reads, and that are called nearly as one that is read. Others that begin with `MICRO_`
 * may be the program's own.
 */
export function misspeltVariables(
  env: Readonly<Record<string, string | undefined>>,
  definitions: Iterable<FlagDefinition>,
): [variable: string, meant: string][] {
  const known = new Set([...otherVariables, ...laterVariables.map(([variable]) => variable)]);
  for (const name of laterFlags.keys()) known.add(variableOf(name));
  for (const definition of definitions) for (const variable of flagVariables(definition)) known.add(variable);
  // Without what all have in common, so that a short name is not like any other.
  const rest = [...known].filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
  return Object.keys(env).flatMap((variable): [string, string][] => {
    if (!variable.startsWith(prefix) || known.has(variable) || (env[variable] ?? "") === "") return [];
    const meant = nearest(variable.slice(prefix.length), rest);
    return meant === undefined ? [] : [[variable, prefix + meant]];
  });
}

const prefix = "MICRO_";

/** Variables that are set although their piece does not exist, with the piece. */
export function ignoredVariables(
  env: Readonly<Record<string, string | undefined>>,
): [variable: string, piece: string][] {
  const ofFlags = [...laterFlags].map(([name, piece]): [string, string] => [variableOf(name), piece]);
  return [...ofFlags, ...laterVariables].filter(([variable]) => (env[variable] ?? "") !== "");
}
