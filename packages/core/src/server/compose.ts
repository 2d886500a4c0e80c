/** Wrappers around a handler, and the current context of each layer. */
import { type Context, currentContext, runInContext } from "../context.ts";
import type { MethodKind } from "../definition.ts";
import type { Next } from "../wrapper.ts";
import type { HandlerWrapper } from "./server.ts";

/**
 * The function that runs an endpoint: wrappers, the first listed outermost, around the handler. It is called with the
 * call's context as the current one; where a wrapper passes a derived context on, that one is current further in.
 */
export function composeHandler(
  wrappers: readonly HandlerWrapper[],
  kind: MethodKind,
  run: Next<Context>,
): Next<Context> {
  const streams = kind === "server" || kind === "bidi";
  return wrappers.reduceRight<Next<Context>>((next, wrapper) => wrapper(entering(next, streams)), run);
}

function entering(next: Next<Context>, streams: boolean): Next<Context> {
  return (request, context) => {
    if (context === currentContext()) return next(request, context);
    const result: unknown = runInContext(context, () => next(request, context));
    return streams ? bindResult(result, context) : result;
  };
}

/** A generator's body runs when it is pulled, which happens outside: every pull enters `context`. */
function bindResult(result: unknown, context: Context): unknown {
  if (typeof result !== "object" || result === null) return result;
  if (result instanceof Promise) return result.then((value: unknown) => bindResult(value, context));
  if (!isIterable(result)) return result;
  return {
    [Symbol.asyncIterator](): AsyncIterator<unknown> {
      const iterator = runInContext(context, () => iterate(result));
      return {
        next: async () => runInContext(context, () => iterator.next()),
        return: async (value?: unknown) =>
          runInContext(context, async () => iterator.return?.(value) ?? { done: true, value }),
      };
    },
  };
}

type AnyIterable = AsyncIterable<unknown> | Iterable<unknown>;

/** True for an object that can be iterated, async or not; strings do not count. */
export function isIterable(value: unknown): value is AnyIterable {
  return typeof value === "object" && value !== null && (Symbol.asyncIterator in value || Symbol.iterator in value);
}

export function iterate(iterable: AnyIterable): AsyncIterator<unknown> | Iterator<unknown> {
  return Symbol.asyncIterator in iterable ? iterable[Symbol.asyncIterator]() : iterable[Symbol.iterator]();
}
