/**
 * A bound port and its connections, whatever they speak: binding, TLS, how many there may be, how long they may be silent, closing.
 * All that this library listens on is one of these, so that no port has fewer limits than another.
 */
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import type { Server as TlsServer } from "node:tls";
import { builtin } from "../builtins.ts";
import { MicroError } from "../errors.ts";
import { timerDelay } from "../option-check.ts";
import { formatAddress, formatPath, parseListenAddress, type ListenAddress } from "./address.ts";
import { ByteAccount, processKept, processUnfinished, processUnsent } from "./byte-account.ts";
import { FirstBytes } from "./first-bytes.ts";
import { PeerCount } from "./peer-count.ts";
import { sweepLimits, type PortLimits, type SweepLimits } from "./port-limits.ts";
import { serverTls, type HttpTlsOptions } from "./tls.ts";

/** A connection as its port sees it. */
export interface AcceptedConnection {
  /** Written, but not yet taken by the system. */
  readonly unsentBytes: number;
  /** The peer's first bytes, then all others. */
  receive(chunk: Buffer): void;
  /** The port is being disposed: close in good order. */
  shutDown(): void;
  destroy(): void;
  /** Called about once a second. What is late or idle is the connection's to end. */
  sweep(tick: number, limits: SweepLimits): void;
}

export interface PortOptions {
  /** See `ListenOptions.address`. */
  readonly address: string;
  readonly limits: PortLimits;
  readonly secure: boolean;
  readonly tls: HttpTlsOptions | undefined;
  /** The first bytes of a connection are there: what does it speak? The connection calls {@link Port.gone} once. */
  readonly accept: (socket: Socket, first: Buffer) => AcceptedConnection;
  /** What a plain connection to a TLS port is told, by its first byte; undefined lets TLS have it. */
  readonly refusePlain: (first: number) => string | Buffer | undefined;
  /** Workers of a cluster do not share the port. Default: false. */
  readonly exclusive?: boolean | undefined;
  /** Who listens, for errors: `the broker`. Default: none. */
  readonly who?: string | undefined;
  /** Id of errors. */
  readonly id: string;
}

const backlog = 1024;
/** How long disposal waits for peers to take what was written for them, and to close their end. */
const flushMs = 5_000;
const lingerMs = 200;
const maxKeptBytes = 256 * 1024 * 1024;

export class Port implements AsyncDisposable {
  /** Counts up about once a second while there are connections: cheaper to note than the time. */
  tick = 0;
  readonly limits: PortLimits;
  /** Bytes of messages that are not complete. */
  readonly unfinished: ByteAccount;
  /** Bytes of replies that are not taken, of connections that keep more than their own share. */
  readonly unsent: ByteAccount;
  /** Bytes of large heads, and of messages of streams that nobody has read. */
  readonly kept: ByteAccount;
  readonly #options: PortOptions;
  readonly #sweepLimits: SweepLimits;
  readonly #server: Server;
  readonly #peers: PeerCount;
  readonly #connections = new Set<AcceptedConnection>();
  readonly #handshakes = new Set<Socket>();
  #address = "";
  #sweeper: NodeJS.Timeout | undefined;
  #closed: Promise<void> | undefined;
  #disposed: Promise<void> | undefined;
  #allGone: (() => void) | undefined;

  /** @throws {MicroError} `unavailable` if the address cannot be bound, `bad_request` if it is none. */
  static async listen(options: PortOptions): Promise<Port> {
    const address = parseListenAddress(options.address);
    const port = new Port(options, address.host);
    await port.#bind(address);
    return port;
  }

  private constructor(options: PortOptions, host: string) {
    this.#options = options;
    const { limits } = options;
    this.limits = limits;
    this.#sweepLimits = sweepLimits(limits);
    this.unfinished = new ByteAccount(limits.maxUnfinishedBytes, processUnfinished);
    this.unsent = new ByteAccount(limits.maxUnsentBytes, processUnsent);
    this.kept = new ByteAccount(maxKeptBytes, processKept, "largest");
    this.#peers = new PeerCount(limits.maxConnectionsPerAddress);
    const tlsServer = options.secure
      ? builtin
          .tls()
          .createServer(
            { ...certificate(options.tls, host), handshakeTimeout: timerDelay(limits.firstRequestTimeoutMs) },
            (socket) => this.#accept(socket),
          )
      : undefined;
    tlsServer?.on("tlsClientError", (_error, socket) => socket.destroy());
    this.#server = createServer({ noDelay: true }, (socket) => {
      if (!this.#peers.admit(socket)) socket.destroy();
      else if (tlsServer === undefined) this.#accept(socket);
      else this.#startTls(socket, tlsServer);
    });
    this.#server.maxConnections = limits.maxConnections;
  }

  /** The bound address as Go prints it. */
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
    const { who, id } = this.#options;
    const subject = who === undefined ? "cannot" : `${who} cannot`;
    throw new MicroError(`${subject} listen on ${this.#options.address}: ${failure?.code ?? failure?.message}`, {
      id,
      code: "unavailable",
      cause: failure,
    });
  }

  /** A file that is there, but nobody listens behind it, was left by a process that crashed. */
  async #bindPath(path: string): Promise<NodeJS.ErrnoException | undefined> {
    let failure = await this.#tryBind({ path });
    if (failure?.code === "EADDRINUSE" && !isSocket(path)) return new Error("what is there is no socket");
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
      this.#server.listen({ ...place, backlog, exclusive: this.#options.exclusive === true });
    });
  }

  /** Let TLS have the connection, unless it begins as something plain: then say what is wrong. */
  #startTls(socket: Socket, server: TlsServer): void {
    // Sockets in their handshake belong to nobody yet: disposal must find them.
    this.#handshakes.add(socket);
    socket.once("close", () => this.#handshakes.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.setTimeout(timerDelay(this.limits.firstRequestTimeoutMs), () => socket.destroy());
    socket.once("readable", () => {
      const bytes = socket.read() as Buffer | null;
      if (bytes === null) {
        socket.destroy();
        return;
      }
      const refusal = this.#options.refusePlain(bytes[0] ?? 0);
      if (refusal !== undefined) {
        socket.resume();
        socket.end(refusal);
        return;
      }
      socket.setTimeout(0);
      socket.unshift(bytes);
      server.emit("connection", socket);
    });
  }

  #accept(socket: Socket): void {
    if (this.#disposed !== undefined) {
      socket.destroy();
      return;
    }
    socket.setNoDelay(true);
    this.#connections.add(
      new FirstBytes(this, socket, (waiting, chunk) => {
        const connection = this.#options.accept(socket, chunk);
        this.#connections.add(connection);
        this.#connections.delete(waiting);
        connection.receive(chunk);
      }),
    );
    this.#sweeper ??= setInterval(() => this.#sweep(), 1_000).unref();
  }

  /** Called by a connection whose socket is closed. */
  gone(connection: AcceptedConnection): void {
    this.#connections.delete(connection);
    if (this.#connections.size > 0) return;
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
    this.#allGone?.();
  }

  #sweep(): void {
    this.tick++;
    for (const connection of this.#connections) connection.sweep(this.tick, this.#sweepLimits);
  }

  /** Accept no more connections; those there are go on. The address is free at once. */
  close(): Promise<void> {
    // The server's own callback waits for connections; that the port is free is known at once.
    this.#closed ??= Promise.resolve().then(() => void this.#server.close());
    return this.#closed;
  }

  /** Close every connection once what it still has to write is flushed, within bounds. */
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

/** Itself, not what a link points to. */
function isSocket(path: string): boolean {
  return builtin.fs().lstatSync(path, { throwIfNoEntry: false })?.isSocket() ?? true;
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
