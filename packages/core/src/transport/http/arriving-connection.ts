/** A connection whose first byte is still to come: it tells which wire the peer speaks. */
import type { Socket } from "node:net";
import type { AcceptedConnection, SweepLimits } from "./server-connection.ts";

export interface ArrivingOwner {
  readonly tick: number;
  /** The first bytes are there. */
  arrived(connection: ArrivingConnection, socket: Socket, chunk: Buffer): void;
  gone(connection: AcceptedConnection): void;
}

export class ArrivingConnection implements AcceptedConnection {
  readonly unsentBytes = 0;
  readonly #owner: ArrivingOwner;
  readonly #socket: Socket;
  readonly #acceptedAt: number;
  #closing = false;
  readonly #onData = (chunk: Buffer): void => this.receive(chunk);
  readonly #onClose = (): void => this.#owner.gone(this);
  // An error is always followed by "close".
  readonly #onError = (): void => {};

  constructor(owner: ArrivingOwner, socket: Socket) {
    this.#owner = owner;
    this.#socket = socket;
    this.#acceptedAt = owner.tick;
    socket.on("data", this.#onData);
    socket.on("close", this.#onClose);
    socket.on("error", this.#onError);
  }

  receive(chunk: Buffer): void {
    if (this.#closing) return;
    const socket = this.#socket;
    this.#owner.arrived(this, socket, chunk);
    socket.removeListener("data", this.#onData);
    socket.removeListener("close", this.#onClose);
    socket.removeListener("error", this.#onError);
  }

  shutDown(): void {
    this.#closing = true;
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  sweep(tick: number, limits: SweepLimits): void {
    if (tick - this.#acceptedAt > limits.first) this.destroy();
  }
}
