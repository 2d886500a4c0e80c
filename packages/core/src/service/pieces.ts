/**
 * The composed pieces of a service: made on first use, exchanged by `init()`, closed with the service.
 *
 * A piece given as an instance is used as it is and left open: it is told when no service uses it any more. One given
 * by name is made here and closed here.
 */
import type { Broker } from "../broker/broker.ts";
import { httpBroker } from "../broker/http/http-broker.ts";
import { memoryBroker } from "../broker/memory.ts";
import type { Client, ClientOptions, ProtocolClient } from "../client/client.ts";
import { mucpClient } from "../client/mucp-client.ts";
import { logRing } from "../debug/log-ring.ts";
import type { LogRing } from "../debug/log-ring.ts";
import { spanRing } from "../debug/spans.ts";
import { MicroError } from "../errors.ts";
import { consoleLogger, type LogFormat } from "../logger/console-logger.ts";
import type { Logger, LogLevel } from "../logger/logger.ts";
import type { Redact } from "../logger/record-text.ts";
import { mdnsRegistry } from "../registry/mdns/mdns-registry.ts";
import { memoryRegistry } from "../registry/memory.ts";
import type { Registry } from "../registry/registry.ts";
import { cachedSelector } from "../selector/cached-selector.ts";
import type { Selector, StrategyName } from "../selector/selector.ts";
import { mucpServer } from "../server/mucp-server.ts";
import type { Server, ServerOptions } from "../server/server.ts";
import { httpTransport } from "../transport/http/http-transport.ts";
import { memoryTransport } from "../transport/memory.ts";
import type { ListenOptions, Transport } from "../transport/transport.ts";
import { brokerAdvertise, brokerListenAddress } from "./broker-address.ts";
import { isModule, pluginName } from "./aliases.ts";
import type { PluginKind } from "./aliases.ts";
import type { FlagDefinition, FlagValues } from "./flags.ts";
import { UsageError } from "./flags.ts";
import { followingLogger } from "./following-logger.ts";
import type { ServiceSettings } from "./options.ts";
import type { PluginContext, PluginTable } from "./plugins.ts";
import { probeAnswers, type ProbeOptions } from "./probes.ts";
import { give, take } from "./users.ts";
import { runsInside } from "../work.ts";

interface PieceTypes {
  registry: Registry;
  transport: Transport;
  broker: Broker;
  logger: Logger;
  selector: Selector;
  client: Client;
  server: Server;
}

type PieceName = keyof PieceTypes;

/** What pieces are made from. */
export interface PieceSource {
  readonly settings: ServiceSettings;
  readonly plugins: PluginTable;
  readonly flags: FlagValues | undefined;
  /** The variable or flag that set an option. */
  readonly sources: ReadonlyMap<string, string>;
  readonly logLevel: LogLevel | undefined;
  readonly logFormat: LogFormat | undefined;
}

/** In the order of use: each may need those before it. */
export const pieceNames: readonly PieceName[] = [
  "logger",
  "registry",
  "transport",
  "broker",
  "selector",
  "client",
  "server",
];

const strategies: ReadonlyMap<string, StrategyName> = new Map([
  ["registry", "powerOfTwoChoices"],
  ["powerOfTwoChoices", "powerOfTwoChoices"],
  ["random", "random"],
  ["roundRobin", "roundRobin"],
]);

/** Implementations in core. */
export const builtIn: Readonly<Record<PieceName, readonly string[]>> = {
  registry: ["mdns", "memory"],
  transport: ["http", "memory"],
  broker: ["http", "memory"],
  logger: ["console"],
  selector: [...strategies.keys()],
  client: ["mucp"],
  server: ["mucp"],
};

const tlsSettings = ["secure", "tls", "insecureSkipVerify"] as const;
const callSettings = [
  "contentType",
  "timeoutMs",
  "dialTimeoutMs",
  "streamTimeoutMs",
  "streamIdleTimeoutMs",
  "retries",
  "retry",
  "backoff",
  "retryBudget",
  "codecs",
] as const;

/** The settings a piece is made from: it is exchanged when one of them changes. */
const inputs: Readonly<Record<PieceName, readonly (keyof ServiceSettings)[]>> = {
  registry: ["registry", "registryAddress"],
  transport: ["transport", "transportAddress", "poolSize", "poolTtlMs", "maxMessageBytes", "wire", ...tlsSettings],
  broker: ["broker", "brokerAddress", "address", "advertise", "domain", "maxMessageBytes", ...tlsSettings],
  logger: ["logger", "redact"],
  selector: ["selector", "domain"],
  client: ["client", "name", "wrapClient", "wrapCall", "wrapPublish", "tracer", ...callSettings],
  server: [
    "server",
    "name",
    "address",
    "codecs",
    "wrapHandler",
    "wrapSubscriber",
    "tracer",
    "probes",
    "origins",
    "maxConcurrency",
    "maxMessageBytes",
  ],
};

/** Client and server ask for the broker when they need it: neither is made anew with it, nor waits for its plugin. */
const needs: Readonly<Record<PieceName, readonly PieceName[]>> = {
  registry: [],
  transport: [],
  broker: ["registry"],
  logger: [],
  selector: ["registry"],
  client: ["selector", "transport"],
  server: ["transport"],
};

export class Pieces implements AsyncDisposable {
  #source: PieceSource;
  readonly #made = new Map<PieceName, PieceTypes[PieceName]>();
  readonly #protocols = new Map<string, Promise<ProtocolClient>>();
  /** The newest log records, for `Debug.Log`. */
  readonly logs: LogRing;
  /** The newest spans, for `Debug.Trace`; empty unless the memory tracer is chosen. */
  readonly spans = spanRing();
  readonly #madeServer: (server: Server) => void;
  readonly #isReady: () => boolean;
  #closed = false;

  /**
   * @param madeServer called with every server that comes into use, to hand it the handlers.
   * @param isReady what the probe of readiness says.
   */
  constructor(source: PieceSource, madeServer: (server: Server) => void, isReady: () => boolean) {
    this.#source = source;
    this.#isReady = isReady;
    this.#madeServer = madeServer;
    // A logger that is still to be loaded must not keep anybody from logging.
    const early = consoleLogger();
    const logger = followingLogger(() => (this.canMake("logger") ? this.#get("logger", makeLogger) : early));
    const redact: Redact = (text, field) => {
      const asked = this.#source.settings.redact;
      return asked === undefined ? text : asked(text, field);
    };
    this.logs = logRing({ logger, redact });
  }

  /** Keeps what it logs, and follows later changes of the logger or its level. */
  get logger(): Logger {
    return this.logs.logger;
  }
  get registry(): Registry {
    return this.#get("registry", makeRegistry);
  }
  get transport(): Transport {
    return this.#get("transport", makeTransport);
  }
  get broker(): Broker {
    return this.#get("broker", makeBroker);
  }
  get selector(): Selector {
    return this.#get("selector", makeSelector);
  }
  get client(): Client {
    return this.#get("client", makeClient);
  }
  get server(): Server {
    return this.#get("server", makeServer);
  }

  get source(): PieceSource {
    return this.#source;
  }

  /** True inside of a handler that ending one of them waits for. */
  get runHere(): boolean {
    return [...this.#made.values()].some(runsInside);
  }

  /** Import the packages of pieces chosen by name. @param sources what chose them, for errors. */
  async load(sources: ReadonlyMap<string, string>): Promise<void> {
    for (const kind of pieceNames) {
      const chosen = this.#source.settings[kind];
      if (typeof chosen !== "string" || builtIn[kind].includes(pluginName(kind, chosen))) continue;
      await this.#source.plugins.load(kind, chosen, sources.get(kind) ?? `createService: ${kind}`, builtIn[kind]);
    }
  }

  /** Use other settings from now on; what was made from changed ones is closed. */
  async reconfigure(source: PieceSource): Promise<void> {
    const before = this.#source;
    this.#source = source;
    const changed = new Set<PieceName>();
    for (const name of pieceNames) {
      if (
        needs[name].some((needed) => changed.has(needed)) ||
        inputs[name].some((key) => !same(before.settings[key], source.settings[key])) ||
        (name === "logger" && (before.logLevel !== source.logLevel || before.logFormat !== source.logFormat)) ||
        (this.#isPlugin(name) && (before.settings.name !== source.settings.name || before.flags !== source.flags))
      )
        changed.add(name);
    }
    const dropped: AsyncDisposable[] = [];
    const given: object[] = [];
    for (const name of pieceNames.toReversed()) {
      const piece = changed.has(name) ? this.#made.get(name) : undefined;
      if (piece === undefined) continue;
      this.#made.delete(name);
      if (typeof before.settings[name] === "string") dropped.push(...disposable(piece));
      else given.push(piece);
    }
    for (const piece of dropped) await piece[Symbol.asyncDispose]();
    for (const piece of given) await give(piece);
  }

  /** Close what was made here, last made first. Pieces asked for afterwards are not made any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#closeAll(false);
  }

  /** Close what was made so far, as disposal does; what is asked for afterwards is made anew. */
  async renew(): Promise<void> {
    if (!this.#closed) await this.#closeAll(true);
  }

  async #closeAll(forget: boolean): Promise<void> {
    const errors: unknown[] = [];
    const attempt = async (step: () => unknown) => {
      try {
        await step();
      } catch (error) {
        errors.push(error);
      }
    };
    const given: object[] = [];
    for (const name of pieceNames.toReversed()) {
      const piece = this.#made.get(name);
      if (piece === undefined || name === "logger") continue;
      if (forget) this.#made.delete(name);
      if (typeof this.#source.settings[name] !== "string") given.push(piece);
      else for (const each of disposable(piece)) await attempt(() => each[Symbol.asyncDispose]());
    }
    for (const protocol of this.#protocols.values())
      for (const each of disposable(await protocol.catch(() => undefined)))
        await attempt(() => each[Symbol.asyncDispose]());
    this.#protocols.clear();
    // Last: what is closed here may have used them.
    for (const piece of given) await attempt(() => give(piece));
    if (errors.length > 0) throw errors.at(-1);
  }

  /** False while a plugin it needs is not loaded. */
  canMake(name: PieceName): boolean {
    const chosen = this.#source.settings[name];
    const loaded =
      typeof chosen !== "string" || !this.#isPlugin(name) || this.#source.plugins.get(name, chosen) !== undefined;
    return loaded && needs[name].every((needed) => this.canMake(needed));
  }

  /** What answers probes, where that is asked for. */
  probes(asked: boolean | ProbeOptions | undefined): ListenOptions["plain"] {
    if (asked === undefined || asked === false) return undefined;
    return probeAnswers(asked === true ? {} : asked, this.#isReady);
  }

  /** What a plugin is made with. */
  context(addresses: readonly string[] = [], logger = this.logger): PluginContext {
    const { settings, flags } = this.#source;
    return {
      service: settings.name,
      version: settings.version,
      logger,
      addresses,
      domain: settings.domain,
      tls: { secure: settings.secure, tls: settings.tls, insecureSkipVerify: settings.insecureSkipVerify },
      flags,
    };
  }

  /** The client for nodes that speak `protocol`, which is whatever a node says: no path, no scope. */
  protocol(protocol: string): Promise<ProtocolClient> {
    const known = this.#protocols.get(protocol);
    if (known !== undefined) return known;
    const loading = this.#loadProtocol(protocol);
    this.#protocols.set(protocol, loading);
    // A failure is not kept: the names come from the registry, and there may be any number of them.
    loading.catch(() => this.#protocols.delete(protocol));
    return loading;
  }

  async #loadProtocol(protocol: string): Promise<ProtocolClient> {
    const { plugins } = this.#source;
    const notSpoken = (reason: string, cause?: unknown) =>
      new MicroError(`protocol ${JSON.stringify(protocol)} of the node cannot be spoken: ${reason}`, {
        id: "go.micro.client",
        code: "not_implemented",
        notRun: true,
        cause,
      });
    if (isModule(protocol)) throw notSpoken("it is not a name");
    try {
      await plugins.load("client", protocol, "node metadata", builtIn.client);
    } catch (error) {
      if (error instanceof UsageError) throw notSpoken(error.message, error);
      throw error;
    }
    const made = plugins.get("client", protocol)?.createProtocol?.(this.context());
    if (made === undefined) throw notSpoken("its plugin only makes whole clients");
    return made;
  }

  #isPlugin(name: PieceName): boolean {
    const chosen = this.#source.settings[name];
    return typeof chosen === "string" && !builtIn[name].includes(pluginName(name, chosen));
  }

  #get<Name extends PieceName>(
    name: Name,
    make: (chosen: string, pieces: Pieces, source: PieceSource) => PieceTypes[Name],
  ): PieceTypes[Name] {
    const made = this.#made.get(name);
    if (made !== undefined) return made as PieceTypes[Name];
    // The logger alone may still be wanted, to say what went wrong.
    if (this.#closed && name !== "logger") throw closed();
    const chosen: unknown = this.#source.settings[name];
    const piece =
      typeof chosen === "string" ? make(pluginName(name, chosen), this, this.#source) : (chosen as PieceTypes[Name]);
    this.#made.set(name, piece);
    if (typeof chosen !== "string") take(piece);
    if (name === "server") this.#madeServer(piece as Server);
    return piece;
  }
}

function makeRegistry(chosen: string, pieces: Pieces, { settings }: PieceSource): Registry {
  // What the program was given goes before what is built in: the plugin of mdns has flags.
  const given = pieces.source.plugins.get("registry", chosen) !== undefined;
  if (chosen === "mdns" && !given) return mdnsRegistry({ logger: pieces.logger });
  if (chosen === "memory" && !given) return memoryRegistry();
  const found = plugin(pieces, "registry", chosen);
  return usable(pieces, "registry", found.flags, () => found.create(pieces.context(settings.registryAddress)));
}

function makeTransport(chosen: string, pieces: Pieces, { settings }: PieceSource): Transport {
  if (chosen === "http") {
    return httpTransport({
      wire: settings.wire,
      secure: settings.secure,
      tls: settings.tls,
      insecureSkipVerify: settings.insecureSkipVerify,
      maxMessageBytes: settings.maxMessageBytes,
      maxIdlePerAddress: settings.poolSize,
      maxConnectionAgeMs: settings.poolTtlMs,
    });
  }
  if (chosen === "memory") return memoryTransport();
  const found = plugin(pieces, "transport", chosen);
  return usable(pieces, "transport", found.flags, () => found.create(pieces.context(settings.transportAddress)));
}

function makeBroker(chosen: string, pieces: Pieces, { settings }: PieceSource): Broker {
  const { registry, logger } = pieces;
  if (chosen === "http") {
    // A server made elsewhere has an address of its own, once it listens.
    const listening = typeof settings.server === "string" ? settings.address : (settings.server.address ?? ":0");
    return httpBroker({
      registry,
      logger,
      address: settings.brokerAddress[0] ?? brokerListenAddress(listening),
      advertise: brokerAdvertise(settings.advertise),
      secure: settings.secure,
      tls: settings.tls,
      insecureSkipVerify: settings.insecureSkipVerify,
      maxMessageBytes: settings.maxMessageBytes,
      domain: settings.domain,
    });
  }
  if (chosen === "memory") return memoryBroker({ logger });
  const found = plugin(pieces, "broker", chosen);
  return usable(pieces, "broker", found.flags, () =>
    found.create({ ...pieces.context(settings.brokerAddress), registry }),
  );
}

function makeLogger(chosen: string, pieces: Pieces, { settings, logLevel, logFormat }: PieceSource): Logger {
  const logger = consoleLogger({ level: logLevel, format: logFormat, redact: settings.redact });
  if (chosen === "console") return logger;
  return plugin(pieces, "logger", chosen).create(pieces.context([], logger));
}

function makeSelector(chosen: string, pieces: Pieces, { settings }: PieceSource): Selector {
  const strategy = strategies.get(chosen);
  const { registry, logger } = pieces;
  if (strategy !== undefined) return cachedSelector({ registry, logger, strategy, domain: settings.domain });
  return plugin(pieces, "selector", chosen).create({ ...pieces.context(), registry });
}

function makeClient(chosen: string, pieces: Pieces, { settings }: PieceSource): Client {
  const options: ClientOptions = {
    ...Object.fromEntries(callSettings.map((name) => [name, settings[name]])),
    transport: pieces.transport,
    selector: pieces.selector,
    logger: pieces.logger,
    wrapClient: [...(settings.tracer === "memory" ? [pieces.spans.wrapClient] : []), ...settings.wrapClient],
    wrapCall: settings.wrapCall,
    wrapPublish: [...(settings.tracer === "memory" ? [pieces.spans.wrapPublish] : []), ...settings.wrapPublish],
    broker: () => pieces.broker,
    from: settings.name,
    protocols: (protocol) => pieces.protocol(protocol),
  };
  if (chosen === "mucp") return mucpClient(options);
  return plugin(pieces, "client", chosen).create({ ...pieces.context(), client: options });
}

function makeServer(chosen: string, pieces: Pieces, { settings }: PieceSource): Server {
  const options: ServerOptions = {
    name: settings.name,
    transport: pieces.transport,
    logger: pieces.logger,
    address: settings.address,
    codecs: settings.codecs,
    wrapHandler: [...(settings.tracer === "memory" ? [pieces.spans.wrapHandler] : []), ...settings.wrapHandler],
    wrapSubscriber: [
      ...(settings.tracer === "memory" ? [pieces.spans.wrapSubscriber] : []),
      ...settings.wrapSubscriber,
    ],
    broker: () => pieces.broker,
    plain: pieces.probes(settings.probes),
    origins: settings.origins,
    maxConcurrency: settings.maxConcurrency,
    maxMessageBytes: settings.maxMessageBytes,
  };
  if (chosen === "mucp") return mucpServer(options);
  return plugin(pieces, "server", chosen).create({ ...pieces.context(), server: options });
}

function plugin<Kind extends PieceName & PluginKind>(pieces: Pieces, kind: Kind, name: string) {
  const found = pieces.source.plugins.get(kind, name);
  if (found === undefined)
    throw new MicroError(`${kind} ${JSON.stringify(name)} is not loaded yet: await service.init() first`, {
      id: pieces.source.settings.name,
      code: "unavailable",
    });
  return found;
}

/** What a plugin cannot use is for whoever starts the program, where a flag or a variable said it; else for its author. */
function usable<Piece>(
  { source: { sources, flags } }: Pieces,
  kind: PieceName,
  own: readonly FlagDefinition[] | undefined,
  make: () => Piece,
): Piece {
  try {
    return make();
  } catch (error) {
    const address = sources.get(`${kind}Address`);
    const said = address !== undefined || sources.has(kind) || own?.some(({ name }) => flags?.isSet(name)) === true;
    if (!said || !(error instanceof TypeError)) throw error;
    throw new UsageError(address === undefined ? error.message : `${address}: ${error.message}`, { cause: error });
  }
}

function same(a: unknown, b: unknown): boolean {
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((item, index) => item === b[index]);
  return Object.is(a, b);
}

function disposable(piece: unknown): AsyncDisposable[] {
  return typeof piece === "object" && piece !== null && Symbol.asyncDispose in piece ? [piece as AsyncDisposable] : [];
}

function closed(): MicroError {
  return new MicroError("the service is stopped", { code: "closed" });
}
