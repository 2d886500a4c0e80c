/** From records back to nodes (go-micro `util/mdns/client.go`), more patient than Go: parts may come in any order. */
import { joinAddress } from "../address.ts";
import type { Node, Service } from "../registry.ts";
import { FairTable, type Kept } from "./fair-table.ts";
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

/** Who sent a packet, and whether it answers a question of ours. */
export type Origin = Pick<Kept, "source" | "proven">;

const nobody: Origin = { source: "", proven: false };

/** Kept of texts, of places, and of host addresses, in bytes each, until an instance is complete. */
const maxPartBytes = 4 * 1024 * 1024;
/** What keeping something under a name costs beside the name. */
const entryBytes = 200;

interface Location extends Kept {
  readonly port: number;
  readonly target: string;
  readonly ttl: number;
  /** The address that came in the same packet: hosts with several addresses name one per node. */
  readonly address: string | undefined;
}

interface Text extends Kept {
  readonly strings: readonly string[];
  readonly ttl: number;
}

/** Puts instances together from packets; only those that are wanted, and of these what fits the bounds. */
export class EntryCollector {
  readonly #wanted: (instance: string) => boolean;
  readonly #locations: FairTable<Location>;
  readonly #texts: FairTable<Text>;
  readonly #hosts: FairTable<Kept & { readonly address: string }>;

  /** @param maxBytes Kept of texts, of places, and of host addresses, each. */
  constructor(wanted: (instance: string) => boolean = () => true, maxBytes: number = maxPartBytes) {
    this.#wanted = wanted;
    this.#locations = new FairTable(maxBytes);
    this.#texts = new FairTable(maxBytes);
    this.#hosts = new FairTable(maxBytes);
  }

  /** Bytes kept. */
  get bytes(): number {
    return this.#locations.bytes + this.#texts.bytes + this.#hosts.bytes;
  }

  /** Take in a packet; gives the instances that it completed or changed. */
  add(message: Message, origin: Origin = nobody): Entry[] {
    const records = [...message.answers, ...message.additionals];
    const hosts = hostAddresses(records);
    const { source, proven } = origin;
    const touched = new Set<string>();
    for (const record of records)
      if (record.type === "SRV" && this.#wanted(record.name)) {
        const { name, port, target, ttl } = record;
        const bytes = entryBytes + 2 * (name.length + target.length);
        this.#locations.set(name, { source, proven, bytes, port, target, ttl, address: hosts.get(target) });
        touched.add(name);
      } else if (record.type === "TXT" && this.#wanted(record.name)) {
        const { name, strings, ttl } = record;
        const bytes = strings.reduce((sum, text) => sum + 24 + 2 * text.length, entryBytes + 2 * name.length);
        this.#texts.set(name, { source, proven, bytes, strings, ttl });
        touched.add(name);
      }
    for (const [host, address] of hosts)
      this.#hosts.set(host, { source, proven, bytes: entryBytes + 2 * host.length, address });
    // An address alone may be what instances of earlier packets were waiting for.
    if (touched.size === 0 && hosts.size > 0)
      for (const [instance, { target }] of this.#locations.entries()) if (hosts.has(target)) touched.add(instance);
    return [...touched].map((instance) => this.#complete(instance)).filter((entry) => entry !== undefined);
  }

  #complete(instance: string): Entry | undefined {
    const location = this.#locations.get(instance);
    const text = this.#texts.get(instance);
    const host = location && (location.address ?? this.#hosts.get(location.target)?.address);
    if (location === undefined || text === undefined || host === undefined || location.port === 0) return undefined;
    const address = joinAddress(host, String(location.port));
    return { instance, address, txt: text.strings, ttl: Math.min(location.ttl, text.ttl) };
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
 * `spend` is told what reading has cost.
 * @throws {MicroError} `codec` if the description cannot be read.
 */
export function readEntry(entry: Entry, domain: string, spend?: (bytes: number) => void): Service | undefined {
  const { service, version, endpoints, metadata } = decodeTxt(entry.txt, spend);
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
