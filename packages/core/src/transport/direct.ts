/**
 * Calls to a listener of the same process: no socket, the same semantics. Messages are encoded and their bytes copied as for
 * a wire, so that neither side ever holds an object of the other.
 *
 * The table below is the one thing services of a process share, and no place where they could meet that did not know of each
 * other: it says what the operating system knows anyway, which ports are bound, and is asked only for an address that
 * was found in a registry, where a connection to that address would end at the very same listener.
 */
import { networkInterfaces } from "node:os";
import { detach } from "../context.ts";
import { internalServerError, MicroError, stringify } from "../errors.ts";
import type { DialAddress, ListenAddress } from "../net/address.ts";
import { MemoryExchange, memoryId, tooLarge } from "./memory-exchange.ts";
import type { ExchangeHandler, ExchangeMessage, ExchangeOptions, ExchangeRequest, Listener } from "./transport.ts";

const noBytes = new Uint8Array(0);

/** Bound ports and paths of this process. */
const bound = new Map<number | string, DirectListener[]>();
/** Counts changes of `bound`. */
let revision = 0;

/** For whoever keeps what {@link findDirect} gave: it is current as long as this is the same. 0: there is no listener. */
export function directRevision(): number {
  return revision;
}

/** The listener of this process that would take a connection to `target`. */
export function findDirect(target: DialAddress): DirectListener | undefined {
  const listeners = bound.get(target.path ?? target.port);
  // One that is bound to the very address takes it before one that is bound to all.
  return (
    listeners?.find((listener) => listener.isAt(target)) ?? listeners?.find((listener) => listener.reaches(target))
  );
}

/** Who makes calls; they are over when it closes. */
export interface DirectCaller {
  readonly exchanges: Set<MemoryExchange>;
  /** Largest message it takes, in bytes. */
  readonly maxMessageBytes: number;
}

/** A listener that takes calls directly, beside those over its socket, until it is closed. */
export class DirectListener implements Listener {
  readonly #listener: Listener;
  readonly #at: ListenAddress;
  readonly #handler: ExchangeHandler;
  readonly #maxMessageBytes: number;
  readonly #exchanges = new Set<MemoryExchange>();

  constructor(listener: Listener, at: ListenAddress, handler: ExchangeHandler, maxMessageBytes: number) {
    this.#listener = listener;
    this.#at = at;
    this.#handler = handler;
    this.#maxMessageBytes = maxMessageBytes;
    const place = at.path ?? at.firstPort;
    bound.set(place, [...(bound.get(place) ?? []), this]);
    revision++;
  }

  get address(): string {
    return this.#listener.address;
  }

  isAt(target: DialAddress): boolean {
    return this.#at.path === undefined ? this.#at.host === target.host : this.#at.path === target.path;
  }

  reaches({ host }: DialAddress): boolean {
    const at = this.#at.host;
    if (!isWildcard(at)) return host === "localhost" && at === "127.0.0.1";
    if (at === "0.0.0.0" && host.includes(":")) return false;
    return isLoopback(host) || isOwnAddress(host);
  }

  /** A call. Limits that are over already are the transport's to check. */
  async call(
    caller: DirectCaller,
    id: string,
    request: ExchangeRequest,
    options: ExchangeOptions,
  ): Promise<ExchangeMessage> {
    const exchange = this.start(caller, id, request, options, "call");
    const reply = await exchange.receive();
    // A streaming endpoint that was called like a unary one would go on; nobody listens.
    exchange.cancel();
    if (reply === undefined)
      throw new MicroError(`${this.address} ended the stream before a reply came`, { id: memoryId, code: "protocol" });
    return reply;
  }

  start(
    caller: DirectCaller,
    id: string,
    request: ExchangeRequest,
    options: ExchangeOptions,
    opened: "call" | "stream",
  ): MemoryExchange {
    const exchange = new MemoryExchange({
      id,
      address: this.address,
      remote: this.address,
      request,
      options,
      opened,
      maxMessageBytes: this.#maxMessageBytes,
      maxReplyBytes: options.maxMessageBytes ?? caller.maxMessageBytes,
      ended: (ended) => {
        this.#exchanges.delete(ended);
        caller.exchanges.delete(ended);
      },
    });
    this.#exchanges.add(exchange);
    caller.exchanges.add(exchange);
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

  close(): Promise<void> {
    this.#unbind();
    return this.#listener.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unbind();
    const error = new MicroError(`connection to ${this.address} was lost: the listener is closed`, {
      id: memoryId,
      code: "unavailable",
    });
    for (const exchange of this.#exchanges) exchange.fail(error);
    await this.#listener[Symbol.asyncDispose]();
  }

  #unbind(): void {
    const place = this.#at.path ?? this.#at.firstPort;
    const listeners = bound.get(place);
    if (listeners?.includes(this) !== true) return;
    const others = listeners.filter((listener) => listener !== this);
    if (others.length === 0) bound.delete(place);
    else bound.set(place, others);
    revision++;
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
