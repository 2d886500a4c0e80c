/** The listener's end of a connection that carries any number of exchanges. */
import type { Socket } from "node:net";
import { internalServerError, MicroError, stringify } from "../../errors.ts";
import { formatAddress } from "../../net/address.ts";
import { transportId } from "../http/dial.ts";
import type { AcceptedConnection } from "../../net/port.ts";
import type { SweepLimits } from "../../net/port-limits.ts";
import type { ConnectionOwner } from "../http/server-connection.ts";
import { DictionaryReader, type Fields } from "./dictionary.ts";
import { callerReset } from "./errors.ts";
import { ExchangeTable } from "./exchange-table.ts";
import {
  chunkBytes,
  dataFlag,
  ExchangeError,
  FrameReader,
  frameType,
  goAwayCode,
  headBytes,
  openFlag,
  readText,
  readUint16,
  readUint32,
  resetCode,
  WireError,
} from "./frames.ts";
import { FrameWriter, maxTextLength } from "./frame-writer.ts";
import { InboxShare } from "./inbox.ts";
import { emptyFields, keepBody, type MessageFields } from "./message.ts";
import {
  encodePreface,
  ownExtensions,
  parsePreface,
  refusingPreface,
  type WireSettings,
  wireVersion,
} from "./preface.ts";
import { FastServerExchange } from "./server-exchange.ts";
import { Turns } from "./sender.ts";

const noBytes = Buffer.alloc(0);
const maxUnsentBytes = 1024 * 1024;
const maxDictionaryIds = 1024;
/** Frames a second that a peer may send without getting anything answered. */
const maxIdleFrames = 5_000;
const silentTicks = 30;
const pingPayload = Buffer.from("are you?", "latin1");

export class FastServerConnection implements AcceptedConnection {
  readonly #owner: ConnectionOwner;
  readonly #socket: Socket;
  readonly writer: FrameWriter;
  readonly turns: Turns;
  readonly share: InboxShare;
  readonly #reader: FrameReader;
  readonly #dictionary: DictionaryReader;
  /** Those whose handlers run for a caller who waits, and those whose replies are not sent yet. */
  readonly #exchanges = new ExchangeTable<FastServerExchange>();
  #state: "preface" | "open" | "closing" | "over" = "preface";
  #preface: Buffer = noBytes;
  #peer: WireSettings | undefined;
  #lastId = 0;
  #holding = false;
  #lastActive: number;
  #asked = false;
  #idleFrames = 0;
  #idleFramesAt = 0;
  /** Time of this chunk. */
  #now = 0;
  #remote: string | undefined;
  #local: string | undefined;

  constructor(owner: ConnectionOwner, socket: Socket) {
    this.#owner = owner;
    this.#socket = socket;
    this.#lastActive = owner.tick;
    this.writer = new FrameWriter(socket, () => this.turns.run());
    this.turns = new Turns(this.writer);
    this.share = new InboxShare(this.writer, owner.fastLimits.maxMessageBytes);
    this.#dictionary = new DictionaryReader({ maxDictionaryIds, maxHeaderBytes: owner.fastLimits.maxHeaderBytes });
    this.#reader = new FrameReader((type, flags, id, bytes, start, end) =>
      this.#frame(type, flags, id, bytes, start, end),
    );
    socket.on("data", (chunk: Buffer) => this.receive(chunk));
    socket.on("drain", () => this.#drained());
    // An error is always followed by "close".
    socket.on("error", () => {});
    socket.on("end", () => this.#lost());
    socket.on("close", () => {
      this.#lost();
      owner.gone(this);
    });
  }

  get remote(): string {
    return (this.#remote ??= formatAddress(this.#socket.remoteAddress, this.#socket.remotePort) || this.#owner.address);
  }

  get local(): string {
    return (this.#local ??= formatAddress(this.#socket.localAddress, this.#socket.localPort) || this.#owner.address);
  }

  get unsentBytes(): number {
    return this.writer.unsentBytes + this.turns.queuedBytes;
  }

  /** What the caller takes; only while an exchange runs. */
  get peer(): WireSettings {
    return this.#peer as WireSettings;
  }

  receive(chunk: Buffer): void {
    if (this.#state === "over") return;
    this.#lastActive = this.#owner.tick;
    this.#asked = false;
    if (this.#state === "preface") {
      this.#negotiate(chunk);
      return;
    }
    this.#now = 0;
    try {
      this.#reader.push(chunk);
    } catch (error) {
      this.#broken(error);
    }
    // Only what the system does not take: what waits for credit needs the frames that bring it.
    if (!this.#holding && this.writer.unsentBytes > maxUnsentBytes) {
      this.#holding = true;
      this.#reader.hold();
      this.#socket.pause();
    }
  }

  #negotiate(chunk: Buffer): void {
    this.#preface = this.#preface.length === 0 ? chunk : Buffer.concat([this.#preface, chunk]);
    let read;
    try {
      read = parsePreface(this.#preface);
    } catch {
      return this.#refuse();
    }
    if (read === undefined) return;
    const { preface, length } = read;
    if (preface.lowest > wireVersion || preface.highest < wireVersion) return this.#refuse();
    const rest = this.#preface.subarray(length);
    this.#preface = noBytes;
    this.#peer = preface.settings;
    this.#state = "open";
    const { maxMessageBytes, maxHeaderBytes } = this.#owner.fastLimits;
    const settings = {
      maxMessageBytes,
      maxHeaderBytes,
      maxExchanges: this.#owner.maxExchangesPerConnection,
      maxDictionaryIds,
      extensions: ownExtensions,
    };
    this.#socket.write(encodePreface({ lowest: wireVersion, highest: wireVersion, chosen: wireVersion, settings }));
    if (rest.length > 0) this.receive(rest);
  }

  #refuse(): void {
    this.#preface = noBytes;
    this.#socket.write(refusingPreface());
    this.#end();
  }

  /** @throws {WireError} */
  #frame(type: number, flags: number, id: number, bytes: Uint8Array, start: number, end: number): void {
    if (type === frameType.open) return this.#open(flags, id, bytes, start, end);
    if (type === frameType.data) {
      if ((flags & ~(dataFlag.more | dataFlag.end)) !== 0 || flags === 3)
        throw new WireError(`flags ${flags} of a DATA frame`);
      const exchange = this.#exchanges.get(id);
      if (exchange === undefined) this.#late(id);
      else this.#data(exchange, flags, bytes, start, end);
      return;
    }
    if (flags !== 0) throw new WireError(`flags ${flags} of a frame of type ${type}`);
    const length = end - start;
    if (type === frameType.window) {
      if (length !== 4) throw new WireError("a WINDOW frame of the wrong length");
      const exchange = this.#exchanges.get(id);
      if (exchange === undefined) this.#late(id);
      else if (!exchange.granted(readUint32(bytes, start)))
        this.#fails(exchange, new ExchangeError("more credit than there may be", resetCode.flow));
    } else if (type === frameType.end) {
      if (length !== 0) throw new WireError("an END frame with a payload");
      const exchange = this.#exchanges.get(id);
      if (exchange === undefined) return this.#late(id);
      try {
        exchange.ended();
      } catch (error) {
        this.#fails(exchange, error);
      }
    } else if (type === frameType.reset) {
      if (length < 2) throw new WireError("a RESET frame without a code");
      const exchange = this.#exchanges.get(id);
      this.#countIdle();
      if (exchange === undefined) return this.#late(id);
      this.forget(exchange);
      exchange.lost(callerReset(readUint16(bytes, start), readText(bytes, start + 2, end)));
    } else if (type === frameType.define) {
      if (id !== 0) throw new WireError("a DEFINE frame with an exchange id");
      this.#countIdle();
      this.#dictionary.define(bytes, start, end);
    } else if (type === frameType.ping || type === frameType.pong) {
      if (length !== 8 || id !== 0) throw new WireError("a PING or PONG frame of the wrong form");
      this.#countIdle();
      if (type === frameType.ping) this.writer.frame(frameType.pong, 0, 0, bytes.subarray(start, end));
    } else if (type === frameType.goAway) {
      if (length < 6 || id !== 0) throw new WireError("a GOAWAY frame of the wrong form");
      // The client says why it will close; that it does is all that matters here.
    } else throw new WireError(`there are no frames of type ${type}`);
  }

  /** @throws {WireError} */
  #open(flags: number, id: number, bytes: Uint8Array, start: number, end: number): void {
    if ((flags & ~openFlag.all) !== 0 || (flags & 3) === 3) throw new WireError(`flags ${flags} of an OPEN frame`);
    if (id <= this.#lastId || (id & 1) === 0) throw new WireError(`exchange id ${id} is even or used up`);
    // What comes behind GOAWAY did not run, and its sender knows.
    if (this.#state !== "open") return;
    this.#lastId = id;
    let at = start + 2;
    let timeoutMs: number | undefined;
    if ((flags & openFlag.timeout) !== 0) {
      if (at + 4 <= end) timeoutMs = readUint32(bytes, at);
      at += 4;
    }
    let fields: Fields = emptyFields;
    if ((flags & openFlag.metadata) !== 0) {
      const from = at + 2;
      at = from <= end ? from + readUint16(bytes, at) : end + 1;
      if (at <= end) fields = this.#dictionary.fields(bytes, from, at);
    }
    if (at > end) throw new WireError("an OPEN frame ends inside of its fields");
    const route = this.#dictionary.route(readUint16(bytes, start));
    if (this.#exchanges.size >= this.#owner.maxExchangesPerConnection) {
      this.writer.reset(frameType.reset, id, resetCode.refused, "too many exchanges on this connection");
      return;
    }
    if (timeoutMs !== undefined && this.#now === 0) this.#now = performance.now();
    const whole = (flags & (openFlag.more | openFlag.stream)) === 0;
    const body = whole ? keepBody(bytes, at, end) : noBytes;
    const exchange = new FastServerExchange(this, id, flags, route, fields, timeoutMs, this.#now, body);
    this.#exchanges.add(exchange);
    if (whole) {
      if (body.length > this.share.maxMessageBytes) {
        this.#fails(exchange, new ExchangeError("the request is too large", resetCode.tooLarge));
        return;
      }
      exchange.noMoreMessages();
      this.#dispatch(exchange);
    } else if ((flags & openFlag.stream) !== 0) {
      if (at !== end) this.#fails(exchange, new ExchangeError("a stream is opened without a body"));
      else this.#dispatch(exchange);
    } else {
      try {
        exchange.begin(bytes, at, end);
      } catch (error) {
        this.#fails(exchange, error);
      }
    }
  }

  #data(exchange: FastServerExchange, flags: number, bytes: Uint8Array, start: number, end: number): void {
    try {
      if (exchange.data(flags, bytes, start, end)) this.#dispatch(exchange);
    } catch (error) {
      this.#fails(exchange, error);
    }
  }

  #dispatch(exchange: FastServerExchange): void {
    exchange.dispatched = true;
    try {
      this.#owner.handler(exchange);
    } catch (error) {
      // The handler promised not to throw; the caller should get an answer all the same.
      const message = error instanceof Error ? error.message : String(error);
      exchange.reply({ error: stringify(internalServerError(transportId, message)), body: noBytes });
    }
  }

  /** A mistake of the caller in one exchange. */
  #fails(exchange: FastServerExchange, error: unknown): void {
    if (error instanceof WireError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    const code = error instanceof ExchangeError ? error.code : resetCode.internal;
    this.forget(exchange);
    this.writer.reset(frameType.reset, exchange.numericId, code, reason);
    exchange.lost(
      new MicroError(`the exchange was reset: ${reason}`, { id: transportId, code: "aborted", cause: error }),
    );
  }

  /** A frame for an exchange that is over, unless it never was. */
  #late(id: number): void {
    if (id <= 0 || (id & 1) === 0 || (id > this.#lastId && this.#state === "open"))
      throw new WireError(`a frame for exchange ${id}, which is none`);
  }

  /** Frames that are cheap to send and ask for work. */
  #countIdle(): void {
    const { tick } = this.#owner;
    if (this.#idleFramesAt !== tick) {
      this.#idleFramesAt = tick;
      this.#idleFrames = 0;
    }
    if (++this.#idleFrames > maxIdleFrames)
      throw new WireError("too many frames that ask for nothing", goAwayCode.flooding);
  }

  /** Send a reply in one frame. @returns false if it does not fit. */
  sendReply(id: number, fields: MessageFields, body: Uint8Array): boolean {
    const length = fields.bytes.length + body.length;
    if (length > chunkBytes) return false;
    const { writer } = this;
    const at = writer.reserve(headBytes + length);
    const start = writer.head(at, length, frameType.data, fields.flags | dataFlag.end, id);
    if (fields.bytes.length > 0) writer.body(start, fields.bytes);
    writer.body(start + fields.bytes.length, body);
    writer.commit(headBytes + length);
    return true;
  }

  /** As {@link sendReply}, of a body as text, if it is small. */
  sendReplyText(id: number, body: string): boolean {
    if (body.length > maxTextLength) return false;
    this.writer.textFrame(frameType.data, dataFlag.end, id, body);
    return true;
  }

  /** Called by an exchange whose handler has come to an end. */
  finished(exchange: FastServerExchange): void {
    this.#lastActive = this.#owner.tick;
    this.#idleFrames = 0;
    // What it still sends needs the credit that comes for it, and counts until then.
    if (exchange.sending) exchange.whenSent(() => this.#ended(exchange));
    else this.#ended(exchange);
  }

  /** Handler and sender are done with it. */
  #ended(exchange: FastServerExchange): void {
    this.forget(exchange);
    if (this.#state === "closing" && this.turns.queuedBytes === 0) this.#end();
  }

  /** Nothing that comes for it is looked at any more. */
  forget(exchange: FastServerExchange): void {
    this.#exchanges.delete(exchange.numericId);
  }

  #drained(): void {
    this.writer.flushAll();
    if (!this.#holding || this.writer.unsentBytes > maxUnsentBytes / 2) return;
    this.#holding = false;
    this.#lastActive = this.#owner.tick;
    try {
      this.#reader.release();
    } catch (error) {
      this.#broken(error);
    }
    this.#socket.resume();
  }

  /** The listener is being disposed, or the connection has been idle for too long. */
  shutDown(): void {
    if (this.#state === "preface") return this.#end();
    if (this.#state !== "open") return;
    this.#state = "closing";
    this.#lastActive = this.#owner.tick;
    this.writer.goAway(frameType.goAway, this.#lastId, goAwayCode.closing, "the server is closing");
    const reason = new MicroError("the server is closing", { id: transportId, code: "aborted" });
    for (const exchange of this.#exchanges.all()) {
      if (exchange.finished) continue;
      this.forget(exchange);
      exchange.lost(reason);
    }
    this.writer.flushAll();
    if (this.turns.queuedBytes === 0) this.#end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Called about once a second. Limits are in ticks. */
  sweep(tick: number, limits: SweepLimits): void {
    const quiet = tick - this.#lastActive;
    if (this.#state === "preface") {
      if (quiet > limits.first) this.destroy();
    } else if (this.#state !== "open") {
      if (quiet > limits.first) this.destroy();
    } else if (this.#holding) {
      // It takes nothing, and so it gets nothing: held back, it is not expected to say anything.
      if (quiet > limits.stalled * 10) this.destroy();
    } else if (this.#reader.inside && quiet > limits.stalled) {
      this.#broken(new WireError("a frame did not arrive in time"));
    } else if (this.#exchanges.size === 0) {
      if (quiet > limits.idle) this.shutDown();
      else if (quiet > 1) this.writer.release();
    } else if (quiet > 2 * silentTicks && this.#asked) this.destroy();
    else if (quiet > silentTicks && !this.#asked) {
      this.#asked = true;
      this.writer.frame(frameType.ping, 0, 0, pingPayload);
    }
  }

  /** Framing is lost, or the peer cannot be trusted: say why, and close. */
  #broken(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    const code = error instanceof WireError ? error.code : goAwayCode.protocol;
    this.writer.goAway(frameType.goAway, this.#lastId, code, reason);
    this.#cancelAll(
      new MicroError(`the caller sent what cannot be read: ${reason}`, {
        id: transportId,
        code: "aborted",
        cause: error,
      }),
    );
    this.#end();
  }

  #end(): void {
    if (this.#state === "over") return;
    this.#state = "over";
    this.#lastActive = this.#owner.tick;
    this.#reader.stop();
    this.writer.flush();
    this.#socket.end();
    // Bytes still coming are read and dropped: unread ones would turn the close into a reset that eats what was sent.
    this.#socket.resume();
  }

  #lost(): void {
    this.#state = "over";
    this.#reader.stop();
    this.#cancelAll(new MicroError("the caller is gone", { id: transportId, code: "aborted" }));
  }

  #cancelAll(reason: MicroError): void {
    for (const exchange of this.#exchanges.all()) {
      this.forget(exchange);
      exchange.lost(reason);
    }
  }
}
