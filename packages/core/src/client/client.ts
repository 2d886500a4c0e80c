/** The client: calls and streams to services by name or definition. */
import type { Broker } from "../broker/broker.ts";
import type { CodecTable } from "../codec/codec.ts";
import type { MethodDefinition, MethodDefinitions, MethodKind, ServiceDefinition, Streamable } from "../definition.ts";
import type { MicroError } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import type { Metadata, MetadataInit } from "../metadata.ts";
import type { Node } from "../registry/registry.ts";
import type { SelectOptions, Selector } from "../selector/selector.ts";
import type { Transport } from "../transport/transport.ts";
import type { ContextKey } from "../context.ts";
import type { Wrapper } from "../wrapper.ts";
import type { EventPublisher, PublishWrapper } from "./publish.ts";

/** Decides whether another attempt is made. `attempt` counts from 1. May be async. */
export type RetryPolicy = (error: MicroError, context: CallContext, attempt: number) => boolean | Promise<boolean>;

/** Milliseconds to wait before attempt `attempt` (0-based: 0 is before the first retry). */
export type Backoff = (attempt: number) => number;

/** Options of one call; those of the client are the defaults. */
export interface CallOptions {
  /** `host:port` of the node or nodes to use instead of a look-up. */
  address?: string | readonly string[] | undefined;
  /** Limit of the whole call, all attempts included, in milliseconds. Always inside the incoming call's. Default: 5000; streams: `streamTimeoutMs`. */
  timeoutMs?: number | undefined;
  /** Limit for making a connection, in milliseconds. Default: 5000. */
  dialTimeoutMs?: number | undefined;
  /** Limit of a whole stream, in milliseconds. Default: none. */
  streamTimeoutMs?: number | undefined;
  /** Longest silence on a stream, in milliseconds. Default: none. */
  streamIdleTimeoutMs?: number | undefined;
  /** Cancels the call; the peer's handler is cancelled with it. */
  signal?: AbortSignal | undefined;
  /** Sent with the call, over what the incoming call brought. */
  metadata?: MetadataInit | undefined;
  /** Default: the definition's, else the client's (`application/json`). */
  contentType?: string | undefined;
  /** Extra attempts. Default: 1. */
  retries?: number | undefined;
  /** Default: `retryNotRun`: only when the request provably did not run. Also `retryOnError` (408 and 500), `retryAlways`, `retryNever`. */
  retry?: RetryPolicy | undefined;
  /** Default: Go's, `floor(attempt^e) × 100 ms`. */
  backoff?: Backoff | undefined;
  /** Node selection: filters, strategy. */
  select?: SelectOptions | undefined;
  /** Use a connection of its own. Default: false. */
  freshConnection?: boolean | undefined;
  /** Largest answer, or message of a stream, taken from the peer, in bytes; a larger one fails with `too_large`. Default: the transport's, 64 MiB. */
  maxMessageBytes?: number | undefined;
  /** Keep and reuse the answer for this long, in milliseconds, when the local cache wrapper is installed. Default: not cached. */
  cacheMs?: number | undefined;
}

/** What client wrappers see of a call. Metadata and values may be changed before `next`. */
export interface CallContext {
  readonly service: string;
  readonly endpoint: string;
  readonly kind: MethodKind;
  readonly contentType: string;
  /** Metadata to be sent: the incoming call's and the caller's. */
  readonly metadata: Metadata;
  readonly options: CallOptions;
  /** The method, when called by definition. */
  readonly method: MethodDefinition | undefined;
  /** When the call must be over, on the clock of `performance.now()`; undefined = no limit. */
  readonly deadline: number | undefined;
  readonly signal: AbortSignal | undefined;
  /** Typed values for wrappers further in. They never travel. */
  get<T>(key: ContextKey<T>): T | undefined;
  set<T>(key: ContextKey<T>, value: T): void;
}

/** What call wrappers see: one attempt. */
export interface AttemptContext extends CallContext {
  readonly node: Node;
  /** 1 for the first attempt. */
  readonly attempt: number;
}

/** Around a whole call, retries included. `request` and result: messages, or async iterables on the streaming sides. */
export type ClientWrapper = Wrapper<CallContext>;
/** Around each attempt. */
export type CallWrapper = Wrapper<AttemptContext>;

/** A stream opened by name: send, half-close, iterate what comes back. Disposing cancels what is still running. */
export interface ClientStream<Req = unknown, Res = unknown> extends AsyncIterable<Res>, AsyncDisposable {
  /** Resolves when another message may be sent (backpressure). @throws {MicroError} once the stream has ended or failed. */
  send(message: Req): Promise<void>;
  /** Nothing more will be sent. */
  closeSend(): void;
  /** The next message, undefined at the end. */
  receive(): Promise<Res | undefined>;
  /** End at once and cancel the peer's handler. */
  cancel(reason?: unknown): void;
}

type CallResult<Kind extends MethodKind, ReqIn, ResOut> = Kind extends "unary"
  ? (request: ReqIn, options?: CallOptions) => Promise<ResOut>
  : Kind extends "server"
    ? (request: ReqIn, options?: CallOptions) => AsyncIterableIterator<ResOut>
    : Kind extends "client"
      ? (requests: Streamable<ReqIn>, options?: CallOptions) => Promise<ResOut>
      : (requests: Streamable<ReqIn>, options?: CallOptions) => AsyncIterableIterator<ResOut>;

/** The typed client of a definition: one function per method. */
export type ServiceClient<Methods extends MethodDefinitions> = {
  readonly [Name in keyof Methods]: Methods[Name] extends MethodDefinition<
    infer ReqIn,
    any,
    any,
    infer ResOut,
    infer Kind
  >
    ? CallResult<Kind, ReqIn, ResOut>
    : never;
};

/** What a client plugin implements; `publish` is what `eventPublisher()` gives. */
export interface Client extends EventPublisher, AsyncDisposable {
  /** E.g. `mucp`. */
  readonly name: string;
  /**
   * Call by name; without a definition the messages are plain JSON. Nothing checks what arrives: `call<Answer>(…)` says what
   * the caller takes it for, and without that it is `unknown`.
   */
  call<Res = unknown>(service: string, endpoint: string, request: unknown, options?: CallOptions): Promise<Res>;
  /** Open a stream by name; types as with {@link Client.call}. */
  stream<Req = unknown, Res = unknown>(
    service: string,
    endpoint: string,
    options?: CallOptions,
  ): Promise<ClientStream<Req, Res>>;
  /** The typed client of a definition. `options.service` calls another service name than the definition's. */
  client<Methods extends MethodDefinitions>(
    definition: ServiceDefinition<Methods>,
    options?: CallOptions & { service?: string | undefined },
  ): ServiceClient<Methods>;
}

/** What a client is made of. */
export interface ClientOptions extends Omit<CallOptions, "address" | "signal" | "metadata"> {
  transport: Transport;
  selector: Selector;
  logger: Logger;
  /** Where events go; a function is asked for each. Default: none, and `publish` fails. */
  broker?: Broker | (() => Broker) | undefined;
  /** Further codecs by content type; they replace defaults of the same type. */
  codecs?: CodecTable | undefined;
  wrapClient?: readonly ClientWrapper[] | undefined;
  wrapCall?: readonly CallWrapper[] | undefined;
  wrapPublish?: readonly PublishWrapper[] | undefined;
  /** Share of calls that may be retried over the last 10 s, beside a floor of 10 per second. Default: 0.2. */
  retryBudget?: number | undefined;
  /** Own service name, sent as `Micro-From-Service`. Default: none is sent. */
  from?: string | undefined;
  /** Clients by node `protocol` other than mucp, e.g. grpc. Asked for when a picked node speaks it; a missing one is an error that names the package. */
  protocols?: ((protocol: string) => ProtocolClient | Promise<ProtocolClient>) | undefined;
}

/** Carries attempts to nodes that speak another protocol than mucp; `@micro/transport-grpc` provides one for `grpc`. */
export interface ProtocolClient {
  readonly protocol: string;
  attempt(request: unknown, context: AttemptContext): Promise<unknown>;
}
