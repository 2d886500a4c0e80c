/**
 * The cluster: single calls and raw streams with deadlines, failover from member to member, and new sessions. Written on
 * gRPC itself: of `etcd3`, a lease is declared lost only after two TTLs, its watcher does not notice a server that lost its
 * state, one frozen member holds up calls to the others, and it cannot be bundled.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { MicroError, withLimit } from "@micro/core";
import { closedError, fromEtcd, isCompacted, isStaleSession, source, withAdvice } from "./errors.ts";
import { endOfPrefix } from "./keys.ts";
import { EtcdMember, type CallOptions } from "./member.ts";
import type { EtcdSettings } from "./options.ts";
import type { KeyValue, WatchRequest, WatchResponse } from "./protocol.ts";

type Interceptor = NonNullable<CallOptions["interceptors"]>[number];

/** Bounds of one operation. */
export interface Bounds {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
}

/** Keys with a prefix at one revision. */
export interface Listing {
  readonly entries: readonly KeyValue[];
  /** There are more, beyond what is read. */
  readonly cut: boolean;
}

/** An established watch on one member. */
export interface WatchStream {
  /** Of the store when the watch began. */
  readonly revision: number;
  readonly cluster: string;
  close(): void;
}

/**
 * A key as a server showed it once. One that was emptied and filled again may have the same ids, term and revisions as
 * before, but not the same key with the same lease at the same revision.
 */
export type Witness = Pick<KeyValue, "key" | "create_revision" | "mod_revision" | "version" | "lease">;

/** What a watch reports; nothing after `close()`. */
export interface WatchHandlers {
  onResponse(response: WatchResponse): void;
  /** The stream is over. Once. */
  onLost(error: MicroError): void;
}

const pageSize = 1_000;
/** Largest answer read. A page that is larger is asked for in smaller ones; a record is at most etcd's 1.5 MiB. */
const maxMessageBytes = 16 * 1024 * 1024;
/** Read of one list, in bytes; whoever writes more than this under one service's keys cannot make us hold it. */
const maxListBytes = 64 * 1024 * 1024;
/** What a member gets before the next is asked, at least. */
const leastShareMs = 1_000;
/** A header of our own marks streams that must not keep the process alive; etcd ignores it. */
const streamHeader = "x-micro-stream";

/** See the head of this file. Connects on the first call. */
export class EtcdClient {
  readonly #settings: EtcdSettings;
  readonly #members: readonly { readonly url: string; client: EtcdMember | undefined }[];
  readonly #id = crypto.randomUUID();
  readonly #closed = new AbortController();
  /** Index of the member that answered last. */
  #current = 0;
  #subscribed = false;
  #witness: Witness | undefined;

  constructor(settings: EtcdSettings) {
    this.#settings = settings;
    this.#members = settings.endpoints.map((url) => ({ url, client: undefined }));
  }

  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /**
   * One operation: `run` on a member, on the next one if that fails, within the bounds. `run` may be repeated.
   * @throws {MicroError}
   */
  async call<T>(
    what: string,
    bounds: Bounds,
    run: (client: EtcdMember, options: CallOptions) => Promise<T>,
  ): Promise<T> {
    const { signal, timeoutMs = this.#settings.timeoutMs } = bounds;
    this.#closed.signal.throwIfAborted();
    const limits = signal === undefined ? this.#closed.signal : AbortSignal.any([signal, this.#closed.signal]);
    if (limits.aborted)
      throw new MicroError(`registry etcd: ${what}: cancelled`, { id: source, code: "aborted", cause: limits.reason });
    // The wire's limit is not the caller's: gRPC tears a connection down when a call on it runs out of time.
    const wholeMs = Math.max(timeoutMs, this.#settings.timeoutMs);
    const attempts = this.#attempt(what, wholeMs, limits, run);
    try {
      return await withLimit(attempts, { timeoutMs, signal: limits, what: `registry etcd: ${what}` });
    } catch (error) {
      throw withAdvice(error, timeoutMs);
    }
  }

  async #attempt<T>(
    what: string,
    wholeMs: number,
    signal: AbortSignal,
    run: (client: EtcdMember, options: CallOptions) => Promise<T>,
  ): Promise<T> {
    const end = performance.now() + wholeMs;
    const first = this.#current;
    let failure: MicroError | undefined;
    for (let turn = 0; turn < this.#members.length; turn++) {
      const index = (first + turn) % this.#members.length;
      const at = `${what} at ${this.#members[index]!.url}`;
      const leftMs = end - performance.now();
      if (leftMs <= 0 || signal.aborted) break;
      const shareMs = Math.min(leftMs, Math.max(leastShareMs, leftMs / (this.#members.length - turn)));
      for (let session = 0; ; session++) {
        try {
          const result = await run(this.#client(index), { deadline: Date.now() + shareMs });
          this.#current = index;
          return result;
        } catch (cause) {
          failure = fromEtcd(cause, at);
          if (isStaleSession(cause) || failure.code === "unauthorized") this.#reset(index);
          if (isStaleSession(cause) && session === 0 && !signal.aborted) continue;
          if (failure.code !== "unavailable" && failure.code !== "timeout") throw failure;
          break;
        }
      }
    }
    throw (
      failure ?? new MicroError(`registry etcd: ${what}: no member answered in time`, { id: source, code: "timeout" })
    );
  }

  /** All keys with a prefix, page by page, at one revision. */
  async list(what: string, prefix: Buffer, bounds: Bounds): Promise<Listing> {
    let limit = pageSize;
    for (let round = 0; ;)
      try {
        return await this.call(what, bounds, (client, options) => this.#pages(client, options, prefix, limit));
      } catch (error) {
        if (!MicroError.is(error)) throw error;
        if (error.code === "too_large" && limit > 1) limit = Math.ceil(limit / 10);
        // Compacted between two pages: the next round reads a newer revision.
        else if (!isCompacted(error.cause) || ++round > 2) throw error;
      }
  }

  /** The latest key shown; undefined if there was none yet. */
  get witness(): Witness | undefined {
    return this.#witness;
  }

  /** Keys shown by a server whose history is not in doubt. */
  note(entries: readonly KeyValue[]): void {
    let latest: Witness | undefined = this.#witness;
    for (const entry of entries)
      if (latest === undefined || Number(entry.mod_revision) >= Number(latest.mod_revision)) latest = entry;
    if (latest === undefined || latest === this.#witness) return;
    const { key, create_revision, mod_revision, version, lease } = latest;
    this.#witness = { key, create_revision, mod_revision, version, lease };
  }

  /** See to it that there is a witness, if there is any key with the prefix. */
  async witnessSome(what: string, prefix: Buffer, signal: AbortSignal): Promise<void> {
    if (this.#witness !== undefined) return;
    const { kvs } = await this.call(what, { signal }, (client, options) =>
      client.range({ key: prefix, range_end: endOfPrefix(prefix), limit: 1 }, options),
    );
    this.note(kvs);
  }

  /** Its history is the one the witness was seen in. False, too, if that cannot be told any more: it was compacted. */
  remembers(what: string, witness: Witness, signal: AbortSignal): Promise<boolean> {
    return this.call(what, { signal }, async (client, options) => {
      const { key, mod_revision: revision } = witness;
      // Not a stale read: a member that lags behind catches up first.
      const current = await client.range({ key }, options);
      if (isWitness(current.kvs[0], witness)) return true;
      if (Number(current.header.revision) < Number(revision)) return false;
      // Changed since: it is still known how it was then.
      try {
        return isWitness((await client.range({ key, revision }, options)).kvs[0], witness);
      } catch (error) {
        if (isCompacted(error)) return false;
        throw error;
      }
    });
  }

  async #pages(client: EtcdMember, options: CallOptions, prefix: Buffer, limit: number): Promise<Listing> {
    let bytes = 0;
    const entries: KeyValue[] = [];
    let key = prefix;
    let revision: string | undefined;
    for (;;) {
      const page = await client.range(
        {
          key,
          range_end: endOfPrefix(prefix),
          limit,
          serializable: this.#settings.staleReads,
          ...(revision === undefined ? {} : { revision }),
        },
        options,
      );
      for (const entry of page.kvs) {
        entries.push(entry);
        bytes += entry.key.length + entry.value.length;
      }
      const last = page.kvs.at(-1);
      const cut = bytes > maxListBytes;
      if (!page.more || last === undefined || cut) {
        this.note(entries);
        return { entries, cut: cut && page.more };
      }
      revision ??= page.header.revision;
      key = Buffer.concat([last.key, Buffer.of(0)]);
    }
  }

  /** Renew a lease: true if it lives. */
  renew(what: string, lease: string, bounds: Bounds): Promise<boolean> {
    return this.call(what, bounds, async (client, options) => {
      const stream = await client.leaseKeepAlive({ ...options, ...this.#streamOptions() });
      try {
        const { promise, resolve, reject } = Promise.withResolvers<{ readonly TTL: string }>();
        stream.on("data", resolve);
        stream.on("error", reject);
        stream.on("end", () => reject(new MicroError("the stream ended", { id: source, code: "unavailable" })));
        stream.write({ ID: lease });
        return Number((await promise).TTL) > 0;
      } finally {
        endStream(stream);
      }
    });
  }

  /**
   * Watch keys with a prefix; resolves when the member has set the watch up. No `from`: from now on.
   * @throws {MicroError}
   */
  watch(
    what: string,
    request: { readonly prefix: Buffer; readonly from: number | undefined },
    handlers: WatchHandlers,
    signal: AbortSignal,
  ): Promise<WatchStream> {
    let given = false;
    return this.call(what, { signal }, async (client, { deadline }) => {
      const stream = await client.watch(this.#streamOptions());
      const { promise, resolve, reject } = Promise.withResolvers<WatchResponse>();
      let state: "opening" | "open" | "over" = "opening";
      const close = (): void => {
        if (state === "over") return;
        state = "over";
        endStream(stream);
      };
      const lost = (cause: unknown): void => {
        const before = state;
        close();
        if (before === "opening") reject(cause);
        // A member that dropped the stream is not the first to be asked again.
        else if (before === "open") {
          this.#advance(client);
          handlers.onLost(fromEtcd(cause, what));
        }
      };
      stream.on("data", (response) => {
        if (state === "open") handlers.onResponse(response);
        else if (state === "opening" && response.canceled) lost(new Error(`etcdserver: ${cancelReason(response)}`));
        else if (state === "opening" && response.created) {
          state = "open";
          resolve(response);
        }
      });
      stream.on("error", lost);
      stream.on("end", () => lost(new MicroError(`${what}: the server ended it`, { id: source, code: "unavailable" })));
      const create = {
        key: request.prefix,
        range_end: endOfPrefix(request.prefix),
        prev_kv: true,
        progress_notify: true,
        fragment: true,
        ...(request.from === undefined ? {} : { start_revision: request.from }),
      };
      stream.write({ create_request: create } satisfies WatchRequest);
      const timeoutMs = Number(deadline) - Date.now();
      try {
        const { header } = await withLimit(promise, { timeoutMs, signal: this.#closed.signal, what });
        // Set up too late, after the caller or another member was faster.
        if (given || signal.aborted) throw new MicroError(`${what}: cancelled`, { id: source, code: "aborted" });
        given = true;
        return { revision: Number(header.revision), cluster: header.cluster_id, close };
      } catch (error) {
        close();
        throw error;
      }
    });
  }

  /** End all calls and connections. */
  close(): void {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort(closedError());
    if (this.#subscribed) unsubscribe("http2.client.stream.created", this.#onStream);
    for (const index of this.#members.keys()) this.#reset(index);
  }

  #client(index: number): EtcdMember {
    this.#closed.signal.throwIfAborted();
    const member = this.#members[index]!;
    return (member.client ??= new EtcdMember(member.url, this.#settings, {
      "grpc.max_receive_message_length": maxMessageBytes,
      // Backoff and connections are of this registry alone; a server that is back is noticed soon.
      "grpc.use_local_subchannel_pool": 1,
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 1_000,
      // A frozen server or a silent network is noticed within these; etcd refuses pings more often than every 5 s.
      "grpc.keepalive_time_ms": 6_000,
      "grpc.keepalive_timeout_ms": 4_000,
    }));
  }

  /** Forget a member's connections and session. */
  #reset(index: number): void {
    const member = this.#members[index]!;
    const { client } = member;
    member.client = undefined;
    client?.close();
  }

  #advance(client: EtcdMember): void {
    if (this.#members[this.#current]?.client === client) this.#current = (this.#current + 1) % this.#members.length;
  }

  /** Streams end when their member has no leader, and do not keep the process alive: whoever needs that has a timer. */
  #streamOptions(): CallOptions {
    if (!this.#subscribed && !this.#closed.signal.aborted) {
      this.#subscribed = true;
      subscribe("http2.client.stream.created", this.#onStream);
    }
    const addHeaders: Interceptor = (options, nextCall) => {
      const call = nextCall(options);
      const start = call.start.bind(call);
      call.start = (metadata, listener) => {
        // The session's metadata are shared by all of its calls.
        const own = metadata.clone();
        own.set("hasleader", "true");
        own.set(streamHeader, this.#id);
        start(own, listener);
      };
      return call as ReturnType<Interceptor>;
    };
    return { interceptors: [addHeaders] };
  }

  readonly #onStream = (message: unknown): void => {
    const { stream, headers } = message as {
      stream: { session?: { unref(): void; destroyed: boolean } };
      headers: Record<string, unknown>;
    };
    if (headers[streamHeader] !== this.#id) return;
    // After gRPC has taken the stream over, and made the connection keep the process alive.
    setImmediate(() => {
      if (stream.session?.destroyed === false) stream.session.unref();
    }).unref();
  };
}

/** Why the server cancelled a watch. */
export function cancelReason(response: WatchResponse): string {
  if (Number(response.compact_revision) > 0) return "required revision has been compacted";
  return response.cancel_reason === ""
    ? "the watch was cancelled"
    : response.cancel_reason.replace(/^etcdserver: /, "");
}

function isWitness(entry: KeyValue | undefined, witness: Witness): boolean {
  return (
    entry?.mod_revision === witness.mod_revision &&
    entry.create_revision === witness.create_revision &&
    entry.version === witness.version &&
    entry.lease === witness.lease
  );
}

/** Half-closed before it is cancelled: the client takes the cancelling of a writable stream for a broken connection. */
function endStream(stream: { end(): void; cancel(): void }): void {
  stream.end();
  stream.cancel();
}
