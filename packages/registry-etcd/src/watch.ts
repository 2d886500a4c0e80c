/** A watch that goes on where it was when its connection is lost. */
import { MicroError, jitteredBackoff, sleep, type WatchSink } from "@micro/core";
import { fromEtcd, source } from "./errors.ts";
import { cancelReason, type EtcdClient, type WatchStream, type Witness } from "./etcd-client.ts";
import type { WatchEvent, WatchResponse } from "./protocol.ts";

export interface EtcdWatchOptions {
  readonly client: EtcdClient;
  readonly prefix: Buffer;
  /** For errors, e.g. `watch of greeter`. */
  readonly what: string;
  readonly onEvent: (event: WatchEvent) => void;
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
  #cluster = "";
  /** The stream is a new one whose history is not known to be ours. */
  #doubted = false;
  /** Why it was lost again before that was known. */
  #lostAgain: MicroError | undefined;

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
      this.#cluster = stream.cluster;
      this.#stream = stream;
      const { client, prefix, what } = this.#options;
      await client.witnessSome(what, prefix, this.#stopped.signal);
    } catch (error) {
      this.stop();
      throw error;
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
      onResponse: (response: WatchResponse) => this.#receive(response),
      onLost: (error: MicroError) => {
        if (this.#doubted) this.#lostAgain = error;
        else void this.#resume(error);
      },
    };
    return client.watch(what, { prefix, from }, handlers, this.#stopped.signal);
  }

  #receive(response: WatchResponse): void {
    if (this.#stopped.signal.aborted) return;
    if (response.canceled) {
      this.#stream?.close();
      return this.#fail(fromEtcd(new Error(cancelReason(response)), this.#options.what));
    }
    for (const event of response.events) this.#options.onEvent(event);
    if (!this.#doubted)
      this.#options.client.note(response.events.filter(({ type }) => type !== "DELETE").map(({ kv }) => kv));
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
    // Before anything the new connection shows.
    const { witness } = client;
    this.#doubted = true;
    for (let failure = reason; !signal.aborted;) {
      if (client.closed.aborted) return;
      if (performance.now() > end || !["unavailable", "timeout"].includes(failure.code)) return this.#fail(failure);
      await sleep(backoff.next(), { signal });
      if (signal.aborted || client.closed.aborted) return;
      this.#lostAgain = undefined;
      try {
        const stream = await this.#open(this.#next);
        this.#stream = stream;
        if (!(await this.#continues(stream, witness))) {
          const text = `registry etcd: ${what}: the server's history is not the one seen before`;
          return this.#fail(new MicroError(text, { id: source, code: "unavailable" }));
        }
        if (this.#lostAgain === undefined) {
          this.#doubted = false;
          return onResume(reason);
        }
        failure = this.#lostAgain;
      } catch (error) {
        this.#stream?.close();
        failure = fromEtcd(error, what);
      }
    }
  }

  /**
   * What the stream tells is the rest of what was seen before, as far as what the server says of a key seen before
   * shows. Not if it lost its state, even if it has been filled since; nor if there was nothing to see before.
   */
  async #continues({ cluster }: WatchStream, witness: Witness | undefined): Promise<boolean> {
    if (cluster !== this.#cluster || witness === undefined) return false;
    const { client, what } = this.#options;
    return client.remembers(`resumption of the ${what}`, witness, this.#stopped.signal);
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
