/** One call or stream as the listener sees it, on the fast wire. */
import { Cancellation } from "../../context.ts";
import { MicroError } from "../../errors.ts";
import { Metadata } from "../../metadata.ts";
import { transportId } from "../http/dial.ts";
import type { OutgoingMessage, ServerExchange, ServerStream } from "../transport.ts";
import type { Fields, Route } from "./dictionary.ts";
import { dataFlag, ExchangeError, frameType, openFlag, resetCode } from "./frames.ts";
import { Inbox } from "./inbox.ts";
import { messageFields, setFields } from "./message.ts";
import { unpackBytes } from "./message-queue.ts";
import { Sender } from "./sender.ts";
import type { FastServerConnection } from "./server-connection.ts";

const noBytes = new Uint8Array(0);
/** One for all, since nobody gets to see it. */
const unsent = new MicroError("nobody waits for it any more", { id: transportId, code: "aborted" });

export class FastServerExchange implements ServerExchange, ServerStream {
  readonly #connection: FastServerConnection;
  readonly #route: Route;
  readonly #fields: Fields;
  readonly #deadline: number | undefined;
  /** Of OPEN. */
  readonly #flags: number;
  readonly numericId: number;
  readonly timeoutMs: number | undefined;
  readonly topic: undefined;
  readonly oldProtocol = false;
  body: Uint8Array;
  /** Of OPEN. */
  readonly openedBytes: number;
  /** All that a call has is there, or a stream is open: its handler may be called. */
  dispatched = false;
  /** The handler has been called. */
  started = false;
  #header: Metadata | undefined;
  #cancellation: Cancellation | undefined;
  #gone: MicroError | undefined;
  #state: "open" | "stream" | "ended" = "open";
  #inbox: Inbox<Uint8Array> | undefined;
  #sender: Sender | undefined;
  /** No more messages of the caller, known before there was an inbox. */
  #halfClosed = false;

  constructor(
    connection: FastServerConnection,
    id: number,
    flags: number,
    route: Route,
    fields: Fields,
    timeoutMs: number | undefined,
    now: number,
    body: Uint8Array,
    openedBytes: number,
  ) {
    this.#connection = connection;
    this.numericId = id;
    this.#flags = flags;
    this.#route = route;
    this.#fields = fields;
    this.timeoutMs = timeoutMs;
    this.#deadline = timeoutMs === undefined ? undefined : now + timeoutMs;
    this.body = body;
    this.openedBytes = openedBytes;
  }

  get service(): string {
    return this.#route.service;
  }
  get endpoint(): string {
    return this.#route.endpoint;
  }
  get contentType(): string {
    return this.#route.contentType;
  }
  get lookedUp(): boolean {
    return (this.#flags & openFlag.lookedUp) !== 0;
  }
  get opened(): "call" | "stream" {
    return (this.#flags & openFlag.stream) !== 0 ? "stream" : "call";
  }
  get id(): string {
    return String(this.numericId);
  }
  get remote(): string {
    return this.#connection.remote;
  }
  get local(): string {
    return this.#connection.local;
  }

  get header(): Metadata {
    return (this.#header ??= Metadata.lazy(() => this.#entries()));
  }

  get cancellation(): Cancellation {
    if (this.#cancellation === undefined) {
      this.#cancellation = new Cancellation(this.#deadline);
      if (this.#gone !== undefined) this.#cancellation.cancel(this.#gone);
      else if (this.#state === "ended") this.#cancellation.end();
    }
    return this.#cancellation;
  }

  reply(message: OutgoingMessage): void {
    if (!this.#closes()) return;
    if (this.#gone === undefined) this.#last(message);
    this.#connection.finished(this);
  }

  replyText(contentType: string, body: string): void {
    if (!this.#closes()) return;
    if (this.#gone === undefined) {
      const inPlace =
        this.#sender === undefined &&
        contentType === this.#route.contentType &&
        3 * body.length <= this.#connection.peer.maxMessageBytes &&
        this.#connection.sendReplyText(this.numericId, body);
      if (!inPlace) this.#last({ contentType, body: Buffer.from(body, "utf8") });
    }
    this.#connection.finished(this);
  }

  #closes(): boolean {
    if (this.#state !== "open") return false;
    this.#state = "ended";
    this.#cancellation?.end();
    this.#inbox?.close();
    return true;
  }

  stream(): ServerStream {
    if (this.#state !== "open") return this;
    this.#state = "stream";
    this.body = noBytes;
    const inbox = this.#incoming();
    if (this.#gone !== undefined) inbox.fail(this.#gone, true);
    return this;
  }

  send(message: OutgoingMessage): void | Promise<void> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    if (this.#state !== "stream")
      return Promise.reject(new MicroError("the stream has ended", { id: this.service, code: "closed" }));
    try {
      const fields = messageFields(message, this.#route.contentType);
      this.#checkSize(message.body);
      return this.#outgoing().send(fields, 0, message.body);
    } catch (error) {
      return Promise.reject(this.#unsendable(error));
    }
  }

  sendText(contentType: string, body: string): void | Promise<void> {
    if (
      this.#state === "stream" &&
      this.#gone === undefined &&
      contentType === this.#route.contentType &&
      this.#outgoing().sendText(body, this.#connection.peer.maxMessageBytes)
    )
      return undefined;
    return this.send({ contentType, body: Buffer.from(body, "utf8") });
  }

  receive(): Promise<Uint8Array | undefined> {
    if (this.#state === "open" || this.#inbox === undefined)
      return Promise.reject(new TypeError("receive() on an exchange that is no stream"));
    return this.#inbox.queue.receive();
  }

  end(error?: OutgoingMessage): void {
    if (this.#state !== "stream") return;
    this.#state = "ended";
    this.#cancellation?.end();
    this.#inbox?.fail(() => new MicroError("the stream has ended", { id: this.service, code: "closed" }), true);
    if (this.#gone === undefined) {
      if (error === undefined) this.#outgoing().end();
      else this.#last(error);
    }
    this.#connection.finished(this);
  }

  /** The handler has come to an end. */
  get finished(): boolean {
    return this.#state === "ended";
  }

  /** Something of it still waits to be sent. */
  get sending(): boolean {
    return this.#gone === undefined && this.#sender !== undefined && !this.#sender.idle;
  }

  /** Bytes that wait to be sent. */
  get waitingBytes(): number {
    return this.#sender?.waitingBytes ?? 0;
  }

  isLate(now: number): boolean {
    return this.#deadline !== undefined && now >= this.#deadline;
  }

  /** Called once a tick. @returns for how many nothing was taken of a last message that waits. */
  stalledTicks(): number {
    return this.finished ? (this.#sender?.stalledTicks() ?? 0) : 0;
  }

  /** Called once a tick. */
  arrivesTooSlowly(graceTicks: number, bytesPerTick: number): boolean {
    return this.#inbox?.arrivesTooSlowly(graceTicks, bytesPerTick) ?? false;
  }

  /** Call back once nothing waits any more, or will not be sent; only while {@link sending}. */
  whenSent(done: () => void): void {
    (this.#sender as Sender).onIdle = done;
  }

  /** The request goes on in DATA frames. @throws {ExchangeError} */
  begin(bytes: Uint8Array, start: number, end: number): void {
    this.#incoming().begin(bytes, start, end);
  }

  /** The caller has only one message, and that is known. */
  noMoreMessages(): void {
    // Made when the handler wants a stream; most do not.
    if (this.#inbox !== undefined) this.#inbox.queue.end();
    else this.#halfClosed = true;
  }

  /**
   * A DATA frame.
   * @returns true when the request of a call is complete. @throws {ExchangeError}
   */
  data(flags: number, bytes: Uint8Array, start: number, end: number): boolean {
    if (this.#state === "ended") return false;
    if (this.#halfClosed || this.#inbox?.queue.closed === true)
      throw new ExchangeError("a message behind the end of the caller's messages");
    const inbox = this.#incoming();
    if (flags === 0 && this.dispatched && inbox.pack(bytes, start, end)) return false;
    inbox.spend(end - start, flags);
    const body = inbox.body((flags & dataFlag.more) !== 0, bytes, start, end);
    if (body === undefined) return false;
    if (!this.dispatched) {
      this.body = body;
      inbox.queue.end();
      return true;
    }
    inbox.push(body);
    if ((flags & dataFlag.end) !== 0) inbox.queue.end();
    return false;
  }

  /** END. @throws {ExchangeError} */
  ended(): void {
    if (this.#state === "ended") return;
    const inbox = this.#incoming();
    if (inbox.inside) throw new ExchangeError("the end came inside of a message");
    inbox.queue.end();
  }

  /** WINDOW. @returns false for more credit than there may be. */
  granted(credit: number): boolean {
    return this.#outgoing().grant(credit);
  }

  /** The caller or the connection is gone, or this end gives it up. */
  lost(reason: MicroError): void {
    if (this.#gone !== undefined) return;
    this.#gone = reason;
    const sender = this.#sender;
    if (sender !== undefined) {
      sender.stop();
      sender.onIdle?.();
      sender.onIdle = undefined;
    }
    if (this.#state === "ended") return;
    this.#inbox?.fail(reason, true);
    this.#cancellation?.cancel(reason);
  }

  /** No handler runs, and what is kept of the exchange is of no more use. */
  dropRest(): void {
    this.lost(unsent);
  }

  /** The last message: a reply, or the error of a stream. */
  #last(message: OutgoingMessage): void {
    try {
      const fields = messageFields(message, this.#route.contentType);
      this.#checkSize(message.body);
      if (this.#sender !== undefined || !this.#connection.sendReply(this.numericId, fields, message.body))
        void this.#outgoing().send(fields, dataFlag.end, message.body);
    } catch (error) {
      this.#sender?.stop();
      this.#reset(error);
      this.dropRest();
    }
  }

  #checkSize(body: Uint8Array): void {
    const limit = this.#connection.peer.maxMessageBytes;
    if (body.length > limit)
      throw new ExchangeError(`the message is larger than the ${limit} bytes the caller takes`, resetCode.tooLarge);
  }

  /** Nothing of the message can be sent: the caller is told so. */
  #unsendable(error: unknown): MicroError {
    const reason = error instanceof Error ? error.message : String(error);
    const tooLarge = error instanceof ExchangeError && error.code === resetCode.tooLarge;
    const code = tooLarge ? "too_large" : "unavailable";
    const failure = new MicroError(reason, { id: this.service, code, cause: error });
    this.#sender?.stop();
    this.#reset(error);
    this.lost(failure);
    return failure;
  }

  #reset(error: unknown): void {
    const code = error instanceof ExchangeError ? error.code : resetCode.internal;
    const reason = error instanceof Error ? error.message : String(error);
    this.#connection.writer.reset(frameType.reset, this.numericId, code, reason);
    this.#connection.forget(this);
  }

  #incoming(): Inbox<Uint8Array> {
    if (this.#inbox === undefined) {
      this.#inbox = new Inbox(this.numericId, this.#connection.share, unpackBytes);
      if (this.#halfClosed) this.#inbox.queue.end();
    }
    return this.#inbox;
  }

  #outgoing(): Sender {
    return (this.#sender ??= new Sender(this.numericId, this.#connection.turns));
  }

  #entries(): Map<string, string> {
    const { service, endpoint, contentType, accept } = this.#route;
    const entries = new Map<string, string>();
    setFields(entries, this.#fields);
    entries.set("Accept", accept);
    entries.set("Content-Type", contentType);
    entries.set("Micro-Endpoint", endpoint);
    entries.set("Micro-Id", this.id);
    entries.set("Micro-Method", endpoint);
    entries.set("Micro-Service", service);
    entries.set("Micro-Stream", this.id);
    if (this.timeoutMs !== undefined) entries.set("Timeout", `${this.timeoutMs}000000`);
    return entries;
  }
}
