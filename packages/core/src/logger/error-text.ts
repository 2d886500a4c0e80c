/** Errors in a log: what they say in one line, and below it where they come from. */
import { MicroError } from "../errors.ts";
import { framesOf, tellingFrames } from "./stack.ts";

const maxFrames = 20;
const maxCauses = 5;
const maxErrors = 5;

/** Whether a value is logged as an error. */
export function isError(value: unknown): value is Error {
  return value instanceof Error || MicroError.is(value);
}

/** `not_found: no node`, `TypeError: x is not a function`. */
export function errorLine(error: Error): string {
  const { name, message } = error;
  const code = (error as { code?: unknown }).code;
  if (typeof code === "string" && code !== "" && !message.includes(code)) return `${code}: ${message}`;
  if (MicroError.is(error) || name === "Error") return message || name;
  return message === "" ? name : `${name}: ${message}`;
}

/**
 * Where an error was made, and its causes, a line each.
 * @param whole with the frames of this library, too.
 */
export function errorLines(error: Error, whole: boolean): string[] {
  const lines = frameLines(error, whole);
  let cause: unknown = error.cause;
  for (let depth = 0; cause !== undefined && depth < maxCauses; depth++) {
    lines.push(`caused by ${isError(cause) ? errorLine(cause) : textOf(cause)}`);
    if (!isError(cause)) break;
    lines.push(...frameLines(cause, whole));
    cause = cause.cause;
  }
  return lines;
}

function frameLines(error: Error, whole: boolean): string[] {
  const frames = framesOf(error.stack);
  const lines = (whole ? frames : tellingFrames(frames)).slice(0, maxFrames).map((frame) => frame.trim());
  if (error instanceof AggregateError)
    for (const each of (error.errors as unknown[]).slice(0, maxErrors)) {
      lines.push(`one of ${error.errors.length}: ${isError(each) ? errorLine(each) : textOf(each)}`);
      if (isError(each)) lines.push(...frameLines(each, whole));
    }
  return lines;
}

/** The same as an object, for JSON. @param withStack false leaves stacks and causes out. */
export function errorObject(error: Error, withStack: boolean, depth = 0): Record<string, unknown> {
  const { code, statusCode } = error as { code?: unknown; statusCode?: unknown };
  const { cause } = error;
  return {
    type: error.name,
    ...(typeof code === "string" || typeof code === "number" ? { code } : {}),
    ...(typeof statusCode === "number" ? { statusCode } : {}),
    message: error.message,
    ...(withStack ? { stack: error.stack } : {}),
    ...(withStack && cause !== undefined && depth < maxCauses
      ? { cause: isError(cause) ? errorObject(cause, true, depth + 1) : textOf(cause) }
      : {}),
  };
}

/** Anything may be a cause, even what has no text. */
function textOf(value: unknown): string {
  try {
    return String(value);
  } catch {
    return "something without a text";
  }
}
