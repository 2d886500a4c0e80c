/** One call or stream as the server sees it. Whether it is a stream is the handler's decision, not the headers'. */
import { Cancellation } from "../../context.ts";
import { MicroError } from "../../errors.ts";
import type { Metadata } from "../../metadata.ts";
import { ReceiveQueue } from "../receive-queue.ts";
import type { OutgoingMessage, ServerExchange, ServerStream } from "../transport.ts";
import { transportId } from "./dial.ts";
import { decodeValue, type Head } from "./head.ts";
import { contentTypeLine, headerValue, replyLines } from "./head-writer.ts";
import type { ServerConnection } from "./server-connection.ts";
import { maxTextBytes, repeatableHead } from "./socket-writer.ts";

const noBytes = new Uint8Array(0);

const maxEarlyMessages = 64;
const maxEarlyBytes = 256 * 1024;
/** How long a handler has whose Go caller has said all and left: as long as one has when its server stops. */
const finishMs = 30_000;

interface EarlyMessage {
  readonly head: Head;
  readonly body: Buffer;
}

export class HttpServerExchange implements ServerExchange, ServerStream {
  readonly #connection: ServerConnection;
  readonly #head: Head;
  /** What the connection files it under. */
  readonly key: string;
  readonly deadline: number | undefined;
  readonly timeoutMs: number | undefined;
  body: Uint8Array;
  /** What its connection counts for the body. */
  bodyBytes: number;
  /** What its connection counts for the head: nothing for one of the usual size. */
  headBytes = 0;
  #header: Metadata | undefined;
  #cancellation: Cancellation | undefined;
  #gone: MicroError | undefined;
  /** The peer is gone, but left in good order: set for as long as the handler may go on. */
  #mayFinish: NodeJS.Timeout | undefined;
  #state: "open" | "stream" | "ended" = "open";
  #queue: ReceiveQueue<Buffer> | undefined;
  /** What came before the handler decided. */
  #early: EarlyMessage[] | undefined;
  #earlyBytes = 0;
  #holding = false;
  #streamLines = "";
  /** The head of the stream's messages of {@link #repeatedType}, once one has been sent with all that describes it. */
  #repeatedHead: Buffer | undefined;
  #repeatedType: string | undefined;

  constructor(connection: ServerConnection, key: string, head: Head, body: Buffer) {
    this.#connection = connection;
    this.key = key;
    this.#head = head;
    this.body = body;
    this.bodyBytes = body.length;
    const { timeout } = head;
    // Go takes an unparsable timeout for none, and 0 for one that is over (`server/rpc_server.go`).
    if (timeout === undefined || !/^\d{1,19}$/.test(timeout)) {
      this.timeoutMs = undefined;
      this.deadline = undefined;
    } else {
      this.timeoutMs = Number(timeout) / 1e6;
      this.deadline = performance.now() + this.timeoutMs;
    }
  }

  get service(): string {
    return this.#name(this.#head.service, "X-Micro-Service");
  }

  get endpoint(): string {
    const { endpoint, method, legacy } = this.#head;
    const name = endpoint || method;
    if (name) return decodeValue(name);
    return legacy ? (this.header.get("X-Micro-Endpoint") ?? this.header.get("X-Micro-Method") ?? "") : "";
  }

  get contentType(): string {
    return this.#head.contentType ?? "";
  }

  get id(): string {
    return decodeValue(this.#head.id ?? this.#head.stream ?? "");
  }

  get topic(): string | undefined {
    return this.#name(this.#head.topic, "X-Micro-Topic") || undefined;
  }

  get oldProtocol(): boolean {
    const head = this.#head;
    // The common case first: routed by header, and no sign of an old peer.
    if (head.endpoint && head.target === undefined && !head.legacy) return false;
    if (this.#name(head.protocol, "X-Micro-Protocol") !== "" || this.topic !== undefined) return false;
    return (this.service === "" && this.endpoint === "") || this.#name(head.target, "X-Micro-Target") !== "";
  }

  get lookedUp(): boolean {
    const { lookedUp, service } = this.#head;
    // Another service is named where a Go handler has passed it on with a call of its own.
    return lookedUp !== undefined && lookedUp !== "" && lookedUp === service;
  }

  /**
   * Ours say it. Go's clients of streams name the stream in each message; one that is named by a call may have been passed on from
   * the stream whose handler makes it (`wire` 1.9), so that only its absence tells: no further message could be of it.
   */
  get opened(): "call" | "stream" | undefined {
    const { opens, stream, legacy } = this.#head;
    if (opens === "call" || opens === "stream") return opens;
    return stream === undefined && !(legacy && this.header.has("X-Micro-Stream")) ? "call" : undefined;
  }

  get header(): Metadata {
    return (this.#header ??= this.#head.metadata());
  }

  get remote(): string {
    return this.#connection.remote;
  }

  get local(): string {
    return this.#connection.local;
  }

  get cancellation(): Cancellation {
    if (this.#cancellation === undefined) {
      this.#cancellation = new Cancellation(this.deadline);
      if (this.#gone !== undefined && this.#mayFinish === undefined) this.#cancellation.cancel(this.#gone);
      else if (this.#state === "ended") this.#cancellation.end();
    }
    return this.#cancellation;
  }

  reply(message: OutgoingMessage): void {
    this.#answer(message.body.length, replyLines(message), message.body);
  }

  replyText(contentType: string, body: string): void {
    const length = Buffer.byteLength(body, "utf8");
    if (length === body.length && length <= maxTextBytes) this.#answer(length, contentTypeLine(contentType), body);
    else this.reply({ contentType, body: Buffer.from(body, "utf8") });
  }

  /** @param body as text: ASCII only. */
  #answer(length: number, lines: string, body: Uint8Array | string): void {
    if (this.#state !== "open") return;
    this.#state = "ended";
    this.#cancellation?.end();
    if (this.#gone === undefined) {
      const id = this.#head.id ?? this.#head.stream;
      const head = `HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n${
        id === undefined ? "" : `Micro-Id: ${id}\r\n`
      }${lines}`;
      const cors = this.#head.oddities === 0 ? "" : this.#connection.corsLines(this.#head);
      this.#connection.write(cors === "" ? head : head + cors, body, this.#head.closes);
    }
    const early = this.#early;
    this.#early = undefined;
    this.#letGo();
    this.#connection.finished(this);
    // What was filed here as a part of a stream are requests of their own, since this was none.
    if (early !== undefined) for (const request of early) this.#connection.dispatch(request.head, request.body);
  }

  stream(): ServerStream {
    if (this.#state !== "open") return this;
    this.#state = "stream";
    this.body = noBytes;
    this.#connection.bodyGone(this);
    this.#queue = new ReceiveQueue({
      onRoom: () => this.#letGo(),
      onBytes: (delta) => this.#connection.unread(delta),
      views: true,
    });
    if (this.#gone !== undefined) this.#queue.fail(this.#gone, true);
    const early = this.#early;
    this.#early = undefined;
    if (early !== undefined) for (const { head, body } of early) this.#take(head, body);
    if (this.#queue.full) this.#hold();
    else this.#letGo();
    const endpoint = headerValue(this.endpoint);
    const { stream } = this.#head;
    const id = this.#head.id ?? stream;
    this.#streamLines =
      `Micro-Service: ${headerValue(this.service)}\r\nMicro-Method: ${endpoint}\r\nMicro-Endpoint: ${endpoint}\r\n` +
      (id === undefined ? "" : `Micro-Id: ${id}\r\n`) +
      (stream === undefined ? "" : `Micro-Stream: ${stream}\r\n`);
    return this;
  }

  /** Called by the connection with a message that belongs to this exchange. */
  deliver(head: Head, body: Buffer): void {
    if (this.#state === "stream") {
      this.#take(head, body);
      if (this.#queue?.full === true) this.#hold();
    } else if (this.#state === "open") {
      (this.#early ??= []).push({ head, body });
      this.#earlyBytes += head.text.length + body.length;
      if (this.#early.length >= maxEarlyMessages || this.#earlyBytes > maxEarlyBytes) this.#hold();
    }
  }

  #take(head: Head, body: Buffer): void {
    const queue = this.#queue as ReceiveQueue<Buffer>;
    if (head.error === undefined || head.error === "") queue.push(body);
    else if (head.error !== "EOS") {
      queue.fail(new MicroError(decodeValue(head.error), { id: this.service, code: "unknown" }), false);
    } else if (queue.closed) {
      // Only a client that wonders whether this end still lives says it twice. Go servers cannot answer, this one can.
      this.#connection.inform();
    } else queue.end();
  }

  send(message: OutgoingMessage): void | Promise<void> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    if (this.#state !== "stream")
      return Promise.reject(new MicroError("the stream has ended", { id: this.service, code: "closed" }));
    if (message.error !== undefined || message.metadata !== undefined || message.notRun === true)
      return this.#connection.gather(this.#streamHead(message, replyLines(message)), message.body);
    const head = this.#repeatedHead;
    if (head !== undefined && message.contentType === this.#repeatedType)
      return this.#connection.gatherRepeated(head, message.body);
    this.#repeatedHead = this.#shortHead(message);
    this.#repeatedType = message.contentType;
    return this.#connection.gather(this.#streamHead(message, replyLines(message)), message.body);
  }

  sendText(contentType: string, body: string): void | Promise<void> {
    const head = this.#repeatedHead;
    if (
      head === undefined ||
      contentType !== this.#repeatedType ||
      this.#state !== "stream" ||
      this.#gone !== undefined ||
      body.length > maxTextBytes ||
      Buffer.byteLength(body, "utf8") !== body.length
    )
      return this.send({ contentType, body: Buffer.from(body, "utf8") });
    return this.#connection.gatherRepeated(head, body);
  }

  receive(): Promise<Uint8Array | undefined> {
    if (this.#queue === undefined) return Promise.reject(new TypeError("receive() on an exchange that is no stream"));
    return this.#queue.receive();
  }

  end(error?: OutgoingMessage): void {
    if (this.#state !== "stream") return;
    this.#state = "ended";
    clearTimeout(this.#mayFinish);
    this.#cancellation?.end();
    this.#queue?.fail(() => new MicroError("the stream has ended", { id: this.service, code: "closed" }), true);
    if (this.#gone === undefined) {
      const last: OutgoingMessage = error ?? { body: noBytes };
      const lines = error?.error === undefined ? `${replyLines(last)}Micro-Error: EOS\r\n` : replyLines(last);
      void this.#connection.gather(this.#streamHead(last, lines), last.body);
      if (this.#head.closes) this.#connection.closeWhenFlushed();
    }
    this.#letGo();
    this.#connection.finished(this);
  }

  get isStream(): boolean {
    return this.#queue !== undefined;
  }

  #streamHead(message: OutgoingMessage, lines: string): string {
    return `HTTP/1.1 200 OK\r\nContent-Length: ${message.body.length}\r\n${this.#streamLines}${lines}\r\n`;
  }

  /**
   * A stream's first message says what it belongs to, as Go's servers say it with each; the others name the stream, and
   * their type where it is not the one that the caller asked for. Of a message's headers Go's clients only look at
   * `Micro-Error` (`client/rpc_stream.go`).
   */
  #shortHead(message: OutgoingMessage): Buffer {
    const { stream, id = stream } = this.#head;
    const name = stream === undefined ? "Micro-Id" : "Micro-Stream";
    const type = message.contentType === this.contentType ? "" : replyLines(message);
    return repeatableHead(`HTTP/1.1 200 OK\r\n${id === undefined ? "" : `${name}: ${stream ?? id}\r\n`}${type}`);
  }

  /** The connection is gone, or its owner closes it. */
  lost(reason: MicroError): void {
    if (this.#state === "ended") return;
    this.#gone = reason;
    this.#early = undefined;
    // A Go client ends its stream by sending the end marker and closing the connection at once (`client/rpc_stream.go`).
    // That is no cancellation: what it sent is complete, and the handler may finish its work, but not wait for ever.
    if (this.#queue?.closed === true && /\r\nUser-Agent: Go-http-client\//.test(this.#head.text)) {
      this.#mayFinish = setTimeout(() => this.#giveUp(reason), finishMs).unref();
      return;
    }
    this.#queue?.fail(reason, true);
    this.#cancellation?.cancel(reason);
  }

  #giveUp(reason: MicroError): void {
    this.#mayFinish = undefined;
    this.#cancellation?.cancel(reason);
  }

  #hold(): void {
    if (this.#holding) return;
    this.#holding = true;
    this.#connection.hold();
  }

  #letGo(): void {
    if (!this.#holding) return;
    this.#holding = false;
    this.#connection.letGo();
  }

  #name(value: string | undefined, fallback: string): string {
    if (value) return decodeValue(value);
    return this.#head.legacy ? (this.header.get(fallback) ?? "") : "";
  }
}

export function peerGone(): MicroError {
  return new MicroError("the caller is gone", { id: transportId, code: "aborted" });
}
