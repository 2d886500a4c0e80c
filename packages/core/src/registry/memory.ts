/**
 * The registry of one process: for tests, for services that live together, and the reference of the conformance
 * suite. Go's counterpart is `registry/memory.go`; unlike it, expiry is an event, changes are stored, and a service
 * without nodes is gone.
 */
import { MicroError } from "../errors.ts";
import { checkOptionNames, type OptionNames } from "../option-check.ts";
import { checkRegistryCall, type RegistryOperation } from "./call-options.ts";
import { copyService, equalDescriptions, equalNodes } from "./record.ts";
import type {
  Node,
  RegisterOptions,
  Registry,
  RegistryCallOptions,
  RegistryEvent,
  Service,
  WatchOptions,
  Watcher,
} from "./registry.ts";
import { registryWatcher } from "./watch-stream.ts";

const source = "registry.memory";
/** Means every domain, in look-ups and watches. */
const allDomains = "*";

/** Settings of {@link memoryRegistry}. */
export interface MemoryRegistryOptions {
  /** Services that are there from the start, without expiry. Default: none. */
  services?: readonly Service[] | undefined;
  /** What instances share; see {@link memoryNetwork}. Default: a network of its own. */
  network?: MemoryNetwork | undefined;
}

const optionNames: OptionNames<MemoryRegistryOptions> = { services: true, network: true };

/** The place where memory registries meet. Made by {@link memoryNetwork}. */
export interface MemoryNetwork {
  readonly kind: "memory network";
}

/** A network for {@link memoryRegistry}: instances given the same one see each other's services. */
export function memoryNetwork(): MemoryNetwork {
  return new Network();
}

/**
 * Create a registry in memory. TTLs are honoured to the millisecond; disposing it removes what it registered.
 * @throws {TypeError} if `network` was not made by {@link memoryNetwork}, or for an option that does not exist.
 * @throws {MicroError} `bad_request` if one of `services` is not a service with nodes.
 */
export function memoryRegistry(options: MemoryRegistryOptions = {}): Registry {
  checkOptionNames("memoryRegistry", options, optionNames);
  const network = options.network ?? new Network();
  if (!(network instanceof Network)) throw new TypeError("memoryRegistry: make `network` with memoryNetwork()");
  return new MemoryRegistry(network, options.services ?? []);
}

interface Entry {
  readonly node: Node;
  readonly owner: MemoryRegistry;
  /** On the clock of `performance.now()`; Infinity = never. */
  readonly expiresAt: number;
}

/** One version of a service: its description as registered last, and its nodes by id. */
interface Version {
  description: Service;
  readonly nodes: Map<string, Entry>;
}

class Network implements MemoryNetwork {
  readonly kind = "memory network";
  /** By domain and name, then by version. */
  readonly #services = new Map<string, Map<string, Version>>();
  readonly #watchers = new Set<{ domain: string; service: string | undefined; emit(event: RegistryEvent): void }>();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Infinity;

  register(owner: MemoryRegistry, domain: string, service: Service, ttlMs: number | undefined): void {
    this.#expire();
    const versions = this.#services.get(key(domain, service.name)) ?? new Map<string, Version>();
    this.#services.set(key(domain, service.name), versions);
    const description: Service = Object.freeze({ ...service, nodes: Object.freeze([]) });
    const expiresAt = ttlMs === undefined ? Infinity : performance.now() + ttlMs;
    // An id is one node: registered under another version it has moved there.
    for (const [name, version] of versions)
      if (name !== service.version)
        this.#remove(domain, version, (entry) => service.nodes.some((node) => node.id === entry.node.id));
    const known = versions.get(service.version);
    const version: Version = known ?? { description, nodes: new Map() };
    const redescribed = known !== undefined && !equalDescriptions(known.description, description);
    version.description = description;
    versions.set(service.version, version);
    // Emptied by the move, the service was taken out.
    this.#services.set(key(domain, service.name), versions);
    const created: Node[] = [];
    const updated: Node[] = [];
    for (const node of service.nodes) {
      const before = version.nodes.get(node.id);
      if (before === undefined) created.push(node);
      else if (!equalNodes(before.node, node)) updated.push(node);
      version.nodes.set(node.id, { node, owner, expiresAt });
    }
    // A changed description concerns the nodes that were there already.
    const changed = redescribed
      ? [...version.nodes.values()].map((entry) => entry.node).filter((node) => !created.includes(node))
      : updated;
    this.#emit(domain, "create", description, created);
    this.#emit(domain, "update", description, changed);
    this.#schedule(expiresAt);
  }

  deregister(domain: string, service: Service): void {
    this.#expire();
    const ids = new Set(service.nodes.map((node) => node.id));
    for (const version of this.#services.get(key(domain, service.name))?.values() ?? [])
      this.#remove(domain, version, (entry) => ids.has(entry.node.id));
  }

  get(domain: string, name: string): Service[] {
    this.#expire();
    if (domain === allDomains) return this.#everywhere((each) => each === name);
    return [...(this.#services.get(key(domain, name))?.values() ?? [])].map(snapshot);
  }

  list(domain: string): Service[] {
    this.#expire();
    if (domain === allDomains) return this.#everywhere(() => true);
    const prefix = key(domain, "");
    return [...this.#services]
      .filter(([name]) => name.startsWith(prefix))
      .flatMap(([, versions]) => [...versions.values()].map(snapshot));
  }

  /** What the domains call by the same name and version is one service. */
  #everywhere(wanted: (name: string) => boolean): Service[] {
    const merged = new Map<string, Service>();
    for (const [place, versions] of this.#services) {
      if (!wanted(place.slice(place.indexOf("\0") + 1))) continue;
      for (const service of [...versions.values()].map(snapshot)) {
        const at = key(service.name, service.version);
        const nodes = [...(merged.get(at)?.nodes ?? []), ...service.nodes];
        merged.set(at, Object.freeze({ ...service, nodes: Object.freeze(nodes) }));
      }
    }
    return [...merged.values()];
  }

  watch(domain: string, service: string | undefined, emit: (event: RegistryEvent) => void): () => void {
    const watcher = { domain, service, emit };
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  /** Remove what `owner` registered. */
  leave(owner: MemoryRegistry): void {
    this.#removeAll((entry) => entry.owner === owner);
    if (this.#services.size > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timerAt = Infinity;
  }

  #expire(): void {
    if (performance.now() < this.#timerAt) return;
    const now = performance.now();
    this.#removeAll((entry) => entry.expiresAt <= now);
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timerAt = Infinity;
    for (const versions of this.#services.values())
      for (const version of versions.values())
        for (const entry of version.nodes.values()) this.#schedule(entry.expiresAt);
  }

  #removeAll(gone: (entry: Entry) => boolean): void {
    for (const [name, versions] of this.#services)
      for (const version of versions.values()) this.#remove(name.slice(0, name.indexOf("\0")), version, gone);
  }

  #remove(domain: string, version: Version, gone: (entry: Entry) => boolean): void {
    const removed = [...version.nodes.values()].filter(gone).map((entry) => entry.node);
    for (const node of removed) version.nodes.delete(node.id);
    if (version.nodes.size === 0) {
      const name = key(domain, version.description.name);
      const versions = this.#services.get(name);
      versions?.delete(version.description.version);
      if (versions?.size === 0) this.#services.delete(name);
    }
    this.#emit(domain, "delete", version.description, removed);
  }

  /** One timer, for the entry that expires first; it keeps no process alive. */
  #schedule(at: number): void {
    if (at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    const delay = Math.min(Math.max(0, Math.ceil(at - performance.now())), 0x7fff_ffff);
    this.#timer = setTimeout(() => {
      // A delay beyond a timer's range, or a timer that fired early: look again.
      this.#timerAt = Math.min(this.#timerAt, performance.now());
      this.#expire();
    }, delay);
    this.#timer.unref();
  }

  #emit(domain: string, action: RegistryEvent["action"], description: Service, nodes: readonly Node[]): void {
    if (nodes.length === 0) return;
    const event = Object.freeze({
      action,
      service: Object.freeze({ ...description, nodes: Object.freeze([...nodes]) }),
    });
    for (const watcher of this.#watchers)
      if (
        (watcher.domain === domain || watcher.domain === allDomains) &&
        (watcher.service === undefined || watcher.service === description.name)
      )
        watcher.emit(event);
  }
}

function snapshot({ description, nodes }: Version): Service {
  return Object.freeze({ ...description, nodes: Object.freeze([...nodes.values()].map((entry) => entry.node)) });
}

function key(domain: string, name: string): string {
  return `${domain}\0${name}`;
}

class MemoryRegistry implements Registry {
  readonly name = "memory";
  readonly #network: Network;
  readonly #watchEnds = new Set<() => void>();
  #closed = false;

  constructor(network: Network, services: readonly Service[]) {
    this.#network = network;
    for (const service of services) network.register(this, "", copyService(service), undefined);
  }

  async register(service: Service, options: RegisterOptions = {}): Promise<void> {
    this.#check("register", options);
    const copy = copyService(service);
    this.#network.register(this, oneDomain(options), copy, options.ttlMs);
  }

  async deregister(service: Service, options: RegistryCallOptions = {}): Promise<void> {
    this.#check("deregister", options);
    this.#network.deregister(oneDomain(options), copyService(service, { nodes: "any" }));
  }

  async getService(name: string, options: RegistryCallOptions = {}): Promise<Service[]> {
    this.#check("getService", options);
    return this.#network.get(options.domain ?? "", name);
  }

  async listServices(options: RegistryCallOptions = {}): Promise<Service[]> {
    this.#check("listServices", options);
    return this.#network.list(options.domain ?? "");
  }

  watch(options: WatchOptions = {}): Watcher {
    checkRegistryCall("watch", options);
    return registryWatcher({
      signal: options.signal,
      open: async (sink) => {
        if (this.#closed) throw closed();
        this.#watchEnds.add(sink.end);
        const stop = this.#network.watch(options.domain ?? "", options.service, sink.emit);
        return () => {
          this.#watchEnds.delete(sink.end);
          stop();
        };
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const end of this.#watchEnds) end();
    this.#network.leave(this);
  }

  #check(operation: RegistryOperation, options: RegisterOptions): void {
    const { signal } = options;
    if (this.#closed) throw closed();
    checkRegistryCall(operation, options);
    if (signal?.aborted === true)
      throw new MicroError("cancelled by the caller", { id: source, code: "aborted", cause: signal.reason });
  }
}

function oneDomain({ domain = "" }: RegistryCallOptions): string {
  if (domain !== allDomains) return domain;
  throw new MicroError("a service is in one domain: `*` is for look-ups", { id: source, code: "bad_request" });
}

function closed(): MicroError {
  return new MicroError("the registry is closed", { id: source, code: "closed" });
}
