/** The logger: levels of go-micro, structured fields, children. */

export type LogLevel = "trace" | "debug" | "info" | "warn" | "error" | "fatal";

export type LogFields = Readonly<Record<string, unknown>>;

/** What a logger plugin implements. Must not throw. */
export interface Logger {
  readonly name: string;
  /** The lowest level written. */
  readonly level: LogLevel;
  /** True if a record of this level would be written: ask before building an expensive one. */
  enabled(level: LogLevel): boolean;
  log(level: LogLevel, message: string, fields?: LogFields): void;
  trace(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds `fields` to every record. */
  child(fields: LogFields): Logger;
}
