/** What this registry has registered: answered for, announced, and taken back (go-micro `util/mdns/server.go`). */
import type dgram from "node:dgram";
import { MicroError } from "../../errors.ts";
import { Budget } from "./budget.ts";
import type { MdnsSettings } from "./options.ts";
import type { Listener, ListenerLease } from "./listener.ts";
import type { MulticastSocket } from "./multicast-socket.ts";
import type { Message } from "./packet.ts";
import { packetBytes } from "./querier.ts";
import { advertiseList, answerPacket, type Advertised, type AdvertisedNode } from "./records.ts";

/**
 * Sent in answer to questions, in bytes a second: anybody can ask in the name of somebody else. Some thousand answers to
 * one address at once, then some hundred a second.
 */
const replyBudget = {
  each: { rate: 512 * 1024, burst: 4 * 1024 * 1024 },
  all: { rate: 2 * 1024 * 1024, burst: 16 * 1024 * 1024 },
};

/** Pauses between the three probes are random below this many milliseconds. */
const maxProbePauseMs = 250;

interface Registration {
  readonly node: AdvertisedNode;
  timer: NodeJS.Timeout | undefined;
}

export class Responder {
  readonly #settings: MdnsSettings;
  readonly #listener: Listener;
  /** By domain, service and id. */
  readonly #registrations = new Map<string, Registration>();
  /** By domain and service: one list record however many nodes. */
  readonly #lists = new Map<string, Advertised>();
  readonly #replies = new Budget(replyBudget);
  #lease: ListenerLease | undefined;
  /** Registrations that wait for the sockets. */
  #pending = 0;
  #closed = false;
  /** The latest registration of each node that waits for the sockets. */
  readonly #turns = new Map<string, symbol>();

  constructor(settings: MdnsSettings, listener: Listener) {
    this.#settings = settings;
    this.#listener = listener;
  }

  /** The nodes of a service registered here. */
  nodes(service: string, domain: string): AdvertisedNode[] {
    return [...this.#registrations.values()]
      .map(({ node }) => node)
      .filter((node) => node.service === service && node.domain === domain);
  }

  /** The services registered here. */
  services(domain: string): string[] {
    const nodes = [...this.#registrations.values()].map(({ node }) => node);
    return [...new Set(nodes.filter((node) => node.domain === domain).map((node) => node.service))];
  }

  /**
   * Answer for a node from now on. One that says something new is announced at once; Go would keep the old record.
   * @throws {MicroError} `unavailable` if the port cannot be listened on, `closed` if the registry was closed meanwhile.
   */
  async register(node: AdvertisedNode, host: string): Promise<void> {
    const key = registrationKey(node);
    // Opening takes a while; what is asked of the node meanwhile takes the place of this.
    const turn = Symbol(node.id);
    this.#turns.set(key, turn);
    try {
      await this.#listen();
      if (this.#turns.get(key) !== turn) return await this.#releaseIfIdle();
    } finally {
      if (this.#turns.get(key) === turn) this.#turns.delete(key);
    }
    const known = this.#registrations.get(key);
    if (known !== undefined && known.node.announcement.equals(node.announcement)) return;
    clearTimeout(known?.timer);
    const registration: Registration = { node, timer: undefined };
    this.#registrations.set(key, registration);
    const settings = { domain: node.domain, host, ttlSeconds: this.#settings.ttlSeconds };
    this.#lists.set(listKey(node), advertiseList(node.service, settings));
    // Others learn of the node at once; Go tells them after the probes, which nobody evaluates.
    this.#send(node.announcement);
    this.#schedule(registration, known === undefined ? this.#introduction(node) : [[1_000, node.announcement]]);
  }

  /** Take a node back; unknown ones are ignored. */
  async deregister(node: { readonly domain: string; readonly service: string; readonly id: string }): Promise<void> {
    this.#turns.delete(registrationKey(node));
    const registration = this.#registrations.get(registrationKey(node));
    if (registration === undefined) return;
    clearTimeout(registration.timer);
    this.#registrations.delete(registrationKey(node));
    if (this.nodes(node.service, node.domain).length === 0) this.#lists.delete(listKey(node));
    await this.#listener.multicast(registration.node.goodbye);
    await this.#releaseIfIdle();
  }

  /** Take everything back. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#registrations.values()].map(({ node }) => this.deregister(node)));
    await this.#releaseIfIdle();
  }

  /** Say again what is registered: to an interface that came, through a socket that is back. */
  announce(): void {
    for (const { node } of this.#registrations.values()) this.#send(node.announcement);
  }

  /** Answer a query: one packet per node, to the asker alone. */
  answer(query: Message, remote: dgram.RemoteInfo, socket: MulticastSocket): void {
    // Opcode or response code.
    if ((query.flags & 0x780f) !== 0 || query.questions.length === 0) return;
    const all: Advertised[] = [...this.#lists.values()];
    for (const { node } of this.#registrations.values()) all.push(node);
    for (const advertised of all) {
      // What goes to the group goes to everybody, whoever has asked.
      if (!this.#replies.allows(remote.address)) return;
      const packet = answerPacket(advertised, query);
      if (packet === undefined) continue;
      this.#replies.spend(remote.address, packet.length + packetBytes);
      // Who asks from the group's port shares it with others, and only the group reaches each of them.
      const sent =
        remote.port === this.#settings.port
          ? socket.multicast(packet)
          : socket.send(packet, remote.address, remote.port);
      sent.catch((error: unknown) => this.#settings.logger?.debug("mdns: an answer was not sent", { error }));
    }
  }

  async #listen(): Promise<void> {
    const lease = (this.#lease ??= this.#listener.acquire({ keepsAlive: true }));
    this.#pending++;
    try {
      await lease.opened;
    } catch (error) {
      if (this.#lease === lease) this.#lease = undefined;
      throw error;
    } finally {
      this.#pending--;
    }
    if (this.#closed) throw new MicroError("the registry is closed", { id: "registry.mdns", code: "closed" });
  }

  async #releaseIfIdle(): Promise<void> {
    if (this.#registrations.size > 0 || this.#pending > 0) return;
    const lease = this.#lease;
    this.#lease = undefined;
    await lease?.release();
  }

  #introduction(node: AdvertisedNode): [number, Buffer][] {
    return [
      [0, node.probe],
      [probePauseMs(), node.probe],
      [probePauseMs(), node.probe],
      [probePauseMs(), node.announcement],
      [1_000, node.announcement],
      [2_000, node.announcement],
    ];
  }

  #schedule(registration: Registration, steps: readonly (readonly [delayMs: number, packet: Buffer])[]): void {
    const [next, ...rest] = steps;
    if (next === undefined) return;
    const [delayMs, packet] = next;
    registration.timer = setTimeout(() => {
      this.#send(packet);
      this.#schedule(registration, rest);
    }, delayMs);
    registration.timer.unref();
  }

  #send(packet: Buffer): void {
    this.#listener
      .multicast(packet)
      .catch((error: unknown) => this.#settings.logger?.debug("mdns: an announcement was not sent", { error }));
  }
}

function probePauseMs(): number {
  return Math.floor(Math.random() * maxProbePauseMs);
}

function registrationKey(node: { readonly domain: string; readonly service: string; readonly id: string }): string {
  return `${node.domain}\0${node.service}\0${node.id}`;
}

function listKey(node: { readonly domain: string; readonly service: string }): string {
  return `${node.domain}\0${node.service}`;
}
