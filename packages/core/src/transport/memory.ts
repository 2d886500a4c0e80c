/**
 * The memory transport: exchanges inside one process, with the semantics of a wire: bytes are copied, queues are bounded,
 * deadlines, cancellation and loss reach the other side. Go's is `transport/memory.go`.
 */
import { internalServerError, MicroError, stringify } from "../errors.ts";
import { cancelled, deadlineExceeded, MemoryExchange, memoryId, tooLarge } from "./memory-exchange.ts";
import type {
  ClientExchange,
  ExchangeHandler,
  ExchangeMessage,
  ExchangeOptions,
  ExchangeRequest,
  Listener,
  ListenOptions,
  Transport,
} from "./transport.ts";

/**
 * Create a memory transport. Addresses live in the instance: client and server meet when they share it, and two instances
 * never meet.
 */
export function memoryTransport(): Transport {
  return new MemoryTransport();
}

const noBytes = new Uint8Array(0);
const defaultMaxMessageBytes = 4 * 1024 * 1024;

class MemoryTransport implements Transport {
  readonly name = "memory";
  readonly #listeners = new Map<string, MemoryListener>();
  readonly #exchanges = new Set<MemoryExchange>();
  #closed = false;
  #nextId = 0;
  #nextPort = 10_000;

  async call(address: string, request: ExchangeRequest, options: ExchangeOptions): Promise<ExchangeMessage> {
    const exchange = this.#start(address, request, options, "call");
    const reply = await exchange.receive();
    // A streaming endpoint that was called like a unary one would go on; nobody listens.
    exchange.cancel();
    if (reply === undefined)
      throw new MicroError(`${address} ended the stream before a reply came`, { id: memoryId, code: "protocol" });
    return reply;
  }

  async open(address: string, request: ExchangeRequest, options: ExchangeOptions): Promise<ClientExchange> {
    return this.#start(address, { ...request, body: noBytes }, options, "stream");
  }

  #start(
    address: string,
    request: ExchangeRequest,
    options: ExchangeOptions,
    opened: "call" | "stream",
  ): MemoryExchange {
    if (this.#closed) throw closed(true);
    if (options.signal?.aborted === true) throw cancelled(options.signal.reason, true);
    if (options.deadline !== undefined && options.deadline <= performance.now()) throw deadlineExceeded(true);
    const listener = this.#listeners.get(address);
    if (listener === undefined)
      throw new MicroError(`could not dial ${address}`, { id: memoryId, code: "unavailable", notRun: true });
    const exchange = new MemoryExchange({
      id: String(this.#nextId++),
      address,
      request,
      options,
      opened,
      maxMessageBytes: listener.maxMessageBytes,
      maxReplyBytes: options.maxMessageBytes,
      ended: (ended) => {
        this.#exchanges.delete(ended);
        listener.exchanges.delete(ended);
      },
    });
    this.#exchanges.add(exchange);
    listener.accept(exchange);
    return exchange;
  }

  async listen(handler: ExchangeHandler, options: ListenOptions = {}): Promise<Listener> {
    if (this.#closed) throw closed(true);
    const address = this.#bindable(options.address ?? ":0");
    const maxMessageBytes = options.maxMessageBytes ?? defaultMaxMessageBytes;
    const listener: MemoryListener = new MemoryListener(handler, address, maxMessageBytes, () => {
      if (this.#listeners.get(address) === listener) this.#listeners.delete(address);
    });
    this.#listeners.set(address, listener);
    return listener;
  }

  #bindable(address: string): string {
    const match = /^(.*):(\d{1,5})(?:-(\d{1,5}))?$/.exec(address === "" ? ":0" : address);
    const first = Number(match?.[2]);
    const last = Number(match?.[3] ?? match?.[2]);
    if (match === null || first > 65_535 || last > 65_535 || last < first)
      throw new MicroError(`${JSON.stringify(address)} is not an address`, { id: memoryId, code: "bad_request" });
    const host = match[1] === "" ? "127.0.0.1" : match[1];
    if (first === 0) {
      while (this.#listeners.has(`${host}:${this.#nextPort}`)) this.#nextPort++;
      return `${host}:${this.#nextPort++}`;
    }
    for (let port = first; port <= last; port++) if (!this.#listeners.has(`${host}:${port}`)) return `${host}:${port}`;
    throw new MicroError(`cannot listen on ${address}: the address is taken`, { id: memoryId, code: "unavailable" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const exchange of this.#exchanges) exchange.fail(closed(false));
  }
}

class MemoryListener implements Listener {
  readonly address: string;
  readonly maxMessageBytes: number;
  readonly exchanges = new Set<MemoryExchange>();
  readonly #handler: ExchangeHandler;
  readonly #unbind: () => void;

  constructor(handler: ExchangeHandler, address: string, maxMessageBytes: number, unbind: () => void) {
    this.#handler = handler;
    this.address = address;
    this.maxMessageBytes = maxMessageBytes;
    this.#unbind = unbind;
  }

  accept(exchange: MemoryExchange): void {
    this.exchanges.add(exchange);
    // Never inside the caller's turn: no wire answers that fast, and a caller may rely on it.
    queueMicrotask(() => {
      if (exchange.over) return;
      if (exchange.server.body.length > this.maxMessageBytes) {
        exchange.fail(tooLarge(this.maxMessageBytes));
        return;
      }
      try {
        this.#handler(exchange.server);
      } catch (error) {
        // The handler promised not to throw; the caller should get an answer all the same.
        const message = error instanceof Error ? error.message : String(error);
        exchange.server.reply({ error: stringify(internalServerError(memoryId, message)), body: noBytes });
      }
    });
  }

  async close(): Promise<void> {
    this.#unbind();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unbind();
    for (const exchange of this.exchanges)
      exchange.fail(
        new MicroError(`connection to ${this.address} was lost: the listener is closed`, {
          id: memoryId,
          code: "unavailable",
        }),
      );
  }
}

function closed(notRun: boolean): MicroError {
  return new MicroError("the transport is closed", { id: memoryId, code: "closed", notRun });
}
