/** Both ends of one exchange of the memory transport. */
import { Cancellation } from "../context.ts";
import { MicroError } from "../errors.ts";
import { Metadata, perMessageHeaders } from "../metadata.ts";
import { ReceiveQueue } from "./receive-queue.ts";
import type {
  ClientExchange,
  ExchangeMessage,
  ExchangeOptions,
  ExchangeRequest,
  OutgoingMessage,
  ServerExchange,
  ServerStream,
} from "./transport.ts";

export const memoryId = "go.micro.client.transport";
const noBytes = new Uint8Array(0);

/** A queue with a promise for the sender while it is full. */
class Channel<T extends { readonly length: number } | { readonly body: Uint8Array }> {
  #room: PromiseWithResolvers<void> | undefined;
  readonly queue: ReceiveQueue<T> = new ReceiveQueue<T>({ onRoom: () => this.#release() });

  send(item: T): void | Promise<void> {
    this.queue.push(item);
    if (this.queue.full) return (this.#room ??= Promise.withResolvers()).promise;
    return undefined;
  }

  end(): void {
    this.queue.end();
    this.#release();
  }

  fail(error: MicroError | (() => MicroError), drop: boolean): void {
    this.queue.fail(error, drop);
    this.#release();
  }

  #release(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }
}

export interface MemoryExchangeInit {
  readonly id: string;
  readonly address: string;
  /** What the handler sees as its peer. Default: `memory`. */
  readonly remote?: string;
  readonly request: ExchangeRequest;
  readonly options: ExchangeOptions;
  /** Which of the two the caller asked for. */
  readonly opened: "call" | "stream";
  readonly maxMessageBytes: number;
  /** Largest message the caller takes. Default: any. */
  readonly maxReplyBytes?: number | undefined;
  /** Called once when neither end holds anything any more. */
  ended(exchange: MemoryExchange): void;
}

export class MemoryExchange implements ClientExchange {
  readonly #init: MemoryExchangeInit;
  readonly #toServer = new Channel<Uint8Array>();
  readonly #toClient = new Channel<ExchangeMessage>();
  readonly server: MemoryServerEnd;
  #state: "open" | "half closed" | "over" = "open";
  #failure: MicroError | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #onAbort: (() => void) | undefined;

  constructor(init: MemoryExchangeInit) {
    this.#init = init;
    const { options } = init;
    this.server = new MemoryServerEnd(init, this, this.#toServer);
    if (options.deadline !== undefined) this.#arm(options.deadline);
    const { signal } = options;
    if (signal !== undefined) {
      this.#onAbort = () => this.fail(cancelled(signal.reason, false));
      signal.addEventListener("abort", this.#onAbort, { once: true });
    }
  }

  get over(): boolean {
    return this.#state === "over";
  }

  send(body: Uint8Array): void | Promise<void> {
    if (this.#state !== "open") {
      const detail = this.#state === "half closed" ? "send after closeSend" : "the stream has ended";
      return Promise.reject(this.#failure ?? new MicroError(detail, { id: memoryId, code: "closed" }));
    }
    if (body.length > this.#init.maxMessageBytes) {
      const error = tooLarge(this.#init.maxMessageBytes);
      this.fail(error);
      return Promise.reject(error);
    }
    return this.#toServer.send(body.slice());
  }

  closeSend(): void {
    if (this.#state !== "open") return;
    this.#state = "half closed";
    this.#toServer.end();
  }

  receive(): Promise<ExchangeMessage | undefined> {
    return this.#toClient.queue.receive();
  }

  cancel(reason?: unknown): void {
    this.fail(cancelled(reason, false));
  }

  /** End at once: the caller reads `error`, the handler is cancelled. */
  fail(error: MicroError): void {
    this.#toClient.fail(error, true);
    if (this.#state === "over") return;
    this.#failure = error;
    this.#release();
    this.server.lost(new MicroError("the caller is gone", { id: memoryId, code: "aborted" }));
  }

  /** A message from the server. */
  deliver(message: ExchangeMessage): void | Promise<void> {
    if (this.#state === "over") return undefined;
    const { maxReplyBytes } = this.#init;
    if (maxReplyBytes !== undefined && message.body.length > maxReplyBytes) return this.fail(tooLarge(maxReplyBytes));
    return this.#toClient.send(message);
  }

  /** The server has said its last. */
  finish(): void {
    if (this.#state === "over") return;
    this.#toClient.end();
    this.#release();
  }

  #release(): void {
    this.#state = "over";
    clearTimeout(this.#timer);
    if (this.#onAbort !== undefined) this.#init.options.signal?.removeEventListener("abort", this.#onAbort);
    this.#init.ended(this);
  }

  #arm(deadline: number): void {
    const leftMs = Math.min(Math.max(0, Math.ceil(deadline - performance.now())), 0x7fff_ffff);
    this.#timer = setTimeout(() => {
      if (performance.now() >= deadline) this.fail(deadlineExceeded(false));
      else this.#arm(deadline);
    }, leftMs);
  }
}

class MemoryServerEnd implements ServerExchange, ServerStream {
  readonly id: string;
  readonly service: string;
  readonly endpoint: string;
  readonly contentType: string;
  readonly lookedUp: boolean;
  readonly opened: "call" | "stream";
  readonly topic: string | undefined = undefined;
  readonly oldProtocol = false;
  readonly timeoutMs: number | undefined;
  readonly remote: string;
  readonly local: string;
  readonly cancellation: Cancellation;
  body: Uint8Array;
  readonly header: Metadata;
  readonly #client: MemoryExchange;
  readonly #incoming: Channel<Uint8Array>;
  #state: "open" | "stream" | "ended" = "open";
  #gone: MicroError | undefined;

  constructor(
    init: Pick<MemoryExchangeInit, "id" | "address" | "remote" | "request" | "options" | "opened">,
    client: MemoryExchange,
    incoming: Channel<Uint8Array>,
  ) {
    const { id, address, remote, request, options, opened } = init;
    this.id = id;
    this.remote = remote ?? "memory";
    this.local = address;
    this.service = request.service;
    this.endpoint = request.endpoint;
    this.contentType = request.contentType;
    this.lookedUp = request.lookedUp === true;
    this.opened = opened;
    this.body = request.body.slice();
    this.#client = client;
    this.#incoming = incoming;
    const { deadline } = options;
    this.timeoutMs = deadline === undefined ? undefined : Math.max(0, deadline - performance.now());
    this.cancellation = new Cancellation(deadline);
    // Copied now: the caller may change his metadata after the call.
    const entries = new Map<string, string>();
    for (const [name, value] of request.metadata ?? []) {
      if (!perMessageHeaders.has(name) || name === "Micro-From-Service") entries.set(name, value);
    }
    this.header = Metadata.lazy(() => {
      const own: [string, string][] = [
        ["Accept", request.accept ?? request.contentType],
        ["Content-Type", request.contentType],
        ["Micro-Endpoint", request.endpoint],
        ["Micro-Id", id],
        ["Micro-Method", request.endpoint],
        ["Micro-Service", request.service],
        ["Micro-Stream", id],
      ];
      if (this.timeoutMs !== undefined) own.push(["Timeout", `${Math.max(1, Math.floor(this.timeoutMs * 1e6))}`]);
      for (const [name, value] of own) entries.set(name, value);
      return entries;
    });
  }

  reply(message: OutgoingMessage): void {
    if (this.#state !== "open") return;
    this.#state = "ended";
    this.cancellation.end();
    if (this.#gone !== undefined) return;
    void this.#client.deliver(received(message));
    this.#client.finish();
  }

  stream(): ServerStream {
    if (this.#state !== "open") return this;
    this.#state = "stream";
    this.body = noBytes;
    return this;
  }

  send(message: OutgoingMessage): void | Promise<void> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    if (this.#state !== "stream")
      return Promise.reject(new MicroError("the stream has ended", { id: this.service, code: "closed" }));
    return this.#client.deliver(received(message));
  }

  receive(): Promise<Uint8Array | undefined> {
    return this.#incoming.queue.receive();
  }

  end(error?: OutgoingMessage): void {
    if (this.#state !== "stream") return;
    this.#state = "ended";
    this.cancellation.end();
    this.#incoming.fail(() => new MicroError("the stream has ended", { id: this.service, code: "closed" }), true);
    if (error !== undefined) void this.#client.deliver(received(error));
    this.#client.finish();
  }

  /** The caller is gone. */
  lost(reason: MicroError): void {
    if (this.#state === "ended") return;
    this.#gone = reason;
    this.#incoming.fail(reason, true);
    this.cancellation.cancel(reason);
  }
}

function received(message: OutgoingMessage): ExchangeMessage {
  const contentType = message.contentType ?? "";
  const header = new Metadata(message.metadata);
  if (contentType !== "") header.keep("Content-Type", contentType);
  if (message.error !== undefined) header.keep("Micro-Error", message.error);
  return {
    header,
    error: message.error === "" ? "unknown error" : message.error,
    notRun: message.notRun === true,
    contentType,
    body: message.body.slice(),
  };
}

export function cancelled(reason: unknown, notRun: boolean): MicroError {
  return new MicroError("cancelled by the caller", { id: "go.micro.client", code: "aborted", cause: reason, notRun });
}

export function deadlineExceeded(notRun: boolean): MicroError {
  return new MicroError("context deadline exceeded", { id: "go.micro.client", code: "timeout", notRun });
}

export function tooLarge(maxBytes: number): MicroError {
  return new MicroError(`the body is larger than ${maxBytes} bytes`, { id: memoryId, code: "too_large" });
}
