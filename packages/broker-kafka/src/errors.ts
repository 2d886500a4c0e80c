/** Failures of Kafka and of its client, as `MicroError`. */
import { MicroError, type ErrorCode } from "@micro/core";

export const source = "go.micro.broker.kafka";

/** By the protocol's own names of errors. */
const types: ReadonlyMap<string, readonly [ErrorCode, string?]> = new Map<string, readonly [ErrorCode, string?]>([
  ["SASL_AUTHENTICATION_FAILED", ["unauthorized", "Kafka refused the credentials"]],
  ["UNSUPPORTED_SASL_MECHANISM", ["unauthorized", "Kafka has that `sasl.mechanism` switched off"]],
  ["ILLEGAL_SASL_STATE", ["unauthorized"]],
  ["TOPIC_AUTHORIZATION_FAILED", ["forbidden", "the user may not use that topic"]],
  ["GROUP_AUTHORIZATION_FAILED", ["forbidden", "the user may not use that consumer group"]],
  ["CLUSTER_AUTHORIZATION_FAILED", ["forbidden", "the user may not do that to the cluster"]],
  ["MESSAGE_TOO_LARGE", ["too_large", "the message is larger than the topic takes (`max.message.bytes`)"]],
  ["RECORD_LIST_TOO_LARGE", ["too_large", "the message is larger than the topic's segments"]],
  ["INVALID_TOPIC_EXCEPTION", ["bad_request"]],
  ["INVALID_PARTITIONS", ["bad_request"]],
  ["INVALID_REPLICATION_FACTOR", ["bad_request"]],
  ["INVALID_CONFIG", ["bad_request"]],
  ["POLICY_VIOLATION", ["bad_request"]],
  ["INVALID_RECORD", ["bad_request"]],
  ["INVALID_GROUP_ID", ["bad_request"]],
  ["INVALID_SESSION_TIMEOUT", ["bad_request", "the cluster does not take that `sessionTimeoutMs`"]],
  [
    "INCONSISTENT_GROUP_PROTOCOL",
    ["bad_request", "the queue's other members do not share partitions out by `range`, as we and Go do"],
  ],
  ["UNKNOWN_TOPIC_OR_PARTITION", ["not_found"]],
]);

const texts: readonly (readonly [RegExp, ErrorCode, string])[] = [
  [
    /alert (?:certificate required|bad certificate|unknown ca|certificate unknown|access denied|number 116)/i,
    "unauthorized",
    "the broker refused our certificate, see `tls.cert`",
  ],
  [/certificate|self.signed|SSL|alert|wrong version number|EPROTO/i, "unavailable", "TLS failed, see `tls`"],
  [/SASL .*authentication failed|invalid credentials/i, "unauthorized", "Kafka refused the credentials"],
  [
    /compression not implemented/i,
    "not_implemented",
    "the topic holds messages in a compression that this program has no codec for",
  ],
];

interface VendorError {
  readonly name?: string;
  readonly type?: string;
  readonly cause?: unknown;
  readonly errors?: readonly unknown[];
}

/** The client wraps errors up to three deep, and those of several topics in a list. */
function* causes(cause: unknown): IterableIterator<VendorError> {
  let error = cause;
  for (let depth = 0; depth < 6 && typeof error === "object" && error !== null; depth++) {
    yield error;
    const { cause: inner, errors } = error as VendorError;
    error = errors?.[0] ?? inner;
  }
}

/** The protocol's name of what went wrong, if it was Kafka that said so. */
export function typeOf(cause: unknown): string | undefined {
  for (const { type } of causes(cause)) if (typeof type === "string") return type;
  return undefined;
}

/** Any failure as a `MicroError`; `what` says what was attempted. */
export function fromKafka(cause: unknown, what: string): MicroError {
  for (const each of causes(cause)) if (MicroError.is(each)) return each;
  const chain = [...causes(cause)];
  const text = chain.map((each) => (each instanceof Error ? each.message : "")).find((each) => each !== "");
  const plain = text ?? String(cause);
  const [code, hint] = classify(cause, chain, plain);
  const detail = hint === undefined ? plain : `${hint} (${plain})`;
  return new MicroError(`broker kafka: ${what}: ${detail}`, { id: source, code, cause });
}

function classify(cause: unknown, chain: readonly VendorError[], text: string): readonly [ErrorCode, string?] {
  const known = types.get(typeOf(cause) ?? "");
  if (known !== undefined) return known;
  const byText = texts.find(([pattern]) => pattern.test(text));
  if (byText !== undefined) return [byText[1], byText[2]];
  if (chain.some(({ name }) => name === "KafkaJSSASLAuthenticationError"))
    return ["unauthorized", "Kafka refused the credentials"];
  return ["unavailable"];
}

/** Asking again would not help before somebody has changed something. */
export function isRefusal(error: MicroError): boolean {
  return ["unauthorized", "forbidden", "bad_request", "not_found", "not_implemented"].includes(error.code);
}

export function closedError(): MicroError {
  return new MicroError("broker kafka: the broker is disconnected", { id: source, code: "closed" });
}
