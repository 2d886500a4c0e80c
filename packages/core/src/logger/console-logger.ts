/**
 * The default logger: a line per record on stderr, in go-micro's format (`logger/default.go`) or as JSON. What fails
 * unexpectedly is followed by where it happened.
 */
import { MicroError } from "../errors.ts";
import { checkOptionNames, type OptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import { isError } from "./error-text.ts";
import { messageText, readFields, unreadable } from "./fields.ts";
import { goText, jsonText, type Redact, type TextRecord } from "./record-text.ts";
import { callerOfLogger, framesOf, placeOf } from "./stack.ts";
import type { LogFields, Logger, LogLevel } from "./logger.ts";

const levels: readonly LogLevel[] = ["trace", "debug", "info", "warn", "error", "fatal"];

/** Of {@link ConsoleLoggerOptions.format}. */
export type LogFormat = "go" | "json";

export interface ConsoleLoggerOptions {
  /** Lowest level written. Default: `info`. */
  level?: LogLevel | undefined;
  /** Added to every record. Default: none. */
  fields?: LogFields | undefined;
  /** Takes each record as text, newline included. Default: writes it to stderr. */
  write?: ((text: string) => void) | undefined;
  /**
   * `go`: `2020-07-01 10:00:00  file=… level=info key=value message`, stacks on lines of their own below, indented by four
   * blanks; `json`: one object a line, for collectors. Default: `go`; in a service `MICRO_LOG_FORMAT` sets it.
   */
  format?: LogFormat | undefined;
  /**
   * Takes secrets out: gets every text before it is written, with the name of its field (`message` for the message; stacks
   * and causes come under the field of their error), and returns what is to be written. One that throws, or gives no text, hides it.
   * Default: none.
   */
  redact?: Redact | undefined;
  /** Says what time it is. Default: the system's clock. */
  clock?: (() => Date) | undefined;
  /**
   * Add the place in the program as field `file`: where an unexpected error was made, else where it logged; left out for what
   * the library logs on its own. Costs some microseconds per line written. Default: true.
   */
  source?: boolean | undefined;
}

/**
 * Create the default logger. `fatal` records are written like others; the process goes on.
 * @throws {TypeError} for a level that does not exist.
 */
export function consoleLogger(options: ConsoleLoggerOptions = {}): Logger {
  checkOptionNames("consoleLogger", options, optionNames);
  const { level = "info", fields = {}, format = "go" } = options;
  if (!levels.includes(level))
    throw new TypeError(`consoleLogger: \`level\` is ${JSON.stringify(level)}, not one of ${levels.join(", ")}`);
  if (!isFormat(format)) throw new TypeError("consoleLogger: `format` is neither `go` nor `json`");
  if (options.redact !== undefined && typeof options.redact !== "function")
    throw new TypeError("consoleLogger: `redact` must be a function");
  return new ConsoleLogger(
    {
      level,
      threshold: levels.indexOf(level),
      format,
      redact: options.redact,
      write: options.write ?? ((text) => void process.stderr.write(text)),
      clock: options.clock ?? (() => new Date()),
      source: options.source ?? true,
    },
    fields,
  );
}

/** Writes nothing. */
export const silentLogger: Logger = {
  name: "silent",
  level: "fatal",
  enabled: () => false,
  log() {},
  trace() {},
  debug() {},
  info() {},
  warn() {},
  error() {},
  child: () => silentLogger,
};

/**
 * Read a level's name, as in `MICRO_LOG_LEVEL`; case does not matter.
 * @throws {MicroError} `bad_request`, listing the levels.
 */
export function parseLogLevel(text: string): LogLevel {
  const level = levels.find((known) => known === text.trim().toLowerCase());
  if (level === undefined)
    throw new MicroError(`unknown log level ${JSON.stringify(text)}: use one of ${levels.join(", ")}`, {
      id: "logger",
      code: "bad_request",
    });
  return level;
}

/**
 * Read a format's name, as in `MICRO_LOG_FORMAT`; case does not matter.
 * @throws {MicroError} `bad_request`, naming both.
 */
export function parseLogFormat(text: string): LogFormat {
  const format = text.trim().toLowerCase();
  if (isFormat(format)) return format;
  throw new MicroError(`unknown log format ${JSON.stringify(text)}: use go or json`, {
    id: "logger",
    code: "bad_request",
  });
}

function isFormat(text: string): text is LogFormat {
  return text === "go" || text === "json";
}

const optionNames: OptionNames<ConsoleLoggerOptions> = {
  level: true,
  fields: true,
  write: optionKinds.function,
  format: true,
  redact: optionKinds.function,
  clock: optionKinds.function,
  source: true,
};

interface Settings {
  readonly level: LogLevel;
  readonly threshold: number;
  readonly format: LogFormat;
  readonly redact: Redact | undefined;
  readonly write: (text: string) => void;
  readonly clock: () => Date;
  readonly source: boolean;
}

class ConsoleLogger implements Logger {
  readonly name = "console";
  readonly #settings: Settings;
  readonly #fields: LogFields;

  constructor(settings: Settings, fields: LogFields) {
    this.#settings = settings;
    this.#fields = fields;
  }

  get level(): LogLevel {
    return this.#settings.level;
  }

  enabled(level: LogLevel): boolean {
    return levels.indexOf(level) >= this.#settings.threshold;
  }

  log(level: LogLevel, message: string, fields?: LogFields): void {
    if (!this.enabled(level)) return;
    const { write, clock, format, source, threshold, redact } = this.#settings;
    const all = new Map([...readFields(this.#fields), ...readFields(fields)]);
    const debugging = threshold <= levels.indexOf("debug");
    const unexpected = levels.indexOf(level) >= levels.indexOf("error");
    const stackOf: TextRecord["stackOf"] = (error) => {
      if (debugging) return "whole";
      // Failures that have a code are told by it: a registry that is away needs no stack.
      return unexpected && !MicroError.is(error) ? "own" : "none";
    };
    // A logger must not fail: neither a value with a broken getter nor a closed stderr may end the caller.
    const text = format === "go" ? goText : jsonText;
    const recordOf = (given: ReadonlyMap<string, unknown>): TextRecord => {
      const shown = new Map(given);
      if (source) shown.set("file", errorPlace(given, stackOf) ?? callerOfLogger());
      return { time: clock(), message: messageText(message), fields: shown.set("level", level), stackOf, redact };
    };
    try {
      let line: string;
      try {
        line = text(recordOf(all));
      } catch {
        // One of the fields: the others can be told, and so can the message.
        for (const [key, value] of all)
          try {
            text(recordOf(new Map([[key, value]])));
          } catch (error) {
            all.set(key, unreadable(error));
          }
        line = text(recordOf(all));
      }
      write(line);
    } catch {
      return; // Nowhere left to report it.
    }
  }

  trace(message: string, fields?: LogFields): void {
    this.log("trace", message, fields);
  }

  debug(message: string, fields?: LogFields): void {
    this.log("debug", message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.log("info", message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.log("warn", message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.log("error", message, fields);
  }

  child(fields: LogFields): Logger {
    return new ConsoleLogger(this.#settings, { ...this.#fields, ...fields });
  }
}

/** Where the error of a record was made, if it is one that has its stack shown. */
function errorPlace(fields: ReadonlyMap<string, unknown>, stackOf: TextRecord["stackOf"]): string | undefined {
  for (const value of fields.values())
    if (isError(value) && !MicroError.is(value) && stackOf(value) !== "none") return placeOf(framesOf(value.stack));
  return undefined;
}
