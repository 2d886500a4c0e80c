/** The options of a service, and how several sets of them become one. */
import type { Backoff, CallWrapper, Client, ClientWrapper, RetryPolicy } from "../client/client.ts";
import type { CodecTable } from "../codec/codec.ts";
import type { Broker } from "../broker/broker.ts";
import type { PublishWrapper } from "../client/publish.ts";
import type { Logger } from "../logger/logger.ts";
import type { Redact } from "../logger/record-text.ts";
import type { Registry, StringMap } from "../registry/registry.ts";
import type { Selector } from "../selector/selector.ts";
import { type DebugAccess, checkDebugAccess } from "../server/debug.ts";
import type { SubscriberWrapper } from "../server/events.ts";
import type { HandlerWrapper, Server } from "../server/server.ts";
import { checkTlsOptions, type HttpTlsOptions } from "../net/tls.ts";
import { checkLimit, checkNumber, checkOptionNames, checkPause } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import type { NumberBounds, OptionNames } from "../option-check.ts";
import type { Transport } from "../transport/transport.ts";
import type { FlagDefinition, FlagValues } from "./flags.ts";
import type { Hook } from "./hooks.ts";
import type { PluginDescriptor } from "./plugins.ts";
import type { ProbeOptions } from "./probes.ts";

/** TLS of the built-in transport and of plugins that take it. */
export interface TlsSettings {
  /** Serve and dial with TLS. A server without a certificate makes a self-signed one, as Go does. */
  readonly secure: boolean;
  /** Certificate, key, authorities. */
  readonly tls: HttpTlsOptions | undefined;
  /** Do not verify the certificates of other nodes. */
  readonly insecureSkipVerify: boolean;
}

/** Says whether the service may be in the registry: false, or an error, takes it out until it is true again. Go's `RegisterCheck`. */
export type RegisterCheck = () => boolean | Promise<boolean>;

/** What `createService()` and `init()` take. All are optional; the weakest win last: see the order at {@link createService}. */
export interface ServiceOptions {
  /** Name in the registry. Default: `go.micro.server`. */
  name?: string | undefined;
  /** Default: `latest`. */
  version?: string | undefined;
  /** Id of this instance; its node is called `<name>-<id>`. Default: a UUID v4. */
  id?: string | undefined;
  /** Address to listen on: `host:port`, `:0` for any port on all interfaces, `host:5000-6000` for the first free one, `unix:/path` for callers on this machine. Default: `:0`. */
  address?: string | undefined;
  /** Address put into the registry. Default: the bound one; where that is a wildcard, this machine's first private address. */
  advertise?: string | undefined;
  /** Metadata of the node, beside `protocol`, `server`, `transport`, `broker` and `registry`. Sets given later are added by key. */
  metadata?: StringMap | undefined;
  /** Registry domain. Default: none. */
  domain?: string | undefined;

  /** How long a registration lives unless renewed, in milliseconds; more than the interval. Default: 60000. */
  registerTtlMs?: number | undefined;
  /** Time between two registrations, in milliseconds; 0 = register once. Default: 30000. */
  registerIntervalMs?: number | undefined;
  registerCheck?: RegisterCheck | undefined;
  /**
   * Where the registry, or with subscribers the broker, is away at the start: wait until it is there, said at once and every
   * 30 seconds, instead of failing after some seconds. Default: false; `MICRO_START_WAIT=true` sets it.
   */
  startWait?: boolean | undefined;

  /** An instance, or `mdns`, `memory` or the name of a plugin. Default: `mdns`. */
  registry?: Registry | string | undefined;
  /** For a registry chosen by name. Default: the registry's own. */
  registryAddress?: readonly string[] | undefined;
  /** An instance, or `http`, `memory` or the name of a plugin. Default: `http`. */
  broker?: Broker | string | undefined;
  /** For a broker chosen by name; where `http` listens. Default: the broker's own; `http` listens on the host of `address`. */
  brokerAddress?: readonly string[] | undefined;
  /** An instance, or `http`, `memory` or the name of a plugin. Default: `http`. */
  transport?: Transport | string | undefined;
  /** For a transport chosen by name. Default: the transport's own. */
  transportAddress?: readonly string[] | undefined;
  /** `http` keeps the built-in transport to Go's HTTP/1.1 wire. Default: `auto`, the fast wire between peers of this library. */
  wire?: "auto" | "http" | undefined;
  /** An instance, or `registry` (power of two choices), `random`, `roundRobin` or the name of a plugin. Default: `registry`. */
  selector?: Selector | string | undefined;
  /** An instance, or `mucp` or the name of a plugin. Default: `mucp`. */
  client?: Client | string | undefined;
  /** An instance, or `mucp` or the name of a plugin. Default: `mucp`. */
  server?: Server | string | undefined;
  /** An instance, or `console` or the name of a plugin. Default: `console`. */
  logger?: Logger | string | undefined;

  /**
   * Takes secrets out of what the default logger writes and `Debug.Log` gives: see `ConsoleLoggerOptions`. A logger made
   * elsewhere has means of its own. Default: none.
   */
  redact?: Redact | undefined;

  /** `memory` keeps spans of the newest calls for `Debug.Trace`, and sends trace ids with calls. Default: none. */
  tracer?: "memory" | undefined;

  /** Further codecs by content type, for client and server; they replace defaults of the same type. */
  codecs?: CodecTable | undefined;

  /** Content type of calls by name. Default: `application/json`. */
  contentType?: string | undefined;
  /** Limit of a call, all attempts included, in milliseconds. Default: 5000. */
  timeoutMs?: number | undefined;
  /** Limit for making a connection, in milliseconds. Default: 5000. */
  dialTimeoutMs?: number | undefined;
  /** Limit of a whole stream, in milliseconds. Default: none. */
  streamTimeoutMs?: number | undefined;
  /** Longest silence on a stream, in milliseconds. Default: none. */
  streamIdleTimeoutMs?: number | undefined;
  /** Extra attempts of a call. Default: 1. */
  retries?: number | undefined;
  /** Which failures are retried. Default: `retryNotRun`. */
  retry?: RetryPolicy | undefined;
  /** Pause before a retry. Default: `exponentialBackoff`. */
  backoff?: Backoff | undefined;
  /** Share of calls that may be retried over the last 10 s, beside a floor of 10 per second. Default: 0.2. */
  retryBudget?: number | undefined;
  /** Idle connections kept per address. Default: 100. */
  poolSize?: number | undefined;
  /** Age at which a pooled connection is closed, in milliseconds. Default: 60000. */
  poolTtlMs?: number | undefined;

  /**
   * Answer `GET /healthz` and `GET /readyz` on the service's port, over HTTP (or HTTPS, where it has TLS): for Kubernetes and
   * load balancers. Other paths by {@link ProbeOptions}. Default: false; `MICRO_PROBES=true` sets it.
   */
  probes?: boolean | ProbeOptions | undefined;
  /**
   * Origins whose web pages may call, as browsers write them: `https://app.example`. What a browser sends for any other page
   * runs nothing. Default: none.
   */
  origins?: readonly string[] | undefined;
  /** Calls handled at once, and as many streams; see `ServerOptions`. Default: 10000. */
  maxConcurrency?: number | undefined;
  /** Who is told what by the built-in `Debug` handlers: `debug: { log: false, trace: (context) => … }`. Default: whoever reaches the port, everything. */
  debug?: DebugAccess | undefined;
  /** Largest message of a caller, in bytes; see `ServerOptions`. Of answers, calls have a limit of their own. Default: 4194304 (4 MiB). */
  maxMessageBytes?: number | undefined;

  /** Serve and dial with TLS. Default: false, or true where `tls` is given. */
  secure?: boolean | undefined;
  /** Certificate, key, authorities to trust; `requestClientCert` for mTLS. Default: none. */
  tls?: HttpTlsOptions | undefined;
  /** Do not verify the certificates of other nodes. A warning is logged. Default: false; `MICRO_TLS_INSECURE=true` sets it. */
  insecureSkipVerify?: boolean | undefined;

  /** Around every call of this service's client. The first listed is the outermost; lists given later are further in. */
  wrapClient?: readonly ClientWrapper[] | undefined;
  /** Around every attempt of a call. */
  wrapCall?: readonly CallWrapper[] | undefined;
  /** Around every handler. */
  wrapHandler?: readonly HandlerWrapper[] | undefined;
  /** Around every publish. */
  wrapPublish?: readonly PublishWrapper[] | undefined;
  /** Around every handler of events. */
  wrapSubscriber?: readonly SubscriberWrapper[] | undefined;

  /** Before anything is started; the first error ends the start. Lists given later are added to the end. */
  beforeStart?: Hook | readonly Hook[] | undefined;
  /** Once the service is registered; an error stops it again. */
  afterStart?: Hook | readonly Hook[] | undefined;
  /** Before it is deregistered. All run; the last error is thrown at the end of the stop. */
  beforeStop?: Hook | readonly Hook[] | undefined;
  /** Once the server is closed. All run; the last error is thrown at the end of the stop. */
  afterStop?: Hook | readonly Hook[] | undefined;

  /** Let SIGTERM, SIGINT and SIGQUIT stop `run()`; a second one ends the process at once. Default: true. */
  handleSignals?: boolean | undefined;
  /** Stops the service when it aborts. Default: none. */
  signal?: AbortSignal | undefined;
  /** How long running calls may take to finish at stop, in milliseconds; what runs then is cancelled. Default: 30000. */
  drainTimeoutMs?: number | undefined;
  /** Time between deregistration and refusing calls, in milliseconds, so that callers learn of it. Default: 500. */
  spreadMs?: number | undefined;

  /** Plugins in code, chosen by name then: the form for bundled programs. */
  plugins?: readonly PluginDescriptor[] | undefined;
  /** Flags of the program; `--help` lists them. */
  flags?: readonly FlagDefinition[] | undefined;
  /** Called by `init()` with the parsed flags, once options, variables and flags have been applied. */
  action?: ((flags: FlagValues) => void | Promise<void>) | undefined;
  /** Command line, without program and script. Read by the first `init()` only. Default: `process.argv.slice(2)`. */
  args?: readonly string[] | undefined;
  /** Variables. Read by the first `init()` only. Default: `process.env`. */
  env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Ends the process after `--help`, `--version`, a wrong flag or a second signal. Default: `process.exit`. */
  exit?: ((code: number) => void) | undefined;
}

/** Options with their defaults: what a service runs with. */
export interface ServiceSettings
  extends
    Omit<ServiceOptions, DefaultedName | HookName | "tls">,
    Readonly<Required<{ [Name in DefaultedName]: Exclude<ServiceOptions[Name], undefined> }>>,
    TlsSettings {
  readonly beforeStart: readonly Hook[];
  readonly afterStart: readonly Hook[];
  readonly beforeStop: readonly Hook[];
  readonly afterStop: readonly Hook[];
}

type HookName = "beforeStart" | "afterStart" | "beforeStop" | "afterStop";
type DefaultedName =
  | "name"
  | "version"
  | "id"
  | "address"
  | "metadata"
  | "registerTtlMs"
  | "registerIntervalMs"
  | "startWait"
  | "registry"
  | "registryAddress"
  | "broker"
  | "brokerAddress"
  | "transport"
  | "transportAddress"
  | "selector"
  | "client"
  | "server"
  | "logger"
  | "secure"
  | "insecureSkipVerify"
  | "wrapClient"
  | "wrapCall"
  | "wrapHandler"
  | "wrapPublish"
  | "wrapSubscriber"
  | "handleSignals"
  | "drainTimeoutMs"
  | "spreadMs"
  | "plugins"
  | "flags";

const defaultTtlMs = 60_000;
const defaultIntervalMs = 30_000;

const hookNames = ["beforeStart", "afterStart", "beforeStop", "afterStop"] as const;
const wrapperNames = ["wrapClient", "wrapCall", "wrapHandler", "wrapPublish", "wrapSubscriber"] as const;
const listNames = [...wrapperNames, "plugins", "flags", ...hookNames] as const;

/** `over` on top of `base`: lists are joined, metadata by key, anything else is replaced where `over` defines it. */
export function mergeOptions(base: ServiceOptions, over: ServiceOptions): ServiceOptions {
  const merged: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(over)) if (value !== undefined) merged[name] = value;
  for (const name of listNames) {
    const joined = [...toList<unknown>(base[name]), ...toList<unknown>(over[name])];
    if (joined.length > 0) merged[name] = joined;
  }
  if (base.metadata !== undefined && over.metadata !== undefined)
    merged["metadata"] = Object.fromEntries([...Object.entries(base.metadata), ...Object.entries(over.metadata)]);
  return merged;
}

/** Fill in defaults. @throws {TypeError} for options of the wrong type or out of range. */
export function resolveOptions(options: ServiceOptions, id: string): ServiceSettings {
  check(options);
  return {
    ...options,
    name: options.name ?? "go.micro.server",
    version: options.version ?? "latest",
    id: options.id ?? id,
    address: options.address ?? ":0",
    metadata: options.metadata ?? {},
    registerTtlMs: options.registerTtlMs ?? defaultTtlMs,
    registerIntervalMs: options.registerIntervalMs ?? defaultIntervalMs,
    startWait: options.startWait ?? false,
    registry: options.registry ?? "mdns",
    registryAddress: options.registryAddress ?? [],
    broker: options.broker ?? "http",
    brokerAddress: options.brokerAddress ?? [],
    transport: options.transport ?? "http",
    transportAddress: options.transportAddress ?? [],
    selector: options.selector ?? "registry",
    client: options.client ?? "mucp",
    server: options.server ?? "mucp",
    logger: options.logger ?? "console",
    secure: options.secure ?? options.tls !== undefined,
    tls: options.tls,
    insecureSkipVerify: options.insecureSkipVerify ?? false,
    wrapClient: options.wrapClient ?? [],
    wrapCall: options.wrapCall ?? [],
    wrapHandler: options.wrapHandler ?? [],
    wrapPublish: options.wrapPublish ?? [],
    wrapSubscriber: options.wrapSubscriber ?? [],
    handleSignals: options.handleSignals ?? true,
    drainTimeoutMs: options.drainTimeoutMs ?? 30_000,
    spreadMs: options.spreadMs ?? 500,
    plugins: options.plugins ?? [],
    flags: options.flags ?? [],
    beforeStart: toList(options.beforeStart),
    afterStart: toList(options.afterStart),
    beforeStop: toList(options.beforeStop),
    afterStop: toList(options.afterStop),
  };
}

function toList<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? (value as readonly T[]) : [value as T];
}

/** Times that are waited for in full, or between two events. */
const pauses = ["registerTtlMs", "registerIntervalMs", "spreadMs", "poolTtlMs"] as const;
/** Longest times: any, since a timer that cannot be set so far is set as far as it can be. */
const limits = ["drainTimeoutMs", "timeoutMs", "dialTimeoutMs", "streamTimeoutMs", "streamIdleTimeoutMs"] as const;
const counts = [
  ["retries", { whole: true }],
  ["retryBudget", {}],
  ["poolSize", {}],
  ["maxConcurrency", { least: 1 }],
  ["maxMessageBytes", { least: 1 }],
] as const satisfies readonly (readonly [keyof ServiceOptions, NumberBounds])[];

const optionNames: OptionNames<ServiceOptions> = {
  name: true,
  version: true,
  id: true,
  address: optionKinds.listenAddress,
  advertise: optionKinds.text,
  metadata: optionKinds.object,
  domain: optionKinds.text,
  registerTtlMs: true,
  registerIntervalMs: true,
  registerCheck: optionKinds.function,
  startWait: optionKinds.flag,
  registry: optionKinds.registryOrName,
  registryAddress: optionKinds.texts,
  broker: optionKinds.brokerOrName,
  brokerAddress: optionKinds.texts,
  transport: optionKinds.transportOrName,
  transportAddress: optionKinds.texts,
  wire: true,
  selector: optionKinds.selectorOrName,
  client: optionKinds.clientOrName,
  server: optionKinds.serverOrName,
  logger: optionKinds.loggerOrName,
  redact: optionKinds.function,
  tracer: true,
  codecs: optionKinds.codecs,
  contentType: optionKinds.text,
  timeoutMs: true,
  dialTimeoutMs: true,
  streamTimeoutMs: true,
  streamIdleTimeoutMs: true,
  retries: true,
  retry: optionKinds.function,
  backoff: optionKinds.function,
  retryBudget: true,
  poolSize: true,
  poolTtlMs: true,
  probes: true,
  origins: optionKinds.texts,
  maxConcurrency: true,
  debug: true,
  maxMessageBytes: true,
  secure: optionKinds.flag,
  tls: true,
  insecureSkipVerify: optionKinds.flag,
  wrapClient: optionKinds.functions,
  wrapCall: optionKinds.functions,
  wrapHandler: optionKinds.functions,
  wrapPublish: optionKinds.functions,
  wrapSubscriber: optionKinds.functions,
  beforeStart: optionKinds.functionOrFunctions,
  afterStart: optionKinds.functionOrFunctions,
  beforeStop: optionKinds.functionOrFunctions,
  afterStop: optionKinds.functionOrFunctions,
  handleSignals: optionKinds.flag,
  signal: optionKinds.signal,
  drainTimeoutMs: true,
  spreadMs: true,
  plugins: optionKinds.list,
  flags: optionKinds.list,
  action: optionKinds.function,
  args: optionKinds.texts,
  env: optionKinds.object,
  exit: optionKinds.function,
};

/**
 * Refuse what is no option of a service. @param what `createService` or `init`.
 * @throws {TypeError} naming the option most likely meant.
 */
export function checkServiceOptionNames(what: string, options: ServiceOptions): void {
  checkOptionNames(what, options, optionNames);
}

function check(options: ServiceOptions): void {
  for (const name of ["name", "version", "id"] as const) {
    const value = options[name];
    if (value !== undefined && (typeof value !== "string" || value === ""))
      throw new TypeError(`createService: \`${name}\` must be a text that is not empty`);
  }
  for (const name of pauses) ofOption(name, () => checkPause("createService", name, options[name]));
  for (const name of limits) ofOption(name, () => checkLimit("createService", name, options[name]));
  for (const [name, bounds] of counts) ofOption(name, () => checkNumber("createService", name, options[name], bounds));
  for (const [name, value] of Object.entries(options.metadata ?? {}))
    if (typeof value !== "string")
      throw new TypeError(`createService: metadata ${JSON.stringify(name)} must be a text`);
  if (options.tracer !== undefined && options.tracer !== "memory")
    throw new TypeError("createService: `tracer` must be `memory`");
  if (options.wire !== undefined && options.wire !== "auto" && options.wire !== "http")
    throw new TypeError("createService: `wire` must be `auto` or `http`");
  const { registerTtlMs = defaultTtlMs, registerIntervalMs = defaultIntervalMs } = options;
  if (registerTtlMs <= registerIntervalMs)
    throw new OptionError(
      `the registration would expire between renewals: its TTL (${registerTtlMs / 1000} s) must exceed the interval (${registerIntervalMs / 1000} s)`,
      ["registerTtlMs", "registerIntervalMs"],
    );
  // An instance comes with what it was made of; dropping these silently would be worse than saying so.
  refuseWith(options, "client", [
    "wrapClient",
    "wrapCall",
    "wrapPublish",
    "contentType",
    "timeoutMs",
    "dialTimeoutMs",
    "streamTimeoutMs",
    "streamIdleTimeoutMs",
    "retries",
    "retry",
    "backoff",
    "retryBudget",
    "tracer",
  ]);
  checkDebugAccess("createService: debug", options.debug);
  checkTlsOptions("createService: tls", options.tls);
  const { probes } = options;
  if (probes !== undefined && typeof probes !== "boolean") {
    checkOptionNames("createService: probes", probes, { live: true, ready: true });
    for (const [name, path] of Object.entries(probes))
      if (path !== undefined && !(typeof path === "string" && path.startsWith("/")))
        throw new TypeError(`createService: \`probes.${name}\` must be a path, such as /healthz`);
  }
  refuseWith(options, "server", [
    "wrapHandler",
    "wrapSubscriber",
    "address",
    "probes",
    "origins",
    "maxConcurrency",
    "maxMessageBytes",
  ]);
  refuseWith(options, "transport", [
    "wire",
    "poolSize",
    "poolTtlMs",
    "secure",
    "tls",
    "insecureSkipVerify",
    "transportAddress",
  ]);
  refuseWith(options, "registry", ["registryAddress"]);
  refuseWith(options, "broker", ["brokerAddress"]);
}

/** Options that do not fit together. */
export class OptionError extends TypeError {
  /** Those that may be at fault: variables and flags that set one are named. */
  readonly options: readonly (keyof ServiceOptions)[];
  constructor(message: string, options: readonly (keyof ServiceOptions)[]) {
    super(message);
    this.options = options;
  }
}

/** What a check says of an option, with its name: a variable or flag may have set it. */
function ofOption(name: keyof ServiceOptions, checks: () => void): void {
  try {
    checks();
  } catch (error) {
    throw new OptionError((error as Error).message, [name]);
  }
}

function refuseWith(
  options: ServiceOptions,
  piece: "client" | "server" | "transport" | "registry" | "broker",
  names: readonly (keyof ServiceOptions)[],
): void {
  if (typeof options[piece] !== "object") return;
  const given = names.find((name) => options[name] !== undefined);
  if (given !== undefined)
    throw new OptionError(`\`${given}\` cannot be set on a ${piece} made elsewhere; give it to that ${piece}`, [given]);
}
