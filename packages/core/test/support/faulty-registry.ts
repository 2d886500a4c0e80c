/** A registry in this process whose failures can be switched on and off, and which counts what it is asked. */
import { MicroError } from "../../src/errors.ts";
import type { Logger, LogLevel } from "../../src/logger/logger.ts";
import type { Node, Registry, RegistryEvent, Service, Watcher } from "../../src/registry/registry.ts";

export interface FaultyRegistry extends Registry {
  /** Every operation fails with `unavailable`, and running watches break. */
  down: boolean;
  /** Watches cannot be established. */
  watchDown: boolean;
  /** Look-ups wait for this promise before they answer with what was known when they began. */
  hold: Promise<void> | undefined;
  /** Nodes that lists do not show (their packet was lost). */
  readonly lost: Set<string>;
  readonly counts: { register: number; deregister: number; getService: number; watch: number; watching: number };
  /** Break running watches. */
  breakWatches(): void;
  /** Send an event without changing what lists show. */
  send(event: RegistryEvent): void;
  /** What lists show of a service now. */
  nodesOf(name: string): string[];
}

export function faultyRegistry(name = "faulty"): FaultyRegistry {
  const services = new Map<string, Service>();
  const watchers = new Set<TestWatcher>();
  const unavailable = (): MicroError => new MicroError(`registry ${name}: connection refused`, { code: "unavailable" });

  class TestWatcher implements Watcher {
    readonly ready: Promise<void>;
    readonly queue: RegistryEvent[] = [];
    error: MicroError | undefined;
    ended = false;
    wake: () => void = () => {};
    readonly service: string | undefined;
    constructor(service: string | undefined, signal: AbortSignal | undefined) {
      this.service = service;
      registry.counts.watch++;
      const fails = registry.down || registry.watchDown;
      this.ready = fails ? Promise.reject(unavailable()) : Promise.resolve();
      this.ready.catch(() => {});
      if (fails) this.error = unavailable();
      else {
        watchers.add(this);
        registry.counts.watching = watchers.size;
      }
      signal?.addEventListener("abort", () => this.end(), { once: true });
    }
    end(): void {
      this.ended = true;
      watchers.delete(this);
      registry.counts.watching = watchers.size;
      this.wake();
    }
    async *[Symbol.asyncIterator](): AsyncGenerator<RegistryEvent> {
      for (;;) {
        const event = this.queue.shift();
        if (event !== undefined) yield event;
        else if (this.error !== undefined) throw this.error;
        else if (this.ended) return;
        else await new Promise<void>((resolve) => (this.wake = resolve));
      }
    }
    async [Symbol.asyncDispose](): Promise<void> {
      this.end();
    }
  }

  const registry: FaultyRegistry = {
    name,
    down: false,
    watchDown: false,
    hold: undefined,
    lost: new Set(),
    counts: { register: 0, deregister: 0, getService: 0, watch: 0, watching: 0 },
    async register(service) {
      registry.counts.register++;
      if (registry.down) throw unavailable();
      const known = services.get(key(service));
      const ids = new Set(service.nodes.map(({ id }) => id));
      const nodes = [...(known?.nodes.filter(({ id }) => !ids.has(id)) ?? []), ...service.nodes];
      services.set(key(service), { ...service, nodes });
      registry.send({ action: known === undefined ? "create" : "update", service });
    },
    async deregister(service) {
      registry.counts.deregister++;
      if (registry.down) throw unavailable();
      const known = services.get(key(service));
      if (known === undefined) return;
      const ids = new Set(service.nodes.map(({ id }) => id));
      const nodes = known.nodes.filter(({ id }) => !ids.has(id));
      if (nodes.length > 0) services.set(key(service), { ...known, nodes });
      else services.delete(key(service));
      registry.send({ action: "delete", service });
    },
    async getService(wanted) {
      registry.counts.getService++;
      if (registry.down) throw unavailable();
      const found = [...services.values()].filter((service) => service.name === wanted);
      await registry.hold;
      if (registry.down) throw unavailable();
      return found
        .map((service) => ({ ...service, nodes: service.nodes.filter(({ id }) => !registry.lost.has(id)) }))
        .filter((service) => service.nodes.length > 0);
    },
    async listServices() {
      if (registry.down) throw unavailable();
      return [...services.values()];
    },
    watch(options) {
      return new TestWatcher(options?.service, options?.signal);
    },
    breakWatches() {
      for (const watcher of watchers) {
        watcher.error = unavailable();
        watcher.end();
      }
    },
    send(event) {
      for (const watcher of watchers)
        if (watcher.service === undefined || watcher.service === event.service.name) {
          watcher.queue.push(event);
          watcher.wake();
        }
    },
    nodesOf(wanted) {
      return [...services.values()].flatMap((service) =>
        service.name === wanted ? service.nodes.map(({ id }) => id) : [],
      );
    },
    async [Symbol.asyncDispose]() {
      for (const watcher of watchers) watcher.end();
    },
  };
  return registry;
}

function key(service: Service): string {
  return `${service.name}\0${service.version}`;
}

/** A service record with nodes given as `id` or `[id, address]`. */
export function record(
  name: string,
  nodes: readonly (string | readonly [id: string, address: string] | Node)[],
  version = "1.0.0",
): Service {
  return {
    name,
    version,
    metadata: {},
    endpoints: [{ name: "Greeter.Hello", request: null, response: null, metadata: {} }],
    nodes: nodes.map((node) => {
      if (typeof node === "string") return { id: node, address: `${node}:80`, metadata: {} };
      if ("id" in node) return node;
      return { id: node[0], address: node[1], metadata: {} };
    }),
  };
}

/** A logger that keeps its lines as `level message`. */
export function memoryLogger(): Logger & { readonly lines: string[] } {
  const lines: string[] = [];
  const at =
    (level: LogLevel) =>
    (message: string): void =>
      void lines.push(`${level} ${message}`);
  const logger = {
    name: "memory",
    level: "trace" as const,
    lines,
    enabled: () => true,
    log: (level: LogLevel, message: string) => at(level)(message),
    trace: at("trace"),
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: () => logger,
  };
  return logger;
}
