/** A connection to a node: dialing, parsing, and one clear reason when it ends. Used by pooled calls and by streams. */
import type { Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";
import { MicroError } from "../../errors.ts";
import type { AsciiText } from "../ascii-text.ts";
import type { DialAddress } from "../../net/address.ts";
import { dialError, isReadBuffer, openSocket, transportId } from "./dial.ts";
import { FramingError } from "./framing-error.ts";
import type { Head } from "./head.ts";
import { MessageParser, type MessageLimits } from "./message-parser.ts";
import { SocketWriter } from "./socket-writer.ts";

/** Who uses a connection. */
export interface ConnectionUser {
  /** The connection is established. */
  connected(): void;
  /** A message came; informational (1xx) ones are left out. */
  message(head: Head, body: Buffer, text: AsciiText | undefined, start: number): void;
  /** An informational message came. */
  informed(): void;
  /** The connection is gone, once. `ended`: the peer closed it in an orderly way, between two messages. */
  lost(error: MicroError, ended: boolean): void;
}

export class ClientConnection {
  readonly address: string;
  readonly socket: Socket;
  readonly writer: SocketWriter;
  readonly parser: MessageParser;
  readonly #user: ConnectionUser;
  #connected = false;
  #lost = false;
  /** The peer has closed its end, behind messages that are held back. */
  #endHeld = false;

  constructor(
    address: string,
    target: DialAddress,
    tls: ConnectionOptions | undefined,
    limits: MessageLimits,
    user: ConnectionUser,
  ) {
    this.address = address;
    this.#user = user;
    this.parser = new MessageParser("response", limits, (head, body, text, start) => {
      if (this.#lost) return;
      if (head.status < 200 && head.status !== 101) user.informed();
      else user.message(head, body, text, start);
    });
    const socket = openSocket(target, tls, (chunk) => this.#read(isReadBuffer(chunk) ? Buffer.from(chunk) : chunk));
    this.socket = socket;
    this.writer = new SocketWriter(socket);
    socket.once(tls === undefined ? "connect" : "secureConnect", () => {
      this.#connected = true;
      if (!this.#lost) user.connected();
    });
    socket.on("end", () => this.#ended());
    socket.on("error", (error) => this.#failed(error));
    socket.on("close", () => {
      if (!this.#lost && !this.#endHeld) this.#lose(this.#closedError(undefined), false);
    });
  }

  get usable(): boolean {
    return !this.#lost && this.#connected;
  }

  /** Close at once. The user is told nothing. */
  destroy(): void {
    this.#lost = true;
    this.parser.stop();
    this.socket.destroy();
  }

  #read(chunk: Buffer): void {
    // Not as soon as messages are held back: a reader that keeps up lets them go before the next bytes come.
    if (this.parser.held) this.socket.pause();
    try {
      this.parser.push(chunk);
    } catch (error) {
      this.#unreadable(error);
    }
  }

  /** Hand out no more messages until {@link resume}, and read no more than has come or is coming. */
  hold(): void {
    this.parser.hold();
  }

  resume(): void {
    if (!this.parser.held) return;
    try {
      this.parser.release();
    } catch (error) {
      this.#unreadable(error);
    }
    if (this.parser.held) return;
    if (this.#endHeld) this.#ended();
    else if (this.socket.isPaused()) this.socket.resume();
  }

  #unreadable(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    const tooLarge = error instanceof FramingError && (error.status === 413 || error.status === 431);
    this.#lose(
      new MicroError(`${this.address} sent what cannot be read: ${reason}`, {
        id: transportId,
        code: tooLarge ? "too_large" : "protocol",
        cause: error,
      }),
      false,
    );
  }

  #ended(): void {
    this.#endHeld = this.parser.held;
    if (this.#endHeld) return;
    try {
      this.parser.end();
    } catch (error) {
      this.#lose(
        new MicroError(`${this.address} closed the connection inside a reply`, {
          id: transportId,
          code: "unavailable",
          cause: error,
        }),
        false,
      );
    }
    this.#lose(this.#closedError(undefined), true);
  }

  #failed(error: NodeJS.ErrnoException): void {
    this.#lose(this.#closedError(error), false);
  }

  #closedError(cause: NodeJS.ErrnoException | undefined): MicroError {
    if (!this.#connected)
      return dialError(this.address, cause ?? new Error("the peer closed the connection before it was established"));
    return new MicroError(
      `connection to ${this.address} was lost before the reply came${cause?.code === undefined ? "" : ` (${cause.code})`}`,
      {
        id: transportId,
        code: "unavailable",
        cause,
        // A request is written in one piece. When the system did not take all of it, the peer cannot have read all of it.
        notRun: cause?.syscall === "write",
      },
    );
  }

  #lose(error: MicroError, ended: boolean): void {
    if (this.#lost) return;
    this.#lost = true;
    this.parser.stop();
    this.socket.destroy();
    this.#user.lost(error, ended);
  }
}
