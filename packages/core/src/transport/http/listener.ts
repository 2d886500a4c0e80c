/** A bound port and its connections. */
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import type { Server as TlsServer } from "node:tls";
import { builtin } from "../../builtins.ts";
import { MicroError } from "../../errors.ts";
import type { ExchangeHandler, Listener } from "../transport.ts";
import { formatAddress, formatPath, parseListenAddress, type ListenAddress } from "../../net/address.ts";
import { transportId } from "./dial.ts";
import { isTokenByte } from "./head.ts";
import type { MessageLimits } from "./message-parser.ts";
import { FastServerConnection } from "../fast/server-connection.ts";
import { refusingPreface } from "../fast/preface.ts";
import { ArrivingConnection, type ArrivingOwner } from "./arriving-connection.ts";
import { type AcceptedConnection, ServerConnection, type ConnectionOwner } from "./server-connection.ts";
import { serverTls, type HttpTlsOptions } from "../../net/tls.ts";

export interface HttpListenerOptions {
  readonly address: string;
  readonly limits: MessageLimits;
  readonly maxConnections: number;
  readonly maxExchangesPerConnection: number;
  readonly idleTimeoutMs: number;
  readonly firstRequestTimeoutMs: number;
  readonly stalledTimeoutMs: number;
  readonly secure: boolean;
  readonly tls: HttpTlsOptions | undefined;
  /** Take the fast wire as well. */
  readonly fast: boolean;
}

const backlog = 1024;
/** How long disposal waits for peers to take what was written for them, and to close their end. */
const flushMs = 5_000;
const lingerMs = 200;
const handshakeMs = 10_000;
const plainText = "this port speaks TLS, the request came in plain HTTP\n";
const plainRefusal =
  "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n" +
  `Content-Length: ${plainText.length}\r\nConnection: close\r\n\r\n${plainText}`;

export class HttpListener implements Listener, ConnectionOwner, ArrivingOwner {
  readonly limits: MessageLimits;
  readonly maxExchangesPerConnection: number;
  readonly handler: ExchangeHandler;
  tick = 0;
  #address = "";
  readonly #options: HttpListenerOptions;
  readonly #server: Server;
  readonly #connections = new Set<AcceptedConnection>();
  readonly #handshakes = new Set<Socket>();
  #sweeper: NodeJS.Timeout | undefined;
  #closed: Promise<void> | undefined;
  #disposed: Promise<void> | undefined;
  #allGone: (() => void) | undefined;

  /** @throws {MicroError} */
  static async listen(handler: ExchangeHandler, options: HttpListenerOptions): Promise<HttpListener> {
    const address = parseListenAddress(options.address);
    const listener = new HttpListener(handler, options, address.host);
    await listener.#bind(address);
    return listener;
  }

  private constructor(handler: ExchangeHandler, options: HttpListenerOptions, host: string) {
    this.handler = handler;
    this.#options = options;
    this.limits = options.limits;
    this.maxExchangesPerConnection = options.maxExchangesPerConnection;
    const tlsServer = options.secure
      ? builtin.tls().createServer(certificate(options.tls, host), (socket) => this.#accept(socket))
      : undefined;
    tlsServer?.on("tlsClientError", (_error, socket) => socket.destroy());
    this.#server = createServer({ noDelay: true }, (socket) => {
      if (tlsServer === undefined) this.#accept(socket);
      else this.#startTls(socket, tlsServer);
    });
    this.#server.maxConnections = options.maxConnections;
  }

  get address(): string {
    return this.#address;
  }

  async #bind(address: ListenAddress): Promise<void> {
    let failure: NodeJS.ErrnoException | undefined;
    if (address.path !== undefined) failure = await this.#bindPath(address.path);
    if (this.#address !== "") return;
    for (let port = address.firstPort; address.path === undefined && port <= address.lastPort; port++) {
      // Go's `:0` is IPv6 and IPv4 on one socket; where IPv6 is switched off, IPv4 alone.
      for (const host of address.host === "" ? ["::", "0.0.0.0"] : [address.host]) {
        failure = await this.#tryBind({ host, port });
        if (failure === undefined) {
          const bound = this.#server.address() as AddressInfo;
          this.#address = formatAddress(bound.address, bound.port);
          this.#server.on("error", () => {}); // accept errors: the connection concerned is lost, the port goes on
          return;
        }
        if (failure.code !== "EAFNOSUPPORT" && failure.code !== "EADDRNOTAVAIL" && failure.code !== "EINVAL") break;
      }
      if (failure?.code !== "EADDRINUSE") break;
    }
    throw new MicroError(`cannot listen on ${this.#options.address}: ${failure?.code ?? failure?.message}`, {
      id: transportId,
      code: "unavailable",
      cause: failure,
    });
  }

  /** A file that is there, but nobody listens behind it, was left by a process that crashed. */
  async #bindPath(path: string): Promise<NodeJS.ErrnoException | undefined> {
    let failure = await this.#tryBind({ path });
    if (failure?.code === "EADDRINUSE" && (await isAbandoned(path))) {
      try {
        builtin.fs().unlinkSync(path);
      } catch {
        // Somebody else was quicker, or it may not be removed: binding will tell.
      }
      failure = await this.#tryBind({ path });
    }
    if (failure !== undefined) return failure;
    this.#address = formatPath(path);
    this.#server.on("error", () => {});
    return undefined;
  }

  #tryBind(place: { host: string; port: number } | { path: string }): Promise<NodeJS.ErrnoException | undefined> {
    return new Promise((resolve) => {
      const onError = (error: NodeJS.ErrnoException): void => {
        this.#server.removeListener("listening", onListening);
        resolve(error);
      };
      const onListening = (): void => {
        this.#server.removeListener("error", onError);
        resolve(undefined);
      };
      this.#server.once("error", onError);
      this.#server.once("listening", onListening);
      this.#server.listen({ ...place, backlog });
    });
  }

  /** Let TLS have the connection, unless it begins like HTTP: then say what is wrong, in HTTP. */
  #startTls(socket: Socket, server: TlsServer): void {
    // Sockets in their handshake belong to nobody yet: disposal must find them.
    this.#handshakes.add(socket);
    socket.once("close", () => this.#handshakes.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.setTimeout(handshakeMs, () => socket.destroy());
    socket.once("readable", () => {
      const bytes = socket.read() as Buffer | null;
      if (bytes === null) {
        socket.destroy();
      } else if (isTokenByte(bytes[0] ?? 0)) {
        socket.resume();
        socket.end(plainRefusal);
      } else if (bytes[0] === 0) {
        socket.resume();
        socket.end(refusingPreface());
      } else {
        socket.setTimeout(0);
        socket.unshift(bytes);
        server.emit("connection", socket);
      }
    });
  }

  #accept(socket: Socket): void {
    if (this.#disposed !== undefined) {
      socket.destroy();
      return;
    }
    socket.setNoDelay(true);
    this.#connections.add(new ArrivingConnection(this, socket));
    this.#sweeper ??= setInterval(() => this.#sweep(), 1_000).unref();
  }

  arrived(arriving: ArrivingConnection, socket: Socket, chunk: Buffer): void {
    const fast = chunk[0] === 0 && this.#options.fast;
    const connection = fast ? new FastServerConnection(this, socket) : new ServerConnection(this, socket);
    this.#connections.add(connection);
    this.#connections.delete(arriving);
    connection.receive(chunk);
  }

  gone(connection: AcceptedConnection): void {
    this.#connections.delete(connection);
    if (this.#connections.size > 0) return;
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
    this.#allGone?.();
  }

  #sweep(): void {
    this.tick++;
    const { firstRequestTimeoutMs, stalledTimeoutMs, idleTimeoutMs } = this.#options;
    const limits = { first: firstRequestTimeoutMs / 1e3, stalled: stalledTimeoutMs / 1e3, idle: idleTimeoutMs / 1e3 };
    for (const connection of this.#connections) connection.sweep(this.tick, limits);
  }

  close(): Promise<void> {
    // The server's own callback waits for connections; that the port is free is known at once.
    this.#closed ??= Promise.resolve().then(() => void this.#server.close());
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return (this.#disposed ??= this.#dispose());
  }

  async #dispose(): Promise<void> {
    await this.close();
    for (const connection of this.#connections) connection.shutDown();
    if (this.#connections.size > 0) await this.#waitForPeers();
    for (const connection of this.#connections) connection.destroy();
    for (const socket of this.#handshakes) socket.destroy();
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
  }

  async #waitForPeers(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#allGone = resolve;
    const until = performance.now() + flushMs;
    const quietSince = performance.now() + lingerMs;
    const timer = setInterval(() => {
      const now = performance.now();
      if (now >= until) resolve();
      else if (now >= quietSince && ![...this.#connections].some((connection) => connection.unsentBytes > 0)) resolve();
    }, 20);
    try {
      await promise;
    } finally {
      clearInterval(timer);
    }
  }
}

/** A socket file that refuses connections. */
function isAbandoned(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED"));
  });
}

function certificate(options: HttpTlsOptions | undefined, host: string): ReturnType<typeof serverTls> {
  const wildcard = host === "" || host === "::" || host === "0.0.0.0";
  const addresses = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .map(({ address }) => address);
  return serverTls(options, wildcard ? ["localhost", ...addresses] : [host]);
}
