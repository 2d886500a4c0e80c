/** What callers of a registry give its operations: the same is refused by all of them, and the same works. */
import { checkOptionNames, timerDelay, type OptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import type { RegisterOptions, RegistryCallOptions, WatchOptions } from "./registry.ts";

/** A hundred years: what every backend's numbers can hold. */
const longestTtlMs = 100 * 365 * 24 * 3_600_000;

interface Given {
  register: RegisterOptions;
  deregister: RegistryCallOptions;
  getService: RegistryCallOptions;
  listServices: RegistryCallOptions;
  watch: WatchOptions;
}

const callNames: OptionNames<RegistryCallOptions> = { signal: optionKinds.signal, timeoutMs: true, domain: true };
const names: { readonly [Operation in RegistryOperation]: OptionNames<Given[Operation]> } = {
  register: { ...callNames, ttlMs: true },
  deregister: callNames,
  getService: callNames,
  listServices: callNames,
  watch: { service: true, domain: true, signal: optionKinds.signal, background: true },
};

/** What is checked by {@link checkRegistryCall}. */
export type RegistryOperation = keyof Given;

/**
 * Check the options of an operation; for authors of registries. Gives the limit, cut to what a timer can wait.
 * @throws {TypeError} For an option that does not exist, a `timeoutMs` that is not above 0, or a `ttlMs` that is not above
 * 0 and at most a hundred years.
 */
export function checkRegistryCall<Operation extends RegistryOperation>(
  operation: Operation,
  options: Given[Operation],
  defaultTimeoutMs?: number,
): { readonly timeoutMs: number | undefined } {
  checkOptionNames<Given[Operation]>(`registry.${operation}`, options, names[operation]);
  const { ttlMs, timeoutMs }: RegisterOptions = options;
  checkTtl(ttlMs);
  if (timeoutMs !== undefined && !(timeoutMs > 0)) throw new TypeError(`timeoutMs must be above 0, not ${timeoutMs}`);
  const limit = timeoutMs ?? defaultTimeoutMs;
  return { timeoutMs: limit === undefined ? undefined : timerDelay(limit) };
}

/** @throws {TypeError} @internal */
export function checkTtl(ttlMs: number | undefined): void {
  if (ttlMs !== undefined && !(ttlMs > 0 && ttlMs <= longestTtlMs))
    throw new TypeError(`ttlMs must be above 0 and at most ${longestTtlMs} (100 years), not ${ttlMs}`);
}
