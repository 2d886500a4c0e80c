/** Instances of a service as Consul lists them, and go-micro services made of them. */
import type { Endpoint, Node, Service } from "@micro/core";
import type { DecodedTags, TagReader } from "./tags.ts";

/** One node of a service, read. */
export interface Instance {
  readonly node: Node;
  readonly name: string;
  readonly tags: DecodedTags;
  /** Changes with the registration; equal numbers, equal registrations. */
  readonly modified: number;
}

interface HealthEntry {
  readonly Node?: { readonly Address?: unknown };
  readonly Service?: {
    readonly ID?: unknown;
    readonly Service?: unknown;
    readonly Address?: unknown;
    readonly Port?: unknown;
    readonly Tags?: unknown;
    readonly ModifyIndex?: unknown;
  };
  readonly Checks?: readonly { readonly Status?: unknown }[] | null;
}

/**
 * The nodes of a health answer: without those that a check calls critical, and without what is not go-micro's.
 * `known` spares reading what has not changed.
 */
export function readInstances(
  name: string,
  body: unknown,
  reader: TagReader,
  known?: ReadonlyMap<string, Instance>,
): Map<string, Instance> {
  const instances = new Map<string, Instance>();
  if (!Array.isArray(body)) return instances;
  for (const { Node: host, Service: record, Checks: checks } of body as HealthEntry[]) {
    // Consul finds names in any case.
    if (typeof record?.ID !== "string" || record.ID === "" || record.Service !== name) continue;
    if (checks?.some(({ Status }) => Status === "critical") === true) continue;
    const modified = Number(record.ModifyIndex ?? 0);
    const before = known?.get(record.ID);
    const own = typeof record.Address === "string" ? record.Address : "";
    const fallback = typeof host?.Address === "string" ? host.Address : "";
    const address = hostPort(own === "" ? fallback : own, Number(record.Port ?? 0));
    if (before?.modified === modified && before.node.address === address) {
      instances.set(record.ID, before);
      continue;
    }
    const texts = Array.isArray(record.Tags) ? record.Tags.filter((tag) => typeof tag === "string") : [];
    const tags = reader.decode(texts);
    if (tags === undefined) continue;
    // Two agents may both hold it, after it moved from one to the other: the later registration counts.
    if ((instances.get(record.ID)?.modified ?? -1) > modified) continue;
    const node = Object.freeze({ id: record.ID, address, metadata: tags.metadata });
    instances.set(record.ID, { node, name, tags, modified });
  }
  bound(instances, reader);
  return instances;
}

/** About how many bytes of memory the instances of one answer may take. */
const maxBytes = 128 * 1024 * 1024;

/** Take out what is beyond the bound. Nodes of one service share most of their endpoints, which count once. */
function bound(instances: Map<string, Instance>, reader: TagReader): void {
  let most = 0;
  for (const { tags } of instances.values()) most += tags.bytes;
  if (most <= maxBytes) return;
  const seen = new Set<Endpoint>();
  let bytes = 0;
  for (const [id, { tags }] of instances) {
    const fresh = tags.endpoints.filter((endpoint) => !seen.has(endpoint));
    bytes += fresh.length === 0 ? tags.bytes / 16 : tags.bytes;
    for (const endpoint of fresh) seen.add(endpoint);
    if (bytes <= maxBytes) continue;
    instances.delete(id);
    reader.ignore(id, "the nodes of the service take more memory than is read");
  }
}

/** One service per version; the latest registration describes it. */
export function group(instances: Iterable<Instance>): Service[] {
  const versions = new Map<string, Instance[]>();
  for (const instance of instances) {
    const list = versions.get(instance.tags.version) ?? [];
    list.push(instance);
    versions.set(instance.tags.version, list);
  }
  return [...versions.values()].map(serviceOf);
}

function serviceOf(instances: readonly Instance[]): Service {
  let latest = instances[0]!;
  for (const instance of instances) if (instance.modified > latest.modified) latest = instance;
  return Object.freeze({
    name: latest.name,
    version: latest.tags.version,
    metadata: Object.freeze({}),
    endpoints: latest.tags.endpoints,
    nodes: Object.freeze(instances.map(({ node }) => node)),
  });
}

/** As Go: a host that is no IP may stand without a port. */
function hostPort(host: string, port: number): string {
  const bracketed = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
  return port > 0 ? `${bracketed}:${port}` : bracketed;
}
