/** Failures of NATS and of its client, as `MicroError`. */
import { MicroError, type ErrorCode } from "@micro/core";

export const source = "go.micro.broker.nats";

/** By the names of the client's classes, which survive a second copy of it. */
const names: ReadonlyMap<string, ErrorCode> = new Map([
  ["AuthorizationError", "unauthorized"],
  ["UserAuthenticationExpiredError", "unauthorized"],
  ["PermissionViolationError", "forbidden"],
  ["InvalidSubjectError", "bad_request"],
  ["InvalidArgumentError", "bad_request"],
  ["TimeoutError", "timeout"],
  ["ClosedConnectionError", "unavailable"],
  ["DrainingConnectionError", "unavailable"],
  ["ConnectionError", "unavailable"],
  ["NoRespondersError", "unavailable"],
  ["RequestError", "unavailable"],
]);

const texts: readonly (readonly [RegExp, ErrorCode, string])[] = [
  [/max_payload|maximum payload/i, "too_large", "the message is larger than the server takes"],
  [/authorization violation|authentication/i, "unauthorized", "NATS refused the credentials"],
  [
    /certificate|self.signed|SSL|alert|wrong version number|EPROTO|secure connection/i,
    "unavailable",
    "TLS failed, see `tls`",
  ],
  [/work ?queue/i, "bad_request", "its stream is a work queue, which hands each message of a topic to one queue"],
  [/jetstream not enabled/i, "not_implemented", "the server has JetStream switched off"],
  [/ECONNREFUSED|ECONNRESET|ENOTFOUND|EHOSTUNREACH|ETIMEDOUT|EPIPE/, "unavailable", "the server cannot be reached"],
];

/** Any failure as a `MicroError`; `what` says what was attempted. */
export function fromNats(cause: unknown, what: string): MicroError {
  if (MicroError.is(cause)) return cause;
  const text = rootText(cause);
  const known = texts.find(([pattern]) => pattern.test(text));
  const code = known?.[1] ?? codeByName(cause);
  const detail = known === undefined ? text : `${known[2]} (${text})`;
  return new MicroError(`broker nats: ${what}: ${detail}`, { id: source, code, cause });
}

/** What is wrapped says more than what it is wrapped in. */
function codeByName(cause: unknown): ErrorCode {
  let code: ErrorCode = "unavailable";
  for (let error: unknown = cause, depth = 0; error instanceof Error && depth < 4; error = error.cause, depth++)
    code = (isApiError(error) ? codeOfApi(error) : names.get(error.name)) ?? code;
  return code;
}

/** What JetStream answers: `status` is HTTP's, `code` its own. */
export interface ApiError extends Error {
  readonly code: number;
  readonly status: number;
}

export function isApiError(error: unknown): error is ApiError {
  return (
    error instanceof Error &&
    "status" in error &&
    "code" in error &&
    typeof error.status === "number" &&
    typeof error.code === "number"
  );
}

/** Too many consumers or streams: also a 400, but there may be room later. */
const passing: ReadonlySet<number> = new Set([10_026, 10_027]);

function codeOfApi({ code, status }: ApiError): ErrorCode | undefined {
  if (status === 400 && !passing.has(code)) return "bad_request";
  return status === 401 || status === 403 ? "forbidden" : undefined;
}

/** The client wraps the reason of a failed connection. */
function rootText(cause: unknown): string {
  const parts: string[] = [];
  for (let error: unknown = cause, depth = 0; error instanceof Error && depth < 4; error = error.cause, depth++)
    if (error.message !== "" && !parts.includes(error.message)) parts.push(error.message);
  return parts.length > 0 ? parts.join(": ") : String(cause);
}

/** Asking again would not help. */
export function isRefusal(error: MicroError): boolean {
  return ["unauthorized", "forbidden", "bad_request", "not_implemented"].includes(error.code);
}

export function closedError(): MicroError {
  return new MicroError("broker nats: the broker is disconnected", { id: source, code: "closed" });
}
