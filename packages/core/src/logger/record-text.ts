/** Records as text: in go-micro's format (`logger/default.go`), with what belongs to errors on lines below, or as JSON. */
import { builtin } from "../builtins.ts";
import { errorLine, errorLines, errorObject, isError } from "./error-text.ts";

/** See `ConsoleLoggerOptions.redact`. */
export type Redact = (text: string, field: string) => string;

/** One record, on its way to be written. */
export interface TextRecord {
  readonly time: Date;
  readonly message: string;
  /** `level` and `file` among them. */
  readonly fields: ReadonlyMap<string, unknown>;
  /** Whether errors are shown with where they come from. */
  readonly stackOf: (error: Error) => "none" | "own" | "whole";
  readonly redact: Redact | undefined;
}

/** Keys sorted, `file` and `level` among them, as Go does. Lines below the first are indented: no text can pose as a record. */
export function goText({ time, message, fields, stackOf, redact }: TextRecord): string {
  let line = `${goTime(time)} `;
  let below = "";
  for (const key of [...fields.keys()].toSorted()) {
    const value = fields.get(key);
    if (value === undefined) continue;
    line += ` ${escaped(key)}=${quoted(redactedField(redact, fieldText(value), key))}`;
    const stack = isError(value) ? stackOf(value) : "none";
    if (stack === "none") continue;
    for (const each of errorLines(value as Error, stack === "whole"))
      below += `    ${escaped(redactedField(redact, each, key))}\n`;
  }
  return `${line} ${escaped(redacted(redact, message, "message"))}\n${below}`;
}

/** One object on one line. */
export function jsonText({ time, message, fields, stackOf, redact }: TextRecord): string {
  const record = Object.create(null) as Record<string, unknown>;
  record["timestamp"] = time.toISOString();
  record["level"] = fields.get("level");
  record["message"] = redacted(redact, message, "message");
  for (const [key, value] of fields)
    if (!(key in record)) record[key] = redactedValue(redact, jsonValue(value, stackOf), key);
  // JSON leaves some of them as they are; in its texts they may be written so, and elsewhere there are none.
  return `${escaped(JSON.stringify(record))}\n`;
}

function jsonValue(value: unknown, stackOf: TextRecord["stackOf"]): unknown {
  if (isError(value)) return errorObject(value, stackOf(value) !== "none");
  if (typeof value !== "object" || value === null) return typeof value === "bigint" ? value.toString() : value;
  try {
    // What JSON cannot hold (cycles, bigints) becomes text, like Go's %v.
    return JSON.stringify(value) === undefined ? undefined : value;
  } catch {
    return fieldText(value);
  }
}

function redactedValue(redact: Redact | undefined, value: unknown, field: string): unknown {
  if (redact === undefined || value === undefined) return value;
  if (typeof value === "string") return redactedField(redact, value, field);
  const text = JSON.stringify(value);
  const clean = redactedField(redact, text, field);
  if (clean === text) return value;
  try {
    return JSON.parse(clean) as unknown;
  } catch {
    return clean;
  }
}

/** What the logger says itself holds no secrets. */
function redactedField(redact: Redact | undefined, text: string, field: string): string {
  return field === "level" || field === "file" ? text : redacted(redact, text, field);
}

/** What `redact` leaves of a text. One that fails, or gives no text, hides it: it may have failed on the very secret. */
export function redacted(redact: Redact | undefined, text: string, field: string): string {
  if (redact === undefined) return text;
  try {
    const clean: unknown = redact(text, field);
    return typeof clean === "string" ? clean : "[redacted]";
  } catch {
    return "[redacted]";
  }
}

function fieldText(value: unknown): string {
  if (typeof value === "string") return value;
  if (isError(value)) return errorLine(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "invalid date" : value.toISOString();
  if (typeof value === "object" && value !== null)
    return builtin
      .util()
      .inspect(value, { depth: 4, breakLength: Infinity, compact: true, maxArrayLength: 20, maxStringLength: 500 });
  return String(value);
}

const pad = (value: number): string => (value < 10 ? `0${value}` : String(value));

/** Local time, as Go prints it. */
export function goTime(time: Date): string {
  const date = `${time.getFullYear()}-${pad(time.getMonth() + 1)}-${pad(time.getDate())}`;
  return `${date} ${pad(time.getHours())}:${pad(time.getMinutes())}:${pad(time.getSeconds())}`;
}

/** A line stays a line, and nothing in it moves a terminal's cursor or turns what is read around. */
export function escaped(text: string): string {
  return text.replace(
    // oxlint-disable-next-line no-control-regex
    /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (character) => {
      if (character === "\n") return "\\n";
      if (character === "\r") return "\\r";
      return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
    },
  );
}

/** A value with blanks, quotes or `=` in it is quoted, so that a line can be taken apart again. */
function quoted(text: string): string {
  return text === "" || /[\s"=]/.test(text) ? escaped(JSON.stringify(text)) : escaped(text);
}
