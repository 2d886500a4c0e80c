import { mucpClient } from "../../../src/client/mucp-client.ts";
import type { Client, ClientOptions } from "../../../src/client/client.ts";
import type { MicroError } from "../../../src/errors.ts";
import { silentLogger } from "../../../src/logger/console-logger.ts";
import { memoryNetwork, memoryRegistry } from "../../../src/registry/memory.ts";
import type { Registry, StringMap } from "../../../src/registry/registry.ts";
import { cachedSelector } from "../../../src/selector/cached-selector.ts";
import type { PickOptions, Selection, Selector, StrategyName } from "../../../src/selector/selector.ts";
import { mucpServer } from "../../../src/server/mucp-server.ts";
import type { HandlerRegistration, Server } from "../../../src/server/server.ts";
import type { ClientFixture, ServedInstance } from "@micro/testing";
import { httpTransport } from "../../../src/transport/http/http-transport.ts";
import { memoryTransport } from "../../../src/transport/memory.ts";
import type { Transport } from "../../../src/transport/transport.ts";

/** What the selector was told, in order. */
export interface Told {
  readonly node: string;
  readonly error: MicroError | undefined;
}

/** A selector that writes down what it is told; a second report for one attempt throws. */
class RecordingSelector implements Selector {
  readonly name = "recording";
  readonly told: Told[] = [];
  picked = 0;
  readonly #inner: Selector;

  constructor(inner: Selector) {
    this.#inner = inner;
  }

  pick(service: string, options?: PickOptions): Selection | Promise<Selection> {
    const picked = this.#inner.pick(service, options);
    return picked instanceof Promise ? picked.then((selection) => this.#record(selection)) : this.#record(picked);
  }

  pickAddress(address: string): Selection {
    return this.#record(this.#inner.pickAddress(address));
  }

  #record(selection: Selection): Selection {
    let done = false;
    this.picked += 1;
    return {
      node: selection.node,
      service: selection.service,
      done: (error) => {
        if (done) throw new Error("done() was called twice for one attempt");
        done = true;
        this.told.push({ node: selection.node.id, error });
        selection.done(error);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner[Symbol.asyncDispose]();
  }
}

export interface Instance extends ServedInstance {
  readonly id: string;
  readonly server: Server;
}

export interface FleetOptions {
  transport?: "http" | "fast" | "direct" | "memory" | undefined;
  strategy?: StrategyName | undefined;
  /** Wraps the transport clients use, for faults that no server makes on demand. */
  faults?: ((transport: Transport) => Transport) | undefined;
  /** Default: one in memory, of the fleet's own. */
  registry?: Registry | undefined;
}

/** Clients and servers over one transport and one registry, all real. */
export class Fleet implements ClientFixture {
  readonly transport: Transport;
  readonly selector: RecordingSelector;
  readonly registry: Registry;
  readonly #clientTransport: Transport;
  readonly #metadata: StringMap;
  readonly #resources = new AsyncDisposableStack();
  #count = 0;

  constructor(options: FleetOptions = {}) {
    const { transport = "memory" } = options;
    this.registry = options.registry ?? memoryRegistry({ network: memoryNetwork() });
    this.transport = transport === "memory" ? memoryTransport() : httpTransport();
    // Calls within one transport need no wire; a caller that is kept to HTTP/1.1 sees what its peers announce all the same.
    const callers =
      transport === "fast" || transport === "http"
        ? this.#resources.use(httpTransport({ direct: false, wire: transport === "http" ? "http" : "auto" }))
        : this.transport;
    const announces = transport !== "memory";
    this.#metadata = announces ? { protocol: "mucp", wire: "micro/1" } : { protocol: "mucp" };
    this.#clientTransport = options.faults?.(callers) ?? callers;
    this.selector = new RecordingSelector(
      cachedSelector({ registry: this.registry, logger: silentLogger, strategy: options.strategy }),
    );
    this.#resources.use(this.registry);
    this.#resources.use(this.selector);
    this.#resources.use(this.transport);
  }

  connect(options: Partial<ClientOptions> = {}): Client {
    const client = mucpClient({
      transport: this.#clientTransport,
      selector: this.selector,
      logger: silentLogger,
      ...options,
    });
    return this.#resources.use(client);
  }

  async serve(
    service: string,
    register: (handlers: HandlerRegistration) => void,
    metadata: StringMap = this.#metadata,
  ): Promise<Instance> {
    const server = await this.start(service, register);
    const address = server.address!;
    const id = `${service}-${++this.#count}`;
    await this.register(service, id, address, metadata);
    return { id, address, server, kill: () => server.stop() };
  }

  /** A server that nobody has been told of. */
  async start(service: string, register: (handlers: HandlerRegistration) => void): Promise<Server> {
    const server = mucpServer({
      name: service,
      transport: this.transport,
      logger: silentLogger,
      address: "127.0.0.1:0",
    });
    register(server);
    await server.start();
    this.#resources.defer(() => server.stop());
    return server;
  }

  async claim(service: string, address: string): Promise<void> {
    await this.register(service, `${service}-${++this.#count}`, address);
  }

  async register(service: string, id: string, address: string, metadata: StringMap = this.#metadata): Promise<void> {
    const nodes = [{ id, address, metadata }];
    await this.registry.register({ name: service, version: "latest", metadata: {}, endpoints: [], nodes });
    // The cache hears of the node by its watch.
    await waitFor(async () => {
      const selections: Selection[] = [];
      try {
        const tried = new Set<string>();
        for (;;) {
          const selection = await this.selector.pick(service, { exclude: tried });
          selections.push(selection);
          if (selection.node.id === id) return true;
          if (tried.has(selection.node.id)) return false;
          tried.add(selection.node.id);
        }
      } catch {
        return false;
      } finally {
        for (const selection of selections) selection.done(undefined);
      }
    });
    this.selector.told.length = 0;
    this.selector.picked = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

/** Wait until a condition holds. */
export async function waitFor(condition: () => boolean | Promise<boolean>, limitMs = 10_000): Promise<void> {
  const limit = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > limit) throw new Error(`did not come true in ${limitMs} ms: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** The error a promise rejects with. */
export async function errorOf(promise: Promise<unknown>): Promise<MicroError> {
  try {
    await promise;
  } catch (error) {
    return error as MicroError;
  }
  throw new Error("nothing was thrown");
}

/** A transport as an object of its own, of which a test replaces what it wants to. */
export function bound(transport: Transport): Transport {
  return {
    name: transport.name,
    wire: transport.wire,
    call: (...given) => transport.call(...given),
    open: (...given) => transport.open(...given),
    listen: (...given) => transport.listen(...given),
    [Symbol.asyncDispose]: () => transport[Symbol.asyncDispose](),
  };
}
