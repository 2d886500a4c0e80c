/** A unary call on the fast wire. */
import { MicroError } from "../../errors.ts";
import { cancelled, transportId } from "../http/dial.ts";
import type { ExchangeMessage, ExchangeOptions, ExchangeRequest } from "../transport.ts";
import type { ClientExchangeEntry, FastConnection } from "./client-connection.ts";
import { dataFlag, ExchangeError, resetCode } from "./frames.ts";
import { maxTextLength } from "./frame-writer.ts";
import { Inbox } from "./inbox.ts";
import { emptyFields, FastMessage, hasFields, keepBody, readFields, type ReceivedFields } from "./message.ts";
import { unpackBytes } from "./message-queue.ts";
import { Sender } from "./sender.ts";

/** Makes calls on the other wire. */
export interface CallFallback {
  callOverHttp(
    request: ExchangeRequest,
    options: ExchangeOptions,
    resolve: (reply: ExchangeMessage) => void,
    reject: (error: MicroError) => void,
  ): void;
}

export class FastCall implements ClientExchangeEntry {
  numericId = 0;
  sentAt = 0;
  startedAt: number;
  readonly deadline: number;
  readonly #request: ExchangeRequest;
  readonly #options: ExchangeOptions;
  readonly #resolve: (reply: ExchangeMessage) => void;
  readonly #reject: (error: MicroError) => void;
  readonly #fallBack: CallFallback;
  #connection: FastConnection | undefined;
  #onAbort: (() => void) | undefined;
  // Only for what does not fit a frame.
  #sender: Sender | undefined;
  #inbox: Inbox<Uint8Array> | undefined;
  #fields: ReceivedFields | undefined;
  #flags = 0;

  constructor(
    request: ExchangeRequest,
    options: ExchangeOptions,
    resolve: (reply: ExchangeMessage) => void,
    reject: (error: MicroError) => void,
    now: number,
    fallBack: CallFallback,
  ) {
    this.#request = request;
    this.#options = options;
    this.#resolve = resolve;
    this.#reject = reject;
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

  /** Go to a connection, to wait there or to be sent. */
  start(connection: FastConnection, now: number): void {
    this.#connection = connection;
    const { signal } = this.#options;
    if (signal !== undefined && this.#onAbort === undefined) {
      this.#onAbort = () => this.#abort(signal.reason);
      signal.addEventListener("abort", this.#onAbort, { once: true });
    }
    connection.start(this, now);
  }

  begin(connection: FastConnection, now: number): void {
    const request = this.#request;
    const { text } = request;
    const limit = connection.peer.maxMessageBytes;
    const short = text !== undefined && text.length <= maxTextLength && 3 * text.length <= limit;
    if (!short && request.body.length > limit)
      throw new ExchangeError(`the body is larger than the ${limit} bytes the peer takes`, resetCode.tooLarge);
    const sent = connection.sendOpen(this, request, false, short ? text : request.body, now);
    if (sent === undefined) return;
    this.#sender = new Sender(this.numericId, connection.turns);
    this.#sender.rest(request.body, sent, 0);
  }

  fallBack(): void {
    this.#release();
    this.#fallBack.callOverHttp(this.#request, this.#options, this.#resolve, this.#reject);
  }

  data(flags: number, bytes: Uint8Array, start: number, end: number): void {
    if ((flags & dataFlag.more) === 0 && this.#inbox === undefined) {
      const limit = this.#maxReplyBytes;
      if (end - start > limit) throw new ExchangeError(`the reply is larger than ${limit} bytes`, resetCode.tooLarge);
      const { contentType } = this.#request;
      if (!hasFields(flags)) {
        const body = keepBody(bytes, start, end);
        this.#answer(flags, new FastMessage(contentType, undefined, false, emptyFields, body, 0));
      } else {
        const fields = readFields(flags, bytes, start, end, contentType);
        this.#answer(flags, message(fields, flags, keepBody(bytes, fields.bodyStart, end)));
      }
      return;
    }
    this.#assemble(flags, bytes, start, end);
  }

  get #maxReplyBytes(): number {
    const { maxMessageBytes } = (this.#connection as FastConnection).share;
    const own = this.#options.maxMessageBytes;
    return own === undefined ? maxMessageBytes : Math.min(own, maxMessageBytes);
  }

  #assemble(flags: number, bytes: Uint8Array, start: number, end: number): void {
    const connection = this.#connection as FastConnection;
    const inbox = (this.#inbox ??= new Inbox<Uint8Array>(
      this.numericId,
      connection.share,
      unpackBytes,
      this.#maxReplyBytes,
    ));
    inbox.spend(end - start, flags);
    let from = start;
    if (!inbox.inside) {
      this.#fields = readFields(flags, bytes, start, end, this.#request.contentType);
      this.#flags = flags;
      from = this.#fields.bodyStart;
    } else if (hasFields(flags)) throw new ExchangeError("fields inside of a message");
    const body = inbox.body((flags & dataFlag.more) !== 0, bytes, from, end);
    if (body !== undefined) this.#answer(flags, message(this.#fields as ReceivedFields, this.#flags, body));
  }

  #answer(flags: number, reply: FastMessage): void {
    const connection = this.#connection as FastConnection;
    if ((flags & dataFlag.end) !== 0) connection.finish(this);
    // A streaming endpoint that was called like a unary one would go on; nobody listens.
    else connection.reset(this, resetCode.cancelled, "one reply was wanted");
    this.#release();
    this.#resolve(reply);
  }

  ended(): void {
    const { address } = this.#connection as FastConnection;
    this.fail(new MicroError(`${address} ended the stream before a reply came`, { id: transportId, code: "protocol" }));
  }

  granted(credit: number): boolean {
    return this.#sender?.grant(credit) ?? true;
  }

  fail(error: MicroError): void {
    this.#release();
    this.#reject(error);
  }

  #abort(reason: unknown): void {
    this.#connection?.reset(this, resetCode.cancelled, "");
    this.fail(cancelled(reason, this.numericId === 0));
  }

  #release(): void {
    if (this.#onAbort !== undefined) {
      this.#options.signal?.removeEventListener("abort", this.#onAbort);
      this.#onAbort = undefined;
    }
    this.#sender?.stop();
    this.#inbox?.close();
  }
}

function message(fields: ReceivedFields, flags: number, body: Uint8Array): FastMessage {
  const { contentType, error } = fields;
  return new FastMessage(contentType, error, (flags & dataFlag.notRun) !== 0, fields.fields, body, 0);
}
