/** One UDP socket that sends to the group on every interface, and may listen to the group. */
import dgram from "node:dgram";
import { multicastInterfaces } from "./interfaces.ts";
import { groups, type Family, type MdnsSettings } from "./options.ts";

export interface MulticastSocketOptions {
  readonly settings: MdnsSettings;
  readonly family: Family;
  /** 0 = any free port. */
  readonly port: number;
  readonly onMessage: (bytes: Buffer, remote: dgram.RemoteInfo) => void;
  /** The socket broke after it was bound; it is closed. */
  readonly onError: (error: Error) => void;
}

export class MulticastSocket {
  readonly family: Family;
  readonly #settings: MdnsSettings;
  readonly #socket: dgram.Socket;
  /** Sends to the group one after the other: the socket has one outgoing interface at a time. */
  #sending: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;

  /** Bind. Rejects with the system's error. */
  static async open(options: MulticastSocketOptions): Promise<MulticastSocket> {
    try {
      return await MulticastSocket.#bind(options, false);
    } catch (error) {
      // Some daemons hold the port with SO_REUSEPORT alone. Asked for only then: not every system has it.
      if (options.port === 0 || (error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
      try {
        return await MulticastSocket.#bind(options, true);
      } catch {
        throw error;
      }
    }
  }

  static async #bind(options: MulticastSocketOptions, reusePort: boolean): Promise<MulticastSocket> {
    const { family, port, onError, onMessage } = options;
    const socket = dgram.createSocket({
      type: family === "IPv4" ? "udp4" : "udp6",
      reuseAddr: port !== 0,
      reusePort,
      ipv6Only: family === "IPv6",
      // Only addresses are sent to. Answering at once makes a send happen at once, on the interface just set.
      lookup: (address, _options, callback) => callback(null, address, family === "IPv4" ? 4 : 6),
    });
    const opened = new MulticastSocket(options, socket);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    socket.once("error", reject);
    socket.bind({ port, exclusive: true }, resolve);
    try {
      await promise;
      // Go leaves the loop on and the hop limit at 1; receivers that follow RFC 6762 want 255.
      socket.setMulticastLoopback(true);
      socket.setMulticastTTL(255);
    } catch (error) {
      await opened.close();
      throw error;
    }
    socket.removeListener("error", reject);
    socket.on("error", (error) => {
      void opened.close();
      onError(error);
    });
    socket.on("message", onMessage);
    return opened;
  }

  constructor({ settings, family }: MulticastSocketOptions, socket: dgram.Socket) {
    this.family = family;
    this.#settings = settings;
    this.#socket = socket;
  }

  /** Join the group on every interface; on those joined already nothing happens. Gives how many are joined. */
  join(): number {
    if (this.#closed !== undefined) return 0;
    let joined = 0;
    for (const { name, selector } of multicastInterfaces(this.#settings, this.family))
      try {
        this.#socket.addMembership(groups[this.family], selector);
        joined++;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EADDRINUSE") joined++;
        else this.#settings.logger?.debug("mdns: cannot listen on an interface", { interface: name, error });
      }
    return joined;
  }

  /** Send to the group on every interface. Gives how many took it, and why the last one did not. */
  multicast(bytes: Uint8Array): Promise<{ sent: number; error: unknown }> {
    const sending = this.#sending.then(async () => {
      let sent = 0;
      let failure: unknown;
      for (const { name, selector } of multicastInterfaces(this.#settings, this.family))
        try {
          if (this.#closed !== undefined) break;
          this.#socket.setMulticastInterface(selector);
          // oxlint-disable-next-line no-await-in-loop -- the next interface would redirect it
          await this.send(bytes, groups[this.family], this.#settings.port);
          sent++;
        } catch (error) {
          failure = error;
          this.#settings.logger?.debug("mdns: cannot send on an interface", { interface: name, error });
        }
      return { sent, error: failure };
    });
    this.#sending = sending;
    return sending;
  }

  /** Send to one address. Rejects with the system's error. */
  send(bytes: Uint8Array, address: string, port: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (this.#closed !== undefined) reject(new Error("the socket is closed"));
    else this.#socket.send(bytes, port, address, (error) => (error === null ? resolve() : reject(error)));
    return promise;
  }

  /** Whether the socket keeps the process alive. */
  setRef(ref: boolean): void {
    if (this.#closed !== undefined) return;
    if (ref) this.#socket.ref();
    else this.#socket.unref();
  }

  /** Close at once. May be called twice. */
  close(): Promise<void> {
    return (this.#closed ??= new Promise((resolve) => {
      this.#socket.removeAllListeners();
      // A late error of a socket that is being closed concerns nobody.
      this.#socket.on("error", () => {});
      this.#socket.close(() => resolve());
    }));
  }
}
