/**
 * Writing messages to a socket: head and body together, one write per message; messages of streams that are sent in
 * the same turn of the event loop share one. Order is kept between both kinds.
 */
import type { Socket } from "node:net";

/** Bodies above this are handed to the socket as they are instead of being copied behind their head. */
const maxCopiedBytes = 16 * 1024;
const maxGatheredBytes = 64 * 1024;

export class SocketWriter {
  readonly #socket: Socket;
  #heads: string[] = [];
  #bodies: Uint8Array[] = [];
  #gathered = 0;
  #scheduled = false;
  #drained: PromiseWithResolvers<void> | undefined;
  readonly #flushLater: () => void;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#flushLater = () => {
      this.#scheduled = false;
      this.flush();
    };
    socket.on("drain", () => this.#release());
    socket.on("close", () => this.#release());
  }

  /** Bytes accepted but not yet given to the system. */
  get unsentBytes(): number {
    return this.#gathered + this.#socket.writableLength;
  }

  /** Write at once. `head` ends with its blank line. */
  write(head: string, body: Uint8Array): void {
    if (this.#gathered > 0) this.flush();
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

  /** Write with what else is sent in this turn. A promise asks the sender to wait; it resolves when there is room, or no more use. */
  gather(head: string, body: Uint8Array): void | Promise<void> {
    if (body.length > maxCopiedBytes) {
      this.write(head, body);
    } else {
      this.#heads.push(head);
      this.#bodies.push(body);
      this.#gathered += head.length + body.length;
      if (this.#gathered >= maxGatheredBytes) this.flush();
      else if (!this.#scheduled) {
        this.#scheduled = true;
        process.nextTick(this.#flushLater);
      }
    }
    if (this.#socket.writableNeedDrain && this.#socket.writable)
      return (this.#drained ??= Promise.withResolvers()).promise;
    return undefined;
  }

  flush(): void {
    if (this.#gathered === 0) return;
    const heads = this.#heads;
    const bodies = this.#bodies;
    const bytes = Buffer.allocUnsafe(this.#gathered);
    let offset = 0;
    for (let index = 0; index < heads.length; index++) {
      const head = heads[index] as string;
      const body = bodies[index] as Uint8Array;
      bytes.write(head, offset, "latin1");
      bytes.set(body, offset + head.length);
      offset += head.length + body.length;
    }
    this.#heads = [];
    this.#bodies = [];
    this.#gathered = 0;
    if (this.#socket.writable) this.#socket.write(bytes);
  }

  #release(): void {
    this.#drained?.resolve();
    this.#drained = undefined;
  }
}
