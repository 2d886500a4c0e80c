/** The registry record of a subscription, as go-micro writes it (`broker/http.go`, `Subscribe`). */
import type { Node, Service } from "../../registry/registry.ts";

/** The service all subscriptions are nodes of. */
export const serviceName = "micro.http.broker";
/** The version that stands for "no queue". */
export const broadcastVersion = "ff.http.broadcast";
/** Metadata `wire` of nodes that take further requests before they have answered the first. Go ignores it. */
export const pipelinedWire = "pipelined";

/** With a UUID behind it the last part of a name fills a DNS label, which has 63 bytes. */
const longestLabel = 26;
const longestPrefix = 120;

/**
 * The id of a subscription's node: `<topic>-<uuid>`, as Go's. Publishers look at the topic in the metadata, so a topic that
 * would make the node unresolvable over mdns, or is no name for other registries, is cut down to what they can hold.
 */
export function subscriptionId(topic: string): string {
  const parts = topic.split(".");
  const fits =
    topic.length <= longestPrefix &&
    parts.every((part) => /^[A-Za-z0-9_-]{1,63}$/.test(part)) &&
    parts.at(-1)!.length <= longestLabel;
  const prefix = fits
    ? topic
    : topic
        .replaceAll(/[^A-Za-z0-9_-]+/g, "-")
        .slice(0, longestLabel)
        .replaceAll(/^-+|-+$/g, "");
  return prefix === "" ? crypto.randomUUID() : `${prefix}-${crypto.randomUUID()}`;
}

/** What is registered. */
export function subscriptionRecord(
  nodeId: string,
  topic: string,
  queue: string | undefined,
  address: string,
  secure: boolean,
): Service {
  const metadata = { broker: "http", topic, secure: String(secure), wire: pipelinedWire };
  return {
    name: serviceName,
    version: queue ?? broadcastVersion,
    metadata: {},
    endpoints: [],
    nodes: [{ id: nodeId, address, metadata }],
  };
}

/** A subscription somewhere else, as a publisher sees it. */
export interface RemoteNode {
  readonly id: string;
  readonly address: string;
  readonly secure: boolean;
  readonly pipelined: boolean;
}

/** Who gets the messages of one topic. */
export interface Route {
  readonly broadcast: RemoteNode[];
  readonly queues: Map<string, RemoteNode[]>;
}

/** The routes of all topics; nodes that are no subscriptions are passed over, as Go does. */
export function routesOf(services: readonly Service[], isOwn: (id: string) => boolean): Map<string, Route> {
  const routes = new Map<string, Route>();
  for (const { version, nodes } of services)
    for (const node of nodes) {
      const { broker, topic } = node.metadata;
      if (broker !== "http" || topic === undefined || isOwn(node.id)) continue;
      let route = routes.get(topic);
      if (route === undefined) routes.set(topic, (route = { broadcast: [], queues: new Map() }));
      const remote = remoteNode(node);
      if (version === broadcastVersion) route.broadcast.push(remote);
      else {
        const members = route.queues.get(version);
        if (members === undefined) route.queues.set(version, [remote]);
        else members.push(remote);
      }
    }
  return routes;
}

function remoteNode({ id, address, metadata }: Node): RemoteNode {
  return {
    id,
    address,
    secure: metadata["secure"] === "true",
    pipelined: metadata["wire"] === pipelinedWire,
  };
}
