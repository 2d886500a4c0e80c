/** One node at the agent: registered, refreshed, removed. */
import { MicroError, formatDuration, splitAddress, type Node, type Service } from "@micro/core";
import type { ConsulClient, RequestOptions } from "./consul-client.ts";
import { source } from "./errors.ts";
import type { ConsulSettings, TcpCheckOptions } from "./options.ts";
import { encodeTags } from "./tags.ts";

type Bounds = Pick<RequestOptions, "signal" | "timeoutMs">;

// Consul reaps critical services once a minute at most.
const leastReapMs = 60_000;

/** Operations on a node run one after the other. */
export class NodeRegistration {
  readonly #client: ConsulClient;
  readonly #settings: ConsulSettings;
  readonly #id: string;
  /** What the agent was given, and which agent. */
  #held: { readonly body: string; readonly agent: string; readonly ttl: boolean } | undefined;
  #running: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(client: ConsulClient, settings: ConsulSettings, id: string) {
    this.#client = client;
    this.#settings = settings;
    this.#id = id;
  }

  /** Nothing is under way. */
  get idle(): boolean {
    return this.#waiting === 0;
  }

  /** Make the agent hold the node for another `ttlMs`, or for ever; true if it was written anew. */
  put(service: Service, node: Node, ttlMs: number | undefined, bounds: Bounds): Promise<boolean> {
    return this.#inTurn(() => this.#put(service, node, ttlMs, bounds));
  }

  remove(bounds: Bounds): Promise<void> {
    return this.#inTurn(async () => {
      const path = `/v1/agent/service/deregister/${encodeURIComponent(this.#id)}`;
      this.#held = undefined;
      await ignoreMissing(this.#client.request(`deregistration of ${this.#id}`, path, { ...bounds, method: "PUT" }));
    });
  }

  #inTurn<T>(run: () => Promise<T>): Promise<T> {
    this.#waiting++;
    const result = this.#running.then(run).finally(() => this.#waiting--);
    this.#running = result.catch(() => {});
    return result;
  }

  async #put(service: Service, node: Node, ttlMs: number | undefined, bounds: Bounds): Promise<boolean> {
    const record = agentService(service, node, ttlMs, this.#settings);
    const body = JSON.stringify(record);
    const { Check: check } = record;
    const ttl = check !== undefined && "TTL" in check;
    if (this.#held?.body === body && this.#held.agent === this.#client.agent && (await this.#refresh(ttl, bounds)))
      return false;
    const { agent } = await this.#client.request(`registration of ${this.#id}`, "/v1/agent/service/register", {
      ...bounds,
      method: "PUT",
      body: record,
      // A check of an earlier registration would go on judging this one.
      query: { "replace-existing-checks": "true" },
    });
    this.#held = { body, agent, ttl };
    return true;
  }

  /** Pass the TTL, or see that the agent still has the node; false if it has not. */
  async #refresh(ttl: boolean, bounds: Bounds): Promise<boolean> {
    const id = encodeURIComponent(this.#id);
    const what = `refresh of ${this.#id}`;
    const answer = ttl
      ? this.#client.request(what, `/v1/agent/check/pass/${encodeURIComponent(`service:${this.#id}`)}`, {
          ...bounds,
          method: "PUT",
        })
      : this.#client.request(what, `/v1/agent/service/${id}`, bounds);
    const found = await ignoreMissing(answer);
    // Another agent may have answered in the place of the one that has it.
    return found !== undefined && found.agent === this.#held?.agent;
  }
}

async function ignoreMissing<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (MicroError.is(error) && error.code === "not_found") return undefined;
    throw error;
  }
}

/** What the agent's register call takes (Consul's API, `agent/service/register`). */
function agentService(service: Service, node: Node, ttlMs: number | undefined, settings: ConsulSettings) {
  const { host, port } = splitNodeAddress(node);
  const check = checkOf(host, port, ttlMs, settings);
  return {
    ID: node.id,
    Name: service.name,
    Tags: encodeTags(service, node.metadata),
    Address: host,
    Port: port,
    Meta: metaOf(node.metadata),
    ...(settings.connect ? { Connect: { Native: true } } : {}),
    ...(check === undefined
      ? {}
      : { Check: { ...check.body, DeregisterCriticalServiceAfter: deregisterAfter(check.everyMs) } }),
  };
}

type Check = { readonly everyMs: number; readonly body: Readonly<Record<string, string>> } | undefined;

function checkOf(host: string, port: number, ttlMs: number | undefined, settings: ConsulSettings): Check {
  const { tcpCheck, httpCheck } = settings;
  const target = host.includes(":") ? `[${host}]` : host;
  // Until Consul has looked for the first time, what registers is taken to be there.
  const Status = "passing";
  if (tcpCheck !== undefined)
    return { everyMs: tcpCheck.intervalMs, body: { TCP: `${target}:${port}`, ...timing(tcpCheck), Status } };
  if (httpCheck !== undefined) {
    const { protocol = "http", path = "/" } = httpCheck;
    const HTTP = `${protocol}://${target}:${httpCheck.port ?? port}${path.startsWith("/") ? path : `/${path}`}`;
    return { everyMs: httpCheck.intervalMs, body: { HTTP, ...timing(httpCheck), Status } };
  }
  if (ttlMs === undefined) return undefined;
  return { everyMs: ttlMs, body: { TTL: formatDuration(ttlMs), Status } };
}

function splitNodeAddress(node: Node): { host: string; port: number } {
  try {
    const { host, port = "0" } = splitAddress(node.address);
    return { host, port: Number(port) };
  } catch (cause) {
    throw new MicroError(`registry consul: node ${node.id}: ${(cause as Error).message}`, {
      id: source,
      code: "bad_request",
      cause,
    });
  }
}

/** For people who look at Consul; readers use the tags. Consul's limits on names, lengths and number apply. */
function metaOf(metadata: Node["metadata"]): Record<string, string> {
  const fit = Object.entries(metadata).filter(
    ([key, value]) =>
      /^[\w-]{1,128}$/.test(key) && !key.startsWith("consul-") && value.length <= 128 && /^[\x20-\x7e]*$/.test(value),
  );
  return Object.fromEntries(fit.slice(0, 64));
}

function deregisterAfter(ms: number): string {
  return formatDuration(ms < leastReapMs ? leastReapMs + 5_000 : Math.ceil(ms / 1_000) * 1_000 + 5_000);
}

function timing({ intervalMs, timeoutMs }: TcpCheckOptions): Record<string, string> {
  return {
    Interval: formatDuration(intervalMs),
    ...(timeoutMs === undefined ? {} : { Timeout: formatDuration(timeoutMs) }),
  };
}
