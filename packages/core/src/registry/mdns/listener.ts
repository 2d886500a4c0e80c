/**
 * The sockets on the group's port, shared by all a registry does there: answering, announcing, watching. Open while
 * somebody needs them; one that breaks is opened again.
 */
import type dgram from "node:dgram";
import os from "node:os";
import { MicroError } from "../../errors.ts";
import { multicastInterfaces } from "./interfaces.ts";
import { MulticastSocket } from "./multicast-socket.ts";
import type { Family, MdnsSettings } from "./options.ts";
import { decodeMessage, PacketError, type Message } from "./packet.ts";

/** How often network interfaces are looked at, in milliseconds. Membership has to be taken anew on each that comes. */
const interfacePollMs = 5_000;
const firstRetryMs = 100;
const maxRetryMs = 10_000;

export interface ListenerOptions {
  readonly settings: MdnsSettings;
  /** Whether a packet is looked at: asked before it is read. */
  readonly admits: (bytes: Buffer, remote: dgram.RemoteInfo) => boolean;
  /** A well-formed message came in. */
  readonly onMessage: (message: Message, remote: dgram.RemoteInfo, socket: MulticastSocket) => void;
  /** A packet was ignored. */
  readonly onIgnored: (reason: unknown, remote: dgram.RemoteInfo) => void;
  /** A socket broke: what came since may be lost. */
  readonly onLost: (error: MicroError) => void;
  /** A socket is back, or an interface came: what is registered should be said again. */
  readonly onRestored: () => void;
}

/** One user of the listener. */
export interface ListenerLease {
  readonly opened: Promise<void>;
  release(): Promise<void>;
}

export class Listener {
  readonly #options: ListenerOptions;
  readonly #leases = new Map<ListenerLease, { keepsAlive: boolean }>();
  readonly #sockets = new Map<Family, MulticastSocket>();
  readonly #retries = new Map<Family, NodeJS.Timeout>();
  #poll: NodeJS.Timeout | undefined;
  #interfaces = "";
  #opening: Promise<void> | undefined;
  #closing: Promise<unknown> = Promise.resolve();
  /** Counts openings, so that what was started for an earlier one ends. */
  #epoch = 0;

  constructor(options: ListenerOptions) {
    this.#options = options;
  }

  /**
   * Open the sockets, or share those that are open.
   *
   * `keepsAlive`: whether the process stays because of it.
   */
  acquire(options: { keepsAlive: boolean }): ListenerLease {
    this.#opening ??= this.#open();
    const lease: ListenerLease = { opened: this.#opening, release: () => this.#release(lease) };
    lease.opened.catch(() => this.#release(lease));
    this.#leases.set(lease, options);
    this.#updateRef();
    return lease;
  }

  /** Send to the group, over every family and interface. */
  async multicast(bytes: Uint8Array): Promise<void> {
    await Promise.all([...this.#sockets.values()].map((socket) => socket.multicast(bytes)));
  }

  /** Close for good, whoever still uses it. */
  async close(): Promise<void> {
    this.#leases.clear();
    await this.#close();
  }

  async #open(): Promise<void> {
    const epoch = ++this.#epoch;
    const { settings } = this.#options;
    // Sockets of an earlier opening would count as holders of the port.
    await this.#closing;
    const failures: { family: Family; error: NodeJS.ErrnoException }[] = [];
    await Promise.all(
      settings.families.map(async (family) => {
        try {
          const socket = await this.#openSocket(family);
          if (epoch === this.#epoch) this.#sockets.set(family, socket);
          else await socket.close();
        } catch (cause) {
          const error = cause as NodeJS.ErrnoException;
          failures.push({ family, error });
          settings.logger?.debug("mdns: a family cannot be used", { family, error });
        }
      }),
    );
    // A machine without IPv6 is none the worse; a port that is held is, as half of the peers would not be heard.
    const held = failures.find(
      ({ error }) => error.code === "EADDRINUSE" || error.code === "EACCES" || error.code === "EPERM",
    );
    const failure = held ?? (failures.length === settings.families.length ? failures[0] : undefined);
    if (failure !== undefined) {
      if (epoch === this.#epoch) await this.#close();
      throw portUnavailable(settings.port, failure.error);
    }
    if (epoch !== this.#epoch) return;
    this.#interfaces = describeInterfaces();
    const { interfaces, families, logger } = settings;
    if (interfaces !== undefined && families.every((family) => multicastInterfaces(settings, family).length === 0))
      logger?.warn(`mdns: none of the network interfaces ${interfaces.join(", ")} is up; nobody is heard until one is`);
    this.#poll = setInterval(() => this.#checkInterfaces(), interfacePollMs);
    this.#poll.unref();
    this.#updateRef();
  }

  async #openSocket(family: Family): Promise<MulticastSocket> {
    const { settings, admits, onMessage, onIgnored } = this.#options;
    const socket: MulticastSocket = await MulticastSocket.open({
      settings,
      family,
      port: settings.port,
      onMessage: (bytes, remote) => {
        try {
          if (admits(bytes, remote)) onMessage(decodeMessage(bytes), remote, socket);
        } catch (error) {
          // The wire never throws into the socket: whatever a packet triggers is reported and done with.
          if (error instanceof PacketError) onIgnored(error, remote);
          else settings.logger?.error("mdns: a packet could not be handled", { error, remote: remote.address });
        }
      },
      onError: (error) => this.#lost(family, error),
    });
    socket.join();
    return socket;
  }

  #lost(family: Family, cause: Error): void {
    this.#options.settings.logger?.warn("mdns: a socket broke and is opened again", { family, error: cause });
    this.#sockets.delete(family);
    this.#retry(family, firstRetryMs, this.#epoch);
    this.#options.onLost(
      new MicroError(`the mdns socket broke: ${cause.message}`, { id: "registry.mdns", code: "unavailable", cause }),
    );
  }

  #retry(family: Family, delayMs: number, epoch: number): void {
    const reopen = async (): Promise<void> => {
      this.#retries.delete(family);
      try {
        const socket = await this.#openSocket(family);
        if (epoch !== this.#epoch) {
          await socket.close();
          return;
        }
        this.#sockets.set(family, socket);
        this.#updateRef();
        this.#options.settings.logger?.info("mdns: the socket is open again", { family });
        this.#options.onRestored();
      } catch (error) {
        this.#options.settings.logger?.warn("mdns: the socket cannot be opened", { family, error });
        if (epoch === this.#epoch) this.#retry(family, Math.min(delayMs * 2, maxRetryMs), epoch);
      }
    };
    const timer = setTimeout(() => void reopen(), delayMs * (0.5 + Math.random() / 2));
    timer.unref();
    this.#retries.set(family, timer);
  }

  #checkInterfaces(): void {
    // Joining where we are already costs one system call; an interface that was made anew under its old name and
    // address is noticed only so.
    for (const socket of this.#sockets.values()) socket.join();
    const now = describeInterfaces();
    if (now === this.#interfaces) return;
    this.#interfaces = now;
    this.#options.settings.logger?.debug("mdns: network interfaces changed");
    this.#options.onRestored();
  }

  #updateRef(): void {
    const keepsAlive = [...this.#leases.values()].some((lease) => lease.keepsAlive);
    for (const socket of this.#sockets.values()) socket.setRef(keepsAlive);
  }

  async #release(lease: ListenerLease): Promise<void> {
    if (!this.#leases.delete(lease)) return;
    if (this.#leases.size > 0) this.#updateRef();
    else await this.#close();
  }

  async #close(): Promise<void> {
    this.#epoch++;
    this.#opening = undefined;
    clearInterval(this.#poll);
    for (const timer of this.#retries.values()) clearTimeout(timer);
    this.#retries.clear();
    const sockets = [...this.#sockets.values()];
    this.#sockets.clear();
    this.#closing = Promise.all([this.#closing, ...sockets.map((socket) => socket.close())]);
    await this.#closing;
  }
}

function portUnavailable(port: number, cause: NodeJS.ErrnoException): MicroError {
  const reason =
    cause.code === "EADDRINUSE"
      ? "another program holds it and does not share it"
      : cause.code === "EACCES" || cause.code === "EPERM"
        ? "the system does not permit it"
        : cause.message;
  return new MicroError(`mdns cannot listen on UDP port ${port}: ${reason}`, {
    id: "registry.mdns",
    code: "unavailable",
    cause,
  });
}

function describeInterfaces(): string {
  return JSON.stringify(
    Object.entries(os.networkInterfaces()).map(([name, list = []]) => [name, ...list.map(({ address }) => address)]),
  );
}
