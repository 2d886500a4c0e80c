/**
 * go-micro's http transport: HTTP/1.1 messages framed on raw sockets, as Go does it (`transport/http_transport.go`). An
 * HTTP library could not: on a stream there are replies without requests and requests without replies.
 */
import type { ConnectionOptions } from "node:tls";
import type {
  ClientExchange,
  ExchangeHandler,
  ExchangeMessage,
  ExchangeOptions,
  ExchangeRequest,
  Listener,
  ListenOptions,
  Transport,
} from "../transport.ts";
import type { MicroError } from "../../errors.ts";
import { type DirectCaller, DirectListener, directRevision, findDirect } from "../direct.ts";
import { FastCall } from "../fast/client-call.ts";
import { FastClientStream } from "../fast/client-stream.ts";
import type { FastAddress } from "../fast/fast-address.ts";
import { defaultSettings, fastWireName } from "../fast/preface.ts";
import { parseListenAddress } from "../../net/address.ts";
import { portLimitNames, type PortLimitOptions, portLimits } from "../../net/port-limits.ts";
import { HttpClientStream } from "./client-stream.ts";
import { ConnectionPool, type PooledAddress } from "./connection-pool.ts";
import { cancelled, deadlineExceeded, transportClosed } from "./dial.ts";
import { HttpListener } from "./listener.ts";
import { checkTlsOptions, clientTls, type HttpTlsOptions } from "../../net/tls.ts";
import { checkOptionNames, type OptionNames } from "../../option-check.ts";

/** Settings of `httpTransport()`; all have defaults. */
export interface HttpTransportOptions extends PortLimitOptions {
  /**
   * `http` keeps to Go's HTTP/1.1 wire, as client and as listener. Default: `auto`, which is the fast wire (`docs/fast-wire.md`) to
   * nodes that announce it, and HTTP/1.1 to all others.
   */
  wire?: "auto" | "http" | undefined;
  /**
   * Call listeners of this process without a socket, and be called so by others, where both ends have the fast wire and
   * neither has TLS. Default: true.
   */
  direct?: boolean | undefined;
  /** Speak TLS, on both sides. A listener without a certificate makes a self-signed one. Default: true if `tls` is given. */
  secure?: boolean | undefined;
  /** Certificates and authorities. Default: none; the system's authorities are trusted. */
  tls?: HttpTlsOptions | undefined;
  /** Client: accept any certificate, self-signed ones included. Default: false. */
  insecureSkipVerify?: boolean | undefined;
  /** Client: largest reply or stream message accepted, in bytes. Default: 67108864 (64 MiB). */
  maxMessageBytes?: number | undefined;
  /** Client: largest header block accepted, in bytes. Default: 1048576 (1 MiB). */
  maxHeaderBytes?: number | undefined;
  /** Client: idle connections kept for each address. Default: 100, as Go's client. */
  maxIdlePerAddress?: number | undefined;
  /** Client: a connection older than this, counted from dialing, is closed instead of used again, in milliseconds. Default: 60000, as Go's client. */
  maxConnectionAgeMs?: number | undefined;
  /** Client: calls made on one connection before it is closed: Go servers keep about 2 kB for each until then. Default: 5000. */
  maxCallsPerConnection?: number | undefined;
  /** Server: exchanges running at once on one connection; further requests wait unread. Default: 1000. */
  maxExchangesPerConnection?: number | undefined;
  /**
   * Server: bytes of requests whose handlers run, all connections together; past it further requests are refused as not run, but for those of a
   * caller that is alone. Default: 536870912 (512 MiB).
   */
  maxRunningBytes?: number | undefined;
  /**
   * Server: origins whose pages may call, each as browsers write it: `https://app.example`. Default: none, see `docs/security.md`.
   */
  origins?: readonly string[] | undefined;
  /**
   * Server: a connection without a running exchange is closed when nothing came for so long, in milliseconds. Go clients
   * reuse connections for 60 s without looking, so it may not be short. At least 120000. Default: 300000.
   */
  idleTimeoutMs?: number | undefined;
}

const optionNames: OptionNames<HttpTransportOptions> = {
  ...portLimitNames,
  wire: true,
  direct: true,
  secure: true,
  tls: true,
  insecureSkipVerify: true,
  maxMessageBytes: true,
  maxHeaderBytes: true,
  maxIdlePerAddress: true,
  maxConnectionAgeMs: true,
  maxCallsPerConnection: true,
  maxExchangesPerConnection: true,
  maxRunningBytes: true,
  origins: true,
};

/**
 * Create the http transport. Nothing is opened before the first call or `listen`.
 * @throws {TypeError} for an option that does not exist, or a limit that is not a positive number.
 */
export function httpTransport(options: HttpTransportOptions = {}): Transport {
  checkOptionNames("httpTransport", options, optionNames);
  checkTlsOptions("httpTransport: tls", options.tls);
  for (const [name, value] of Object.entries(options))
    if (typeof value === "number" && !(value > 0))
      throw new TypeError(`httpTransport: \`${name}\` must be greater than 0, not ${value}`);
  if (options.idleTimeoutMs !== undefined && options.idleTimeoutMs < 120_000)
    throw new TypeError("httpTransport: `idleTimeoutMs` must be at least 120000, or Go clients lose calls");
  if (options.wire !== undefined && options.wire !== "auto" && options.wire !== "http")
    throw new TypeError(`httpTransport: \`wire\` must be "auto" or "http", not ${JSON.stringify(options.wire)}`);
  if ((options.tls?.cert === undefined) !== (options.tls?.key === undefined))
    throw new TypeError("httpTransport: `tls.cert` and `tls.key` go together");
  return new HttpTransport(options);
}

const mebibyte = 1024 * 1024;
/** What a stranger may send is bounded closely, what one has asked for is not. */
const defaultMaxRequestBytes = 4 * mebibyte;
const defaultMaxReplyBytes = 64 * mebibyte;
/** Go's (`http.DefaultMaxHeaderBytes`); its servers echo what they are sent. */
const defaultMaxHeaderBytes = mebibyte;
const noBytes = new Uint8Array(0);

class HttpTransport implements Transport {
  readonly name = "http";
  readonly wire: string | undefined;
  readonly #options: HttpTransportOptions;
  readonly #secure: boolean;
  #pool: ConnectionPool | undefined;
  readonly #streams = new Set<HttpClientStream>();
  readonly #direct: DirectCaller | undefined;
  #nextId = 0;
  #closed = false;

  constructor(options: HttpTransportOptions) {
    this.#options = options;
    this.wire = options.wire === "http" ? undefined : fastWireName;
    this.#secure = options.secure ?? options.tls !== undefined;
    // With TLS the certificates decide who may talk to whom; that must not depend on where the callers are.
    if (this.wire !== undefined && !this.#secure && options.direct !== false)
      this.#direct = { exchanges: new Set(), maxMessageBytes: options.maxMessageBytes ?? defaultMaxReplyBytes };
  }

  call(address: string, request: ExchangeRequest, options: ExchangeOptions): Promise<ExchangeMessage> {
    const now = performance.now();
    const refusal = this.#refusal(options, now);
    if (refusal !== undefined) return Promise.reject(refusal);
    return new Promise((resolve, reject) => {
      const pool = (this.#pool ??= this.#makePool());
      // A bad address throws here, which rejects.
      const known = pool.address(address);
      const direct = this.#findDirect(known, options);
      if (direct !== undefined) {
        resolve(direct.call(this.#direct as DirectCaller, String(this.#nextId++), request, options));
        return;
      }
      const fast = this.#fast(pool, known, options, now);
      if (fast === undefined) this.#callOverHttp(known, request, options, resolve, reject, now);
      else fast.start(new FastCall(request, options, resolve, reject, now, fast.fallback), now);
    });
  }

  #callOverHttp(
    known: PooledAddress,
    request: ExchangeRequest,
    options: ExchangeOptions,
    resolve: (reply: ExchangeMessage) => void,
    reject: (error: MicroError) => void,
    now: number,
  ): void {
    if (this.#closed) return reject(transportClosed(true));
    const pool = this.#pool as ConnectionPool;
    const connection = pool.take(known, options.freshConnection === true, now);
    connection.start(String(this.#nextId++), request, options, resolve, reject, now);
  }

  open(address: string, request: ExchangeRequest, options: ExchangeOptions): Promise<ClientExchange> {
    const now = performance.now();
    const refusal = this.#refusal(options, now);
    if (refusal !== undefined) return Promise.reject(refusal);
    return new Promise((resolve, reject) => {
      const pool = (this.#pool ??= this.#makePool());
      const known = pool.address(address);
      const direct = this.#findDirect(known, options);
      if (direct !== undefined) {
        const opening = { ...request, body: noBytes };
        resolve(direct.start(this.#direct as DirectCaller, String(this.#nextId++), opening, options, "stream"));
        return;
      }
      const fast = this.#fast(pool, known, options, now);
      if (fast === undefined) this.#openOverHttp(known, request, options, resolve, reject);
      else fast.start(new FastClientStream(request, options, resolve, reject, now, fast.fallback), now);
    });
  }

  #openOverHttp(
    known: PooledAddress,
    request: ExchangeRequest,
    options: ExchangeOptions,
    opened: (stream: ClientExchange) => void,
    failed: (error: MicroError) => void,
  ): void {
    if (this.#closed) return failed(transportClosed(true));
    const pool = this.#pool as ConnectionPool;
    const stream = new HttpClientStream({
      address: known,
      tls: pool.options.tls,
      limits: pool.options.limits,
      id: String(this.#nextId++),
      request,
      options,
      opened,
      failed,
      ended: () => void this.#streams.delete(stream),
    });
    this.#streams.add(stream);
  }

  /** The listener of this process that a call may go to without a socket. */
  #findDirect(known: PooledAddress, options: ExchangeOptions): DirectListener | undefined {
    const revision = directRevision();
    if (revision === 0 || this.#direct === undefined) return undefined;
    if (options.wire !== this.wire || options.freshConnection === true) return undefined;
    if (known.directRevision !== revision) {
      const direct = findDirect(known.target);
      known.direct = direct && new WeakRef(direct);
      known.directRevision = revision;
    }
    return known.direct?.deref();
  }

  readonly #fallback = (known: PooledAddress): FastAddress["fallback"] => ({
    callOverHttp: (...call) => this.#callOverHttp(known, ...call, performance.now()),
    openOverHttp: (...stream) => this.#openOverHttp(known, ...stream),
  });

  /** The connections on the fast wire, where the peer is known to speak it. */
  #fast(pool: ConnectionPool, known: PooledAddress, options: ExchangeOptions, now: number): FastAddress | undefined {
    if (this.wire === undefined || options.freshConnection === true) return undefined;
    // A connection says once what its client takes.
    if (options.maxMessageBytes !== undefined && options.maxMessageBytes > pool.options.settings.maxMessageBytes)
      return undefined;
    // An address that the caller gave by hand may be one that was found in the registry before.
    if (options.wire !== this.wire) return known.fast?.open === true ? known.fast : undefined;
    const fast = known.fast ?? pool.fast(known, this.#fallback);
    if (!fast.mayTry(now)) return undefined;
    fast.shareAmong(options.workers);
    return fast;
  }

  async listen(handler: ExchangeHandler, options: ListenOptions = {}): Promise<Listener> {
    if (this.#closed) throw transportClosed(true);
    const own = this.#options;
    const maxMessageBytes = options.maxMessageBytes ?? defaultMaxRequestBytes;
    const listener = await HttpListener.listen(handler, {
      address: options.address ?? ":0",
      limits: {
        maxMessageBytes,
        maxHeaderBytes: options.maxHeaderBytes ?? defaultMaxHeaderBytes,
      },
      fastLimits: { maxMessageBytes, maxHeaderBytes: options.maxHeaderBytes ?? defaultSettings.maxHeaderBytes },
      portLimits: portLimits(own, maxMessageBytes),
      maxExchangesPerConnection: own.maxExchangesPerConnection ?? 1_000,
      maxRunningBytes: own.maxRunningBytes ?? 512 * mebibyte,
      secure: this.#secure,
      tls: own.tls,
      fast: this.wire !== undefined,
      origins: options.origins ?? own.origins,
      plain: options.plain,
    });
    if (this.#direct === undefined) return listener;
    return new DirectListener(listener, parseListenAddress(listener.address), handler, maxMessageBytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#pool?.close();
    for (const stream of this.#streams) stream.fail(transportClosed(false));
    for (const exchange of this.#direct?.exchanges ?? []) exchange.fail(transportClosed(false));
  }

  #refusal(options: ExchangeOptions, now: number): Error | undefined {
    if (this.#closed) return transportClosed(true);
    if (options.signal?.aborted === true) return cancelled(options.signal.reason, true);
    if (options.deadline !== undefined && options.deadline <= now) return deadlineExceeded(true);
    return undefined;
  }

  #makePool(): ConnectionPool {
    const own = this.#options;
    const tls: ConnectionOptions | undefined = this.#secure
      ? clientTls(own.tls, own.insecureSkipVerify === true)
      : undefined;
    return new ConnectionPool({
      tls,
      limits: {
        maxMessageBytes: own.maxMessageBytes ?? defaultMaxReplyBytes,
        maxHeaderBytes: own.maxHeaderBytes ?? defaultMaxHeaderBytes,
      },
      maxIdlePerAddress: own.maxIdlePerAddress ?? 100,
      maxAgeMs: own.maxConnectionAgeMs ?? 60_000,
      maxCallsPerConnection: own.maxCallsPerConnection ?? 5_000,
      settings: {
        maxMessageBytes: own.maxMessageBytes ?? defaultMaxReplyBytes,
        maxHeaderBytes: own.maxHeaderBytes ?? defaultSettings.maxHeaderBytes,
        maxExchanges: 0,
        maxDictionaryIds: defaultSettings.maxDictionaryIds,
        extensions: 0,
      },
    });
  }
}
