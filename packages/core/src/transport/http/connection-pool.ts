/**
 * Pooled connections to nodes, one call in flight on each: a Go server takes a second request for a part of the first.
 *
 * Limits are Go's (`util/pool`): last in, first out, so many idle per address, a lifetime counted from dialing; and a number
 * of calls, because Go servers keep memory for each call until its connection ends.
 */
import type { ConnectionOptions } from "node:tls";
import type { DirectListener } from "../direct.ts";
import { FastAddress } from "../fast/fast-address.ts";
import type { WireSettings } from "../fast/preface.ts";
import { parseDialAddress, type DialAddress } from "../../net/address.ts";
import { transportClosed } from "./dial.ts";
import { PrefixCache } from "./head-writer.ts";
import type { MessageLimits } from "./message-parser.ts";
import { PooledConnection } from "./pooled-connection.ts";

export interface PoolOptions {
  readonly tls: ConnectionOptions | undefined;
  readonly limits: MessageLimits;
  readonly maxIdlePerAddress: number;
  readonly maxAgeMs: number;
  readonly maxCallsPerConnection: number;
  /** What is told to peers on the fast wire. */
  readonly settings: WireSettings;
}

/** What is known of one address. */
export class PooledAddress {
  readonly address: string;
  readonly target: DialAddress;
  readonly prefixes: PrefixCache;
  readonly idle: PooledConnection[] = [];
  /** Open connections, idle ones included. */
  connections = 0;
  /** Set once the peer is known to speak the fast wire. */
  fast: FastAddress | undefined;
  /** The listener of this process that is meant, as of `directRevision`: an address is remembered longer than a listener and all its handler holds. */
  direct: WeakRef<DirectListener> | undefined;
  directRevision = 0;

  constructor(address: string) {
    this.address = address;
    this.target = parseDialAddress(address);
    // A path is no host.
    this.prefixes = new PrefixCache(this.target.path === undefined ? address : this.target.host);
  }
}

const sweepMs = 5_000;
const maxKnownAddresses = 1024;

export class ConnectionPool {
  readonly options: PoolOptions;
  readonly #addresses = new Map<string, PooledAddress>();
  readonly #connections = new Set<PooledConnection>();
  #sweeper: NodeJS.Timeout | undefined;

  constructor(options: PoolOptions) {
    this.options = options;
  }

  /** @throws {MicroError} `bad_request` if the address is none. */
  address(address: string): PooledAddress {
    let known = this.#addresses.get(address);
    if (known === undefined) {
      known = new PooledAddress(address);
      if (this.#addresses.size >= maxKnownAddresses) this.#forgetUnused();
      this.#addresses.set(address, known);
    }
    return known;
  }

  /** The connections to an address on the fast wire. */
  fast(known: PooledAddress, fallback: (known: PooledAddress) => FastAddress["fallback"]): FastAddress {
    const { address, target } = known;
    const { tls, settings } = this.options;
    return (known.fast ??= new FastAddress({ address, target, tls, settings, fallback: fallback(known) }));
  }

  /** An idle connection, or a new one that is being dialed. */
  take(address: PooledAddress, fresh: boolean, now: number): PooledConnection {
    if (!fresh) {
      for (;;) {
        const connection = address.idle.pop();
        if (connection === undefined) break;
        if (connection.reusable(now)) return connection;
        connection.close();
      }
    }
    return this.dial(address, fresh, now);
  }

  /** A new connection. */
  dial(address: PooledAddress, fresh: boolean, now: number): PooledConnection {
    const connection = new PooledConnection(this, address, fresh, now);
    this.#connections.add(connection);
    address.connections++;
    return connection;
  }

  /** Called by a connection whose call is over. */
  giveBack(connection: PooledConnection, address: PooledAddress): void {
    if (address.idle.length >= this.options.maxIdlePerAddress) {
      connection.close();
      return;
    }
    address.idle.push(connection);
    this.#sweeper ??= setInterval(() => this.#sweep(), sweepMs).unref();
  }

  /** Called by a connection that has ended. */
  forget(connection: PooledConnection, address: PooledAddress): void {
    if (!this.#connections.delete(connection)) return;
    address.connections--;
    const index = address.idle.indexOf(connection);
    if (index !== -1) address.idle.splice(index, 1);
  }

  /** Close everything; calls in flight fail with `closed`. */
  close(): void {
    clearInterval(this.#sweeper);
    for (const connection of this.#connections) connection.abandon(transportClosed(false));
    for (const address of this.#addresses.values()) address.fast?.close();
    this.#addresses.clear();
  }

  #sweep(): void {
    const now = performance.now();
    let idle = 0;
    for (const address of this.#addresses.values()) {
      // Backwards, since closing one takes it out of the list.
      for (let index = address.idle.length - 1; index >= 0; index--) {
        const connection = address.idle[index];
        if (connection?.reusable(now) === true) idle++;
        else connection?.close();
      }
    }
    if (idle === 0) {
      clearInterval(this.#sweeper);
      this.#sweeper = undefined;
      this.#forgetUnused();
    }
  }

  #forgetUnused(): void {
    for (const [key, address] of this.#addresses)
      if (address.connections === 0 && address.fast?.unused !== false) this.#addresses.delete(key);
  }
}
