/**
 * The default registry: multicast DNS, on the wire the same as go-micro's (`registry/mdns_registry.go`), so that
 * services of both languages find each other without any server.
 */
import type dgram from "node:dgram";
import os from "node:os";
import { MicroError } from "../../errors.ts";
import { checkOptionNames, type OptionNames } from "../../option-check.ts";
import { optionKinds } from "../../option-kinds.ts";
import { checkRegistryCall, type RegistryOperation } from "../call-options.ts";
import { copyService } from "../record.ts";
import type {
  Node,
  RegisterOptions,
  Registry,
  RegistryCallOptions,
  Service,
  WatchOptions,
  Watcher,
} from "../registry.ts";
import { registryWatcher, type WatchSink } from "../watch-stream.ts";
import { heldBytes } from "../held-bytes.ts";
import { Budget } from "./budget.ts";
import { EntryCollector, readEntry, withdrawn, type Entry, type Origin } from "./entries.ts";
import { FairTable, type Kept } from "./fair-table.ts";
import { LocalLink } from "./interfaces.ts";
import { Listener, type ListenerLease } from "./listener.ts";
import type { MulticastSocket } from "./multicast-socket.ts";
import { checkName, listName, partBefore, serviceName } from "./names.ts";
import { Neighbourhood } from "./neighbourhood.ts";
import type { Family, MdnsRegistryOptions, MdnsSettings } from "./options.ts";
import { flagResponse, type Message } from "./packet.ts";
import { packetBytes, Querier } from "./querier.ts";
import { advertiseNode } from "./records.ts";
import { Responder } from "./responder.ts";

const source = "registry.mdns";

const mebibyte = 1024 * 1024;
/** Spent on announcements nobody asked for, in bytes a second: reading one costs some four times its inflated text. */
const announcementBudget = {
  each: { rate: 4 * mebibyte, burst: 16 * mebibyte },
  all: { rate: 8 * mebibyte, burst: 32 * mebibyte },
};
/** Questions read, in bytes a second. */
const questionBudget = {
  each: { rate: mebibyte, burst: 4 * mebibyte },
  all: { rate: 4 * mebibyte, burst: 16 * mebibyte },
};
/** Kept of the answers to one look-up, and of the names of one list, in bytes. */
const maxAnswerBytes = 32 * mebibyte;
const maxListBytes = 4 * mebibyte;

/**
 * Create a registry over multicast DNS. Opens nothing until it is used; sockets are closed while nothing is
 * registered, watched or looked up.
 *
 * What differs from other registries, as in Go: TTLs are ignored (nodes live until they say goodbye or stop
 * answering), service metadata does not travel, `listServices` gives names only, and a look-up takes `timeoutMs`. A
 * domain given to an operation takes the place of the registry's own.
 * @throws {TypeError} for options out of range, or that do not exist.
 */
export function mdnsRegistry(options: MdnsRegistryOptions = {}): Registry {
  return new MdnsRegistry(readOptions(options));
}

const optionNames: OptionNames<MdnsRegistryOptions> = {
  domain: true,
  timeoutMs: true,
  quietMs: true,
  interfaces: true,
  loopbackOnly: true,
  ttlSeconds: true,
  ipv4: true,
  ipv6: true,
  host: true,
  port: true,
  logger: optionKinds.logger,
};

function readOptions(options: MdnsRegistryOptions): MdnsSettings {
  checkOptionNames("mdnsRegistry", options, optionNames);
  const { domain = "micro", timeoutMs = 100, quietMs, ttlSeconds = 120, port = 5353 } = options;
  const families: Family[] = [];
  if (options.ipv4 !== false) families.push("IPv4");
  if (options.ipv6 !== false) families.push("IPv6");
  if (families.length === 0) throw new TypeError("mdnsRegistry: `ipv4` and `ipv6` cannot both be false");
  if (!(timeoutMs > 0 && timeoutMs <= 0x7fff_ffff)) throw new TypeError("mdnsRegistry: `timeoutMs` must be above 0");
  if (quietMs !== undefined && !(quietMs > 0 && quietMs <= 0x7fff_ffff))
    throw new TypeError("mdnsRegistry: `quietMs` must be above 0");
  if (!Number.isInteger(ttlSeconds) || ttlSeconds < 1 || ttlSeconds > 0x7fff_ffff)
    throw new TypeError("mdnsRegistry: `ttlSeconds` must be a whole number from 1");
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new TypeError("mdnsRegistry: `port` must be from 1 to 65535");
  if (options.interfaces?.length === 0)
    throw new TypeError("mdnsRegistry: `interfaces` is empty; leave it out for all");
  try {
    checkName("domain", domain, serviceName("_services", domain));
    if (options.host !== undefined) checkName("host", options.host, options.host);
  } catch (cause) {
    throw new TypeError(`mdnsRegistry: ${(cause as Error).message}`, { cause });
  }
  return {
    domain,
    timeoutMs,
    quietMs,
    ttlSeconds,
    port,
    families,
    interfaces: options.interfaces,
    loopbackOnly: options.loopbackOnly ?? false,
    host: options.host,
    logger: options.logger,
  };
}

class MdnsRegistry implements Registry {
  readonly name = "mdns";
  readonly #settings: MdnsSettings;
  readonly #listener: Listener;
  readonly #responder: Responder;
  readonly #querier: Querier;
  readonly #neighbourhood: Neighbourhood;
  readonly #watches = new Set<WatchSink>();
  readonly #link = new LocalLink();
  readonly #announcements = new Budget(announcementBudget);
  readonly #questions = new Budget(questionBudget);
  readonly #closed = new AbortController();
  #closing: Promise<void> | undefined;
  #host: string | undefined;
  #ignored = 0;

  constructor(settings: MdnsSettings) {
    this.#settings = settings;
    this.#listener = new Listener({
      settings,
      admits: (bytes, remote) => this.#admits(bytes, remote),
      onMessage: (message, remote, socket) => this.#handle(message, remote, socket),
      onIgnored: (reason, remote) => this.#ignore(reason, remote.address),
      onLost: (error) => {
        for (const watch of this.#watches) watch.fail(error);
      },
      onRestored: () => this.#responder.announce(),
    });
    this.#responder = new Responder(settings, this.#listener);
    this.#querier = new Querier(
      settings,
      (address) => this.#link.has(address),
      (reason, remote) => this.#ignore(reason, remote.address),
    );
    this.#neighbourhood = new Neighbourhood({
      settings,
      refresh: async (service, domain) => void (await this.#lookup(service, domain, {})),
      list: (domain) => this.#list(domain, {}),
      spend: (from, spent) => this.#announcements.spend(from, spent),
    });
  }

  async register(service: Service, options: RegisterOptions = {}): Promise<void> {
    this.#check("register", options);
    const copy = copyService(service);
    const host = (this.#host ??= hostName(this.#settings.host));
    const settings = { domain: this.#domain(options), host, ttlSeconds: this.#settings.ttlSeconds };
    // All or none: nothing is announced if one of them is refused.
    const nodes = copy.nodes.map((node) => advertiseNode(copy, node, settings));
    await Promise.all(nodes.map((node) => this.#responder.register(node, host)));
  }

  async deregister(service: Service, options: RegistryCallOptions = {}): Promise<void> {
    this.#check("deregister", options);
    const { name, nodes } = copyService(service, { nodes: "any" });
    const domain = this.#domain(options);
    await Promise.all(nodes.map(({ id }) => this.#responder.deregister({ domain, service: name, id })));
  }

  async getService(name: string, options: RegistryCallOptions = {}): Promise<Service[]> {
    this.#check("getService", options);
    const domain = this.#domain(options);
    // What cannot be registered is not there either.
    if (!isLookupName(name, domain)) return [];
    const found = await this.#lookup(name, domain, options);
    return groupByVersion(found);
  }

  async listServices(options: RegistryCallOptions = {}): Promise<Service[]> {
    this.#check("listServices", options);
    const names = await this.#list(this.#domain(options), options);
    return names.map((name) =>
      Object.freeze({ name, version: "", metadata: Object.freeze(Object.create(null)), endpoints: [], nodes: [] }),
    );
  }

  watch(options: WatchOptions = {}): Watcher {
    checkRegistryCall("watch", options);
    return registryWatcher({
      signal: options.signal,
      open: async (sink) => {
        if (this.#closed.signal.aborted) throw closed();
        const domain = this.#domain(options);
        this.#watches.add(sink);
        const lease: ListenerLease = this.#listener.acquire({ keepsAlive: options.background !== true });
        const stop = this.#neighbourhood.watch({ domain, service: options.service, emit: sink.emit });
        const close = async (): Promise<void> => {
          this.#watches.delete(sink);
          stop();
          await lease.release();
        };
        try {
          await lease.opened;
        } catch (error) {
          await close();
          throw error;
        }
        return close;
      },
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    this.#closed.abort();
    for (const watch of this.#watches) watch.end();
    await this.#responder.close();
    await this.#querier.close();
    await this.#listener.close();
  }

  /** The names of the services that answer, and of our own. */
  async #list(domain: string, options: RegistryCallOptions): Promise<string[]> {
    const list = listName(domain);
    const own = this.#responder.services(domain);
    const names = new FairTable<Kept>(maxListBytes);
    let answered = false;
    const collect = (message: Message, origin: Origin): boolean => {
      let fresh = false;
      answered = true;
      for (const record of [...message.answers, ...message.additionals]) {
        if (record.type !== "PTR" || record.name !== list || record.ttl === 0) continue;
        const service = partBefore(record.target, list);
        if (service === undefined || (names.has(service) && !origin.proven)) continue;
        fresh ||= !names.has(service);
        names.set(service, { source: origin.source, proven: origin.proven, bytes: packetBytes + 2 * service.length });
      }
      return fresh;
    };
    const end = await this.#ask(list, collect, options);
    const all = new Set(own);
    for (const [name] of names.entries()) all.add(name);
    if (end === "cut" && !answered && all.size === 0) throw timedOut(options);
    return [...all];
  }

  /** Everything that answers for a service: our own nodes, and those of others. */
  async #lookup(name: string, domain: string, options: RegistryCallOptions): Promise<Service[]> {
    const found = new FairTable<Kept & { readonly service: Service }>(maxAnswerBytes);
    const suffix = `.${serviceName(name, domain)}`;
    const collector = new EntryCollector((instance) => instance.endsWith(suffix));
    const collect = (message: Message, origin: Origin): boolean => {
      const budget = origin.proven ? this.#querier.answers : this.#announcements;
      let fresh = false;
      for (const entry of collector.add(message, origin)) {
        if (entry.ttl === 0) {
          found.delete(entry.instance);
          continue;
        }
        if (!budget.allows(origin.source)) continue;
        const spend = (bytes: number): void => budget.spend(origin.source, bytes);
        const service = this.#reading(entry, () => readEntry(entry, domain, spend));
        if (service?.name !== name) continue;
        this.#neighbourhood.hear(entry, domain, "answered", origin, service);
        const before = found.get(entry.instance);
        found.set(entry.instance, {
          source: origin.source,
          proven: origin.proven || before?.proven === true,
          bytes: heldBytes(service) + packetBytes,
          service,
        });
        fresh ||= before === undefined;
      }
      return fresh;
    };
    const own = this.#responder.nodes(name, domain);
    const end = await this.#ask(suffix.slice(1), collect, options).catch((error: unknown) => {
      // Without any network we still know ourselves.
      if (own.length === 0 || !MicroError.is(error) || error.code !== "unavailable") throw error;
      this.#settings.logger?.warn("mdns: only nodes of this process can be found", { error });
      return "full" as const;
    });
    const ownIds = new Set(own.map((node) => node.id));
    const others = [...found.values()].map(({ service }) => service);
    const services = [
      ...own.map((node) => node.record),
      ...others.filter((service) => !ownIds.has(service.nodes[0]!.id)),
    ];
    if (end === "cut" && services.length === 0) throw timedOut(options);
    return services;
  }

  async #ask(
    name: string,
    collect: (message: Message, origin: Origin) => boolean,
    options: RegistryCallOptions,
  ): Promise<"full" | "cut"> {
    try {
      const end = await this.#querier.ask(name, collect, options);
      if (this.#closed.signal.aborted) throw closed();
      return end;
    } catch (error) {
      throw this.#closed.signal.aborted ? closed(error) : error;
    }
  }

  /** Whether a packet on the group's port is read at all: by who sent it, and what that has cost lately. */
  #admits(bytes: Buffer, { address }: dgram.RemoteInfo): boolean {
    if (!this.#link.has(address)) return false;
    const response = ((bytes[2] ?? 0) & (flagResponse >> 8)) !== 0;
    if (response && this.#neighbourhood.idle && this.#querier.idle) return false;
    const budget = response ? this.#announcements : this.#questions;
    if (budget.allows(address)) {
      budget.spend(address, bytes.length + packetBytes);
      return true;
    }
    if (response) this.#neighbourhood.doubt();
    return false;
  }

  /** A message on the group's port. */
  #handle(message: Message, remote: dgram.RemoteInfo, socket: MulticastSocket): void {
    if ((message.flags & flagResponse) === 0) return this.#responder.answer(message, remote, socket);
    const origin: Origin = { source: remote.address, proven: false };
    this.#querier.deliver(message, origin);
    if (this.#neighbourhood.idle) return;
    const collector = new EntryCollector((instance) => this.#neighbourhood.wants(instance));
    for (const entry of collector.add(message, origin))
      for (const domain of this.#neighbourhood.domainsOf(entry.instance)) {
        if (!this.#announcements.allows(remote.address)) {
          this.#neighbourhood.doubt();
          break;
        }
        this.#reading(entry, () => this.#neighbourhood.hear(entry, domain, "announced", origin));
      }
    for (const instance of withdrawn(message)) this.#neighbourhood.withdraw(instance);
  }

  /** What `read` makes of an entry; undefined, and noted, if it cannot be read. */
  #reading<T>(entry: Entry, read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!MicroError.is(error)) throw error;
      this.#ignore(error, entry.instance);
      return undefined;
    }
  }

  #ignore(reason: unknown, from: string): void {
    this.#ignored++;
    this.#settings.logger?.debug("mdns: a packet was ignored", { from, reason, ignored: this.#ignored });
  }

  #domain({ domain }: { readonly domain?: string | undefined }): string {
    if (domain === undefined) return this.#settings.domain;
    if (domain === "*")
      throw new MicroError("mdns cannot ask for all domains at once", { id: source, code: "not_implemented" });
    checkName("domain", domain, serviceName("_services", domain));
    return domain;
  }

  #check(operation: RegistryOperation, options: RegisterOptions): void {
    const { signal } = options;
    if (this.#closed.signal.aborted) throw closed();
    if (signal?.aborted === true)
      throw new MicroError("cancelled by the caller", { id: source, code: "aborted", cause: signal.reason });
    checkRegistryCall(operation, options);
  }
}

/** One service per version, with the description that came first. */
function groupByVersion(services: readonly Service[]): Service[] {
  const versions = new Map<string, { first: Service; nodes: Node[] }>();
  for (const service of services) {
    const version = versions.get(service.version) ?? { first: service, nodes: [] };
    version.nodes.push(...service.nodes);
    versions.set(service.version, version);
  }
  return [...versions.values()].map(({ first, nodes }) => Object.freeze({ ...first, nodes: Object.freeze(nodes) }));
}

function isLookupName(name: string, domain: string): boolean {
  try {
    checkName("service name", name, serviceName(name, domain));
    return true;
  } catch {
    return false;
  }
}

/** The machine's name if DNS can carry it: others use it only to join records. */
function hostName(host: string | undefined): string {
  if (host !== undefined) return host;
  try {
    const name = os.hostname();
    checkName("host", name, name);
    return name;
  } catch {
    return "localhost";
  }
}

function timedOut({ timeoutMs }: RegistryCallOptions): MicroError {
  return new MicroError(`nothing answered within ${timeoutMs} ms`, { id: source, code: "timeout" });
}

function closed(cause?: unknown): MicroError {
  return new MicroError("the registry is closed", { id: source, code: "closed", cause });
}
