/**
 * The context of one incoming call or event: metadata, deadline, cancellation, and typed values set by wrappers.
 *
 * It travels in `AsyncLocalStorage`: a call made inside a handler inherits metadata, remaining time and cancellation
 * without user code. {@link detach} opts out.
 */
import { MicroError } from "./errors.ts";
import { Metadata } from "./metadata.ts";
import { timerDelay } from "./option-check.ts";
import { type WorkFrame, type Work, frames } from "./work.ts";

/** The key of a typed value; two keys with the same name are different keys. */
export interface ContextKey<T> {
  readonly name: string;
  /** Never present: carries the type. */
  readonly type?: T;
}

/** Make a key: `const account = contextKey<Account>("account")`. */
export function contextKey<T>(name: string): ContextKey<T> {
  return Object.freeze({ name });
}

/**
 * Cancellation and deadline, shared by a context and those derived from it. The `AbortSignal` is made when somebody
 * asks for it: most handlers never do, and it would be the dearest object of a call.
 */
export class Cancellation {
  /** When the call must be over, on the clock of `performance.now()`; undefined = no deadline. */
  readonly deadline: number | undefined;
  #controller: AbortController | undefined;
  #listeners: Set<(reason: MicroError) => void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #reason: MicroError | undefined;
  #ended = false;

  constructor(deadline?: number) {
    this.deadline = deadline;
  }

  /** The reason, once cancelled. */
  get reason(): MicroError | undefined {
    if (this.#reason === undefined && !this.#ended && this.deadline !== undefined && performance.now() >= this.deadline)
      this.#expire();
    return this.#reason;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.reason !== undefined) this.#controller.abort(this.reason);
      else this.#arm();
    }
    return this.#controller.signal;
  }

  /** Call `listener` once on cancellation (at once if it has happened). Returns a function that removes it. */
  onCancel(listener: (reason: MicroError) => void): () => void {
    const reason = this.reason;
    if (reason !== undefined) {
      listener(reason);
      return () => {};
    }
    if (this.#ended) return () => {};
    (this.#listeners ??= new Set()).add(listener);
    this.#arm();
    return () => void this.#listeners?.delete(listener);
  }

  cancel(reason: MicroError): void {
    if (this.#reason !== undefined || this.#ended) return;
    this.#reason = reason;
    clearTimeout(this.#timer);
    const listeners = this.#listeners;
    this.#listeners = undefined;
    this.#controller?.abort(reason);
    if (listeners !== undefined) callAll(listeners, reason);
  }

  /** The call is over: release timer and listeners. Nothing is cancelled afterwards. */
  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#listeners = undefined;
  }

  #arm(): void {
    if (this.deadline === undefined || this.#timer !== undefined || this.#ended) return;
    const delay = timerDelay(Math.max(0, Math.ceil(this.deadline - performance.now())));
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.deadline !== undefined && performance.now() < this.deadline) this.#arm();
      else this.#expire();
    }, delay);
    this.#timer.unref();
  }

  #expire(): void {
    this.cancel(new MicroError("context deadline exceeded", { id: "go.micro.server", code: "timeout" }));
  }
}

/** One broken listener does not keep the others from hearing; its error is thrown at the end. */
function callAll(listeners: ReadonlySet<(reason: MicroError) => void>, reason: MicroError): void {
  const errors: unknown[] = [];
  for (const listener of listeners) {
    try {
      listener(reason);
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}

/** Where a context finds what it was not given, when somebody asks for it: most handlers ask for little. @internal */
export interface ContextSource {
  readonly header: Metadata;
  readonly remote: string;
  readonly local: string;
  readonly cancellation: Cancellation;
}

/** What a context is made of. */
export interface ContextInit {
  /** Name of the called service. */
  service: string;
  /** `Type.Method`, or the topic of an event. */
  endpoint: string;
  /** All headers that came with the message. Default: empty. */
  metadata?: Metadata | undefined;
  /** Address of the peer, `host:port`. Default: empty. */
  remote?: string | undefined;
  /** Address the message came in on, `host:port`. Default: empty. */
  local?: string | undefined;
  /** Content type of the request. Default: empty. */
  contentType?: string | undefined;
  /** The request's bytes as they came. Default: empty. */
  body?: Uint8Array | undefined;
  cancellation?: Cancellation | undefined;
  /** @internal */
  source?: ContextSource | undefined;
  /** Who waits for the handler. @internal */
  work?: Work | undefined;
}

const noBytes = new Uint8Array(0);

/** See the head of this file. Handlers get one; wrappers derive another with {@link Context.with}. */
export class Context implements WorkFrame {
  readonly service: string;
  readonly endpoint: string;
  readonly contentType: string;
  /** The undecoded request; empty on streams. */
  readonly body: Uint8Array;
  /** @internal */
  readonly work: Work | undefined;
  readonly #source: ContextSource | undefined;
  #metadata: Metadata | undefined;
  readonly #remote: string | undefined;
  readonly #local: string | undefined;
  #cancellation: Cancellation | undefined;
  #values: Map<ContextKey<unknown>, unknown> | undefined;

  constructor(init: ContextInit) {
    this.service = init.service;
    this.endpoint = init.endpoint;
    this.contentType = init.contentType ?? "";
    this.body = init.body ?? noBytes;
    this.work = init.work;
    this.#source = init.source;
    if (init.source !== undefined) return;
    this.#metadata = init.metadata;
    this.#remote = init.remote;
    this.#local = init.local;
    this.#cancellation = init.cancellation;
  }

  /** All headers of the request, framing headers included, as Go gives them. */
  get metadata(): Metadata {
    return (this.#metadata ??= this.#source?.header ?? new Metadata());
  }

  get remote(): string {
    return this.#remote ?? this.#source?.remote ?? "";
  }

  get local(): string {
    return this.#local ?? this.#source?.local ?? "";
  }

  /** @internal */
  get cancellation(): Cancellation {
    return (this.#cancellation ??= this.#source?.cancellation ?? new Cancellation());
  }

  /** Name of the calling service, where it said so (`Micro-From-Service`). */
  get caller(): string | undefined {
    return this.metadata.get("Micro-From-Service");
  }

  /** Aborts when the caller goes away, cancels, or the deadline passes; its reason is a {@link MicroError}. */
  get signal(): AbortSignal {
    return this.cancellation.signal;
  }

  /** When the call must be over, on the clock of `performance.now()`; undefined = no deadline. */
  get deadline(): number | undefined {
    return this.cancellation.deadline;
  }

  /** Milliseconds left, never below 0; undefined = no deadline. */
  get remainingMs(): number | undefined {
    return this.deadline === undefined ? undefined : Math.max(0, this.deadline - performance.now());
  }

  /** A copy that also holds `value`; it never travels on the wire. */
  with<T>(key: ContextKey<T>, value: T): Context {
    const copy = new Context(this);
    copy.#values = new Map(this.#values).set(key, value);
    return copy;
  }

  /** The value a wrapper set, or undefined. */
  get<T>(key: ContextKey<T>): T | undefined {
    return this.#values?.get(key) as T | undefined;
  }
}

/** The context of the call or event being handled, or undefined outside of one. Go's `FromContext`. */
export function currentContext(): Context | undefined {
  const frame = frames.getStore();
  return frame instanceof Context ? frame : undefined;
}

/** Run `run` with `context` as the current one. */
export function runInContext<T>(context: Context, run: () => T): T {
  return frames.run(context, run);
}

/** Run `run` outside of any call: what it starts outlives the call and inherits nothing. */
export function detach<T>(run: () => T): T {
  return frames.run(undefined, run);
}
