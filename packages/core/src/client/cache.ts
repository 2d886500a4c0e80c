/** The local cache wrapper: answers of unary calls kept in this process. Go's client cache (`client/cache.go`). */
import { MicroError } from "../errors.ts";
import { checkOptionNames } from "../option-check.ts";
import type { CallContext, ClientWrapper } from "./client.ts";
import { pause } from "./deadline.ts";

export interface CacheWrapperOptions {
  /** Answers kept; beyond that the least recently used goes. Default: 1000. */
  maxEntries?: number | undefined;
}

interface Entry {
  readonly value: unknown;
  readonly expiresAt: number;
}

/** Names the path of one call, not what is asked for; they never make two requests different. */
const tracing = new Set([
  "Micro-Trace-Id",
  "Micro-Span-Id",
  "Traceparent",
  "Tracestate",
  "Baggage",
  "B3",
  "X-Request-Id",
]);

/**
 * A client wrapper that answers unary calls from memory when the call option `cacheMs` says how long an answer stays
 * good. Errors and streams are never kept. Calls are the same when service, endpoint, content type, addresses, request
 * and metadata (without tracing) are; of several made at once only one goes out. Whoever gets a kept answer gets a
 * copy of his own (`structuredClone`); answers that cannot be copied, and requests without a JSON form, are not kept.
 *
 * Put it last among the client wrappers, so that those before it see every call.
 * @throws {TypeError} for an option that does not exist, or if `maxEntries` is not a positive number.
 */
export function cacheWrapper(options: CacheWrapperOptions = {}): ClientWrapper {
  checkOptionNames("cacheWrapper", options, { maxEntries: true });
  const { maxEntries = 1000 } = options;
  if (!(maxEntries > 0)) throw new TypeError(`cacheWrapper: maxEntries must be a positive number, not ${maxEntries}`);
  return (next) => {
    const cache = new AnswerCache(maxEntries, next);
    return (request, context) => {
      const { cacheMs } = context.options;
      if (context.kind !== "unary" || cacheMs === undefined || !(cacheMs > 0)) return next(request, context);
      const key = keyOf(request, context);
      return key === undefined ? next(request, context) : cache.call(key, cacheMs, request, context);
    };
  };
}

class AnswerCache {
  readonly #maxEntries: number;
  readonly #next: (request: unknown, context: CallContext) => unknown;
  // A Map keeps its order: the least recently used entry is the first.
  readonly #entries = new Map<string, Entry>();
  readonly #running = new Map<string, Promise<unknown>>();

  constructor(maxEntries: number, next: (request: unknown, context: CallContext) => unknown) {
    this.#maxEntries = maxEntries;
    this.#next = next;
  }

  async call(key: string, cacheMs: number, request: unknown, context: CallContext): Promise<unknown> {
    const kept = this.#get(key);
    if (kept !== undefined) return structuredClone(kept.value);
    const running = this.#running.get(key);
    if (running !== undefined) {
      const answer = await this.#share(running, context);
      if (answer !== undefined) return answer.value;
    }
    const call = this.#run(key, cacheMs, request, context);
    this.#running.set(key, call);
    try {
      return await call;
    } finally {
      if (this.#running.get(key) === call) this.#running.delete(key);
    }
  }

  async #run(key: string, cacheMs: number, request: unknown, context: CallContext): Promise<unknown> {
    const value = await this.#next(request, context);
    const copy = copyOf(value);
    if (copy !== undefined) this.#set(key, { value: copy.value, expiresAt: performance.now() + cacheMs });
    return value;
  }

  /** The answer of a call that is running; undefined if this one has to go out itself. */
  async #share(running: Promise<unknown>, context: CallContext): Promise<{ value: unknown } | undefined> {
    const over = new AbortController();
    const left = context.deadline === undefined ? 0x7fff_ffff : context.deadline - performance.now();
    const signal = context.signal === undefined ? over.signal : AbortSignal.any([over.signal, context.signal]);
    try {
      // This caller's own limits hold; passing them, it goes on to `next`, which has the right error.
      const answer = await Promise.race([
        running.then(copyOf),
        pause(Math.min(Math.max(0, left), 0x7fff_ffff), signal).then(() => undefined),
      ]);
      return answer;
    } catch (error) {
      // The other caller's cancellation and deadline are not this one's.
      if (MicroError.is(error) && (error.code === "aborted" || error.code === "timeout")) return undefined;
      throw error;
    } finally {
      over.abort();
    }
  }

  #get(key: string): Entry | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    if (entry.expiresAt <= performance.now()) return undefined;
    this.#entries.set(key, entry);
    return entry;
  }

  #set(key: string, entry: Entry): void {
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    if (this.#entries.size <= this.#maxEntries) return;
    const oldest = this.#entries.keys().next();
    if (oldest.done !== true) this.#entries.delete(oldest.value);
  }
}

function copyOf(value: unknown): { value: unknown } | undefined {
  try {
    return { value: structuredClone(value) };
  } catch {
    return undefined;
  }
}

function keyOf(request: unknown, context: CallContext): string | undefined {
  const { service, endpoint, contentType, options } = context;
  const metadata = [...context.metadata].filter(([name]) => !tracing.has(name) && !name.startsWith("X-B3-"));
  metadata.sort(([a], [b]) => (a < b ? -1 : 1));
  try {
    return JSON.stringify([service, endpoint, contentType, options.address, metadata, request], distinct);
  } catch {
    return undefined; // Circular, for instance: the call itself will say so.
  }
}

/** Values that JSON would mix up or lose. */
function distinct(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return { bigint: value.toString() };
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString("base64") };
  if (value instanceof Map) return { map: [...value] };
  if (value instanceof Set) return { set: [...value] };
  if (typeof value === "number" && !Number.isFinite(value)) return { number: String(value) };
  return value;
}
