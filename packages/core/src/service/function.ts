/** Functions: services that handle one request and end. Source: go-micro `function.go`. */
import type { HandlerWrapper } from "../server/server.ts";
import { createService } from "./service.ts";
import type { MicroService } from "./service.ts";
import type { ServiceOptions } from "./options.ts";

/** What {@link createFunction} returns. Go's `micro.Function`. */
export interface MicroFunction extends MicroService {
  /** End it now, as if a request had been handled. */
  done(): void;
}

/**
 * A service that stops once it has handled its first request or event: `run()` resolves when the answer is out. Streams count
 * when they are over, `Debug` does not. Other requests that run at that time are finished.
 *
 * Options are those of {@link createService}, but `spreadMs` is 0 unless given: a function refuses further requests
 * at once, so that callers turn to another node.
 */
export function createFunction(options: ServiceOptions = {}): MicroFunction {
  const service = createService({
    ...options,
    spreadMs: options.spreadMs ?? 0,
    wrapHandler: [once(() => done()), ...(options.wrapHandler ?? [])],
    wrapSubscriber: [once(() => done()), ...(options.wrapSubscriber ?? [])],
  });
  const done = (): void => {
    // Who runs the function learns how the stop went; what nobody awaits is logged.
    service
      .stop()
      .catch((error: unknown) => service.logger.error("the function could not be stopped cleanly", { error }));
  };
  return Object.assign(service, { done });
}

/** Call `done` when a handler has come to its end. */
function once(done: () => void): HandlerWrapper {
  return (next) => async (request, context) => {
    if (context.endpoint.startsWith("Debug.")) return next(request, context) as unknown;
    let streams = false;
    try {
      const result: unknown = await next(request, context);
      streams = typeof result === "object" && result !== null && Symbol.asyncIterator in result;
      return streams ? finished(result as AsyncIterable<unknown>, done) : result;
    } finally {
      if (!streams) done();
    }
  };
}

async function* finished(stream: AsyncIterable<unknown>, done: () => void): AsyncGenerator {
  try {
    yield* stream;
  } finally {
    done();
  }
}
