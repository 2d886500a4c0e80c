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
  /** Called with what is kept from now on, or no longer, in bytes. */
  readonly onBytes?: (delta: number) => void;
  /**
   * Messages are views of what a socket delivered, all of which they keep: it is counted, once for those of it that stand one after the other.
   * Default: false.
   */
  readonly views?: boolean;
}

type Sized = { readonly length: number } | { readonly body: Uint8Array };

export class ReceiveQueue<T extends Sized> extends ReaderQueue<T> {
  readonly #maxItems: number;
  readonly #maxBytes: number;
  readonly #onRoom: (() => void) | undefined;
  readonly #onBytes: ((delta: number) => void) | undefined;
  readonly #views: boolean;
  /** Of the newest message, where messages are views. */
  #newest: ArrayBufferLike | undefined;
  #bytes = 0;
  #full = false;

  constructor(limits: ReceiveQueueLimits = {}) {
    super();
    this.#maxItems = limits.maxItems ?? 64;
    this.#maxBytes = limits.maxBytes ?? 256 * 1024;
    this.#onRoom = limits.onRoom;
    this.#onBytes = limits.onBytes;
    this.#views = limits.views ?? false;
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
    const buffer = this.#views ? bufferOf(item) : undefined;
    this.keep(item);
    if (buffer === undefined || buffer !== this.#newest) this.#count(buffer?.byteLength ?? size(item));
    this.#newest = buffer;
    if (this.length >= this.#maxItems || this.#bytes >= this.#maxBytes) this.#full = true;
  }

  protected override clear(): void {
    super.clear();
    this.#newest = undefined;
    this.#full = false;
    if (this.#bytes > 0) this.#count(-this.#bytes);
  }

  protected override take(): T {
    const item = this.first;
    this.advance();
    const buffer = this.#views ? bufferOf(item) : undefined;
    if (this.length === 0) {
      this.#newest = undefined;
      this.#count(-this.#bytes);
    } else if (buffer === undefined || buffer !== bufferOf(this.first))
      this.#count(-(buffer?.byteLength ?? size(item)));
    if (this.#full && this.length <= this.#maxItems / 2 && this.#bytes <= this.#maxBytes / 2) {
      this.#full = false;
      this.#onRoom?.();
    }
    return item;
  }

  #count(delta: number): void {
    this.#bytes += delta;
    this.#onBytes?.(delta);
  }
}

function size(item: Sized): number {
  return "body" in item ? item.body.length : item.length;
}

function bufferOf(item: Sized): ArrayBufferLike | undefined {
  if ("body" in item) return item.body.buffer;
  return item instanceof Uint8Array ? item.buffer : undefined;
}
