/** Deadlines and cancellation of a call: where they come from, and the errors they end in. */
import type { Context } from "../context.ts";
import { MicroError } from "../errors.ts";

/** Id of errors the client makes itself. */
export const clientId = "go.micro.client";

/** When a call must be over: `timeoutMs` from `now`, never later than the incoming call's own deadline. */
export function callDeadline(
  now: number,
  timeoutMs: number | undefined,
  incoming: Context | undefined,
): number | undefined {
  const inherited = incoming?.cancellation.deadline;
  if (timeoutMs === undefined) return inherited;
  if (timeoutMs === Infinity) return inherited;
  const own = now + timeoutMs;
  return inherited !== undefined && inherited < own ? inherited : own;
}

/** A 408 with Go's words (`client/rpc_client.go`), followed by what is known of it. */
export function deadlineError(prefix: string, explanation: string, cause?: unknown): MicroError {
  const text = explanation === "" ? "" : ` (${explanation})`;
  return new MicroError(`${prefix}context deadline exceeded${text}`, { id: clientId, code: "timeout", cause });
}

/** The error of a call whose signal aborted: 408 when the incoming call's time is up, else 499. */
export function cancelledError(reason: unknown): MicroError {
  if (MicroError.is(reason)) {
    if (reason.code === "timeout") return deadlineError("call timeout: ", "the incoming call's time is up", reason);
    if (reason.code === "aborted" && reason.id === clientId) return reason;
    if (reason.code === "closed") return new MicroError(reason.detail, { id: clientId, code: "closed", cause: reason });
  }
  if (reason instanceof Error && reason.name === "TimeoutError") return deadlineError("call timeout: ", "", reason);
  const why = reason instanceof Error && reason.name !== "AbortError" ? `: ${reason.message}` : "";
  return new MicroError(`the call was cancelled${why}`, { id: clientId, code: "aborted", cause: reason });
}

/** Wait, or return early when the signal aborts. */
export function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  if (signal?.aborted === true) return Promise.resolve();
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(finish, milliseconds);
  signal?.addEventListener("abort", finish, { once: true });
  function finish(): void {
    clearTimeout(timer);
    signal?.removeEventListener("abort", finish);
    resolve();
  }
  return promise;
}

/** Forward the abort of `signals` to `controller` until the returned function is called. */
export function forwardAbort(controller: AbortController, signals: readonly (AbortSignal | undefined)[]): () => void {
  const listening: [AbortSignal, () => void][] = [];
  for (const signal of signals) {
    if (signal === undefined) continue;
    if (signal.aborted) {
      controller.abort(signal.reason);
      break;
    }
    const listener = (): void => controller.abort(signal.reason);
    signal.addEventListener("abort", listener, { once: true });
    listening.push([signal, listener]);
  }
  return () => {
    for (const [signal, listener] of listening.splice(0)) signal.removeEventListener("abort", listener);
  };
}
