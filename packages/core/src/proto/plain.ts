/** What may be a message in code: an object of its fields, whoever made it. */
import { forgotten, isPromise, shown } from "./wrong.ts";

/**
 * True for objects by literals and for those of classes that somebody wrote, whose fields may be getters; false for what the
 * language has: an array, a `Date`, a `Map`, a promise has none of a message's fields, and would be taken for an empty one.
 */
export function isMessage(value: unknown): value is object {
  if (typeof value !== "object" || value === null) return false;
  // Most are, and it is the cheapest look; not those that have a field of this name, or no prototype.
  if ((value as { constructor?: unknown }).constructor === Object) return true;
  return Object.prototype.toString.call(value) === "[object Object]" && !isPromise(value);
}

/**
 * What generated code calls for objects that are none by literals. It looks itself, type by type: V8 makes nothing of a look
 * at objects that are all alike, and much of one at those of all types.
 * @throws {TypeError} for what is no message
 */
export function checkMessage(type: { readonly $type: string }, value: object): void {
  if (!isMessage(value)) throw notMessage(value, type.$type);
}

/** The error of what is no message. @param name full name of the type */
export function notMessage(value: unknown, name: string): TypeError {
  return new TypeError(`${shown(value)} is not an object (${name})${hint(value, name)}`);
}

function hint(value: unknown, name: string): string {
  if (isPromise(value)) return forgotten;
  if (name === "google.protobuf.Timestamp") return ": timestampOf(date) makes one";
  return "";
}
