/**
 * Pulls the messages of one JetStream consumer, never more than there is room for, and gives all that have arrived to
 * whoever reads, also at the end: what the server has handed out is not seen again for the whole acknowledgement time.
 */
import { MicroError } from "@micro/core";
import { source } from "./errors.ts";
import type { LinkMessage, LinkSubscription, NatsLink } from "./nats-client.ts";

/** Settings of {@link PullSession}. */
export interface PullOptions {
  readonly link: NatsLink;
  readonly stream: string;
  readonly consumer: string;
  /** Messages that may be asked for now, those asked for already not counted. */
  readonly room: () => number;
  /** Bytes of them, at most. */
  readonly roomBytes: () => number;
  readonly receive: (message: LinkMessage) => void;
}

const expiresMs = 30_000;
const heartbeatMs = 5_000;
/** The server's sign of life is missing. */
const silenceMs = 3 * heartbeatMs;
const nanos = (milliseconds: number): number => milliseconds * 1e6;

/** See the head of this file. */
export class PullSession {
  readonly #options: PullOptions;
  /** Where messages are asked for. */
  readonly subject: string;
  readonly #inbox = `_INBOX.${crypto.randomUUID()}`;
  readonly #over = Promise.withResolvers<void>();
  #subscription: LinkSubscription | undefined;
  /** Asked for and not arrived. */
  #outstanding = 0;
  #heard = 0;
  #watch: NodeJS.Timeout | undefined;
  #again: NodeJS.Timeout | undefined;

  constructor(options: PullOptions) {
    this.#options = options;
    this.subject = `$JS.API.CONSUMER.MSG.NEXT.${options.stream}.${options.consumer}`;
  }

  /** Begin. */
  start(): void {
    this.#subscription = this.#options.link.subscribe(this.#inbox, undefined, {
      message: (message) => this.#receive(message),
      refused: (error) => this.#over.reject(error),
    });
    this.#heard = performance.now();
    this.#watch = setInterval(() => {
      if (this.#outstanding > 0 && performance.now() - this.#heard > silenceMs)
        this.#fail("the server has not been heard of for a while");
    }, heartbeatMs).unref();
    this.pull();
  }

  /** Rejects when it fails; resolves after `stop()`, or with the connection. */
  get over(): Promise<void> {
    return this.#over.promise;
  }

  /** Ask for more, if there is room for a worthwhile number. */
  pull(): void {
    if (this.#subscription === undefined) return;
    const room = this.#options.room();
    const batch = room - this.#outstanding;
    if (batch <= 0 || (this.#outstanding > 0 && batch < room / 2)) return;
    this.#outstanding += batch;
    const request = {
      batch,
      max_bytes: this.#options.roomBytes(),
      expires: nanos(expiresMs),
      idle_heartbeat: nanos(heartbeatMs),
    };
    try {
      this.#options.link.publish(this.subject, Buffer.from(JSON.stringify(request)), this.#inbox);
    } catch (error) {
      this.#over.reject(error);
    }
  }

  #receive(message: LinkMessage): void {
    this.#heard = performance.now();
    if (message.status === undefined) {
      this.#outstanding = Math.max(0, this.#outstanding - 1);
      this.#options.receive(message);
      this.pull();
      return;
    }
    const { code, description, pending } = message.status;
    if (code === 100) return;
    if (code === 503) return this.#fail("there is no such consumer (any more)");
    if (code === 409 && /deleted/i.test(description)) return this.#fail(`the consumer was deleted (${description})`);
    // The request is over: expired, or the server had enough of it.
    this.#outstanding = pending === undefined ? 0 : Math.max(0, this.#outstanding - pending);
    if (code === 408 || code === 404) return this.pull();
    if (code !== 409) return this.#fail(`${code} ${description}`);
    this.#again ??= setTimeout(() => {
      this.#again = undefined;
      this.pull();
    }, 250).unref();
  }

  #fail(reason: string): void {
    const { stream, consumer } = this.#options;
    this.#over.reject(
      new MicroError(`broker nats: pulling from ${consumer} of ${stream}: ${reason}`, {
        id: source,
        code: "unavailable",
      }),
    );
  }

  /** Ask for nothing more; what is on its way still arrives. */
  async stop(): Promise<void> {
    clearInterval(this.#watch);
    clearTimeout(this.#again);
    const subscription = this.#subscription;
    this.#subscription = undefined;
    await subscription?.drain().catch(() => {});
    this.#over.resolve();
  }
}
