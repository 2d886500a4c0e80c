/** The answers of a typed stream: nothing happens before they are asked for, as with a generator. */
import { MicroError } from "../errors.ts";
import type { Call } from "./call-context.ts";
import { clientId } from "./deadline.ts";

const done: IteratorResult<unknown, undefined> = Object.freeze({ value: undefined, done: true });

/** Opens the stream on the first `next()`; `return()` cancels it at once, also while it opens or waits. */
export class LazyIterator implements AsyncIterableIterator<unknown>, AsyncDisposable {
  readonly #call: Call;
  #begin: (() => unknown) | undefined;
  #opening: Promise<AsyncIterator<unknown>> | undefined;
  #source: AsyncIterator<unknown> | undefined;
  #over = false;

  constructor(call: Call, begin: () => unknown) {
    this.#call = call;
    this.#begin = begin;
  }

  /** Open the stream now. @throws {MicroError} if it cannot be opened. */
  open(): Promise<AsyncIterator<unknown>> {
    return (this.#opening ??= this.#open());
  }

  next(): Promise<IteratorResult<unknown, undefined>> {
    if (this.#over) return Promise.resolve(done);
    return this.#source === undefined
      ? this.#firstNext()
      : (this.#source.next() as Promise<IteratorResult<unknown, undefined>>);
  }

  async return(): Promise<IteratorResult<unknown, undefined>> {
    if (this.#over) return done;
    this.#over = true;
    this.#begin = undefined;
    if (this.#opening !== undefined && this.#source === undefined)
      this.#call.abort(new MicroError("the caller left the stream", { id: clientId, code: "aborted" }));
    await this.#source?.return?.();
    return done;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  async #firstNext(): Promise<IteratorResult<unknown, undefined>> {
    let source;
    try {
      source = await this.open();
    } catch (error) {
      if (this.#over) return done;
      this.#over = true;
      throw error;
    }
    return this.#over ? done : ((await source.next()) as IteratorResult<unknown, undefined>);
  }

  async #open(): Promise<AsyncIterator<unknown>> {
    const begin = this.#begin!;
    this.#begin = undefined;
    const result = await begin();
    if (typeof (result as Partial<AsyncIterable<unknown>> | undefined)?.[Symbol.asyncIterator] !== "function")
      throw new TypeError("a wrapper of a stream must return an async iterable");
    const source = (result as AsyncIterable<unknown>)[Symbol.asyncIterator]();
    this.#source = source;
    if (this.#over) await source.return?.();
    return source;
  }
}
