/** Spans of the newest calls, kept in memory for `Debug.Trace`. */
import { randomUUID } from "node:crypto";
import type { ClientWrapper } from "../client/client.ts";
import { contextKey, currentContext } from "../context.ts";
import type { Metadata } from "../metadata.ts";
import type { HandlerWrapper } from "../server/server.ts";

/** Which side of a call a span saw. */
export type SpanType = "inbound" | "outbound";

/** One call. */
export interface Span {
  /** Shared by all calls that one call led to. */
  readonly trace: string;
  readonly id: string;
  /** Id of the span that made this call; empty at the start of a trace. */
  readonly parent: string;
  /** `<service>.<endpoint>`. */
  readonly name: string;
  readonly type: SpanType;
  /** Unix time, in milliseconds with fractions. */
  readonly startedMs: number;
  readonly durationMs: number;
  /** `error`: its message, when the call failed. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** The newest spans. */
export interface SpanRing {
  /** Kept spans, oldest first; of one trace where its id is given. */
  read(trace?: string): Span[];
  /** Records every handled call but those of `Debug`, and makes calls of the handler part of its trace. */
  readonly wrapHandler: HandlerWrapper;
  /** Records every call made, and sends trace and span ids with it. */
  readonly wrapClient: ClientWrapper;
}

export interface SpanRingOptions {
  /** How many spans are kept. Default: 256, as Go. */
  size?: number | undefined;
}

interface Ids {
  readonly trace: string;
  readonly id: string;
  readonly parent: string;
}

const defaultSize = 256;
const maxTextLength = 1024;
const traceHeader = "Micro-Trace-Id";
const spanHeader = "Micro-Span-Id";
const currentSpan = contextKey<Ids>("span");

/**
 * Keep the spans of the newest calls, as Go's in-memory tracer (`debug/trace/memory`). The wrappers are for
 * `wrapHandler` and `wrapClient`.
 * @throws {TypeError} if `size` is not a positive whole number.
 */
export function spanRing(options: SpanRingOptions = {}): SpanRing {
  const size = options.size ?? defaultSize;
  if (!(Number.isSafeInteger(size) && size > 0))
    throw new TypeError(`spanRing: \`size\` must be a positive whole number, not ${String(size)}`);
  const spans: Span[] = [];
  let start = 0;
  const keep = (span: Span): void => {
    if (spans.length < size) spans.push(span);
    else {
      spans[start] = span;
      start = (start + 1) % size;
    }
  };
  return {
    read(trace) {
      const ordered = [...spans.slice(start), ...spans.slice(0, start)];
      return trace === undefined || trace === "" ? ordered : ordered.filter((span) => span.trace === trace);
    },
    wrapHandler: (next) => (request, context) => {
      if (context.endpoint.startsWith("Debug.")) return next(request, context) as unknown;
      const ids = incomingIds(context.metadata);
      const record = recorder(keep, ids, "inbound", `${context.service}.${context.endpoint}`);
      return recorded(record, () => next(request, context.with(currentSpan, ids)) as unknown);
    },
    wrapClient: (next) => (request, context) => {
      const outer = currentContext()?.get(currentSpan);
      const ids: Ids = { trace: outer?.trace ?? randomUUID(), id: randomUUID(), parent: outer?.id ?? "" };
      context.metadata.set(traceHeader, ids.trace).set(spanHeader, ids.id);
      const record = recorder(keep, ids, "outbound", `${context.service}.${context.endpoint}`);
      return recorded(record, () => next(request, context) as unknown);
    },
  };
}

/** Go takes the message id for a trace id where there is none (`debug/trace/trace.go`); ids of strangers are cut. */
function incomingIds(metadata: Metadata): Ids {
  const trace = (metadata.get(traceHeader) ?? "").slice(0, maxTextLength);
  return {
    trace: trace === "" ? randomUUID() : trace,
    id: randomUUID(),
    parent: trace === "" ? "" : (metadata.get(spanHeader) ?? "").slice(0, maxTextLength),
  };
}

type Finish = (failure: { readonly error: unknown } | undefined) => void;

function recorder(keep: (span: Span) => void, ids: Ids, type: SpanType, name: string): Finish {
  const started = performance.now();
  return (failure) => {
    const metadata = new Map<string, string>();
    if (failure !== undefined) metadata.set("error", errorText(failure.error));
    keep({
      ...ids,
      name,
      type,
      startedMs: performance.timeOrigin + started,
      durationMs: performance.now() - started,
      metadata,
    });
  };
}

function errorText(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, maxTextLength);
}

/** Run a call and record its end: now, when its promise settles, or when its stream is over. */
function recorded(record: Finish, run: () => unknown): unknown {
  let result: unknown;
  try {
    result = run();
  } catch (error) {
    record({ error });
    throw error;
  }
  if (result instanceof Promise) {
    return result.then(
      (value: unknown) => recordedResult(record, value),
      (error: unknown) => {
        record({ error });
        throw error;
      },
    );
  }
  return recordedResult(record, result);
}

function recordedResult(record: Finish, result: unknown): unknown {
  if (typeof result === "object" && result !== null && Symbol.asyncIterator in result && !("send" in result))
    return recordedStream(record, result as AsyncIterable<unknown>);
  record(undefined);
  return result;
}

async function* recordedStream(record: Finish, stream: AsyncIterable<unknown>): AsyncGenerator {
  let failure: { error: unknown } | undefined;
  try {
    yield* stream;
  } catch (error) {
    failure = { error };
    throw error;
  } finally {
    record(failure);
  }
}
