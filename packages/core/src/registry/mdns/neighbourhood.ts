/**
 * The nodes that watchers know of, and what becomes of them: said once each, however often the network repeats it.
 *
 * Go's watch hands on every announcement and never notices a node that dies without a goodbye. Here a node is asked
 * for when most of its time to live is over (RFC 6762 section 5.2), and gone if it does not answer until the end.
 *
 * Anybody on the network can announce anything. What is kept is bounded and shared out by sender; while more comes
 * than that, nodes are asked for: one that answers is not pushed out by any that did not.
 */
import { heldBytes } from "../held-bytes.ts";
import type { RegistryEvent, Service } from "../registry.ts";
import { readEntry, type Entry, type Origin } from "./entries.ts";
import { FairTable, type Kept } from "./fair-table.ts";
import { serviceName } from "./names.ts";
import type { MdnsSettings } from "./options.ts";

/** The part of the time to live after which a node is asked for. */
const refreshAt = 0.8;
/** Pause before asking again for nodes that have not answered, in milliseconds, at least. */
const minRefreshPauseMs = 200;
/** For how long an answer that was under way is not taken for a return, in milliseconds (RFC 6762 section 10.1). */
const goodbyeMs = 1_000;
/** For how long copies of a goodbye are recognised: they come once per interface and family. */
const tombstoneMs = 5_000;
/** Goodbyes remembered. */
const maxTombstones = 2_000;
/** Kept of all services, and of one, in bytes. */
export const maxNeighbourBytes = 64 * 1024 * 1024;
export const maxServiceBytes = 32 * 1024 * 1024;
/** Questions under way at once. */
const refreshesAtOnce = 8;
/** Longer times to live are cut to this, in seconds: what is not heard of for so long is asked for. */
const maxTtlSeconds = 4_500;
/** What a node costs beside its record and its text. */
const neighbourBytes = 600;
/** While more is announced than can be kept, nodes are asked for: after the first pause, then this often, in milliseconds. */
const firstDoubtMs = 250;
const doubtPauseMs = 2_000;

interface Neighbour extends Kept {
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
  /** Ask the network which services there are. */
  readonly list: (domain: string) => Promise<readonly string[]>;
  /** What reading a record of `source` has cost. */
  readonly spend: (source: string, bytes: number) => void;
  /** Default: the bounds above. */
  readonly maxBytes?: number | undefined;
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
  /** With what the names of their instances end in. */
  readonly #watchers = new Map<NeighbourhoodWatcher, string>();
  readonly #neighbours: FairTable<Neighbour>;
  readonly #services = new Map<string, FairTable<Neighbour>>();
  /** When an instance said goodbye. */
  readonly #tombstones = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Infinity;
  #warned = false;
  #doubts: NodeJS.Timeout | undefined;
  #askedAt = -Infinity;

  constructor(options: NeighbourhoodOptions) {
    this.#options = options;
    this.#neighbours = new FairTable(options.maxBytes ?? maxNeighbourBytes);
  }

  /** Bytes kept of the nodes known. */
  get bytes(): number {
    return this.#neighbours.bytes;
  }

  /** Nobody watches. */
  get idle(): boolean {
    return this.#watchers.size === 0;
  }

  /** Report changes to `watcher` until the function that is returned is called. */
  watch(watcher: NeighbourhoodWatcher): () => void {
    const { domain, service } = watcher;
    this.#watchers.set(watcher, service === undefined ? `.${domain}.` : `.${serviceName(service, domain)}`);
    return () => {
      this.#watchers.delete(watcher);
      if (this.#watchers.size === 0) this.#forget();
      else this.#forgetUnwanted();
    };
  }

  /** Somebody watches the service of an instance. Asked before anything of it is kept or read. */
  wants(instance: string): boolean {
    for (const suffix of this.#watchers.values()) if (instance.endsWith(suffix)) return true;
    return false;
  }

  /** The domains in which somebody watches an instance. */
  domainsOf(instance: string): Set<string> {
    const domains = new Set<string>();
    for (const [{ domain }, suffix] of this.#watchers) if (instance.endsWith(suffix)) domains.add(domain);
    return domains;
  }

  /**
   * An instance was announced, or answered to a look-up; ttl 0 = it said goodbye. `read` is its description, where
   * the caller has decoded it.
   * @throws {MicroError} `codec` if its description cannot be read.
   */
  hear(entry: Entry, domain: string, how: "announced" | "answered", origin: Origin, read?: Service): void {
    const { instance, ttl } = entry;
    if (!this.domainsOf(instance).has(domain)) return;
    const decode = (): Service | undefined =>
      readEntry(entry, domain, (bytes) => this.#options.spend(origin.source, bytes));
    const now = performance.now();
    const known = this.#neighbours.get(instance);
    if (ttl === 0) {
      if (known === undefined && this.#buriedFor(instance, now) < tombstoneMs) return;
      const service = known?.service ?? read ?? decode();
      if (service !== undefined) this.#bury(instance, service, domain, now);
      return;
    }
    if (how === "answered" && this.#buriedFor(instance, now) < goodbyeMs) return;
    const fingerprint = `${entry.address} ${entry.txt.join("")}`;
    const unchanged = known?.fingerprint === fingerprint;
    const service = unchanged ? known.service : (read ?? decode());
    if (service === undefined || service.version === "") return;
    this.#tombstones.delete(instance);
    const lifeMs = Math.min(ttl, maxTtlSeconds) * 1_000;
    const neighbour: Neighbour = {
      source: origin.source,
      // Who has answered once is there.
      proven: origin.proven || (unchanged && known.proven),
      bytes: unchanged ? known.bytes : neighbourBytes + heldBytes(service) + 2 * (instance.length + fingerprint.length),
      service,
      domain,
      fingerprint: unchanged ? known.fingerprint : fingerprint,
      refreshAt: now + lifeMs * refreshAt,
      expiresAt: now + lifeMs,
    };
    const gone = this.#keep(instance, neighbour);
    this.#schedule(neighbour.refreshAt);
    const refused = gone.delete(instance);
    for (const each of gone.values()) this.#emit("delete", each.service, each.domain);
    if (refused) {
      // What it said before is no longer so.
      if (known !== undefined) this.#emit("delete", known.service, known.domain);
      return;
    }
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

  /** More was announced than could be kept or read: ask who is really there. */
  doubt(): void {
    if (this.#watchers.size === 0 || this.#doubts !== undefined) return;
    const delayMs = Math.max(firstDoubtMs, this.#askedAt + doubtPauseMs - performance.now());
    this.#doubts = setTimeout(() => void this.#askAll(), delayMs);
    this.#doubts.unref();
  }

  async #askAll(): Promise<void> {
    this.#doubts = undefined;
    this.#askedAt = performance.now();
    const wanted = new Map<string, { service: string; domain: string }>();
    const add = (service: string, domain: string): void =>
      void wanted.set(`${domain}\0${service}`, { service, domain });
    const whole = new Set<string>();
    for (const { service, domain } of this.#watchers.keys())
      if (service === undefined) whole.add(domain);
      else add(service, domain);
    await Promise.all(
      [...whole].map(async (domain) => {
        const services = await this.#options.list(domain).catch(() => []);
        for (const service of services.slice(0, 100)) add(service, domain);
      }),
    );
    await this.#refresh([...wanted.values()]);
  }

  /** Gives what had to go for it, by name. */
  #keep(instance: string, neighbour: Neighbour): Map<string, Neighbour> {
    const key = serviceKey(neighbour);
    const before = this.#neighbours.get(instance);
    if (before !== undefined && serviceKey(before) !== key) this.#drop(instance);
    const own = this.#services.get(key) ?? new FairTable<Neighbour>(maxServiceBytes);
    this.#services.set(key, own);
    const gone = own.set(instance, neighbour);
    for (const name of gone.keys()) this.#neighbours.delete(name);
    if (!gone.has(instance))
      for (const [name, each] of this.#neighbours.set(instance, neighbour)) {
        gone.set(name, each);
        this.#services.get(serviceKey(each))?.delete(name);
      }
    for (const each of [neighbour, ...gone.values()])
      if (this.#services.get(serviceKey(each))?.size === 0) this.#services.delete(serviceKey(each));
    if (gone.size > 0) {
      this.#warnFull();
      this.doubt();
    }
    return gone;
  }

  #drop(instance: string): void {
    const known = this.#neighbours.get(instance);
    this.#neighbours.delete(instance);
    const key = known && serviceKey(known);
    const own = key === undefined ? undefined : this.#services.get(key);
    own?.delete(instance);
    if (own?.size === 0) this.#services.delete(key!);
  }

  #bury(instance: string, service: Service, domain: string, now: number): void {
    this.#drop(instance);
    this.#tombstones.delete(instance);
    // In the order of burial; the oldest makes room.
    if (this.#tombstones.size >= maxTombstones) this.#tombstones.delete(this.#tombstones.keys().next().value!);
    this.#tombstones.set(instance, now);
    this.#emit("delete", service, domain);
  }

  #buriedFor(instance: string, now: number): number {
    return now - (this.#tombstones.get(instance) ?? -Infinity);
  }

  #emit(action: RegistryEvent["action"], service: Service, domain: string): void {
    const event = Object.freeze({ action, service });
    for (const watcher of this.#watchers.keys())
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
    for (const [instance, { service, domain, refreshAt: at, expiresAt }] of this.#neighbours.entries())
      if (expiresAt <= now) this.withdraw(instance);
      else if (at <= now) due.set(`${domain}\0${service.name}`, { service: service.name, domain });
    await this.#refresh([...due.values()]);
    const later = performance.now();
    for (const { refreshAt: at, expiresAt } of this.#neighbours.values())
      // Due already: asked, and silent. RFC 6762 asks again at 85, 90 and 95 % of the time.
      if (at > later) this.#schedule(at);
      else this.#schedule(Math.min(expiresAt, later + Math.max(minRefreshPauseMs, (expiresAt - at) / 4)));
  }

  /** A few at a time: forged services must not make us ask for thousands at once. */
  async #refresh(due: { readonly service: string; readonly domain: string }[]): Promise<void> {
    const ask = async (): Promise<void> => {
      for (let next = due.shift(); next !== undefined && !this.idle; next = due.shift()) {
        const { service, domain } = next;
        // oxlint-disable-next-line no-await-in-loop -- one after the other is the point
        await this.#options.refresh(service, domain).catch((error: unknown) => {
          this.#options.settings.logger?.debug("mdns: a node could not be asked for", { service, error });
        });
      }
    };
    await Promise.all(Array.from({ length: refreshesAtOnce }, ask));
  }

  #warnFull(): void {
    if (this.#warned) return;
    this.#warned = true;
    this.#options.settings.logger?.warn(
      "mdns: more is announced than is remembered; nodes that answer when they are asked for stay, the oldest others go",
      { limitBytes: this.#options.maxBytes ?? maxNeighbourBytes, serviceLimitBytes: maxServiceBytes },
    );
  }

  /** What only the watcher that has left wanted. */
  #forgetUnwanted(): void {
    for (const [instance] of this.#neighbours.entries()) if (!this.wants(instance)) this.#drop(instance);
  }

  #forget(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#doubts);
    this.#doubts = undefined;
    this.#timerAt = Infinity;
    this.#neighbours.clear();
    this.#services.clear();
    this.#tombstones.clear();
    this.#warned = false;
  }
}

function serviceKey({ service, domain }: Neighbour): string {
  return `${domain}\0${service.name}`;
}
