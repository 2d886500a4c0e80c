/** The registry of go-micro in etcd v3 (`registry/etcd/etcd.go`): its keys, its JSON, a lease per node. */
import {
  MicroError,
  checkRegistryCall,
  copyService,
  decodeService,
  encodeService,
  registryWatcher,
  type Node,
  type RegisterOptions,
  type Registry,
  type RegistryCallOptions,
  type RegistryOperation,
  type RegistryEvent,
  type Service,
  type WatchOptions,
  type WatchSink,
  type Watcher,
} from "@micro/core";
import { closedError, source } from "./errors.ts";
import { EtcdClient, type Bounds, type Listing } from "./etcd-client.ts";
import { KeyLayout, allDomains, encode } from "./keys.ts";
import { readOptions, type EtcdRegistryOptions, type EtcdSettings } from "./options.ts";
import type { KeyValue, WatchEvent } from "./protocol.ts";
import { NodeRegistration } from "./registration.ts";
import { EtcdWatch } from "./watch.ts";

/** Broken keys remembered, so that each is told of once. */
const maxRemembered = 1_000;
/** About how many bytes of memory the records of one list may take, and what a byte of JSON takes once it is read. */
const maxDecodedBytes = 256 * 1024 * 1024;
const decodedPerByte = 8;

/**
 * Create a registry in etcd v3. Connects on the first call, not here.
 *
 * A node is one key with a lease of its own; TTLs are whole seconds, rounded up, and etcd's own least is some 2 s. A
 * domain becomes a level of the keys; look-ups and watches of domain `*` see all.
 * @throws {TypeError} naming the option that is wrong.
 */
export function etcdRegistry(options: EtcdRegistryOptions = {}): Registry {
  return new EtcdRegistry(readOptions(options));
}

class EtcdRegistry implements Registry {
  readonly name = "etcd";
  readonly #settings: EtcdSettings;
  readonly #client: EtcdClient;
  readonly #keys: KeyLayout;
  readonly #own = new Map<string, NodeRegistration>();
  readonly #watches = new Set<WatchSink>();
  readonly #ignored = new Set<string>();
  #toldOfBounds = false;
  /** Times a key was ignored. */
  #ignoredCount = 0;

  constructor(settings: EtcdSettings) {
    this.#settings = settings;
    this.#client = new EtcdClient(settings);
    this.#keys = new KeyLayout(settings.namespace);
  }

  async register(service: Service, options: RegisterOptions = {}): Promise<void> {
    const bounds = this.#begin("register", options);
    const { ttlMs } = options;
    const domain = oneDomain(options.domain);
    const copy = copyService(service);
    const ttlSeconds = ttlMs === undefined ? undefined : Math.ceil(ttlMs / 1_000);
    await Promise.all(
      copy.nodes.map((node) => {
        const value = Buffer.from(encodeService({ ...copy, nodes: [node] }));
        return this.#registration(domain, copy, node).put(value, ttlSeconds, bounds);
      }),
    );
  }

  async deregister(service: Service, options: RegistryCallOptions = {}): Promise<void> {
    const bounds = this.#begin("deregister", options);
    const domain = oneDomain(options.domain);
    const copy = copyService(service, { nodes: "any" });
    await Promise.all(
      copy.nodes.map(async (node) => {
        const registration = this.#registration(domain, copy, node);
        await registration.remove(bounds);
        const key = this.#keys.node(domain, copy.name, node.id).toString();
        if (this.#own.get(key) === registration && registration.idle) this.#own.delete(key);
      }),
    );
  }

  async getService(name: string, options: RegistryCallOptions = {}): Promise<Service[]> {
    const bounds = this.#begin("getService", options);
    const domain = named(options.domain);
    const listing = await this.#client.list(`look-up of ${name}`, this.#keys.service(domain, name), bounds);
    return merge(this.#decodeAll(listing, domain).filter((found) => found.name === name));
  }

  async listServices(options: RegistryCallOptions = {}): Promise<Service[]> {
    const bounds = this.#begin("listServices", options);
    const domain = named(options.domain);
    const listing = await this.#client.list("list of services", this.#keys.all(domain), bounds);
    return merge(this.#decodeAll(listing, domain));
  }

  watch(options: WatchOptions = {}): Watcher {
    checkRegistryCall("watch", options);
    const domain = named(options.domain);
    const { service, background = false } = options;
    return registryWatcher({
      signal: options.signal,
      open: async (sink, signal) => {
        if (this.#client.closed.aborted) throw closedError();
        const watch = new EtcdWatch({
          client: this.#client,
          prefix: service === undefined ? this.#keys.all(domain) : this.#keys.service(domain, service),
          what: service === undefined ? "watch" : `watch of ${service}`,
          sink,
          resumeMs: this.#settings.timeoutMs,
          onEvent: (event) => {
            for (const told of this.#translate(event, domain))
              if (service === undefined || told.service.name === service) sink.emit(told);
          },
          onResume: (reason) => this.#settings.logger?.debug(`Registry [etcd] Watch resumed after: ${reason.detail}`),
        });
        await watch.start(signal);
        if (this.#client.closed.aborted) {
          watch.stop();
          throw closedError();
        }
        this.#watches.add(sink);
        // The connection does not keep the process alive.
        const keepAlive = background ? undefined : setInterval(() => {}, 0x7fff_ffff);
        return () => {
          this.#watches.delete(sink);
          clearInterval(keepAlive);
          watch.stop();
        };
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const sink of this.#watches) sink.end();
    this.#client.close();
    this.#own.clear();
  }

  #registration(domain: string | undefined, service: Service, node: Node): NodeRegistration {
    const key = this.#keys.node(domain, service.name, node.id);
    const name = key.toString();
    const known = this.#own.get(name);
    if (known !== undefined) return known;
    const registration = new NodeRegistration(this.#client, key, node.id);
    this.#own.set(name, registration);
    return registration;
  }

  /** Oldest change first, so that of several nodes the latest describes its version. */
  #decodeAll({ entries, cut }: Listing, domain: string | undefined): Service[] {
    const services: Service[] = [];
    let bytes = 0;
    let dropped = 0;
    for (const entry of entries.toSorted((a, b) => Number(a.mod_revision) - Number(b.mod_revision))) {
      if (bytes > maxDecodedBytes) {
        dropped++;
        continue;
      }
      const service = this.#decode(entry, domain);
      if (service === undefined) continue;
      bytes += entry.value.length * decodedPerByte;
      services.push(service);
    }
    if ((cut || dropped > 0) && !this.#toldOfBounds) {
      this.#toldOfBounds = true;
      this.#settings.logger?.warn("Registry [etcd] More records than are read; further ones are ignored", { dropped });
    }
    return services;
  }

  /** The record of a key; undefined, and counted, if it is none. */
  #decode(entry: KeyValue, domain: string | undefined): Service | undefined {
    const parts = this.#keys.parse(entry.key, domain);
    if (parts === undefined) {
      // Keys of the domains lie below the prefix of none; they are others', not foreign.
      if (this.#keys.parse(entry.key, allDomains) === undefined) this.#ignore(entry.key, "it is not a node's key");
      return undefined;
    }
    try {
      const service = decodeService(entry.value);
      if (encode(service.name) === parts.service && service.nodes.some(({ id }) => id !== "")) return service;
      this.#ignore(entry.key, `its record is of ${JSON.stringify(service.name)}, or without a node`);
    } catch (error) {
      this.#ignore(entry.key, (error as Error).message);
    }
    return undefined;
  }

  #translate(event: WatchEvent, domain: string | undefined): RegistryEvent[] {
    const { kv } = event;
    const parts = this.#keys.parse(kv.key, domain);
    if (parts === undefined) return [];
    const previous = event.prev_kv;
    const before = previous === null ? undefined : this.#decode({ ...previous, key: kv.key }, domain);
    const removed = event.type === "DELETE";
    const now = removed ? undefined : this.#decode(kv, domain);
    if (now === undefined) {
      if (before !== undefined) return [{ action: "delete", service: before }];
      // What was put there was never shown.
      if (!removed || previous !== null) return [];
      // The value was compacted away; the key still says which node it was.
      const node = { id: parts.node, address: "", metadata: {} };
      return [
        { action: "delete", service: { name: parts.service, version: "", metadata: {}, endpoints: [], nodes: [node] } },
      ];
    }
    if (before !== undefined && before.version !== now.version)
      return [
        { action: "delete", service: before },
        { action: "create", service: now },
      ];
    const created = before === undefined || kv.create_revision === kv.mod_revision;
    return [{ action: created ? "create" : "update", service: now }];
  }

  #ignore(key: Buffer, reason: string): void {
    this.#ignoredCount++;
    const name = shown(key.toString());
    if (this.#ignored.has(name) || this.#ignored.size >= maxRemembered) return;
    this.#ignored.add(name);
    this.#settings.logger?.warn(`Registry [etcd] Ignored key ${name}: ${reason}`, { ignored: this.#ignoredCount });
  }

  /** Refuse what cannot be done. Gives the bounds of what can. */
  #begin(operation: RegistryOperation, options: RegisterOptions): Bounds {
    const { signal } = options;
    const { timeoutMs } = checkRegistryCall(operation, options, this.#settings.timeoutMs);
    if (this.#client.closed.aborted) throw closedError();
    if (signal?.aborted === true)
      throw new MicroError("registry etcd: cancelled by the caller", {
        id: source,
        code: "aborted",
        cause: signal.reason,
      });
    return { signal, timeoutMs };
  }
}

function shown(key: string): string {
  return key.length > 200 ? `${key.slice(0, 200)}…` : key;
}

function named(domain: string | undefined): string | undefined {
  return domain === "" ? undefined : domain;
}

function oneDomain(domain: string | undefined): string | undefined {
  if (domain === allDomains)
    throw new MicroError("registry etcd: a service is in one domain: `*` is for look-ups", {
      id: source,
      code: "bad_request",
    });
  return named(domain);
}

/** One service per name and version, sorted; the last record of a version describes it. */
function merge(records: readonly Service[]): Service[] {
  const byVersion = new Map<string, { record: Service; nodes: Map<string, Node> }>();
  for (const record of records) {
    const key = `${record.name}\0${record.version}`;
    const known = byVersion.get(key) ?? { record, nodes: new Map<string, Node>() };
    known.record = record;
    for (const node of record.nodes) if (node.id !== "") known.nodes.set(node.id, node);
    byVersion.set(key, known);
  }
  return [...byVersion]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([, { record, nodes }]) => Object.freeze({ ...record, nodes: Object.freeze([...nodes.values()]) }));
}
