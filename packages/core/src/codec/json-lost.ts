/** What JSON would write as `{}` although somebody meant something by it. */

/** `JSON.stringify` has a form of its own for these. */
const formed = new Set(["Object", "Array", "Arguments", "Number", "String", "Boolean"]);

/** True for a promise, and for whatever else can be awaited: a query that has not been run, say. */
export function isPromise(value: unknown): value is object {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

/**
 * True for what the language or Node has that is no object of fields (a `Map`, an `Error`, a generator, `Headers`), for
 * promises, and for objects whose members are all functions or symbols. Only for what has no `toJSON`. False for objects without any
 * member, of whatever class somebody wrote: they are empty messages.
 */
export function isLost(value: object): boolean {
  // Most are literals. One that has anything to write is not lost, and the first look at it tells.
  if ((value as { constructor?: unknown }).constructor === Object) return hasOnlyFunctions(value);
  if (isPromise(value)) return true;
  const tag = tagOf(value);
  if (tag === "Map" || tag === "Set") return true;
  return formed.has(tag) ? tag === "Object" && hasOnlyFunctions(value) : Object.keys(value).length === 0;
}

function hasOnlyFunctions(value: object): boolean {
  let any = false;
  for (const key in value) {
    if (!Object.hasOwn(value, key)) continue;
    const member = (value as Record<string, unknown>)[key];
    if (typeof member === "function" || typeof member === "symbol") any = true;
    else if (member !== undefined) return false;
  }
  return any || isPromise(value);
}

function tagOf(value: object): string {
  return Object.prototype.toString.call(value).slice("[object ".length, -1);
}

/** The error of what {@link isLost}. @param key the member whose value it is, empty for the whole message */
export function noForm(value: object, key: string): TypeError {
  const tag = tagOf(value);
  const promise = isPromise(value);
  const what = promise ? "a promise" : tag === "Object" ? "an object of functions" : `${article(tag)} ${tag}`;
  const hint = promise ? ": did you forget an await?" : "";
  return new TypeError(`${what} has no JSON form${key === "" ? "" : ` (${key})`}${hint}`);
}

function article(name: string): string {
  return /^[aeiou]/i.test(name) && !name.startsWith("U") ? "an" : "a";
}
