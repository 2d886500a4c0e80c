/** What an exchange sends: within its credit, in pieces, in turn with the others of its connection. */
import {
  chunkBytes,
  dataFlag,
  ExchangeError,
  frameCost,
  frameType,
  headBytes,
  initialWindow,
  maxCredit,
  maxPayloadBytes,
  minPieceBytes,
  resetCode,
} from "./frames.ts";
import { type FrameWriter, maxTextLength } from "./frame-writer.ts";
import type { HeldBytes } from "./held-bytes.ts";
import type { MessageFields } from "./message.ts";

/** What a message that waits takes beside its bytes. */
const messageCost = 128;
const noBytes = new Uint8Array(0);
/** One for all: where it is thrown there are many. */
const tooMuch = new ExchangeError("more waits to be taken by callers than is kept for them", resetCode.internal);

/** Hands out turns to the senders of a connection. */
export class Turns {
  readonly writer: FrameWriter;
  readonly #waiting: Sender[] = [];
  readonly #sum: HeldBytes | undefined;
  #queuedBytes = 0;

  /** @param sum of what waits in the process; it limits what may wait here. Default: there is no limit. */
  constructor(writer: FrameWriter, sum?: HeldBytes) {
    this.writer = writer;
    this.#sum = sum;
  }

  /** Bytes of messages that wait, for a turn or for credit. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  count(bytes: number): void {
    this.#queuedBytes += bytes;
    this.#sum?.add(bytes);
  }

  /** There is no room for `bytes` more. */
  lacks(bytes: number): boolean {
    return this.#sum !== undefined && this.#queuedBytes + bytes > this.#sum.free;
  }

  add(sender: Sender): void {
    this.#waiting.push(sender);
    this.writer.schedule();
  }

  /** Let everybody send a frame in turn, until nothing is left or the socket has enough. @returns true in that case. */
  run(): boolean {
    while (this.#waiting.length > 0 && !this.writer.congested) {
      const sender = this.#waiting.shift() as Sender;
      if (sender.takeTurn()) this.#waiting.push(sender);
    }
    return this.#waiting.length > 0;
  }
}

interface Outgoing {
  readonly flags: number;
  /** Undefined for END. */
  readonly body: Uint8Array | undefined;
  fields: Uint8Array;
  /** How much of the body has been sent. */
  sent: number;
  /** What it still counts for. */
  held: number;
  begun: boolean;
}

export class Sender {
  readonly id: number;
  readonly #turns: Turns;
  #credit = initialWindow;
  #queue: Outgoing[] | undefined;
  #inTurn = false;
  #room: PromiseWithResolvers<void> | undefined;
  #moved = false;
  #stalledTicks = 0;
  /** Called when nothing waits any more. */
  onIdle: (() => void) | undefined;

  constructor(id: number, turns: Turns) {
    this.id = id;
    this.#turns = turns;
  }

  /** Nothing waits. */
  get idle(): boolean {
    return this.#queue === undefined || this.#queue.length === 0;
  }

  get waitingBytes(): number {
    let bytes = 0;
    for (const { held } of this.#queue ?? []) bytes += held;
    return bytes;
  }

  /** Called once a tick. @returns for how many nothing has been sent of what waits. */
  stalledTicks(): number {
    this.#stalledTicks = this.idle || this.#moved ? 0 : this.#stalledTicks + 1;
    this.#moved = false;
    return this.#stalledTicks;
  }

  /** Send a message. A promise asks to wait; it resolves when there is room, or no more use. @throws {ExchangeError} where too much waits. */
  send(fields: MessageFields, flags: number, body: Uint8Array): void | Promise<void> {
    const length = fields.bytes.length + body.length;
    const cost = length + frameCost(fields.flags);
    const { writer } = this.#turns;
    if (this.idle && length <= chunkBytes && this.#credit >= cost && !writer.congested) {
      this.#credit -= cost;
      this.#write(flags | fields.flags, fields.bytes, body, 0, body.length);
      return undefined;
    }
    this.#enqueue({ flags: flags | fields.flags, body, fields: fields.bytes, sent: 0, held: 0, begun: false });
    return (this.#room ??= Promise.withResolvers()).promise;
  }

  /** Send a small message that is only a body, if that can be done at once. @returns false if not: nothing has happened then. */
  sendText(body: string, maxBytes: number): boolean {
    const most = 3 * body.length; // As UTF-8.
    const { writer } = this.#turns;
    if (body.length > maxTextLength || most > maxBytes) return false;
    if (!this.idle || this.#credit < most + frameCost(0) || writer.congested) return false;
    this.#credit -= writer.textFrame(frameType.data, 0, this.id, body) + frameCost(0);
    return true;
  }

  /** END, behind what waits. */
  end(): void {
    if (this.idle) this.#turns.writer.frame(frameType.end, 0, this.id, noBytes);
    else this.#enqueue({ flags: 0, body: undefined, fields: noBytes, sent: 0, held: 0, begun: false });
  }

  /** Go on with a body whose beginning was sent in another frame. */
  rest(body: Uint8Array, from: number, flags: number): void {
    this.#enqueue({ flags, body, fields: noBytes, sent: from, held: 0, begun: true });
  }

  /** @returns false for more credit than there may be. */
  grant(credit: number): boolean {
    this.#credit += credit;
    if (this.#credit > maxCredit) return false;
    if (!this.idle) this.#wantTurn();
    return true;
  }

  /** Nothing more is sent. */
  stop(): void {
    if (this.#queue !== undefined) for (const { held } of this.#queue) this.#turns.count(-held);
    this.#queue = undefined;
    this.#release();
  }

  #enqueue(message: Outgoing): void {
    const { body, fields, sent } = message;
    message.held = body === undefined ? messageCost : body.length - sent + fields.length + messageCost;
    if (body !== undefined && this.#turns.lacks(message.held)) throw tooMuch;
    (this.#queue ??= []).push(message);
    this.#turns.count(message.held);
    this.#wantTurn();
  }

  #wantTurn(): void {
    if (this.#inTurn) return;
    this.#inTurn = true;
    this.#turns.add(this);
  }

  /** Send one frame. @returns true to get another turn. */
  takeTurn(): boolean {
    const message = this.#queue?.[0];
    if (message === undefined || !this.#sendPiece(message)) {
      this.#inTurn = false;
      return false;
    }
    if (this.idle) {
      this.#inTurn = false;
      this.#release();
      const done = this.onIdle;
      this.onIdle = undefined;
      done?.();
      return false;
    }
    return true;
  }

  /** @returns false when it has to wait for credit. */
  #sendPiece(message: Outgoing): boolean {
    const { body, fields } = message;
    if (body === undefined) {
      this.#queue?.shift();
      this.#turns.count(-message.held);
      this.#turns.writer.frame(frameType.end, 0, this.id, noBytes);
      return true;
    }
    const left = body.length - message.sent;
    // Fields stand in the first frame, END in the last.
    const first = message.begun ? message.flags & dataFlag.end : message.flags;
    const cost = fields.length + frameCost(first);
    const piece = Math.min(left, chunkBytes, maxPayloadBytes - fields.length, this.#credit - cost);
    if (piece < left && piece < minPieceBytes) return false;
    if (piece < 0) return false;
    const last = piece === left;
    this.#credit -= piece + cost;
    this.#moved = true;
    const still = last ? 0 : message.held - piece;
    this.#turns.count(still - message.held);
    message.held = still;
    const flags = last ? first : (first & ~dataFlag.end) | dataFlag.more;
    const from = message.sent;
    message.sent += piece;
    message.begun = true;
    message.fields = noBytes;
    if (last) this.#queue?.shift();
    this.#write(flags, fields, body, from, from + piece);
    return true;
  }

  #write(flags: number, fields: Uint8Array, body: Uint8Array, from: number, to: number): void {
    const { writer } = this.#turns;
    const length = fields.length + to - from;
    const at = writer.reserve(headBytes + length);
    const start = writer.head(at, length, frameType.data, flags, this.id);
    if (fields.length > 0) writer.body(start, fields);
    writer.body(start + fields.length, body, from, to);
    writer.commit(headBytes + length);
  }

  #release(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }
}
