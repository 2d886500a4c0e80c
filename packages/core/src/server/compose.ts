/** Wrappers around a handler, and the current context of each layer. */
import { type Context, type ContextKey, contextKey, currentContext, runInContext } from "../context.ts";
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
  const innermost: Next<Context> =
    streams && wrappers.length > 0 ? (...call) => new Messages(run(...call), call[1]) : run;
  return wrappers.reduceRight<Next<Context>>((next, wrapper) => wrapper(entering(next, streams)), innermost);
}

/** What `next()` of a wrapper gives for a stream once it is over. */
export interface StreamSummary {
  /** Messages sent to the caller. */
  readonly sent: number;
  /** Messages of the caller that the handler has taken. */
  readonly received: number;
}

/** Sends what a handler yields; rejects with what ended it before its end. */
export type StreamSink = (messages: unknown) => Promise<StreamSummary>;

/** Under this a stream's context has the sink of its call. */
export const streamSink: ContextKey<StreamSink> = contextKey<StreamSink>("streamSink");

/**
 * A stream on its way out through the wrappers. Who awaits it lets the messages go, and learns when and how that ended; who
 * iterates it gets them, and passes on what he makes of them.
 */
class Messages implements AsyncIterable<unknown>, PromiseLike<StreamSummary> {
  readonly #given: unknown;
  readonly #context: Context;
  #sent: Promise<StreamSummary> | undefined;

  constructor(given: unknown, context: Context) {
    this.#given = given;
    this.#context = context;
  }

  // oxlint-disable-next-line unicorn/no-thenable
  then<Done = StreamSummary, Failed = never>(
    onDone?: ((summary: StreamSummary) => Done | PromiseLike<Done>) | null,
    onFailed?: ((reason: unknown) => Failed | PromiseLike<Failed>) | null,
  ): Promise<Done | Failed> {
    this.#sent ??= runInContext(this.#context, async () => {
      const sink = this.#context.get(streamSink);
      if (sink === undefined) throw new TypeError("a wrapper has to pass on its context, or one derived from it");
      return sink(await this.#given);
    });
    return this.#sent.then(onDone, onFailed);
  }

  [Symbol.asyncIterator](): AsyncIterator<unknown> {
    const messages = this.#given as Partial<AsyncIterable<unknown>> | null | undefined;
    return messages?.[Symbol.asyncIterator]?.() ?? this.#later();
  }

  async *#later(): AsyncGenerator {
    const messages = await this.#given;
    if (!isIterable(messages)) throw new TypeError("a handler that streams must return something iterable");
    yield* messages;
  }
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
  // It knows its context, and is only begun by who waits for it.
  if (result instanceof Messages) return result;
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
