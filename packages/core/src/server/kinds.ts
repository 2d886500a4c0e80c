/** Which side of a handler streams, for handlers without a definition. */
import type { Context } from "../context.ts";
import type { MethodKind, Streamable } from "../definition.ts";

const kindMark = Symbol.for("micro.handler.kind");

const generatorPrototypes: readonly unknown[] = [
  Object.getPrototypeOf(function* () {}),
  Object.getPrototypeOf(async function* () {}),
];

/** A handler without a definition, of any kind. */
export type AnyHandler = (request: any, context: Context) => unknown;

function mark(kind: MethodKind, handler: AnyHandler, name: string): AnyHandler {
  if (typeof handler !== "function") throw new TypeError(`${name}: pass a function, not ${typeof handler}`);
  const marked = function (this: unknown, request: unknown, context: Context): unknown {
    return handler.call(this, request, context);
  };
  return Object.defineProperty(marked, kindMark, { value: kind });
}

/**
 * Mark a handler without a definition as one whose caller streams: it gets an async iterable of messages and returns
 * one. `handle("Sum", { add: clientStreamHandler(async (numbers) => …) })`.
 * @throws {TypeError} if `handler` is not a function.
 */
export function clientStreamHandler(handler: (requests: AsyncIterable<any>, context: Context) => unknown): AnyHandler {
  return mark("client", handler, "clientStreamHandler");
}

/**
 * Mark a handler without a definition as one where both sides stream: it gets an async iterable and returns one.
 * @throws {TypeError} if `handler` is not a function.
 */
export function bidiHandler(
  handler: (requests: AsyncIterable<any>, context: Context) => Streamable<unknown>,
): AnyHandler {
  return mark("bidi", handler, "bidiHandler");
}

/**
 * Mark a handler without a definition that returns an iterable of messages but is no generator function, which would
 * be recognised by itself.
 * @throws {TypeError} if `handler` is not a function.
 */
export function serverStreamHandler(
  handler: (request: any, context: Context) => Streamable<unknown> | Promise<Streamable<unknown>>,
): AnyHandler {
  return mark("server", handler, "serverStreamHandler");
}

/** True for `function*` and `async function*`, also as a method and when bound: binding keeps the prototype. */
export function isGeneratorFunction(handler: AnyHandler): boolean {
  return generatorPrototypes.includes(Object.getPrototypeOf(handler));
}

/** The kind somebody marked the handler with, else `server` for a generator function, else `unary`. */
export function kindOf(handler: AnyHandler): MethodKind {
  const marked = (handler as { [kindMark]?: MethodKind })[kindMark];
  return marked ?? (isGeneratorFunction(handler) ? "server" : "unary");
}
