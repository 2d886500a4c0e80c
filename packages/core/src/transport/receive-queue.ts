/**
 * Messages whose number and bytes are counted. It does not refuse anything: whoever fills it looks at
 * {@link ReceiveQueue.full} and stops reading from the peer, and goes on when `onRoom` is called.
 */
import { ReaderQueue } from "./reader-queue.ts";

export interface ReceiveQueueLimits {
  /** Default: 64. */
  readonly maxItems?: number;
  /** Default: 262144 (256 KiB). */
  readonly maxBytes?: number;
  /** Called when a full queue has fallen to half its limits. */
  readonly onRoom?: () => void;
}

type Sized = { readonly length: number } | { readonly body: Uint8Array };

export class ReceiveQueue<T extends Sized> extends ReaderQueue<T> {
  readonly #maxItems: number;
  readonly #maxBytes: number;
  readonly #onRoom: (() => void) | undefined;
  #bytes = 0;
  #full = false;

  constructor(limits: ReceiveQueueLimits = {}) {
    super();
    this.#maxItems = limits.maxItems ?? 64;
    this.#maxBytes = limits.maxBytes ?? 256 * 1024;
    this.#onRoom = limits.onRoom;
  }

  get full(): boolean {
    return this.#full;
  }

  /** Everything has been read, and no message will follow. */
  get drained(): boolean {
    return this.closed && this.length === 0;
  }

  /** Ignored once closed. */
  push(item: T): void {
    if (this.closed || this.hand(item)) return;
    this.keep(item);
    this.#bytes += size(item);
    if (this.length >= this.#maxItems || this.#bytes >= this.#maxBytes) this.#full = true;
  }

  protected override clear(): void {
    super.clear();
    this.#bytes = 0;
    this.#full = false;
  }

  protected override take(): T {
    const item = this.first;
    this.#bytes -= size(item);
    this.advance();
    if (this.#full && this.length <= this.#maxItems / 2 && this.#bytes <= this.#maxBytes / 2) {
      this.#full = false;
      this.#onRoom?.();
    }
    return item;
  }
}

function size(item: Sized): number {
  return "body" in item ? item.body.length : item.length;
}
