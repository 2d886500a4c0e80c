/**
 * Messages between a connection and the one who reads them. It does not refuse anything: whoever fills it looks at
 * {@link ReceiveQueue.full} and stops reading from the peer, and goes on when `onRoom` is called.
 */
export interface ReceiveQueueLimits {
  /** Default: 64. */
  readonly maxItems?: number;
  /** Default: 262144 (256 KiB). */
  readonly maxBytes?: number;
  /** Called when a full queue has fallen to half its limits. */
  readonly onRoom?: () => void;
}

interface Waiting<T> {
  resolve(item: T | undefined): void;
  reject(error: Error): void;
}

export class ReceiveQueue<T extends { readonly length: number } | { readonly body: Uint8Array }> {
  readonly #maxItems: number;
  readonly #maxBytes: number;
  readonly #onRoom: (() => void) | undefined;
  #items: (T | undefined)[] = [];
  #first = 0;
  #bytes = 0;
  #full = false;
  #ended = false;
  #failure: Error | undefined;
  #waiting: Waiting<T> | undefined;

  constructor(limits: ReceiveQueueLimits = {}) {
    this.#maxItems = limits.maxItems ?? 64;
    this.#maxBytes = limits.maxBytes ?? 256 * 1024;
    this.#onRoom = limits.onRoom;
  }

  get full(): boolean {
    return this.#full;
  }

  /** No message will follow: ended or failed. */
  get closed(): boolean {
    return this.#ended || this.#failure !== undefined;
  }

  /** Everything has been read, and no message will follow. */
  get drained(): boolean {
    return this.closed && this.#first === this.#items.length;
  }

  /** Ignored once closed. */
  push(item: T): void {
    if (this.closed) return;
    const waiting = this.#waiting;
    if (waiting !== undefined) {
      this.#waiting = undefined;
      waiting.resolve(item);
      return;
    }
    this.#items.push(item);
    this.#bytes += size(item);
    if (this.#items.length - this.#first >= this.#maxItems || this.#bytes >= this.#maxBytes) this.#full = true;
  }

  /** What is queued can still be read, then the end. */
  end(): void {
    if (this.closed) return;
    this.#ended = true;
    this.#waiting?.resolve(undefined);
    this.#waiting = undefined;
  }

  /** What is queued can still be read unless `drop`, then the error. */
  fail(error: Error, drop: boolean): void {
    if (drop) {
      this.#items = [];
      this.#first = 0;
      this.#bytes = 0;
      this.#full = false;
    }
    if (this.#failure !== undefined || (this.#ended && !drop)) return;
    this.#failure = error;
    this.#waiting?.reject(error);
    this.#waiting = undefined;
  }

  receive(): Promise<T | undefined> {
    if (this.#waiting !== undefined)
      return Promise.reject(new TypeError("receive() is called while an earlier call is waiting: one at a time"));
    if (this.#first < this.#items.length) return Promise.resolve(this.#shift());
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#ended) return Promise.resolve(undefined);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  /** An item that is there already, undefined otherwise. */
  poll(): T | undefined {
    return this.#waiting === undefined && this.#first < this.#items.length ? this.#shift() : undefined;
  }

  #shift(): T {
    const item = this.#items[this.#first] as T;
    this.#items[this.#first++] = undefined;
    this.#bytes -= size(item);
    if (this.#first === this.#items.length) {
      this.#items.length = 0;
      this.#first = 0;
    } else if (this.#first > 1024) {
      this.#items.splice(0, this.#first);
      this.#first = 0;
    }
    if (this.#full && this.#items.length - this.#first <= this.#maxItems / 2 && this.#bytes <= this.#maxBytes / 2) {
      this.#full = false;
      this.#onRoom?.();
    }
    return item;
  }
}

function size(item: { readonly length: number } | { readonly body: Uint8Array }): number {
  return "body" in item ? item.body.length : item.length;
}
