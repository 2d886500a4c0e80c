/** The client's end of a connection that carries any number of exchanges. */
import type { Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";
import { MicroError } from "../../errors.ts";
import type { DialAddress } from "../../net/address.ts";
import { deadlineExceeded, dialError, dialTimeout, openSocket, transportId } from "../http/dial.ts";
import type { ExchangeRequest } from "../transport.ts";
import { DictionaryWriter } from "./dictionary.ts";
import { connectionLost, goingAway, resetError } from "./errors.ts";
import { ExchangeTable } from "./exchange-table.ts";
import {
  chunkBytes,
  dataFlag,
  ExchangeError,
  FrameReader,
  frameType,
  goAwayCode,
  headBytes,
  maxId,
  maxPayloadBytes,
  openFlag,
  readText,
  readUint16,
  readUint32,
  resetCode,
  WireError,
  writeUint16,
  writeUint32,
} from "./frames.ts";
import { cheapFrames, FloodGuard } from "./flood-guard.ts";
import { FrameWriter, textRoom } from "./frame-writer.ts";
import { fromNodes, HeldPart } from "./held-bytes.ts";
import { InboxShare } from "./inbox.ts";
import { encodePreface, extension, parsePreface, type WireSettings, wireVersion } from "./preface.ts";
import { Turns } from "./sender.ts";

/** One call or stream on a connection. */
export interface ClientExchangeEntry {
  /** 0 until it is sent. */
  numericId: number;
  /** Number of flushes when it was sent: it has left once there were more. */
  sentAt: number;
  readonly deadline: number;
  /** When the connection must be there. */
  readonly dialUntil: number;
  readonly dialTimeoutMs: number;
  /** When it was sent or, before that, made. */
  startedAt: number;
  /** The connection is ready. */
  begin(connection: FastConnection, now: number): void;
  /** The peer does not speak this wire: start anew on the other one. */
  fallBack(): void;
  /** @throws {ExchangeError | WireError} */
  data(flags: number, bytes: Uint8Array, start: number, end: number): void;
  ended(): void;
  /** @returns false for more credit than there may be. */
  granted(credit: number): boolean;
  /** It is over, and out of the connection's hands. */
  fail(error: MicroError): void;
}

export interface FastConnectionOwner {
  readonly address: string;
  readonly target: DialAddress;
  readonly tls: ConnectionOptions | undefined;
  readonly settings: WireSettings;
  /** The peer does not speak this wire; these exchanges were waiting. */
  refused(connection: FastConnection, waiting: readonly ClientExchangeEntry[]): void;
  /** These are more than the peer takes on one connection. */
  overflow(waiting: readonly ClientExchangeEntry[]): void;
  /** Nothing runs on it any more. */
  idle(connection: FastConnection): void;
  gone(connection: FastConnection): void;
}

const silenceMs = 5_000;
const deadMs = 30_000;
const noBytes = Buffer.alloc(0);
const pingPayload = Buffer.from("are you?", "latin1");

export class FastConnection {
  readonly #owner: FastConnectionOwner;
  readonly #socket: Socket;
  readonly writer: FrameWriter;
  readonly turns: Turns;
  readonly share: InboxShare;
  readonly #reader: FrameReader;
  readonly #entries = new ExchangeTable<ClientExchangeEntry>();
  #dictionary: DictionaryWriter | undefined;
  #peer: WireSettings | undefined;
  #tellsLookUps = false;
  #waiting: ClientExchangeEntry[] = [];
  #state: "dialing" | "negotiating" | "open" | "going" | "over" = "dialing";
  #nextId = 1;
  #answer: Buffer = noBytes;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = 0;
  #look: NodeJS.Immediate | undefined;
  #heardAt: number;
  /** When a PING was sent that has not been answered. */
  #askedAt: number | undefined;
  #referenced = true;
  readonly #flood = new FloodGuard(cheapFrames);
  readonly #held = new HeldPart(fromNodes);

  constructor(owner: FastConnectionOwner, now: number) {
    this.#owner = owner;
    this.#heardAt = now;
    const socket = openSocket(owner.target, owner.tls, (chunk) => this.#read(chunk));
    this.#socket = socket;
    this.writer = new FrameWriter(socket, () => this.turns.run());
    this.turns = new Turns(this.writer);
    this.share = new InboxShare(this.writer, owner.settings.maxMessageBytes);
    this.#reader = new FrameReader((type, flags, id, bytes, start, end) =>
      this.#frame(type, flags, id, bytes, start, end),
    );
    socket.once(owner.tls === undefined ? "connect" : "secureConnect", () => this.#connected());
    socket.on("drain", () => this.writer.flushAll());
    socket.on("end", () => this.#lost(undefined));
    socket.on("error", (error) => this.#lost(error));
    socket.on("close", () => this.#lost(undefined));
  }

  get address(): string {
    return this.#owner.address;
  }

  /** What the peer takes; only while an exchange runs. */
  get peer(): WireSettings {
    return this.#peer as WireSettings;
  }

  /** New exchanges may be started here. */
  get accepting(): boolean {
    if (this.#askedAt !== undefined) return false;
    if (this.#state === "open")
      return this.#entries.size < (this.#peer as WireSettings).maxExchanges && this.#nextId <= maxId;
    return this.#state === "dialing" || this.#state === "negotiating";
  }

  get open(): boolean {
    return this.#state === "open";
  }

  get running(): number {
    return this.#entries.size + this.#waiting.length;
  }

  /** Nobody waits for it yet: that it is being made must not keep the process alive. */
  unrefUnused(): void {
    if (this.running > 0 || !this.#referenced) return;
    this.#referenced = false;
    this.#socket.unref();
  }

  /** Carry an exchange; only while {@link accepting}. */
  start(entry: ClientExchangeEntry, now: number): void {
    if (!this.#referenced) {
      this.#referenced = true;
      this.#socket.ref();
    }
    if (this.#state === "open") {
      this.#begin(entry, now);
      this.#arm(Math.min(entry.deadline, now + silenceMs), now);
    } else {
      this.#waiting.push(entry);
      this.#arm(Math.min(entry.deadline, entry.dialUntil), now);
    }
  }

  /**
   * Send OPEN, with as much of the body as fits.
   * @param body as text: at most {@link maxTextLength}, and that of the request.
   * @returns how much that is, if it is not all. @throws {ExchangeError} for headers that are too large: nothing was sent then.
   */
  sendOpen(
    entry: ClientExchangeEntry,
    request: ExchangeRequest,
    stream: boolean,
    body: Uint8Array | string,
    now: number,
  ): number | undefined {
    const dictionary = this.#dictionary as DictionaryWriter;
    const route = dictionary.route(request);
    const fields = dictionary.fields(request.metadata);
    const { writer } = this;
    let flags: number = stream ? openFlag.stream : 0;
    if (request.lookedUp === true && this.#tellsLookUps) flags |= openFlag.lookedUp;
    let length = 2;
    if (entry.deadline !== Number.POSITIVE_INFINITY) {
      flags |= openFlag.timeout;
      length += 4;
    }
    if (fields.length > 0) {
      flags |= openFlag.metadata;
      length += 2 + fields.length;
    }
    let room = typeof body === "string" ? textRoom(body) : body.length;
    if (room > chunkBytes || length + room > maxPayloadBytes) {
      if (typeof body === "string") body = request.body;
      room = Math.min(body.length, chunkBytes, maxPayloadBytes - length);
      if (room < body.length) flags |= openFlag.more;
    }
    entry.numericId = this.#nextId;
    this.#nextId += 2;
    this.#entries.add(entry);
    const head = writer.reserve(headBytes + length + room);
    const { bytes } = writer;
    let at = head + headBytes;
    writeUint16(bytes, at, route);
    at += 2;
    if ((flags & openFlag.timeout) !== 0) {
      const left = entry.deadline - now;
      writeUint32(bytes, at, left < 1 ? 1 : Math.min(Math.floor(left), 0xffff_ffff));
      at += 4;
    }
    if ((flags & openFlag.metadata) !== 0) {
      writeUint16(bytes, at, fields.length);
      writer.body(at + 2, fields);
      at += 2 + fields.length;
    }
    if (typeof body === "string") length += writer.text(at, body);
    else {
      writer.body(at, body, 0, room);
      length += room;
    }
    writer.head(head, length, frameType.open, flags, entry.numericId);
    entry.sentAt = writer.flushes;
    entry.startedAt = now;
    writer.commit(headBytes + length);
    return (flags & openFlag.more) === 0 ? undefined : room;
  }

  /** The exchange is over: nothing that comes for it is looked at. */
  finish(entry: ClientExchangeEntry): void {
    if (this.#entries.delete(entry.numericId)) this.#settled();
  }

  /** End an exchange from this side. One that was never sent just leaves. */
  reset(entry: ClientExchangeEntry, code: number, reason: string): void {
    if (entry.numericId === 0) {
      const index = this.#waiting.indexOf(entry);
      if (index !== -1) this.#waiting.splice(index, 1);
      if (this.running === 0 && this.#state !== "open") this.#close();
      return;
    }
    if (!this.#entries.delete(entry.numericId)) return;
    if (this.#state !== "over") this.writer.reset(frameType.reset, entry.numericId, code, reason);
    this.#settled();
  }

  /** Close; what runs or waits fails with `error`. */
  abandon(error: MicroError): void {
    if (this.#state === "over") return;
    const entries = [...this.#entries.all(), ...this.#waiting];
    this.#waiting = [];
    this.#close();
    for (const entry of entries) entry.fail(error);
  }

  /** Close in good order once what is written has left. */
  close(): void {
    this.#close();
  }

  #begin(entry: ClientExchangeEntry, now: number): void {
    try {
      entry.begin(this, now);
    } catch (error) {
      this.#entries.delete(entry.numericId);
      entry.fail(this.#contained(error));
      this.#settled();
    }
  }

  #settled(): void {
    if (this.#entries.size > 0 || this.#waiting.length > 0) return;
    if (this.#state === "going") {
      this.#close();
      return;
    }
    if (this.#referenced) {
      this.#referenced = false;
      this.#socket.unref();
    }
    this.#owner.idle(this);
  }

  #connected(): void {
    if (this.#state !== "dialing") return;
    this.#state = "negotiating";
    const { settings } = this.#owner;
    this.#socket.write(encodePreface({ lowest: wireVersion, highest: wireVersion, chosen: 0, settings }));
  }

  #read(chunk: Buffer): void {
    if (this.#state === "over") return;
    if (this.#state === "negotiating") {
      this.#negotiate(chunk);
      return;
    }
    this.#heardAt = performance.now();
    const wasSilent = this.#askedAt !== undefined;
    this.#askedAt = undefined;
    const { share } = this;
    share.full = this.#held.lacks(chunk.length);
    try {
      this.#reader.push(chunk);
    } catch (error) {
      this.#broken(error);
      return;
    }
    this.#held.set(share.unread + share.incomplete + this.#reader.kept);
    // Another one may have taken its place meanwhile.
    if (wasSilent && this.running === 0) this.#settled();
  }

  #negotiate(chunk: Buffer): void {
    this.#answer = Buffer.concat([this.#answer, chunk]);
    let answer;
    try {
      answer = parsePreface(this.#answer);
    } catch {
      this.#refused();
      return;
    }
    if (answer === undefined) return;
    const { chosen, settings } = answer.preface;
    if (chosen !== wireVersion || settings.maxExchanges === 0) {
      this.#refused();
      return;
    }
    const rest = this.#answer.subarray(answer.length);
    this.#answer = noBytes;
    this.#state = "open";
    this.#peer = settings;
    this.#tellsLookUps = (settings.extensions & extension.lookedUp) !== 0;
    this.#dictionary = new DictionaryWriter(this.writer, settings);
    const waiting = this.#waiting;
    this.#waiting = [];
    const now = performance.now();
    this.#heardAt = now;
    const tooMany = waiting.splice(settings.maxExchanges);
    for (const entry of waiting) this.#begin(entry, now);
    // The limit for making the connection may stand in the way of later ones.
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#expire();
    if (tooMany.length > 0) this.#owner.overflow(tooMany);
    if (rest.length > 0) this.#read(rest);
    // A `settled` of what is gone already.
    if (this.running === 0) this.#settled();
  }

  #refused(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#close();
    this.#owner.refused(this, waiting);
  }

  /** @throws {WireError} */
  #frame(type: number, flags: number, id: number, bytes: Uint8Array, start: number, end: number): void {
    if (type === frameType.data) {
      if ((flags & ~dataFlag.all) !== 0 || (flags & 3) === 3) throw new WireError(`flags ${flags} of a DATA frame`);
      const entry = this.#entries.get(id);
      if (entry === undefined) return this.#late(id);
      try {
        entry.data(flags, bytes, start, end);
      } catch (error) {
        this.#fails(entry, error);
      }
      return;
    }
    if (flags !== 0) throw new WireError(`flags ${flags} of a frame of type ${type}`);
    const length = end - start;
    if (type === frameType.window) {
      if (length !== 4) throw new WireError("a WINDOW frame of the wrong length");
      const entry = this.#entries.get(id);
      this.#cheap();
      if (entry === undefined) this.#late(id);
      else if (!entry.granted(readUint32(bytes, start)))
        this.#fails(entry, new ExchangeError("more credit than there may be", resetCode.flow));
    } else if (type === frameType.end) {
      if (length !== 0) throw new WireError("an END frame with a payload");
      const entry = this.#entries.get(id);
      if (entry === undefined) return this.#late(id);
      this.finish(entry);
      entry.ended();
    } else if (type === frameType.reset) {
      if (length < 2) throw new WireError("a RESET frame without a code");
      const entry = this.#entries.get(id);
      if (entry === undefined) return this.#late(id);
      this.finish(entry);
      entry.fail(resetError(this.address, readUint16(bytes, start), readText(bytes, start + 2, end)));
    } else if (type === frameType.ping || type === frameType.pong) {
      if (length !== 8 || id !== 0) throw new WireError("a PING or PONG frame of the wrong form");
      this.#cheap();
      if (type === frameType.ping && this.writer.unsentBytes < 1024 * 1024)
        this.writer.frame(frameType.pong, 0, 0, bytes.subarray(start, end));
    } else if (type === frameType.goAway) {
      if (length < 6 || id !== 0) throw new WireError("a GOAWAY frame of the wrong form");
      this.#goAway(readUint32(bytes, start), readText(bytes, start + 6, end));
    } else throw new WireError(`a listener sends no frames of type ${type}`);
  }

  /** No listener has a reason to send many of these. @throws {WireError} */
  #cheap(): void {
    if (!this.#flood.spend()) throw new WireError("too many frames that ask for nothing", goAwayCode.flooding);
  }

  /** A frame for an exchange that is over, unless it never was. */
  #late(id: number): void {
    if (id <= 0 || (id & 1) === 0 || id >= this.#nextId)
      throw new WireError(`a frame for exchange ${id}, which is none`);
  }

  #goAway(lastId: number, reason: string): void {
    if (this.#state !== "open") return;
    this.#state = "going";
    const error = goingAway(this.address, reason);
    this.#owner.gone(this);
    for (const entry of this.#entries.all()) {
      if (entry.numericId <= lastId) continue;
      this.finish(entry);
      entry.fail(error);
    }
    if (this.#entries.size === 0) this.#close();
  }

  #fails(entry: ClientExchangeEntry, error: unknown): void {
    if (error instanceof WireError) throw error;
    const { code } = error instanceof ExchangeError ? error : { code: resetCode.internal };
    this.reset(entry, code, error instanceof Error ? error.message : "");
    entry.fail(this.#contained(error));
  }

  #contained(error: unknown): MicroError {
    const reason = error instanceof Error ? error.message : String(error);
    const code =
      error instanceof ExchangeError && (error.code === resetCode.tooLarge || error.code === resetCode.refused)
        ? "too_large"
        : "protocol";
    return new MicroError(`${this.address}: ${reason}`, { id: transportId, code, cause: error });
  }

  #broken(error: unknown): void {
    const wire = error instanceof WireError ? error : undefined;
    const reason = error instanceof Error ? error.message : String(error);
    this.writer.goAway(frameType.goAway, 0, wire?.code ?? goAwayCode.protocol, reason);
    this.abandon(
      new MicroError(`${this.address} sent what cannot be read: ${reason}`, {
        id: transportId,
        code: "protocol",
        cause: error,
      }),
    );
  }

  #lost(cause: NodeJS.ErrnoException | undefined): void {
    if (this.#state === "over") return;
    if (this.#state === "negotiating") {
      // What speaks HTTP answers a preface with an error. A proxy in front of a node that is gone says nothing, here as over HTTP,
      // where a request would be on its way by now: only here is it known that nothing ran.
      const why = `before the peer said which wire it speaks${cause?.code === undefined ? "" : ` (${cause.code})`}`;
      this.abandon(
        new MicroError(`connection to ${this.address} was closed ${why}`, {
          id: transportId,
          code: "unavailable",
          notRun: true,
          cause,
        }),
      );
      return;
    }
    if (this.#state === "dialing") {
      const error = cause ?? new Error("the peer closed the connection before it was established");
      this.abandon(dialError(this.address, error));
      return;
    }
    const entries = this.#entries.all();
    const { flushes } = this.writer;
    this.#close(true);
    for (const entry of entries)
      entry.fail(
        connectionLost(this.address, cause?.code ?? "", entry.sentAt === flushes && entry.numericId !== 0, cause),
      );
  }

  #close(lost = false): void {
    if (this.#state === "over") return;
    this.#state = "over";
    clearTimeout(this.#timer);
    this.#timer = undefined;
    clearImmediate(this.#look);
    this.#look = undefined;
    this.#reader.stop();
    this.#held.set(0);
    // What was not sent to a peer that is gone is known not to have run: it must stay so.
    if (!lost) this.writer.flush();
    if (lost || this.#socket.connecting) this.#socket.destroy();
    else this.#socket.destroySoon();
    // Whatever the peer still says, nobody reads it.
    this.#socket.unref();
    this.#owner.gone(this);
  }

  #arm(at: number, now: number): void {
    if (this.#timer !== undefined && this.#timerAt <= at) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#expireSoon();
      },
      Math.min(Math.max(1, Math.ceil(at - now)), 0x7fff_ffff),
    );
    // The socket of a running call keeps the process alive; an idle connection should not.
    this.#timer.unref();
  }

  /** When this process was busy, what is late may lie in the socket: that is read first. */
  #expireSoon(): void {
    this.#look ??= setImmediate(() => {
      this.#look = undefined;
      this.#expire();
    });
  }

  /** Fail what is late, ask a peer that is silent, and set the timer for the next of it. */
  #expire(): void {
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    let silent = false;
    for (const entry of this.#waiting.slice()) {
      const limit = Math.min(entry.deadline, entry.dialUntil);
      if (now < limit) {
        next = Math.min(next, limit);
        continue;
      }
      this.#waiting.splice(this.#waiting.indexOf(entry), 1);
      entry.fail(entry.deadline <= now ? deadlineExceeded(true) : dialTimeout(this.address, entry.dialTimeoutMs));
    }
    for (const entry of this.#entries.all()) {
      if (now < entry.deadline) {
        next = Math.min(next, entry.deadline);
        continue;
      }
      if (entry.startedAt > this.#heardAt) silent = true;
      this.reset(entry, resetCode.deadline, "");
      entry.fail(deadlineExceeded(false));
    }
    if (this.#state === "dialing" || this.#state === "negotiating") {
      if (this.running === 0) this.#close();
    } else if (this.#state === "open" || this.#state === "going") {
      if (this.#askedAt !== undefined) {
        if (now - this.#askedAt >= deadMs) {
          this.abandon(connectionLost(this.address, "the peer is silent", false, undefined));
          return;
        }
        next = Math.min(next, this.#askedAt + deadMs);
      } else if (
        silent ||
        (this.#entries.size > 0 && now - this.#heardAt >= silenceMs && this.#oldest() <= now - silenceMs)
      ) {
        this.#askedAt = now;
        this.writer.frame(frameType.ping, 0, 0, pingPayload);
        next = Math.min(next, now + deadMs);
      } else if (this.#entries.size > 0) next = Math.min(next, now + silenceMs);
    }
    if (next !== Number.POSITIVE_INFINITY) this.#arm(next, now);
    // Nothing runs, and nothing is waited for: an idle connection keeps little.
    else if (this.#entries.size === 0) this.writer.release();
  }

  #oldest(): number {
    let oldest = Number.POSITIVE_INFINITY;
    for (const entry of this.#entries.all()) oldest = Math.min(oldest, entry.startedAt);
    return oldest;
  }
}
