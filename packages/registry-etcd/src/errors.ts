/** Failures of etcd and of its client, as `MicroError`. */
import { MicroError, type ErrorCode } from "@micro/core";

export const source = "registry.etcd";

const statuses = new Map<number, ErrorCode>([
  [1, "unavailable"],
  [2, "unavailable"],
  [3, "bad_request"],
  [4, "timeout"],
  [7, "forbidden"],
  [8, "too_large"],
  [12, "not_implemented"],
  [13, "unavailable"],
  [14, "unavailable"],
  [16, "unauthorized"],
]);

/**
 * Longer than the default limit: who asks without a leader is seldom told of it. The limit travels with the call, and
 * whoever notices first that it has passed, etcd (which cancels) or we, says so in words of its own.
 */
const held = "a cluster that has no leader holds requests for 7 s and more";

/** What etcd says, where its status alone would mislead; with what to do about it. */
const texts: readonly (readonly [RegExp, ErrorCode, string])[] = [
  [/user name is empty/, "unauthorized", "etcd wants a user: set `username` and `password`"],
  [/invalid user ID or password/, "unauthorized", "etcd refused `username` or `password`"],
  [/authentication is not enabled/, "unauthorized", "etcd has no authentication enabled: leave out `username`"],
  [/permission denied/, "forbidden", "the user may not do that: its role needs read and write on the prefix"],
  [/invalid auth token|auth store is old/, "unauthorized", "etcd no longer accepts the session"],
  [
    /request is too large|grpc: (?:received|trying to send) message larger/,
    "bad_request",
    "the record is larger than etcd takes",
  ],
  [/database space exceeded/, "unavailable", "etcd is out of space (its quota is used up)"],
  [/requested lease not found|is expired or revoked/, "not_found", "the lease is gone"],
  [
    /no leader|request timed out|leader changed/,
    "unavailable",
    "the cluster has no leader: most of its members may be away",
  ],
  [
    /Deadline exceeded.*remote_addr=|context (?:deadline exceeded|canceled)|Call cancelled/s,
    "timeout",
    `no answer in time; ${held}`,
  ],
  [/ECONNREFUSED/, "unavailable", "no etcd answers there: see `endpoints`, or --registry_address"],
  [/Name resolution failed/, "unavailable", "no such host: see `endpoints`, or --registry_address"],
  [/certificate|self.signed|TLS|SSL|alert|wrong version number|EPROTO/i, "unavailable", "TLS failed, see `tls`"],
];

/** Any failure as a `MicroError`; `what` says what was attempted, e.g. `look-up of greeter at http://…`. */
export function fromEtcd(cause: unknown, what: string): MicroError {
  if (MicroError.is(cause)) return cause;
  // What grpc adds of how it came by the addresses, where that is nothing.
  const text = (cause instanceof Error ? cause.message : String(cause)).replace(/\.?\s*Resolution note:\s*$/, "");
  const known = texts.find(([pattern]) => pattern.test(text));
  const status = (cause as { code?: unknown } | null)?.code;
  const code = known?.[1] ?? (typeof status === "number" ? statuses.get(status) : undefined) ?? "internal";
  // gRPC prefixes its texts with number and name of the status.
  const plain = text
    .replace(/^(?:Error: )?\d+ [A-Z_]+: /, "")
    .replace(/^etcdserver: /, "")
    .replace(/^No connection established\. Last error: (?:Error: )?/, "");
  const detail = known === undefined ? plain : `${known[2]} (${plain})`;
  return new MicroError(`registry etcd: ${what}: ${detail}`, { id: source, code, cause });
}

/** The caller's limit has passed before etcd said anything; said to callers who might have heard of it. */
export function withAdvice(error: unknown, timeoutMs: number): unknown {
  if (!MicroError.is(error) || error.code !== "timeout" || timeoutMs < 1_000 || error.detail.includes(held))
    return error;
  return new MicroError(`${error.detail}; ${held}`, { id: source, code: "timeout", cause: error });
}

/** The token has expired, or users and roles have changed since it was made: a new session may do. */
export function isStaleSession(cause: unknown): boolean {
  return /invalid auth token|auth store is old/.test(cause instanceof Error ? cause.message : String(cause));
}

/** The revision asked for has been compacted. */
export function isCompacted(cause: unknown): boolean {
  return /revision has been compacted/.test(cause instanceof Error ? cause.message : String(cause));
}

/** The lease has expired or was revoked. */
export function isLeaseGone(cause: unknown): boolean {
  return MicroError.is(cause) && cause.code === "not_found";
}

export function closedError(): MicroError {
  return new MicroError("registry etcd: the registry is closed", { id: source, code: "closed" });
}
