/**
 * Several registries as one: read from all, write to some. For moving from one to another, e.g. from Consul to etcd,
 * without a moment in which anybody is not found. Go's counterpart is go-plugins `registry/multi`; unlike it, one
 * registry that is down neither fails the others' answers nor empties them.
 */
import { sleep } from "../clock.ts";
import { MicroError } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import { checkOptionNames, type OptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import { jitteredBackoff } from "../supervisor.ts";
import { checkRegistryCall, type RegistryOperation } from "./call-options.ts";
import { heldBytes } from "./held-bytes.ts";
import { copyService } from "./record.ts";
import type {
  Node,
  RegisterOptions,
  Registry,
  RegistryCallOptions,
  RegistryEvent,
  Service,
  WatchOptions,
  Watcher,
} from "./registry.ts";
import { registryWatcher, type WatchSink } from "./watch-stream.ts";

const source = "registry.multi";

/** Settings of {@link multiRegistry}. */
export interface MultiRegistryOptions {
  /** Where services are registered; read, too. */
  write: readonly Registry[];
  /** Further registries that are only read. Where several know a node, the first of `write`, then `read`, is believed. Default: none. */
  read?: readonly Registry[] | undefined;
  /** Is told, once each time, that one of several registries fails or works again. Default: nobody. */
  logger?: Logger | undefined;
}

const optionNames: OptionNames<MultiRegistryOptions> = {
  write: optionKinds.registries,
  read: optionKinds.registries,
  logger: optionKinds.logger,
};

/** Answers remembered for each registry, for when it fails: how many, and about how many bytes of memory. */
const maxRemembered = 10_000;
const maxRememberedBytes = 64 * 1024 * 1024;

/**
 * Make several registries one. Disposing it disposes of them, releasing it releases them.
 *
 * Registering succeeds if one registry has taken the record, and so does the start of a service; those that failed get it
 * with the next refresh.
 * Deregistering fails unless all have done it. A look-up merges the answers; a registry that does not answer counts
 * with what it said last. A watch goes on while one of the watches does, and fails, so that its reader lists again,
 * when a lost one is back.
 * @throws {TypeError} if there is nothing to write to, one is given twice, or for an option that does not exist.
 */
export function multiRegistry(options: MultiRegistryOptions): Registry {
  checkOptionNames("multiRegistry", options, optionNames);
  const all = [...options.write, ...(options.read ?? [])];
  if (options.write.length === 0) throw new TypeError("multiRegistry: `write` must name at least one registry");
  if (new Set(all).size < all.length) throw new TypeError("multiRegistry: a registry is given twice");
  return new MultiRegistry(options);
}

interface Member {
  readonly registry: Registry;
  /** The last answers, by domain and name; the oldest first. */
  readonly known: Map<string, { readonly services: readonly Service[]; readonly bytes: number }>;
  knownBytes: number;
  failing: boolean;
}

class MultiRegistry implements Registry {
  readonly name = "multi";
  readonly #writers: readonly Member[];
  readonly #members: readonly Member[];
  readonly #logger: Logger | undefined;
  readonly #closed = new AbortController();
  readonly #watches = new Set<WatchSink>();

  constructor({ write, read = [], logger }: MultiRegistryOptions) {
    this.#writers = write.map(asMember);
    this.#members = [...this.#writers, ...read.map(asMember)];
    this.#logger = logger;
  }

  async register(service: Service, options: RegisterOptions = {}): Promise<void> {
    this.#check("register", options);
    const copy = copyService(service);
    const outcomes = await this.#all(this.#writers, (registry) => registry.register(copy, options));
    const failures = outcomes.filter((outcome) => "error" in outcome);
    // What no registry can hold, or the caller has cancelled, is no trouble of a registry's.
    const own = failures.find(({ error }) => isCallers(error));
    if (own !== undefined) throw own.error;
    if (failures.length === outcomes.length) throw failures[0]!.error;
  }

  async deregister(service: Service, options: RegistryCallOptions = {}): Promise<void> {
    this.#check("deregister", options);
    const copy = copyService(service, { nodes: "any" });
    const outcomes = await this.#all(this.#writers, (registry) => registry.deregister(copy, options));
    for (const outcome of outcomes) if ("error" in outcome) throw outcome.error;
  }

  async getService(name: string, options: RegistryCallOptions = {}): Promise<Service[]> {
    this.#check("getService", options);
    return this.#read(`${options.domain ?? ""}\0${name}`, (registry) => registry.getService(name, options));
  }

  async listServices(options: RegistryCallOptions = {}): Promise<Service[]> {
    this.#check("listServices", options);
    return this.#read(`${options.domain ?? ""}\0`, (registry) => registry.listServices(options));
  }

  watch(options: WatchOptions = {}): Watcher {
    checkRegistryCall("watch", options);
    return registryWatcher({
      signal: options.signal,
      open: async (sink, signal) => {
        if (this.#closed.signal.aborted) throw closed();
        const stopped = new AbortController();
        const stop = (): void => stopped.abort();
        signal.addEventListener("abort", stop, { once: true });
        const order = { last: Promise.resolve() };
        const follow = (member: Member, watcher: Watcher): Promise<void> =>
          this.#follow(member, watcher, { sink, order, options, stopped: stopped.signal });
        try {
          await this.#open(options, stopped.signal, sink, follow);
          if (this.#closed.signal.aborted) throw closed();
        } catch (error) {
          signal.removeEventListener("abort", stop);
          stop();
          throw error;
        }
        this.#watches.add(sink);
        return () => {
          this.#watches.delete(sink);
          signal.removeEventListener("abort", stop);
          stop();
        };
      },
    });
  }

  /** One to write to is enough. */
  async reach(service: string, options: RegistryCallOptions = {}): Promise<void> {
    this.#check("getService", options);
    const attempts = this.#writers.map(async (member) => {
      const { registry } = member;
      const [outcome] = await this.#all([member], async () => {
        if (registry.reach === undefined) await registry.getService(service, options);
        else await registry.reach(service, options);
      });
      if (outcome !== undefined && "error" in outcome) throw outcome.error;
    });
    await Promise.any(attempts).catch(({ errors }: AggregateError) => {
      throw errors[0];
    });
  }

  async release(): Promise<void> {
    await Promise.allSettled(this.#members.map(async ({ registry }) => registry.release?.()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort(closed());
    for (const sink of this.#watches) sink.end();
    const ends = await Promise.allSettled(this.#members.map(({ registry }) => registry[Symbol.asyncDispose]()));
    for (const end of ends) if (end.status === "rejected") throw end.reason;
  }

  /** One watch per registry. One of them is enough; the others are tried on. */
  async #open(
    options: WatchOptions,
    stopped: AbortSignal,
    sink: WatchSink,
    follow: (member: Member, watcher: Watcher) => Promise<void>,
  ): Promise<void> {
    const outcomes = await Promise.all(
      this.#members.map(async (member) => {
        const watcher = member.registry.watch({ ...options, signal: stopped });
        try {
          await watcher.ready;
          return { member, watcher };
        } catch (error) {
          return { member, error };
        }
      }),
    );
    if (stopped.aborted)
      throw new MicroError("the watch was cancelled before it began", { id: source, code: "aborted" });
    if (outcomes.every((outcome) => "error" in outcome)) throw outcomes[0]!.error;
    const retry = (member: Member, error: unknown): void => void this.#retry(member, error, options, stopped, sink);
    for (const outcome of outcomes) {
      if (outcome.watcher === undefined) retry(outcome.member, outcome.error);
      else follow(outcome.member, outcome.watcher).catch((error: unknown) => retry(outcome.member, error));
    }
  }

  async #follow(
    member: Member,
    watcher: Watcher,
    {
      sink,
      order,
      options,
      stopped,
    }: { sink: WatchSink; order: { last: Promise<void> }; options: WatchOptions; stopped: AbortSignal },
  ): Promise<void> {
    for await (const event of watcher) {
      if (stopped.aborted) return;
      // Whether a removed node is still elsewhere has to be asked; what comes meanwhile waits.
      order.last = order.last
        .then(() => this.#translate(member, event, options))
        .then((events) => events.forEach((each) => sink.emit(each)), sink.fail);
    }
    if (!stopped.aborted) throw new MicroError("the watch ended", { id: source, code: "unavailable" });
  }

  /** Gone from one registry, a node may be in another. */
  async #translate(member: Member, event: RegistryEvent, { domain }: WatchOptions): Promise<RegistryEvent[]> {
    const { action, service } = event;
    if (action !== "delete" || this.#members.length === 1) return [event];
    const others = this.#members.filter((each) => each !== member);
    const read = (registry: Registry): Promise<Service[]> => registry.getService(service.name, { domain });
    const answers = await this.#answers(others, `${domain ?? ""}\0${service.name}`, read);
    const elsewhere = merge(answers).filter(({ version }) => version === service.version);
    const ids = new Set(elsewhere.flatMap(({ nodes }) => nodes.map(({ id }) => id)));
    // Without nodes it says that the whole version is gone, which other registries may see otherwise.
    if (service.nodes.length === 0) return ids.size === 0 ? [event] : [];
    const gone = service.nodes.filter(({ id }) => !ids.has(id));
    const events: RegistryEvent[] = gone.length === 0 ? [] : [{ action, service: { ...service, nodes: gone } }];
    for (const found of elsewhere) {
      const nodes = found.nodes.filter(({ id }) => service.nodes.some((node) => node.id === id));
      if (nodes.length > 0) events.push({ action: "update", service: { ...found, nodes } });
    }
    return events;
  }

  async #retry(
    member: Member,
    reason: unknown,
    options: WatchOptions,
    stopped: AbortSignal,
    sink: WatchSink,
  ): Promise<void> {
    this.#note(member, reason);
    const backoff = jitteredBackoff({ minDelayMs: 500, maxDelayMs: 10_000 });
    while (!stopped.aborted) {
      await sleep(backoff.next(), { signal: stopped });
      if (stopped.aborted) return;
      const watcher = member.registry.watch({ ...options, signal: stopped });
      try {
        await watcher.ready;
        this.#note(member, undefined);
        const text = `the watch of ${member.registry.name} is back: what it missed has to be listed`;
        sink.fail(new MicroError(text, { id: source, code: "unavailable" }));
        return;
      } catch {
        // Tried again.
      } finally {
        await Promise.resolve(watcher[Symbol.asyncDispose]()).catch(() => {});
      }
    }
  }

  async #read(key: string, read: (registry: Registry) => Promise<Service[]>): Promise<Service[]> {
    return merge(await this.#answers(this.#members, key, read));
  }

  /** @throws {MicroError} If no answer and no earlier one is there, or the caller has cancelled. */
  async #answers(
    members: readonly Member[],
    key: string,
    read: (registry: Registry) => Promise<Service[]>,
  ): Promise<Service[]> {
    const outcomes = await this.#all(members, read);
    const services: Service[] = [];
    let failure: unknown;
    let answered = false;
    for (const [index, outcome] of outcomes.entries()) {
      const member = members[index]!;
      if ("error" in outcome) {
        if (isCallers(outcome.error)) throw outcome.error;
        failure ??= outcome.error;
        services.push(...(member.known.get(key)?.services ?? []));
        continue;
      }
      answered = true;
      services.push(...outcome.value);
      remember(member, key, outcome.value);
    }
    if (!answered || (services.length === 0 && failure !== undefined)) throw failure;
    return services;
  }

  #all<T>(
    members: readonly Member[],
    run: (registry: Registry) => Promise<T>,
  ): Promise<({ readonly value: T } | { readonly error: unknown })[]> {
    return Promise.all(
      members.map(async (member) => {
        try {
          const value = await run(member.registry);
          this.#note(member, undefined);
          return { value };
        } catch (error) {
          if (!isCallers(error)) this.#note(member, error);
          return { error };
        }
      }),
    );
  }

  /** Tell of a registry that begins to fail, or stops doing so. */
  #note(member: Member, error: unknown): void {
    const failing = error !== undefined;
    if (member.failing === failing || this.#closed.signal.aborted) return;
    member.failing = failing;
    const { name } = member.registry;
    if (failing) this.#logger?.warn(`Registry [multi] ${name} fails, the others go on: ${textOf(error)}`);
    else this.#logger?.info(`Registry [multi] ${name} works again`);
  }

  #check(operation: RegistryOperation, options: RegisterOptions): void {
    const { signal } = options;
    checkRegistryCall(operation, options);
    if (this.#closed.signal.aborted) throw closed();
    if (signal?.aborted === true)
      throw new MicroError("cancelled by the caller", { id: source, code: "aborted", cause: signal.reason });
  }
}

function asMember(registry: Registry): Member {
  return { registry, known: new Map(), knownBytes: 0, failing: false };
}

function remember(member: Member, key: string, services: readonly Service[]): void {
  const { known } = member;
  const forget = (name: string): void => {
    member.knownBytes -= known.get(name)?.bytes ?? 0;
    known.delete(name);
  };
  forget(key);
  if (services.length === 0) return;
  const bytes = services.reduce((sum, service) => sum + heldBytes(service), 2 * key.length);
  known.set(key, { services, bytes });
  member.knownBytes += bytes;
  while (known.size > maxRemembered || member.knownBytes > maxRememberedBytes) forget(known.keys().next().value!);
}

/** One service per name and version; a node known to several is the first one's. */
function merge(services: readonly Service[]): Service[] {
  const merged = new Map<string, { service: Service; nodes: Map<string, Node> }>();
  const owner = new Map<string, string>();
  for (const service of services) {
    const key = `${service.name}\0${service.version}`;
    const known = merged.get(key) ?? { service, nodes: new Map<string, Node>() };
    merged.set(key, known);
    for (const node of service.nodes) {
      // A registry that lags behind may have the node under the version it ran before.
      const at = `${service.name}\0${node.id}`;
      if ((owner.get(at) ?? key) !== key) continue;
      owner.set(at, key);
      if (!known.nodes.has(node.id)) known.nodes.set(node.id, node);
    }
  }
  return [...merged.values()]
    .filter(({ service, nodes }) => nodes.size > 0 || service.nodes.length === 0)
    .map(({ service, nodes }) => Object.freeze({ ...service, nodes: Object.freeze([...nodes.values()]) }));
}

/** The caller's doing, not the registry's. */
function isCallers(error: unknown): boolean {
  return !MicroError.is(error) || error.code === "aborted" || error.code === "bad_request" || error.code === "closed";
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function closed(): MicroError {
  return new MicroError("the registry is closed", { id: source, code: "closed" });
}
