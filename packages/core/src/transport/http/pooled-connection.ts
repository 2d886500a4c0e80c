/** A pooled connection and the one call it carries. Everything a call needs is kept here, so that a call makes few objects. */
import { MicroError } from "../../errors.ts";
import type { ExchangeMessage, ExchangeOptions, ExchangeRequest } from "../transport.ts";
import { ClientConnection, type ConnectionUser } from "./client-connection.ts";
import type { ConnectionPool, PooledAddress } from "./connection-pool.ts";
import { cancelled, deadlineExceeded, dialTimeout, transportId } from "./dial.ts";
import type { Head } from "./head.ts";
import { ownLines, timeoutLine } from "./head-writer.ts";
import { HttpReply, refusedSize, statusError } from "./reply.ts";
import { maxTextBytes } from "./socket-writer.ts";

/** A connection that rested for so long may have been closed meanwhile. */
const restMs = 500;

/** Go's servers close the connection behind an exchange of their grpc codec, without a word in its reply (`wire` 2.5). */
function closesAfter({ contentType }: ExchangeRequest, head: Head): boolean {
  if (!contentType.startsWith("application/grpc")) return false;
  return head.error !== undefined || head.metadata().has("Grpc-Status");
}

interface RunningCall {
  readonly id: string;
  readonly request: ExchangeRequest;
  readonly options: ExchangeOptions;
  readonly resolve: (reply: ExchangeMessage) => void;
  readonly reject: (error: MicroError) => void;
  onAbort: (() => void) | undefined;
  sent: boolean;
}

export class PooledConnection implements ConnectionUser {
  readonly #pool: ConnectionPool;
  readonly #address: PooledAddress;
  readonly #fresh: boolean;
  readonly #dialedAt: number;
  readonly #connection: ClientConnection;
  #connected = false;
  #calls = 0;
  #call: RunningCall | undefined;
  // One timer serves all calls of the connection in turn: it is set again only when it is too late for the next one.
  #timer: NodeJS.Timeout | undefined;
  #timerAt = 0;
  #dialLimitMs = 0;
  /** When it was given back to the pool. */
  #idleSince = 0;

  constructor(pool: ConnectionPool, address: PooledAddress, fresh: boolean, now: number) {
    this.#pool = pool;
    this.#address = address;
    this.#fresh = fresh;
    this.#dialedAt = now;
    const { tls, limits } = pool.options;
    this.#connection = new ClientConnection(address.address, address.target, tls, limits, this);
  }

  reusable(now: number): boolean {
    const { maxAgeMs, maxCallsPerConnection } = this.#pool.options;
    return this.#connection.usable && now - this.#dialedAt < maxAgeMs && this.#calls < maxCallsPerConnection;
  }

  /** Carry a call. Only on a new connection or one taken from the pool. */
  start(
    id: string,
    request: ExchangeRequest,
    options: ExchangeOptions,
    resolve: (reply: ExchangeMessage) => void,
    reject: (error: MicroError) => void,
    now: number,
  ): void {
    this.#calls++;
    const call: RunningCall = { id, request, options, resolve, reject, onAbort: undefined, sent: false };
    this.#call = call;
    const { deadline, signal, maxMessageBytes } = options;
    this.#connection.parser.maxMessageBytes = maxMessageBytes ?? this.#pool.options.limits.maxMessageBytes;
    if (signal !== undefined) {
      call.onAbort = () => this.abandon(cancelled(signal.reason, !call.sent));
      signal.addEventListener("abort", call.onAbort, { once: true });
    }
    if (this.#connected) {
      this.#connection.socket.ref();
      if (deadline !== undefined) this.#arm(deadline, now);
      if (now - this.#idleSince < restMs) this.#send(call, now);
      else this.#sendOnceSettled(call);
    } else {
      this.#dialLimitMs = options.dialTimeoutMs ?? 5_000;
      this.#arm(Math.min(this.#dialedAt + this.#dialLimitMs, deadline ?? Number.POSITIVE_INFINITY), now);
    }
  }

  /**
   * The peer may have closed a connection that rested, and the news may wait in the socket: what the system knows already is
   * read first, so that nothing is sent to nobody.
   */
  #sendOnceSettled(call: RunningCall): void {
    setImmediate(() => {
      if (this.#call !== call) return;
      if (this.#connection.usable) this.#send(call, performance.now());
      else this.#sendAnew(call);
    });
  }

  /** Nothing of the call has reached anybody: carry it on another connection. */
  #sendAnew(call: RunningCall): void {
    const { id, request, options, resolve, reject } = call;
    this.#release(call);
    const now = performance.now();
    if (options.deadline !== undefined && options.deadline <= now) reject(deadlineExceeded(true));
    else this.#pool.dial(this.#address, this.#fresh, now).start(id, request, options, resolve, reject, now);
  }

  #send(call: RunningCall, now: number): void {
    const { id, request, options } = call;
    if (options.deadline !== undefined && options.deadline <= now) {
      this.abandon(deadlineExceeded(true));
      return;
    }
    call.sent = true;
    const { prefixes } = this.#address;
    const { text } = request;
    // One character is one byte then, and head and body are written as one text.
    const ascii = text !== undefined && text.length <= maxTextBytes && Buffer.byteLength(text, "utf8") === text.length;
    const length = ascii ? text.length : request.body.length;
    const head = `${prefixes.get(request)}Content-Length: ${length}\r\nMicro-Id: ${id}\r\nMicro-Stream: ${id}\r\n${
      timeoutLine(options.deadline, now) +
      prefixes.metadataLines(request.metadata) +
      ownLines(request, options.wire, "call")
    }${this.#fresh ? "Connection: close\r\n\r\n" : "\r\n"}`;
    const { writer } = this.#connection;
    if (ascii) writer.writeText(head + text);
    else writer.write(head, request.body);
  }

  connected(): void {
    this.#connected = true;
    const call = this.#call;
    if (call === undefined) return;
    const now = performance.now();
    // The dial limit may stand in the way of a later deadline.
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (call.options.deadline !== undefined) this.#arm(call.options.deadline, now);
    this.#send(call, now);
  }

  message(head: Head, body: Buffer): void {
    const call = this.#call;
    if (call === undefined || !call.sent) {
      // Nobody asked: the server says goodbye, or is out of step. Either way the connection is of no more use.
      this.close();
      if (call !== undefined) this.#sendAnew(call);
      return;
    }
    this.#release(call);
    if (head.status !== 200) {
      this.close();
      call.reject(statusError(head, body));
      return;
    }
    if (head.error === "EOS") {
      // A streaming endpoint that had nothing to say.
      this.close();
      const { address } = this.#address;
      call.reject(
        new MicroError(`${address} ended the stream before a reply came`, { id: transportId, code: "protocol" }),
      );
      return;
    }
    const refused = refusedSize(head);
    if (refused !== undefined) {
      this.close();
      call.reject(refused);
      return;
    }
    if (head.close || this.#fresh || closesAfter(call.request, head)) this.close();
    else {
      this.#connection.socket.unref();
      this.#idleSince = performance.now();
      this.#pool.giveBack(this, this.#address);
    }
    call.resolve(new HttpReply(head, body));
  }

  informed(): void {}

  lost(error: MicroError): void {
    this.#end();
    const call = this.#call;
    if (call === undefined) return;
    // A connection that was used before and is found to be closed says nothing of the node.
    if (this.#connected && this.#calls > 1 && (!call.sent || error.notRun)) {
      this.#sendAnew(call);
      return;
    }
    this.#release(call);
    call.reject(error);
  }

  close(): void {
    this.#connection.destroy();
    this.#end();
  }

  /** Close; the call in flight fails with `error`. The peer cancels its handler when it sees the connection go. */
  abandon(error: MicroError): void {
    this.close();
    const call = this.#call;
    if (call === undefined) return;
    this.#release(call);
    call.reject(error);
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#pool.forget(this, this.#address);
  }

  #release(call: RunningCall): void {
    this.#call = undefined;
    if (call.onAbort !== undefined) call.options.signal?.removeEventListener("abort", call.onAbort);
  }

  #arm(at: number, now: number): void {
    if (this.#timer !== undefined && this.#timerAt <= at) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        // When this process was busy, the reply may lie in the socket: that is read first.
        setImmediate(() => this.#expired());
      },
      Math.min(Math.max(1, Math.ceil(at - now)), 0x7fff_ffff),
    );
    // The socket of a running call keeps the process alive; an idle connection should not.
    this.#timer.unref();
  }

  #expired(): void {
    const call = this.#call;
    if (call === undefined) return;
    const now = performance.now();
    const { deadline } = call.options;
    if (deadline !== undefined && now >= deadline) this.abandon(deadlineExceeded(!call.sent));
    else if (this.#connected) {
      if (deadline !== undefined) this.#arm(deadline, now);
    } else if (now >= this.#dialedAt + this.#dialLimitMs)
      this.abandon(dialTimeout(this.#address.address, this.#dialLimitMs));
    else this.#arm(Math.min(this.#dialedAt + this.#dialLimitMs, deadline ?? Number.POSITIVE_INFINITY), now);
  }
}
