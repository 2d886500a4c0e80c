/** Failures of RabbitMQ and of its client, as `MicroError`. */
import { MicroError, type ErrorCode } from "@micro/core";

export const source = "go.micro.broker.rabbitmq";

/** AMQP's reply codes. */
export const reply = {
  contentTooLarge: 311,
  connectionForced: 320,
  invalidPath: 402,
  accessRefused: 403,
  notFound: 404,
  resourceLocked: 405,
  preconditionFailed: 406,
  notAllowed: 530,
  notImplemented: 540,
} as const;

const codes: ReadonlyMap<number, ErrorCode> = new Map<number, ErrorCode>([
  [reply.contentTooLarge, "too_large"],
  [reply.connectionForced, "unavailable"],
  [reply.invalidPath, "bad_request"],
  [reply.accessRefused, "forbidden"],
  // What is not there yet, or was deleted just now, is declared with the next attempt.
  [reply.notFound, "unavailable"],
  [reply.resourceLocked, "conflict"],
  [reply.preconditionFailed, "bad_request"],
  [reply.notAllowed, "forbidden"],
  [reply.notImplemented, "not_implemented"],
]);

const texts: readonly (readonly [RegExp, ErrorCode, string])[] = [
  [/message size \d+ .*larger than/i, "too_large", "the message is larger than the server takes"],
  [/Handshake terminated.*403|SASL mechanism/, "unauthorized", "RabbitMQ refused the credentials"],
  // What the client makes of the server's refusal to open one.
  [
    /Expected ConnectionOpenOk; got <ConnectionClose/,
    "forbidden",
    "the virtual host does not exist, or the user may not use it",
  ],
  [
    /certificate|self.signed|SSL|alert|wrong version number|EPROTO|secure (TLS )?connection/i,
    "unavailable",
    "TLS failed, see `tls`",
  ],
  [
    /ECONNREFUSED|ECONNRESET|ENOTFOUND|EHOSTUNREACH|ETIMEDOUT|EPIPE|closed abruptly/,
    "unavailable",
    "the server cannot be reached",
  ],
];

/** AMQP's reply code, if the server gave one. */
export function replyCode(cause: unknown): number | undefined {
  const code: unknown = (cause as { code?: unknown } | null | undefined)?.code;
  return typeof code === "number" ? code : undefined;
}

/** The server's own words where the client quotes them. */
export function serverText(cause: unknown): string {
  const text = cause instanceof Error ? cause.message : String(cause);
  return /with message "(.*)"$/s.exec(text)?.[1] ?? text;
}

/** Any failure as a `MicroError`; `what` says what was attempted. */
export function fromAmqp(cause: unknown, what: string): MicroError {
  if (MicroError.is(cause)) return cause;
  const original = cause instanceof Error ? cause.message || cause.name : String(cause);
  const text = serverText(cause) || original;
  const known = texts.find(([pattern]) => pattern.test(original));
  const code = known?.[1] ?? codes.get(replyCode(cause) ?? 0) ?? "unavailable";
  const detail = known === undefined ? text : `${known[2]} (${text})`;
  return new MicroError(`broker rabbitmq: ${what}: ${detail}`, { id: source, code, cause });
}

/** Asking again would not help. */
export function isRefusal(error: MicroError): boolean {
  return ["unauthorized", "forbidden", "bad_request", "not_implemented", "too_large"].includes(error.code);
}

export function closedError(): MicroError {
  return new MicroError("broker rabbitmq: the broker is disconnected", { id: source, code: "closed" });
}
