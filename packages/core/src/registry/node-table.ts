/** The nodes of one service as told by lists and events, and the immutable view of them. Pure data, no I/O. */
import { heldByEndpoints, heldByMap, heldByNode } from "./held-bytes.ts";
import type { Endpoint, Node, RegistryEvent, Service, StringMap } from "./registry.ts";

/** A node with the service record it belongs to. */
export interface CachedNode {
  readonly node: Node;
  /** The version this node runs, with all of its nodes. */
  readonly service: Service;
  /**
   * Changes when the node is registered anew: after it was gone, or at another address. What was learned about the
   * old one (its health) does not hold for the new one.
   */
  readonly incarnation: number;
}

interface HeldNode {
  node: Node;
  bytes: number;
  version: VersionRecord;
  incarnation: number;
  /** Lists in a row that lacked it. */
  misses: number;
}

interface VersionRecord {
  readonly name: string;
  readonly version: string;
  metadata: StringMap;
  endpoints: readonly Endpoint[];
  nodes: number;
  bytes: number;
}

/** What a node costs in table and view beside what it says; a version likewise. */
const entryBytes = 400;

/** What all tables of a cache hold together. */
export interface SharedBytes {
  readonly max: number;
  /** Tables at present. */
  readonly tables: () => number;
  used: number;
}

/** Bounds of a {@link NodeTable}. */
export interface NodeTableOptions {
  readonly maxNodes: number;
  /** About how many bytes of memory. */
  readonly maxBytes: number;
  readonly shared: SharedBytes;
  /** Gives a number never given before. */
  readonly number: () => number;
}

/** What {@link NodeTable.list} did. */
export interface ListOutcome {
  readonly changed: boolean;
  /** Nodes the list lacked that are kept until another list lacks them, too. */
  readonly unconfirmed: number;
}

/** See the head of this file. */
export class NodeTable {
  readonly #options: NodeTableOptions;
  #bytes = 0;
  #released = false;
  readonly #nodes = new Map<string, HeldNode>();
  readonly #versions = new Map<string, VersionRecord>();
  /** Nodes refused because the table was full. */
  refused = 0;

  constructor(options: NodeTableOptions) {
    this.#options = options;
  }

  /** About how many bytes of memory it holds. */
  get bytes(): number {
    return this.#bytes;
  }

  /** It no longer counts with the others: nobody but who waits for it at this moment sees it again. */
  release(): void {
    if (!this.#released) this.#options.shared.used -= this.#bytes;
    this.#released = true;
  }

  get size(): number {
    return this.#nodes.size;
  }

  /** Apply an event; true if it changed anything. Repeated events change nothing. */
  event({ action, service }: RegistryEvent): boolean {
    if (action !== "delete") return this.#merge(service, service.endpoints.length > 0);
    let changed = false;
    if (service.nodes.length === 0) {
      for (const [id, held] of this.#nodes)
        if (service.version === "" || held.version.version === service.version) changed = this.#remove(id, held);
      return changed;
    }
    for (const { id } of service.nodes) {
      const held = this.#nodes.get(id);
      // A late goodbye of the version a node ran before does not end the version it runs now.
      if (held !== undefined && (service.version === "" || held.version.version === service.version))
        changed = this.#remove(id, held);
    }
    return changed;
  }

  /** True if the event removes all that is left. */
  empties({ action, service }: RegistryEvent): boolean {
    if (action !== "delete" || this.#nodes.size === 0) return false;
    if (service.nodes.length > 0 && service.nodes.length < this.#nodes.size) return false;
    const ids = new Set(service.nodes.map(({ id }) => id));
    for (const [id, held] of this.#nodes) {
      const listed = ids.size === 0 || ids.has(id);
      if (!listed || (service.version !== "" && held.version.version !== service.version)) return false;
    }
    return true;
  }

  /** Take over a complete list. A node it lacks goes once `missesToRemove` lists in a row have lacked it. */
  list(services: readonly Service[], missesToRemove: number): ListOutcome {
    let changed = false;
    let unconfirmed = 0;
    const seen = new Set<string>();
    for (const service of services) {
      if (this.#merge(service, true)) changed = true;
      for (const node of service.nodes) seen.add(node.id);
    }
    for (const [id, held] of this.#nodes) {
      if (seen.has(id)) continue;
      if (++held.misses >= missesToRemove) changed = this.#remove(id, held);
      else unconfirmed++;
    }
    return { changed, unconfirmed };
  }

  /** The present state, frozen. Costs time in proportion to the number of nodes. */
  view(): { readonly services: readonly Service[]; readonly nodes: readonly CachedNode[] } {
    const lists = new Map<VersionRecord, { service: Service; nodes: Node[] }>();
    const nodes: CachedNode[] = [];
    for (const { node, version, incarnation } of this.#nodes.values()) {
      let list = lists.get(version);
      if (list === undefined) {
        const members: Node[] = [];
        const { name, metadata, endpoints } = version;
        list = { service: { name, version: version.version, metadata, endpoints, nodes: members }, nodes: members };
        lists.set(version, list);
      }
      list.nodes.push(node);
      nodes.push({ node, service: list.service, incarnation });
    }
    const services: Service[] = [];
    for (const list of lists.values()) {
      Object.freeze(list.nodes);
      services.push(Object.freeze(list.service));
    }
    return { services: Object.freeze(services), nodes: Object.freeze(nodes) };
  }

  #merge(service: Service, replaceRecord: boolean): boolean {
    if (service.nodes.length === 0) return false;
    let changed = false;
    let record = this.#versions.get(service.version);
    if (record === undefined) {
      const { name, version, metadata, endpoints } = service;
      const bytes = bytesOf(service);
      if (!this.#admits(bytes)) {
        this.refused += service.nodes.length;
        return false;
      }
      record = { name, version, metadata, endpoints, nodes: 0, bytes };
      this.#versions.set(version, record);
      this.#charge(bytes);
    } else if (replaceRecord && this.#describe(record, service)) {
      changed = true;
    }
    for (const node of service.nodes) if (this.#put(node, record)) changed = true;
    if (record.nodes === 0) this.#forget(record);
    return changed;
  }

  /** Take over what a version says of itself; true if that is news. */
  #describe(record: VersionRecord, service: Service): boolean {
    const sameMetadata = sameData(record.metadata, service.metadata);
    const sameEndpoints = sameData(record.endpoints, service.endpoints);
    if (sameMetadata && sameEndpoints) return false;
    const bytes = bytesOf(service);
    // It stays as it was, then.
    if (bytes > record.bytes && !this.#admits(bytes - record.bytes)) {
      this.refused++;
      return false;
    }
    this.#charge(bytes - record.bytes);
    record.bytes = bytes;
    if (!sameMetadata) record.metadata = service.metadata;
    if (!sameEndpoints) record.endpoints = service.endpoints;
    return true;
  }

  /**
   * There is room. When all tables together are full, each still has its even share, so that a service with thousands of
   * forged nodes leaves room for the others.
   */
  #admits(bytes: number): boolean {
    const { maxBytes, shared } = this.#options;
    const after = this.#bytes + bytes;
    return (
      after <= maxBytes && (shared.used + bytes <= shared.max || after <= shared.max / Math.max(1, shared.tables()))
    );
  }

  #charge(bytes: number): void {
    this.#bytes += bytes;
    if (!this.#released) this.#options.shared.used += bytes;
  }

  #forget(version: VersionRecord): void {
    if (this.#versions.delete(version.version)) this.#charge(-version.bytes);
  }

  #put(node: Node, version: VersionRecord): boolean {
    const held = this.#nodes.get(node.id);
    if (held === undefined) {
      const bytes = entryBytes + heldByNode(node);
      if (this.#nodes.size >= this.#options.maxNodes || !this.#admits(bytes)) {
        this.refused++;
        return false;
      }
      this.#nodes.set(node.id, { node, bytes, version, incarnation: this.#options.number(), misses: 0 });
      version.nodes++;
      this.#charge(bytes);
      return true;
    }
    held.misses = 0;
    let changed = false;
    if (held.version !== version) {
      this.#leave(held.version);
      held.version = version;
      version.nodes++;
      changed = true;
    }
    if (held.node.address !== node.address || !sameData(held.node.metadata, node.metadata)) {
      const bytes = entryBytes + heldByNode(node);
      // Too large to be taken over, it is not what it was either.
      if (bytes > held.bytes && !this.#admits(bytes - held.bytes)) {
        this.refused++;
        return this.#remove(node.id, held);
      }
      if (held.node.address !== node.address) held.incarnation = this.#options.number();
      this.#charge(bytes - held.bytes);
      held.bytes = bytes;
      held.node = node;
      changed = true;
    }
    return changed;
  }

  #remove(id: string, held: HeldNode): true {
    this.#nodes.delete(id);
    this.#charge(-held.bytes);
    this.#leave(held.version);
    return true;
  }

  #leave(version: VersionRecord): void {
    if (--version.nodes === 0) this.#forget(version);
  }
}

function bytesOf({ name, version, metadata, endpoints }: Service): number {
  return entryBytes + 2 * (name.length + version.length) + heldByMap(metadata) + heldByEndpoints(endpoints);
}

/** Equality of plain data, whatever the prototypes. */
function sameData(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a)) {
    if (!Array.isArray(b) || a.length !== b.length) return false;
    return a.every((value, index) => sameData(value, b[index]));
  }
  const keys = Object.keys(a);
  if (Array.isArray(b) || keys.length !== Object.keys(b).length) return false;
  return keys.every(
    (key) =>
      Object.hasOwn(b, key) && sameData((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]),
  );
}
