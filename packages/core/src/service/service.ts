/**
 * The service: composes the pieces, reads flags and variables, runs, drains.
 *
 * Order of start and stop: go-micro `service.go`; between deregistration and the end of the server ours waits for
 * callers to learn of it, refuses what still comes with a retryable error, and finishes what runs.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Broker } from "../broker/broker.ts";
import type { Client } from "../client/client.ts";
import { createEvent } from "../client/publish.ts";
import type { EventPublisher, EventPublishOptions, TopicPublisher } from "../client/publish.ts";
import { detach } from "../context.ts";
import { processMeter } from "../debug/process-stats.ts";
import type { ProcessMeter } from "../debug/process-stats.ts";
import { MicroError } from "../errors.ts";
import type { LogFormat } from "../logger/console-logger.ts";
import type { LogLevel, Logger } from "../logger/logger.ts";
import { checkOptionNames } from "../option-check.ts";
import { reachableHost } from "../registry/address.ts";
import { registrar } from "../registry/registrar.ts";
import type { Registrar } from "../registry/registrar.ts";
import type { Registry, Service } from "../registry/registry.ts";
import type { Selector } from "../selector/selector.ts";
import { debugDefinition, debugHandlers } from "../server/debug.ts";
import type { EventSubscribeOptions, SubscriberRegistration } from "../server/events.ts";
import type { HandlerRegistration, Server } from "../server/server.ts";
import type { TopicDefinition } from "../topic.ts";
import type { Transport } from "../transport/transport.ts";
import { clientFacade, failingClient } from "./client-facade.ts";
import type { ServiceClientPiece } from "./client-facade.ts";
import type { WorkerOrder, WorkerReport } from "./cluster/messages.ts";
import { ClusterPrimary, WorkerEnded, checkWorkers } from "./cluster/primary.ts";
import { WorkerLink, workerOrder } from "./cluster/worker-link.ts";
import { UsageError } from "./flags.ts";
import type { FlagValues } from "./flags.ts";
import { ServiceServer } from "./handlers.ts";
import { runAllHooks, runHooks } from "./hooks.ts";
import { nodeId, serviceRecord } from "./node.ts";
import { OptionError, checkServiceOptionNames, mergeOptions, resolveOptions } from "./options.ts";
import type { RegisterCheck, ServiceOptions, ServiceSettings } from "./options.ts";
import { Pieces } from "./pieces.ts";
import { PluginTable } from "./plugins.ts";
import { endProcess, readProcess } from "./process.ts";
import { onStopSignal } from "./signals.ts";
import { outliveStandardStreams } from "./standard-streams.ts";
import { untilThere, withAdvice } from "./start-conditions.ts";
import { tellFailedStart } from "./start-failure.ts";
import { runsInside } from "../work.ts";

/** Settings of `run()`. */
export interface RunOptions {
  /**
   * Serve one port from so many processes, 1 to 1024, which run the program again; this one starts, registers and replaces
   * them, and serves nothing itself. See `docs/services.md`. Default: this process alone serves.
   */
  readonly workers?: number | undefined;
}

/** What {@link createService} returns. Go's `micro.Service`. */
export interface MicroService extends HandlerRegistration, SubscriberRegistration, EventPublisher, AsyncDisposable {
  readonly name: string;
  readonly version: string;
  /** Id of this instance's node: `<name>-<id>`. */
  readonly nodeId: string;
  /** The bound address, e.g. `[::]:43211`; undefined unless it is running. */
  readonly address: string | undefined;
  /**
   * True while the service is registered and takes calls, from the end of its start to the beginning of its stop. False
   * meanwhile if the registration is known to be lost: dropped by the registry, not refreshed within its TTL, or held
   * back by `registerCheck`. Calls are taken all the same.
   */
  readonly ready: boolean;
  /** What it runs with: all options and defaults. */
  readonly options: ServiceSettings;

  /** The client; called as a function it makes typed clients: `service.client(Greeter)`. */
  readonly client: ServiceClientPiece;
  readonly server: Server;
  /** The registry, as chosen so far: `init()` may exchange it, the broker, the transport and the selector. */
  readonly registry: Registry;
  readonly broker: Broker;
  readonly transport: Transport;
  readonly selector: Selector;
  readonly logger: Logger;

  /** Call a service by name: `call("greeter", "Greeter.Hello", { name: "John" })`. */
  readonly call: Client["call"];
  /** Open a stream by name. */
  readonly stream: Client["stream"];
  /** A publisher for one typed topic. Go's `micro.NewEvent`. @param options defaults of every publish. */
  createEvent<In>(topic: TopicDefinition<In, any>, options?: EventPublishOptions): TopicPublisher<In>;
  /** The same by name. */
  createEvent(topic: string, options?: EventPublishOptions): TopicPublisher;

  /**
   * Apply further options; the first time also load plugins and read variables and flags, then call `action`.
   *
   * `--help`, `--version` and anything that cannot be used (an unknown flag, a bad duration, an implementation that is
   * not installed) print a text and end the process.
   * @throws {TypeError} for options that do not exist or are wrong, or once the service has been started.
   */
  init(options?: ServiceOptions): Promise<void>;
  /**
   * `init()` unless done, start, wait for a signal, the abort of `signal` or `stop()`, stop.
   *
   * It is the main function of a program: what makes the start fail and can be mended by whoever starts it (the port is
   * taken, the registry away, an address wrong: every {@link MicroError}) is told in one line, and the process ends with code
   * 1; `start()` throws it instead. With `workers`, the process ends with the code of a worker that cannot start or does
   * not end well.
   * @throws what else made the start fail, such as a hook, or the last error of the stop.
   * @throws {TypeError} for `workers` that is no number of processes, or where there cannot be any.
   */
  run(options?: RunOptions): Promise<void>;
  /**
   * Run the hooks, look whether the registry is there, listen, subscribe, register. Reads neither variables nor flags: call
   * `init()` first where they should count. Calls are refused as not run until subscriptions hold and the registry was
   * seen. If it fails, calls that run are finished (within `drainTimeoutMs`), everything it opened is closed, and it may
   * be tried again.
   * @throws {MicroError} `unavailable` if the port, the registry, or with subscribers the broker cannot be had, `closed` after `stop()`.
   */
  start(): Promise<void>;
  /**
   * Run the hooks, deregister, give callers time to learn of it, refuse calls, unsubscribe, finish what runs, send
   * what publishes wait for, close everything the service made. One that was never started only closes its client. May be called repeatedly.
   *
   * In a handler or hook of the service, which the stop waits for, it only begins: the promise is resolved at once, and what
   * fails is logged.
   */
  stop(): Promise<void>;
  /** The same as `stop()`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** `init()` or `run()` has ended the process; seen only where the option `exit` does not. */
export class ServiceExit extends Error {
  readonly exitCode: number;
  constructor(exitCode: number) {
    super(`the process ends with code ${exitCode}`);
    this.exitCode = exitCode;
  }
  override get name(): string {
    return "ServiceExit";
  }
}

/**
 * Compose a service. Nothing is opened, no variable or flag is read.
 *
 * A setting comes from, weakest first: an instance's own options, these options, `init(options)`, `MICRO_*` variables,
 * flags. Without `init()` or `run()` only the options count: a program that just calls others works at once, and
 * calls `await service.init()` first if variables and flags should count.
 * @throws {TypeError} for options that do not exist, of the wrong type or out of range.
 */
export function createService(options: ServiceOptions = {}): MicroService {
  return new ComposedService(options);
}

type State = "idle" | "starting" | "running" | "stopping" | "stopped";

class ComposedService implements MicroService {
  readonly client: ServiceClientPiece;
  readonly server: ServiceServer;
  readonly handle: HandlerRegistration["handle"];
  readonly call: Client["call"];
  readonly stream: Client["stream"];
  readonly subscribe: SubscriberRegistration["subscribe"];
  readonly publish: EventPublisher["publish"];
  readonly #pieces: Pieces;
  readonly #plugins = new PluginTable();
  /** The default id stays the same however often options are applied. */
  readonly #id = crypto.randomUUID();
  readonly #stopRequested = Promise.withResolvers<void>();
  #given: ServiceOptions;
  #fromProcess: Partial<ServiceOptions> = {};
  #sources: ReadonlyMap<string, string> = new Map();
  #flags: FlagValues | undefined;
  #logLevel: LogLevel | undefined;
  #logFormat: LogFormat | undefined;
  #settings: ServiceSettings;
  #initialised = false;
  #state: State = "idle";
  #ready = false;
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;
  #registrar: Registrar | undefined;
  #debugged: Server | undefined;
  /** The server being started: stopping it ends a start that waits for a broker. */
  #binding: Server | undefined;
  #meter: ProcessMeter | undefined;
  #removeAbort: (() => void) | undefined;
  /** Ends a start that waits for something. */
  readonly #startEnds = new AbortController();
  #streams: Disposable | undefined;
  /** In the process that keeps workers. */
  #primary: ClusterPrimary | undefined;
  /** In a worker. */
  #link: WorkerLink | undefined;

  constructor(options: ServiceOptions) {
    checkServiceOptionNames("createService", options);
    this.#given = mergeOptions({}, options);
    this.#settings = resolveOptions(this.#given, this.#id);
    this.#plugins.add(this.#settings.plugins, "createService");
    this.#pieces = new Pieces(
      this.#source(),
      (server) => this.server.handOver(server),
      () => this.ready,
    );
    const stop = () => this.stop();
    this.client = clientFacade(() => this.#client(), stop);
    this.server = new ServiceServer(
      () => this.#pieces.server,
      () => this.#pieces.canMake("server"),
      stop,
    );
    this.handle = (...registration: [unknown, ...unknown[]]) => this.server.handle(...registration);
    this.call = (...call) => this.#client().call(...call);
    this.stream = (...stream) => this.#client().stream(...stream);
    this.subscribe = (topic: unknown, handler: unknown, given?: EventSubscribeOptions) =>
      this.server.subscribe(topic, handler, given);
    this.publish = (topic: string | TopicDefinition, message: unknown, given?: EventPublishOptions) =>
      this.#client().publish(topic as string, message, given);
  }

  #client(): Client {
    try {
      return this.#pieces.client;
    } catch (error) {
      return failingClient(error);
    }
  }

  get name(): string {
    return this.#settings.name;
  }
  get version(): string {
    return this.#settings.version;
  }
  get nodeId(): string {
    return nodeId(this.#settings);
  }
  get address(): string | undefined {
    if (this.#state !== "running" && this.#state !== "stopping") return undefined;
    return this.#primary === undefined ? this.#pieces.server.address : this.#primary.address;
  }
  get ready(): boolean {
    if (!this.#ready) return false;
    if (this.#primary !== undefined) return this.#primary.registered;
    // Workers leave the registration to the primary.
    return this.#link !== undefined || this.#registrar?.registered === true;
  }
  get options(): ServiceSettings {
    return this.#settings;
  }
  get registry(): Registry {
    return this.#pieces.registry;
  }
  get broker(): Broker {
    return this.#pieces.broker;
  }
  get transport(): Transport {
    return this.#pieces.transport;
  }
  get selector(): Selector {
    return this.#pieces.selector;
  }
  get logger(): Logger {
    return this.#pieces.logger;
  }

  createEvent(topic: string | TopicDefinition, options?: EventPublishOptions): TopicPublisher {
    return createEvent(topic as string, this, options);
  }

  async init(options: ServiceOptions = {}): Promise<void> {
    if (this.#state !== "idle") throw new TypeError("init: the service has been started; call init() before");
    checkServiceOptionNames("init", options);
    const plugins = options.plugins ?? [];
    const given = mergeOptions(this.#given, options);
    resolveOptions(given, this.#id);
    this.#plugins.add(plugins, "init");
    this.#given = given;
    try {
      if (this.#initialised) {
        await this.#configure();
        await this.#pieces.load(this.#sources);
      } else {
        this.#initialised = true;
        await this.#readProcess();
      }
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      await this.#endProcess(1, `${this.name}: ${error.message}\n`);
    }
  }

  async #readProcess(): Promise<void> {
    this.#settings = resolveOptions(this.#given, this.#id);
    const input = await readProcess(this.#settings, this.#plugins);
    if (input.output !== undefined) await this.#endProcess(0, input.output);
    this.#fromProcess = input.options;
    this.#sources = input.sources;
    this.#flags = input.flags;
    this.#logLevel = input.logLevel;
    this.#logFormat = input.logFormat;
    await this.#configure();
    await this.#pieces.load(this.#sources);
    for (const warning of input.warnings) this.logger.warn(warning);
    await this.#settings.action?.(input.flags);
  }

  async #endProcess(code: number, text: string): Promise<never> {
    await endProcess(code, text, this.#exit);
    throw new ServiceExit(code);
  }

  readonly #exit = (code: number): void => {
    if (this.#settings.exit === undefined) process.exit(code);
    this.#settings.exit(code);
  };

  /** Put variables and flags on top of the options, and use the result. */
  async #configure(): Promise<void> {
    try {
      this.#settings = resolveOptions(mergeOptions(this.#given, this.#fromProcess), this.#id);
    } catch (error) {
      const option = error instanceof OptionError ? error.options.find((name) => this.#sources.has(name)) : undefined;
      if (option === undefined) throw error;
      throw new UsageError(`${this.#sources.get(option)}: ${(error as Error).message}`, { cause: error });
    }
    await this.#pieces.reconfigure(this.#source());
  }

  #source() {
    return {
      settings: this.#settings,
      plugins: this.#plugins,
      flags: this.#flags,
      sources: this.#sources,
      logLevel: this.#logLevel,
      logFormat: this.#logFormat,
    };
  }

  async run(options: RunOptions = {}): Promise<void> {
    checkOptionNames("run", options, { workers: true });
    const { workers } = options;
    let order: WorkerOrder | undefined;
    if (workers !== undefined) {
      checkWorkers(workers);
      order = workerOrder();
    }
    if (!this.#initialised) await this.init();
    using disposables = new DisposableStack();
    if (workers !== undefined) {
      if (this.#state !== "idle")
        throw new TypeError("run: the service has been started already; `workers` need run() to do it");
      if (this.transport.name === "memory")
        throw new TypeError("run: the memory transport has no port that `workers` could share");
      if (order === undefined) this.#primary = this.#makePrimary(workers);
      else disposables.use(await this.#join(order));
    }
    const { handleSignals, signal } = this.#settings;
    // How that stop goes is what this function reports at its end. A worker leaves it to the primary: Ctrl-C reaches both.
    const first = order === undefined ? () => void this.stop().catch(() => {}) : () => {};
    const second = order === undefined ? this.#exitWithWorkers : () => {};
    if (handleSignals) disposables.use(onStopSignal(first, second));
    // A transport without sockets would let the process end while the service waits.
    disposables.adopt(
      setInterval(() => {}, 0x7fff_ffff),
      clearInterval,
    );
    try {
      if (signal?.aborted !== true) {
        await this.start();
        await this.#stopRequested.promise;
      }
    } catch (error) {
      const interrupted =
        this.#stopping !== undefined && MicroError.is(error) && (error.code === "aborted" || error.code === "closed");
      await this.#stopQuietly();
      // The worker has said why.
      if (error instanceof WorkerEnded) await this.#endProcess(error.exitCode, "");
      if (!interrupted) await this.#failRun(error);
    }
    await this.stop();
    const exitCode = this.#primary?.exitCode ?? 0;
    if (exitCode !== 0) await this.#endProcess(exitCode, "");
  }

  async #failRun(error: unknown): Promise<never> {
    const text = tellFailedStart(this.name, error, this.logger);
    if (text === undefined) throw error;
    return this.#endProcess(1, text);
  }

  readonly #exitWithWorkers = (code: number): void => {
    this.#primary?.kill();
    this.#exit(code);
  };

  #makePrimary(workers: number): ClusterPrimary {
    const settings = this.#settings;
    const { registerCheck } = settings;
    return new ClusterPrimary({
      workers,
      order: { id: settings.id, address: typeof settings.server === "string" ? settings.address : undefined },
      logger: this.logger,
      spreadMs: settings.spreadMs,
      drainTimeoutMs: settings.drainTimeoutMs,
      register: (report, check) =>
        this.#registerWorkers(workers, report, registerCheck === undefined ? undefined : check),
      stop: () => void this.stop().catch(() => {}),
    });
  }

  /** The workers are one node: the port stays where it is when one of them dies. */
  async #registerWorkers(
    workers: number,
    report: () => WorkerReport,
    check: (() => Promise<boolean>) | undefined,
  ): Promise<Registrar> {
    const { registry, broker } = this.#pieces;
    const bound = report().address;
    const reachable = await reachableHost(this.#settings.advertise ?? bound, bound);
    const made = this.#makeRegistrar(check, () => {
      const { address, server, transport, wire, endpoints } = report();
      return serviceRecord(
        this.#settings,
        address,
        { server, transport, registry: registry.name, broker: broker.name, wire, workers },
        endpoints,
        reachable,
      );
    });
    await made.start();
    return made;
  }

  /** Become what the primary wants of this process. */
  async #join({ id, address }: WorkerOrder): Promise<WorkerLink> {
    this.#fromProcess = { ...this.#fromProcess, id, ...(address === undefined ? {} : { address }) };
    await this.#configure();
    this.#link = new WorkerLink({
      report: () => {
        const { server, transport } = this.#pieces;
        return {
          address: server.address ?? this.#settings.address,
          server: server.name,
          transport: transport.name,
          wire: transport.wire,
          endpoints: server.endpoints(),
        };
      },
      check: this.#settings.registerCheck,
      stop: () => void this.stop().catch(() => {}),
    });
    return this.#link;
  }

  /** For where nobody waits for the outcome, or an error of its own is on its way. */
  async #stopQuietly(): Promise<void> {
    try {
      await this.stop();
    } catch (error) {
      this.logger.error("the service could not be stopped cleanly", { error });
    }
  }

  async start(): Promise<void> {
    if (this.#state === "running" || this.#state === "starting")
      throw new TypeError("start: the service has been started already");
    if (this.#state !== "idle")
      throw new MicroError("the service is stopped; create another one", { id: this.name, code: "closed" });
    this.#state = "starting";
    this.#streams ??= outliveStandardStreams(this.logger);
    const primary = this.#primary;
    this.#starting = detach(() => (primary === undefined ? this.#start() : this.#startWorkers(primary)));
    await this.#starting;
    // Hooks are for whoever serves.
    if (primary !== undefined) return;
    try {
      await runHooks(this, this.#settings.afterStart);
      this.#link?.started();
    } catch (error) {
      this.#link?.failed();
      await this.#stopQuietly();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { logger } = this;
    try {
      await this.#pieces.load(this.#sources);
      const settings = this.#settings;
      this.#addDebugHandlers(this.#pieces.server);
      if (settings.insecureSkipVerify) logger.warn("Certificates of other nodes are not verified");
      logger.info(`Starting [service] ${settings.name}`);
      await runHooks(this, settings.beforeStart);
      // The primary of workers has looked already.
      if (this.#link === undefined) await this.#untilRegistry(settings);
      if (settings.startWait && this.server.subscribes) await this.#untilBroker();
      this.#binding = this.#pieces.server;
      await this.#bind(this.#binding);
      this.#throwIfStopping();
      // From here on whoever finds the record is answered: some find it before its registration is confirmed to us.
      this.#binding.admit();
      this.#binding = undefined;
      await this.#register(settings);
      this.#state = "running";
      this.#ready = this.#stopping === undefined;
      this.#stopOnAbort(settings.signal);
    } catch (error) {
      await this.#undoStart();
      throw error;
    }
  }

  async #bind(server: Server): Promise<void> {
    try {
      await server.start({ hold: true });
    } catch (error) {
      // The one thing that a server waits for is the broker.
      const away = MicroError.is(error) && (error.code === "unavailable" || error.code === "timeout");
      throw away && error.detail.startsWith("Broker [") ? withAdvice(error) : error;
    }
  }

  #throwIfStopping(): void {
    if (this.#stopping !== undefined)
      throw new MicroError("the service was stopped while it started", { id: this.name, code: "aborted" });
  }

  async #untilRegistry({ name, domain, startWait }: ServiceSettings): Promise<void> {
    const { registry, logger } = this.#pieces;
    // They are where this process is.
    if (registry.name === "mdns" || registry.name === "memory") return;
    const { signal } = this.#startEnds;
    await untilThere({
      what: `Registry [${registry.name}]`,
      logger,
      wait: startWait,
      signal,
      attempt: (limit) => {
        const options = { ...limit, domain };
        return registry.reach === undefined ? registry.getService(name, options) : registry.reach(name, options);
      },
    });
  }

  async #untilBroker(): Promise<void> {
    const { broker, logger } = this.#pieces;
    const { signal } = this.#startEnds;
    await untilThere({
      what: `Broker [${broker.name}]`,
      logger,
      wait: true,
      signal,
      attempt: (limit) => broker.connect(limit),
    });
  }

  async #startWorkers(primary: ClusterPrimary): Promise<void> {
    try {
      await this.#pieces.load(this.#sources);
      await this.#untilRegistry(this.#settings);
      this.#throwIfStopping();
      await primary.start();
      this.#state = "running";
      this.#ready = this.#stopping === undefined;
      this.#stopOnAbort(this.#settings.signal);
    } catch (error) {
      await primary.stop();
      await this.#closeFailed();
      throw error;
    }
  }

  async #register(settings: ServiceSettings): Promise<void> {
    if (this.#link !== undefined) return this.#link.start();
    const { server, transport, registry, broker } = this.#pieces;
    const pieces = {
      server: server.name,
      transport: transport.name,
      registry: registry.name,
      broker: broker.name,
      wire: transport.wire,
    };
    const bound = server.address ?? settings.address;
    const reachable = await reachableHost(settings.advertise ?? bound, bound);
    for (;;) {
      // Made anew for every registration: handlers may be added, and the machine's address may change.
      this.#registrar = this.#makeRegistrar(settings.registerCheck, () =>
        serviceRecord(settings, server.address ?? settings.address, pieces, server.endpoints(), reachable),
      );
      try {
        return await this.#registrar.start();
      } catch (error) {
        const away = MicroError.is(error) && (error.code === "unavailable" || error.code === "timeout");
        if (!settings.startWait || !away || this.#stopping !== undefined) throw error;
        // It was there a moment ago.
        await this.#registrar.stop();
        await this.#untilRegistry(settings);
      }
    }
  }

  #makeRegistrar(check: RegisterCheck | undefined, service: () => Service): Registrar {
    const { registerTtlMs, registerIntervalMs, domain } = this.#settings;
    return registrar({
      registry: this.#pieces.registry,
      service,
      logger: this.logger,
      ttlMs: registerTtlMs,
      intervalMs: registerIntervalMs,
      check,
      domain,
      failFast: true,
    });
  }

  #addDebugHandlers(server: Server): void {
    this.#meter ??= processMeter();
    if (this.#debugged === server || this.server.has("Debug")) return;
    const handlers = debugHandlers({
      stats: () => server.stats,
      process: this.#meter,
      logs: this.#pieces.logs,
      traces: this.#pieces.spans,
      access: this.#settings.debug,
    });
    server.handle(debugDefinition, handlers, { internal: true });
    this.#debugged = server;
  }

  #stopOnAbort(signal: AbortSignal | undefined): void {
    if (signal === undefined) return;
    const stop = () => void this.#stopQuietly();
    signal.addEventListener("abort", stop, { once: true });
    this.#removeAbort = () => signal.removeEventListener("abort", stop);
    if (signal.aborted) stop();
  }

  async #undoStart(): Promise<void> {
    this.#link?.failed();
    const report = (error: unknown) => this.logger.error("a failed start could not be undone cleanly", { error });
    await (this.#link ?? this.#registrar)?.stop().catch(report);
    this.#registrar = undefined;
    this.#binding = undefined;
    const server = this.#serverIfMade();
    // Stopped from outside, it is not to wait for anybody.
    if (this.#stopping === undefined && server?.address !== undefined)
      await server.drain(this.#settings.drainTimeoutMs).catch(report);
    await server?.stop().catch(report);
    await this.#closeFailed();
  }

  /** Undefined where it cannot be made: that may be what the start has failed of. */
  #serverIfMade(): Server | undefined {
    try {
      return this.#pieces.server;
    } catch {
      return undefined;
    }
  }

  /** Close what the start opened; the next one makes pieces of its own. */
  async #closeFailed(): Promise<void> {
    const report = (error: unknown) => this.logger.error("a failed start could not be undone cleanly", { error });
    await this.#pieces.renew().catch(report);
    this.#meter?.[Symbol.dispose]();
    this.#meter = undefined;
    this.#streams?.[Symbol.dispose]();
    this.#streams = undefined;
    this.#state = "idle";
  }

  stop(): Promise<void> {
    this.#stopRequested.resolve();
    this.#ready = false;
    // Outside of any call: it must not inherit the deadline of a handler that asks for it.
    this.#stopping ??= detach(() => this.#stop());
    // In a handler or hook of its own, which the stop waits for, there is nobody else to hear of it.
    if (!runsInside(this) && !this.#pieces.runHere) return this.#stopping;
    this.#stopping.catch((error: unknown) => this.logger.error("the service could not be stopped cleanly", { error }));
    return Promise.resolve();
  }

  async #stop(): Promise<void> {
    // A registry that does not answer must not keep a service from being stopped.
    if (this.#state === "starting") {
      this.#startEnds.abort(
        new MicroError("the service was stopped while it started", { id: this.name, code: "aborted" }),
      );
      await this.#binding?.stop();
      await (this.#primary ?? this.#link ?? this.#registrar)?.stop();
    }
    await this.#starting?.catch(() => {});
    const { spreadMs, drainTimeoutMs, beforeStop, afterStop } = this.#settings;
    let failure: { readonly error: unknown } | undefined;
    const failed = (error: unknown) => {
      failure = { error };
    };
    const attempt = (step: () => void | Promise<unknown>) =>
      runAllHooks(this, [async () => void (await step())], failed);

    const started = this.#state === "running";
    this.#state = "stopping";
    this.#removeAbort?.();
    if (started && this.#primary !== undefined) await attempt(() => this.#primary?.stop());
    else if (started) {
      const { server } = this.#pieces;
      await runAllHooks(this, beforeStop, failed);
      await attempt(() => (this.#link ?? this.#registrar)?.stop());
      // For its workers the primary has waited.
      if (spreadMs > 0 && this.#link === undefined) await sleep(spreadMs);
      await attempt(() => server.refuse());
      await attempt(() => server.drain(drainTimeoutMs));
      await attempt(() => server.stop());
      await runAllHooks(this, afterStop, failed);
    }
    await attempt(() => this.#pieces[Symbol.asyncDispose]());
    this.#meter?.[Symbol.dispose]();
    this.#streams?.[Symbol.dispose]();
    this.#state = "stopped";
    if (failure !== undefined) throw failure.error;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}
