/** Blocking queries as a watch: each answer is compared with the one before. */
import { MicroError, jitteredBackoff, sleep, type RegistryEvent, type WatchSink } from "@micro/core";
import type { Answer, ConsulClient } from "./consul-client.ts";
import { group, readInstances, type Instance } from "./instances.ts";
import type { ConsulSettings } from "./options.ts";
import { isOurs, type TagReader } from "./tags.ts";

/** The first answer, the next one of the same history, or one that may be of another. */
type Order = "first" | "next" | "anew";

export interface ConsulWatchOptions {
  readonly client: ConsulClient;
  readonly settings: ConsulSettings;
  readonly reader: TagReader;
  readonly sink: WatchSink;
  readonly background: boolean;
}

/** Changes that come faster are seen together. */
const spacingMs = 20;
/** Consul adds up to a sixteenth of the wait, so that not all answers come at once; and then it has to get here. */
const graceMs = 5_000;

/** Follows one service, or all. What was missed during an outage shows in the comparison afterwards. */
export class ConsulWatch {
  readonly #options: ConsulWatchOptions;
  readonly #stopped = new AbortController();
  /** Services being followed, when all are. */
  readonly #followed = new Map<string, AbortController>();

  constructor(options: ConsulWatchOptions) {
    this.#options = options;
  }

  stop(): void {
    this.#stopped.abort();
    for (const controller of this.#followed.values()) controller.abort();
  }

  /** Resolves when every later change will be seen. @throws {MicroError} */
  async start(service: string | undefined, signal: AbortSignal): Promise<void> {
    const abort = (): void => this.stop();
    signal.addEventListener("abort", abort, { once: true });
    try {
      await (service === undefined ? this.#followAll() : this.#follow(service, true, this.#stopped.signal));
    } catch (error) {
      this.stop();
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  async #followAll(): Promise<void> {
    const { settings } = this.#options;
    const path = "/v1/catalog/services";
    const query = { dc: settings.datacenter };
    await this.#loop("watch", path, query, this.#stopped.signal, async ({ body }, order) => {
      const first = order === "first";
      const names = new Set(
        Object.entries((body ?? {}) as Record<string, unknown>)
          .filter(([, tags]) => Array.isArray(tags) && isOurs(tags.filter((tag) => typeof tag === "string")))
          .map(([name]) => name),
      );
      const starting: Promise<void>[] = [];
      for (const name of names) if (!this.#followed.has(name)) starting.push(this.#followOne(name, first));
      if (first) await Promise.all(starting);
      else for (const start of starting) start.catch((error: unknown) => this.#fail(error));
    });
  }

  async #followOne(name: string, known: boolean): Promise<void> {
    const controller = new AbortController();
    this.#followed.set(name, controller);
    await this.#follow(name, known, controller.signal);
  }

  /** @param known What is there at first is no news. */
  async #follow(name: string, known: boolean, signal: AbortSignal): Promise<void> {
    const { settings, reader, sink } = this.#options;
    const path = `/v1/health/${settings.connect ? "connect" : "service"}/${encodeURIComponent(name)}`;
    let before: ReadonlyMap<string, Instance> = new Map();
    await this.#loop(`watch of ${name}`, path, { dc: settings.datacenter }, signal, async ({ body }, order) => {
      // The numbers of another history say nothing about what is the same.
      const now = readInstances(name, body, reader, order === "anew" ? undefined : before);
      if (order !== "first" || !known) for (const event of compare(before, now)) sink.emit(event);
      before = now;
      // Gone from the catalog, too: should it come back, the catalog's query tells.
      if (now.size === 0 && Array.isArray(body) && body.length === 0) this.#forget(name);
    });
  }

  #forget(name: string): void {
    this.#followed.get(name)?.abort();
    this.#followed.delete(name);
  }

  /**
   * Query again and again, each time waiting for a change. Resolves after the first answer has been dealt with.
   * @throws {MicroError} If there is no first answer.
   */
  async #loop(
    what: string,
    path: string,
    query: Readonly<Record<string, string | undefined>>,
    signal: AbortSignal,
    onAnswer: (answer: Answer, order: Order) => Promise<void>,
  ): Promise<void> {
    const { client } = this.#options;
    // Somebody waits for it: also one in the background keeps the process until it is there.
    const answer = await client.request(what, path, { query, signal });
    await onAnswer(answer, "first");
    // oxlint-disable-next-line typescript/no-floating-promises -- it reports to the sink
    this.#goOn(what, path, query, signal, onAnswer, answer.index);
  }

  async #goOn(
    what: string,
    path: string,
    query: Readonly<Record<string, string | undefined>>,
    signal: AbortSignal,
    onAnswer: (answer: Answer, order: Order) => Promise<void>,
    from: number,
  ): Promise<void> {
    const { client, settings, background } = this.#options;
    const { waitMs, timeoutMs } = settings;
    const backoff = jitteredBackoff({ minDelayMs: 50, maxDelayMs: 1_000 });
    let index = from;
    let failingSince: number | undefined;
    while (!signal.aborted && !this.#stopped.signal.aborted && !client.closed.aborted) {
      try {
        await sleep(spacingMs, { signal });
        if (signal.aborted) return;
        const answer = await client.request(what, path, {
          query: {
            ...query,
            ...(failingSince === undefined && index > 0
              ? {
                  index: `${index}`,
                  wait: `${waitMs}ms`,
                }
              : {}),
          },
          signal,
          background,
          timeoutMs: failingSince === undefined ? waitMs * (1 + 1 / 16) + graceMs : timeoutMs,
        });
        const interrupted = failingSince !== undefined;
        failingSince = undefined;
        backoff.reset();
        // An index that went back belongs to another history; Consul's advice is to begin anew. So may any after an
        // interruption, and the same one after a wait: an agent that lost its state counts from the beginning and may
        // arrive at the very same index.
        const anew = answer.index <= index || interrupted;
        index = answer.index < index ? 0 : answer.index;
        if (!signal.aborted) await onAnswer(answer, anew ? "anew" : "next");
      } catch (error) {
        if (signal.aborted || this.#stopped.signal.aborted || client.closed.aborted) return;
        const { code } = error as MicroError;
        failingSince ??= performance.now();
        const transient = code === "unavailable" || code === "timeout";
        if (!transient || performance.now() - failingSince > timeoutMs) return this.#fail(error);
        await sleep(backoff.next(), { signal });
      }
    }
  }

  #fail(error: unknown): void {
    if (this.#stopped.signal.aborted) return;
    this.stop();
    this.#options.sink.fail(
      MicroError.is(error) && error.code === "timeout"
        ? new MicroError(error.detail, { id: error.id, code: "unavailable", cause: error })
        : error,
    );
  }
}

/** What changed from one answer to the next, per version. */
function compare(before: ReadonlyMap<string, Instance>, now: ReadonlyMap<string, Instance>): RegistryEvent[] {
  if (before === now) return [];
  const removed: Instance[] = [];
  const created: Instance[] = [];
  const updated: Instance[] = [];
  for (const [id, instance] of before) {
    const after = now.get(id);
    if (after === undefined || after.tags.version !== instance.tags.version) removed.push(instance);
  }
  for (const [id, instance] of now) {
    const earlier = before.get(id);
    if (earlier === undefined || earlier.tags.version !== instance.tags.version) created.push(instance);
    else if (earlier !== instance && !isSame(earlier, instance)) updated.push(instance);
  }
  return [...eventsOf("delete", removed), ...eventsOf("create", created), ...eventsOf("update", updated)];
}

function eventsOf(action: RegistryEvent["action"], instances: readonly Instance[]): RegistryEvent[] {
  return group(instances).map((service) => ({ action, service }));
}

function isSame(a: Instance, b: Instance): boolean {
  const { metadata } = a.node;
  const keys = Object.keys(metadata);
  return (
    a.node.address === b.node.address &&
    keys.length === Object.keys(b.node.metadata).length &&
    keys.every((key) => metadata[key] === b.node.metadata[key]) &&
    JSON.stringify(a.tags.endpoints) === JSON.stringify(b.tags.endpoints)
  );
}
