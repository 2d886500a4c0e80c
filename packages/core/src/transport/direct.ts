/**
 * Calls to a listener of the same transport, which is the same process: no socket, the same semantics. Messages are
 * encoded and their bytes copied as for a wire, so that neither side ever holds an object of the other.
 */
import { networkInterfaces } from "node:os";
import { detach } from "../context.ts";
import { internalServerError, MicroError, stringify } from "../errors.ts";
import type { DialAddress, ListenAddress } from "./http/address.ts";
import { MemoryExchange, memoryId, tooLarge } from "./memory-exchange.ts";
import type { ExchangeHandler, ExchangeMessage, ExchangeOptions, ExchangeRequest, Listener } from "./transport.ts";

const noBytes = new Uint8Array(0);

/** The listeners of a transport that take calls directly. */
export class DirectListeners {
  readonly #listeners = new Set<DirectListener>();
  /** Counts changes, for whoever keeps what {@link find} gave. */
  revision = 0;

  /** Let calls find `listener` until it is closed. */
  add(listener: Listener, bound: ListenAddress, handler: ExchangeHandler, maxMessageBytes: number): Listener {
    const direct = new DirectListener(listener, bound, handler, maxMessageBytes, () => {
      if (this.#listeners.delete(direct)) this.revision++;
    });
    this.#listeners.add(direct);
    this.revision++;
    return direct;
  }

  /** The listener that would take a connection to `target`. */
  find(target: DialAddress): DirectListener | undefined {
    for (const listener of this.#listeners) if (listener.takes(target)) return listener;
    return undefined;
  }

  /** The transport is closed: what runs fails with `error`. */
  fail(error: MicroError): void {
    for (const listener of this.#listeners) listener.fail(error);
  }
}

export class DirectListener implements Listener {
  readonly #listener: Listener;
  readonly #bound: ListenAddress;
  readonly #handler: ExchangeHandler;
  readonly #maxMessageBytes: number;
  readonly #unbind: () => void;
  readonly #exchanges = new Set<MemoryExchange>();

  constructor(
    listener: Listener,
    bound: ListenAddress,
    handler: ExchangeHandler,
    maxMessageBytes: number,
    unbind: () => void,
  ) {
    this.#listener = listener;
    this.#bound = bound;
    this.#handler = handler;
    this.#maxMessageBytes = maxMessageBytes;
    this.#unbind = unbind;
  }

  get address(): string {
    return this.#listener.address;
  }

  takes(target: DialAddress): boolean {
    const bound = this.#bound;
    if (bound.path !== undefined || target.path !== undefined) return bound.path === target.path;
    if (bound.firstPort !== target.port) return false;
    if (bound.host === target.host) return true;
    if (isWildcard(bound.host)) return isLoopback(target.host) || isOwnAddress(target.host);
    return target.host === "localhost" && bound.host === "127.0.0.1";
  }

  /** A call. Limits that are over already are the transport's to check. */
  async call(id: string, request: ExchangeRequest, options: ExchangeOptions): Promise<ExchangeMessage> {
    const exchange = this.start(id, request, options);
    const reply = await exchange.receive();
    // A streaming endpoint that was called like a unary one would go on; nobody listens.
    exchange.cancel();
    if (reply === undefined)
      throw new MicroError("the stream ended before a reply came", { id: memoryId, code: "protocol" });
    return reply;
  }

  start(id: string, request: ExchangeRequest, options: ExchangeOptions): MemoryExchange {
    const exchange = new MemoryExchange({
      id,
      address: this.address,
      remote: this.address,
      request,
      options,
      maxMessageBytes: this.#maxMessageBytes,
      ended: (ended) => void this.#exchanges.delete(ended),
    });
    this.#exchanges.add(exchange);
    // Never inside the caller's turn, and outside of what it runs in: no wire is different.
    detach(() => queueMicrotask(() => this.#dispatch(exchange)));
    return exchange;
  }

  #dispatch(exchange: MemoryExchange): void {
    if (exchange.over) return;
    if (exchange.server.body.length > this.#maxMessageBytes) {
      exchange.fail(tooLarge(this.#maxMessageBytes));
      return;
    }
    try {
      this.#handler(exchange.server);
    } catch (error) {
      // The handler promised not to throw; the caller should get an answer all the same.
      const message = error instanceof Error ? error.message : String(error);
      exchange.server.reply({ error: stringify(internalServerError(memoryId, message)), body: noBytes });
    }
  }

  fail(error: MicroError): void {
    for (const exchange of this.#exchanges) exchange.fail(error);
  }

  close(): Promise<void> {
    this.#unbind();
    return this.#listener.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unbind();
    this.fail(new MicroError("the connection was lost: the listener is closed", { id: memoryId, code: "unavailable" }));
    await this.#listener[Symbol.asyncDispose]();
  }
}

function isWildcard(host: string): boolean {
  return host === "" || host === "::" || host === "0.0.0.0";
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}

function isOwnAddress(host: string): boolean {
  return Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === host));
}
