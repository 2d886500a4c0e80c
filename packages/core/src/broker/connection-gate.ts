/** Where publishes wait for a backend that is away: bounded in number, each up to its deadline. */
import { currentContext } from "../context.ts";
import { MicroError, fromError } from "../errors.ts";
import { limitTimer } from "../stall.ts";
import type { PublishOptions } from "./broker.ts";

/** Settings of {@link ConnectionGate}. */
export interface ConnectionGateOptions {
  /** The broker's name, for errors. */
  readonly name: string;
  /** What errors call the backend, e.g. `NATS at 127.0.0.1:4222`. */
  readonly backend: () => string;
  /** Waiting at once. Default: 1000. */
  readonly maxWaiting?: number | undefined;
}

interface Waiting {
  settle(error: MicroError | undefined): void;
}

const defaultTimeoutMs = 5_000;
const networkWords: ReadonlyMap<string, string> = new Map([
  ["ECONNREFUSED", "connection refused"],
  ["ECONNRESET", "the connection was reset"],
  ["EAI_AGAIN", "the name cannot be looked up"],
  ["EHOSTUNREACH", "there is no way to the host"],
  ["ENETUNREACH", "there is no way to the network"],
  ["ENOTFOUND", "nobody knows the name"],
  ["ETIMEDOUT", "no answer"],
]);
const networkCode = new RegExp(`\\b(?:${[...networkWords.keys()].join("|")})\\b`);

/** A gate that is closed until the connection is there. Publishes pass through it in the order they came. */
export class ConnectionGate {
  readonly #options: ConnectionGateOptions;
  readonly #maxWaiting: number;
  readonly #waiting = new Set<Waiting>();
  #open = false;
  #reason: unknown;
  #ended: MicroError | undefined;

  constructor(options: ConnectionGateOptions) {
    this.#options = options;
    this.#maxWaiting = options.maxWaiting ?? 1_000;
    if (!(this.#maxWaiting >= 0)) throw new TypeError("maxWaiting must be a number, 0 or more");
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /** Publishes that wait. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** The connection is there: everybody goes on. */
  open(): void {
    if (this.#ended !== undefined) return;
    this.#open = true;
    this.#reason = undefined;
    this.#release(undefined);
  }

  /** The connection is lost, or could not be made. @param reason appears in the errors of those whose patience ends. */
  close(reason: unknown): void {
    this.#open = false;
    this.#reason = reason;
  }

  /** Everybody fails with `error`, the waiting ones now; later ones, too, if `forGood`. */
  fail(error: MicroError, forGood = false): void {
    this.#open = false;
    this.#reason = error;
    if (forGood) this.#ended ??= error;
    this.#release(error);
  }

  /**
   * Undefined if the gate is open; otherwise a promise that resolves when it opens.
   * @throws {MicroError} (or rejects with) `timeout`, `aborted`, `unavailable` if too many wait, or what `fail()` was given.
   */
  pass(options: PublishOptions = {}): Promise<void> | undefined {
    if (this.#ended !== undefined) throw this.#ended;
    if (options.signal?.aborted === true) throw this.#aborted(options.signal);
    // Whether it makes sense must not depend on whether there is anything to wait for.
    if (options.timeoutMs !== undefined) publishTimeout(options);
    if (this.#open) return undefined;
    return this.#wait(options);
  }

  /**
   * For `Broker.connect`: resolves once the gate is open.
   * @throws {MicroError} `unavailable`, and why, where that takes longer than it may; otherwise as {@link pass}.
   */
  async connected(options: PublishOptions = {}): Promise<void> {
    try {
      await this.pass(options);
    } catch (error) {
      if (!MicroError.is(error) || error.code !== "timeout") throw error;
      throw this.#error("unavailable", this.#away());
    }
  }

  #wait(options: PublishOptions): Promise<void> {
    if (this.#waiting.size >= this.#maxWaiting)
      throw this.#error(
        "unavailable",
        `${this.#away()}, and ${this.#maxWaiting} messages wait for it already: this one was not sent`,
      );
    const timeoutMs = publishTimeout(options);
    const { signal } = options;
    return new Promise((resolve, reject) => {
      const settle = (error: MicroError | undefined): void => {
        this.#waiting.delete(waiting);
        timer.clear();
        signal?.removeEventListener("abort", abort);
        if (error === undefined) resolve();
        else reject(error);
      };
      const waiting: Waiting = { settle };
      const abort = () => settle(this.#aborted(signal!));
      const timer = limitTimer(timeoutMs, () =>
        settle(this.#error("timeout", `${this.#away()}: the message was not sent within ${Math.ceil(timeoutMs)} ms`)),
      );
      signal?.addEventListener("abort", abort, { once: true });
      this.#waiting.add(waiting);
    });
  }

  #release(error: MicroError | undefined): void {
    for (const waiting of this.#waiting) waiting.settle(error);
  }

  #away(): string {
    const reason = this.#reason;
    const detail = reason === undefined ? "" : fromError(reason).detail;
    // What the network says needs no names of clients and calls around it.
    const word = networkWords.get(networkCode.exec(detail)?.[0] ?? "");
    if (word !== undefined) return `${this.#options.backend()} cannot be reached: ${word}`;
    const text = detail === "" ? "" : ` (${detail})`;
    return `${this.#options.backend()} cannot be reached${text}`;
  }

  #aborted(signal: AbortSignal): MicroError {
    const cause: unknown = signal.reason;
    return MicroError.is(cause) ? cause : this.#error("aborted", "the publish was cancelled", cause);
  }

  #error(code: "timeout" | "unavailable" | "aborted", message: string, cause: unknown = this.#reason): MicroError {
    return new MicroError(message, { id: `go.micro.broker.${this.#options.name}`, code, cause });
  }
}

/** Milliseconds a publish may take: its own limit (default: 5000), and never more than the handler's it is made in. */
export function publishTimeout(options: PublishOptions = {}): number {
  const { timeoutMs = defaultTimeoutMs } = options;
  if (!(typeof timeoutMs === "number" && timeoutMs >= 0))
    throw new TypeError("publish: `timeoutMs` must be a number of milliseconds, 0 or more");
  const remaining = currentContext()?.remainingMs;
  return remaining === undefined ? timeoutMs : Math.min(timeoutMs, remaining);
}

/** Settings of {@link publishWithin}. */
export interface PublishWithinOptions extends PublishOptions {
  /** The broker's name, for errors. */
  readonly broker: string;
  readonly topic: string;
}

/**
 * Wait for the backend's word about a message that was handed to it, not longer than the publish may take.
 * @throws {MicroError} `timeout` or `aborted`: the message may have been published all the same. Or what `work` rejects with.
 */
export async function publishWithin<T>(work: Promise<T>, options: PublishWithinOptions): Promise<T> {
  const timeoutMs = publishTimeout(options);
  const { signal, broker, topic } = options;
  const fail = (code: "timeout" | "aborted", text: string, cause?: unknown): MicroError =>
    new MicroError(`broker ${broker}: ${text}: the message for ${topic} may have been published`, {
      id: `go.micro.broker.${broker}`,
      code,
      cause,
    });
  const ended = Promise.withResolvers<never>();
  const abort = (): void => ended.reject(fail("aborted", "the publish was cancelled", signal?.reason));
  if (signal?.aborted === true) abort();
  const timer = limitTimer(timeoutMs, (blocked) =>
    ended.reject(
      fail("timeout", `no answer within ${Math.ceil(timeoutMs)} ms${blocked ? ", and this process was busy" : ""}`),
    ),
  );
  signal?.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work, ended.promise]);
  } finally {
    timer.clear();
    signal?.removeEventListener("abort", abort);
    // When the limit comes first, nobody is left to hear of a late failure.
    work.catch(() => {});
  }
}
