/** Messages between a connection and the one who reads them, one at a time. */

interface Waiting<T> {
  resolve(item: T | undefined): void;
  reject(error: Error): void;
}

/** What is kept, first in first out, may be another thing than what is read: who extends it makes the one of the other. */
export abstract class ReaderQueue<Item, Kept = Item> {
  #kept: (Kept | undefined)[] = [];
  #first = 0;
  #ended = false;
  /** A function makes it when somebody asks: most queues are closed behind a reader who has left. */
  #failure: Error | (() => Error) | undefined;
  #waiting: Waiting<Item> | undefined;

  /** The first item, taken; only while there is one. */
  protected abstract take(): Item;

  protected get length(): number {
    return this.#kept.length - this.#first;
  }

  protected get first(): Kept {
    return this.#kept[this.#first] as Kept;
  }

  protected keep(kept: Kept): void {
    this.#kept.push(kept);
  }

  /** Done with the first. */
  protected advance(): void {
    this.#kept[this.#first++] = undefined;
    if (this.#first === this.#kept.length) {
      this.#kept.length = 0;
      this.#first = 0;
    } else if (this.#first > 1024) {
      this.#kept.splice(0, this.#first);
      this.#first = 0;
    }
  }

  /** Forget everything that is kept. */
  protected clear(): void {
    this.#kept = [];
    this.#first = 0;
  }

  /** No message will follow: ended or failed. */
  get closed(): boolean {
    return this.#ended || this.#failure !== undefined;
  }

  /** Somebody waits for the next item. */
  protected get awaited(): boolean {
    return this.#waiting !== undefined;
  }

  /** Give an item to who waits for it. @returns false if nobody does. */
  protected hand(item: Item): boolean {
    const waiting = this.#waiting;
    if (waiting === undefined) return false;
    this.#waiting = undefined;
    waiting.resolve(item);
    return true;
  }

  /** What is queued can still be read, then the end. */
  end(): void {
    if (this.closed) return;
    this.#ended = true;
    this.#waiting?.resolve(undefined);
    this.#waiting = undefined;
  }

  /** What is queued can still be read unless `drop`, then the error. Given as a function, it is made for its first reader only. */
  fail(error: Error | (() => Error), drop: boolean): void {
    if (drop) this.clear();
    if (this.#failure !== undefined || (this.#ended && !drop)) return;
    this.#failure = error;
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    this.#waiting = undefined;
    waiting.reject(this.#madeFailure(error));
  }

  #madeFailure(failure: Error | (() => Error)): Error {
    if (typeof failure !== "function") return failure;
    const error = failure();
    this.#failure = error;
    return error;
  }

  receive(): Promise<Item | undefined> {
    if (this.#waiting !== undefined)
      return Promise.reject(new TypeError("receive() is called while an earlier call is waiting: one at a time"));
    if (this.length > 0) return Promise.resolve(this.take());
    if (this.#failure !== undefined) return Promise.reject(this.#madeFailure(this.#failure));
    if (this.#ended) return Promise.resolve(undefined);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  /** An item that is there already, undefined otherwise. */
  poll(): Item | undefined {
    return this.#waiting === undefined && this.length > 0 ? this.take() : undefined;
  }
}
