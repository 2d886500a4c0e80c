/**
 * Writing messages to a socket: head and body together, one write per message; messages of streams that are sent in
 * the same turn of the event loop share one. Order is kept between both kinds.
 */
import type { Socket } from "node:net";

/** The system takes text of this size without a buffer of its own. */
export const maxTextBytes = 8 * 1024;
/** Bodies above this are handed to the socket as they are instead of being copied behind their head. */
const maxCopiedBytes = 16 * 1024;
const minSlabBytes = 2 * 1024;
/** Small enough for the peer to begin with the first messages of a turn while the last ones are made. */
const maxSlabBytes = 16 * 1024 + 2 * 1024;
/** Kept from one turn to the next: a connection that says little keeps little. */
const maxKeptBytes = 4 * 1024;
/** A length in decimal and the blank line. */
const maxHeadEndBytes = 16 + 4;

/** The head of messages that differ in their length alone, up to the number. `lines` are complete. */
export function repeatableHead(lines: string): Buffer {
  return Buffer.from(`${lines}Content-Length: `, "latin1");
}

export class SocketWriter {
  readonly #socket: Socket;
  /** What is sent in this turn, from `#start` to `#end`; used again as soon as the system has taken it. */
  #slab: Buffer = noBytes;
  #start = 0;
  #end = 0;
  #scheduled = false;
  #drained: PromiseWithResolvers<void> | undefined;
  readonly #flushLater: () => void;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#flushLater = () => {
      this.#scheduled = false;
      this.flush();
      if (this.#slab.length > maxKeptBytes) this.#drop();
    };
    socket.on("drain", () => this.#release());
    socket.on("close", () => this.#release());
  }

  /** Bytes accepted but not yet given to the system. */
  get unsentBytes(): number {
    return this.#end - this.#start + this.#socket.writableLength;
  }

  /** Write at once. `head` ends with its blank line. */
  write(head: string, body: Uint8Array): void {
    this.flush();
    const socket = this.#socket;
    if (!socket.writable) return;
    if (body.length === 0) {
      socket.write(head, "latin1");
    } else if (body.length <= maxCopiedBytes) {
      const bytes = Buffer.allocUnsafe(head.length + body.length);
      bytes.write(head, "latin1");
      bytes.set(body, head.length);
      socket.write(bytes);
    } else {
      socket.cork();
      socket.write(head, "latin1");
      socket.write(body);
      socket.uncork();
    }
  }

  /** Write a whole message at once, one byte a character. */
  writeText(text: string): void {
    this.flush();
    if (this.#socket.writable) this.#socket.write(text, "latin1");
  }

  /** Write with what else is sent in this turn. A promise asks the sender to wait; it resolves when there is room, or no more use. */
  gather(head: string, body: Uint8Array): void | Promise<void> {
    if (body.length > maxCopiedBytes) this.write(head, body);
    else {
      const at = this.#reserve(head.length + body.length);
      this.#slab.write(head, at, "latin1");
      this.#finish(at + head.length, body);
    }
    return this.#room();
  }

  /** As {@link gather}, with a {@link repeatableHead}: nothing is made for the message. A body as text is small, and ASCII. */
  gatherRepeated(head: Buffer, body: Uint8Array | string): void | Promise<void> {
    if (typeof body !== "string" && body.length > maxCopiedBytes)
      this.write(`${head.toString("latin1")}${body.length}\r\n\r\n`, body);
    else {
      const at = this.#reserve(head.length + maxHeadEndBytes + body.length);
      const slab = this.#slab;
      slab.set(head, at);
      this.#finish(writeHeadEnd(slab, at + head.length, body.length), body);
    }
    return this.#room();
  }

  flush(): void {
    const start = this.#start;
    const end = this.#end;
    if (start === end) return;
    this.#start = end;
    const socket = this.#socket;
    if (!socket.writable) return;
    socket.write(this.#slab.subarray(start, end));
    // Taken by the system at once, as nearly always: the same bytes serve again.
    if (socket.writableLength === 0) {
      this.#start = 0;
      this.#end = 0;
    }
  }

  /** Room in the slab. @returns where it begins. */
  #reserve(length: number): number {
    if (this.#end + length > this.#slab.length) this.#makeRoom(length);
    return this.#end;
  }

  #makeRoom(length: number): void {
    this.flush();
    const size = Math.min(Math.max(minSlabBytes, 2 * this.#slab.length), maxSlabBytes);
    if (this.#end > 0 || size > this.#slab.length || length > this.#slab.length) {
      this.#drop();
      this.#slab = Buffer.allocUnsafeSlow(Math.max(size, length));
    }
  }

  /** Add the body of the message whose head ends at `at`. */
  #finish(at: number, body: Uint8Array | string): void {
    const slab = this.#slab;
    const { length } = body;
    // Loops are cheaper than calls for a few bytes.
    if (typeof body === "string") {
      if (length > 48) slab.write(body, at, "latin1");
      else for (let index = 0; index < length; index++) slab[at + index] = body.charCodeAt(index);
    } else if (length > 48) slab.set(body, at);
    else for (let index = 0; index < length; index++) slab[at + index] = body[index]!;
    this.#end = at + length;
    if (this.#scheduled) return;
    this.#scheduled = true;
    process.nextTick(this.#flushLater);
  }

  #room(): void | Promise<void> {
    const socket = this.#socket;
    if (socket.writableNeedDrain && socket.writable) return (this.#drained ??= Promise.withResolvers()).promise;
    return undefined;
  }

  #drop(): void {
    this.#slab = noBytes;
    this.#start = 0;
    this.#end = 0;
  }

  #release(): void {
    this.#drained?.resolve();
    this.#drained = undefined;
  }
}

const noBytes = Buffer.alloc(0);

/** Write a length and the blank line. @returns where they end. */
function writeHeadEnd(bytes: Buffer, at: number, length: number): number {
  let end = at + 1;
  for (let rest = length; rest >= 10; rest = Math.floor(rest / 10)) end++;
  let rest = length;
  for (let digit = end - 1; digit >= at; digit--) {
    const tens = Math.floor(rest / 10);
    bytes[digit] = 48 + rest - 10 * tens;
    rest = tens;
  }
  bytes[end] = 13;
  bytes[end + 1] = 10;
  bytes[end + 2] = 13;
  bytes[end + 3] = 10;
  return end + 4;
}
