/** The `Debug` service that answers `micro health`, `stats`, `log` and `trace`, as Go's `debug/service/handler`. */
import type { Context } from "../context.ts";
import type { LogRecord, LogRing } from "../debug/log-ring.ts";
import type { ProcessMeter } from "../debug/process-stats.ts";
import type { Span, SpanRing } from "../debug/spans.ts";
import { forbidden, newError } from "../errors.ts";
import { type OptionNames, checkOptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import type { MessageType, MethodDefinition, MethodKind, ServiceDefinition } from "../definition.ts";
import {
  type DebugLogRecord,
  type DebugSpan,
  type HealthResponse,
  type LogRequest,
  type StatsResponse,
  type TraceRequest,
  type TraceResponse,
  healthRequest,
  healthResponse,
  logRecord,
  logRequest,
  statsRequest,
  statsResponse,
  traceRequest,
  traceResponse,
} from "./debug-messages.ts";
import type { ServerStats, ServiceHandlers } from "./server.ts";

const defaultLogCount = 100;
const streamedBacklog = 10;
const maxFollowers = 32;

/**
 * The `Debug` service. Register it as internal, which keeps it out of the registry:
 * `server.handle(debugDefinition, debugHandlers({ … }), { internal: true })`. Its clients speak JSON or protobuf.
 */
export const debugDefinition = {
  service: "go.micro.debug",
  type: "Debug",
  contentType: "application/protobuf",
  methods: {
    health: method("Health", "unary", healthRequest, healthResponse),
    stats: method("Stats", "unary", statsRequest, statsResponse),
    log: method("Log", "server", logRequest, logRecord),
    trace: method("Trace", "unary", traceRequest, traceResponse),
  },
} satisfies ServiceDefinition;

/** Whether somebody is told: always, never, or as a function says of the call. What it throws is what the caller gets. */
export type DebugPermission = boolean | ((context: Context) => boolean | Promise<boolean>);

/** Who is told what by `Debug`; `Debug.Health` answers anyone. */
export interface DebugAccess {
  /** The newest log records, with whatever handlers logged. Default: true. */
  log?: DebugPermission | undefined;
  /** Time, memory and counters of the process. Default: true. */
  stats?: DebugPermission | undefined;
  /** Endpoints called, by whom, how long it took, and error texts. Default: true. */
  trace?: DebugPermission | undefined;
}

const accessNames: OptionNames<DebugAccess> = {
  log: optionKinds.functionOrFlag,
  stats: optionKinds.functionOrFlag,
  trace: optionKinds.functionOrFlag,
};

/** @throws {TypeError} for what is no permission. @internal */
export function checkDebugAccess(what: string, access: DebugAccess | undefined): void {
  checkOptionNames(what, access, accessNames);
}

/** What the `Debug` service tells. */
export interface DebugOptions {
  /** Counters of the server, e.g. `() => server.stats`. */
  stats: () => ServerStats;
  /** Measures the process; its owner disposes it. */
  process: ProcessMeter;
  /** The records of `Log`. */
  logs: LogRing;
  /** The spans of `Trace`. */
  traces: SpanRing;
  /** Default: all is told to whoever asks. */
  access?: DebugAccess | undefined;
}

const optionNames: OptionNames<DebugOptions> = {
  stats: optionKinds.function,
  process: true,
  logs: true,
  traces: true,
  access: true,
};

/** The handlers of {@link debugDefinition}. */
export function debugHandlers(options: DebugOptions): ServiceHandlers<typeof debugDefinition.methods> {
  checkOptionNames("debugHandlers", options, optionNames);
  const access = options.access ?? {};
  let following = 0;
  checkDebugAccess("debugHandlers: access", access);
  const allowed = async (name: keyof DebugAccess, context: Context): Promise<void> => {
    const permission = access[name] ?? true;
    const granted = typeof permission === "function" ? await permission(context) : permission;
    if (!granted) throw forbidden(context.service, `${context.endpoint} is not told to this caller`);
  };
  return {
    health: (): HealthResponse => ({ status: "ok" }),
    async stats(_: unknown, context: Context): Promise<StatsResponse> {
      await allowed("stats", context);
      const { requests, errors } = options.stats();
      return { ...options.process.read(), requests, errors };
    },
    async trace({ id }: TraceRequest, context: Context): Promise<TraceResponse> {
      await allowed("trace", context);
      return { spans: options.traces.read(id).map(spanMessage) };
    },
    async *log(request: LogRequest, context: Context) {
      await allowed("log", context);
      if (!request.stream) {
        yield* records(options.logs, request, context);
        return;
      }
      // Each gets every record, of which a stranger can cause as many as he likes.
      if (following >= maxFollowers)
        throw newError(
          context.service,
          `${maxFollowers} follow the log already: ask again when one of them has left`,
          503,
        );
      following++;
      try {
        yield* records(options.logs, request, context);
      } finally {
        following--;
      }
    },
  };
}

/** Without `stream` the records there are, at most 100 unless told; with it the newest ten, then each new one. */
async function* records(
  logs: LogRing,
  { stream, count, since }: LogRequest,
  context: Context,
): AsyncGenerator<DebugLogRecord> {
  const sinceMs = since > 0 ? since * 1000 : undefined;
  const backlog = count > 0 ? count : stream ? streamedBacklog : defaultLogCount;
  const kept = logs.read({ sinceMs, count: backlog });
  if (!stream) {
    for (const record of kept) yield recordMessage(record);
    return;
  }
  // Started before the first wait: what is logged while the backlog is sent is not missed.
  const live = logs.follow(context.signal);
  try {
    for (const record of kept) yield recordMessage(record);
    for await (const record of live) yield recordMessage(record);
  } finally {
    await live.return?.();
  }
}

function recordMessage({ timestampMs, level, message, fields }: LogRecord): DebugLogRecord {
  return {
    timestamp: Math.floor(timestampMs / 1000),
    metadata: textMap([["level", level], ...fields]),
    message,
  };
}

function spanMessage({ startedMs, durationMs, metadata, type, trace, id, parent, name }: Span): DebugSpan {
  return {
    trace,
    id,
    parent,
    name,
    started: Math.round(startedMs * 1e6),
    duration: Math.round(durationMs * 1e6),
    metadata: textMap(metadata),
    type: type === "inbound" ? 0 : 1,
  };
}

function textMap(entries: Iterable<readonly [string, string]>): Record<string, string> {
  const map = Object.create(null) as Record<string, string>;
  for (const [name, text] of entries) map[name] = text;
  return map;
}

function method<Req, Res, Kind extends MethodKind>(
  name: string,
  kind: Kind,
  request: MessageType<Req>,
  response: MessageType<Res>,
): MethodDefinition<Req, Req, Res, Res, Kind> {
  return { name, kind, request, response };
}
