/** A transport inside the process that does nothing but hand bodies over, for looking at a server from close by. */
import { Cancellation } from "../../../src/context.ts";
import { MicroError } from "../../../src/errors.ts";
import { Metadata } from "../../../src/metadata.ts";
import type {
  ExchangeHandler,
  ListenOptions,
  OutgoingMessage,
  ServerExchange,
  ServerStream,
  Transport,
} from "../../../src/transport/transport.ts";

export interface PeerInit extends Partial<Omit<ServerExchange, "reply" | "stream" | "cancellation">> {
  /** How many messages may be unread before send() asks to wait. Default: 1. */
  readonly window?: number;
}

/** The peer of one exchange, driven by hand. */
export class Peer implements ServerExchange, ServerStream {
  readonly service: string;
  readonly endpoint: string;
  readonly contentType: string;
  readonly id: string;
  readonly topic: string | undefined;
  readonly lookedUp: boolean;
  readonly opened: "call" | "stream" | undefined;
  readonly oldProtocol: boolean;
  readonly timeoutMs: number | undefined;
  readonly header: Metadata;
  readonly body: Uint8Array;
  readonly remote = "127.0.0.1:2";
  readonly local = "127.0.0.1:1";
  readonly cancellation: Cancellation;
  readonly #reply = Promise.withResolvers<OutgoingMessage>();
  readonly #window: number;
  /** Messages of the server that nobody has read. */
  readonly unread: OutgoingMessage[] = [];
  ended: { readonly error: OutgoingMessage | undefined } | undefined;
  streams = false;
  replies = 0;
  gone = false;
  #incoming: Uint8Array[] = [];
  #closed = false;
  #changed = Promise.withResolvers<void>();

  constructor(init: PeerInit) {
    this.service = init.service ?? "test";
    this.endpoint = init.endpoint ?? "";
    this.contentType = init.contentType ?? "application/json";
    this.id = init.id ?? "1";
    this.topic = init.topic;
    this.lookedUp = init.lookedUp ?? false;
    this.opened = init.opened;
    this.oldProtocol = init.oldProtocol ?? false;
    this.timeoutMs = init.timeoutMs;
    this.header = init.header ?? new Metadata();
    this.body = init.body ?? new Uint8Array(0);
    this.#window = init.window ?? 1;
    this.cancellation = new Cancellation(init.timeoutMs === undefined ? undefined : performance.now() + init.timeoutMs);
  }

  // The server's side.

  reply(message: OutgoingMessage): void {
    this.replies++;
    this.cancellation.end();
    this.#reply.resolve(message);
  }

  stream(): ServerStream {
    this.streams = true;
    return this;
  }

  send(message: OutgoingMessage): void | Promise<void> {
    if (this.gone) return Promise.reject(this.#gone());
    this.unread.push(message);
    this.#notify();
    if (this.unread.length >= this.#window) return this.#roomForMore();
  }

  async #roomForMore(): Promise<void> {
    while (this.unread.length >= this.#window) {
      if (this.gone) throw this.#gone();
      await this.#changed.promise;
    }
  }

  async receive(): Promise<Uint8Array | undefined> {
    for (;;) {
      if (this.gone) throw this.#gone();
      const next = this.#incoming.shift();
      if (next !== undefined) return next;
      if (this.#closed) return undefined;
      await this.#changed.promise;
    }
  }

  end(error?: OutgoingMessage): void {
    this.ended ??= { error };
    this.cancellation.end();
    this.#notify();
  }

  // The peer's side.

  /** The reply of a unary exchange. */
  get answer(): Promise<OutgoingMessage> {
    return this.#reply.promise;
  }

  push(body: Uint8Array | string): void {
    this.#incoming.push(Buffer.from(body));
    this.#notify();
  }

  closeSend(): void {
    this.#closed = true;
    this.#notify();
  }

  /** The next message; undefined at the end, with {@link Peer.ended} set. */
  async read(): Promise<OutgoingMessage | undefined> {
    for (;;) {
      const message = this.unread.shift();
      if (message !== undefined) {
        this.#notify();
        return message;
      }
      if (this.ended !== undefined) return undefined;
      await this.#changed.promise;
    }
  }

  /** Go away, as a closed connection. */
  leave(): void {
    this.gone = true;
    this.cancellation.cancel(this.#gone());
    this.#notify();
  }

  #gone(): MicroError {
    return new MicroError("the peer is gone", { code: "aborted" });
  }

  #notify(): void {
    const changed = this.#changed;
    this.#changed = Promise.withResolvers();
    changed.resolve();
  }
}

/** A transport whose exchanges are made by {@link LoopTransport.exchange}. */
export class LoopTransport implements Transport {
  readonly name = "loop";
  handler: ExchangeHandler | undefined;
  listenOptions: ListenOptions | undefined;

  /** Hand an exchange to the server. */
  exchange(init: PeerInit): Peer {
    const peer = new Peer(init);
    if (this.handler === undefined) throw new Error("nobody listens");
    this.handler(peer);
    return peer;
  }

  call(): Promise<never> {
    return Promise.reject(new Error("not used"));
  }

  open(): Promise<never> {
    return Promise.reject(new Error("not used"));
  }

  async listen(handler: ExchangeHandler, options?: ListenOptions) {
    this.handler = handler;
    this.listenOptions = options;
    const close = async (): Promise<void> => {
      this.handler = undefined;
    };
    return { address: "127.0.0.1:1", close, [Symbol.asyncDispose]: close };
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
