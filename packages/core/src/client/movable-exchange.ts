/** A stream that nobody has run yet can go to another node, with what was sent already. */
import { MicroError } from "../errors.ts";
import type { ClientExchange, ExchangeMessage } from "../transport/transport.ts";

/** Kept of what was sent before the first answer, in bytes; a stream that sends more stays where it is. */
export const maxKeptBytes: number = 65_536;

/** What says that the stream was not run: the peer's message, or the transport's error. */
export type Refusal = { readonly message: ExchangeMessage } | { readonly error: MicroError };

/**
 * An exchange that is opened anew, by `reopen`, when the first thing heard of it is that it was not run. What was sent is sent
 * again, and what is sent meanwhile waits. Once the peer has said anything else it is the exchange itself.
 */
export class MovableExchange implements ClientExchange {
  #current: ClientExchange;
  readonly #reopen: (refusal: Refusal) => Promise<ClientExchange>;
  /** Undefined once it cannot move any more. */
  #kept: Uint8Array[] | undefined = [];
  #keptBytes = 0;
  #closed = false;
  #moving: Promise<void> | undefined;

  /** @param reopen rejects with the error of the stream when there is no other node for it. */
  constructor(exchange: ClientExchange, reopen: (refusal: Refusal) => Promise<ClientExchange>) {
    this.#current = exchange;
    this.#reopen = reopen;
  }

  send(body: Uint8Array): void | Promise<void> {
    if (this.#moving !== undefined) return this.#moving.then(() => this.send(body));
    if (this.#kept === undefined) return this.#current.send(body);
    this.#keptBytes += body.length;
    if (this.#keptBytes > maxKeptBytes) this.#kept = undefined;
    else this.#kept.push(body);
    // A peer that has refused takes nothing more: the reader hears of it, and the message goes along if the stream moves.
    return this.#current.send(body)?.catch((error: unknown) => {
      if (this.#kept === undefined) throw error;
    });
  }

  closeSend(): void {
    if (this.#moving !== undefined) {
      void this.#moving.then(
        () => this.closeSend(),
        () => {},
      );
      return;
    }
    this.#closed = true;
    this.#current.closeSend();
  }

  receive(): Promise<ExchangeMessage | undefined> {
    return this.#kept === undefined ? this.#current.receive() : this.#first();
  }

  poll(): ExchangeMessage | undefined {
    return this.#kept === undefined ? this.#current.poll?.() : undefined;
  }

  cancel(reason?: unknown): void {
    this.#kept = undefined;
    this.#current.cancel(reason);
  }

  async #first(): Promise<ExchangeMessage | undefined> {
    for (;;) {
      let refusal: Refusal;
      try {
        // oxlint-disable-next-line no-await-in-loop -- one node after the other
        const message = await this.#current.receive();
        if (message?.notRun !== true || this.#kept === undefined) {
          this.#kept = undefined;
          return message;
        }
        refusal = { message };
      } catch (error) {
        if (this.#kept === undefined || !MicroError.is(error) || !error.notRun) {
          this.#kept = undefined;
          throw error;
        }
        refusal = { error };
      }
      this.#moving = this.#move(refusal, this.#kept);
      this.#moving.catch(() => {}); // Told to whoever reads, and to who sends meanwhile.
      try {
        // oxlint-disable-next-line no-await-in-loop
        await this.#moving;
      } finally {
        this.#moving = undefined;
      }
    }
  }

  async #move(refusal: Refusal, kept: readonly Uint8Array[]): Promise<void> {
    let next: ClientExchange;
    try {
      next = await this.#reopen(refusal);
    } catch (error) {
      this.#kept = undefined;
      throw error;
    }
    this.#current = next;
    // Cancelled meanwhile: so is the next one, by whoever opened it.
    if (this.#kept === undefined) return;
    // Little enough to be sent without waiting; if it cannot be, the reader hears why.
    for (const body of kept) next.send(body)?.catch(() => {});
    if (this.#closed) next.closeSend();
  }
}
