/** One unary call on the server: decode, check, run, answer. */
import { Context, runInContext } from "../context.ts";
import type { MicroError } from "../errors.ts";
import type { ServerExchange } from "../transport/transport.ts";
import { type Call, type CallHost, callerGone } from "./call.ts";
import { errorForCaller, errorMessage, logFailure } from "./failure.ts";
import {
  type MessageFormat,
  checkResult,
  decodeRequest,
  encodeResult,
  encodeResultText,
  invalid,
  isThenable,
  noBytes,
} from "./messages.ts";
import type { Plan } from "./router.ts";
import type { Work } from "../work.ts";

/** Stays free of promises, timers and signals as long as the handler answers at once. */
export class UnaryCall implements Call, Work {
  readonly plan: Plan;
  readonly exchange: ServerExchange;
  readonly format: MessageFormat;
  readonly #host: CallHost;
  readonly #payload: Uint8Array;
  #over = false;

  constructor(host: CallHost, plan: Plan, exchange: ServerExchange, format: MessageFormat, payload: Uint8Array) {
    this.#host = host;
    this.plan = plan;
    this.exchange = exchange;
    this.format = format;
    this.#payload = payload;
  }

  start(): void {
    const type = this.plan.method.request;
    try {
      const request = decodeRequest(this.format.codec, this.#payload, type, this.#host.service);
      if (type?.validate === undefined) this.#run(request);
      else this.#validate(request, type.validate);
    } catch (error) {
      this.#fail(error);
    }
  }

  #validate(request: unknown, validate: (message: unknown) => unknown): void {
    let checked: unknown;
    try {
      checked = validate(request);
    } catch (error) {
      return this.#fail(invalid(this.#host.service, error));
    }
    if (!isThenable(checked)) return this.#run(checked);
    this.#host.running(this);
    checked.then(
      (value) => this.#run(value),
      (error: unknown) => this.#fail(invalid(this.#host.service, error)),
    );
  }

  #run(request: unknown): void {
    if (this.#over) return;
    const { plan, exchange } = this;
    try {
      const context = new Context({
        service: this.#host.service,
        endpoint: plan.endpoint,
        contentType: this.format.contentType,
        body: exchange.body,
        source: exchange,
        work: this,
      });
      const result: unknown = runInContext(context, () => plan.invoke(request, context));
      if (!isThenable(result)) return this.#finish(result);
      this.#host.running(this);
      result.then(
        (value) => this.#finish(value),
        (error: unknown) => this.#fail(error),
      );
    } catch (error) {
      this.#fail(error);
    }
  }

  #finish(result: unknown): void {
    if (this.#over) return;
    const { method, endpoint } = this.plan;
    if (method.response?.validate === undefined) return this.#reply(result);
    try {
      const checked = checkResult(result, method.response, this.#host.service, endpoint);
      if (!isThenable(checked)) return this.#reply(checked);
      this.#host.running(this);
      checked.then(
        (value) => this.#reply(value),
        (error: unknown) => this.#fail(error),
      );
    } catch (error) {
      this.#fail(error);
    }
  }

  #reply(result: unknown): void {
    if (this.#over) return;
    const { codec, contentType, envelopeId } = this.format;
    const { response } = this.plan.method;
    const { exchange } = this;
    let text: string | undefined;
    let body: Uint8Array = noBytes;
    try {
      if (exchange.replyText !== undefined) text = encodeResultText(codec, result, response, this.#host.service);
      if (text === undefined) body = encodeResult(codec, result, response, this.#host.service);
      if (codec.envelope !== undefined)
        body = codec.envelope.wrap(body, {
          kind: "response",
          endpoint: this.plan.endpoint,
          id: envelopeId,
          error: undefined,
        });
    } catch (error) {
      return this.#fail(error);
    }
    this.#over = true;
    try {
      if (text !== undefined) exchange.replyText!(contentType, text);
      // Go leaves the content type out where there is no content.
      else exchange.reply({ contentType: body.length === 0 ? undefined : contentType, body });
    } finally {
      this.#host.finished(this, false);
    }
  }

  #fail(error: unknown): void {
    const { plan, exchange } = this;
    if (this.#over || !callerGone(exchange.cancellation))
      logFailure(this.#host.logger, error, plan.endpoint, exchange.remote);
    if (this.#over) return;
    this.#answer(errorForCaller(error, exchange.cancellation, this.#host.service));
  }

  #answer(error: MicroError): void {
    const failed = !callerGone(this.exchange.cancellation);
    this.#over = true;
    try {
      this.exchange.reply(errorMessage(error, this.format, this.plan.endpoint, false));
    } finally {
      this.#host.finished(this, failed);
    }
  }

  cancel(reason: MicroError): void {
    this.exchange.cancellation.cancel(reason);
  }

  abandon(reason: MicroError): void {
    if (!this.#over) this.#answer(reason);
  }

  get running(): boolean {
    return !this.#over;
  }

  isOf(owner: object): boolean {
    return owner === this.#host;
  }
}
