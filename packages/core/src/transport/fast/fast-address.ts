/**
 * The connections to one address that speak the fast wire: one, and a second only where one is not enough; for an address
 * that several processes share as many as those, since a connection stays with the process that took it.
 */
import type { ConnectionOptions } from "node:tls";
import { transportClosed } from "../http/dial.ts";
import type { DialAddress } from "../../net/address.ts";
import { FastConnection, type ClientExchangeEntry, type FastConnectionOwner } from "./client-connection.ts";
import type { CallFallback } from "./client-call.ts";
import type { StreamFallback } from "./client-stream.ts";
import type { WireSettings } from "./preface.ts";

/** How long an address is left alone that did not speak the wire. */
const refusedMs = 60_000;
/** Connections to an address of several processes: what a node announces is not to be trusted. */
const maxConnections = 64;
/**
 * How long one of several connections takes new exchanges. A process that was replaced gets connections again by this; ±20 %,
 * so that they are not made all at once.
 */
const connectionAgeMs = 60_000;
/** After a connection was lost or could not be made, when another one is added to those that are left. */
const redialMs = 1_000;

/** An exchange that can go to a connection. */
export interface Startable extends ClientExchangeEntry {
  start(connection: FastConnection, now: number): void;
}

export interface FastAddressOptions {
  readonly address: string;
  readonly target: DialAddress;
  readonly tls: ConnectionOptions | undefined;
  readonly settings: WireSettings;
  /** For peers that turn out not to speak this wire. */
  readonly fallback: CallFallback & StreamFallback;
}

export class FastAddress implements FastConnectionOwner {
  readonly address: string;
  readonly target: DialAddress;
  readonly tls: ConnectionOptions | undefined;
  readonly settings: WireSettings;
  readonly fallback: CallFallback & StreamFallback;
  /** With the time at which each gets no more exchanges, where there are several. */
  readonly #connections = new Map<FastConnection, number>();
  #current: FastConnection | undefined;
  #refusedUntil = 0;
  #workers: string | undefined;
  #wanted = 1;
  #redialAt = 0;

  constructor(options: FastAddressOptions) {
    this.address = options.address;
    this.target = options.target;
    this.tls = options.tls;
    this.settings = options.settings;
    this.fallback = options.fallback;
  }

  /** It has not lately turned out that the peer does not speak the wire. */
  mayTry(now: number): boolean {
    return now >= this.#refusedUntil;
  }

  /** A connection is there. */
  get open(): boolean {
    if (this.#wanted === 1) return this.#current?.open === true;
    for (const connection of this.#connections.keys()) if (connection.open) return true;
    return false;
  }

  /** Nothing is kept here. */
  get unused(): boolean {
    return this.#connections.size === 0 && this.#refusedUntil <= performance.now();
  }

  /** @param workers What the node says: how many processes share the address. */
  shareAmong(workers: string | undefined): void {
    if (workers === this.#workers) return;
    this.#workers = workers;
    const count = Number(workers ?? 1);
    this.#wanted = Number.isInteger(count) && count > 0 ? Math.min(count, maxConnections) : 1;
  }

  start(entry: Startable, now: number): void {
    if (this.#wanted > 1) {
      entry.start(this.#leastBusy(now), now);
      return;
    }
    let connection = this.#current;
    if (connection === undefined || !connection.accepting) connection = this.#another(now);
    entry.start(connection, now);
  }

  /** Close all; what runs fails with `closed`. */
  close(): void {
    for (const connection of this.#connections.keys()) connection.abandon(transportClosed(false));
  }

  refused(_connection: FastConnection, waiting: readonly ClientExchangeEntry[]): void {
    this.#refusedUntil = performance.now() + refusedMs;
    for (const entry of waiting) entry.fallBack();
  }

  overflow(waiting: readonly ClientExchangeEntry[]): void {
    const now = performance.now();
    for (const entry of waiting) this.start(entry as Startable, now);
  }

  idle(connection: FastConnection): void {
    const kept = this.#wanted > 1 ? performance.now() < this.#retiresAt(connection) : this.#current === connection;
    if (!kept) connection.close();
  }

  gone(connection: FastConnection): void {
    if (this.#wanted > 1) this.#redialAt = performance.now() + redialMs;
    this.#connections.delete(connection);
    if (this.#current === connection) this.#current = undefined;
  }

  #another(now: number): FastConnection {
    for (const connection of this.#connections.keys())
      if (connection.accepting) {
        this.#current = connection;
        return connection;
      }
    return this.#dial(now);
  }

  #dial(now: number): FastConnection {
    const connection = new FastConnection(this, now);
    this.#connections.set(connection, now + connectionAgeMs * (0.8 + 0.4 * Math.random()));
    this.#current = connection;
    return connection;
  }

  #retiresAt(connection: FastConnection): number {
    return this.#connections.get(connection) ?? 0;
  }

  /** The connection that carries least. While all carry something another one is made, until there is one a process. */
  #leastBusy(now: number): FastConnection {
    let best: FastConnection | undefined;
    let old: FastConnection | undefined;
    let dialing: FastConnection | undefined;
    let usable = 0;
    for (const [connection, retiresAt] of this.#connections) {
      if (!connection.accepting) continue;
      if (!connection.open) dialing ??= connection;
      else if (now >= retiresAt) {
        if (old !== undefined && old.running === 0) old.close();
        old = connection;
      } else {
        usable++;
        if (best === undefined || connection.running < best.running) best = connection;
      }
    }
    if (best !== undefined && old?.running === 0) old.close();
    // One after the other: the processes take connections in turn.
    if (dialing === undefined && usable < this.#wanted && (best === undefined || best.running > 0)) {
      const chosen = best ?? old;
      if (chosen === undefined) return this.#dial(now);
      if (now >= this.#redialAt) this.#dial(now).unrefUnused();
      return chosen;
    }
    return (best ?? old ?? dialing) as FastConnection;
  }
}
