/** One stream on an exchange: messages out and in, and what ends it. */
import { MicroError } from "../errors.ts";
import type { Selection } from "../selector/selector.ts";
import type { ClientExchange, ExchangeMessage } from "../transport/transport.ts";
import { callAt, type Call } from "./call-context.ts";
import type { ClientStream } from "./client.ts";
import { cancelledError, clientId, deadlineError } from "./deadline.ts";
import { blame } from "./stall.ts";
import { traced, withRoom } from "./trace.ts";
import { decodeReply, peerError, type Called, type Wire, type Wires } from "./wire.ts";

export interface MessageStreamInit {
  call: Call;
  exchange: ClientExchange;
  wire: Wire;
  wires: Wires;
  /** Told once how the stream went. */
  selection: Selection;
  /** Called once at the end. */
  onEnd: (stream: MessageStream) => void;
}

const sent = Promise.resolve();
const nothing = Symbol("nothing");

/** A stream by name, and the core of every typed stream. Iterating it is the same as receiving. */
export class MessageStream implements ClientStream, AsyncIterableIterator<unknown>, Called {
  readonly #call: Call;
  readonly #exchange: ClientExchange;
  readonly #wire: Wire;
  readonly #wires: Wires;
  #selection: Selection;
  readonly #onEnd: (stream: MessageStream) => void;
  readonly #idleMs: number | undefined;
  #over = false;
  #failure: unknown;
  /** An iteration has thrown the failure, and is over from then on. */
  #thrown = false;
  #sendClosed = false;
  /** Received ahead, for the next reader. */
  #peeked: unknown = nothing;
  #receiving = 0;
  #last: Promise<unknown> = sent;
  #activeAt = 0;
  #deadlineTimer: NodeJS.Timeout | undefined;
  #idleTimer: NodeJS.Timeout | undefined;
  #lastLook: NodeJS.Immediate | undefined;
  readonly #aborted = (): void => this.cancel(this.#call.signal?.reason);

  constructor(init: MessageStreamInit) {
    this.#call = init.call;
    this.#exchange = init.exchange;
    this.#wire = init.wire;
    this.#wires = init.wires;
    this.#selection = init.selection;
    this.#onEnd = init.onEnd;
    const { own, target, deadline, signal } = init.call;
    const idleMs = own?.streamIdleTimeoutMs ?? target.defaults.streamIdleTimeoutMs;
    this.#idleMs = idleMs === undefined || idleMs === Infinity ? undefined : idleMs;
    signal?.addEventListener("abort", this.#aborted, { once: true });
    if (deadline !== undefined) this.#watchDeadline(deadline);
    if (signal?.aborted === true) this.#aborted();
  }

  get over(): boolean {
    return this.#over;
  }

  /** True once the failure came from the peer's handler. */
  answered = false;
  /** True once the failure is that of the caller's own input. */
  inputFailed = false;
  /** True when the peer refused the stream because it is draining. */
  refused = false;

  send(message: unknown): Promise<void> {
    try {
      return this.push(message) ?? sent;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * As `send`, without a promise where none is needed. Throws when the message cannot be encoded or the stream is over;
   * rejects when it cannot be sent, the reason of which the reader gets.
   */
  push(message: unknown): void | Promise<void> {
    if (this.#over) throw this.#told(this.#endedError());
    if (this.#sendClosed) throw new TypeError("stream.send: nothing can be sent after closeSend()");
    const target = this.#call.target;
    const body = this.#wires.encode(this.#wire, target.endpoint, message, target.request);
    this.#activeAt = performance.now();
    return this.#exchange.send(body)?.catch((error: unknown) => {
      throw traced(this.#over ? this.#endedError() : this.#transportError(error));
    });
  }

  closeSend(): void {
    if (this.#over || this.#sendClosed) return;
    this.#sendClosed = true;
    this.#exchange.closeSend();
  }

  receive(): Promise<unknown> {
    return this.#turn(value);
  }

  next(): Promise<IteratorResult<unknown, undefined>> {
    // What is there already, with nobody else waiting, as nearly always in a burst.
    if (this.#receiving === 0 && this.#peeked === nothing && !this.#over) {
      const message = this.#exchange.poll?.();
      if (message !== undefined) return this.#ready(message);
    }
    return this.#turn(step) as Promise<IteratorResult<unknown, undefined>>;
  }

  /** Receive one message for the next reader; undefined at the end. */
  async peek(): Promise<unknown> {
    const message = await this.receive();
    if (message !== undefined) this.#peeked = message;
    return message;
  }

  /** Leaving a loop over the stream cancels it. */
  return(): Promise<IteratorResult<unknown, undefined>> {
    this.#finish(undefined, new MicroError("the caller left the stream", { id: clientId, code: "aborted" }));
    return Promise.resolve({ value: undefined, done: true });
  }

  cancel(reason?: unknown): void {
    const error = cancelledError(reason);
    this.#finish(error, error);
  }

  /** End the stream with an error of the caller's own input, which a reader gets as it is. */
  fail(error: unknown): void {
    if (!this.#over) this.inputFailed = true;
    this.#finish(error, new MicroError("the caller's input failed", { id: clientId, code: "aborted", cause: error }));
  }

  /** The node did not run it: the selector is told why, and nothing more of this node. */
  leave(verdict: MicroError): void {
    const { node, service } = this.#selection;
    this.#selection.done(verdict);
    this.#selection = { node, service, done() {} };
  }

  /** Another node has it now. */
  enter(selection: Selection): void {
    this.#selection = selection;
    this.#activeAt = performance.now();
  }

  /** The answer is there: nothing more is wanted of the peer. */
  finish(): void {
    this.#finish(undefined, undefined);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.asyncDispose](): Promise<void> {
    // To a reader elsewhere a disposed stream is a cut one: it must not look complete.
    if (this.#receiving > 0) this.cancel(new MicroError("the stream was disposed", { id: clientId, code: "aborted" }));
    return this.return().then(() => undefined);
  }

  #turn(read: Reader): Promise<unknown> {
    // One at a time on the exchange; readers that come together are served in order.
    if (this.#receiving++ === 0) return (this.#last = this.#take(read));
    const take = (): Promise<unknown> => this.#take(read);
    return (this.#last = this.#last.then(take, take));
  }

  async #ready(message: ExchangeMessage): Promise<IteratorResult<unknown, undefined>> {
    try {
      return step(this.#received(message));
    } catch (error) {
      this.#thrown = true;
      throw error;
    }
  }

  #take(read: Reader): Promise<unknown> {
    const peeked = this.#peeked;
    if (peeked !== nothing) {
      this.#peeked = nothing;
      this.#receiving -= 1;
      return Promise.resolve(read(peeked));
    }
    if (this.#over) {
      this.#receiving -= 1;
      if (this.#failure === undefined || (this.#thrown && read === step)) return Promise.resolve(read(undefined));
      this.#thrown ||= read === step;
      return Promise.reject(this.#told(this.#failure));
    }
    const ready = this.#exchange.poll?.();
    if (ready !== undefined) {
      this.#receiving -= 1;
      try {
        return Promise.resolve(read(this.#received(ready)));
      } catch (error) {
        this.#thrown ||= read === step;
        return Promise.reject(error);
      }
    }
    if (this.#idleMs !== undefined) this.#watchSilence(this.#idleMs);
    return this.#exchange.receive().then(
      (message) => {
        this.#receiving -= 1;
        try {
          return read(this.#received(message));
        } catch (error) {
          this.#thrown ||= read === step;
          throw error;
        }
      },
      (error: unknown) => {
        this.#receiving -= 1;
        if (!this.#over) {
          const failure = this.#transportError(error);
          this.#finish(failure, this.#blamed(failure));
        }
        if (this.#failure === undefined) return read(undefined);
        this.#thrown ||= read === step;
        throw this.#told(this.#failure);
      },
    );
  }

  #received(message: ExchangeMessage | undefined): unknown {
    if (this.#idleTimer !== undefined) clearTimeout(this.#idleTimer);
    if (this.#lastLook !== undefined) this.#endLastLook();
    if (this.#over) {
      if (this.#failure === undefined) return undefined;
      throw this.#told(this.#failure);
    }
    if (message === undefined) {
      this.#finish(undefined, undefined);
      return undefined;
    }
    const wire = this.#wire;
    if (message.error !== undefined || message.notRun || wire.codec.envelope !== undefined) {
      const failure = peerError(wire, message, this);
      if (failure !== undefined) {
        this.answered = true;
        this.refused = failure.refused;
        const error = this.#located(failure.error, failure.error.detail);
        this.#finish(error, failure.error.notRun ? failure.error : undefined);
        throw error;
      }
    }
    try {
      return decodeReply(wire, message, this.#call.target.response, this);
    } catch (error) {
      this.#finish(error, undefined);
      throw error;
    }
  }

  /** For error texts. */
  toString(): string {
    return callAt(this.#call, this.#selection.node);
  }

  get lookedUpService(): string | undefined {
    return this.#call.lookedUpService;
  }

  #finish(failure: unknown, verdict: MicroError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#failure = failure;
    clearTimeout(this.#deadlineTimer);
    clearTimeout(this.#idleTimer);
    this.#endLastLook();
    this.#call.signal?.removeEventListener("abort", this.#aborted);
    // Harmless when the peer has ended it; otherwise the peer's handler must hear of it.
    this.#exchange.cancel(failure ?? verdict);
    this.#selection.done(verdict);
    this.#onEnd(this);
  }

  #transportError(error: unknown): MicroError {
    const { signal, expired } = this.#call;
    if (signal?.aborted === true) return cancelledError(signal.reason);
    if (!MicroError.is(error))
      return new MicroError(`${this.toString()}: ${error instanceof Error ? error.message : String(error)}`, {
        id: clientId,
        code: "internal",
        cause: error,
      });
    if (error.code === "timeout" && expired) return deadlineError("", this.toString(), error);
    // Of several nodes: it names them.
    if (error.attempts.length > 0) return error;
    return this.#located(error, `${this.toString()}: ${error.detail}`);
  }

  /** The same error with the node it came from, as the error of a call has it. */
  #located(error: MicroError, detail: string): MicroError {
    const { id, code, statusCode, status, notRun, issues, cause } = error;
    const { node } = this.#selection;
    const durationMs = performance.now() - this.#call.startedAt;
    const attempts = [{ node: node.id, address: node.address, error, durationMs }];
    const options = { id, code, statusCode, status, notRun, issues, cause, attempts, call: this.#call.toString() };
    return withRoom(() => new MicroError(detail, options));
  }

  /** What the selector is told of a failure that is not the peer's answer. */
  #blamed(error: MicroError): MicroError {
    const { deadline } = this.#call;
    if (error.code !== "timeout" || deadline === undefined) return error;
    return blame(error, this.#call.startedAt, deadline, performance.now());
  }

  /** A failure about to be told: an error of the caller's own input keeps the stack it has. */
  #told(failure: unknown): unknown {
    return this.inputFailed ? failure : traced(failure);
  }

  #endLastLook(): void {
    clearImmediate(this.#lastLook);
    this.#lastLook = undefined;
  }

  #endedError(): unknown {
    return (
      this.#failure ?? new MicroError(`${this.toString()}: the stream has ended`, { id: clientId, code: "closed" })
    );
  }

  /** The transport keeps the deadline, too; this one is for a stream that nobody reads. */
  #watchDeadline(deadline: number): void {
    const left = Math.min(Math.max(1, Math.ceil(deadline - performance.now())), 0x7fff_ffff);
    this.#deadlineTimer = setTimeout(() => {
      if (performance.now() < deadline) return this.#watchDeadline(deadline);
      const error = deadlineError("", this.toString());
      return this.#finish(error, this.#blamed(error));
    }, left);
  }

  #watchSilence(idleMs: number): void {
    this.#activeAt = performance.now();
    const check = (): void => {
      const left = this.#activeAt + idleMs - performance.now();
      if (left > 0) {
        this.#idleTimer = setTimeout(check, Math.ceil(left));
        return;
      }
      const late = performance.now();
      // This process may have been busy: what has arrived meanwhile is read before the peer is called silent.
      this.#lastLook = setImmediate(() => {
        const error = new MicroError(`${this.toString()}: no message for ${idleMs} ms`, {
          id: clientId,
          code: "timeout",
        });
        this.#finish(error, blame(error, this.#activeAt, this.#activeAt + idleMs, late));
      });
    };
    this.#idleTimer = setTimeout(check, Math.min(Math.ceil(idleMs), 0x7fff_ffff));
  }
}

type Reader = (message: unknown) => unknown;

function value(message: unknown): unknown {
  return message;
}

function step(message: unknown): IteratorResult<unknown, undefined> {
  return message === undefined ? { value: undefined, done: true } : { value: message, done: false };
}
