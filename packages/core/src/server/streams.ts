/** One stream on the server: server, client and bidirectional handlers. */
import { Context, runInContext } from "../context.ts";
import { MicroError } from "../errors.ts";
import type { OutgoingMessage, ServerExchange, ServerStream } from "../transport/transport.ts";
import { type Call, type CallHost, callerGone } from "./call.ts";
import { type StreamSummary, isIterable, iterate, streamSink } from "./compose.ts";
import { errorForCaller, errorMessage, logFailure } from "./failure.ts";
import {
  type MessageFormat,
  checkResult,
  decodeRequest,
  encodeResult,
  encodeResultText,
  invalid,
  isThenable,
  tooLarge,
  undecodable,
} from "./messages.ts";
import { RequestMessages } from "./requests.ts";
import type { Plan } from "./router.ts";
import type { Work } from "../work.ts";

type AnyIterator = AsyncIterator<unknown> | Iterator<unknown>;

/**
 * Pulls a handler's messages no faster than the caller takes them. When the caller goes away, cancels or runs out of
 * time, the handler's signal aborts, what it reads from fails, and its iterator is closed; the call counts as running
 * until the handler has come to an end.
 */
export class StreamCall implements Call, Work {
  readonly plan: Plan;
  readonly exchange: ServerExchange;
  readonly format: MessageFormat;
  readonly #host: CallHost;
  readonly #maxMessageBytes: number;
  #stream!: ServerStream;
  #requests!: RequestMessages;
  #iterator: AnyIterator | undefined;
  #closing: Promise<void> | undefined;
  #interruptSend: ((reason: MicroError) => void) | undefined;
  #removeListener: (() => void) | undefined;
  /** Nothing more is sent. */
  #ended = false;
  #pumped = false;
  #sent = 0;
  #received = 0;
  #failed = false;
  /** The server has been told that the call is over. */
  #over = false;

  /** @param maxMessageBytes of each message of the caller. */
  constructor(host: CallHost, plan: Plan, exchange: ServerExchange, format: MessageFormat, maxMessageBytes: number) {
    this.#maxMessageBytes = maxMessageBytes;
    this.#host = host;
    this.plan = plan;
    this.exchange = exchange;
    this.format = format;
  }

  start(): void {
    const { plan, exchange } = this;
    this.#host.running(this);
    this.#stream = exchange.stream();
    this.#requests = new RequestMessages(
      this.#stream,
      (body) => this.#read(body),
      (error) => this.#invalid(error),
    );
    const own = new Context({
      service: this.#host.service,
      endpoint: plan.endpoint,
      metadata: exchange.header,
      remote: exchange.remote,
      local: exchange.local,
      contentType: this.format.contentType,
      cancellation: exchange.cancellation,
      work: this,
    });
    const context = plan.wrapped ? own.with(streamSink, (messages) => this.#pump(messages)) : own;
    this.#removeListener = exchange.cancellation.onCancel((reason) => this.#cancelled(reason));
    void runInContext(context, () => this.#run(context));
  }

  /** Never rejects. */
  async #run(context: Context): Promise<void> {
    const { plan } = this;
    try {
      const streams = plan.method.kind === "server" || plan.method.kind === "bidi";
      const request: unknown =
        plan.method.kind === "server" ? await this.#requests.first(this.#host.service) : this.#requests;
      const result: unknown = await plan.invoke(request, context);
      if (!streams) await this.#send(result);
      // Unless wrappers have waited for its end.
      else if (!this.#pumped) await this.#pump(result);
      this.#end();
    } catch (error) {
      this.#fail(error);
    } finally {
      await this.#closing;
      this.#finish();
    }
  }

  async #pump(result: unknown): Promise<StreamSummary> {
    this.#pumped = true;
    await this.#sendAll(result);
    // For wrappers, a caller that has left is not the same as an end.
    const { reason } = this.exchange.cancellation;
    if (reason !== undefined && this.#ended) throw reason;
    return { sent: this.#sent, received: this.#received };
  }

  async #sendAll(result: unknown): Promise<void> {
    if (!isIterable(result))
      throw new TypeError(`the handler of ${this.plan.endpoint} streams: it must return something iterable`);
    const iterator = iterate(result);
    this.#iterator = iterator;
    if (this.#ended) this.#close();
    while (!this.#ended) {
      let value: unknown;
      try {
        const pulled = iterator.next();
        const step = isThenable(pulled) ? await pulled : pulled;
        if (step.done === true) {
          this.#iterator = undefined;
          return;
        }
        value = isThenable(step.value) ? await step.value : step.value;
      } catch (error) {
        this.#iterator = undefined;
        throw error;
      }
      const sent = this.#send(value);
      if (sent !== undefined) await sent;
    }
  }

  /** Check, encode and send one message; a promise is to be waited for. */
  #send(message: unknown): void | Promise<void> {
    if (this.#ended) return;
    const { method, endpoint } = this.plan;
    const checked = checkResult(message, method.response, this.#host.service, endpoint);
    return isThenable(checked) ? this.#sendLater(checked) : this.#sendChecked(checked);
  }

  async #sendLater(checked: PromiseLike<unknown>): Promise<void> {
    await this.#sendChecked(await checked);
  }

  #sendChecked(message: unknown): void | Promise<void> {
    if (this.#ended) return;
    this.#sent++;
    const { codec, contentType, envelopeId } = this.format;
    const { method, endpoint } = this.plan;
    const { service } = this.#host;
    const stream = this.#stream;
    let sent;
    const text = stream.sendText === undefined ? undefined : encodeResultText(codec, message, method.response, service);
    if (text !== undefined) sent = stream.sendText!(contentType, text);
    else {
      let body = encodeResult(codec, message, method.response, service);
      if (codec.envelope !== undefined)
        body = codec.envelope.wrap(body, { kind: "response", endpoint, id: envelopeId, error: undefined });
      sent = stream.send({ contentType, body });
    }
    if (sent === undefined) return;
    // Not Promise.race(): waiting for a slow reader must end with the call, and leave nothing behind if it does not.
    return new Promise((resolve, reject) => {
      this.#interruptSend = reject;
      sent.then(resolve, reject);
    });
  }

  #read(body: Uint8Array): unknown {
    this.#received++;
    const service = this.#host.service;
    if (body.length > this.#maxMessageBytes) throw tooLarge(service, this.plan.endpoint, this.#maxMessageBytes);
    const { codec } = this.format;
    const type = this.plan.method.request;
    let payload = body;
    if (codec.envelope !== undefined && body.length > 0) {
      try {
        payload = codec.envelope.unwrap(body, "request").payload;
      } catch (error) {
        throw undecodable(service, error);
      }
    }
    const message = decodeRequest(codec, payload, type, service);
    if (type?.validate === undefined) return message;
    return checkedMessage(type.validate, message, service);
  }

  /** A message that cannot be read ends the stream; the handler's signal tells it, as it may be waiting elsewhere. */
  #invalid(error: unknown): void {
    const { cancellation } = this.exchange;
    cancellation.cancel(errorForCaller(error, cancellation, this.#host.service));
  }

  #cancelled(reason: MicroError): void {
    this.#fail(reason);
    this.#requests.stop(reason);
    this.#interruptSend?.(reason);
  }

  /** End the stream with an error, once, and stop the handler. */
  #fail(error: unknown): void {
    const { cancellation, remote } = this.exchange;
    const gone = callerGone(cancellation) || (MicroError.is(error) && error.code === "aborted" && this.#ended);
    if (!this.#ended && !gone) {
      this.#failed = true;
      logFailure(this.#host.logger, error, this.plan.endpoint, remote);
    } else if (!MicroError.is(error)) logFailure(this.#host.logger, error, this.plan.endpoint, remote);
    this.#end({ error });
    this.#close();
  }

  /** @param failure what may be `undefined` itself: anything can be thrown. */
  #end(failure?: { readonly error: unknown }): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#stream.end(failure === undefined ? undefined : this.#errorMessage(failure.error));
  }

  #errorMessage(error: unknown): OutgoingMessage {
    const told = errorForCaller(error, this.exchange.cancellation, this.#host.service);
    return errorMessage(told, this.format, this.plan.endpoint, false);
  }

  /** Close the handler's iterator, once. */
  #close(): void {
    const iterator = this.#iterator;
    this.#iterator = undefined;
    if (iterator === undefined) return;
    this.#closing = (async () => {
      try {
        await iterator.return?.();
      } catch (error) {
        logFailure(this.#host.logger, error, this.plan.endpoint, this.exchange.remote);
      }
    })();
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.#removeListener?.();
    this.#host.finished(this, this.#failed);
  }

  cancel(reason: MicroError): void {
    this.exchange.cancellation.cancel(reason);
  }

  abandon(reason: MicroError): void {
    if (!this.#ended) this.#failed = true;
    this.#end({ error: reason });
    this.#finish();
  }

  get running(): boolean {
    return !this.#over;
  }

  isOf(owner: object): boolean {
    return owner === this.#host;
  }
}

function checkedMessage(validate: (message: unknown) => unknown, message: unknown, service: string): unknown {
  try {
    const checked = validate(message);
    if (!isThenable(checked)) return checked;
    return checked.then(undefined, (error: unknown) => {
      throw invalid(service, error);
    });
  } catch (error) {
    throw invalid(service, error);
  }
}
