/** The nodes of one service joined with their health, brought up to date when either changes. */
import type { CacheSnapshot } from "../registry/cache.ts";
import type { Node, Service } from "../registry/registry.ts";
import type { EjectionLimit, HealthTable, NodeHealth } from "./health.ts";
import type { Candidate, Strategy, StrategyName } from "./selector.ts";
import type { StaleRecord } from "./stale-record.ts";

/** A node with its health. */
export class NodeCandidate implements Candidate {
  readonly node: Node;
  readonly service: Service;
  readonly health: NodeHealth;
  readonly incarnation: number;
  /** Set since the record led to another service's process. */
  stale: StaleRecord | undefined;

  constructor(node: Node, service: Service, health: NodeHealth, incarnation: number) {
    this.node = node;
    this.service = service;
    this.health = health;
    this.incarnation = incarnation;
  }

  get inFlight(): number {
    return this.health.inFlight;
  }

  get latencyMs(): number | undefined {
    return this.health.latencyMs;
  }

  get weight(): number {
    return this.health.weight;
  }

  /** May be picked. */
  get ready(): boolean {
    return this.health.ready && this.stale?.out !== true;
  }
}

/** See the head of this file. */
export class ServiceView implements EjectionLimit {
  readonly name: string;
  readonly domain: string | undefined;
  /** Every node. */
  all: readonly NodeCandidate[] = [];
  /** Those that may be picked now. */
  ready: readonly NodeCandidate[] = [];
  /** Strategies by name: one of its own per service, since some count. */
  readonly strategies = new Map<StrategyName, Strategy>();
  readonly #table: HealthTable;
  #version = -1;
  #epoch = -1;
  #readyAt = Number.POSITIVE_INFINITY;

  constructor(name: string, domain: string | undefined, table: HealthTable) {
    this.name = name;
    this.domain = domain;
    this.#table = table;
  }

  /** Bring it up to date with the registry, the health records and the time (`table.now`). */
  update(snapshot: CacheSnapshot): void {
    const table = this.#table;
    if (snapshot.version !== this.#version) this.#takeOver(snapshot);
    else if (table.epoch === this.#epoch && table.now < this.#readyAt) return;
    this.#epoch = table.epoch;
    this.#readyAt = Number.POSITIVE_INFINITY;
    let out = 0;
    for (const candidate of this.all) {
      if (candidate.ready) continue;
      out++;
      const { health, stale } = candidate;
      const readyAt = stale?.out === true ? Math.max(stale.until, health.ready ? 0 : health.readyAt) : health.readyAt;
      this.#readyAt = Math.min(this.#readyAt, readyAt);
    }
    this.ready = out === 0 ? this.all : this.all.filter((candidate) => candidate.ready);
  }

  /** At most half of the nodes, rounded up, are put out for failing; else the rest would be crushed. */
  mayEject(): boolean {
    let out = 0;
    for (const { health, stale } of this.all) if (health.out !== undefined || stale?.out === true) out++;
    return out < Math.ceil(this.all.length / 2);
  }

  /** Give up the health records. */
  release(): void {
    for (const { health } of this.all) this.#table.release(health);
    this.all = this.ready = [];
    this.#version = -1;
  }

  #takeOver(snapshot: CacheSnapshot): void {
    const before = this.all;
    const known = new Map<string, NodeCandidate>();
    for (const candidate of before) known.set(candidate.node.id, candidate);
    this.all = snapshot.nodes.map(({ node, service, incarnation }) => {
      const health = this.#table.acquire(node.address);
      const same = known.get(node.id);
      const candidate = new NodeCandidate(node, service, health, incarnation);
      if (same?.incarnation === incarnation) candidate.stale = same.stale;
      else if (this.#version >= 0) health.reset();
      return candidate;
    });
    for (const { health } of before) this.#table.release(health);
    this.#version = snapshot.version;
  }
}
