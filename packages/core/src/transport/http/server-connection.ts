/** One accepted connection: requests in, replies and stream messages out, any number of exchanges at once. */
import type { Socket } from "node:net";
import { internalServerError, MicroError, stringify, timeout } from "../../errors.ts";
import type { ExchangeHandler } from "../transport.ts";
import { formatAddress } from "../../net/address.ts";
import { transportId } from "./dial.ts";
import { FramingError } from "./framing-error.ts";
import type { Head } from "./head.ts";
import { headerValue } from "./head-writer.ts";
import { MessageParser, type MessageLimits } from "./message-parser.ts";
import { HttpServerExchange, peerGone } from "./server-exchange.ts";
import { SocketWriter } from "./socket-writer.ts";

/** How long a connection may do nothing, in ticks. */
export interface SweepLimits {
  readonly first: number;
  readonly stalled: number;
  readonly idle: number;
}

/** A connection as its listener sees it, whatever wire it speaks. */
export interface AcceptedConnection {
  /** Written, but not yet taken by the system. */
  readonly unsentBytes: number;
  /** The peer's first bytes, then all others. */
  receive(chunk: Buffer): void;
  /** The listener is being disposed: close in good order. */
  shutDown(): void;
  destroy(): void;
  /** Called about once a second. */
  sweep(tick: number, limits: SweepLimits): void;
}

/** What a connection needs of its listener. */
export interface ConnectionOwner {
  readonly limits: MessageLimits;
  readonly maxExchangesPerConnection: number;
  /** Counts up about once a second: cheaper to note than the time. */
  readonly tick: number;
  readonly handler: ExchangeHandler;
  /** What peers on a unix domain socket are known by, which have no address of their own. */
  readonly address: string;
  gone(connection: AcceptedConnection): void;
}

const statusTexts = {
  400: "Bad Request",
  413: "Request Entity Too Large",
  431: "Request Header Fields Too Large",
  505: "HTTP Version Not Supported",
};
const noBytes = new Uint8Array(0);
/** Unsent replies above this stop the reading of further requests. */
const maxUnsentBytes = 1024 * 1024;
const maxEndedStreams = 64;

export class ServerConnection implements AcceptedConnection {
  readonly #owner: ConnectionOwner;
  readonly #socket: Socket;
  readonly #writer: SocketWriter;
  readonly #parser: MessageParser;
  readonly #exchanges = new Map<string, HttpServerExchange>();
  /** Streams that ended here lately: their peer may not know yet and still send. */
  readonly #endedStreams = new Set<string>();
  #unnamed = 0;
  #holds = 0;
  #heldForExchanges = false;
  #heldForWriting = false;
  #closing = false;
  #served = false;
  #lastActive: number;
  #headSince = -1;
  #remote: string | undefined;
  #local: string | undefined;

  constructor(owner: ConnectionOwner, socket: Socket) {
    this.#owner = owner;
    this.#socket = socket;
    this.#lastActive = owner.tick;
    this.#writer = new SocketWriter(socket);
    this.#parser = new MessageParser("request", owner.limits, (head, body) => {
      this.#served = true;
      this.dispatch(head, body);
    });
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
    const key = streamId ?? `\n${this.#unnamed++}`;
    const exchange = new HttpServerExchange(this, key, head, body);
    this.#exchanges.set(key, exchange);
    if (this.#exchanges.size >= this.#owner.maxExchangesPerConnection && !this.#heldForExchanges) {
      this.#heldForExchanges = true;
      this.hold();
    }
    try {
      this.#owner.handler(exchange);
    } catch (error) {
      // The handler promised not to throw; the caller should get an answer all the same.
      const message = error instanceof Error ? error.message : String(error);
      exchange.reply({ error: stringify(internalServerError(transportId, message)), body: noBytes });
    }
  }

  /** Called by an exchange that is over. */
  finished(exchange: HttpServerExchange): void {
    if (this.#exchanges.get(exchange.key) === exchange) this.#exchanges.delete(exchange.key);
    if (exchange.isStream) {
      this.#endedStreams.add(exchange.key);
      if (this.#endedStreams.size > maxEndedStreams)
        for (const oldest of this.#endedStreams) {
          this.#endedStreams.delete(oldest);
          break;
        }
    }
    if (this.#heldForExchanges && this.#exchanges.size < this.#owner.maxExchangesPerConnection) {
      this.#heldForExchanges = false;
      this.letGo();
    }
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
  }

  sweep(tick: number, limits: SweepLimits): void {
    if (this.#closing) {
      if (tick - this.#lastActive > limits.first) this.destroy();
      return;
    }
    // What is held back here is not the peer's fault.
    if (this.#holds > 0) {
      this.#lastActive = tick;
      return;
    }
    const quiet = tick - this.#lastActive;
    if (!this.#served && this.#parser.idle) {
      if (quiet > limits.first) this.destroy();
      return;
    }
    // A head must be complete in time, however busily it trickles; a body only has to make progress.
    if (!this.#parser.inHead) this.#headSince = -1;
    else if (this.#headSince === -1) this.#headSince = tick;
    const stalled =
      !this.#parser.idle &&
      (quiet > limits.stalled || (this.#headSince !== -1 && tick - this.#headSince > limits.stalled));
    if (stalled) this.#refuse(new FramingError(400, "the request did not arrive in time"));
    else if (this.#exchanges.size === 0 && quiet > limits.idle) this.shutDown();
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
    this.#cancelAll(
      new MicroError(`the caller sent what cannot be read: ${error.message}`, {
        id: transportId,
        code: "aborted",
        cause: error,
      }),
    );
    const body = Buffer.from(`${error.message}\n`);
    this.#writer.write(
      `HTTP/1.1 ${error.status} ${statusTexts[error.status]}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`,
      body,
    );
    this.closeWhenFlushed();
  }

  #checkUnsent(): void {
    if (this.#heldForWriting || this.#writer.unsentBytes <= maxUnsentBytes) return;
    this.#heldForWriting = true;
    this.hold();
  }

  #mayWrite(): void {
    if (!this.#closing) this.#lastActive = this.#owner.tick;
    if (!this.#heldForWriting) return;
    this.#heldForWriting = false;
    this.letGo();
  }

  #lost(): void {
    this.#closing = true;
    this.#parser.stop();
    // Errors are dear, and most connections end with nothing to cancel.
    if (this.#exchanges.size > 0) this.#cancelAll(peerGone());
  }

  #cancelAll(reason: MicroError): void {
    for (const exchange of this.#exchanges.values()) exchange.lost(reason);
    this.#exchanges.clear();
  }
}
