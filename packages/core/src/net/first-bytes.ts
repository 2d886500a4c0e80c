/** A connection whose first bytes are still to come: they tell what the peer speaks. */
import type { Socket } from "node:net";
import type { AcceptedConnection } from "./port.ts";
import type { SweepLimits } from "./port-limits.ts";

interface Owner {
  readonly tick: number;
  gone(connection: AcceptedConnection): void;
}

export class FirstBytes implements AcceptedConnection {
  readonly unsentBytes = 0;
  readonly #socket: Socket;
  readonly #arrived: (waiting: FirstBytes, chunk: Buffer) => void;
  readonly #acceptedAt: number;
  #closing = false;
  readonly #onData = (chunk: Buffer): void => this.receive(chunk);
  readonly #onClose: () => void;
  // An error is always followed by "close".
  readonly #onError = (): void => {};

  constructor(owner: Owner, socket: Socket, arrived: (waiting: FirstBytes, chunk: Buffer) => void) {
    this.#socket = socket;
    this.#arrived = arrived;
    this.#acceptedAt = owner.tick;
    this.#onClose = () => owner.gone(this);
    socket.on("data", this.#onData);
    socket.on("close", this.#onClose);
    socket.on("error", this.#onError);
  }

  receive(chunk: Buffer): void {
    if (this.#closing) return;
    const socket = this.#socket;
    this.#arrived(this, chunk);
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
