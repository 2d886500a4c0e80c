/**
 * Flags and their variables: definitions, parsing, values.
 *
 * The syntax is Go's `flag` package: `--name=value`, `--name value`, one dash or two, `--name` alone for booleans; `--`
 * or the first argument that is no flag ends them. A flag on the command line wins over its variable, that over its
 * default.
 */
import { nearest } from "../nearest.ts";
import { checkOptionNames, type OptionNames } from "../option-check.ts";
import { parseDuration } from "./duration.ts";

/** `duration` is Go's (`5s`), read as milliseconds; `list` is repeatable and comma separated; `map` is a list of `key=value`. */
export type FlagType = "string" | "boolean" | "integer" | "number" | "duration" | "list" | "map";

/** A flag of the program or of a plugin. Go's `cli.StringFlag` and its siblings. */
export interface FlagDefinition {
  /** Name without dashes, e.g. `environment`. */
  name: string;
  /** Default: `string`. */
  type?: FlagType | undefined;
  /** What it is for, shown by `--help`. Default: empty. */
  usage?: string | undefined;
  /** Variable, or variables, that set it; the first one set and not empty counts. Default: none. */
  variable?: string | readonly string[] | undefined;
  /** Value when neither is given, as one would write it on the command line, e.g. `"5s"`. Default: none. */
  default?: string | undefined;
  /** Do not show it in `--help`. Default: false. */
  hidden?: boolean | undefined;
}

/** The process was started with something it cannot use. Printed as one line; the process ends with code 1. */
export class UsageError extends Error {
  override get name(): string {
    return "UsageError";
  }
}

type FlagValue = string | boolean | number | readonly string[] | ReadonlyMap<string, string>;

interface Given {
  readonly value: FlagValue;
  /** What to name in an error: `--server_name` or `MICRO_SERVER_NAME`; undefined for defaults. */
  readonly source: string | undefined;
}

/** Parsed flags, as `action` and plugins get them. Go's `cli.Context`. */
export class FlagValues {
  readonly #given: ReadonlyMap<string, Given>;
  readonly #definitions: ReadonlyMap<string, FlagDefinition>;
  /** What follows the flags. */
  readonly args: readonly string[];

  /** @internal */
  constructor(
    definitions: ReadonlyMap<string, FlagDefinition>,
    given: ReadonlyMap<string, Given>,
    args: readonly string[],
  ) {
    this.#definitions = definitions;
    this.#given = given;
    this.args = args;
  }

  /** True if the command line or a variable set it. */
  isSet(name: string): boolean {
    this.#definition(name);
    return this.#given.get(name)?.source !== undefined;
  }

  /** What set it, `--name` or the variable; undefined for a default. */
  source(name: string): string | undefined {
    this.#definition(name);
    return this.#given.get(name)?.source;
  }

  /** Value of a `string` flag; empty when it has none. */
  string(name: string): string {
    return (this.#value(name, "string") as string | undefined) ?? "";
  }

  /** Value of a `boolean` flag; false when it has none. */
  boolean(name: string): boolean {
    return (this.#value(name, "boolean") as boolean | undefined) ?? false;
  }

  /** Value of an `integer` or `number` flag; 0 when it has none. */
  number(name: string): number {
    return (this.#value(name, "integer", "number") as number | undefined) ?? 0;
  }

  /** Value of a `duration` flag, in milliseconds; 0 when it has none. */
  durationMs(name: string): number {
    return (this.#value(name, "duration") as number | undefined) ?? 0;
  }

  /** Values of a `list` flag; empty when it has none. */
  list(name: string): readonly string[] {
    return (this.#value(name, "list") as readonly string[] | undefined) ?? [];
  }

  /** Entries of a `map` flag; empty when it has none. */
  map(name: string): ReadonlyMap<string, string> {
    return (this.#value(name, "map") as ReadonlyMap<string, string> | undefined) ?? new Map();
  }

  #definition(name: string): FlagDefinition {
    const definition = this.#definitions.get(name);
    if (definition === undefined) throw new TypeError(`no flag is called ${JSON.stringify(name)}`);
    return definition;
  }

  #value(name: string, ...types: readonly FlagType[]): FlagValue | undefined {
    const type = this.#definition(name).type ?? "string";
    if (!types.includes(type)) throw new TypeError(`flag ${JSON.stringify(name)} is a ${type}, not a ${types[0]}`);
    return this.#given.get(name)?.value;
  }
}

const definitionNames: OptionNames<FlagDefinition> = {
  name: true,
  type: true,
  usage: true,
  variable: true,
  default: true,
  hidden: true,
};

/** @param own flags of the program and of plugins. @throws {TypeError} for a member of a definition that does not exist. */
export function checkFlagDefinitions(own: readonly FlagDefinition[]): void {
  for (const definition of own) checkOptionNames(`flags: --${definition.name}`, definition, definitionNames);
}

/** Flags by name. @throws {TypeError} for a name that is taken or cannot be typed. */
export function flagMap(definitions: Iterable<FlagDefinition>): Map<string, FlagDefinition> {
  const map = new Map<string, FlagDefinition>();
  for (const definition of definitions) {
    const { name } = definition;
    if (!/^[^\s=-][^\s=]*$/.test(name))
      throw new TypeError(
        `flags: ${JSON.stringify(name)} cannot be the name of a flag; write it without dashes in front`,
      );
    if (map.has(name)) throw new TypeError(`flags: --${name} is defined twice`);
    if (definition.default !== undefined) {
      try {
        readValue(definition, [definition.default]);
      } catch (error) {
        throw new TypeError(`flags: default of --${name}: ${(error as Error).message}`, { cause: error });
      }
    }
    map.set(name, definition);
  }
  return map;
}

/** The variables that set a flag. */
export function flagVariables(definition: FlagDefinition): readonly string[] {
  const { variable } = definition;
  if (variable === undefined) return [];
  return typeof variable === "string" ? [variable] : variable;
}

/** @throws {UsageError} naming the flag or variable, the value and what is allowed. */
export function parseFlags(
  definitions: ReadonlyMap<string, FlagDefinition>,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): FlagValues {
  const texts = new Map<string, string[]>();
  let index = 0;
  for (; index < args.length; index++) {
    const arg = args[index]!;
    if (arg === "--") {
      index++;
      break;
    }
    if (!arg.startsWith("-") || arg === "-") break;
    const { name, value } = splitFlag(arg);
    const definition = definitions.get(name);
    if (definition === undefined) throw unknownFlag(name, definitions);
    let text = value;
    if (text === undefined) {
      if (definition.type === "boolean") text = "true";
      else if (index + 1 < args.length) text = args[++index]!;
      else throw new UsageError(`--${name} needs a value: --${name}=VALUE`);
    }
    const given = texts.get(name);
    if (given === undefined) texts.set(name, [text]);
    else given.push(text);
  }

  const given = new Map<string, Given>();
  for (const definition of definitions.values()) {
    const { name } = definition;
    const variable = flagVariables(definition).find((candidate) => (env[candidate] ?? "") !== "");
    const typed = texts.get(name);
    const value = typed ?? (variable === undefined ? definition.default : env[variable]);
    if (value === undefined) continue;
    const source = typed === undefined ? variable : `--${name}`;
    try {
      given.set(name, { value: readValue(definition, typeof value === "string" ? [value] : value), source });
    } catch (error) {
      throw new UsageError(`${source ?? `--${name}`}: ${(error as Error).message}`, { cause: error });
    }
  }
  return new FlagValues(definitions, given, args.slice(index));
}

/** Values of one list flag, read before the flags are known: a plugin may bring flags of its own. */
export function scanFlag(name: string, args: readonly string[]): string[] | undefined {
  let found: string[] | undefined;
  for (let index = 0; index < args.length && args[index] !== "--"; index++) {
    const match = /^--?([^=-][^=]*)(?:=(.*))?$/s.exec(args[index]!);
    if (match?.[1] !== name) continue;
    const value = match[2] ?? args[++index];
    if (value !== undefined) (found ??= []).push(...splitList(value));
  }
  return found;
}

/** Parts of a comma-separated list, trimmed, empty ones left out. */
export function splitList(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

function splitFlag(arg: string): { name: string; value: string | undefined } {
  const body = arg.replace(/^--?/, "");
  const equals = body.indexOf("=");
  const name = equals < 0 ? body : body.slice(0, equals);
  if (name === "" || name.startsWith("-"))
    throw new UsageError(`${JSON.stringify(arg)} is no flag; write --name=value, --help lists the flags`);
  return { name, value: equals < 0 ? undefined : body.slice(equals + 1) };
}

function unknownFlag(name: string, definitions: ReadonlyMap<string, FlagDefinition>): UsageError {
  const known = [...definitions.values()].filter(({ hidden }) => hidden !== true).map((definition) => definition.name);
  const meant = known.find((each) => plain(each) === plain(name)) ?? nearest(name, known);
  return new UsageError(
    meant === undefined
      ? `unknown flag --${name}; --help lists the flags`
      : `unknown flag --${name}; did you mean --${meant}?`,
  );
}

/** A name without what people get wrong in it. */
function plain(name: string): string {
  return name.toLowerCase().replace(/[-_]/g, "");
}

/** @throws {TypeError} saying what is wrong with the text. */
function readValue(definition: FlagDefinition, texts: readonly string[]): FlagValue {
  const text = texts.at(-1)!;
  switch (definition.type) {
    case "boolean":
      // What Go's strconv.ParseBool takes.
      if (/^(?:1|t|T|TRUE|true|True)$/.test(text)) return true;
      if (/^(?:0|f|F|FALSE|false|False)$/.test(text)) return false;
      throw new TypeError(`${JSON.stringify(text)} is neither true nor false`);
    case "integer": {
      const number = Number(text);
      if (!/^[+-]?\d+$/.test(text) || !Number.isSafeInteger(number))
        throw new TypeError(`${JSON.stringify(text)} is no whole number`);
      return number;
    }
    case "number": {
      const number = Number(text);
      if (text.trim() === "" || !Number.isFinite(number)) throw new TypeError(`${JSON.stringify(text)} is no number`);
      return number;
    }
    case "duration":
      return parseDuration(text);
    case "list":
      return texts.flatMap(splitList);
    case "map":
      return new Map(
        texts.flatMap(splitList).map((part) => {
          const equals = part.indexOf("=");
          // More likely a slip than an empty value, which can be written as such.
          if (equals < 0)
            throw new TypeError(`${JSON.stringify(part)} has no value; write key=value, or key= for an empty one`);
          return [part.slice(0, equals), part.slice(equals + 1)];
        }),
      );
    default:
      return text;
  }
}
