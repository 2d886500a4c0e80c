/** What a node looks like on the wire: its records, its packets, its answers (go-micro `util/mdns/{zone,server}.go`). */
import { isIPv4, isIPv6, SocketAddress } from "node:net";
import { splitAddress, isUnspecified } from "../address.ts";
import type { Node, Service } from "../registry.ts";
import { checkName, enumerationName, instanceName, listEntryName, listName, refused, serviceName } from "./names.ts";
import {
  classInternet,
  encodeMessage,
  flagResponse,
  flagsAnswer,
  PacketError,
  recordTypes,
  type Question,
  type Record,
} from "./packet.ts";
import { encodeTxt } from "./txt.ts";

/** What makes answers: a node, or the list entry of a service. */
export interface Advertised {
  /** The records that answer a question; empty if it is about something else. */
  answer(question: Question): readonly Record[];
}

/** A registered node, ready to be sent. */
export interface AdvertisedNode extends Advertised {
  readonly id: string;
  readonly service: string;
  readonly domain: string;
  /** Asked before the announcements, as Go does; nobody has to answer. */
  readonly probe: Buffer;
  readonly announcement: Buffer;
  /** The announcement with a time to live of 0 throughout. */
  readonly goodbye: Buffer;
  /** The whole service with this node alone, for look-ups of our own. */
  readonly record: Service;
}

export interface RecordSettings {
  readonly domain: string;
  /** Host name without a dot at the end. */
  readonly host: string;
  readonly ttlSeconds: number;
}

/**
 * The records of one node.
 * @throws {MicroError} `bad_request` if mdns cannot carry it; Go would register it and never be asked for it.
 */
export function advertiseNode(service: Service, node: Node, settings: RecordSettings): AdvertisedNode {
  const { domain, host, ttlSeconds: ttl } = settings;
  const instance = instanceName(node.id, service.name, domain);
  checkName("service name", service.name, listEntryName(service.name, domain));
  checkName("node id", node.id, instance);
  const { port, bytes } = readAddress(node);
  const type = bytes.length === 4 ? "A" : "AAAA";
  const txt = {
    service: service.name,
    version: service.version,
    endpoints: service.endpoints,
    metadata: node.metadata,
  };
  const ptr: Record = { type: "PTR", name: serviceName(service.name, domain), ttl, target: instance };
  const srv = { type: "SRV", name: instance, ttl, priority: 10, weight: 1, port, target: `${host}.` } as const;
  const address: Record = { type, name: `${host}.`, ttl, address: bytes };
  const text: Record = { type: "TXT", name: instance, ttl, strings: encodeTxt(txt) };
  const answers = [srv, address, text];
  try {
    // The longest message of a node; if this one fits, all do.
    encodeMessage({ questions: [question(ptr.name)], answers: [ptr, ...answers] }, { compress: false });
    return {
      id: node.id,
      service: service.name,
      domain,
      probe: encodeMessage(
        {
          id: Math.floor(Math.random() * 0x1_0000),
          questions: [question(instance)],
          authorities: [{ ...srv, priority: 0, weight: 0 }, text],
        },
        { compress: false },
      ),
      announcement: encodeMessage({ flags: flagResponse, answers }, { compress: false }),
      goodbye: encodeMessage(
        { flags: flagResponse, answers: answers.map((record) => ({ ...record, ttl: 0 })) },
        { compress: false },
      ),
      record: Object.freeze({ ...service, metadata: Object.freeze(Object.create(null)), nodes: Object.freeze([node]) }),
      answer: (asked) =>
        answerSet(asked, { owner: ptr, srv, address, text, host: address.name, enumeration: enumerationName(domain) }),
    };
  } catch (cause) {
    if (!(cause instanceof PacketError)) throw cause;
    throw refused(`node ${JSON.stringify(node.id)} does not fit a DNS message: ${cause.message}`, cause);
  }
}

/** The record by which a service is listed, kept as long as it has a node. Its address and port mean nothing. */
export function advertiseList(service: string, settings: RecordSettings): Advertised {
  const { domain, host, ttlSeconds: ttl } = settings;
  const entry = listEntryName(service, domain);
  const owner: Record = { type: "PTR", name: listName(domain), ttl, target: entry };
  const srv: Record = { type: "SRV", name: entry, ttl, priority: 10, weight: 1, port: 9999, target: `${host}.` };
  const address: Record = { type: "A", name: `${host}.`, ttl, address: new Uint8Array(4) };
  const text: Record = { type: "TXT", name: entry, ttl, strings: [] };
  // Go answers 0.0.0.0 for the host name here; nobody can use that, so questions for the host are left to nodes.
  return {
    answer: (asked) =>
      answerSet(asked, { owner, srv, address, text, host: undefined, enumeration: enumerationName(domain) }),
  };
}

/** A question as Go's querier asks it. */
export function question(name: string): Question {
  return { name, type: recordTypes.PTR, class: classInternet };
}

/**
 * The answer packet of one advertised thing, or undefined. The questions are repeated and each packet speaks of one
 * node: a Go querier drops everything else. The id is 0 unless the asker wants a unicast answer.
 */
export function answerPacket(
  advertised: Advertised,
  query: { readonly id: number; readonly questions: readonly Question[] },
): Buffer | undefined {
  const answers = new Set(query.questions.flatMap((asked) => advertised.answer(asked)));
  if (answers.size === 0) return undefined;
  const unicast = query.questions.some((asked) => asked.class > 0x7fff);
  return encodeMessage(
    { id: unicast ? query.id : 0, flags: flagsAnswer, questions: query.questions, answers: [...answers] },
    { compress: true },
  );
}

interface RecordSet {
  readonly owner: Extract<Record, { type: "PTR" }> | Record;
  readonly srv: Record;
  readonly address: Record;
  readonly text: Record;
  readonly host: string | undefined;
  readonly enumeration: string;
}

/** Names are compared byte by byte, upper and lower case being different, as Go does. */
function answerSet({ name, type }: Question, set: RecordSet): readonly Record[] {
  const { owner, srv, address, text } = set;
  const any = type === recordTypes.ANY;
  switch (name) {
    case owner.name:
      return any || type === recordTypes.PTR ? [owner, srv, address, text] : [];
    case srv.name:
      if (any) return [srv, address, text];
      if (type === recordTypes.SRV) return [srv, address];
      if (type === recordTypes.TXT) return [text];
      return type === recordTypes[address.type] ? [address] : [];
    case set.host:
      return any || type === recordTypes[address.type] ? [address] : [];
    case set.enumeration:
      if (!any && type !== recordTypes.PTR) return [];
      return [{ type: "PTR", name, ttl: owner.ttl, target: owner.name }];
    default:
      return [];
  }
}

function readAddress(node: Node): { port: number; bytes: Uint8Array } {
  const complaint = `node ${JSON.stringify(node.id)}: mdns carries IP:port with a port above 0, not ${JSON.stringify(node.address)}`;
  let split: ReturnType<typeof splitAddress>;
  try {
    split = splitAddress(node.address);
  } catch (cause) {
    throw refused(complaint, cause);
  }
  const port = Number(split.port);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw refused(complaint);
  const bytes = addressBytes(split.host);
  if (bytes === undefined) throw refused(complaint);
  if (isUnspecified(split.host))
    throw refused(`${complaint}; it means every address of this machine, and no one of them`);
  return { port, bytes };
}

/** The bytes of an IP address, IPv4 inside IPv6 as IPv4; undefined for anything else, zones included. */
function addressBytes(host: string): Uint8Array | undefined {
  if (isIPv4(host)) return Uint8Array.from(host.split(".").map(Number));
  if (!isIPv6(host) || host.includes("%")) return undefined;
  // Brings every spelling into the short form with hexadecimal groups only, but for addresses with IPv4 inside.
  const { address } = new SocketAddress({ address: host, family: "ipv6" });
  const groups = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a: string, b: string, c: string, d: string) =>
    [(Number(a) << 8) | Number(b), (Number(c) << 8) | Number(d)].map((group) => group.toString(16)).join(":"),
  );
  const [head = "", tail] = groups.split("::");
  const before = head === "" ? [] : head.split(":");
  const after = tail === undefined || tail === "" ? [] : tail.split(":");
  const all = [...before, ...Array.from({ length: 8 - before.length - after.length }, () => "0"), ...after];
  const bytes = Uint8Array.from(
    all.map((group) => Number.parseInt(group, 16)).flatMap((group) => [group >> 8, group & 0xff]),
  );
  const mapped = bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return mapped ? bytes.slice(12) : bytes;
}

/** The text of an address record. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((bytes[index * 2]! << 8) | bytes[index * 2 + 1]!).toString(16),
  );
  return new SocketAddress({ address: groups.join(":"), family: "ipv6" }).address;
}
