/** From records back to nodes (go-micro `util/mdns/client.go`), more patient than Go: parts may come in any order. */
import { joinAddress } from "../address.ts";
import type { Node, Service } from "../registry.ts";
import { partBefore, serviceName } from "./names.ts";
import type { Message, Record } from "./packet.ts";
import { addressText } from "./records.ts";
import { decodeTxt } from "./txt.ts";

/** All that was said of one instance. */
export interface Entry {
  readonly instance: string;
  readonly address: string;
  readonly txt: readonly string[];
  /** Seconds; 0 = it says goodbye. */
  readonly ttl: number;
}

/** Most instances that are remembered at once; on one network there are some hundred at most. */
export const maxInstances = 10_000;

interface Location {
  readonly port: number;
  readonly target: string;
  readonly ttl: number;
  /** The address that came in the same packet: hosts with several addresses name one per node. */
  readonly address: string | undefined;
}

/** Puts instances together from packets. Bounded; what is beyond the bound is not remembered. */
export class EntryCollector {
  readonly #locations = new Map<string, Location>();
  readonly #texts = new Map<string, { readonly strings: readonly string[]; readonly ttl: number }>();
  readonly #hosts = new Map<string, string>();

  /** Take in a packet; gives the instances that it completed or changed. */
  add(message: Message): Entry[] {
    const records = [...message.answers, ...message.additionals];
    const hosts = hostAddresses(records);
    for (const [host, address] of hosts) this.#remember(this.#hosts, host, address);
    const touched = new Set<string>();
    for (const record of records)
      if (record.type === "SRV") {
        const { port, target, ttl } = record;
        this.#remember(this.#locations, record.name, { port, target, ttl, address: hosts.get(target) });
        touched.add(record.name);
      } else if (record.type === "TXT") {
        this.#remember(this.#texts, record.name, record);
        touched.add(record.name);
      }
    // An address alone may be what instances of earlier packets were waiting for.
    if (touched.size === 0)
      for (const [instance, { target }] of this.#locations) if (hosts.has(target)) touched.add(instance);
    return [...touched].map((instance) => this.#complete(instance)).filter((entry) => entry !== undefined);
  }

  #complete(instance: string): Entry | undefined {
    const location = this.#locations.get(instance);
    const text = this.#texts.get(instance);
    const host = location && (location.address ?? this.#hosts.get(location.target));
    if (location === undefined || text === undefined || host === undefined || location.port === 0) return undefined;
    const address = joinAddress(host, String(location.port));
    return { instance, address, txt: text.strings, ttl: Math.min(location.ttl, text.ttl) };
  }

  #remember<T>(map: Map<string, T>, name: string, value: T): void {
    if (map.size < maxInstances || map.has(name)) map.set(name, value);
  }
}

/** The instances a packet takes back, complete or not: by a PTR or SRV record with a time to live of 0. */
export function withdrawn(message: Message): string[] {
  return message.answers.flatMap((record) => {
    if (record.ttl !== 0) return [];
    if (record.type === "PTR") return [record.target];
    return record.type === "SRV" ? [record.name] : [];
  });
}

/**
 * The service with the one node an entry describes; undefined if it speaks of another service or domain than its name.
 * @throws {MicroError} `codec` if the description cannot be read.
 */
export function readEntry(entry: Entry, domain: string): Service | undefined {
  const { service, version, endpoints, metadata } = decodeTxt(entry.txt);
  if (service === "") return undefined;
  const id = partBefore(entry.instance, serviceName(service, domain));
  if (id === undefined) return undefined;
  const node: Node = Object.freeze({ id, address: entry.address, metadata });
  return Object.freeze({ name: service, version, metadata: noMetadata, endpoints, nodes: Object.freeze([node]) });
}

const noMetadata = Object.freeze(Object.create(null) as { [name: string]: string });

/** The first address of each host, IPv4 before IPv6 as Go prefers it. */
function hostAddresses(records: readonly Record[]): Map<string, string> {
  const addresses = new Map<string, string>();
  for (const type of ["A", "AAAA"] as const)
    for (const record of records)
      if (record.type === type && !addresses.has(record.name)) addresses.set(record.name, addressText(record.address));
  return addresses;
}
