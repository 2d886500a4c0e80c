/** Options of calls: the defaults of a client or a typed client, and one call's own over them. */
import { Metadata } from "../metadata.ts";
import { checkOptionNames, unknownOption, type OptionNames } from "../option-check.ts";
import { checkValue, isOwnSignal, optionKinds, wrongValue, type OptionKind } from "../option-kinds.ts";
import type { SelectOptions } from "../selector/selector.ts";
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

const names: OptionNames<CallOptions> = {
  address: optionKinds.nodeAddresses,
  timeoutMs: true,
  dialTimeoutMs: true,
  streamTimeoutMs: true,
  streamIdleTimeoutMs: true,
  signal: optionKinds.signal,
  metadata: optionKinds.metadata,
  contentType: optionKinds.text,
  retries: true,
  retry: optionKinds.function,
  backoff: optionKinds.function,
  select: true,
  freshConnection: optionKinds.flag,
  maxMessageBytes: true,
  cacheMs: true,
};
const optionNames = Object.keys(names) as (keyof CallOptions)[];
const selectNames: OptionNames<SelectOptions> = {
  filters: optionKinds.functions,
  strategy: optionKinds.functionOrText,
  domain: true,
};

/** What a client starts from: 5 s, JSON, one retry of what did not run. */
export const initialDefaults: CallDefaults = {
  timeoutMs: 5000,
  contentType: "application/json",
  retries: 1,
  retry: retryNotRun,
  backoff: exponentialBackoff,
  metadata: undefined,
};

/** `own`, which is checked already, over `defaults`; members that are undefined change nothing, and metadata is merged. */
export function withOptions(defaults: CallDefaults, own: CallOptions | undefined): CallDefaults {
  if (own === undefined) return defaults;
  const merged: Record<string, unknown> = { ...defaults };
  for (const name of optionNames) if (own[name] !== undefined) merged[name] = own[name];
  if (own.metadata !== undefined) merged["metadata"] = new Metadata(defaults.metadata).merge(own.metadata);
  return merged as unknown as CallDefaults;
}

/**
 * Done for every call, so it looks at what is given only, and by a `switch`: a table would take twice as long.
 * @param what who takes them, made to a text for an error: begins it.
 * @param more options that are taken beside those of calls.
 * @throws {TypeError} for an option that does not exist, or a value of the wrong kind.
 */
export function checkCallOptions(
  what: { toString(): string },
  options: CallOptions,
  more?: Readonly<Record<string, true | OptionKind>>,
): void {
  // Says what options are.
  if (typeof options !== "object" || options === null) checkOptionNames(what.toString(), options, names);
  for (const given in options) {
    const name = given as keyof CallOptions;
    switch (name) {
      case "timeoutMs":
      case "dialTimeoutMs":
      case "streamTimeoutMs":
      case "streamIdleTimeoutMs":
      case "cacheMs":
        if (options[name] === undefined || (typeof options[name] === "number" && !Number.isNaN(options[name]))) break;
        throw wrongValue(what, name, options[name], "a number of milliseconds");
      // The usual ones, before they are looked at in every way.
      case "signal":
        if (isOwnSignal(options.signal)) break;
        checkValue(what, name, options[name], optionKinds.signal);
        break;
      case "address":
        if (typeof options.address === "string" && options.address !== "") break;
        checkValue(what, name, options[name], optionKinds.nodeAddresses);
        break;
      case "metadata":
        checkValue(what, name, options[name], optionKinds.metadata);
        break;
      case "contentType":
        checkValue(what, name, options[name], optionKinds.text);
        break;
      case "freshConnection":
        checkValue(what, name, options[name], optionKinds.flag);
        break;
      case "retries":
        if (options.retries === undefined || (typeof options.retries === "number" && options.retries >= 0)) break;
        throw wrongValue(what, name, options.retries, "a number of at least 0");
      case "maxMessageBytes":
        if (options[name] === undefined || (typeof options[name] === "number" && options[name] > 0)) break;
        throw wrongValue(what, name, options[name], "a number of bytes above 0");
      case "retry":
      case "backoff":
        checkValue(what, name, options[name], optionKinds.function);
        break;
      case "select":
        checkOptionNames(`${what.toString()}: select`, options.select, selectNames);
        break;
      default:
        name satisfies never;
        if (more === undefined || !Object.hasOwn(more, given))
          throw unknownOption(what.toString(), given, [...optionNames, ...Object.keys(more ?? {})]);
        if (more[given] !== true) checkValue(what, given, options[name], more[given]!);
    }
  }
}
