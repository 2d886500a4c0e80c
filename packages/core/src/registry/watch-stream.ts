/** The `Watcher` of a registry, made of a function that starts watching: queue, bound, abort and disposal are here. */
import { MicroError } from "../errors.ts";
import { checkOptionNames, type OptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import { heldBytes } from "./held-bytes.ts";
import type { RegistryEvent, Watcher } from "./registry.ts";

/** What a registry reports to its watcher. */
export interface WatchSink {
  /** A change happened. */
  readonly emit: (event: RegistryEvent) => void;
  /** Events may have been lost: the iteration throws `error`, after what is queued before it is dropped. */
  readonly fail: (error: unknown) => void;
  /** The registry was closed: the iteration finishes. */
  readonly end: () => void;
}

/** Settings of {@link registryWatcher}. */
export interface RegistryWatcherOptions {
  /**
   * Start watching; settles when every later change will be reported. Returns what stops it. Called at once.
   * `signal` aborts when the watcher ends before the start is through.
   */
  open: (sink: WatchSink, signal: AbortSignal) => Promise<() => void | Promise<void>>;
  /** Ends the watch without an error. */
  signal?: AbortSignal | undefined;
  /** Events that may wait for a slow reader; one more and the iteration throws `unavailable`. Default: 1024. */
  maxQueued?: number | undefined;
  /** About how many bytes of memory they may take; beyond that, the same. Default: 16 MiB. */
  maxQueuedBytes?: number | undefined;
}

const optionNames: OptionNames<RegistryWatcherOptions> = {
  open: optionKinds.function,
  signal: optionKinds.signal,
  maxQueued: true,
  maxQueuedBytes: true,
};

/**
 * A {@link Watcher} for registry plugins. It ends, and calls what `open` returned exactly once, when its reader
 * leaves the loop, when it is disposed, when the signal aborts, or after `fail` or `end`.
 * @throws {TypeError} for an option that does not exist.
 */
export function registryWatcher(options: RegistryWatcherOptions): Watcher {
  checkOptionNames("registryWatcher", options, optionNames);
  return new RegistryWatcher(options);
}

class RegistryWatcher implements Watcher, AsyncIterator<RegistryEvent, undefined> {
  readonly ready: Promise<void>;
  readonly #queue: RegistryEvent[] = [];
  readonly #maxQueued: number;
  readonly #maxQueuedBytes: number;
  #queuedBytes = 0;
  readonly #signal: AbortSignal | undefined;
  readonly #opening = new AbortController();
  #waiting: { resolve(result: IteratorResult<RegistryEvent, undefined>): void; reject(error: unknown): void }[] = [];
  #state: { kind: "running" } | { kind: "failed"; error: unknown } | { kind: "ended" } = { kind: "running" };
  #iterated = false;
  #stopped: Promise<void> | undefined;
  readonly #open: Promise<() => void | Promise<void>>;

  constructor({ open, signal, maxQueued = 1024, maxQueuedBytes = 16 * 1024 * 1024 }: RegistryWatcherOptions) {
    this.#maxQueuedBytes = maxQueuedBytes;
    this.#maxQueued = maxQueued;
    this.#signal = signal;
    const sink: WatchSink = {
      emit: (event) => this.#emit(event),
      fail: (error) => this.#end({ kind: "failed", error }),
      end: () => this.#end({ kind: "ended" }),
    };
    this.#open = signal?.aborted === true ? Promise.reject(aborted(signal)) : open(sink, this.#opening.signal);
    this.ready = this.#opened();
    this.ready.catch((error: unknown) => this.#end({ kind: "failed", error }));
    if (signal?.aborted === true) this.#end({ kind: "ended" });
    else signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  async #opened(): Promise<void> {
    await this.#open;
    if (this.#state.kind === "failed") throw this.#state.error;
  }

  readonly #onAbort = (): void => this.#end({ kind: "ended" });

  #emit(event: RegistryEvent): void {
    if (this.#state.kind !== "running") return;
    const reader = this.#waiting.shift();
    if (reader !== undefined) return reader.resolve({ done: false, value: event });
    const bytes = heldBytes(event.service);
    // One alone may wait however large it is: the registry has let it in.
    const fits = this.#queue.length === 0 || this.#queuedBytes + bytes <= this.#maxQueuedBytes;
    if (this.#queue.length < this.#maxQueued && fits) {
      this.#queue.push(event);
      this.#queuedBytes += bytes;
      return;
    }
    const bound = fits ? `${this.#maxQueued} events are` : `${this.#maxQueuedBytes} bytes of events are`;
    const error = new MicroError(`the watch was read too slowly: more than ${bound} waiting`, {
      id: "go.micro.registry",
      code: "unavailable",
    });
    this.#end({ kind: "failed", error });
  }

  #end(state: { kind: "failed"; error: unknown } | { kind: "ended" }): void {
    if (this.#state.kind !== "running") return;
    this.#state = state;
    this.#queue.length = 0;
    this.#queuedBytes = 0;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const [index, reader] of waiting.entries())
      if (state.kind === "failed" && index === 0) reader.reject(this.#takeError());
      else reader.resolve({ done: true, value: undefined });
    // Whoever disposes the watcher is given the error.
    this.#stop().catch(() => {});
  }

  /** The error is thrown once; after it the iteration is over, like a generator that threw. */
  #takeError(): unknown {
    const error = this.#state.kind === "failed" ? this.#state.error : undefined;
    this.#state = { kind: "ended" };
    return error;
  }

  #stop(): Promise<void> {
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#opening.abort();
    // A watch that could not be opened has nothing to stop; its reason went to `ready` and to the reader.
    return (this.#stopped ??= this.#open.then(
      (stop) => stop(),
      () => {},
    ));
  }

  [Symbol.asyncIterator](): AsyncIterator<RegistryEvent, undefined> {
    if (this.#iterated) throw new TypeError("a watch can be iterated once: call watch() again");
    this.#iterated = true;
    return this;
  }

  next(): Promise<IteratorResult<RegistryEvent, undefined>> {
    const event = this.#queue.shift();
    if (event !== undefined) {
      this.#queuedBytes -= heldBytes(event.service);
      return Promise.resolve({ done: false, value: event });
    }
    // oxlint-disable-next-line typescript/prefer-promise-reject-errors -- handed on as it came
    if (this.#state.kind === "failed") return Promise.reject(this.#takeError());
    if (this.#state.kind === "ended") return Promise.resolve({ done: true, value: undefined });
    const { promise, resolve, reject } = Promise.withResolvers<IteratorResult<RegistryEvent, undefined>>();
    this.#waiting.push({ resolve, reject });
    return promise;
  }

  async return(): Promise<IteratorResult<RegistryEvent, undefined>> {
    await this[Symbol.asyncDispose]();
    return { done: true, value: undefined };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end({ kind: "ended" });
    await this.#stop();
  }
}

function aborted(signal: AbortSignal): MicroError {
  return new MicroError("the watch was cancelled before it began", {
    id: "go.micro.registry",
    code: "aborted",
    cause: signal.reason,
  });
}
