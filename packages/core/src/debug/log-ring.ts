/** The newest log records of a process, kept in memory for `Debug.Log`. */
import type { LogFields, LogLevel, Logger } from "../logger/logger.ts";
import { messageText, readFields, unreadable } from "../logger/fields.ts";
import { redacted, type Redact } from "../logger/record-text.ts";
import { checkOptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import { ownText } from "../own-text.ts";
import { thrownText } from "../thrown.ts";

/** One kept record. */
export interface LogRecord {
  /** Unix time, in milliseconds. */
  readonly timestampMs: number;
  readonly level: LogLevel;
  readonly message: string;
  /** Fields of the record and of the loggers it came through, as text. */
  readonly fields: ReadonlyMap<string, string>;
}

/** Which records to read. */
export interface LogQuery {
  /** Only records of this Unix time (milliseconds) and later. Default: all. */
  sinceMs?: number | undefined;
  /** At most this many, the newest. Default: all that are kept. */
  count?: number | undefined;
}

export interface LogRingOptions {
  /** Where records are passed on to. Its level decides what is kept, too. */
  logger: Logger;
  /** Takes secrets out of message and fields before they are kept: see `ConsoleLoggerOptions`. Default: none. */
  redact?: Redact | undefined;
  /** How many records are kept. Default: 1024, as Go. */
  size?: number | undefined;
}

const defaultSize = 1024;
const maxQueued = 1024;
const maxTextLength = 4096;

/** A ring of log records, filled by {@link LogRing.logger}. */
export interface LogRing {
  /** Passes records on to the logger it was made with, and keeps them. */
  readonly logger: Logger;
  /** Kept records, oldest first. */
  read(query?: LogQuery): LogRecord[];
  /**
   * Records from now on, until the loop is left or `signal` aborts. A reader that falls 1024 records behind loses the
   * oldest of them.
   */
  follow(signal?: AbortSignal): AsyncIterableIterator<LogRecord>;
}

/** Keep the newest records of a logger. @throws {TypeError} if `size` is not a positive whole number. */
export function logRing(options: LogRingOptions): LogRing {
  checkOptionNames("logRing", options, { logger: optionKinds.logger, redact: optionKinds.function, size: true });
  const size = options.size ?? defaultSize;
  if (!(Number.isSafeInteger(size) && size > 0))
    throw new TypeError(`logRing: \`size\` must be a positive whole number, not ${String(size)}`);
  return new Ring(options.logger, size, options.redact);
}

class Ring implements LogRing {
  readonly logger: Logger;
  readonly #size: number;
  readonly #records: LogRecord[] = [];
  readonly #followers = new Set<(record: LogRecord) => void>();
  /** Where the oldest record is, once the ring is full. */
  #start = 0;

  constructor(logger: Logger, size: number, redact: Redact | undefined) {
    this.#size = size;
    this.logger = new RingLogger(logger, (record) => this.#keep(cleaned(record, redact)), {});
  }

  #keep(record: LogRecord): void {
    if (this.#records.length < this.#size) this.#records.push(record);
    else {
      this.#records[this.#start] = record;
      this.#start = (this.#start + 1) % this.#size;
    }
    for (const follower of this.#followers) follower(record);
  }

  read({ sinceMs, count }: LogQuery = {}): LogRecord[] {
    const ordered = [...this.#records.slice(this.#start), ...this.#records.slice(0, this.#start)];
    const recent = sinceMs === undefined ? ordered : ordered.filter(({ timestampMs }) => timestampMs >= sinceMs);
    return count === undefined || count >= recent.length ? recent : recent.slice(recent.length - Math.max(0, count));
  }

  follow(signal?: AbortSignal): AsyncIterableIterator<LogRecord> {
    const queue: LogRecord[] = [];
    let wake: (() => void) | undefined;
    const follower = (record: LogRecord): void => {
      if (queue.length >= maxQueued) queue.shift();
      queue.push(record);
      wake?.();
    };
    let stopped = false;
    const stop = (): void => {
      stopped = true;
      this.#followers.delete(follower);
      signal?.removeEventListener("abort", stop);
      wake?.();
    };
    this.#followers.add(follower);
    signal?.addEventListener("abort", stop);
    if (signal?.aborted === true) stop();
    const ended: IteratorResult<LogRecord> = { done: true, value: undefined };
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      async next() {
        for (;;) {
          if (stopped) return ended;
          const record = queue.shift();
          if (record !== undefined) return { done: false, value: record };
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      },
      async return() {
        stop();
        return ended;
      },
    };
  }
}

class RingLogger implements Logger {
  readonly name: string;
  readonly #inner: Logger;
  readonly #keep: (record: LogRecord) => void;
  readonly #fields: LogFields;

  constructor(inner: Logger, keep: (record: LogRecord) => void, fields: LogFields) {
    this.name = inner.name;
    this.#inner = inner;
    this.#keep = keep;
    this.#fields = fields;
  }

  get level(): LogLevel {
    return this.#inner.level;
  }

  enabled(level: LogLevel): boolean {
    return this.#inner.enabled(level);
  }

  log(level: LogLevel, message: string, fields?: LogFields): void {
    this.#inner.log(level, message, fields);
    if (!this.#inner.enabled(level)) return;
    this.#keep({
      timestampMs: Date.now(),
      level,
      message: shortened(messageText(message)),
      fields: textFields(this.#fields, fields),
    });
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
    return new RingLogger(this.#inner.child(fields), this.#keep, { ...this.#fields, ...fields });
  }
}

function cleaned(record: LogRecord, redact: Redact | undefined): LogRecord {
  if (redact === undefined) return record;
  return {
    ...record,
    message: redacted(redact, record.message, "message"),
    fields: new Map([...record.fields].map(([name, text]) => [name, redacted(redact, text, name)])),
  };
}

/** Fields as text at once: a kept object would change, or keep alive what it refers to. */
function textFields(...given: readonly (LogFields | undefined)[]): ReadonlyMap<string, string> {
  const texts = new Map<string, string>();
  for (const fields of given)
    for (const [name, value] of readFields(fields)) texts.set(name, shortened(fieldText(value)));
  return texts;
}

/** Anything may be logged. */
function fieldText(value: unknown): string {
  if (typeof value === "string") return value;
  try {
    if (value instanceof Error) return thrownText(value);
    return JSON.stringify(value) ?? String(value);
  } catch (error) {
    return unreadable(error);
  }
}

function shortened(text: string): string {
  return text.length <= maxTextLength ? text : `${ownText(text.slice(0, maxTextLength))}…`;
}
