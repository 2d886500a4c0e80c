/**
 * Checks of the options objects that people write: a name that does not exist, and a number that cannot be meant, are
 * errors where they are passed, in one form for core and plugins.
 */
import type { Codec } from "./codec/codec.ts";
import type { Logger } from "./logger/logger.ts";
import type { Metadata } from "./metadata.ts";
import { nearest } from "./nearest.ts";
import { checkValue, shown, valueName, type OptionKind } from "./option-kinds.ts";

type SomeFunction = (...given: never[]) => unknown;
/** What is only found to be wrong where it is used: in a timer, or at the end of a call. */
type UsedLater =
  | SomeFunction
  | readonly SomeFunction[]
  | AbortSignal
  | AsyncDisposable
  | Logger
  | Metadata
  | ReadonlyMap<string, Codec>;

/**
 * Every option of a type, with the kind of its values, or true where that is checked elsewhere. The compiler notices one that is
 * missing or does not exist, and a function, signal or piece without a kind.
 */
export type OptionNames<Options> = {
  readonly [Name in keyof Options]-?: [Extract<NonNullable<Options[Name]>, UsedLater>] extends [never]
    ? true | OptionKind
    : OptionKind;
};

/** Node fires a timer with a longer delay at once. */
export const longestTimerMs = 0x7fff_ffff;

const units = /(?:Ms|Bytes|Seconds)$/;

/**
 * Refuse options that do not exist, such as `{ nmae: "greeter" }`, and values that are not of the kind beside the name.
 * @param what who takes them, e.g. `createService`: begins the error's text.
 * @throws {TypeError} naming the option and the one most likely meant, or what the value must be and is; or for something
 * that holds no options.
 */
export function checkOptionNames<Options extends object>(
  what: string,
  options: Options | undefined,
  names: OptionNames<Options>,
): void {
  if (options === undefined) return;
  if (typeof options !== "object" || options === null || Array.isArray(options))
    throw new TypeError(
      `${what}: options are an object, such as { ${Object.keys(names)[0] ?? ""}: … }, not ${valueName(options)}`,
    );
  const kinds = names as Readonly<Record<string, true | OptionKind>>;
  for (const name in options) {
    if (!Object.hasOwn(kinds, name)) throw unknownOption(what, name, Object.keys(names));
    const kind = kinds[name]!;
    if (kind !== true) checkValue(what, name, options[name], kind);
  }
}

/** The error of {@link checkOptionNames}, for those who find unknown names themselves. */
export function unknownOption(what: string, name: string, known: readonly string[]): TypeError {
  const meant = optionMeant(name, known);
  return new TypeError(
    `${what}: there is no option \`${shown(name)}\`${meant === undefined ? "" : `; did you mean \`${meant}\`?`}`,
  );
}

/** The known option that an unknown one is most likely meant to be; undefined where none is close. */
export function optionMeant(name: string, known: readonly string[]): string | undefined {
  // What people forget first is the unit: `timeout` is a `timeoutMs`.
  return (
    known.find((each) => each.replace(units, "") === name.replace(units, "")) ??
    nearest(
      name,
      known.filter((each) => each !== name),
    )
  );
}

/** Bounds of {@link checkNumber}. */
export interface NumberBounds {
  /** Default: 0. */
  readonly least?: number | undefined;
  /** Default: none, and Infinity is allowed: for limits, where it means none. */
  readonly most?: number | undefined;
  /** Default: false. */
  readonly whole?: boolean | undefined;
  /** What it counts, e.g. `milliseconds`. Default: nothing is said. */
  readonly unit?: string | undefined;
}

/**
 * Refuse a number that cannot be meant. Undefined passes: the default counts.
 * @throws {TypeError} naming the option, its bounds and the value.
 */
export function checkNumber(what: string, name: string, value: number | undefined, bounds: NumberBounds = {}): void {
  if (value === undefined) return;
  const { least = 0, most = Infinity, whole = false, unit } = bounds;
  if (typeof value === "number" && value >= least && value <= most && (!whole || Number.isInteger(value))) return;
  const number = `a ${whole ? "whole " : ""}number${unit === undefined ? "" : ` of ${unit}`}`;
  const range = most === Infinity ? `${least} or more` : `from ${least} to ${most}`;
  throw new TypeError(`${what}: \`${name}\` must be ${number}, ${range}, not ${valueName(value)}`);
}

/**
 * {@link checkNumber} for a time somebody waits in full: from 0 to the longest that a timer can, some 24 days. Limits
 * may be longer; timers that keep them take what they can ({@link timerDelay}).
 */
export function checkPause(what: string, name: string, value: number | undefined): void {
  checkNumber(what, name, value, { most: longestTimerMs, unit: "milliseconds" });
}

/** {@link checkNumber} for a limit in milliseconds: 0 or more, Infinity for none. */
export function checkLimit(what: string, name: string, value: number | undefined): void {
  checkNumber(what, name, value, { unit: "milliseconds" });
}

/** A delay that `setTimeout` keeps: a longer one would fire at once. */
export function timerDelay(delayMs: number): number {
  return delayMs > longestTimerMs ? longestTimerMs : delayMs;
}
