/**
 * The nodes that watchers know of, and what becomes of them: said once each, however often the network repeats it.
 *
 * Go's watch hands on every announcement and never notices a node that dies without a goodbye. Here a node is asked
 * for when most of its time to live is over (RFC 6762 section 5.2), and gone if it does not answer until the end.
 */
import type { RegistryEvent, Service } from "../registry.ts";
import { maxInstances, readEntry, type Entry } from "./entries.ts";
import type { MdnsSettings } from "./options.ts";

/** The part of the time to live after which a node is asked for. */
const refreshAt = 0.8;
/** Pause before asking again for nodes that have not answered, in milliseconds, at least. */
const minRefreshPauseMs = 200;
/** For how long an answer that was under way is not taken for a return, in milliseconds (RFC 6762 section 10.1). */
const goodbyeMs = 1_000;
/** For how long copies of a goodbye are recognised: they come once per interface and family. */
const tombstoneMs = 5_000;

interface Neighbour {
  readonly service: Service;
  readonly domain: string;
  /** To see a change without decoding again. */
  readonly fingerprint: string;
  readonly refreshAt: number;
  readonly expiresAt: number;
}

export interface NeighbourhoodOptions {
  readonly settings: MdnsSettings;
  /** Ask the network for a service; the answers come back through {@link Neighbourhood.hear}. */
  readonly refresh: (service: string, domain: string) => Promise<void>;
}

/** One watcher. */
export interface NeighbourhoodWatcher {
  readonly domain: string;
  /** Undefined: all services. */
  readonly service: string | undefined;
  readonly emit: (event: RegistryEvent) => void;
}

export class Neighbourhood {
  readonly #options: NeighbourhoodOptions;
  readonly #watchers = new Set<NeighbourhoodWatcher>();
  readonly #neighbours = new Map<string, Neighbour>();
  /** When an instance said goodbye. */
  readonly #tombstones = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Infinity;
  #warned = false;

  constructor(options: NeighbourhoodOptions) {
    this.#options = options;
  }

  /** Report changes to `watcher` until the function that is returned is called. */
  watch(watcher: NeighbourhoodWatcher): () => void {
    this.#watchers.add(watcher);
    return () => {
      this.#watchers.delete(watcher);
      if (this.#watchers.size === 0) this.#forget();
    };
  }

  /** The domains watched. */
  domains(): Set<string> {
    return new Set([...this.#watchers].map((watcher) => watcher.domain));
  }

  /**
   * An instance was announced, or answered to a look-up; ttl 0 = it said goodbye. `read` is its description, where
   * the caller has decoded it.
   * @throws {MicroError} `codec` if its description cannot be read.
   */
  hear(entry: Entry, domain: string, how: "announced" | "answered", read?: Service): void {
    if (![...this.#watchers].some((watcher) => watcher.domain === domain)) return;
    const { instance, ttl } = entry;
    const now = performance.now();
    const known = this.#neighbours.get(instance);
    if (ttl === 0) {
      if (known === undefined && this.#buriedFor(instance, now) < tombstoneMs) return;
      const service = known?.service ?? read ?? readEntry(entry, domain);
      if (service !== undefined) this.#bury(instance, service, domain, now);
      return;
    }
    if (how === "answered" && this.#buriedFor(instance, now) < goodbyeMs) return;
    const fingerprint = `${entry.address} ${entry.txt.join("")}`;
    const unchanged = known?.fingerprint === fingerprint;
    const service = unchanged ? known.service : (read ?? readEntry(entry, domain));
    if (service === undefined || service.version === "") return;
    if (known === undefined && this.#neighbours.size >= maxInstances) return this.#warnFull();
    this.#tombstones.delete(instance);
    const lifeMs = ttl * 1_000;
    const neighbour = { service, domain, fingerprint, refreshAt: now + lifeMs * refreshAt, expiresAt: now + lifeMs };
    this.#neighbours.set(instance, neighbour);
    this.#schedule(neighbour.refreshAt);
    if (unchanged) return;
    if (known === undefined) return this.#emit("create", service, domain);
    if (known.service.version === service.version) return this.#emit("update", service, domain);
    this.#emit("delete", known.service, domain);
    this.#emit("create", service, domain);
  }

  /** An instance was taken back by records that do not describe it. */
  withdraw(instance: string): void {
    const known = this.#neighbours.get(instance);
    if (known !== undefined) this.#bury(instance, known.service, known.domain, performance.now());
  }

  #bury(instance: string, service: Service, domain: string, now: number): void {
    this.#neighbours.delete(instance);
    if (this.#tombstones.size >= maxInstances)
      for (const [name, at] of this.#tombstones) if (now - at > tombstoneMs) this.#tombstones.delete(name);
    if (this.#tombstones.size < maxInstances) this.#tombstones.set(instance, now);
    this.#emit("delete", service, domain);
  }

  #buriedFor(instance: string, now: number): number {
    return now - (this.#tombstones.get(instance) ?? -Infinity);
  }

  #emit(action: RegistryEvent["action"], service: Service, domain: string): void {
    const event = Object.freeze({ action, service });
    for (const watcher of this.#watchers)
      if (watcher.domain === domain && (watcher.service === undefined || watcher.service === service.name))
        watcher.emit(event);
  }

  #schedule(at: number): void {
    if (at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    const delay = Math.min(Math.max(0, at - performance.now()), 0x7fff_ffff);
    this.#timer = setTimeout(() => void this.#tend(), delay);
    this.#timer.unref();
  }

  /** Drop who has not answered in time, ask for who is due. */
  async #tend(): Promise<void> {
    this.#timerAt = Infinity;
    const now = performance.now();
    const due = new Map<string, { service: string; domain: string }>();
    for (const [instance, { service, domain, refreshAt: at, expiresAt }] of this.#neighbours)
      if (expiresAt <= now) this.withdraw(instance);
      else if (at <= now) due.set(`${domain}\0${service.name}`, { service: service.name, domain });
    await Promise.all(
      [...due.values()].map(({ service, domain }) =>
        this.#options.refresh(service, domain).catch((error: unknown) => {
          this.#options.settings.logger?.debug("mdns: a node could not be asked for", { service, error });
        }),
      ),
    );
    const later = performance.now();
    for (const { refreshAt: at, expiresAt } of this.#neighbours.values())
      // Due already: asked, and silent. RFC 6762 asks again at 85, 90 and 95 % of the time.
      if (at > later) this.#schedule(at);
      else this.#schedule(Math.min(expiresAt, later + Math.max(minRefreshPauseMs, (expiresAt - at) / 4)));
  }

  #warnFull(): void {
    if (this.#warned) return;
    this.#warned = true;
    this.#options.settings.logger?.warn("mdns: more nodes than a watch remembers; further ones are not reported", {
      limit: maxInstances,
    });
  }

  #forget(): void {
    clearTimeout(this.#timer);
    this.#timerAt = Infinity;
    this.#neighbours.clear();
    this.#tombstones.clear();
    this.#warned = false;
  }
}
