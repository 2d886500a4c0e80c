/** One accepted connection: requests in, replies and stream messages out, any number of exchanges at once. */
import type { Socket } from "node:net";
import { internalServerError, MicroError, newError, stringify, timeout } from "../../errors.ts";
import type { ExchangeHandler } from "../transport.ts";
import { formatAddress } from "../../net/address.ts";
import { ArrivalWatch } from "../../net/arrival.ts";
import type { ByteAccount, ByteHolder } from "../../net/byte-account.ts";
import type { AcceptedConnection } from "../../net/port.ts";
import type { SweepLimits } from "../../net/port-limits.ts";
import { ownText } from "../../own-text.ts";
import { transportId } from "./dial.ts";
import { FramingError } from "./framing-error.ts";
import { type Head, maxKeptHead } from "./head.ts";
import { headerValue } from "./head-writer.ts";
import { MessageParser, type MessageLimits } from "./message-parser.ts";
import type { PlainRequests } from "./plain-requests.ts";
import { microRefusal, plainError, serverId } from "./refusal.ts";
import { HttpServerExchange, peerGone } from "./server-exchange.ts";
import { SocketWriter } from "./socket-writer.ts";

/** What a connection needs of its listener. */
export interface ConnectionOwner {
  readonly limits: MessageLimits;
  /** On the fast wire a connection keeps the headers it has seen. */
  readonly fastLimits: MessageLimits;
  readonly maxExchangesPerConnection: number;
  readonly maxRunningBytes: number;
  /** Bytes of requests whose handlers run, of all connections. */
  runningBytes: number;
  /** Bytes of messages that are not complete. */
  readonly unfinished: ByteAccount;
  /** Bytes of replies that are not taken, of connections that keep more than their own share. */
  readonly unsent: ByteAccount;
  /** Bytes of large heads of requests whose handlers run, and of messages of streams that nobody has read. */
  readonly kept: ByteAccount;
  readonly plain: PlainRequests;
  /** Counts up about once a second: cheaper to note than the time. */
  readonly tick: number;
  readonly handler: ExchangeHandler;
  /** What peers on a unix domain socket are known by, which have no address of their own. */
  readonly address: string;
  gone(connection: AcceptedConnection): void;
}

const noBytes = new Uint8Array(0);
/** Unsent replies above this stop the reading of further requests. */
const maxUnsentBytes = 1024 * 1024;
const maxEndedStreams = 64;
/** Of one connection, before others have their turn: whoever sends many at once waits for those who do not. */
const maxRequestsPerTurn = 32;
/** Of large heads of one connection's requests. Smaller ones are bounded by the number of calls that may run. */
const maxHeadBytes = 16 * 1024 * 1024;
/** Of all streams of a connection; each has a bound of its own. */
const maxUnread = 4 * 1024 * 1024;
const unreadStep = 256 * 1024;

export class ServerConnection implements AcceptedConnection {
  readonly #owner: ConnectionOwner;
  readonly #socket: Socket;
  readonly #writer: SocketWriter;
  readonly #parser: MessageParser;
  readonly #exchanges = new Map<string, HttpServerExchange>();
  /** Streams that ended here lately: their peer may not know yet and still send. */
  readonly #endedStreams = new Set<string>();
  readonly #watch = new ArrivalWatch();
  readonly #unfinished: ByteHolder = {
    evict: () => this.#refuse(new FramingError(503, "the server keeps too many unfinished requests")),
  };
  readonly #unsent: ByteHolder = { evict: () => this.destroy() };
  readonly #kept: ByteHolder = {
    evict: () => this.#refuse(new FramingError(503, "the server keeps too much of this connection's")),
  };
  #unsentCounted = 0;
  /** Bytes of requests whose handlers run. */
  #runningBytes = 0;
  #headBytes = 0;
  /** Bytes of messages of streams that nobody has read, and how many of them the port knows of. */
  #unread = 0;
  #unreadKept = 0;
  /** Requests of this turn of the event loop. */
  #inTurn = 0;
  /** Ticks for which the peer has taken nothing. */
  #stuck = 0;
  #stuckBytes = 0;
  #unnamed = 0;
  #holds = 0;
  #heldForExchanges = false;
  #heldForWriting = false;
  #heldForReaders = false;
  #closing = false;
  #served = false;
  #lastActive: number;
  #remote: string | undefined;
  #local: string | undefined;

  constructor(owner: ConnectionOwner, socket: Socket) {
    this.#owner = owner;
    this.#socket = socket;
    this.#lastActive = owner.tick;
    this.#writer = new SocketWriter(socket);
    this.#parser = new MessageParser(
      "request",
      owner.limits,
      (head, body) => {
        this.#served = true;
        this.dispatch(head, body);
      },
      (delta) => this.#keeps(delta),
      (head) => this.#continue(head),
    );
    socket.on("data", (chunk: Buffer) => this.receive(chunk));
    socket.on("drain", () => this.#mayWrite());
    // An error is always followed by "close"; there is nobody to tell who would not learn it from there.
    socket.on("error", () => {});
    socket.on("end", () => this.#lost());
    socket.on("close", () => {
      this.#lost();
      owner.gone(this);
    });
  }

  receive(chunk: Buffer): void {
    if (this.#closing) return;
    this.#lastActive = this.#owner.tick;
    this.#inTurn = 0;
    this.#read(chunk);
  }

  get remote(): string {
    return (this.#remote ??= formatAddress(this.#socket.remoteAddress, this.#socket.remotePort) || this.#owner.address);
  }

  get local(): string {
    return (this.#local ??= formatAddress(this.#socket.localAddress, this.#socket.localPort) || this.#owner.address);
  }

  get unsentBytes(): number {
    return this.#writer.unsentBytes;
  }

  /** A message has arrived: of a running stream, or a new exchange. */
  dispatch(head: Head, body: Buffer): void {
    if (head.oddities !== 0 || head.contentType === undefined) {
      const answer = this.#owner.plain.answer(head);
      if (answer !== undefined) {
        this.#endTurn();
        this.#answerPlain(answer, head);
        return;
      }
    }
    const streamId = head.stream ?? (head.legacy ? head.metadata().get("X-Micro-Stream") : undefined);
    if (streamId !== undefined) {
      const running = this.#exchanges.get(streamId);
      if (running !== undefined) {
        running.deliver(head, body);
        return;
      }
      // What comes late for a stream that has ended is dropped. Go drops only the end marker and runs the handler anew
      // for anything else, which nobody can want.
      if (head.error === "EOS" || this.#endedStreams.has(streamId)) return;
    }
    this.#endTurn();
    const key = streamId ?? `\n${this.#unnamed++}`;
    const exchange = new HttpServerExchange(this, key, head, body);
    this.#exchanges.set(key, exchange);
    const owner = this.#owner;
    owner.runningBytes += body.length;
    this.#runningBytes += body.length;
    if (owner.runningBytes > owner.maxRunningBytes && this.#runningBytes < owner.runningBytes) {
      this.#refuseExchange(exchange, "the server works on too many bytes");
      return;
    }
    if (head.text.length > maxKeptHead && !this.#keepsHead(exchange, head.text.length)) {
      this.#refuseExchange(exchange, "the server keeps too many large headers");
      return;
    }
    if (!this.#heldForExchanges && !this.#mayTakeMore()) {
      this.#heldForExchanges = true;
      this.hold();
    }
    try {
      owner.handler(exchange);
    } catch (error) {
      // The handler promised not to throw; the caller should get an answer all the same.
      const message = error instanceof Error ? error.message : String(error);
      exchange.reply({ error: stringify(internalServerError(transportId, message)), body: noBytes });
    }
  }

  /** What has arrived after this request may have to wait until others have had their turn. */
  #endTurn(): void {
    if (++this.#inTurn < maxRequestsPerTurn) return;
    this.#inTurn = 0;
    this.hold();
    setImmediate(() => this.letGo());
  }

  #refuseExchange(exchange: HttpServerExchange, detail: string): void {
    exchange.reply({ error: stringify(newError(serverId, detail, 503)), notRun: true, body: noBytes });
  }

  /** The head stays until the exchange is over. False: it may not, and is not counted. */
  #keepsHead(exchange: HttpServerExchange, bytes: number): boolean {
    if (this.#headBytes + bytes > maxHeadBytes || !this.#owner.kept.change(this.#kept, bytes)) return false;
    this.#headBytes += bytes;
    exchange.headBytes = bytes;
    return true;
  }

  /** Called by an exchange that is over, be it after the connection's end: its handler has kept its request until now. */
  finished(exchange: HttpServerExchange): void {
    this.bodyGone(exchange);
    if (exchange.headBytes > 0) {
      this.#owner.kept.change(this.#kept, -exchange.headBytes);
      this.#headBytes -= exchange.headBytes;
      exchange.headBytes = 0;
    }
    if (this.#exchanges.get(exchange.key) === exchange) this.#exchanges.delete(exchange.key);
    if (exchange.isStream) {
      this.#endedStreams.add(ownText(exchange.key));
      if (this.#endedStreams.size > maxEndedStreams)
        for (const oldest of this.#endedStreams) {
          this.#endedStreams.delete(oldest);
          break;
        }
    }
    this.#takeMore();
  }

  /** Streams keep so many bytes more, or less, of messages that nobody has read. */
  unread(delta: number): void {
    this.#unread += delta;
    // The port is told in steps: each costs more than most messages do.
    const steps = this.#unread <= unreadStep ? 0 : Math.ceil(this.#unread / unreadStep) * unreadStep;
    const more = steps - this.#unreadKept;
    if (more > 0 || (more < 0 && (steps === 0 || more < -unreadStep))) {
      if (this.#owner.kept.change(this.#kept, more)) this.#unreadKept = steps;
      // Not within a message: whoever takes it is still at work.
      else queueMicrotask(() => this.#kept.evict());
    }
    if (this.#heldForReaders ? this.#unread > maxUnread / 2 : this.#unread <= maxUnread) return;
    this.#heldForReaders = !this.#heldForReaders;
    if (this.#heldForReaders) this.hold();
    else this.letGo();
  }

  /** The request of `exchange` is kept no longer. */
  bodyGone(exchange: HttpServerExchange): void {
    this.#owner.runningBytes -= exchange.bodyBytes;
    this.#runningBytes -= exchange.bodyBytes;
    exchange.bodyBytes = 0;
  }

  #mayTakeMore(): boolean {
    return (
      this.#exchanges.size < this.#owner.maxExchangesPerConnection &&
      this.#runningBytes <= this.#owner.limits.maxMessageBytes
    );
  }

  #takeMore(): void {
    if (!this.#heldForExchanges || !this.#mayTakeMore()) return;
    this.#heldForExchanges = false;
    this.letGo();
  }

  /** Header lines of a reply that the request's oddities ask for. */
  corsLines(head: Head): string {
    return this.#owner.plain.corsLines(head);
  }

  #answerPlain(answer: string, head: Head): void {
    this.#lastActive = this.#owner.tick;
    this.#writer.writeText(answer);
    if (head.closes) this.closeWhenFlushed();
    else this.#checkUnsent();
  }

  /** @throws {FramingError} */
  #keeps(delta: number): void {
    if (!this.#owner.unfinished.change(this.#unfinished, delta))
      throw new FramingError(503, "the server keeps too many unfinished requests");
  }

  /** @throws {FramingError} */
  #continue(head: Head): void {
    if (!/^100-continue$/i.test(head.headers().get("Expect") ?? ""))
      throw new FramingError(417, "an expectation other than 100-continue");
    this.#writer.write("HTTP/1.1 100 Continue\r\n\r\n", noBytes);
  }

  /** Write a reply. `lines` is its head without the end; a body as text is ASCII. */
  write(lines: string, body: Uint8Array | string, close: boolean): void {
    this.#lastActive = this.#owner.tick;
    const head = close ? `${lines}Connection: close\r\n\r\n` : `${lines}\r\n`;
    if (typeof body === "string") this.#writer.writeText(head + body);
    else this.#writer.write(head, body);
    if (close) this.closeWhenFlushed();
    else this.#checkUnsent();
  }

  /** Write a message of a stream. `head` is complete. */
  gather(head: string, body: Uint8Array): void | Promise<void> {
    this.#lastActive = this.#owner.tick;
    const wait = this.#writer.gather(head, body);
    if (wait !== undefined) this.#checkUnsent();
    return wait;
  }

  /** As {@link gather}, with a head that only lacks the length; a body as text is ASCII. */
  gatherRepeated(head: Buffer, body: Uint8Array | string): void | Promise<void> {
    this.#lastActive = this.#owner.tick;
    const wait = this.#writer.gatherRepeated(head, body);
    if (wait !== undefined) this.#checkUnsent();
    return wait;
  }

  /** Tell the peer that this end lives, outside of any message. */
  inform(): void {
    this.#writer.write("HTTP/1.1 102 Processing\r\n\r\n", noBytes);
  }

  /** Read no further until {@link letGo} was called as often. */
  hold(): void {
    if (this.#holds++ > 0) return;
    this.#parser.hold();
    this.#socket.pause();
  }

  letGo(): void {
    if (--this.#holds > 0 || this.#closing) return;
    this.#lastActive = this.#owner.tick;
    this.#read(undefined);
    if (this.#holds === 0) this.#socket.resume();
  }

  /** End the connection in an orderly way after what has been written. */
  closeWhenFlushed(): void {
    this.#closing = true;
    this.#lastActive = this.#owner.tick;
    this.#parser.stop();
    this.#writer.flush();
    this.#socket.end();
    // Bytes still coming are read and dropped: unread ones would turn the close into a reset that eats the reply.
    this.#socket.resume();
  }

  /**
   * The listener is being disposed. Exchanges still running are cancelled. An idle peer gets an answer before its next
   * question: if that is on its way already, it reads "not run, try another node" instead of a lost connection. Go
   * clients find it when they next use the connection, and retry (408).
   */
  shutDown(): void {
    if (this.#closing) return;
    const idle = this.#exchanges.size === 0 && this.#parser.idle && this.#served;
    this.#cancelAll(new MicroError("the server is closing", { id: transportId, code: "aborted" }));
    if (idle) {
      const error = headerValue(stringify(timeout(transportId, "the server is closing")));
      this.#writer.write(
        `HTTP/1.1 200 OK\r\nContent-Length: 0\r\nMicro-Error: ${error}\r\nX-Micro-Error: ${error}\r\nMicro-Retry: not-run\r\nConnection: close\r\n\r\n`,
        noBytes,
      );
    }
    this.closeWhenFlushed();
  }

  destroy(): void {
    this.#socket.destroy();
    this.#lost();
  }

  sweep(tick: number, limits: SweepLimits): void {
    if (this.#closing) {
      if (tick - this.#lastActive > limits.first) this.destroy();
      return;
    }
    // What is held back here is not the peer's fault, unless it does not take its replies.
    if (this.#holds > 0) {
      this.#lastActive = tick;
      this.#watch.held();
      if (this.#heldForWriting) this.#sweepUnsent(limits);
      return;
    }
    const quiet = tick - this.#lastActive;
    if (!this.#served && this.#parser.idle) {
      if (quiet > limits.first) this.destroy();
      return;
    }
    if (this.#watch.late(this.#parser, tick, quiet, limits))
      this.#refuse(new FramingError(408, "the request did not arrive in time"));
    else if (this.#exchanges.size === 0 && quiet > limits.idle) this.shutDown();
  }

  /** A peer that takes nothing for as long as it may be idle is gone, or hostile. */
  #sweepUnsent(limits: SweepLimits): void {
    const bytes = this.unsentBytes;
    this.#stuck = bytes === this.#stuckBytes ? this.#stuck + 1 : 0;
    this.#stuckBytes = bytes;
    if (this.#stuck > limits.idle) this.destroy();
  }

  /** Parse `chunk`, or what the parser held back. */
  #read(chunk: Buffer | undefined): void {
    try {
      if (chunk === undefined) this.#parser.release();
      else this.#parser.push(chunk);
    } catch (error) {
      this.#refuse(error instanceof FramingError ? error : new FramingError(400, String(error)));
    }
  }

  /** Framing is lost: say why, where that is possible, and close. */
  #refuse(error: FramingError): void {
    if (this.#closing) return;
    this.#cancelAll(
      new MicroError(`the caller sent what cannot be read: ${error.message}`, {
        id: transportId,
        code: "aborted",
        cause: error,
      }),
    );
    this.#writer.writeText(this.#refusal(error));
    this.closeWhenFlushed();
  }

  /** In go-micro's form to its callers, where it is known that they are: any other status is a broken transport to them. */
  #refusal({ status, message }: FramingError): string {
    const { head, headText } = this.#parser;
    const readable = status !== 400 && status !== 417 && status !== 505;
    if (readable && (head?.isMicro ?? /\r\n(?:X-)?Micro-/i.test(headText)))
      return microRefusal(
        newError(serverId, message, status === 431 ? 413 : status),
        head,
        status !== 413 && status !== 431,
      );
    return plainError(status, message, "Connection: close\r\n");
  }

  #checkUnsent(): void {
    const bytes = this.#writer.unsentBytes;
    if (bytes <= maxUnsentBytes) return;
    if (!this.#heldForWriting) {
      this.#heldForWriting = true;
      this.hold();
    }
    this.#countUnsent(bytes);
  }

  #countUnsent(bytes: number): void {
    const delta = bytes - this.#unsentCounted;
    if (delta === 0) return;
    this.#unsentCounted = bytes;
    if (this.#owner.unsent.change(this.#unsent, delta)) return;
    this.#unsentCounted -= delta;
    this.destroy();
  }

  #mayWrite(): void {
    if (!this.#closing) this.#lastActive = this.#owner.tick;
    this.#countUnsent(0);
    if (!this.#heldForWriting) return;
    this.#heldForWriting = false;
    this.letGo();
  }

  #lost(): void {
    this.#closing = true;
    this.#parser.stop();
    this.#countUnsent(0);
    // Errors are dear, and most connections end with nothing to cancel.
    if (this.#exchanges.size > 0) this.#cancelAll(peerGone());
  }

  #cancelAll(reason: MicroError): void {
    for (const exchange of this.#exchanges.values()) exchange.lost(reason);
    this.#exchanges.clear();
  }
}
