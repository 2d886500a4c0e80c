/** Values in error texts, and the errors of those that a field cannot hold. */
import { isBytes } from "./realms.ts";

/** The error of a value that a field cannot hold. */
export function wrong(value: unknown, what: string): TypeError {
  return new TypeError(`${shown(value)} is not ${what}${isPromise(value) ? forgotten : ""}`);
}

/** Said of a promise, wherever something else belongs. */
export const forgotten = ": did you forget an await?";

/** True for whatever can be awaited. */
export function isPromise(value: unknown): boolean {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

/** A value as error texts show it. */
export function shown(value: unknown): string {
  if (typeof value === "string")
    return JSON.stringify(value.length > 40 ? `${value.slice(0, 40).toWellFormed()}…` : value);
  if (value === null || typeof value === "number" || typeof value === "boolean" || value === undefined)
    return String(value);
  if (typeof value === "bigint") return `${value}n`;
  return typeof value === "object" ? shownObject(value) : `a ${typeof value}`;
}

/** `an object`, `an array`, `a Date`. */
function shownObject(value: object): string {
  if (Array.isArray(value)) return "an array";
  if (isBytes(value)) return "a Uint8Array";
  const kind = Object.prototype.toString.call(value).slice("[object ".length, -1);
  if (kind === "Object") return "an object";
  return `${/^[AEIO]/.test(kind) ? "an" : "a"} ${kind.length > 40 ? `${kind.slice(0, 40)}…` : kind}`;
}
