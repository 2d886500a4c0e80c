/** An iterator that tells when it is over, and why. */

/** Calls `onEnd` once: with the error, or undefined for an end or a reader that left. */
export class TrackedIterator implements AsyncIterableIterator<unknown> {
  readonly #source: AsyncIterator<unknown>;
  #onEnd: ((error: unknown) => void) | undefined;

  constructor(source: AsyncIterable<unknown>, onEnd: (error: unknown) => void) {
    this.#source = source[Symbol.asyncIterator]();
    this.#onEnd = onEnd;
  }

  async next(): Promise<IteratorResult<unknown, undefined>> {
    try {
      const step = await this.#source.next();
      if (step.done !== true) return step;
    } catch (error) {
      this.#end(error);
      throw error;
    }
    this.#end(undefined);
    return { value: undefined, done: true };
  }

  async return(): Promise<IteratorResult<unknown, undefined>> {
    this.#end(undefined);
    await this.#source.return?.();
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #end(error: unknown): void {
    const onEnd = this.#onEnd;
    this.#onEnd = undefined;
    onEnd?.(error);
  }
}
