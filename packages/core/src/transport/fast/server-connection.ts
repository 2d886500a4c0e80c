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
import { cancelledCalls, cheapFrames, FloodGuard } from "./flood-guard.ts";
import { FrameWriter, maxTextLength } from "./frame-writer.ts";
import { fromCallers, HeldPart, toCallers } from "./held-bytes.ts";
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
import { Pace, type Participant, Rounds } from "./rounds.ts";
import { FastServerExchange } from "./server-exchange.ts";
import { Turns } from "./sender.ts";

const noBytes = Buffer.alloc(0);
const maxUnsentBytes = 1024 * 1024;
const maxDictionaryIds = 1024;
/** Replies that wait, and those that are likely to come, above which further exchanges wait for their turn. */
const maxWaitingBytes = 16 * 1024 * 1024;
/** Whatever a port's limit of a head is: entries stay as long as their connection. */
const maxDictionaryBytes = 64 * 1024;
/** Credit that is worth a frame of its own. */
const minCredit = 32 * 1024;
/** How fast a message has to come, over its whole length, once it has taken a while. */
const minBytesPerTick = 1024;
/** Of recent replies, how much each counts for what is to be expected of the next. */
const expectation = 1 / 16;
const hold = { writing: 1, flood: 2 } as const;
/** All listeners of the process share its turns. */
const rounds = new Rounds();
const silentTicks = 30;
const pingPayload = Buffer.from("are you?", "latin1");

export class FastServerConnection implements AcceptedConnection, Participant {
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
  /** Why nothing is read, a bit each. */
  #holds = 0;
  readonly #flood = new FloodGuard(cheapFrames);
  readonly #cancelled = new FloodGuard(cancelledCalls);
  #pause: NodeJS.Timeout | undefined;
  readonly #held = new HeldPart(fromCallers);
  /** Bytes of the OPEN frames of exchanges that are not over, or whose handlers still run. */
  #opened = 0;
  /** There is no room for what this chunk brings. */
  #full = false;
  /** Not started yet, since others were to be first. */
  readonly #pending = new Set<FastServerExchange>();
  readonly #pace = new Pace();
  /** How many may still start in this turn. */
  #starts: number = this.#pace.starts;
  #turnBegins = true;
  /** Handlers that have not come to an end, whoever still waits for them. */
  #running = 0;
  /** Bytes of a reply that will have to wait, as it was lately. */
  #expected = 0;
  #frameBegun = -1;
  #frameTicks = 0;
  readonly #began: number;
  #lastActive: number;
  #asked = false;
  /** Time of this chunk. */
  #now = 0;
  #remote: string | undefined;
  #local: string | undefined;

  constructor(owner: ConnectionOwner, socket: Socket) {
    this.#owner = owner;
    this.#socket = socket;
    this.#began = owner.tick;
    this.#lastActive = owner.tick;
    this.writer = new FrameWriter(socket, () => this.turns.run());
    this.turns = new Turns(this.writer, toCallers);
    this.share = new InboxShare(this.writer, owner.fastLimits.maxMessageBytes);
    fromCallers.raise(owner.fastLimits.maxMessageBytes);
    this.#dictionary = new DictionaryReader({ maxDictionaryIds, maxHeaderBytes: this.#maxHeaderBytes });
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

  get #maxHeaderBytes(): number {
    return Math.min(this.#owner.fastLimits.maxHeaderBytes, maxDictionaryBytes);
  }

  receive(chunk: Buffer): void {
    if (this.#state === "over") return;
    this.#lastActive = this.#owner.tick;
    this.#asked = false;
    if (this.#state === "preface") {
      this.#negotiate(chunk);
      return;
    }
    this.#read(chunk);
  }

  /** Take a chunk, or those that were held back. */
  #read(chunk: Buffer | undefined): void {
    this.#now = 0;
    const full = this.#held.lacks(chunk === undefined ? this.#reader.kept : chunk.length);
    if (full !== this.#full) this.#full = this.share.full = full;
    try {
      if (chunk === undefined) this.#reader.release();
      else this.#reader.push(chunk);
    } catch (error) {
      this.#broken(error);
    }
    this.#measure();
    // Only what the system does not take: what waits for credit needs the frames that bring it.
    if (this.writer.unsentBytes > maxUnsentBytes) this.#hold(hold.writing);
    if (this.#pending.size > 0) rounds.join(this);
  }

  #measure(): void {
    if (this.#state === "over") return;
    const { unread, incomplete } = this.share;
    this.#held.set(unread + incomplete + this.#opened + this.#dictionary.bytes + this.#reader.kept);
  }

  #hold(why: number): void {
    if (this.#state === "over") return;
    if (this.#holds === 0) {
      this.#reader.hold();
      this.#socket.pause();
    }
    this.#holds |= why;
  }

  #letGo(why: number): void {
    if ((this.#holds & why) === 0) return;
    this.#holds &= ~why;
    if (this.#holds !== 0 || this.#state === "over") return;
    this.#lastActive = this.#owner.tick;
    this.#read(undefined);
    if (this.#holds === 0) this.#socket.resume();
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
    const settings = {
      maxMessageBytes: this.#owner.fastLimits.maxMessageBytes,
      maxHeaderBytes: this.#maxHeaderBytes,
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
      // Neither a message nor a part of one.
      if (start === end && (flags & dataFlag.more) !== 0) this.#cheap();
      if (exchange === undefined) this.#late(id);
      else this.#data(exchange, flags, bytes, start, end);
      return;
    }
    if (flags !== 0) throw new WireError(`flags ${flags} of a frame of type ${type}`);
    const length = end - start;
    if (type === frameType.window) {
      if (length !== 4) throw new WireError("a WINDOW frame of the wrong length");
      const exchange = this.#exchanges.get(id);
      const credit = readUint32(bytes, start);
      if (credit < minCredit) this.#cheap();
      if (exchange === undefined) this.#late(id);
      else if (!exchange.granted(credit))
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
      if (exchange === undefined) return this.#late(id);
      this.forget(exchange);
      if (exchange.dispatched && !exchange.started) {
        this.#cheap();
        exchange.dropRest();
        return;
      }
      this.#cheap(this.#cancelled);
      exchange.lost(callerReset(readUint16(bytes, start), readText(bytes, start + 2, end)));
    } else if (type === frameType.define) {
      if (id !== 0) throw new WireError("a DEFINE frame with an exchange id");
      this.#cheap();
      if (this.#full) throw new WireError("there is no room for a dictionary", goAwayCode.dictionary);
      this.#dictionary.define(bytes, start, end);
    } else if (type === frameType.ping || type === frameType.pong) {
      if (length !== 8 || id !== 0) throw new WireError("a PING or PONG frame of the wrong form");
      this.#cheap();
      if (type === frameType.ping) this.writer.frame(frameType.pong, 0, 0, bytes.subarray(start, end));
    } else if (type === frameType.goAway) {
      if (length < 6 || id !== 0) throw new WireError("a GOAWAY frame of the wrong form");
      // The client says why it will close; that it does is all that matters here.
      this.#cheap();
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
    const most = this.#owner.maxExchangesPerConnection;
    if (this.#exchanges.size >= most || this.#running >= most)
      return this.#refuseExchange(id, "too many exchanges on this connection");
    if (this.#full) return this.#refuseExchange(id, "there is no room for more on this connection");
    if (timeoutMs !== undefined && this.#now === 0) this.#now = performance.now();
    const whole = (flags & (openFlag.more | openFlag.stream)) === 0;
    const body = whole ? keepBody(bytes, at, end) : noBytes;
    // The beginning of a body that goes on is its inbox's.
    const size = (whole ? end : at) - start;
    const exchange = new FastServerExchange(this, id, flags, route, fields, timeoutMs, this.#now, body, size);
    this.#exchanges.add(exchange);
    this.#opened += size;
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

  /** It did not run, and its caller may try elsewhere. */
  #refuseExchange(id: number, why: string): void {
    this.#cheap();
    this.writer.reset(frameType.reset, id, resetCode.refused, why);
  }

  /** All that a call has is there, or a stream is open: start its handler now, or when its turn comes. */
  #dispatch(exchange: FastServerExchange): void {
    exchange.dispatched = true;
    if (this.#starts > 0 && this.#pending.size === 0 && this.#mayStart) this.#start(exchange);
    else {
      this.#pending.add(exchange);
      rounds.join(this);
    }
  }

  /** What waits to be taken, and what is likely to come of handlers that run, leaves room for another. */
  get #mayStart(): boolean {
    const likely = this.turns.queuedBytes + this.#running * this.#expected;
    return likely === 0 || (this.#running === 0 && this.turns.queuedBytes === 0) || likely <= this.#room;
  }

  get #room(): number {
    return Math.min(maxWaitingBytes, toCallers.free / 2);
  }

  #start(exchange: FastServerExchange): void {
    if (this.#turnBegins) {
      this.#turnBegins = false;
      this.#pace.measure();
    }
    this.#pace.count();
    // The next turn gives as many again.
    if (--this.#starts === 0) rounds.join(this);
    this.#running++;
    exchange.started = true;
    try {
      this.#owner.handler(exchange);
    } catch (error) {
      // The handler promised not to throw; the caller should get an answer all the same.
      const message = error instanceof Error ? error.message : String(error);
      const reply = { error: stringify(internalServerError(transportId, message)), body: noBytes };
      exchange.reply(reply);
      exchange.end(reply);
    }
  }

  turn(): boolean {
    this.#starts = this.#pace.starts;
    this.#turnBegins = true;
    for (const exchange of this.#pending) {
      if (!this.#mayStart) return false;
      if (this.#starts === 0) return true;
      this.#pending.delete(exchange);
      this.#start(exchange);
    }
    return false;
  }

  /** A mistake of the caller in one exchange. */
  #fails(exchange: FastServerExchange, error: unknown): void {
    if (error instanceof WireError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    let code: number = error instanceof ExchangeError ? error.code : resetCode.internal;
    // Nobody may be told that nothing ran of what did.
    if (code === resetCode.refused && exchange.started) code = resetCode.internal;
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
    this.#cheap();
  }

  /** A frame that is cheap to send has come: where there are too many, nothing is read for a while. */
  #cheap(guard: FloodGuard = this.#flood): void {
    if (guard.spend() || this.#pause !== undefined) return;
    this.#hold(hold.flood);
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#letGo(hold.flood);
    }, guard.pauseMs);
    this.#pause.unref();
  }

  /** Send a reply in one frame. @returns false if it does not fit. */
  sendReply(id: number, fields: MessageFields, body: Uint8Array): boolean {
    const length = fields.bytes.length + body.length;
    const { writer } = this;
    if (length > chunkBytes || (writer.blocked && writer.congested)) return false;
    const at = writer.reserve(headBytes + length);
    const start = writer.head(at, length, frameType.data, fields.flags | dataFlag.end, id);
    if (fields.bytes.length > 0) writer.body(start, fields.bytes);
    writer.body(start + fields.bytes.length, body);
    writer.commit(headBytes + length);
    return true;
  }

  /** As {@link sendReply}, of a body as text, if it is small. */
  sendReplyText(id: number, body: string): boolean {
    if (body.length > maxTextLength || this.writer.blocked) return false;
    this.writer.textFrame(frameType.data, dataFlag.end, id, body);
    return true;
  }

  /** Called by an exchange whose handler has come to an end. */
  finished(exchange: FastServerExchange): void {
    this.#lastActive = this.#owner.tick;
    this.#running--;
    // What it still sends needs the credit that comes for it, and counts until then.
    if (exchange.sending) {
      this.#expected += (exchange.waitingBytes - this.#expected) * expectation;
      exchange.whenSent(() => this.#ended(exchange));
    } else {
      if (this.#expected > 0) this.#expected = this.#expected < 1 ? 0 : this.#expected * (1 - expectation);
      this.#ended(exchange);
    }
    if (this.#pending.size > 0) rounds.join(this);
  }

  /** Handler and sender are done with it. */
  #ended(exchange: FastServerExchange): void {
    this.forget(exchange);
    this.#opened -= exchange.openedBytes;
    if (this.#state === "over") this.#held.set(this.#opened);
    if (this.#state === "closing" && this.turns.queuedBytes === 0) this.#end();
  }

  /** Nothing that comes for it is looked at any more. */
  forget(exchange: FastServerExchange): void {
    // A handler that runs keeps its request.
    if (this.#exchanges.delete(exchange.numericId) && !exchange.started) this.#opened -= exchange.openedBytes;
    if (this.#pending.size > 0) this.#pending.delete(exchange);
  }

  #drained(): void {
    this.writer.flushAll();
    if (this.#pending.size > 0) rounds.join(this);
    if (this.writer.unsentBytes <= maxUnsentBytes / 2) this.#letGo(hold.writing);
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
      if (this.#pending.has(exchange))
        this.writer.reset(frameType.reset, exchange.numericId, resetCode.refused, "the server is closing");
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
    this.#measure();
    if (this.#state === "open" && this.#exchanges.size > 0) this.#sweepExchanges(limits);
    if (this.#pending.size > 0) rounds.join(this);
    if (this.#state === "preface") {
      if (tick - this.#began > limits.first) this.destroy();
    } else if (this.#state !== "open") {
      if (quiet > limits.first) this.destroy();
    } else if (this.#holds !== 0) {
      // It takes nothing, and so it gets nothing: held back, it is not expected to say anything.
      if (quiet > limits.stalled * 10) this.destroy();
    } else if (this.#frameStalls(limits)) {
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

  /** Frames are small: one that is not complete for so long is not on its way, even if a byte comes now and then. */
  #frameStalls(limits: SweepLimits): boolean {
    const { begun } = this.#reader;
    if (!this.#reader.inside || begun !== this.#frameBegun) {
      this.#frameBegun = begun;
      this.#frameTicks = 0;
      return false;
    }
    return ++this.#frameTicks > limits.stalled;
  }

  /** Give up what nobody waits for any more, or takes, and what does not come. */
  #sweepExchanges(limits: SweepLimits): void {
    const { turns, share } = this;
    if (turns.queuedBytes === 0 && share.incoming === 0 && this.#pending.size === 0) return;
    const now = performance.now();
    for (const exchange of this.#exchanges.all()) {
      const late = exchange.isLate(now) && (exchange.finished || this.#pending.has(exchange));
      if (late) this.#giveUp(exchange, resetCode.deadline, "the deadline has passed");
      else if (exchange.stalledTicks() > 2 * limits.stalled)
        this.#giveUp(exchange, resetCode.internal, "nobody took the reply");
      else if (exchange.arrivesTooSlowly(limits.stalled, minBytesPerTick))
        this.#giveUp(exchange, resetCode.protocol, "the message did not arrive in time");
    }
  }

  #giveUp(exchange: FastServerExchange, code: number, reason: string): void {
    this.forget(exchange);
    this.writer.reset(frameType.reset, exchange.numericId, code, reason);
    // There may be a thousand of them, and nobody to be told.
    if (exchange.finished || !exchange.started) exchange.dropRest();
    else
      exchange.lost(
        new MicroError(reason, { id: transportId, code: code === resetCode.deadline ? "timeout" : "aborted" }),
      );
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
    this.#letAllGo();
    this.writer.flush();
    this.#socket.end();
    // Bytes still coming are read and dropped: unread ones would turn the close into a reset that eats what was sent.
    this.#socket.resume();
  }

  #lost(): void {
    this.#state = "over";
    this.#letAllGo();
    this.#cancelAll(new MicroError("the caller is gone", { id: transportId, code: "aborted" }));
  }

  /** Keep nothing that is of no more use. */
  #letAllGo(): void {
    this.#reader.stop();
    clearTimeout(this.#pause);
    this.#pause = undefined;
    rounds.leave(this);
    this.#held.set(this.#opened);
  }

  #cancelAll(reason: MicroError): void {
    for (const exchange of this.#exchanges.all()) {
      this.forget(exchange);
      exchange.lost(reason);
    }
    if (this.#state === "over") this.#held.set(this.#opened);
  }
}
