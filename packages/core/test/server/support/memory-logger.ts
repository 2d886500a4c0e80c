import type { LogFields, LogLevel, Logger } from "../../../src/logger/logger.ts";

export interface LoggedRecord {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields | undefined;
}

/** A logger that keeps what it is told. */
export class MemoryLogger implements Logger {
  readonly name = "memory";
  readonly level = "trace";
  readonly records: LoggedRecord[] = [];

  enabled(): boolean {
    return true;
  }
  log(level: LogLevel, message: string, fields?: LogFields): void {
    this.records.push({ level, message, fields });
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
  child(): Logger {
    return this;
  }
}
