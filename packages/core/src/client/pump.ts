/** Sends what the caller streams. */
import type { Streamable } from "../definition.ts";
import type { Logger } from "../logger/logger.ts";
import type { MessageStream } from "./stream.ts";

/** @throws {TypeError} for something that is neither an iterable nor an async iterable. */
export function checkStreamable(input: unknown, endpoint: string): asserts input is Streamable<unknown> {
  const candidate = input as Partial<AsyncIterable<unknown> & Iterable<unknown>> | null | undefined;
  if (typeof candidate !== "object" && typeof candidate !== "function")
    throw new TypeError(`${endpoint} takes an iterable or async iterable of messages, not ${typeof input}`);
  if (typeof candidate?.[Symbol.asyncIterator] !== "function" && typeof candidate?.[Symbol.iterator] !== "function")
    throw new TypeError(`${endpoint} takes an iterable or async iterable of messages`);
}

/** The same messages as an async iterable, for wrappers. */
export function asAsyncIterable(input: Streamable<unknown>): AsyncIterable<unknown> {
  if (Symbol.asyncIterator in input) return input;
  return {
    async *[Symbol.asyncIterator]() {
      yield* input;
    },
  };
}

/** False if the message could not be sent: why, the reader of the stream is told. */
function arrived(sending: Promise<void>): Promise<boolean> {
  return sending.then(
    () => true,
    () => false,
  );
}

/** Moves messages from the caller's iterable to a stream, one at a time, until either ends. */
export class Pump {
  readonly #stream: MessageStream;
  readonly #iterator: AsyncIterator<unknown> | Iterator<unknown>;
  readonly #logger: Logger;
  #stopped = false;

  constructor(stream: MessageStream, input: Streamable<unknown>, logger: Logger) {
    this.#stream = stream;
    this.#logger = logger;
    this.#iterator = Symbol.asyncIterator in input ? input[Symbol.asyncIterator]() : input[Symbol.iterator]();
  }

  /** Never rejects: an error of the input, or a message that cannot be encoded, becomes the stream's failure. */
  async run(): Promise<void> {
    const stream = this.#stream;
    try {
      for (;;) {
        // oxlint-disable-next-line no-await-in-loop -- in order, and no further than the peer has room
        const step = await this.#iterator.next();
        if (this.#stopped) return;
        if (step.done === true) {
          this.#stopped = true;
          stream.closeSend();
          return;
        }
        const sending = stream.push(step.value);
        // oxlint-disable-next-line no-await-in-loop
        if (sending !== undefined && !(await arrived(sending))) this.stop();
        if (this.#stopped) return;
      }
    } catch (error) {
      // Once the stream is over its reader knows why.
      if (!this.#stopped) {
        stream.fail(error);
        this.stop();
      }
    }
  }

  /** Send nothing more and let the input clean up. Not waited for: an input may be stuck in what it waits for itself. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    try {
      Promise.resolve(this.#iterator.return?.()).catch((error: unknown) => this.#report(error));
    } catch (error) {
      this.#report(error);
    }
  }

  #report(error: unknown): void {
    this.#logger.debug("the input of a stream failed while it was closed", { stream: String(this.#stream), error });
  }
}
