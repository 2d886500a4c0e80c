/** Where publishers deliver: an HTTP server that does what Go's does (`broker/http.go`, `ServeHTTP`). */
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { builtin } from "../../builtins.ts";
import { MicroError } from "../../errors.ts";
import { formatAddress, formatPath, parseListenAddress } from "../../net/address.ts";
import { serverTls, type HttpTlsOptions } from "../../net/tls.ts";
import { id } from "./options.ts";
import { ReceiverConnection } from "./receiver-connection.ts";
import type { Deliver } from "./receiver-connection.ts";

/** Settings of {@link Receiver}. */
export interface ReceiverOptions {
  readonly address: string;
  readonly secure: boolean;
  readonly tls: HttpTlsOptions | undefined;
  readonly maxMessageBytes: number;
  readonly maxConnections: number;
  readonly deliver: Deliver;
}

const sweepMs = 10_000;
/** Go's clients reuse a connection for 90 s without looking. */
const idleMs = 300_000;
const stalledMs = 30_000;
const lingerMs = 200;

/** A bound port and its connections. */
export class Receiver {
  readonly #options: ReceiverOptions;
  readonly #server: Server;
  readonly #connections = new Set<ReceiverConnection>();
  readonly #sockets = new Set<Socket>();
  readonly #sweeper: NodeJS.Timeout;
  #address = "";

  /** @throws {MicroError} `unavailable` if the address cannot be bound, `bad_request` if it is none. */
  static async listen(options: ReceiverOptions): Promise<Receiver> {
    const { host, firstPort, lastPort, path } = parseListenAddress(options.address);
    const receiver = new Receiver(options, host);
    let failure: NodeJS.ErrnoException | undefined;
    if (path !== undefined) {
      failure = await receiver.#tryBind({ path });
      if (failure === undefined) receiver.#address = formatPath(path);
    }
    const ports = path === undefined ? lastPort - firstPort + 1 : 0;
    for (let port = firstPort; port < firstPort + ports; port++) {
      // Go's `:0` is IPv6 and IPv4 on one socket; where IPv6 is switched off, IPv4 alone.
      for (const each of host === "" ? ["::", "0.0.0.0"] : [host]) {
        failure = await receiver.#tryBind({ host: each, port });
        if (failure === undefined || !isFamilyMissing(failure)) break;
      }
      if (failure?.code !== "EADDRINUSE") break;
    }
    if (failure !== undefined) {
      await receiver.close();
      throw new MicroError(`the broker cannot listen on ${options.address}: ${failure.code ?? failure.message}`, {
        id,
        code: "unavailable",
        cause: failure,
      });
    }
    return receiver;
  }

  private constructor(options: ReceiverOptions, host: string) {
    this.#options = options;
    const accept = (socket: Socket): void => this.#accept(socket);
    this.#server = options.secure
      ? builtin.tls().createServer(serverTls(options.tls, certifiedHosts(host)), accept)
      : createServer({ noDelay: true }, accept);
    this.#server.on("tlsClientError", (_error, socket: Socket) => socket.destroy());
    // With TLS these are in their handshake first.
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
    this.#server.maxConnections = options.maxConnections;
    this.#sweeper = setInterval(() => this.#sweep(), sweepMs).unref();
  }

  /** The bound address. */
  get address(): string {
    return this.#address;
  }

  /** Close; what has been answered is still sent. */
  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#connections) connection.end();
    const timer = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, lingerMs);
    await closed;
    clearTimeout(timer);
  }

  #tryBind(place: { host: string; port: number } | { path: string }): Promise<NodeJS.ErrnoException | undefined> {
    return new Promise((resolve) => {
      const onError = (error: NodeJS.ErrnoException): void => {
        this.#server.removeListener("listening", onListening);
        resolve(error);
      };
      const onListening = (): void => {
        this.#server.removeListener("error", onError);
        // Errors of accepting: the connection concerned is lost, the port goes on.
        this.#server.on("error", () => {});
        if (!("path" in place)) {
          const bound = this.#server.address() as AddressInfo;
          this.#address = formatAddress(bound.address, bound.port);
        }
        resolve(undefined);
      };
      this.#server.once("error", onError);
      this.#server.once("listening", onListening);
      // Workers of a cluster would share the port otherwise, and get messages for each other's subscriptions.
      this.#server.listen({ ...place, exclusive: true });
    });
  }

  #accept(socket: Socket): void {
    socket.setNoDelay(true);
    const { maxMessageBytes, deliver } = this.#options;
    const connection = new ReceiverConnection(socket, maxMessageBytes, deliver, () =>
      this.#connections.delete(connection),
    );
    this.#connections.add(connection);
  }

  #sweep(): void {
    const now = performance.now();
    for (const connection of this.#connections)
      if (!connection.busy && now - connection.activeAt > (connection.idle ? idleMs : stalledMs)) connection.destroy();
  }
}

function isFamilyMissing({ code }: NodeJS.ErrnoException): boolean {
  return code === "EAFNOSUPPORT" || code === "EADDRNOTAVAIL" || code === "EINVAL";
}

function certifiedHosts(host: string): string[] {
  if (host !== "" && host !== "::" && host !== "0.0.0.0") return [host];
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return ["localhost", ...addresses.map(({ address }) => address)];
}
