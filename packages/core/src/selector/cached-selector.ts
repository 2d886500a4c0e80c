/** The default selector: nodes from the registry cache, minus those that traffic has put out. */
import { systemClock } from "../clock.ts";
import type { Clock } from "../clock.ts";
import { MicroError, type ErrorCode } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import { registryCache } from "../registry/cache.ts";
import type { CacheFacts, CacheSnapshot, RegistryCache } from "../registry/cache.ts";
import type { Node, Registry, Service } from "../registry/registry.ts";
import { checkOptionNames, type OptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import { HealthTable } from "./health.ts";
import { verdictOf, type EjectionLimit } from "./health.ts";
import type { NodeFilter, PickOptions, Selection, Selector, Strategy, StrategyName } from "./selector.ts";
import { NodeCandidate, ServiceView } from "./service-view.ts";
import { StaleRecord } from "./stale-record.ts";
import { strategyByName } from "./strategies.ts";

/** Settings of {@link cachedSelector}. */
export interface CachedSelectorOptions {
  /** Where services are looked up. A registry gets a cache of the selector's own; a cache stays its owner's. */
  registry: Registry | RegistryCache;
  logger: Logger;
  /** Default: `powerOfTwoChoices`. */
  strategy?: Strategy | StrategyName | undefined;
  /** Registry domain of calls that name none. Default: none. */
  domain?: string | undefined;
  /** How often a service is listed although its watch tells of changes, in milliseconds. Not with a cache passed in. Default: 60000. */
  ttlMs?: number | undefined;
  /** How long a node that refused is left out, in milliseconds; doubles while it goes on. Default: 1000. */
  ejectionMs?: number | undefined;
  /** Bound of that, in milliseconds. Default: 30000. */
  maxEjectionMs?: number | undefined;
  /** Default: real time. */
  clock?: Clock | undefined;
  /** Numbers in [0, 1), for strategies chosen by name. Default: `Math.random`. */
  random?: (() => number) | undefined;
}

/**
 * The default selector.
 *
 * A node that refuses a connection is out at once, one that times out or breaks connections after three in a row or
 * half of the latest twenty attempts; both come back by a single attempt first, then with a growing share of the
 * traffic. A node that answers that it takes no calls is out for a second. When every node is out, they are used all
 * the same, the one that failed longest ago first.
 * @throws {TypeError} for an option that does not exist, an unknown strategy or a bound that makes no sense.
 */
export function cachedSelector(options: CachedSelectorOptions): Selector {
  checkOptionNames("cachedSelector", options, optionNames);
  return new CachedSelector(options);
}

const optionNames: OptionNames<CachedSelectorOptions> = {
  registry: optionKinds.registryOrCache,
  logger: optionKinds.logger,
  strategy: optionKinds.functionOrText,
  domain: true,
  ttlMs: true,
  ejectionMs: true,
  maxEjectionMs: true,
  clock: true,
  random: optionKinds.function,
};

const ownReasons: ReadonlySet<ErrorCode> = new Set([
  "bad_request",
  "unauthorized",
  "forbidden",
  "not_implemented",
  "too_large",
]);

class CachedSelector implements Selector {
  readonly name = "registry";
  readonly #logger: Logger;
  readonly #cache: RegistryCache;
  readonly #ownsCache: boolean;
  readonly #strategy: Strategy | StrategyName;
  readonly #domain: string | undefined;
  readonly #random: (() => number) | undefined;
  readonly #table: HealthTable;
  readonly #views = new Map<string, ServiceView>();
  readonly #otherDomains = new Map<string, Map<string, ServiceView>>();
  readonly #endListening: () => void;
  #closed = false;

  constructor(options: CachedSelectorOptions) {
    const { registry, logger, clock = systemClock, random, ejectionMs = 1_000, maxEjectionMs = 30_000 } = options;
    if (!(ejectionMs > 0 && ejectionMs <= maxEjectionMs))
      throw new TypeError(
        `cachedSelector: ejectionMs (${ejectionMs}) must be above 0 and at most maxEjectionMs (${maxEjectionMs})`,
      );
    this.#logger = logger;
    this.#strategy = options.strategy ?? "powerOfTwoChoices";
    if (typeof this.#strategy === "string") strategyByName(this.#strategy);
    this.#domain = options.domain;
    this.#random = random;
    this.#ownsCache = !isCache(registry);
    this.#cache = isCache(registry)
      ? registry
      : registryCache({ registry, logger, clock, random, ttlMs: options.ttlMs, domain: options.domain });
    this.#table = new HealthTable({ clock, ejectionMs, maxEjectionMs });
    this.#endListening = this.#cache.onDrop((name) => this.#forget(name));
  }

  pick(service: string, options?: PickOptions): Selection | Promise<Selection> {
    if (this.#closed) throw closedError();
    const domain = options?.domain ?? this.#domain;
    const snapshot =
      domain === options?.domain ? this.#cache.get(service, options) : this.#cache.get(service, { ...options, domain });
    if (!(snapshot instanceof Promise)) return this.#choose(service, domain, snapshot, options);
    return snapshot.then(
      (arrived) => this.#choose(service, domain, arrived, options),
      (error: unknown) => {
        throw this.#lookUpError(service, error, options?.deadline);
      },
    );
  }

  pickAddress(address: string): Selection {
    if (this.#closed) throw closedError();
    this.#table.now = this.#table.clock.now();
    const node: Node = { id: address, address, metadata: {} };
    const candidate = new NodeCandidate(node, addressService(node), this.#table.named(address), 0);
    return new PickedNode(candidate, anyEjection, this.#table, noReport);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#endListening();
    for (const view of this.#allViews()) view.release();
    this.#views.clear();
    this.#otherDomains.clear();
    if (this.#ownsCache) await this.#cache[Symbol.asyncDispose]();
  }

  #lookUpError(name: string, error: unknown, deadline: number | undefined): unknown {
    if (!MicroError.is(error) || error.code === "aborted" || error.code === "closed") return error;
    if (error.code === "timeout" && deadline !== undefined && this.#table.clock.now() >= deadline) return error;
    // Go has one number, 500, for all of it. What the registry refuses for a reason of its own no waiting will mend.
    const code = ownReasons.has(error.code) ? error.code : "unavailable";
    return new MicroError(`error selecting ${name} node: ${error.detail}`, {
      id: "go.micro.client",
      code,
      cause: error,
      notRun: true,
    });
  }

  #choose(service: string, domain: string | undefined, snapshot: CacheSnapshot, options?: PickOptions): Selection {
    if (this.#closed) throw closedError();
    const table = this.#table;
    table.now = table.clock.now();
    const view = this.#view(service, domain, snapshot.nodes.length > 0);
    view?.update(snapshot);
    if (view === undefined || view.all.length === 0)
      throw notFoundError(service, this.#cache.describe(service, domain), [], []);
    const filters = options?.filters;
    const exclude = options?.exclude;
    const plain = (filters === undefined || filters.length === 0) && (exclude === undefined || exclude.size === 0);
    const candidate =
      plain && view.ready.length > 0
        ? this.#apply(view.ready, view, options)
        : this.#chooseAmong(view, filters ?? [], exclude, options);
    return new PickedNode(candidate, view, table, this.#report);
  }

  #chooseAmong(
    view: ServiceView,
    filters: readonly NodeFilter[],
    exclude: ReadonlySet<string> | undefined,
    options: PickOptions | undefined,
  ): NodeCandidate {
    const { domain, name } = view;
    const allowed =
      filters.length === 0
        ? view.all
        : view.all.filter(({ node, service }) => filters.every((filter) => filter(node, service)));
    if (allowed.length === 0) throw notFoundError(name, this.#cache.describe(name, domain), view.all, filters);
    const untried =
      exclude === undefined
        ? allowed
        : allowed.filter(({ node }) => !exclude.has(node.id) && !exclude.has(node.address));
    // What was tried already comes last, even if all that is left is out: it may not be out for what it did.
    const left = untried.length > 0 ? untried : allowed;
    const ready = left.filter((candidate) => candidate.ready);
    return ready.length > 0 ? this.#apply(ready, view, options) : lastResort(left);
  }

  #apply(candidates: readonly NodeCandidate[], view: ServiceView, options: PickOptions | undefined): NodeCandidate {
    const wanted = options?.strategy ?? this.#strategy;
    let strategy: Strategy | undefined;
    if (typeof wanted === "function") {
      strategy = wanted;
    } else {
      strategy = view.strategies.get(wanted);
      if (strategy === undefined) {
        strategy = strategyByName(wanted, { random: this.#random });
        view.strategies.set(wanted, strategy);
      }
    }
    const candidate = strategy(candidates);
    if (!(candidate instanceof NodeCandidate))
      throw new TypeError("the strategy must return one of the candidates it was given");
    return candidate;
  }

  /** A service without nodes gets no view: names may come from outside, by way of a gateway. */
  #view(name: string, domain: string | undefined, create: boolean): ServiceView | undefined {
    const views = domain === this.#domain ? this.#views : this.#otherDomains.get(domain ?? "");
    const known = views?.get(name);
    if (known !== undefined || !create) return known;
    const view = new ServiceView(name, domain, this.#table);
    if (views === undefined) this.#otherDomains.set(domain ?? "", new Map([[name, view]]));
    else views.set(name, view);
    return view;
  }

  #forget(name: string): void {
    this.#views.get(name)?.release();
    this.#views.delete(name);
    for (const [domain, views] of this.#otherDomains) {
      views.get(name)?.release();
      views.delete(name);
      if (views.size === 0) this.#otherDomains.delete(domain);
    }
  }

  *#allViews(): Iterable<ServiceView> {
    yield* this.#views.values();
    for (const views of this.#otherDomains.values()) yield* views.values();
  }

  /** A node was put out: say so, and ask the registry whether it is still there. */
  readonly #report = ({ node, service, health, stale }: NodeCandidate, owner: EjectionLimit): void => {
    if (!(owner instanceof ServiceView) || this.#closed) return;
    const error = stale?.out === true ? stale.error : health.lastError;
    const gone = stale?.out === true || health.out === "ejected";
    const text = `Selector [${this.name}] ${node.id} at ${node.address} is left out: ${reasonOf(error)}`;
    this.#logger.log(gone ? "info" : "debug", text, { service: service.name, node: node.id });
    if (gone) this.#cache.recheck(owner.name, owner.domain);
  };
}

type Report = (candidate: NodeCandidate, owner: EjectionLimit) => void;

class PickedNode implements Selection {
  readonly #candidate: NodeCandidate;
  readonly #owner: EjectionLimit;
  readonly #table: HealthTable;
  readonly #report: Report;
  readonly #startedAt: number;
  readonly #attempt: number;
  #done = false;

  constructor(candidate: NodeCandidate, owner: EjectionLimit, table: HealthTable, report: Report) {
    this.#candidate = candidate;
    this.#owner = owner;
    this.#table = table;
    this.#report = report;
    this.#startedAt = table.now;
    this.#attempt = candidate.health.begin();
  }

  get node(): Node {
    return this.#candidate.node;
  }

  get service(): Service {
    return this.#candidate.service;
  }

  done(error: MicroError | undefined): void {
    if (this.#done) return;
    this.#done = true;
    const candidate = this.#candidate;
    const ejected = candidate.health.end(this.#attempt, this.#startedAt, error, this.#owner);
    if (ejected || this.#ofAnother(error)) this.#report(candidate, this.#owner);
  }

  /** Whether the attempt showed that the record leads elsewhere, and that puts it out. An answer shows that it does not. */
  #ofAnother(error: MicroError | undefined): boolean {
    const candidate = this.#candidate;
    const { stale } = candidate;
    if (stale === undefined && error === undefined) return false;
    const verdict = verdictOf(error);
    if (verdict === "misplaced") return (candidate.stale ??= new StaleRecord(this.#table)).met(error!);
    if (verdict === "success" && stale !== undefined) {
      candidate.stale = undefined;
      this.#table.epoch++;
    }
    return false;
  }
}

const anyEjection: EjectionLimit = { mayEject: () => true };
const noReport: Report = () => {};

/** All are out: records that are not known to be wrong before others, nodes that live, then the one with least to do, then the one that failed longest ago. */
function lastResort(candidates: readonly NodeCandidate[]): NodeCandidate {
  let best = candidates[0]!;
  for (const candidate of candidates) if (precedes(candidate, best)) best = candidate;
  return best;
}

function precedes(one: NodeCandidate, other: NodeCandidate): boolean {
  const elsewhere = one.stale?.out === true;
  if (elsewhere !== (other.stale?.out === true)) return !elsewhere;
  if (elsewhere) return one.stale!.until < other.stale!.until;
  const { health: a } = one;
  const { health: b } = other;
  if (a.out !== b.out) return a.out === "busy";
  if (a.inFlight !== b.inFlight) return a.inFlight < b.inFlight;
  return a.failedAt < b.failedAt;
}

function isCache(registry: Registry | RegistryCache): registry is RegistryCache {
  return "recheck" in registry;
}

function addressService(node: Node): Service {
  return { name: "", version: "", metadata: {}, endpoints: [], nodes: [node] };
}

function closedError(): MicroError {
  return new MicroError("the selector is closed", { id: "go.micro.client", code: "closed" });
}

/** Go's text (`client/rpc_client.go`; its code is 500), and what one needs to know to find the cause. */
function notFoundError(
  name: string,
  facts: CacheFacts,
  nodes: readonly NodeCandidate[],
  filters: readonly NodeFilter[],
): MicroError {
  const parts = [`service ${name}: not found`, `registry ${facts.registry}, ${ageOf(facts)}`];
  if (facts.staleReason !== undefined) parts.push(`it may be out of date: ${facts.staleReason}`);
  if (nodes.length > 0) {
    const shown = nodes.slice(0, 10).map(({ node, service }) => {
      const filter = filters.find((keep) => !keep(node, service));
      const label = filter === undefined || filter.name === "" ? "" : ` (${filter.name})`;
      return `${node.id} at ${node.address} is left out by a filter${label}`;
    });
    if (nodes.length > shown.length) shown.push(`${nodes.length - shown.length} more`);
    parts.push(shown.join(", "));
  }
  return new MicroError(parts.join("; "), {
    id: "go.micro.client",
    code: "not_found",
    cause: facts.lastError,
    notRun: true,
  });
}

function ageOf({ ageMs }: CacheFacts): string {
  return ageMs === undefined ? "never asked with success" : `asked ${(ageMs / 1_000).toFixed(1)} s ago`;
}

function reasonOf(error: MicroError | undefined): string {
  return error === undefined ? "it failed" : error.detail || error.code;
}
