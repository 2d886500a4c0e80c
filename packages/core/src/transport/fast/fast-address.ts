/** The connections to one address that speak the fast wire: one, and a second only where one is not enough. */
import type { ConnectionOptions } from "node:tls";
import { transportClosed } from "../http/dial.ts";
import type { DialAddress } from "../http/address.ts";
import { FastConnection, type ClientExchangeEntry, type FastConnectionOwner } from "./client-connection.ts";
import type { CallFallback } from "./client-call.ts";
import type { StreamFallback } from "./client-stream.ts";
import type { WireSettings } from "./preface.ts";

/** How long an address is left alone that did not speak the wire. */
const refusedMs = 60_000;

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
  readonly #connections = new Set<FastConnection>();
  #current: FastConnection | undefined;
  #refusedUntil = 0;

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
    return this.#current?.open === true;
  }

  /** Nothing is kept here. */
  get unused(): boolean {
    return this.#connections.size === 0 && this.#refusedUntil <= performance.now();
  }

  start(entry: Startable, now: number): void {
    let connection = this.#current;
    if (connection === undefined || !connection.accepting) connection = this.#another(now);
    entry.start(connection, now);
  }

  /** Close all; what runs fails with `closed`. */
  close(): void {
    for (const connection of this.#connections) connection.abandon(transportClosed(false));
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
    if (this.#current !== connection) connection.close();
  }

  gone(connection: FastConnection): void {
    this.#connections.delete(connection);
    if (this.#current === connection) this.#current = undefined;
  }

  #another(now: number): FastConnection {
    for (const connection of this.#connections)
      if (connection.accepting) {
        this.#current = connection;
        return connection;
      }
    const connection = new FastConnection(this, now);
    this.#connections.add(connection);
    this.#current = connection;
    return connection;
  }
}
