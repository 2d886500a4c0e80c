/**
 * The caller's end of a stream, on a connection of its own: an opening message, one request for each message sent, and
 * `Micro-Error: EOS` as end marker in both directions (`client/rpc_stream.go`).
 */
import type { ConnectionOptions } from "node:tls";
import { MicroError } from "../../errors.ts";
import type { AsciiText } from "../ascii-text.ts";
import { ReceiveQueue } from "../receive-queue.ts";
import type { ClientExchange, ExchangeMessage, ExchangeOptions, ExchangeRequest } from "../transport.ts";
import { ClientConnection, type ConnectionUser } from "./client-connection.ts";
import type { PooledAddress } from "./connection-pool.ts";
import { cancelled, deadlineExceeded, dialTimeout, transportId } from "./dial.ts";
import type { Head } from "./head.ts";
import { metadataLines, ownLines, timeoutLine } from "./head-writer.ts";
import type { MessageLimits } from "./message-parser.ts";
import { HttpReply, refusedSize, statusError } from "./reply.ts";
import { repeatableHead } from "./socket-writer.ts";

export interface ClientStreamInit {
  readonly address: PooledAddress;
  readonly tls: ConnectionOptions | undefined;
  readonly limits: MessageLimits;
  readonly id: string;
  readonly request: ExchangeRequest;
  readonly options: ExchangeOptions;
  opened(stream: ClientExchange): void;
  failed(error: MicroError): void;
  /** Called once when the stream holds nothing any more. */
  ended(): void;
}

const noBytes = new Uint8Array(0);
const firstReminderMs = 250;
const maxReminderMs = 4_000;

export class HttpClientStream implements ClientExchange, ConnectionUser {
  readonly #init: ClientStreamInit;
  readonly #connection: ClientConnection;
  readonly #queue: ReceiveQueue<HttpReply>;
  #state: "dialing" | "open" | "half closed" | "over" = "dialing";
  #head = "";
  #sendHead: Buffer | undefined;
  #failure: MicroError | undefined;
  #timer: NodeJS.Timeout | undefined;
  #reminder: NodeJS.Timeout | undefined;
  #reminderMs = firstReminderMs;
  #reminded = false;
  /** What the peer is: replies of Go servers echo request headers, ours do not. */
  #peer: "unknown" | "ours" | "go" = "unknown";
  readonly #onAbort: (() => void) | undefined;

  constructor(init: ClientStreamInit) {
    this.#init = init;
    const { options, address } = init;
    this.#queue = new ReceiveQueue({ onRoom: () => this.#connection.resume() });
    this.#connection = new ClientConnection(address.address, address.target, init.tls, init.limits, this);
    if (options.maxMessageBytes !== undefined) this.#connection.parser.maxMessageBytes = options.maxMessageBytes;
    const dialMs = options.dialTimeoutMs ?? 5_000;
    const now = performance.now();
    const leftMs = (options.deadline ?? Number.POSITIVE_INFINITY) - now;
    this.#timer = setTimeout(
      () =>
        setImmediate(() => {
          if (this.#state === "dialing")
            this.fail(leftMs <= dialMs ? deadlineExceeded(true) : dialTimeout(address.address, dialMs));
        }),
      Math.max(0, Math.min(dialMs, leftMs, 0x7fff_ffff)),
    );
    const { signal } = options;
    if (signal !== undefined) {
      this.#onAbort = () => this.fail(cancelled(signal.reason, this.#state === "dialing"));
      signal.addEventListener("abort", this.#onAbort, { once: true });
    }
  }

  connected(): void {
    clearTimeout(this.#timer);
    const { id, request, options, address } = this.#init;
    const now = performance.now();
    if (options.deadline !== undefined) {
      if (options.deadline <= now) {
        this.fail(deadlineExceeded(true));
        return;
      }
      this.#armDeadline(options.deadline);
    }
    this.#head = `${address.prefixes.get(request)}Micro-Id: ${id}\r\nMicro-Stream: ${id}\r\n${
      timeoutLine(options.deadline, now) + metadataLines(request.metadata)
    }`;
    this.#state = "open";
    const own = ownLines(request, options.wire, "stream");
    this.#connection.writer.write(`${this.#head}${own}Content-Length: 0\r\n\r\n`, noBytes);
    this.#init.opened(this);
  }

  send(body: Uint8Array): void | Promise<void> {
    if (this.#state !== "open")
      return Promise.reject(
        this.#failure ??
          new MicroError(this.#state === "half closed" ? "send after closeSend" : "the stream has ended", {
            id: transportId,
            code: "closed",
          }),
      );
    return this.#connection.writer.gatherRepeated((this.#sendHead ??= repeatableHead(this.#head)), body);
  }

  closeSend(): void {
    if (this.#state !== "open") return;
    this.#state = "half closed";
    this.#sendEnd();
    this.#remindLater();
  }

  receive(): Promise<ExchangeMessage | undefined> {
    return this.#queue.receive();
  }

  poll(): ExchangeMessage | undefined {
    return this.#queue.poll();
  }

  cancel(reason?: unknown): void {
    // Every stream is cancelled once its reader has come to the end; that costs no error.
    if (this.#state === "over" && this.#queue.drained) return;
    this.fail(cancelled(reason, false));
  }

  /** End at once with `error`; what is queued is dropped. Closing the connection cancels the peer's handler. */
  fail(error: MicroError): void {
    if (this.#state === "over") {
      this.#queue.fail(error, true);
      return;
    }
    this.#finish(error, true);
  }

  message(head: Head, body: Buffer, text: AsciiText | undefined, start: number): void {
    if (this.#state === "over") return;
    if (head.status !== 200) {
      this.#finish(statusError(head, body), false);
      return;
    }
    if (head.error === "EOS") {
      this.#finish(undefined, false);
      return;
    }
    const refused = refusedSize(head);
    if (refused !== undefined) {
      this.#finish(refused, false);
      return;
    }
    // Ours name the type of a stream's messages once.
    const reply = new HttpReply(head, body, this.#init.request.contentType, text, start);
    if (this.#peer === "unknown") this.#peer = reply.header.has("Accept") ? "go" : "ours";
    if (this.#reminder !== undefined && this.#peer === "go") {
      this.#reminderMs = firstReminderMs;
      this.#remindLater();
    }
    this.#queue.push(reply);
    if (reply.error !== undefined) {
      // An error ends a stream on either side; the reader finds it as the last message.
      this.#finish(undefined, false);
    } else if (this.#queue.full) this.#connection.hold();
  }

  informed(): void {
    this.#peer = "ours";
  }

  lost(error: MicroError, ended: boolean): void {
    if (this.#state === "over") return;
    // Newest Go servers answer the end marker of a stream they have finished by closing the connection, and never
    // send one of their own when they saw ours before (`server/rpc_server.go`).
    if (ended && this.#state === "half closed" && (this.#peer === "go" || (this.#peer === "unknown" && this.#reminded)))
      this.#finish(undefined, false);
    else if (this.#state === "dialing") this.#finish(error, false);
    else
      this.#finish(
        error.code === "unavailable"
          ? new MicroError(`stream of ${this.#init.address.address} ended without its end marker`, {
              id: transportId,
              code: "unavailable",
              cause: error,
            })
          : error,
        false,
      );
  }

  #finish(error: MicroError | undefined, drop: boolean): void {
    const dialing = this.#state === "dialing";
    this.#state = "over";
    this.#failure = error;
    clearTimeout(this.#timer);
    clearTimeout(this.#reminder);
    this.#reminder = undefined;
    if (this.#onAbort !== undefined) this.#init.options.signal?.removeEventListener("abort", this.#onAbort);
    this.#connection.destroy();
    if (error === undefined) this.#queue.end();
    else this.#queue.fail(error, drop);
    if (dialing && error !== undefined) this.#init.failed(error);
    this.#init.ended();
  }

  #armDeadline(deadline: number): void {
    const leftMs = Math.min(Math.max(0, Math.ceil(deadline - performance.now())), 0x7fff_ffff);
    this.#timer = setTimeout(() => {
      if (performance.now() < deadline) return this.#armDeadline(deadline);
      // When this process was busy, the end of the stream may lie in the socket: that is read first.
      setImmediate(() => {
        if (this.#state !== "over") this.fail(deadlineExceeded(false));
      });
      return undefined;
    }, leftMs);
  }

  #sendEnd(): void {
    void this.#connection.writer.gather(`${this.#head}Content-Length: 0\r\nMicro-Error: EOS\r\n\r\n`, noBytes);
  }

  #remindLater(): void {
    clearTimeout(this.#reminder);
    this.#reminder = setTimeout(() => {
      // A server of ours has said that it is there: it will send its end marker.
      if (this.#peer === "ours" || this.#state !== "half closed") return;
      this.#reminded = true;
      this.#sendEnd();
      this.#reminderMs = Math.min(this.#reminderMs * 2, maxReminderMs);
      this.#remindLater();
    }, this.#reminderMs);
  }
}
