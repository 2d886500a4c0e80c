/** Spans of the newest calls, kept in memory for `Debug.Trace`. */
import type { ClientWrapper } from "../client/client.ts";
import type { PublishWrapper } from "../client/publish.ts";
import { currentContext, type Context } from "../context.ts";
import type { Metadata } from "../metadata.ts";
import { checkOptionNames } from "../option-check.ts";
import { ownText } from "../own-text.ts";
import type { SubscriberWrapper } from "../server/events.ts";
import type { HandlerWrapper } from "../server/server.ts";
import { isThenable } from "../server/messages.ts";
import type { Next } from "../wrapper.ts";

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
  /** Records every event handled, and makes what its handler does part of its trace. */
  readonly wrapSubscriber: SubscriberWrapper;
  /** Records every event published, as `publish.<topic>`, and sends trace and span ids with it. */
  readonly wrapPublish: PublishWrapper;
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
/** Of headers that are kept with their span until somebody asks for its ids. Larger ones are read at once. */
const maxKeptText = 4096;
const traceHeader = "Micro-Trace-Id";
const spanHeader = "Micro-Span-Id";

/**
 * Keep the spans of the newest calls, as Go's in-memory tracer (`debug/trace/memory`). The wrappers are for
 * `wrapHandler` and `wrapClient`.
 * @throws {TypeError} if `size` is not a positive whole number.
 */
export function spanRing(options: SpanRingOptions = {}): SpanRing {
  checkOptionNames("spanRing", options, { size: true });
  const size = options.size ?? defaultSize;
  if (!(Number.isSafeInteger(size) && size > 0))
    throw new TypeError(`spanRing: \`size\` must be a positive whole number, not ${String(size)}`);
  const calls: RecordedCall[] = [];
  // Ids belong to the headers of a handled call. They are made when somebody asks: most calls neither make others nor
  // are looked at, and reading headers and making ids would cost them more than their handlers do.
  const incoming = new WeakMap<Metadata, Ids>();
  let start = 0;

  const idsOf = (metadata: Metadata): Ids => {
    let ids = incoming.get(metadata);
    if (ids === undefined) incoming.set(metadata, (ids = incomingIds(metadata)));
    return ids;
  };
  const keep = (call: RecordedCall): void => {
    if (call.metadata !== undefined && call.metadata.textBytes > maxKeptText) call.takeIds(idsOf(call.metadata));
    if (calls.length < size) calls.push(call);
    else {
      calls[start] = call;
      start = (start + 1) % size;
    }
  };

  const inbound = (next: Next<Context>, request: unknown, context: Context): unknown => {
    const { service, endpoint, metadata } = context;
    return recorded(new RecordedCall(service, endpoint, metadata, undefined, keep), next, request, context);
  };
  const outbound = <C extends { readonly metadata: Metadata }>(
    service: string,
    endpoint: string,
    next: Next<C>,
    request: unknown,
    context: C,
  ): unknown => {
    const outer = currentContext();
    const parent = outer === undefined ? undefined : idsOf(outer.metadata);
    const ids: Ids = {
      trace: parent?.trace ?? crypto.randomUUID(),
      id: crypto.randomUUID(),
      parent: parent?.id ?? "",
    };
    const { metadata } = context;
    metadata.set(traceHeader, ids.trace).set(spanHeader, ids.id);
    return recorded(new RecordedCall(service, endpoint, metadata, ids, keep), next, request, context);
  };

  return {
    read(trace) {
      const ordered = [...calls.slice(start), ...calls.slice(0, start)];
      const spans = ordered.map((call) => spanOf(call, call.ids ?? idsOf(call.metadata!)));
      return trace === undefined || trace === "" ? spans : spans.filter((span) => span.trace === trace);
    },
    wrapHandler: (next) => (request, context) => {
      if (context.endpoint.startsWith("Debug.")) return next(request, context) as unknown;
      return inbound(next, request, context);
    },
    wrapSubscriber: (next) => (event, context) => inbound(next, event, context),
    wrapClient: (next) => (request, context) => outbound(context.service, context.endpoint, next, request, context),
    wrapPublish: (next) => (message, context) => outbound("publish", context.topic, next, message, context),
  };
}

/** One call that is running or over. */
class RecordedCall {
  readonly service: string;
  readonly endpoint: string;
  /** Where its ids are read when somebody asks. */
  metadata: Metadata | undefined;
  /** Of an outbound call, or read already. */
  ids: Ids | undefined;
  readonly type: SpanType;
  readonly started = performance.now();
  durationMs = 0;
  error: string | undefined;
  readonly #keep: (call: RecordedCall) => void;

  constructor(
    service: string,
    endpoint: string,
    metadata: Metadata,
    ids: Ids | undefined,
    keep: (call: RecordedCall) => void,
  ) {
    this.service = service;
    this.endpoint = endpoint;
    this.metadata = metadata;
    this.ids = ids;
    this.type = ids === undefined ? "inbound" : "outbound";
    this.#keep = keep;
  }

  /** From now on the headers need not be kept. */
  takeIds(ids: Ids): void {
    this.ids = ids;
    this.metadata = undefined;
  }

  succeeded(): void {
    this.durationMs = performance.now() - this.started;
    this.#keep(this);
  }

  failed(error: unknown): void {
    this.error = cut(error instanceof Error ? error.message : String(error));
    this.succeeded();
  }
}

function cut(text: string): string {
  return text.length <= maxTextLength ? text : ownText(text.slice(0, maxTextLength));
}

function spanOf({ service, endpoint, type, started, durationMs, error }: RecordedCall, ids: Ids): Span {
  return {
    ...ids,
    name: `${service}.${endpoint}`,
    type,
    startedMs: performance.timeOrigin + started,
    durationMs,
    metadata: new Map(error === undefined ? [] : [["error", error]]),
  };
}

/** Ids of strangers are cut; a parent means nothing without its trace. */
function incomingIds(metadata: Metadata): Ids {
  const trace = cut(metadata.get(traceHeader) ?? "");
  return {
    trace: trace === "" ? crypto.randomUUID() : trace,
    id: crypto.randomUUID(),
    parent: trace === "" ? "" : cut(metadata.get(spanHeader) ?? ""),
  };
}

/** Run a call and record its end: now, when its promise settles, or when its stream is over. */
function recorded<C>(call: RecordedCall, next: Next<C>, request: unknown, context: C): unknown {
  let result: unknown;
  try {
    result = next(request, context);
  } catch (error) {
    call.failed(error);
    throw error;
  }
  // A handler's stream is one, too: it is over when its last message is sent.
  if (!isThenable(result)) return recordedResult(call, result);
  return result.then(
    (value: unknown) => recordedResult(call, value),
    (error: unknown) => {
      call.failed(error);
      throw error;
    },
  );
}

function recordedResult(call: RecordedCall, result: unknown): unknown {
  if (typeof result === "object" && result !== null && Symbol.asyncIterator in result && !("send" in result))
    return recordedStream(call, result as AsyncIterable<unknown>);
  call.succeeded();
  return result;
}

async function* recordedStream(call: RecordedCall, stream: AsyncIterable<unknown>): AsyncGenerator {
  let failure: { readonly error: unknown } | undefined;
  try {
    yield* stream;
  } catch (error) {
    failure = { error };
    throw error;
  } finally {
    if (failure === undefined) call.succeeded();
    else call.failed(failure.error);
  }
}
