/** Options of calls: the defaults of a client or a typed client, and one call's own over them. */
import { Metadata } from "../metadata.ts";
import type { Backoff, CallOptions, RetryPolicy } from "./client.ts";
import { exponentialBackoff, retryNotRun } from "./retry.ts";

/** Call options with every default filled in that a call needs. Made once per client and typed client. */
export interface CallDefaults extends CallOptions {
  readonly timeoutMs: number;
  readonly contentType: string;
  readonly retries: number;
  readonly retry: RetryPolicy;
  readonly backoff: Backoff;
  readonly metadata: Metadata | undefined;
}

const optionNames = [
  "address",
  "timeoutMs",
  "dialTimeoutMs",
  "streamTimeoutMs",
  "streamIdleTimeoutMs",
  "signal",
  "metadata",
  "contentType",
  "retries",
  "retry",
  "backoff",
  "select",
  "freshConnection",
  "maxMessageBytes",
  "cacheMs",
] as const satisfies readonly (keyof CallOptions)[];

/** What a client starts from: 5 s, JSON, one retry of what did not run. */
export const initialDefaults: CallDefaults = {
  timeoutMs: 5000,
  contentType: "application/json",
  retries: 1,
  retry: retryNotRun,
  backoff: exponentialBackoff,
  metadata: undefined,
};

/**
 * `own` over `defaults`; members that are undefined change nothing, and metadata is merged.
 * @throws {TypeError} for a value of the wrong kind.
 */
export function withOptions(defaults: CallDefaults, own: CallOptions | undefined): CallDefaults {
  if (own === undefined) return defaults;
  checkCallOptions(own);
  const merged: Record<string, unknown> = { ...defaults };
  for (const name of optionNames) if (own[name] !== undefined) merged[name] = own[name];
  if (own.metadata !== undefined) merged["metadata"] = new Metadata(defaults.metadata).merge(own.metadata);
  return merged as unknown as CallDefaults;
}

/** @throws {TypeError} for a value of the wrong kind. */
export function checkCallOptions(options: CallOptions): void {
  for (const name of ["timeoutMs", "dialTimeoutMs", "streamTimeoutMs", "streamIdleTimeoutMs", "cacheMs"] as const) {
    const value = options[name];
    if (value !== undefined && (typeof value !== "number" || Number.isNaN(value)))
      throw new TypeError(`${name} must be a number of milliseconds, not ${String(value)}`);
  }
  if (options.retries !== undefined && !(options.retries >= 0))
    throw new TypeError(`retries must be a number of at least 0, not ${String(options.retries)}`);
  if (options.maxMessageBytes !== undefined && !(options.maxMessageBytes > 0))
    throw new TypeError(`maxMessageBytes must be a number of bytes above 0, not ${String(options.maxMessageBytes)}`);
  for (const name of ["retry", "backoff"] as const)
    if (options[name] !== undefined && typeof options[name] !== "function")
      throw new TypeError(`${name} must be a function`);
}
