/** What a streaming caller sends, as the handler iterates it. */
import { type MicroError, badRequest } from "../errors.ts";
import type { ServerStream } from "../transport/transport.ts";

/** How one body becomes a message; throws, or rejects with, a 400. */
export type ReadMessage = (body: Uint8Array) => unknown;

const finished: IteratorReturnResult<undefined> = { done: true, value: undefined };

/** Messages of the caller, one read at a time; leaving the loop stops reading and lets the stream go on. */
export class RequestMessages implements AsyncIterableIterator<unknown> {
  readonly #stream: ServerStream;
  readonly #read: ReadMessage;
  readonly #onInvalid: (error: unknown) => void;
  #tail: Promise<IteratorResult<unknown>> | undefined;
  #interrupt: ((error: MicroError) => void) | undefined;
  #failure: { error: unknown } | undefined;
  #done = false;

  /** @param onInvalid is told of a message that cannot be read: it ends the stream, whatever the handler makes of it. */
  constructor(stream: ServerStream, read: ReadMessage, onInvalid: (error: unknown) => void) {
    this.#stream = stream;
    this.#read = read;
    this.#onInvalid = onInvalid;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<unknown>> {
    // Transports take one receive() at a time; a handler may ask ahead.
    const result: Promise<IteratorResult<unknown>> =
      this.#tail === undefined ? this.#next() : this.#tail.then(() => this.#next());
    const tail = result
      .catch(() => finished)
      .finally(() => {
        if (this.#tail === tail) this.#tail = undefined;
      });
    this.#tail = tail;
    return result;
  }

  return(): Promise<IteratorResult<unknown>> {
    this.#done = true;
    return Promise.resolve(finished);
  }

  /** The first message, for handlers that take one. */
  async first(service: string): Promise<unknown> {
    const { done, value } = await this.next();
    if (done === true) throw badRequest(service, "the stream ended before its request came");
    return value;
  }

  /** Nothing more is read; a waiting reader gets `error`. */
  stop(error: MicroError): void {
    this.#failure ??= { error };
    this.#interrupt?.(error);
  }

  async #next(): Promise<IteratorResult<unknown>> {
    if (this.#failure !== undefined) throw this.#failure.error;
    if (this.#done) return finished;
    const body = await this.#receive();
    if (body === undefined) {
      this.#done = true;
      return finished;
    }
    try {
      return { done: false, value: await this.#read(body) };
    } catch (error) {
      this.#failure ??= { error };
      this.#onInvalid(error);
      throw error;
    }
  }

  #receive(): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      this.#interrupt = reject;
      this.#stream.receive().then(resolve, (error: unknown) => {
        this.#failure ??= { error };
        reject(error);
      });
    });
  }
}
