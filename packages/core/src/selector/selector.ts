/**
 * The selector: which node gets the next attempt of a call.
 *
 * It stands on the registry cache (what the registry says) and on health (what traffic says: a node that refuses is
 * out at once and comes back slowly).
 */
import type { MicroError } from "../errors.ts";
import type { Node, Service } from "../registry/registry.ts";

/** Keeps nodes that may be used. Go's `selector.Filter`. */
export type NodeFilter = (node: Node, service: Service) => boolean;

/** One node that may be picked, with what traffic says of it. */
export interface Candidate {
  readonly node: Node;
  readonly service: Service;
  /** Attempts running now. */
  readonly inFlight: number;
  /** Moving average of successful attempts, in milliseconds; undefined before the first. */
  readonly latencyMs: number | undefined;
  /** Share of normal traffic a re-admitted node should get, 0 < weight <= 1. */
  readonly weight: number;
}

/** Picks one of at least one candidates. May keep state of its own. */
export type Strategy = (candidates: readonly Candidate[]) => Candidate;

export type StrategyName = "powerOfTwoChoices" | "random" | "roundRobin";

/** Per call: `select` of the call options. */
export interface SelectOptions {
  /** All must hold. See `filterVersion`, `filterLabel`, `filterEndpoint`, `filterAddress`. */
  filters?: readonly NodeFilter[] | undefined;
  /** Default: the selector's. */
  strategy?: Strategy | StrategyName | undefined;
  /** Registry domain. Default: the selector's. */
  domain?: string | undefined;
}

export interface PickOptions extends SelectOptions {
  /** Ids and addresses of nodes tried already; used again only when nothing else is left. */
  exclude?: ReadonlySet<string> | undefined;
  signal?: AbortSignal | undefined;
  /** Limit for a look-up that has to wait, on the clock of `performance.now()`. */
  deadline?: number | undefined;
}

/** A picked node; `done` must be called exactly once. */
export interface Selection {
  readonly node: Node;
  readonly service: Service;
  /**
   * Tell how the attempt went. Errors of the application count as success of the node; refused and timed-out attempts do not.
   * An error whose cause is a `WrongServiceError` puts the node out for this service, and says nothing of its address.
   */
  done(error: MicroError | undefined): void;
}

/** What a selector plugin implements. */
export interface Selector extends AsyncDisposable {
  readonly name: string;
  /**
   * Pick a node. Answers without a promise once the service is cached.
   * @throws {MicroError} `not_found` when there is no node; its detail says which registry was asked, how old the cache is, and which nodes were out and why. `unavailable` and `notRun` when
   * the registry cannot be asked: clients ask again while the deadline lasts.
   */
  pick(service: string, options?: PickOptions): Selection | Promise<Selection>;
  /** A node given by address counts, too: its health is kept under the address. */
  pickAddress(address: string): Selection;
}
