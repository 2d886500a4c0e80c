/**
 * Frames on their way to a socket. All that is written in one turn of the event loop leaves together, from one buffer
 * that is used again as soon as the system has taken it.
 */
import type { Socket } from "node:net";
import { headBytes, maxReasonBytes, writeUint16, writeUint32 } from "./frames.ts";

/** A connection that says little keeps little. */
const minSlabBytes = 2 * 1024;
const maxSlabBytes = 64 * 1024;
/**
 * What is gathered in a turn before it is sent without waiting for the turn's end, so that the peer begins meanwhile:
 * many small frames, or a few large ones. Not less: what comes in small portions is answered in small portions.
 */
const burstBytes = { least: 2 * 1024, most: 16 * 1024 };
const burstFrames = 4;
/** Up to this length a loop is cheaper than a call. */
const shortText = 48;
/** Longer text is better off as bytes of its own. */
export const maxTextLength = 8 * 1024;
/** Above this an exchange with more to send waits. */
const congestedBytes = 128 * 1024;

export class FrameWriter {
  readonly #socket: Socket;
  /** Called before a flush: whoever has more to say says it, while the socket has room. True: there is still more. */
  readonly #beforeFlush: () => boolean;
  readonly #flushLater: () => void;
  /** Where frames are written; valid from {@link reserve} to {@link commit}. */
  bytes: Buffer = noBytes;
  #start = 0;
  #end = 0;
  #scheduled = false;
  /** The system did not take all at the last flush. */
  blocked = false;
  /** Flushes so far: what was committed when it was `n` has left once it is larger. */
  flushes = 0;

  constructor(socket: Socket, beforeFlush: () => boolean) {
    this.#socket = socket;
    this.#beforeFlush = beforeFlush;
    this.#flushLater = () => {
      this.#scheduled = false;
      this.flushAll();
    };
  }

  /** Accepted, but not yet given to the system. */
  get unsentBytes(): number {
    return this.#end - this.#start + this.#socket.writableLength;
  }

  get congested(): boolean {
    return this.unsentBytes >= congestedBytes;
  }

  /** Room for `length` bytes in {@link bytes}. @returns where they begin. */
  reserve(length: number): number {
    if (this.#end + length > this.bytes.length) this.#makeRoom(length);
    return this.#end;
  }

  #makeRoom(length: number): void {
    const pending = this.#end - this.#start;
    if (pending > 0 && pending < burst(length)) {
      const before = this.bytes;
      const size = Math.min(Math.max(minSlabBytes, 2 * before.length), maxSlabBytes);
      this.bytes = Buffer.allocUnsafeSlow(Math.max(size, pending + length));
      this.bytes.set(before.subarray(this.#start, this.#end));
      this.#start = 0;
      this.#end = pending;
      return;
    }
    this.flush();
    if (this.#end + length <= this.bytes.length) return;
    const size = Math.min(Math.max(minSlabBytes, 2 * this.bytes.length), maxSlabBytes);
    this.bytes = Buffer.allocUnsafeSlow(Math.max(size, length));
    this.#start = 0;
    this.#end = 0;
  }

  /** The room reserved last is filled with `length` bytes. */
  commit(length: number): void {
    this.#end += length;
    this.schedule();
    if (this.#end - this.#start >= burst(length)) this.flush();
  }

  /** Flush at the end of this turn. */
  schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    process.nextTick(this.#flushLater);
  }

  /** Write a head into reserved room. @returns where the payload begins. */
  head(at: number, payloadLength: number, type: number, flags: number, id: number): number {
    const { bytes } = this;
    bytes[at] = payloadLength >>> 8;
    bytes[at + 1] = payloadLength;
    bytes[at + 2] = type;
    bytes[at + 3] = flags;
    bytes[at + 4] = id >>> 24;
    bytes[at + 5] = id >>> 16;
    bytes[at + 6] = id >>> 8;
    bytes[at + 7] = id;
    return at + headBytes;
  }

  /** Copy a body into reserved room. */
  body(at: number, body: Uint8Array, from = 0, to: number = body.length): void {
    const length = to - from;
    if (length > shortText) {
      this.bytes.set(length === body.length ? body : body.subarray(from, to), at);
      return;
    }
    // Cheaper than the call for a few bytes.
    const { bytes } = this;
    for (let index = 0; index < length; index++) bytes[at + index] = body[from + index]!;
  }

  /** A frame whose payload is text of at most {@link maxTextLength}, as UTF-8. @returns how many bytes that took. */
  textFrame(type: number, flags: number, id: number, text: string): number {
    const at = this.reserve(headBytes + textRoom(text));
    const length = this.text(at + headBytes, text);
    this.head(at, length, type, flags, id);
    this.commit(headBytes + length);
    return length;
  }

  /** Write text as UTF-8 into reserved room. @returns how many bytes it took. */
  text(at: number, text: string): number {
    const { bytes } = this;
    const { length } = text;
    if (length > shortText) return bytes.write(text, at, "utf8");
    for (let index = 0; index < length; index++) {
      const code = text.charCodeAt(index);
      if (code > 0x7f) return bytes.write(text, at, "utf8");
      bytes[at + index] = code;
    }
    return length;
  }

  /** A frame whose payload is at hand. */
  frame(type: number, flags: number, id: number, payload: Uint8Array): void {
    const at = this.reserve(headBytes + payload.length);
    this.body(this.head(at, payload.length, type, flags, id), payload);
    this.commit(headBytes + payload.length);
  }

  window(type: number, id: number, credit: number): void {
    const at = this.reserve(headBytes + 4);
    writeUint32(this.bytes, this.head(at, 4, type, 0, id), credit);
    this.commit(headBytes + 4);
  }

  /** RESET. */
  reset(type: number, id: number, code: number, reason: string): void {
    const text = reasonBytes(reason);
    const payload = Buffer.allocUnsafe(2 + text.length);
    writeUint16(payload, 0, code);
    payload.set(text, 2);
    this.frame(type, 0, id, payload);
  }

  goAway(type: number, lastId: number, code: number, reason: string): void {
    const text = reasonBytes(reason);
    const payload = Buffer.allocUnsafe(6 + text.length);
    writeUint32(payload, 0, lastId);
    writeUint16(payload, 4, code);
    payload.set(text, 6);
    this.frame(type, 0, 0, payload);
  }

  /** Flush, and let those go on who waited for room. What remains then waits for the socket's `drain`. */
  flushAll(): void {
    let more;
    do {
      more = this.#beforeFlush();
      this.flush();
    } while (more && !this.congested && this.#socket.writable);
  }

  flush(): void {
    const start = this.#start;
    const end = this.#end;
    if (start === end) return;
    const socket = this.#socket;
    if (socket.writable) {
      this.flushes++;
      socket.write(this.bytes.subarray(start, end));
      // Taken by the system at once, as nearly always: the same buffer serves again.
      if (socket.writableLength === 0) {
        this.#start = 0;
        this.#end = 0;
        this.blocked = false;
        return;
      }
      this.blocked = true;
    }
    this.#start = end;
  }

  /** Free the buffer of a connection that is idle or gone. */
  release(): void {
    if (this.#start !== this.#end) return;
    this.bytes = noBytes;
    this.#start = 0;
    this.#end = 0;
  }
}

const noBytes = Buffer.alloc(0);

/** How much to reserve for a text. */
export function textRoom(text: string): number {
  return text.length <= shortText ? 3 * text.length : Buffer.byteLength(text, "utf8");
}

/** How much is gathered while frames have this length. */
function burst(length: number): number {
  return Math.max(burstBytes.least, Math.min(burstFrames * length, burstBytes.most));
}

function reasonBytes(reason: string): Buffer {
  const bytes = Buffer.from(reason, "utf8");
  return bytes.length <= maxReasonBytes ? bytes : bytes.subarray(0, maxReasonBytes);
}
