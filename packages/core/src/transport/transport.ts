/**
 * The transport: exchanges of messages with a node.
 *
 * The unit is an exchange: one unary call, or one stream. How exchanges share connections (one at a time from a pool,
 * multiplexed, a gRPC stream, a queue) is each transport's own affair, and so is how the fields below are written:
 * Go's http wire puts them into headers (`Micro-Endpoint`, `Micro-Id`, `Micro-Stream`, `Timeout`, …).
 */
import type { Cancellation } from "../context.ts";
import type { Metadata } from "../metadata.ts";

/** What starts an exchange. */
export interface ExchangeRequest {
  /** The called service. */
  readonly service: string;
  /** `Type.Method`. */
  readonly endpoint: string;
  readonly contentType: string;
  /** What the caller asked for when an old-protocol node made it another content type. Default: `contentType`. */
  readonly accept?: string | undefined;
  /** User metadata; names in `perMessageHeaders` are not sent. */
  readonly metadata: Metadata | undefined;
  /**
   * The address came from a look-up of `service`: a server that is another service refuses with `notRun`, since the record
   * is stale or the port has another owner; its error's id is its own name, by which the caller knows. Over HTTP/1.1 every node is told, as the record may be a Go service's whose
   * port is ours by now. It is never passed on as metadata. Default: false, for calls to an address and what a proxy passes on.
   */
  readonly lookedUp?: boolean | undefined;
  /** The encoded request of a unary call; empty for streams. */
  readonly body: Uint8Array;
  /** The body as text, where the caller has it so: a transport may write it in place, and then `body` is never made. */
  readonly text?: string | undefined;
}

/** Limits of one exchange. */
export interface ExchangeOptions {
  /** When it must be over, on the clock of `performance.now()`. Sent to the peer as time left. Default: none. */
  readonly deadline?: number | undefined;
  /** Cancels the exchange, and the peer's handler with it. */
  readonly signal?: AbortSignal | undefined;
  /** Limit for making a connection, in milliseconds; always inside the deadline. Default: 5000. */
  readonly dialTimeoutMs?: number | undefined;
  /** Use a connection of its own for this exchange. Default: false. */
  readonly freshConnection?: boolean | undefined;
  /**
   * Largest message taken from the peer, in bytes, of this exchange alone; a larger one fails with `too_large`. Default: the
   * transport's own limit.
   */
  readonly maxMessageBytes?: number | undefined;
  /** What the node announces in its metadata as `wire`; see {@link Transport.wire}. Default: nothing is known of the node. */
  readonly wire?: string | undefined;
  /**
   * What the node announces in its metadata as `wire-workers`: how many processes share its address, each of which has
   * connections of its own. Default: one.
   */
  readonly workers?: string | undefined;
}

/** One message as it came from the server. */
export interface ExchangeMessage {
  /** All headers. On Go's http wire replies echo headers of earlier requests (`wire` trap 6): only trust what you set. */
  readonly header: Metadata;
  /** Value of `Micro-Error`, undefined on success. `EOS` never appears here: it ends the stream. */
  readonly error: string | undefined;
  /** The reply was marked as "the request did not reach a handler" (`Micro-Retry`), by a draining or full server. */
  readonly notRun: boolean;
  readonly contentType: string;
  readonly body: Uint8Array;
  /** The body as text, where that is cheaper than decoding the bytes and they are known to be UTF-8. Default: never. */
  text?(): string | undefined;
}

/** The caller's end of a stream. */
export interface ClientExchange {
  /** Send one message. A returned promise means "wait before the next": resolves when the peer or socket has room. */
  send(body: Uint8Array): void | Promise<void>;
  /** Nothing more will be sent; receiving goes on. */
  closeSend(): void;
  /** The next message, or undefined at the end of the stream. One call at a time. @throws {MicroError} */
  receive(): Promise<ExchangeMessage | undefined>;
  /** The next message if it is there already, undefined otherwise: spares who reads a burst a promise a message. Default: never. */
  poll?(): ExchangeMessage | undefined;
  /** End the exchange at once and let the peer's handler know. Harmless when it is over. */
  cancel(reason?: unknown): void;
}

/** A `GET` or `HEAD` without go-micro's headers: a probe, a browser, a scraper of metrics. It never reaches a handler. */
export interface PlainRequest {
  readonly method: "GET" | "HEAD";
  /** Without the query, as it came: `/healthz`. */
  readonly path: string;
  /** What follows the `?`; empty where there is none. */
  readonly query: string;
}

/** What a {@link PlainRequest} is answered. */
export interface PlainReply {
  /** From 200 to 599. */
  readonly status: number;
  /** Default: `application/json`. */
  readonly contentType?: string | undefined;
  /** Left out for `HEAD`. */
  readonly body: string;
}

export interface ListenOptions {
  /** `host:port`, `:0` (all interfaces, any port), `host:5000-6000` (first free port), `unix:/path`. Default: `:0`. */
  readonly address?: string | undefined;
  /** Largest message accepted, in bytes; a larger one is refused with 413. Default: 4194304 (4 MiB). */
  readonly maxMessageBytes?: number | undefined;
  /** Largest header block accepted, in bytes. Default: 1048576 (1 MiB), as Go's. */
  readonly maxHeaderBytes?: number | undefined;
  /**
   * What to answer to plain HTTP requests, such as `/healthz`; undefined leaves it to the transport, which says 404 or 405. Must not
   * throw. Transports that do not speak HTTP never ask. Default: every plain request is the transport's.
   */
  readonly plain?: ((request: PlainRequest) => PlainReply | undefined) | undefined;
  /**
   * Origins whose pages may call, each as browsers write it: `https://app.example`, `http://localhost:3000`. They get CORS headers; requests
   * that browsers send for any other page run nothing and are answered 403. Default: none.
   */
  readonly origins?: readonly string[] | undefined;
}

/** A reply, or one message of a stream, from the server. */
export interface OutgoingMessage {
  /** Default: none is sent (an empty body). */
  readonly contentType?: string | undefined;
  /** Text of `Micro-Error`; the body is sent beside it (envelope codecs put the error there as well). */
  readonly error?: string | undefined;
  /**
   * What go-micro's own callers get in place of `error`: the wire they can reach sends it as `Micro-Error`, and `error` beside
   * it as `Micro-Error-Detail`, which this library's callers prefer. Default: `error`.
   */
  readonly bareError?: string | undefined;
  /** See {@link ExchangeMessage.notRun}. */
  readonly notRun?: boolean | undefined;
  /** Reply headers set by the handler. */
  readonly metadata?: Metadata | undefined;
  readonly body: Uint8Array;
}

/**
 * One exchange as the server sees it. Either `reply` is called once, or `stream` and then its members. One that was cancelled
 * must be replied to or ended all the same: until then its handler counts as running, and a connection may have so many of them.
 */
export interface ServerExchange {
  /** Empty where the peer sent none; likewise the next three. */
  readonly service: string;
  readonly endpoint: string;
  readonly contentType: string;
  /** The peer's id of this exchange, for old-protocol envelopes and logs. */
  readonly id: string;
  /** Set for an event delivered over the transport. */
  readonly topic: string | undefined;
  /** See {@link ExchangeRequest.lookedUp}. Default: false. */
  readonly lookedUp?: boolean | undefined;
  /** Whether the caller made a call or opened a stream; undefined where its wire does not say, as Go's. Default: undefined. */
  readonly opened?: "call" | "stream" | undefined;
  /** The codec must come from the old-protocol table and the endpoint from the body's envelope (`wire` 1.12). */
  readonly oldProtocol: boolean;
  /** Time the caller still has, in milliseconds; undefined = no deadline. */
  readonly timeoutMs: number | undefined;
  /** All headers of the request. */
  readonly header: Metadata;
  readonly body: Uint8Array;
  /** Peer and own address, `host:port`. */
  readonly remote: string;
  readonly local: string;
  /** Cancelled by the transport when the peer goes away or cancels; made with the deadline of `timeoutMs`. */
  readonly cancellation: Cancellation;
  /** Answer a unary exchange and end it. Once. Does nothing if the peer is gone. */
  reply(message: OutgoingMessage): void;
  /** As `reply`, of a message that is only a body, given as text. Optional: spares a buffer where it can be written in place. */
  replyText?(contentType: string, body: string): void;
  /** Treat the exchange as a stream; its opening body is dropped. */
  stream(): ServerStream;
}

/** The server's end of a stream. */
export interface ServerStream {
  /** Send one message. A returned promise means "wait before the next". Rejects with `aborted` when the peer is gone. */
  send(message: OutgoingMessage): void | Promise<void>;
  /** As `send`, of a message that is only a body, given as text. Optional: spares a buffer a message where it can be written in place. */
  sendText?(contentType: string, body: string): void | Promise<void>;
  /** The next message, undefined once the peer has half-closed. One call at a time. @throws {MicroError} `aborted` when the peer is gone. */
  receive(): Promise<Uint8Array | undefined>;
  /** End the stream: with an error, or as finished. Once; later calls do nothing. */
  end(error?: OutgoingMessage): void;
}

/** Takes every exchange. Must not throw; what it awaits it handles itself. */
export type ExchangeHandler = (exchange: ServerExchange) => void;

/** A bound port. */
export interface Listener extends AsyncDisposable {
  /** The bound address as Go prints it, e.g. `[::]:43211` or `127.0.0.1:43211`. */
  readonly address: string;
  /**
   * Accept no more connections. Open ones go on, and the server answers later exchanges there with `notRun`: Go peers
   * reuse idle connections without checking, so they stay open until disposal.
   */
  close(): Promise<void>;
  /** Close every connection once what it still has to write is flushed; those with nothing in flight at once. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What a transport plugin implements. Making one opens nothing. */
export interface Transport extends AsyncDisposable {
  /** E.g. `http`; becomes node metadata `transport`. */
  readonly name: string;
  /**
   * A wire of this library's own that listeners of this transport speak beside the common one. It becomes node metadata
   * `wire`, and comes back as {@link ExchangeOptions.wire} when such a node is called. Default: none.
   */
  readonly wire?: string | undefined;
  /**
   * One request, one reply.
   *
   * @throws {MicroError} `unavailable` (`notRun` true when nothing of the request was sent or the connection was
   * refused), `timeout` when the deadline or dial limit passed, `aborted` when the signal did, `protocol` for bytes
   * that are not a reply, `closed` after disposal. A reply with `error` set resolves.
   */
  call(address: string, request: ExchangeRequest, options: ExchangeOptions): Promise<ExchangeMessage>;
  /** Open a stream; `request.body` is ignored. Errors as {@link Transport.call}. */
  open(address: string, request: ExchangeRequest, options: ExchangeOptions): Promise<ClientExchange>;
  /** @throws {MicroError} `unavailable` if the address cannot be bound, `bad_request` if it is not an address. */
  listen(handler: ExchangeHandler, options?: ListenOptions): Promise<Listener>;
  /**
   * No service uses it any more, for now: called at the end of the last service's stop, where the program made the transport
   * and keeps it. Idle connections must not keep the process alive from here on. Left out by transports whose idle
   * connections never do. Must not throw; may be called again.
   */
  release?(): void | Promise<void>;
  /** Close idle connections at once, and those of running exchanges, which fail with `closed`. Listeners are their owners'. */
  [Symbol.asyncDispose](): Promise<void>;
}
