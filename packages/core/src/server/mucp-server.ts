/** The default server: go-micro's mucp over any transport. */
import type { Subscriber } from "../broker/broker.ts";
import { bytesCodec } from "../codec/bytes.ts";
import { Frame, type Codec } from "../codec/codec.ts";
import { codecTable, oldProtocolCodecs } from "../codec/table.ts";
import { type Context, detach } from "../context.ts";
import { MicroError, newError, timeout } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import type { Endpoint } from "../registry/registry.ts";
import { type OptionNames, checkNumber, checkOptionNames, timerDelay } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import type { Listener, ServerExchange } from "../transport/transport.ts";
import type { Call, CallHost } from "./call.ts";
import { describeEndpoints } from "./endpoints.ts";
import type { EventSubscribeOptions } from "./events.ts";
import { errorMessage } from "./failure.ts";
import { type HandlerMethod, readRegistration } from "./handlers.ts";
import { Limiter } from "./limiter.ts";
import { type MessageFormat, defaultContentType, noBytes, tooLarge, undecodable } from "./messages.ts";
import { QueuedCall } from "./queued-call.ts";
import { type Plan, Router } from "./router.ts";
import type { HandleOptions, Server, ServerOptions, ServerStats, StartOptions } from "./server.ts";
import { StreamCall } from "./streams.ts";
import { Subscribers } from "./subscribers.ts";
import { UnaryCall } from "./unary.ts";
import { runsInside, unlessInside } from "../work.ts";

const defaultMaxConcurrency = 10_000;
// As gRPC and go-micro v2's default stack.
const defaultMaxMessageBytes = 4 * 1024 * 1024;
const disposalDrainMs = 5_000;

const optionNames: OptionNames<ServerOptions> = {
  name: true,
  transport: optionKinds.transport,
  logger: optionKinds.logger,
  address: true,
  codecs: optionKinds.codecs,
  wrapHandler: optionKinds.functions,
  broker: optionKinds.brokerOrFunction,
  wrapSubscriber: optionKinds.functions,
  plain: optionKinds.function,
  origins: true,
  maxConcurrency: true,
  maxMessageBytes: true,
};

/**
 * Make a server. Nothing is bound before `start()`; handlers may be added at any time. It may be started again after
 * `stop()`. Disposal drains for up to 5 seconds, then stops.
 * @throws {TypeError} for a missing name, an option that does not exist, or a limit below 1.
 */
export function mucpServer(options: ServerOptions): Server {
  if (typeof options.name !== "string" || options.name === "") throw new TypeError("mucpServer: `name` is missing");
  checkOptionNames("mucpServer", options, optionNames);
  checkNumber("mucpServer", "maxConcurrency", options.maxConcurrency, { least: 1, whole: true });
  checkNumber("mucpServer", "maxMessageBytes", options.maxMessageBytes, { least: 1, whole: true });
  return new MucpServer(options);
}

class MucpServer implements Server, CallHost {
  readonly name = "mucp";
  readonly service: string;
  readonly logger: Logger;
  readonly #options: ServerOptions;
  readonly #codecs: ReadonlyMap<string, Codec>;
  readonly #router: Router;
  readonly #subscribers: Subscribers;
  /** Of calls, and of streams: those may be idle for as long as they like, and must not take the calls' places. */
  readonly #limiters: { readonly unary: Limiter<QueuedCall>; readonly stream: Limiter<QueuedCall> };
  readonly #maxMessageBytes: number;
  /** Calls whose handlers are running; those that answer at once never get here. */
  readonly #calls = new Set<Call>();
  #lastContentType = "";
  #lastCodec: Codec | undefined;
  #lastFormat: MessageFormat | undefined;
  #listener: Promise<Listener> | undefined;
  #stopping: Promise<void> | undefined;
  #address: string | undefined;
  /** Why no exchange is run now. */
  #refusing: "starting" | "stopping" | undefined;
  #requests = 0;
  #errors = 0;
  #inFlight = 0;
  #idle: PromiseWithResolvers<void> | undefined;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.service = options.name;
    this.logger = options.logger;
    this.#codecs = codecTable(options.codecs);
    this.#router = new Router(options.wrapHandler ?? []);
    const { name: service, logger, broker, codecs, wrapSubscriber } = options;
    this.#subscribers = new Subscribers({
      service,
      logger,
      broker,
      codecs,
      wrapSubscriber,
      maxMessageBytes: options.maxMessageBytes,
      owner: this,
    });
    this.#maxMessageBytes = options.maxMessageBytes ?? defaultMaxMessageBytes;
    const maxConcurrency = options.maxConcurrency ?? defaultMaxConcurrency;
    this.#limiters = { unary: new Limiter(maxConcurrency), stream: new Limiter(maxConcurrency) };
  }

  get address(): string | undefined {
    return this.#address;
  }

  get stats(): ServerStats {
    return { requests: this.#requests, errors: this.#errors, inFlight: this.#inFlight };
  }

  handle(target: unknown, second?: unknown, third?: HandleOptions): void {
    this.#router.add(readRegistration(target, second, third));
  }

  subscribe(topic: unknown, handler: unknown, options?: EventSubscribeOptions): Subscriber {
    return this.#subscribers.subscribe(topic, handler, options);
  }

  endpoints(): Endpoint[] {
    return [...describeEndpoints(this.#router.sorted()), ...this.#subscribers.endpoints()];
  }

  async start(options: StartOptions = {}): Promise<void> {
    checkOptionNames("server.start", options, { hold: true });
    const { hold = false } = options;
    if (this.#stopping !== undefined) await this.#stopping;
    if (this.#listener !== undefined) throw new TypeError("the server is started already: stop it first");
    const { transport, address, plain, origins } = this.#options;
    const starting = transport.listen((exchange) => this.#accept(exchange), {
      address,
      plain,
      origins,
      maxMessageBytes: this.#router.largest(this.#maxMessageBytes),
    });
    this.#listener = starting;
    this.#refusing = "starting";
    this.#requests = 0;
    this.#errors = 0;
    try {
      const listener = await starting;
      if (this.#listener === starting) this.#address = listener.address;
    } catch (error) {
      if (this.#listener === starting) this.#listener = undefined;
      throw error;
    }
    if (this.#listener !== starting)
      throw new MicroError("the server was stopped while it started", { id: this.service, code: "closed" });
    this.logger.info(`Transport [${transport.name}] Listening on ${this.#address}`);
    try {
      await this.#subscribers.start();
    } catch (error) {
      if (this.#listener === starting) await this.stop();
      throw error;
    }
    if (!hold && this.#listener === starting) this.admit();
  }

  admit(): void {
    if (this.#refusing === "starting") this.#refusing = undefined;
  }

  refuse(): void {
    this.#refusing = "stopping";
    for (const limiter of Object.values(this.#limiters))
      for (const job of limiter.leaveAll()) job.refuse(this.#refusingError());
  }

  async drain(timeoutMs: number): Promise<boolean> {
    if (!(timeoutMs >= 0)) throw new TypeError(`drain: \`timeoutMs\` must not be negative, as ${timeoutMs} is`);
    const draining = detach(() => this.#drain(timeoutMs));
    return runsInside(this) ? false : draining;
  }

  async #drain(timeoutMs: number): Promise<boolean> {
    this.refuse();
    const [, finished] = await Promise.all([this.#subscribers.drain(timeoutMs), this.#drainCalls(timeoutMs)]);
    return finished;
  }

  async #drainCalls(timeoutMs: number): Promise<boolean> {
    // A reader of the log would wait for ever.
    for (const call of this.#calls) if (call.plan.method.internal) call.cancel(this.#stoppingError());
    if (this.#inFlight === 0) return true;
    this.#idle ??= Promise.withResolvers();
    const { promise: late, resolve } = Promise.withResolvers<"late">();
    const timer = setTimeout(resolve, timerDelay(timeoutMs), "late" as const);
    const outcome = await Promise.race([this.#idle.promise, late]);
    clearTimeout(timer);
    if (outcome !== "late") return true;
    await this.#cancelAll();
    return false;
  }

  stop(): Promise<void> {
    this.#stopping ??= detach(() => this.#stop()).finally(() => {
      this.#stopping = undefined;
    });
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.refuse();
    const starting = this.#listener;
    this.#listener = undefined;
    this.#address = undefined;
    if (this.#calls.size > 0) await this.#cancelAll();
    await this.#subscribers.stop();
    const listener = await starting?.catch(() => undefined);
    await listener?.close();
    await listener?.[Symbol.asyncDispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return unlessInside(
      this,
      detach(() => this.#dispose()),
    );
  }

  async #dispose(): Promise<void> {
    await this.drain(disposalDrainMs);
    await this.stop();
  }

  /** Handlers get a turn of the event loop to answer for themselves; then their callers are told. */
  async #cancelAll(): Promise<void> {
    const reason = this.#stoppingError();
    for (const call of this.#calls) call.cancel(reason);
    await new Promise((resolve) => void setImmediate(resolve));
    for (const call of this.#calls) {
      this.logger.warn(`${call.plan.endpoint} was still running when the server stopped`, {
        endpoint: call.plan.endpoint,
        remote: call.exchange.remote,
      });
      call.abandon(reason);
    }
  }

  #accept(exchange: ServerExchange): void {
    try {
      this.#dispatch(exchange);
    } catch (error) {
      this.logger.error("an exchange could not be handled", { error, remote: exchange.remote });
      exchange.reply(errorMessage(new MicroError("internal error", { id: this.service }), undefined, "", false));
    }
  }

  #dispatch(exchange: ServerExchange): void {
    const contentType = exchange.contentType === "" ? defaultContentType : exchange.contentType;
    const codec = this.#codec(contentType, exchange.oldProtocol);
    const format = codec === undefined ? undefined : this.#format(codec, contentType, exchange);
    if (this.#refusing !== undefined) return this.#refuse(exchange, this.#refusingError(), format, true);
    if (exchange.lookedUp === true && exchange.service !== this.service) return this.#refuseStrayed(exchange, format);
    if (exchange.topic !== undefined) return this.#event(exchange, exchange.topic);
    if (format === undefined) return this.#refuseContentType(exchange, contentType);
    if (format.codec.envelope === undefined || exchange.body.length === 0)
      return this.#route(exchange, exchange.endpoint, format, exchange.body);
    this.#openEnvelope(exchange, format);
  }

  /** An event that came over the transport: an empty answer, and the error if a subscriber failed. */
  #event(exchange: ServerExchange, topic: string): void {
    // Go counts an event without a subscriber as delivered (`server/rpc_router.go`).
    if (!this.#subscribers.has(topic)) return exchange.reply({ body: noBytes });
    if (exchange.body.length > this.#maxMessageBytes)
      return this.#reject(exchange, tooLarge(this.service, topic, this.#maxMessageBytes), undefined);
    const invoke = async (_: unknown, context: Context): Promise<Frame> => {
      await this.#subscribers.deliver(context);
      return emptyFrame;
    };
    // Subscribers decode it, each with a type of its own.
    const format: MessageFormat = { codec: bytesCodec, contentType: exchange.contentType, envelopeId: "" };
    const plan: Plan = { endpoint: topic, method: { ...eventMethod, run: invoke }, invoke, wrapped: false };
    this.#enter(new UnaryCall(this, plan, exchange, format, exchange.body));
  }

  #openEnvelope(exchange: ServerExchange, format: MessageFormat): void {
    const plan = this.#router.find(exchange.endpoint);
    // The opening message of a stream is dropped unread.
    if (plan !== undefined && plan.method.kind !== "unary")
      return this.#route(exchange, exchange.endpoint, format, noBytes);
    let opened;
    try {
      opened = format.codec.envelope!.unwrap(exchange.body, "request");
    } catch (error) {
      return this.#reject(exchange, undecodable(this.service, error), format);
    }
    const { endpoint, id } = opened.envelope;
    this.#route(
      exchange,
      exchange.endpoint === "" ? endpoint : exchange.endpoint,
      { ...format, envelopeId: id === "" ? exchange.id : id },
      opened.payload,
    );
  }

  #route(exchange: ServerExchange, endpoint: string, format: MessageFormat, payload: Uint8Array): void {
    const plan = this.#router.find(endpoint);
    if (plan === undefined) return this.#reject(exchange, this.#router.refusal(endpoint, this.service), format);
    const { opened } = exchange;
    const mismatch = opened === undefined ? undefined : Router.mismatch(plan, opened, exchange.id, this.service);
    if (mismatch !== undefined) return this.#reject(exchange, mismatch, format);
    const limit = plan.method.maxMessageBytes ?? this.#maxMessageBytes;
    if (payload.length > limit) return this.#reject(exchange, tooLarge(this.service, endpoint, limit), format);
    const call =
      plan.method.kind === "unary"
        ? new UnaryCall(this, plan, exchange, format, payload)
        : new StreamCall(this, plan, exchange, format, limit);
    this.#enter(call);
  }

  #enter(call: UnaryCall | StreamCall): void {
    const { exchange, format, plan } = call;
    const limiter = this.#limiterOf(plan);
    if (bypassesLimit(plan) || limiter.tryEnter()) return this.#begin(call);
    const queued = new QueuedCall(call, limiter, (waited) => this.#begin(waited));
    if (limiter.wait(queued)) queued.watch(this.service);
    else this.#refuse(exchange, newError(this.service, "the server is overloaded", 503), format, true);
  }

  #limiterOf({ method }: Plan): Limiter<QueuedCall> {
    return method.kind === "unary" ? this.#limiters.unary : this.#limiters.stream;
  }

  #begin(call: Call): void {
    if (!call.plan.method.internal) {
      this.#requests++;
      this.#inFlight++;
    }
    call.start();
  }

  running(call: Call): void {
    this.#calls.add(call);
  }

  finished(call: Call, failed: boolean): void {
    this.#calls.delete(call);
    if (!call.plan.method.internal) {
      this.#inFlight--;
      if (failed) this.#errors++;
    }
    if (!bypassesLimit(call.plan)) this.#limiterOf(call.plan).release();
    if (this.#inFlight === 0 && this.#idle !== undefined) {
      this.#idle.resolve();
      this.#idle = undefined;
    }
  }

  /** Answer a request that never got to a handler because something is wrong with it. */
  #reject(exchange: ServerExchange, error: MicroError, format: MessageFormat | undefined): void {
    this.#requests++;
    this.#errors++;
    if (this.logger.enabled("debug"))
      this.logger.debug(`request refused: ${error.detail}`, { endpoint: exchange.endpoint, remote: exchange.remote });
    this.#refuse(exchange, error, format, false);
  }

  #refuse(exchange: ServerExchange, error: MicroError, format: MessageFormat | undefined, notRun: boolean): void {
    exchange.reply(errorMessage(error, format, exchange.endpoint, notRun));
  }

  /** The caller found this address under another service's name: its record is stale, or the port has a new owner. */
  #refuseStrayed(exchange: ServerExchange, format: MessageFormat | undefined): void {
    const asked = exchange.service.slice(0, 256);
    if (this.logger.enabled("debug"))
      this.logger.debug(`request refused: it is for ${asked}`, { service: asked, remote: exchange.remote });
    const text = `this is ${this.service}, not ${asked}: the address belongs to another service by now`;
    this.#refuse(exchange, newError(this.service, text, 503), format, true);
  }

  /** Go's text and content type, which look like a success there; the error beside them makes callers see a failure. */
  #refuseContentType(exchange: ServerExchange, contentType: string): void {
    this.#requests++;
    this.#errors++;
    const text = `unsupported Content-Type: ${contentType.slice(0, 256)}`;
    const { error } = errorMessage(newError(this.service, text, 415), undefined, "", false);
    exchange.reply({ contentType: "text/plain", error, body: Buffer.from(text) });
  }

  /** Only envelopes need an id; without, one format serves all calls of a content type. */
  #format(codec: Codec, contentType: string, exchange: ServerExchange): MessageFormat {
    if (codec.envelope !== undefined) return { codec, contentType, envelopeId: exchange.id };
    const last = this.#lastFormat;
    if (last !== undefined && last.codec === codec && last.contentType === contentType) return last;
    return (this.#lastFormat = { codec, contentType, envelopeId: "" });
  }

  #codec(contentType: string, oldProtocol: boolean): Codec | undefined {
    // Callers rarely differ, and comparing is cheaper than hashing a header that was just cut out of its block.
    if (contentType === this.#lastContentType && !oldProtocol) return this.#lastCodec;
    const old = oldProtocol ? oldProtocolCodecs.get(contentType) : undefined;
    const codec = old ?? this.#codecs.get(contentType);
    if (codec === undefined || oldProtocol) return codec;
    this.#lastContentType = contentType;
    this.#lastCodec = codec;
    return codec;
  }

  /** Both generations of Go's client try again after a 408. */
  #refusingError(): MicroError {
    const starting = this.#refusing === "starting";
    return timeout(
      this.service,
      starting ? "the server has not started yet" : "the server is stopping and takes no more requests",
    );
  }

  /** Not a 408 or 500, which Go callers repeat: the handler did run. */
  #stoppingError(): MicroError {
    return newError(this.service, "the server stopped before the call was finished", 503);
  }
}

const emptyFrame = new Frame(noBytes);

/** What a call of an event has in place of an endpoint's. */
const eventMethod: Omit<HandlerMethod, "run"> = {
  type: "",
  name: "",
  kind: "unary",
  request: undefined,
  response: undefined,
  http: [],
  metadata: {},
  internal: false,
  maxMessageBytes: undefined,
};

/** Health and statistics are told also when all places are taken; the log, which may be read for hours, is not. */
function bypassesLimit({ method }: Plan): boolean {
  return method.internal && method.kind === "unary";
}
