/** What a failed call tells its caller, and what stays here. */
import type { Cancellation } from "../context.ts";
import { MicroError, parse, stringify } from "../errors.ts";
import { thrownText } from "../thrown.ts";
import { HandlerFault } from "./handler-fault.ts";
import type { LogLevel, Logger } from "../logger/logger.ts";
import type { OutgoingMessage } from "../transport/transport.ts";
import { type MessageFormat, noBytes } from "./messages.ts";

// The error travels in headers, as bare text twice for old peers (`X-Micro-Error`): escaped, all stay below 64 KiB.
const maxDetailLength = 4096;

/**
 * The error as the caller gets it. A plain error becomes a 500 of the service with its message alone; after the
 * deadline it is the 408 that caused it. A call that was cancelled is 408, as Go has no other code for it; a 499 that the
 * handler says of its own accord stays one, since it need not mean this call, and Go's clients would repeat a 408.
 */
export function errorForCaller(error: unknown, cancellation: Cancellation, service: string): MicroError {
  if (!MicroError.is(error)) {
    const reason = cancellation.reason;
    if (reason !== undefined) return errorForCaller(reason, cancellation, service);
    return new HandlerFault(shortened(thrownText(error)), { id: service, code: "internal" });
  }
  const aborted = error.statusCode === 499 && cancellation.reason !== undefined;
  if (error.id !== "" && !aborted && error.detail.length <= maxDetailLength) return error;
  const Told = error instanceof HandlerFault ? HandlerFault : MicroError;
  return new Told(shortened(error.detail), {
    id: error.id === "" ? service : error.id,
    statusCode: aborted ? 408 : error.statusCode,
    status: aborted ? undefined : error.status,
    issues: error.issues,
  });
}

function shortened(text: string): string {
  return text.length <= maxDetailLength ? text : `${text.slice(0, maxDetailLength).toWellFormed()}…`;
}

/**
 * As a Go server sends what its handler did not mean to tell: text without a code, which no generation's client tries again
 * (v2 does so after a 408 or a 500). A text that would be read as something else is made one that is not.
 */
function bareText(detail: string): string {
  // oxlint-disable-next-line no-control-regex
  const text = detail.replaceAll(/[\r\n\0]/g, " ").trim();
  const read = parse(text);
  // Braces are an object to whoever reads this; Go would show an object that is not its own as an error without a text.
  const other = text === "EOS" || text.startsWith("{") || read.statusCode !== 0 || read.detail !== text;
  return other ? `error: ${text}` : text;
}

/** A reply with an error; codecs with an envelope carry it there, too, which Go's clients of them need. */
export function errorMessage(
  error: MicroError,
  format: MessageFormat | undefined,
  endpoint: string,
  notRun: boolean,
): OutgoingMessage {
  const text = stringify(error);
  const bareError = error instanceof HandlerFault ? bareText(error.detail) : undefined;
  const envelope = format?.codec.envelope;
  if (format === undefined || envelope === undefined) return { error: text, bareError, notRun, body: noBytes };
  const told = { kind: "response", endpoint, id: format.envelopeId, error: bareError ?? text } as const;
  return { contentType: format.contentType, error: text, bareError, notRun, body: envelope.wrap(undefined, told) };
}

/** Log a failed call: what the handler did not foresee with its stack, what it said on purpose only for debugging. */
export function logFailure(logger: Logger, error: unknown, endpoint: string, remote: string): void {
  const fault = !MicroError.is(error) || error instanceof HandlerFault;
  const level: LogLevel = fault ? "error" : error.statusCode >= 500 ? "warn" : "debug";
  if (!logger.enabled(level)) return;
  logger.log(level, `${endpoint} failed: ${thrownText(error)}`, { endpoint, remote, error });
}
