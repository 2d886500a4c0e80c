/** The server: handlers by endpoint, listening, draining. */
import type { Broker } from "../broker/broker.ts";
import type { CodecTable } from "../codec/codec.ts";
import type { Context } from "../context.ts";
import type { MethodDefinition, MethodDefinitions, MethodKind, ServiceDefinition, Streamable } from "../definition.ts";
import type { Logger } from "../logger/logger.ts";
import type { Endpoint, StringMap } from "../registry/registry.ts";
import type { ListenOptions, Transport } from "../transport/transport.ts";
import type { Wrapper } from "../wrapper.ts";
import type { SubscriberRegistration, SubscriberWrapper } from "./events.ts";

type MaybePromise<T> = T | Promise<T>;

type HandlerFunction<Kind extends MethodKind, ReqOut, ResIn> = Kind extends "unary"
  ? (request: ReqOut, context: Context) => MaybePromise<ResIn>
  : Kind extends "server"
    ? (request: ReqOut, context: Context) => Streamable<ResIn>
    : Kind extends "client"
      ? (requests: AsyncIterable<ReqOut>, context: Context) => MaybePromise<ResIn>
      : (requests: AsyncIterable<ReqOut>, context: Context) => Streamable<ResIn>;

/** What `handle(definition, …)` takes: one function per method; all are required. */
export type ServiceHandlers<Methods extends MethodDefinitions> = {
  readonly [Name in keyof Methods]: Methods[Name] extends MethodDefinition<
    any,
    infer ReqOut,
    infer ResIn,
    any,
    infer Kind
  >
    ? HandlerFunction<Kind, ReqOut, ResIn>
    : never;
};

/** A handler without a definition: JSON in, JSON out. A generator function streams. */
export type PlainHandler = (request: any, context: Context) => unknown;

/** Around every handler. `context` has service, endpoint, headers (`metadata`) and the raw body. */
export type HandlerWrapper = Wrapper<Context>;

export interface HandleOptions {
  /** Callable but not listed in the registry, as `Debug` is. Default: false. */
  internal?: boolean | undefined;
  /**
   * Largest message these handlers are sent, in bytes, where that differs from the server's. A larger one than the server's
   * raises what the port lets in, for callers of other endpoints as well until their call is refused, from the server's next
   * start on. Default: the server's.
   */
  maxMessageBytes?: number | undefined;
  /** Endpoint metadata by method name as on the wire. Go's `EndpointMetadata`. */
  metadata?: Readonly<Record<string, StringMap>> | undefined;
}

/** What handlers can be registered with; `Service` offers the same. */
export interface HandlerRegistration {
  /** By definition, typed. */
  handle<Methods extends MethodDefinitions>(
    definition: ServiceDefinition<Methods>,
    handlers: ServiceHandlers<Methods>,
    options?: HandleOptions,
  ): void;
  /**
   * By name: `handle("Greeter", { hello(request) {} })` serves `Greeter.Hello`; `handle("Greeter.Hello", fn)` one
   * endpoint. Names get a capital first letter, as Go peers expect.
   * @throws {TypeError} for a name that is taken or has the wrong form.
   */
  handle(name: string, handler: PlainHandler | object, options?: HandleOptions): void;
  /** An instance of a class: its class name is the type, its methods are the endpoints. */
  handle<Instance extends object>(
    instance: Instance extends ServiceDefinition ? never : Instance,
    options?: HandleOptions,
  ): void;
}

/** What a server plugin implements; `Subscribers` does what concerns events. */
export interface Server extends HandlerRegistration, SubscriberRegistration, AsyncDisposable {
  /** E.g. `mucp`; becomes node metadata `server` and `protocol`. */
  readonly name: string;
  /** The bound address, e.g. `[::]:43211`; undefined before `start`. */
  readonly address: string | undefined;
  /** Endpoints to register, in Go's order: handlers by type, then method; then subscribers by topic, descending. Internal ones are left out. */
  endpoints(): Endpoint[];
  /**
   * Bind, connect the broker, make subscriptions ready; what was started is ended again where that fails, and handlers
   * of events that came meanwhile are let finish for up to 5 seconds. Until it resolves every exchange is refused with
   * `notRun`; with {@link StartOptions.hold} until {@link Server.admit}.
   * @throws {MicroError} `unavailable` when the address is taken, or the broker cannot be reached and there are
   * subscribers; `aborted` or `closed` when stopped meanwhile.
   */
  start(options?: StartOptions): Promise<void>;
  /** The start is complete: exchanges are run from now on. Nothing to do where `start` did not hold them, or `refuse` came. */
  admit(): void;
  /** From now on every new exchange is refused with `notRun`; running ones go on. */
  refuse(): void;
  /**
   * Unsubscribe, and resolve when nothing is running any more; false if calls still ran after `timeoutMs`. What runs
   * then is cancelled. In a handler of this server it only begins: false at once, since that handler still runs.
   */
  drain(timeoutMs: number): Promise<boolean>;
  /** Close the port and all connections. */
  stop(): Promise<void>;
  /** Counters since start, for `Debug.Stats`. */
  readonly stats: ServerStats;
}

/** How a server starts. */
export interface StartOptions {
  /**
   * Go on refusing exchanges with `notRun` when the port is bound and subscriptions are made, until `admit()`: a service
   * is not registered yet, and a call that finds it is misled. Events that a broker delivers are handled. Default: false.
   */
  hold?: boolean | undefined;
}

export interface ServerStats {
  /** Exchanges started since `start`, internal ones left out. */
  readonly requests: number;
  /** Of these, failed ones. */
  readonly errors: number;
  /** Running now. */
  readonly inFlight: number;
}

/** What a server is made of. */
export interface ServerOptions {
  /** The service's name: id of plain errors, `Micro-Service`. */
  name: string;
  transport: Transport;
  logger: Logger;
  /** See `ListenOptions`. Default: `:0`. */
  address?: string | undefined;
  codecs?: CodecTable | undefined;
  wrapHandler?: readonly HandlerWrapper[] | undefined;
  /** Where events come from; a function is asked at the start. Default: none, and `subscribe` throws. */
  broker?: Broker | (() => Broker) | undefined;
  wrapSubscriber?: readonly SubscriberWrapper[] | undefined;
  /** See `ListenOptions`. Default: none. */
  plain?: ListenOptions["plain"];
  /** See `ListenOptions`. Default: none. */
  origins?: readonly string[] | undefined;
  /**
   * Calls handled at once; further ones wait in a queue of the same size, then are refused with 503 `notRun`. Streams, which may be idle for
   * long, are counted apart: as many, with a queue of their own. Default: 10000.
   */
  maxConcurrency?: number | undefined;
  /** Largest message of a caller, in bytes; `HandleOptions` has more for single handlers. Default: 4194304 (4 MiB). */
  maxMessageBytes?: number | undefined;
}
