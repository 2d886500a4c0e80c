/**
 * Options of publishes and subscriptions that do not exist are refused. What other brokers have is not: a program may be
 * written for several, and choose one when it starts.
 */
import { checkValue, type OptionKind, optionKinds } from "../option-kinds.ts";
import { checkOptionNames, optionMeant, unknownOption, type OptionNames } from "../option-check.ts";
import type { PublishOptions, SubscribeOptions } from "./broker.ts";

/** Names of options that are taken beside those of every broker, such as a broker's own key. */
export type FurtherOptions = Readonly<Record<string, true | OptionKind>>;

// Without the keys that plugins add to the types: in a program that knows them they are not core's either.
const publishNames = { timeoutMs: true, signal: optionKinds.signal } as const satisfies Partial<
  OptionNames<PublishOptions>
>;

const subscribeNames = {
  queue: true,
  autoAck: true,
  concurrency: true,
  prefetch: true,
  prefetchBytes: true,
  maxMessageBytes: true,
  retries: true,
  backoff: optionKinds.function,
  deadLetter: true,
  onError: optionKinds.function,
  logger: optionKinds.logger,
  signal: optionKinds.signal,
} as const satisfies Partial<OptionNames<SubscribeOptions>>;

/**
 * For authors of brokers, at the beginning of every publish: refuse options that do not exist. A plain object under a
 * name that is like none of the known ones is taken for another broker's options, and left alone.
 * @param further e.g. `{ kafka: true }` for a broker that has options of its own under that key.
 * @throws {TypeError} naming the option and the one most likely meant, or for something that holds no options.
 */
export function checkPublishOptions(options: PublishOptions | undefined, further?: FurtherOptions): void {
  check("publish", options, publishNames, further);
}

/** The same for subscriptions; {@link Consumer} does it for every broker that is made of it. */
export function checkSubscribeOptions(options: SubscribeOptions | undefined, further?: FurtherOptions): void {
  check("subscribe", options, subscribeNames, further);
}

/** @param what begins the error's text. */
export function checkEventPublishOptions(what: string, options: PublishOptions | undefined): void {
  // An object, so that it would be taken for a broker's.
  for (const name of ["header", "headers"])
    if (typeof options === "object" && options !== null && Object.hasOwn(options, name))
      throw new TypeError(`${what}: there is no option \`${name}\`; did you mean \`metadata\`?`);
  check(what, options, publishNames, eventNames);
}

const eventNames = { metadata: optionKinds.metadata, contentType: true, exchange: true } as const;

function check(what: string, options: object | undefined, names: FurtherOptions, further: FurtherOptions = none): void {
  if (options === undefined) return;
  if (typeof options !== "object" || options === null) checkOptionNames<object>(what, options, names);
  for (const name in options) {
    const value: unknown = options[name as keyof typeof options];
    const kind = Object.hasOwn(names, name) ? names[name] : Object.hasOwn(further, name) ? further[name] : undefined;
    if (kind !== undefined) {
      if (kind !== true) checkValue(what, name, value, kind);
      continue;
    }
    const known = [...Object.keys(names), ...Object.keys(further)];
    if (!isPlain(value) || optionMeant(name, known) !== undefined) throw unknownOption(what, name, known);
  }
}

const none: FurtherOptions = {};

function isPlain(value: unknown): boolean {
  if (value === undefined) return true;
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
