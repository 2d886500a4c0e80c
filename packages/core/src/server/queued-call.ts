/** A call that waits because all places are taken. */
import { type MicroError, timeout } from "../errors.ts";
import type { Call } from "./call.ts";
import { errorMessage } from "./failure.ts";
import type { Job, Limiter } from "./limiter.ts";

/** Leaves the queue by itself when its caller goes away or its deadline passes; its handler never runs then. */
export class QueuedCall implements Job {
  readonly #call: Call;
  readonly #limiter: Limiter<QueuedCall>;
  readonly #begin: (call: Call) => void;
  #removeListener: (() => void) | undefined;
  #service = "";

  constructor(call: Call, limiter: Limiter<QueuedCall>, begin: (call: Call) => void) {
    this.#call = call;
    this.#limiter = limiter;
    this.#begin = begin;
  }

  /** Once it is in the queue. */
  watch(service: string): void {
    this.#service = service;
    this.#removeListener = this.#call.exchange.cancellation.onCancel((reason) => {
      if (this.#limiter.leave(this)) this.#giveUp(reason);
    });
  }

  start(): void {
    this.#removeListener?.();
    // The deadline may have passed without its timer having had a turn.
    const { reason } = this.#call.exchange.cancellation;
    if (reason === undefined) return this.#begin(this.#call);
    this.#giveUp(reason);
    this.#limiter.release();
  }

  #giveUp(reason: MicroError): void {
    const late = timeout(this.#service, "the deadline passed while the request waited for its turn");
    this.#answer(reason.code === "timeout" ? late : reason, false);
  }

  /** Answer as not run; it is out of the queue already. */
  refuse(error: MicroError): void {
    this.#removeListener?.();
    this.#answer(error, true);
  }

  #answer(error: MicroError, notRun: boolean): void {
    const { exchange, format, plan } = this.#call;
    exchange.reply(errorMessage(error, format, plan.endpoint, notRun));
  }
}
