/** What an exchange receives: puts messages together, and pays credit back as they are read. */
import type { MicroError } from "../../errors.ts";
import { ByteBuffer } from "../../net/byte-buffer.ts";
import {
  ExchangeError,
  frameCost,
  frameType,
  initialWindow,
  maxWindow,
  maxWindowGrowth,
  minPieceBytes,
  resetCode,
} from "./frames.ts";
import type { FrameWriter } from "./frame-writer.ts";
import { keepBody } from "./message.ts";
import { maxPackedBytes, MessageQueue, type Unpack } from "./message-queue.ts";

/** What all inboxes of a connection share. */
export class InboxShare {
  readonly writer: FrameWriter;
  readonly maxMessageBytes: number;
  /** How far windows have grown together. */
  growth = 0;
  /** Bytes of messages that are not complete yet. */
  incomplete = 0;
  /** How many messages are not complete yet. */
  incoming = 0;
  /** What complete messages cost that nobody has read yet. */
  unread = 0;
  /** There is no room for anything more. */
  full = false;

  constructor(writer: FrameWriter, maxMessageBytes: number) {
    this.writer = writer;
    this.maxMessageBytes = maxMessageBytes;
  }

  get maxIncomplete(): number {
    return 4 * this.maxMessageBytes;
  }
}

const packedCost = frameCost(0);

/** A cost is that of the frames it came in. */
type InboxItem = Uint8Array | { readonly body: Uint8Array; readonly cost: number };

/** Credit that the peer has to send with. Only for exchanges whose peer needs more than it began with. */
export class Inbox<T extends InboxItem> {
  readonly #id: number;
  readonly #share: InboxShare;
  readonly #maxMessageBytes: number;
  readonly queue: MessageQueue<T>;
  #window = initialWindow;
  /** Credit that the peer still has. */
  #outstanding = initialWindow;
  /** Cost of complete messages that nobody has read yet. */
  #unread = 0;
  #parts: ByteBuffer | undefined;
  #ticks = 0;
  #ticksOf: ByteBuffer | undefined;
  #over = false;

  /** @param maxMessageBytes of this exchange; no more than that of all. */
  constructor(id: number, share: InboxShare, unpack: Unpack<T>, maxMessageBytes: number = share.maxMessageBytes) {
    this.#id = id;
    this.#share = share;
    this.#maxMessageBytes = maxMessageBytes;
    this.queue = new MessageQueue<T>(unpack, (taken) => this.#taken(taken));
  }

  /** The body of a request, or of a reply, that goes on in DATA frames, has begun outside of one. */
  begin(bytes: Uint8Array, start: number, end: number): void {
    this.#append(bytes, start, end);
  }

  /** A message is not complete yet. */
  get inside(): boolean {
    return this.#parts !== undefined;
  }

  /** A DATA frame has come; whoever calls this makes an item of the body, or drops it. @throws {ExchangeError} */
  spend(payloadLength: number, flags: number): void {
    this.#outstanding -= payloadLength + frameCost(flags);
    if (this.#share.full) throw new ExchangeError("there is no room for what was sent", resetCode.refused);
    if (this.#outstanding < 0) throw new ExchangeError("more was sent than there was credit for", resetCode.flow);
  }

  /** @returns the body once it is complete. @throws {ExchangeError} */
  body(more: boolean, bytes: Uint8Array, start: number, end: number): Uint8Array | undefined {
    if (!more && this.#parts === undefined) {
      if (end - start > this.#maxMessageBytes) throw this.#tooLarge();
      return keepBody(bytes, start, end);
    }
    this.#append(bytes, start, end);
    if (!more) {
      const parts = this.#parts as ByteBuffer;
      this.#parts = undefined;
      this.#share.incomplete -= parts.length;
      this.#share.incoming--;
      return parts.take();
    }
    this.#pay();
    return undefined;
  }

  /**
   * Take a message that came in one frame and is nothing but its body, if it is small.
   * @returns false if it is not: nothing has happened then. @throws {ExchangeError}
   */
  pack(bytes: Uint8Array, start: number, end: number): boolean {
    const length = end - start;
    if (length > maxPackedBytes || length > this.#maxMessageBytes || this.#parts !== undefined) return false;
    this.spend(length, 0);
    this.#unread += packedCost + length;
    this.#share.unread += packedCost + length;
    this.queue.pack(bytes, start, end);
    return true;
  }

  push(item: T): void {
    const bytes = cost(item);
    this.#unread += bytes;
    if (!this.#over) this.#share.unread += bytes;
    this.queue.push(item);
  }

  /** Nothing more will come; what is queued can be read unless the queue has failed. */
  close(): void {
    if (this.#over) return;
    this.#over = true;
    this.#share.growth -= this.#window - initialWindow;
    // What can still be read is its reader's.
    this.#share.unread -= this.#unread;
    if (this.#parts !== undefined) {
      this.#share.incomplete -= this.#parts.length;
      this.#share.incoming--;
    }
    this.#parts = undefined;
    this.#ticksOf = undefined;
  }

  /**
   * Called once a tick: a message may take `graceTicks`, and longer only at this rate over its whole length. Time in which the peer
   * has no credit to send it with is the reader's, who is at work on an earlier one.
   */
  arrivesTooSlowly(graceTicks: number, bytesPerTick: number): boolean {
    const parts = this.#parts;
    if (parts === undefined || parts !== this.#ticksOf) {
      this.#ticksOf = parts;
      this.#ticks = 0;
      return false;
    }
    if (this.#outstanding < minPieceBytes + packedCost) return false;
    return ++this.#ticks > graceTicks && parts.length < this.#ticks * bytesPerTick;
  }

  fail(error: MicroError | (() => MicroError), drop: boolean): void {
    this.close();
    this.queue.fail(error, drop);
  }

  #append(bytes: Uint8Array, start: number, end: number): void {
    const share = this.#share;
    if (this.#parts === undefined) {
      this.#parts = new ByteBuffer();
      share.incoming++;
    }
    if (this.#parts.length + end - start > this.#maxMessageBytes) throw this.#tooLarge();
    if (share.incomplete + end - start > share.maxIncomplete)
      throw new ExchangeError("too many large messages at once on this connection", resetCode.refused);
    share.incomplete += end - start;
    this.#parts.append(bytes.subarray(start, end));
  }

  #tooLarge(): ExchangeError {
    return new ExchangeError(`the message is larger than ${this.#maxMessageBytes} bytes`, resetCode.tooLarge);
  }

  #taken(taken: T | number): void {
    const bytes = typeof taken === "number" ? packedCost + taken : cost(taken);
    this.#unread -= bytes;
    if (!this.#over) this.#share.unread -= bytes;
    this.#pay();
  }

  #pay(): void {
    if (this.#over) return;
    if (this.#window - this.#unread - this.#outstanding < this.#window / 2) return;
    const share = this.#share;
    // The reader keeps up: let more be on its way.
    if (this.#unread < this.#window / 4 && this.#window < maxWindow && share.growth + this.#window <= maxWindowGrowth) {
      share.growth += this.#window;
      this.#window *= 2;
    }
    const credit = this.#window - this.#unread - this.#outstanding;
    this.#outstanding += credit;
    share.writer.window(frameType.window, this.#id, credit);
  }
}

function cost(item: InboxItem): number {
  return item instanceof Uint8Array ? packedCost + item.length : item.cost;
}
