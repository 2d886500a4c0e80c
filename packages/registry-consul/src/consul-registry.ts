/** The registry of go-micro in Consul (go-plugins `registry/consul/consul.go`): agent services with encoded tags. */
import {
  MicroError,
  checkRegistryCall,
  copyService,
  registryWatcher,
  type RegisterOptions,
  type Registry,
  type RegistryCallOptions,
  type RegistryOperation,
  type Service,
  type StringMap,
  type WatchOptions,
  type WatchSink,
  type Watcher,
} from "@micro/core";
import { ConsulClient } from "./consul-client.ts";
import { closedError, source } from "./errors.ts";
import { group, readInstances } from "./instances.ts";
import { readOptions, type ConsulRegistryOptions, type ConsulSettings } from "./options.ts";
import { NodeRegistration } from "./registration.ts";
import { TagReader, isOurs } from "./tags.ts";
import { ConsulWatch } from "./watch.ts";

/** How long a registration is given to spread from the agent to the servers, in milliseconds. */
const spreadMs = 2_000;
/** Broken tags remembered, so that each is told of once. */
const maxRemembered = 1_000;

/**
 * Create a registry in Consul. Connects on the first call, not here.
 *
 * Nodes are services of the agent. With a TTL, a node that is not registered again in time becomes critical, is no
 * longer found, and is removed by Consul a minute later. As in Go, metadata of a service as a whole do not travel.
 * @throws {TypeError} naming the option that is wrong.
 */
export function consulRegistry(options: ConsulRegistryOptions = {}): Registry {
  return new ConsulRegistry(readOptions(options));
}

class ConsulRegistry implements Registry {
  readonly name = "consul";
  readonly #settings: ConsulSettings;
  readonly #client: ConsulClient;
  readonly #reader: TagReader;
  readonly #own = new Map<string, NodeRegistration>();
  readonly #watches = new Set<WatchSink>();
  readonly #broken = new Set<string>();
  #brokenCount = 0;

  constructor(settings: ConsulSettings) {
    this.#settings = settings;
    this.#client = new ConsulClient(settings);
    this.#reader = new TagReader((tag, reason) => this.#ignore(tag, reason));
  }

  async register(service: Service, options: RegisterOptions = {}): Promise<void> {
    const bounds = this.#begin("register", options);
    const { signal, timeoutMs } = bounds;
    const { ttlMs } = options;
    const copy = copyService(service);
    for (const name of [copy.name, ...copy.nodes.map(({ id }) => id)]) if (isUnnameable(name)) throw unnameable(name);
    const until = performance.now() + Math.min(timeoutMs, spreadMs);
    const written = await Promise.all(
      copy.nodes.map((node) => this.#registration(node.id).put(copy, node, ttlMs, bounds)),
    );
    const ids = copy.nodes.filter((_, index) => written[index]).map(({ id }) => id);
    await this.#spread(copy, ids, "there", until, signal);
  }

  async deregister(service: Service, options: RegistryCallOptions = {}): Promise<void> {
    const { signal, timeoutMs } = this.#begin("deregister", options);
    const copy = copyService(service, { nodes: "any" });
    const ids = copy.nodes.map(({ id }) => id).filter((id) => !isUnnameable(id));
    if (isUnnameable(copy.name)) return;
    const until = performance.now() + Math.min(timeoutMs, spreadMs);
    await Promise.all(
      ids.map(async (id) => {
        const registration = this.#registration(id);
        await registration.remove({ signal, timeoutMs });
        if (this.#own.get(id) === registration && registration.idle) this.#own.delete(id);
      }),
    );
    await this.#spread(copy, ids, "gone", until, signal);
  }

  async getService(name: string, options: RegistryCallOptions = {}): Promise<Service[]> {
    const bounds = this.#begin("getService", options);
    // What cannot be registered is not there either.
    if (isUnnameable(name)) return [];
    const { body, filtered } = await this.#health(name, bounds);
    const services = group(readInstances(name, body, this.#reader).values());
    if (services.length === 0 && filtered) throw withheld(`look-up of ${name}`);
    return services;
  }

  async listServices(options: RegistryCallOptions = {}): Promise<Service[]> {
    const { signal, timeoutMs } = this.#begin("listServices", options);
    const what = "list of services";
    const answer = await this.#client.request(what, "/v1/catalog/services", {
      query: this.#query(),
      signal,
      timeoutMs,
    });
    const names = Object.entries((answer.body ?? {}) as Record<string, unknown>)
      .filter(([, tags]) => Array.isArray(tags) && isOurs(tags.filter((tag) => typeof tag === "string")))
      .map(([name]) => name);
    if (names.length === 0 && answer.filtered) throw withheld(what);
    return names.toSorted().map((name) => Object.freeze({ name, version: "", metadata: {}, endpoints: [], nodes: [] }));
  }

  watch(options: WatchOptions = {}): Watcher {
    checkRegistryCall("watch", options);
    return registryWatcher({
      signal: options.signal,
      open: async (sink, signal) => {
        if (this.#client.closed.aborted) throw closedError();
        refuseDomain(options.domain);
        if (options.service !== undefined && isUnnameable(options.service)) throw unnameable(options.service);
        const background = options.background === true;
        const watch = new ConsulWatch({
          client: this.#client,
          settings: this.#settings,
          reader: this.#reader,
          sink,
          background,
        });
        await watch.start(options.service, signal);
        if (this.#client.closed.aborted) {
          watch.stop();
          throw closedError();
        }
        this.#watches.add(sink);
        // Between two queries nothing else keeps the process alive.
        const keepAlive = background ? undefined : setInterval(() => {}, 0x7fff_ffff);
        return () => {
          this.#watches.delete(sink);
          clearInterval(keepAlive);
          watch.stop();
        };
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const sink of this.#watches) sink.end();
    this.#client.close();
    this.#own.clear();
  }

  #registration(id: string): NodeRegistration {
    const known = this.#own.get(id) ?? new NodeRegistration(this.#client, this.#settings, id);
    this.#own.set(id, known);
    return known;
  }

  /** The agent tells the servers by and by; wait until look-ups see what was done, or for a moment. */
  async #spread(
    service: Service,
    ids: readonly string[],
    goal: "there" | "gone",
    until: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (ids.length === 0) return;
    for (let index = 0; ;) {
      const left = until - performance.now();
      if (left <= 0) break;
      let answer;
      try {
        const query = {
          index: index > 0 ? `${index}` : undefined,
          wait: index > 0 ? `${Math.ceil(left)}ms` : undefined,
        };
        answer = await this.#health(service.name, { signal, timeoutMs: left + 500 }, query);
      } catch (error) {
        if (MicroError.is(error) && (error.code === "aborted" || error.code === "closed")) throw error;
        break;
      }
      // What the token may not read is not waited for.
      if (answer.filtered) return;
      const seen = readInstances(service.name, answer.body, this.#reader);
      const done = ids.every((id) => {
        const found = seen.get(id);
        if (goal === "gone" || found === undefined) return (found !== undefined) === (goal === "there");
        const node = service.nodes.find((each) => each.id === id);
        return (
          found.tags.version === service.version &&
          found.node.address === node?.address &&
          equalMaps(found.node.metadata, node.metadata) &&
          JSON.stringify(found.tags.endpoints) === JSON.stringify(service.endpoints)
        );
      });
      if (done) return;
      index = answer.index;
    }
    this.#settings.logger?.debug(
      `Registry [consul] The agent has taken ${ids.join(", ")}; the servers do not show it yet`,
    );
  }

  #health(name: string, bounds: RegistryCallOptions, query: Readonly<Record<string, string | undefined>> = {}) {
    const path = `/v1/health/${this.#settings.connect ? "connect" : "service"}/${encodeURIComponent(name)}`;
    const { signal, timeoutMs } = bounds;
    return this.#client.request(`look-up of ${name}`, path, {
      query: { ...this.#query(), ...query },
      signal,
      timeoutMs,
    });
  }

  #query(): Record<string, string | undefined> {
    const { datacenter, staleReads } = this.#settings;
    return { dc: datacenter, stale: staleReads ? "" : undefined };
  }

  #ignore(tag: string, reason: string): void {
    this.#brokenCount++;
    const shown = tag.length > 80 ? `${tag.slice(0, 80)}…` : tag;
    if (this.#broken.has(shown) || this.#broken.size >= maxRemembered) return;
    this.#broken.add(shown);
    this.#settings.logger?.warn(`Registry [consul] Ignored tag ${shown}: ${reason}`, { ignored: this.#brokenCount });
  }

  /** Refuse what cannot be done. Gives the bounds of what can. */
  #begin(
    operation: RegistryOperation,
    options: RegisterOptions,
  ): { readonly signal: AbortSignal | undefined; readonly timeoutMs: number } {
    const { signal, domain } = options;
    const { timeoutMs = this.#settings.timeoutMs } = checkRegistryCall(operation, options, this.#settings.timeoutMs);
    if (this.#client.closed.aborted) throw closedError();
    if (signal?.aborted === true)
      throw new MicroError("registry consul: cancelled by the caller", {
        id: source,
        code: "aborted",
        cause: signal.reason,
      });
    refuseDomain(domain);
    return { signal, timeoutMs };
  }
}

function refuseDomain(domain: string | undefined): void {
  if (domain === undefined || domain === "") return;
  throw new MicroError(`registry consul: Consul carries no registry domains: leave out ${JSON.stringify(domain)}`, {
    id: source,
    code: "not_implemented",
  });
}

/** What Consul's paths cannot carry: steps, which are no names, and what it takes for not printable (Go's `unicode.IsPrint`). */
function isUnnameable(name: string): boolean {
  return name === "." || name === ".." || /[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/u.test(name);
}

function unnameable(name: string): MicroError {
  const text = `registry consul: Consul's paths cannot carry the name ${JSON.stringify(name)}`;
  return new MicroError(text, { id: source, code: "bad_request" });
}

function withheld(what: string): MicroError {
  return new MicroError(
    `registry consul: ${what}: the token may not read what there is: see \`token\` and its policies`,
    {
      id: source,
      code: "forbidden",
    },
  );
}

function equalMaps(a: StringMap, b: StringMap): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && a[key] === b[key]);
}
