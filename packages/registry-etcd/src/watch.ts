/** A watch that goes on where it was when its connection is lost. */
import { MicroError, jitteredBackoff, sleep, type WatchSink } from "@micro/core";
import type { IEvent, IWatchResponse } from "etcd3";
import { fromEtcd, source } from "./errors.ts";
import { cancelReason, type EtcdClient, type WatchStream } from "./etcd-client.ts";

export interface EtcdWatchOptions {
  readonly client: EtcdClient;
  readonly prefix: Buffer;
  /** For errors, e.g. `watch of greeter`. */
  readonly what: string;
  readonly onEvent: (event: IEvent) => void;
  readonly sink: WatchSink;
  /** For how long a lost connection is tried to be resumed before the watch fails, in milliseconds. */
  readonly resumeMs: number;
  readonly onResume: (reason: MicroError) => void;
}

/** Events of a prefix in order, each at least once, or an error that says some may be missing. */
export class EtcdWatch {
  readonly #options: EtcdWatchOptions;
  readonly #stopped = new AbortController();
  #stream: WatchStream | undefined;
  /** The first revision whose events have not been seen. */
  #next = 0;
  #term = 0;

  constructor(options: EtcdWatchOptions) {
    this.#options = options;
  }

  /** Resolves when every later change will be seen. @throws {MicroError} */
  async start(signal: AbortSignal): Promise<void> {
    const abort = (): void => this.stop();
    signal.addEventListener("abort", abort, { once: true });
    try {
      const stream = await this.#open(undefined);
      this.#next = stream.revision + 1;
      this.#term = stream.term;
      this.#stream = stream;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  stop(): void {
    this.#stopped.abort();
    this.#stream?.close();
  }

  #open(from: number | undefined): Promise<WatchStream> {
    const { client, prefix, what } = this.#options;
    const handlers = {
      onResponse: (response: IWatchResponse) => this.#receive(response),
      onLost: (error: MicroError) => void this.#resume(error),
    };
    return client.watch(what, { prefix, from }, handlers, this.#stopped.signal);
  }

  #receive(response: IWatchResponse): void {
    if (this.#stopped.signal.aborted) return;
    if (response.canceled) {
      this.#stream?.close();
      return this.#fail(fromEtcd(new Error(cancelReason(response)), this.#options.what));
    }
    for (const event of response.events) this.#options.onEvent(event);
    // Parts of one revision may come in several messages.
    if (response.fragment) return;
    const last = response.events.at(-1);
    this.#next = Math.max(this.#next, Number(last?.kv.mod_revision ?? response.header.revision) + 1);
  }

  async #resume(reason: MicroError): Promise<void> {
    const { signal } = this.#stopped;
    const { client, resumeMs, what, onResume } = this.#options;
    const end = performance.now() + resumeMs;
    const backoff = jitteredBackoff({ minDelayMs: 50, maxDelayMs: 1_000 });
    for (let failure = reason; !signal.aborted;) {
      if (client.closed.aborted) return;
      if (performance.now() > end || !["unavailable", "timeout"].includes(failure.code)) return this.#fail(failure);
      await sleep(backoff.next(), { signal });
      if (signal.aborted || client.closed.aborted) return;
      try {
        const stream = await this.#open(this.#next);
        this.#stream = stream;
        // A store that is behind what we have seen has lost it, or follows: what happened to it is in no event.
        if (stream.revision + 1 < this.#next || stream.term < this.#term) {
          stream.close();
          const text = `registry etcd: ${what}: the server's history is not the one seen before`;
          return this.#fail(new MicroError(text, { id: source, code: "unavailable" }));
        }
        this.#term = stream.term;
        return onResume(reason);
      } catch (error) {
        failure = fromEtcd(error, what);
      }
    }
  }

  #fail(error: MicroError): void {
    if (this.#stopped.signal.aborted) return;
    const { code } = error;
    this.stop();
    // Whatever the reason, the reader's remedy is the same: watch anew and list again.
    this.#options.sink.fail(
      code === "unavailable" || code === "forbidden" || code === "unauthorized"
        ? error
        : new MicroError(error.detail, { id: source, code: "unavailable", cause: error }),
    );
  }
}
