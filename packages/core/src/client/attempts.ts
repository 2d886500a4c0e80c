/** The attempts of one call: pick a node, try, and decide by the error whether to try another. */
import { MicroError } from "../errors.ts";
import { Metadata } from "../metadata.ts";
import type { Selection } from "../selector/selector.ts";
import type { ExchangeOptions, ExchangeRequest } from "../transport/transport.ts";
import { AttemptLog } from "./attempt-log.ts";
import { Attempt, callAt, type Call, type Carrier } from "./call-context.ts";
import { cancelledError, clientId, deadlineError, pause } from "./deadline.ts";
import type { ClientCore } from "./core.ts";
import { firstNode, unused } from "./look-up.ts";
import { blame } from "./stall.ts";
import { traced } from "./trace.ts";
import { TextRequest } from "./text-request.ts";
import type { Called, Wire } from "./wire.ts";

// `ExchangeOptions.dialTimeoutMs`, where nobody sets it.
const defaultDialMs = 5_000;
const nextTurn = Promise.resolve();
const noBytes = new Uint8Array(0);

/** Shared by unary calls and the opening of streams; `T` is what the call resolves to. */
export abstract class Attempts<T> implements Carrier, Called {
  protected readonly core: ClientCore;
  protected readonly call: Call;
  protected request: unknown;
  protected selection!: Selection;
  /** What the selector is told of the attempt: an error only where the node did not answer, or refused. */
  protected verdict: MicroError | undefined;
  /** The node took no connection, or is draining: the next one may be tried for free. */
  protected refused = false;
  /** The error is the peer's, and passed on as it is. */
  protected answered = false;
  /** Another attempt could not help, whatever the policy says. */
  protected hopeless = false;
  /** A stream reports to the selector itself when it ends. */
  protected handedOver = false;
  #attempt = 1;
  #attemptStartedAt = 0;
  #retries = 0;
  #allTried = false;
  #log: AttemptLog | undefined;

  constructor(core: ClientCore, call: Call, request: unknown) {
    this.core = core;
    this.call = call;
    this.request = request;
  }

  start(): Promise<T> {
    const { signal, deadline } = this.call;
    // Not the start of the call: wrappers may have waited, and streams are begun by their reader.
    const now = performance.now();
    this.#attemptStartedAt = now;
    if (signal?.aborted === true) return Promise.reject(cancelledError(signal.reason));
    if (deadline !== undefined && deadline <= now) return Promise.reject(deadlineError("", this.call.toString()));
    try {
      const picked = this.#pick();
      return picked instanceof Promise ? this.#awaitFirst(picked) : this.#begin(picked);
    } catch (error) {
      return reject(traced(error));
    }
  }

  /** The service has to be looked up first. */
  async #awaitFirst(picked: Promise<Selection>): Promise<T> {
    const selection = await firstNode(this.call, picked, () => this.#pick());
    this.#attemptStartedAt = performance.now();
    return await this.#begin(selection);
  }

  /** One attempt on `this.selection`; failures end in {@link failed}. */
  protected abstract attempt(): Promise<T>;

  /** The innermost part of an attempt. Throws or rejects with the attempt's error. */
  abstract carry(request: unknown, attempt: Attempt): unknown;

  /** The wire the node asks for; undefined for a protocol other than mucp. @throws {MicroError} `codec` */
  protected wire(): Wire | undefined {
    const { call, core } = this;
    const contentType = call.own?.contentType ?? call.target.defaults.contentType;
    // Only the presence of the key matters to Go; a node given by its address counts as mucp there.
    const protocol = this.selection.node.metadata["protocol"];
    try {
      if (protocol === "mucp" || protocol === "" || this.call.address !== undefined)
        return core.wires.current(contentType);
      return protocol === undefined ? core.wires.old(contentType) : undefined;
    } catch (error) {
      this.hopeless = true;
      throw error;
    }
  }

  /** The body of a request, as text where its codec writes text. */
  protected encode(wire: Wire, request: unknown): Uint8Array | string {
    const { target } = this.call;
    const { wires } = this.core;
    try {
      return (
        wires.encodeText(wire, target.endpoint, request, target.request) ??
        wires.encode(wire, target.endpoint, request, target.request)
      );
    } catch (error) {
      this.hopeless = true;
      throw error;
    }
  }

  protected exchangeRequest(
    wire: Wire,
    metadata: Metadata | undefined,
    body: Uint8Array | string = noBytes,
  ): ExchangeRequest {
    const { service, endpoint } = this.call.target;
    const lookedUp = this.call.address === undefined;
    if (typeof body === "string")
      return new TextRequest(service, endpoint, wire.contentType, wire.accept, metadata, body, lookedUp);
    return { service, endpoint, contentType: wire.contentType, accept: wire.accept, metadata, body, lookedUp };
  }

  protected exchangeOptions(): ExchangeOptions {
    const { own, target, deadline, signal } = this.call;
    const { metadata } = this.selection.node;
    return {
      deadline,
      signal,
      dialTimeoutMs: own?.dialTimeoutMs ?? target.defaults.dialTimeoutMs,
      freshConnection: own?.freshConnection ?? target.defaults.freshConnection,
      maxMessageBytes: own?.maxMessageBytes ?? target.defaults.maxMessageBytes,
      wire: metadata["wire"],
      workers: metadata["wire-workers"],
    };
  }

  /** The attempt through the call wrappers, or on another protocol. */
  protected around(settled: (value: unknown) => T): Promise<T> {
    const attempt = new Attempt(this.call, this, this.selection.node, this.#attempt);
    this.verdict = unused; // Until the innermost part has run.
    try {
      const around = this.core.aroundAttempt;
      const result: unknown = around === undefined ? this.carry(this.request, attempt) : around(this.request, attempt);
      return Promise.resolve(result).then(settled, (error: unknown) => this.failed(error));
    } catch (error) {
      return this.failed(error);
    }
  }

  /** Through the client of another protocol. */
  protected async carryOther(request: unknown, attempt: Attempt): Promise<unknown> {
    const protocol = this.selection.node.metadata["protocol"] ?? "";
    const { protocols } = this.core;
    try {
      if (protocols === undefined) throw unknownProtocol(protocol, this.toString());
      const client = await protocols(protocol);
      this.verdict = undefined;
      return await client.attempt(request, attempt);
    } catch (error) {
      throw this.noteOther(error);
    }
  }

  /** Take note of an error of another protocol's client, which does not tell the peer's errors from its own. */
  protected noteOther(error: unknown): unknown {
    if (!MicroError.is(error)) return error;
    const atNode = error.notRun || error.code === "unavailable" || error.code === "timeout" || error.code === "aborted";
    this.verdict = atNode ? this.#blame(error) : undefined;
    this.refused = error.notRun;
    this.answered = !atNode;
    return error;
  }

  /** Take note of an error of the transport, and give it its final form. */
  protected noteTransport(cause: unknown): MicroError {
    const error = MicroError.is(cause)
      ? cause
      : new MicroError(
          `transport ${this.core.transport.name}: ${cause instanceof Error ? cause.message : String(cause)}`,
          {
            id: clientId,
            code: "internal",
            cause,
          },
        );
    this.verdict = this.#blame(error);
    this.refused = error.notRun;
    this.answered = false;
    return error;
  }

  /** What the selector is told of an error that is not the peer's. */
  #blame(error: MicroError): MicroError {
    if (error.code !== "timeout") return error;
    const { own, target, deadline } = this.call;
    const now = performance.now();
    const dialled = this.#attemptStartedAt + (own?.dialTimeoutMs ?? target.defaults.dialTimeoutMs ?? defaultDialMs);
    const due = error.notRun && dialled < (deadline ?? Infinity) ? dialled : deadline;
    return due === undefined ? error : blame(error, this.#attemptStartedAt, due, now);
  }

  /** Tell the selector how the attempt went, unless a stream will. */
  protected done(): void {
    if (this.handedOver) return;
    this.selection.done(this.verdict);
  }

  /**
   * The attempt failed: another one, or the error of the call. That is made before anything is awaited wherever it can be:
   * the engine then still knows who waits for it, and its stack ends in the caller's code.
   */
  protected failed(thrown: unknown): Promise<T> {
    if (this.hopeless) this.verdict = unused;
    this.done();
    if (this.hopeless || !MicroError.is(thrown)) return reject(thrown);
    const { call } = this;
    const error = thrown;
    const log = (this.#log ??= new AttemptLog());
    log.add(this.selection.node, error, performance.now() - this.#attemptStartedAt);

    if (call.signal?.aborted === true) return reject(this.#failure(cancelledError(call.signal.reason)));
    if (error.code === "timeout" && !this.answered && call.expired) return reject(this.#timeout(error));
    if ((error.code === "aborted" && !this.answered) || !this.mayRetry(error)) return reject(this.#failure(error));
    const policy = call.own?.retry ?? call.target.defaults.retry;
    try {
      const verdict = policy(error, call, this.#attempt);
      if (verdict === false) return reject(this.#failure(error));
      return this.#again(error, log, verdict);
    } catch (failure) {
      return reject(failure);
    }
  }

  /** The next attempt, if the policy is for it. */
  async #again(error: MicroError, log: AttemptLog, verdict: boolean | Promise<boolean>): Promise<T> {
    const again = await verdict;
    // By the next turn whoever waits has been told of this promise, too, and stacks reach back to the caller.
    await nextTurn;
    if (!again) throw this.#failure(error);
    let selection = this.refused && !this.#allTried ? await this.#pickAgain(error) : undefined;
    if (selection !== undefined && log.has(selection.node)) {
      selection.done(unused);
      selection = undefined;
      this.#allTried = true;
    }
    if (selection === undefined) {
      await this.#countRetry(error);
      selection = await this.#pickAgain(error);
    }
    this.#attempt += 1;
    if (this.core.logger.enabled("debug"))
      this.core.logger.debug("a call is tried again", {
        service: this.call.service,
        endpoint: this.call.endpoint,
        attempt: this.#attempt,
        node: selection.node.id,
        error: error.message,
      });
    this.#attemptStartedAt = performance.now();
    return await this.#begin(selection);
  }

  /** Whether the policy is asked at all. */
  protected mayRetry(_error: MicroError): boolean {
    return true;
  }

  get lookedUpService(): string | undefined {
    return this.call.lookedUpService;
  }

  /** For error texts: the call and the node. */
  toString(): string {
    return callAt(this.call, this.selection.node);
  }

  #begin(selection: Selection): Promise<T> {
    this.selection = selection;
    this.verdict = undefined;
    this.refused = false;
    this.answered = false;
    this.handedOver = false;
    try {
      return this.attempt();
    } catch (error) {
      return this.failed(error);
    }
  }

  #pick(): Selection | Promise<Selection> {
    const { core, call } = this;
    const address = this.call.address;
    if (address !== undefined) return core.selector.pickAddress(this.#pickAddress(address));
    const select = call.own?.select ?? call.target.defaults.select;
    return core.selector.pick(call.target.service, {
      filters: select?.filters,
      strategy: select?.strategy,
      domain: select?.domain,
      exclude: this.#log?.tried,
      signal: call.signal,
      deadline: call.deadline,
    });
  }

  /** The next address in turn, one not tried before where there is one. */
  #pickAddress(address: string | readonly string[]): string {
    const addresses = typeof address === "string" ? [address] : address;
    const first = this.core.nextAddress++;
    let chosen = addresses[first % addresses.length];
    for (let offset = 1; offset < addresses.length && this.#wasTried(chosen); offset += 1)
      chosen = addresses[(first + offset) % addresses.length];
    if (typeof chosen !== "string" || chosen === "")
      throw new TypeError("address must be `host:port`, or a list of at least one of them");
    return chosen;
  }

  #wasTried(address: string | undefined): boolean {
    return address !== undefined && this.#log?.tried.has(address) === true;
  }

  async #pickAgain(error: MicroError): Promise<Selection> {
    let selection;
    let cause: unknown;
    try {
      selection = await this.#pick();
    } catch (caught) {
      cause = caught;
    }
    const ended = this.call.ended("call timeout: ");
    if (ended === undefined && selection !== undefined) return selection;
    selection?.done(unused);
    if (ended !== undefined) throw this.#failure(ended);
    throw this.#failure(error, cause instanceof Error ? cause.message : String(cause));
  }

  /** Count a retry and wait before it. @throws {MicroError} the call's error when there may be none. */
  async #countRetry(error: MicroError): Promise<void> {
    const { call, core } = this;
    const { defaults } = call.target;
    if (this.#retries >= (call.own?.retries ?? defaults.retries)) throw this.#failure(error);
    const now = performance.now();
    // On the same node once more Go's second wait is the first that makes sense.
    const wait = (call.own?.backoff ?? defaults.backoff)(this.#allTried ? this.#retries + 1 : this.#retries);
    if (call.deadline !== undefined && now + wait >= call.deadline)
      throw this.#failure(error, "no time was left for another attempt");
    if (!core.budget.retry(now)) throw this.#failure(error, "not tried again: the client's retry budget is used up");
    this.#retries += 1;
    if (!(wait > 0)) return;
    await pause(wait, call.signal);
    const ended = call.ended("call timeout: ");
    if (ended !== undefined) throw this.#failure(ended);
  }

  #timeout(cause: MicroError): MicroError {
    const milliseconds = Math.round(performance.now() - this.call.startedAt);
    const explanation = `${this.call.toString()}, after ${milliseconds} ms; ${this.#log!.toString()}`;
    return this.#failure(deadlineError("call timeout: ", explanation, cause));
  }

  #failure(error: MicroError, note?: string): MicroError {
    return this.#log!.failure(error, this.answered, this.call.toString(), note);
  }
}

/** A rejected promise: retry policies and wrappers may throw anything. */
function reject(reason: unknown): Promise<never> {
  return Promise.reject(reason);
}

function unknownProtocol(protocol: string, where: string): MicroError {
  const remedy = protocol === "grpc" ? "; install @micro/transport-grpc" : "";
  return new MicroError(
    `${where}: the node speaks ${JSON.stringify(protocol)}, for which there is no client${remedy}`,
    {
      id: clientId,
      code: "not_implemented",
    },
  );
}
