/** The nodes of one service as told by lists and events, and the immutable view of them. Pure data, no I/O. */
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
}

/** What {@link NodeTable.list} did. */
export interface ListOutcome {
  readonly changed: boolean;
  /** Nodes the list lacked that are kept until another list lacks them, too. */
  readonly unconfirmed: number;
}

/** See the head of this file. */
export class NodeTable {
  readonly #maxNodes: number;
  readonly #number: () => number;
  readonly #nodes = new Map<string, HeldNode>();
  readonly #versions = new Map<string, VersionRecord>();
  /** Nodes refused because the table was full. */
  refused = 0;

  /** @param number Gives a number never given before. */
  constructor(maxNodes: number, number: () => number) {
    this.#maxNodes = maxNodes;
    this.#number = number;
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
      record = { name, version, metadata, endpoints, nodes: 0 };
      this.#versions.set(version, record);
    } else if (replaceRecord) {
      if (!sameData(record.metadata, service.metadata)) {
        record.metadata = service.metadata;
        changed = true;
      }
      if (!sameData(record.endpoints, service.endpoints)) {
        record.endpoints = service.endpoints;
        changed = true;
      }
    }
    for (const node of service.nodes) if (this.#put(node, record)) changed = true;
    if (record.nodes === 0) this.#versions.delete(record.version);
    return changed;
  }

  #put(node: Node, version: VersionRecord): boolean {
    const held = this.#nodes.get(node.id);
    if (held === undefined) {
      if (this.#nodes.size >= this.#maxNodes) {
        this.refused++;
        return false;
      }
      this.#nodes.set(node.id, { node, version, incarnation: this.#number(), misses: 0 });
      version.nodes++;
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
    if (held.node.address !== node.address) held.incarnation = this.#number();
    if (held.node.address !== node.address || !sameData(held.node.metadata, node.metadata)) {
      held.node = node;
      changed = true;
    }
    return changed;
  }

  #remove(id: string, held: HeldNode): true {
    this.#nodes.delete(id);
    this.#leave(held.version);
    return true;
  }

  #leave(version: VersionRecord): void {
    if (--version.nodes === 0) this.#versions.delete(version.version);
  }
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
