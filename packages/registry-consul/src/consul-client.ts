/** Consul's HTTP interface: one request with its deadline, on one agent after the other. */
import http from "node:http";
import https from "node:https";
import { MicroError } from "@micro/core";
import { closedError, fromConnection, fromStatus, source } from "./errors.ts";
import type { ConsulSettings } from "./options.ts";

export interface RequestOptions {
  readonly method?: "GET" | "PUT" | undefined;
  readonly query?: Readonly<Record<string, string | undefined>> | undefined;
  readonly body?: unknown;
  readonly signal?: AbortSignal | undefined;
  /** Default: the settings'. */
  readonly timeoutMs?: number | undefined;
  /** Waiting for the answer does not keep the process alive. Default: false. */
  readonly background?: boolean | undefined;
}

export interface Answer {
  /** Parsed; undefined for an empty answer. */
  readonly body: unknown;
  /** `X-Consul-Index`; 0 where there is none. */
  readonly index: number;
  /** Consul left out what the token may not see. */
  readonly filtered: boolean;
  /** The agent that answered. */
  readonly agent: string;
}

/** Largest answer read. */
const maxAnswerBytes = 32 * 1024 * 1024;
/** What an agent gets before the next is asked, at least. */
const leastShareMs = 1_000;
/** Consul takes 200 connections of a client by default (`http_max_conns_per_client`). */
const maxConnections = 150;

/** See the head of this file. Connects on the first request. */
export class ConsulClient {
  readonly #settings: ConsulSettings;
  readonly #agent: http.Agent;
  readonly #closed = new AbortController();
  #current = 0;

  constructor(settings: ConsulSettings) {
    this.#settings = settings;
    const { ca, cert, key, servername } = settings.tls ?? {};
    const pool = { keepAlive: true, maxSockets: maxConnections, maxFreeSockets: 8, scheduling: "lifo" } as const;
    this.#agent =
      settings.addresses[0]?.protocol === "https:"
        ? new https.Agent({
            ...pool,
            rejectUnauthorized: settings.insecureSkipVerify !== true,
            ...(ca === undefined ? {} : { ca: Buffer.from(ca) }),
            ...(cert === undefined ? {} : { cert: Buffer.from(cert) }),
            ...(key === undefined ? {} : { key: Buffer.from(key) }),
            ...(servername === undefined ? {} : { servername }),
          })
        : new http.Agent(pool);
  }

  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** The agent asked first. */
  get agent(): string {
    return this.#settings.addresses[this.#current]!.origin;
  }

  /** @throws {MicroError} */
  async request(what: string, path: string, options: RequestOptions = {}): Promise<Answer> {
    const { addresses, timeoutMs: defaultMs } = this.#settings;
    const { signal, timeoutMs = defaultMs } = options;
    this.#check(what, signal);
    const end = performance.now() + timeoutMs;
    const first = this.#current;
    for (let turn = 0; ; turn++) {
      const index = (first + turn) % addresses.length;
      const left = end - performance.now();
      const share = Math.min(left, Math.max(leastShareMs, left / (addresses.length - turn)));
      try {
        const answer = await this.#once(
          `${what} at ${addresses[index]!.origin}`,
          addresses[index]!,
          path,
          options,
          share,
        );
        this.#current = index;
        return answer;
      } catch (error) {
        const { code } = error as MicroError;
        const again = code === "unavailable" || code === "timeout";
        if (!again || turn + 1 >= addresses.length || performance.now() >= end || signal?.aborted === true) throw error;
      }
    }
  }

  close(): void {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort(closedError());
    this.#agent.destroy();
  }

  #check(what: string, signal: AbortSignal | undefined): void {
    this.#closed.signal.throwIfAborted();
    if (signal?.aborted === true) throw cancelled(what, signal);
  }

  #once(what: string, address: URL, path: string, options: RequestOptions, timeoutMs: number): Promise<Answer> {
    const { method = "GET", query = {}, body, signal, background = false } = options;
    const url = new URL(path, address);
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, value);
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const request = (url.protocol === "https:" ? https : http).request(url, {
        method,
        agent: this.#agent,
        headers: {
          ...(this.#settings.token === undefined ? {} : { "X-Consul-Token": this.#settings.token }),
          ...(payload === undefined
            ? method === "PUT"
              ? { "Content-Length": 0 }
              : {}
            : { "Content-Type": "application/json", "Content-Length": payload.length }),
        },
      });
      const finish = (outcome: Answer | MicroError): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
        this.#closed.signal.removeEventListener("abort", onClose);
        if (MicroError.is(outcome)) {
          request.destroy();
          reject(outcome);
        } else {
          resolve(outcome);
        }
      };
      const onAbort = (): void => finish(cancelled(what, signal));
      const onClose = (): void => finish(this.#closed.signal.reason as MicroError);
      const timer = setTimeout(
        () => {
          // Consul's `rpc_hold_timeout` is 7 s: longer than most wait.
          const text = `registry consul: ${what}: no answer within ${Math.round(timeoutMs)} ms; an agent whose servers have no leader holds requests for 7 s`;
          finish(new MicroError(text, { id: source, code: "timeout" }));
        },
        Math.max(0, timeoutMs),
      );
      if (background) timer.unref();
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#closed.signal.addEventListener("abort", onClose, { once: true });
      request.on("socket", (socket) => void (background ? socket.unref() : socket.ref()));
      request.on("error", (error) => finish(fromConnection(what, error)));
      request.on("response", (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on("data", (chunk: Buffer) => {
          size += chunk.length;
          if (size <= maxAnswerBytes) chunks.push(chunk);
          else
            finish(
              new MicroError(`registry consul: ${what}: the answer is too large`, { id: source, code: "too_large" }),
            );
        });
        response.on("error", (error) => finish(fromConnection(what, error)));
        response.on("end", () => finish(read(what, address.origin, response, Buffer.concat(chunks).toString())));
      });
      request.end(payload);
    });
  }
}

function read(what: string, agent: string, response: http.IncomingMessage, text: string): Answer | MicroError {
  const { statusCode = 0, headers } = response;
  if (statusCode < 200 || statusCode > 299) return fromStatus(what, statusCode, text);
  let body: unknown;
  try {
    body = text.trim() === "" ? undefined : JSON.parse(text);
  } catch (cause) {
    return new MicroError(`registry consul: ${what}: the answer is not JSON; is that a Consul agent?`, {
      id: source,
      code: "protocol",
      cause,
    });
  }
  const index = Number(headers["x-consul-index"] ?? 0);
  return {
    body,
    index: Number.isSafeInteger(index) && index > 0 ? index : 0,
    filtered: headers["x-consul-results-filtered-by-acls"] === "true",
    agent,
  };
}

function cancelled(what: string, signal: AbortSignal | undefined): MicroError {
  return new MicroError(`registry consul: ${what}: cancelled`, { id: source, code: "aborted", cause: signal?.reason });
}
