/** The caller's end of a stream on the fast wire. */
import { MicroError } from "../../errors.ts";
import { cancelled, transportId } from "../http/dial.ts";
import type { ClientExchange, ExchangeMessage, ExchangeOptions, ExchangeRequest } from "../transport.ts";
import type { ClientExchangeEntry, FastConnection } from "./client-connection.ts";
import { dataFlag, ExchangeError, frameCost, resetCode } from "./frames.ts";
import { Inbox } from "./inbox.ts";
import { FastMessage, hasFields, messageFields, PackedMessage, readFields, type ReceivedFields } from "./message.ts";
import { Sender } from "./sender.ts";

/** Opens streams on the other wire. */
export interface StreamFallback {
  openOverHttp(
    request: ExchangeRequest,
    options: ExchangeOptions,
    opened: (stream: ClientExchange) => void,
    failed: (error: MicroError) => void,
  ): void;
}

const noBytes = new Uint8Array(0);
const noFields = messageFields({ contentType: "", body: noBytes }, "");

export class FastClientStream implements ClientExchange, ClientExchangeEntry {
  numericId = 0;
  sentAt = 0;
  startedAt: number;
  readonly deadline: number;
  readonly #request: ExchangeRequest;
  readonly #options: ExchangeOptions;
  readonly #opened: (stream: ClientExchange) => void;
  readonly #failed: (error: MicroError) => void;
  readonly #fallBack: StreamFallback;
  #connection!: FastConnection;
  #sender!: Sender;
  #inbox!: Inbox<FastMessage | PackedMessage>;
  #state: "waiting" | "open" | "half closed" | "over" = "waiting";
  #failure: MicroError | undefined;
  #onAbort: (() => void) | undefined;
  /** Of the message that is coming in. */
  #fields: ReceivedFields | undefined;
  #flags = 0;
  #cost = 0;

  constructor(
    request: ExchangeRequest,
    options: ExchangeOptions,
    opened: (stream: ClientExchange) => void,
    failed: (error: MicroError) => void,
    now: number,
    fallBack: StreamFallback,
  ) {
    this.#request = request;
    this.#options = options;
    this.#opened = opened;
    this.#failed = failed;
    this.#fallBack = fallBack;
    this.startedAt = now;
    this.deadline = options.deadline ?? Number.POSITIVE_INFINITY;
  }

  get dialTimeoutMs(): number {
    return this.#options.dialTimeoutMs ?? 5_000;
  }

  get dialUntil(): number {
    return this.startedAt + this.dialTimeoutMs;
  }

  /** Go to a connection, to wait there or to be opened. */
  start(connection: FastConnection, now: number): void {
    this.#connection = connection;
    const { signal } = this.#options;
    if (signal !== undefined && this.#onAbort === undefined) {
      this.#onAbort = () => this.cancel(signal.reason);
      signal.addEventListener("abort", this.#onAbort, { once: true });
    }
    connection.start(this, now);
  }

  begin(connection: FastConnection, now: number): void {
    connection.sendOpen(this, this.#request, true, noBytes, now);
    this.#sender = new Sender(this.numericId, connection.turns);
    this.#inbox = new Inbox<FastMessage | PackedMessage>(
      this.numericId,
      connection.share,
      (slab, from, to) => new PackedMessage(this.#request.contentType, slab, from, to),
      Math.min(this.#options.maxMessageBytes ?? Number.POSITIVE_INFINITY, connection.share.maxMessageBytes),
    );
    this.#state = "open";
    this.#opened(this);
  }

  fallBack(): void {
    this.#release();
    this.#fallBack.openOverHttp(this.#request, this.#options, this.#opened, this.#failed);
  }

  send(body: Uint8Array): void | Promise<void> {
    if (this.#state !== "open") {
      const detail = this.#state === "half closed" ? "send after closeSend" : "the stream has ended";
      return Promise.reject(this.#failure ?? new MicroError(detail, { id: transportId, code: "closed" }));
    }
    const limit = this.#connection.peer.maxMessageBytes;
    if (body.length > limit) {
      const error = new MicroError(`the message is larger than the ${limit} bytes the peer takes`, {
        id: transportId,
        code: "too_large",
      });
      this.#connection.reset(this, resetCode.cancelled, "a message was too large");
      this.fail(error);
      return Promise.reject(error);
    }
    return this.#sender.send(noFields, 0, body);
  }

  closeSend(): void {
    if (this.#state !== "open") return;
    this.#state = "half closed";
    this.#sender.end();
  }

  receive(): Promise<ExchangeMessage | undefined> {
    return this.#inbox.queue.receive();
  }

  poll(): ExchangeMessage | undefined {
    return this.#inbox.queue.poll();
  }

  cancel(reason?: unknown): void {
    const error = cancelled(reason, this.#state === "waiting");
    if (this.#state === "over") {
      this.#inbox.fail(error, true);
      return;
    }
    this.#connection.reset(this, resetCode.cancelled, "");
    this.#finish(error, true);
  }

  data(flags: number, bytes: Uint8Array, start: number, end: number): void {
    const inbox = this.#inbox;
    if (flags === 0 && inbox.pack(bytes, start, end)) return;
    inbox.spend(end - start, flags);
    let from = start;
    if (!inbox.inside) {
      this.#fields = hasFields(flags) ? readFields(flags, bytes, start, end, this.#request.contentType) : undefined;
      this.#flags = flags;
      this.#cost = 0;
      from = this.#fields?.bodyStart ?? start;
    } else if (hasFields(flags)) throw new ExchangeError("fields inside of a message");
    this.#cost += end - start + frameCost(flags);
    const body = inbox.body((flags & dataFlag.more) !== 0, bytes, from, end);
    if (body === undefined) return;
    const fields = this.#fields;
    const message = new FastMessage(
      fields?.contentType ?? this.#request.contentType,
      fields?.error,
      (this.#flags & dataFlag.notRun) !== 0,
      fields?.fields ?? [],
      body,
      this.#cost,
    );
    const ends = (flags & dataFlag.end) !== 0;
    if (!ends && message.error === undefined) {
      inbox.push(message);
      return;
    }
    // An error ends a stream; the reader finds it as the last message.
    if (ends) this.#connection.finish(this);
    else this.#connection.reset(this, resetCode.cancelled, "");
    this.#inbox.close();
    inbox.push(message);
    this.#finish(undefined, false);
  }

  ended(): void {
    if (this.#inbox.inside)
      this.#finish(
        new MicroError(`${this.#connection.address} ended the stream inside of a message`, {
          id: transportId,
          code: "protocol",
        }),
        false,
      );
    else this.#finish(undefined, false);
  }

  granted(credit: number): boolean {
    return this.#sender.grant(credit);
  }

  fail(error: MicroError): void {
    if (this.#state === "over") return;
    this.#finish(error, error.code === "closed" || error.code === "timeout");
  }

  #finish(error: MicroError | undefined, drop: boolean): void {
    const waiting = this.#state === "waiting";
    this.#state = "over";
    this.#failure = error;
    this.#release();
    if (waiting) {
      if (error !== undefined) this.#failed(error);
      return;
    }
    this.#sender.stop();
    this.#inbox.close();
    if (error === undefined) this.#inbox.queue.end();
    else this.#inbox.queue.fail(error, drop);
  }

  #release(): void {
    if (this.#onAbort === undefined) return;
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#onAbort = undefined;
  }
}
