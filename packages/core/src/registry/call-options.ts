/** The times that callers of a registry give: the same are refused by all of them, and the same work. */
import { timerDelay } from "../option-check.ts";
import type { RegisterOptions } from "./registry.ts";

/** A hundred years: what every backend's numbers can hold. */
const longestTtlMs = 100 * 365 * 24 * 3_600_000;

/**
 * Check the times of an operation; for authors of registries. Gives the limit, cut to what a timer can wait.
 * @throws {TypeError} For a `timeoutMs` that is not above 0, or a `ttlMs` that is not above 0 and at most a hundred years.
 */
export function checkRegistryTimes(
  { ttlMs, timeoutMs }: Pick<RegisterOptions, "ttlMs" | "timeoutMs">,
  defaultTimeoutMs?: number,
): { readonly timeoutMs: number | undefined } {
  if (ttlMs !== undefined && !(ttlMs > 0 && ttlMs <= longestTtlMs))
    throw new TypeError(`ttlMs must be above 0 and at most ${longestTtlMs} (100 years), not ${ttlMs}`);
  if (timeoutMs !== undefined && !(timeoutMs > 0)) throw new TypeError(`timeoutMs must be above 0, not ${timeoutMs}`);
  const limit = timeoutMs ?? defaultTimeoutMs;
  return { timeoutMs: limit === undefined ? undefined : timerDelay(limit) };
}
