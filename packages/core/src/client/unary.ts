/** Unary calls: one request, one answer. */
import type { Metadata } from "../metadata.ts";
import type { ExchangeMessage } from "../transport/transport.ts";
import { Attempts } from "./attempts.ts";
import type { Attempt, Call } from "./call-context.ts";
import type { ClientCore } from "./core.ts";
import { decodeReply, peerError, replyType, type Wire } from "./wire.ts";

/** Run a unary call. Its listeners on signals are gone when the promise settles. */
export function startUnary(core: ClientCore, call: Call, request: unknown): Promise<unknown> {
  const run = new UnaryCall(core, call, request);
  if (!call.linkable) return run.start();
  call.link();
  return run.start().finally(() => call.unlink());
}

class UnaryCall extends Attempts<unknown> {
  protected override attempt(): Promise<unknown> {
    const wire = this.wire();
    if (wire === undefined || this.core.aroundAttempt !== undefined)
      return this.around((value) => {
        this.done();
        return value;
      });
    return this.#exchange(wire, this.request, this.call.sentMetadata).then(
      (reply) => {
        let value: unknown;
        try {
          value = this.#read(wire, reply, this.request);
        } catch (error) {
          return this.failed(error);
        }
        this.selection.done(undefined);
        return value;
      },
      (error: unknown) => this.failed(this.noteTransport(error)),
    );
  }

  override carry(request: unknown, attempt: Attempt): Promise<unknown> {
    const wire = this.wire();
    if (wire === undefined) return this.carryOther(request, attempt);
    const metadata = attempt.metadata.size === 0 ? undefined : attempt.metadata;
    return this.#exchange(wire, request, metadata).then(
      (reply) => this.#read(wire, reply, request),
      (error: unknown) => Promise.reject(this.noteTransport(error)),
    );
  }

  #exchange(wire: Wire, request: unknown, metadata: Metadata | undefined): Promise<ExchangeMessage> {
    const body = this.encode(wire, request);
    const message = this.exchangeRequest(wire, metadata, body);
    return this.core.transport.call(this.selection.node.address, message, this.exchangeOptions());
  }

  /** @throws {MicroError} the peer's error, or `codec`. */
  #read(wire: Wire, reply: ExchangeMessage, request: unknown): unknown {
    this.verdict = undefined;
    this.refused = false;
    this.answered = true;
    if (reply.error !== undefined || reply.notRun || wire.codec.envelope !== undefined) {
      const failure = peerError(wire, reply, this);
      if (failure !== undefined) {
        if (failure.error.notRun) this.verdict = failure.error;
        this.refused = failure.refused;
        throw failure.error;
      }
    }
    return decodeReply(wire, reply, replyType(request, this.call.target.response), this);
  }
}
