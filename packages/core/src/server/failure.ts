/** What a failed call tells its caller, and what stays here. */
import type { Cancellation } from "../context.ts";
import { MicroError, stringify } from "../errors.ts";
import type { LogLevel, Logger } from "../logger/logger.ts";
import type { OutgoingMessage } from "../transport/transport.ts";
import { type MessageFormat, noBytes } from "./messages.ts";

// The error travels in a header, twice for old peers (`X-Micro-Error`): escaped, this stays below 64 KiB.
const maxDetailLength = 4096;

/**
 * The error as the caller gets it. A plain error becomes a 500 of the service with its message alone; after the
 * deadline it is the 408 that caused it. A call that was cancelled is 408, as Go has no other code for it.
 */
export function errorForCaller(error: unknown, cancellation: Cancellation, service: string): MicroError {
  if (!MicroError.is(error)) {
    const reason = cancellation.reason;
    if (reason !== undefined) return errorForCaller(reason, cancellation, service);
    return new MicroError(shortened(plainText(error)), { id: service, code: "internal" });
  }
  const aborted = error.statusCode === 499;
  if (error.id !== "" && !aborted && error.detail.length <= maxDetailLength) return error;
  return new MicroError(shortened(error.detail), {
    id: error.id === "" ? service : error.id,
    statusCode: aborted ? 408 : error.statusCode,
    status: aborted ? undefined : error.status,
  });
}

function plainText(error: unknown): string {
  if (error instanceof Error) return error.message === "" ? error.name : error.message;
  try {
    return String(error);
  } catch {
    return "the handler threw a value that has no text";
  }
}

function shortened(text: string): string {
  return text.length <= maxDetailLength ? text : `${text.slice(0, maxDetailLength)}…`;
}

/** A reply with an error; codecs with an envelope carry it there, too, which Go's clients of them need. */
export function errorMessage(
  error: MicroError,
  format: MessageFormat | undefined,
  endpoint: string,
  notRun: boolean,
): OutgoingMessage {
  const text = stringify(error);
  const envelope = format?.codec.envelope;
  if (format === undefined || envelope === undefined) return { error: text, notRun, body: noBytes };
  const body = envelope.wrap(undefined, { kind: "response", endpoint, id: format.envelopeId, error: text });
  return { contentType: format.contentType, error: text, notRun, body };
}

/** Log a failed call: what the handler did not foresee with its stack, what it said on purpose only for debugging. */
export function logFailure(logger: Logger, error: unknown, endpoint: string, remote: string): void {
  const level: LogLevel = !MicroError.is(error) ? "error" : error.statusCode >= 500 ? "warn" : "debug";
  if (!logger.enabled(level)) return;
  logger.log(level, `${endpoint} failed: ${plainText(error)}`, { endpoint, remote, error });
}
