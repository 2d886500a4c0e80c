/** The default logger: one line per record on stderr, in go-micro's format (`logger/default.go`) or as JSON. */
import { builtin } from "../builtins.ts";
import { MicroError } from "../errors.ts";
import type { LogFields, Logger, LogLevel } from "./logger.ts";

const levels: readonly LogLevel[] = ["trace", "debug", "info", "warn", "error", "fatal"];

export interface ConsoleLoggerOptions {
  /** Lowest level written. Default: `info`. */
  level?: LogLevel | undefined;
  /** Added to every record. Default: none. */
  fields?: LogFields | undefined;
  /** Takes each line, newline included. Default: writes it to stderr. */
  write?: ((line: string) => void) | undefined;
  /** `go`: `2020-07-01 10:00:00  file=… level=info key=value message`; `json`: one object per line. Default: `go`. */
  format?: "go" | "json" | undefined;
  /** Says what time it is. Default: the system's clock. */
  clock?: (() => Date) | undefined;
  /** Add the place of the logging call as field `file`. Costs some microseconds per line written. Default: true. */
  source?: boolean | undefined;
}

/**
 * Create the default logger. `fatal` records are written like others; the process goes on.
 * @throws {TypeError} for a level that does not exist.
 */
export function consoleLogger(options: ConsoleLoggerOptions = {}): Logger {
  const { level = "info", fields = {}, format = "go" } = options;
  if (!levels.includes(level))
    throw new TypeError(`consoleLogger: \`level\` is ${JSON.stringify(level)}, not one of ${levels.join(", ")}`);
  if (format !== "go" && format !== "json") throw new TypeError("consoleLogger: `format` is neither `go` nor `json`");
  return new ConsoleLogger(
    {
      level,
      threshold: levels.indexOf(level),
      format,
      write: options.write ?? ((line) => void process.stderr.write(line)),
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

interface Settings {
  readonly level: LogLevel;
  readonly threshold: number;
  readonly format: "go" | "json";
  readonly write: (line: string) => void;
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
    const { write, clock, format, source, threshold } = this.#settings;
    const all = new Map<string, unknown>(Object.entries(this.#fields));
    if (fields !== undefined) for (const [key, value] of Object.entries(fields)) all.set(key, value);
    if (source) all.set("file", callerOfLogger());
    all.set("level", level);
    const withStack = threshold <= levels.indexOf("debug");
    // A logger must not fail: neither a value with a broken getter nor a closed stderr may end the caller.
    try {
      write(format === "go" ? goLine(clock(), message, all, withStack) : jsonLine(clock(), message, all, withStack));
    } catch (error) {
      try {
        write(`${goTime(new Date())}  level=error the logger failed: ${escaped(String(error))}\n`);
      } catch {
        return; // Nowhere left to report it.
      }
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

/** Keys sorted, `file` and `level` among them, as Go does. */
function goLine(time: Date, message: string, fields: ReadonlyMap<string, unknown>, withStack: boolean): string {
  let line = `${goTime(time)} `;
  for (const key of [...fields.keys()].toSorted()) {
    const value = fields.get(key);
    if (value !== undefined) line += ` ${escaped(key)}=${quoted(fieldText(value, withStack))}`;
  }
  return `${line} ${escaped(message)}\n`;
}

function jsonLine(time: Date, message: string, fields: ReadonlyMap<string, unknown>, withStack: boolean): string {
  const record = Object.create(null) as Record<string, unknown>;
  record["timestamp"] = time.toISOString();
  record["level"] = fields.get("level");
  record["message"] = message;
  for (const [key, value] of fields) if (!(key in record)) record[key] = jsonValue(value, withStack);
  return `${JSON.stringify(record)}\n`;
}

function jsonValue(value: unknown, withStack: boolean): unknown {
  if (value instanceof Error || MicroError.is(value)) return errorText(value, withStack);
  if (typeof value !== "object" || value === null) return typeof value === "bigint" ? value.toString() : value;
  try {
    // What JSON cannot hold (cycles, bigints) becomes text, like Go's %v.
    return JSON.stringify(value) === undefined ? undefined : value;
  } catch {
    return fieldText(value, withStack);
  }
}

function fieldText(value: unknown, withStack: boolean): string {
  if (typeof value === "string") return value;
  if (value instanceof Error || MicroError.is(value)) return errorText(value, withStack);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "invalid date" : value.toISOString();
  if (typeof value === "object" && value !== null)
    return builtin
      .util()
      .inspect(value, { depth: 4, breakLength: Infinity, compact: true, maxArrayLength: 20, maxStringLength: 500 });
  return String(value);
}

/** Code and message; the whole stack, causes included, where debug records are written. */
function errorText(error: Error, withStack: boolean): string {
  const code = (error as { code?: unknown }).code;
  const text = typeof code === "string" && code !== "" ? `${code}: ${error.message}` : error.message || error.name;
  return withStack ? `${text}\n${builtin.util().inspect(error)}` : text;
}

const pad = (value: number): string => (value < 10 ? `0${value}` : String(value));

/** Local time, as Go prints it. */
function goTime(time: Date): string {
  const date = `${time.getFullYear()}-${pad(time.getMonth() + 1)}-${pad(time.getDate())}`;
  return `${date} ${pad(time.getHours())}:${pad(time.getMinutes())}:${pad(time.getSeconds())}`;
}

/** One record is one line, and nothing in it moves a terminal's cursor. */
function escaped(text: string): string {
  // oxlint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u2028\u2029]/g, (character) => {
    if (character === "\n") return "\\n";
    if (character === "\r") return "\\r";
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** A value with blanks, quotes or `=` in it is quoted, so that a line can be taken apart again. */
function quoted(text: string): string {
  return text === "" || /[\s"=]/.test(text) ? escaped(JSON.stringify(text)) : escaped(text);
}

/** Methods of loggers, told by the convention of their class names: published, they share one file with their callers. */
const ofLogger = /^\s*at (?:callerOfLogger|\S*Logger\.(?:log|trace|debug|info|warn|error|fatal)) /;

/** `dir/file.ts:12` of the first frame outside of loggers. */
function callerOfLogger(): string | undefined {
  const frames = new Error("trace").stack?.split("\n") ?? [];
  for (const frame of frames.slice(1)) {
    if (ofLogger.test(frame) || frame.includes("node:")) continue;
    const place = /\(?((?:file:\/\/|\/|[A-Za-z]:\\)[^()]*?):(\d+):\d+\)?$/.exec(frame);
    if (place !== null) return `${place[1]!.split(/[\\/]/).slice(-2).join("/")}:${place[2]}`;
  }
  return undefined;
}
