/** What is known of one call from its start: target, limits, metadata; and what wrappers see of it. */
import type { MessageType, MethodDefinition, MethodKind } from "../definition.ts";
import { currentContext, type Context, type ContextKey } from "../context.ts";
import { MicroError } from "../errors.ts";
import { Metadata, readMetadata } from "../metadata.ts";
import type { Node } from "../registry/registry.ts";
import { checkCallOptions, withOptions, type CallDefaults } from "./call-options.ts";
import type { AttemptContext, CallContext, CallOptions } from "./client.ts";
import { callDeadline, cancelledError, deadlineError, forwardAbort } from "./deadline.ts";
import type { LazyIterator } from "./lazy-iterator.ts";
import { outgoingMetadata } from "./metadata.ts";

/** What is called, looked up once per method by a typed client. */
export interface Target {
  readonly service: string;
  readonly endpoint: string;
  readonly kind: MethodKind;
  readonly defaults: CallDefaults;
  readonly request: MessageType | undefined;
  readonly response: MessageType | undefined;
  readonly method: MethodDefinition | undefined;
}

/** The context of one call. */
export class Call implements CallContext {
  readonly target: Target;
  /** The call's own options, or undefined. */
  readonly own: CallOptions | undefined;
  readonly startedAt: number;
  readonly deadline: number | undefined;
  readonly signal: AbortSignal | undefined;
  /** Set for a stream opened by name through wrappers: gets the answers, to open them at once. */
  opening: ((answers: LazyIterator) => void) | undefined;
  readonly #incoming: Context | undefined;
  readonly #constant: Metadata | undefined;
  readonly #own: Metadata | undefined;
  #controller: AbortController | undefined;
  #unlink: (() => void) | undefined;
  #links = 0;
  #metadata: Metadata | undefined;
  #options: CallOptions | undefined;
  #values: Map<ContextKey<unknown>, unknown> | undefined;

  /**
   * @param constant metadata of every call of the client.
   * @throws {TypeError} for options that do not exist or are of the wrong kind.
   */
  constructor(target: Target, own: CallOptions | undefined, now: number, constant: Metadata | undefined) {
    this.target = target;
    this.own = own;
    if (own !== undefined) {
      checkCallOptions(this, own);
      // Here, and once, so that what cannot be sent is told of with a stack that ends in the caller's code.
      const { metadata } = own;
      if (metadata !== undefined) this.#own = readMetadata(metadata);
    }
    this.startedAt = now;
    this.#constant = constant;
    const incoming = currentContext();
    this.#incoming = incoming;
    const defaults = target.defaults;
    const unary = target.kind === "unary";
    const limit = unary
      ? (own?.timeoutMs ?? defaults.timeoutMs)
      : (own?.streamTimeoutMs ?? own?.timeoutMs ?? defaults.streamTimeoutMs);
    this.deadline = callDeadline(now, limit, incoming);
    const signal = own?.signal ?? defaults.signal;
    if (!unary || (signal !== undefined && incoming !== undefined)) {
      // More than one source can cancel; they are linked while the call runs, so that none keeps it in memory.
      this.#controller = new AbortController();
      this.signal = this.#controller.signal;
    } else this.signal = signal ?? incoming?.signal;
  }

  get service(): string {
    return this.target.service;
  }
  get endpoint(): string {
    return this.target.endpoint;
  }
  get kind(): MethodKind {
    return this.target.kind;
  }
  get method(): MethodDefinition | undefined {
    return this.target.method;
  }
  get contentType(): string {
    return this.own?.contentType ?? this.target.defaults.contentType;
  }
  /** Addresses given instead of a look-up. */
  get address(): string | readonly string[] | undefined {
    return this.own?.address ?? this.target.defaults.address;
  }
  /** The service, if its nodes are looked up. */
  get lookedUpService(): string | undefined {
    return this.address === undefined ? this.target.service : undefined;
  }
  get options(): CallOptions {
    return (this.#options ??= withOptions(this.target.defaults, this.own));
  }

  /** A copy of what will be sent, which wrappers may change. */
  get metadata(): Metadata {
    return (this.#metadata ??= new Metadata(this.#outgoing()));
  }

  /** What is sent; nothing is made where there is nothing to send. */
  get sentMetadata(): Metadata | undefined {
    return this.#metadata ?? this.#outgoing();
  }

  #outgoing(): Metadata | undefined {
    return outgoingMetadata(this.#constant, this.#incoming, this.target.defaults.metadata, this.#own);
  }

  get<T>(key: ContextKey<T>): T | undefined {
    return this.#values?.get(key) as T | undefined;
  }

  set<T>(key: ContextKey<T>, value: T): void {
    (this.#values ??= new Map()).set(key, value);
  }

  /** True when `link` has something to do. */
  get linkable(): boolean {
    return this.#controller !== undefined;
  }

  /** Let the caller's signal and the incoming call cancel this one, until as many `unlink` were called. */
  link(): void {
    if (this.#controller === undefined || this.#links++ > 0) return;
    const signal = this.own?.signal ?? this.target.defaults.signal;
    const controller = this.#controller;
    const unlink = forwardAbort(controller, [signal]);
    const unlisten = this.#incoming?.cancellation.onCancel((reason) => controller.abort(reason));
    this.#unlink = () => {
      unlink();
      unlisten?.();
    };
  }

  unlink(): void {
    if (this.#links === 0 || --this.#links > 0) return;
    this.#unlink?.();
    this.#unlink = undefined;
  }

  /** Cancel a stream from inside. */
  abort(reason: unknown): void {
    this.#controller?.abort(reason);
  }

  /** True when the deadline has passed, but for a timer that fired a moment early. */
  get expired(): boolean {
    return this.deadline !== undefined && performance.now() >= this.deadline - 1;
  }

  /** The error of a call that may not even start, or go on: cancelled, or out of time. */
  ended(prefix = ""): MicroError | undefined {
    if (this.signal?.aborted === true) return cancelledError(this.signal.reason);
    if (this.deadline !== undefined && performance.now() >= this.deadline)
      return deadlineError(prefix, this.toString());
    return undefined;
  }

  /** For error texts. */
  toString(): string {
    return `${this.target.service} ${this.target.endpoint}`;
  }
}

/** A call and its node, for error texts. */
export function callAt(call: Call, { id, address }: Node): string {
  return `${call.toString()} at ${id === address ? address : `${id} (${address})`}`;
}

/** What carries an attempt to its node. */
export interface Carrier {
  carry(request: unknown, attempt: Attempt): unknown;
}

/** The context of one attempt of a call. Values are the call's; metadata is a copy. */
export class Attempt implements AttemptContext {
  readonly call: Call;
  readonly carrier: Carrier;
  readonly node: Node;
  readonly attempt: number;
  readonly metadata: Metadata;

  constructor(call: Call, carrier: Carrier, node: Node, attempt: number) {
    this.call = call;
    this.carrier = carrier;
    this.node = node;
    this.attempt = attempt;
    this.metadata = new Metadata(call.sentMetadata);
  }

  get service(): string {
    return this.call.service;
  }
  get endpoint(): string {
    return this.call.endpoint;
  }
  get kind(): MethodKind {
    return this.call.kind;
  }
  get method(): MethodDefinition | undefined {
    return this.call.method;
  }
  get contentType(): string {
    return this.call.contentType;
  }
  get options(): CallOptions {
    return this.call.options;
  }
  get deadline(): number | undefined {
    return this.call.deadline;
  }
  get signal(): AbortSignal | undefined {
    return this.call.signal;
  }
  get<T>(key: ContextKey<T>): T | undefined {
    return this.call.get(key);
  }
  set<T>(key: ContextKey<T>, value: T): void {
    this.call.set(key, value);
  }
}

/** The error for a wrapper that passed something else on than the context it was given. */
export function expectContext<T>(value: unknown, kind: new (...args: never[]) => T): T {
  if (value instanceof kind) return value;
  throw new TypeError("a wrapper must pass on the context it was given: next(request, context)");
}
