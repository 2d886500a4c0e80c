/**
 * Retry policies and backoff.
 *
 * A policy decides by the error of an attempt whether another one is made at all. Attempts on nodes that refused the
 * connection, or that are draining, do not count towards `retries` as long as there is a node not yet tried.
 */
import type { Backoff, RetryPolicy } from "./client.ts";

/** The default: only when the request provably did not run, so that nothing happens twice. */
export const retryNotRun: RetryPolicy = (error) => error.notRun;

/**
 * Also when the peer answered 408 or 500, as go-micro v2 does (`client/retry.go`): for calls that may run twice.
 */
export const retryOnError: RetryPolicy = (error) =>
  error.notRun || error.statusCode === 408 || error.statusCode === 500;

/** After every error but a cancelled call and a passed deadline: for calls that may run many times. */
export const retryAlways: RetryPolicy = () => true;

/** Never, not even when no connection could be made. */
export const retryNever: RetryPolicy = () => false;

/**
 * Go's waiting times (`util/backoff/backoff.go`): `floor(attempt^e) × 100 ms`, which is 0, 0.1, 0.6, 1.9, 4.3, 7.9, …
 * seconds, and two minutes from the fourteenth on. A wait that would end after the deadline is not begun.
 */
export const exponentialBackoff: Backoff = (attempt) => (attempt > 13 ? 120_000 : Math.floor(attempt ** Math.E) * 100);
