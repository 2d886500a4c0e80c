/** A stream by name seen as two async iterables, for wrappers and other protocols. */
import { MicroError } from "../errors.ts";
import type { Call } from "./call-context.ts";
import type { ClientStream } from "./client.ts";
import { cancelledError, clientId } from "./deadline.ts";
import { traced } from "./trace.ts";

interface Push {
  readonly value: unknown;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

/** Hands messages from a sender to a reader; a push is settled when the reader has taken it, so that one message is on its way and no more. */
export class Channel implements AsyncIterableIterator<unknown> {
  readonly #waiting: Push[] = [];
  readonly #readers: ((step: IteratorResult<unknown, undefined>) => void)[] = [];
  #ended = false;
  #closed: unknown;

  /** Rejects with the reason when the reader has gone. */
  push(value: unknown): Promise<void> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    if (this.#ended) return Promise.reject(new TypeError("stream.send: nothing can be sent after closeSend()"));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ value, resolve, reject });
    this.#hand();
    return promise;
  }

  /** Nothing more will be pushed. */
  end(): void {
    this.#ended = true;
    this.#hand();
  }

  /** Fail what was pushed and not taken, and what will be. */
  close(reason: unknown): void {
    if (this.#closed !== undefined) return;
    this.#closed = reason;
    for (const push of this.#waiting.splice(0)) push.reject(reason);
    this.end();
  }

  next(): Promise<IteratorResult<unknown, undefined>> {
    const { promise, resolve } = Promise.withResolvers<IteratorResult<unknown, undefined>>();
    this.#readers.push(resolve);
    this.#hand();
    return promise;
  }

  return(): Promise<IteratorResult<unknown, undefined>> {
    this.close(new MicroError("the stream has ended", { id: clientId, code: "closed" }));
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #hand(): void {
    while (this.#readers.length > 0) {
      const push = this.#waiting.shift();
      if (push === undefined && !this.#ended) return;
      push?.resolve();
      this.#readers.shift()!(
        push === undefined ? { value: undefined, done: true } : { value: push.value, done: false },
      );
    }
  }
}

/** A stream by name over a channel and the answers of whoever reads it. */
export class ChannelStream implements ClientStream, AsyncIterableIterator<unknown> {
  readonly #channel: Channel;
  readonly #answers: AsyncIterator<unknown>;
  readonly #call: Call;
  #ahead: Promise<IteratorResult<unknown>> | undefined;
  #over = false;

  constructor(channel: Channel, answers: AsyncIterable<unknown>, call: Call) {
    this.#channel = channel;
    this.#answers = answers[Symbol.asyncIterator]();
    this.#call = call;
  }

  /** Ask for the first answer already now, and settle when it is there: generators do nothing before they are asked. */
  begin(): Promise<unknown> {
    this.#ahead = this.#step();
    this.#ahead.catch(() => {}); // Told to whoever reads.
    return this.#ahead;
  }

  send(message: unknown): Promise<void> {
    return this.#channel.push(message).catch((error: unknown) => {
      throw traced(error);
    });
  }

  closeSend(): void {
    this.#channel.end();
  }

  async receive(): Promise<unknown> {
    const step = await this.next();
    return step.done === true ? undefined : step.value;
  }

  next(): Promise<IteratorResult<unknown, undefined>> {
    const ahead = this.#ahead;
    if (ahead === undefined) return this.#step() as Promise<IteratorResult<unknown, undefined>>;
    this.#ahead = undefined;
    // Asked for before anybody waited, it may have failed then.
    return ahead.catch((error: unknown) => {
      throw traced(error);
    }) as Promise<IteratorResult<unknown, undefined>>;
  }

  async return(): Promise<IteratorResult<unknown, undefined>> {
    this.cancel(new MicroError("the caller left the stream", { id: clientId, code: "aborted" }));
    return { value: undefined, done: true };
  }

  cancel(reason?: unknown): void {
    if (this.#over) return;
    const error = cancelledError(reason);
    this.#call.abort(error);
    this.#end(error);
    // Not waited for: the wrapper's generator may be waiting for an answer, which the abort has ended.
    Promise.resolve(this.#answers.return?.()).catch(() => {});
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  async #step(): Promise<IteratorResult<unknown>> {
    try {
      const step = await this.#answers.next();
      if (step.done === true) this.#end(new MicroError("the stream has ended", { id: clientId, code: "closed" }));
      return step;
    } catch (error) {
      this.#end(error);
      throw error;
    }
  }

  #end(reason: unknown): void {
    this.#over = true;
    this.#channel.close(reason);
  }
}
