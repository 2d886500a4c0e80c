/** The record under which a service is found. Source: go-micro `server/rpc_server.go` (`Register`). */
import { advertiseAddress } from "../registry/address.ts";
import type { Endpoint, Service } from "../registry/registry.ts";
import type { ServiceSettings } from "./options.ts";

/** Names of the pieces, as they stand in the metadata of the node. */
export interface NodePieces {
  readonly server: string;
  readonly transport: string;
  readonly registry: string;
  readonly broker: string;
  /** See `Transport.wire`. */
  readonly wire: string | undefined;
  /** Processes that share the address. Default: 1, which is not announced. */
  readonly workers?: number | undefined;
}

/** `<name>-<id>`. */
export function nodeId(settings: Pick<ServiceSettings, "name" | "id">): string {
  return `${settings.name}-${settings.id}`;
}

/**
 * The record of a running service.
 * @param bound the address its server is bound to.
 * @param preferred the host at which it has been seen to answer.
 */
export function serviceRecord(
  settings: ServiceSettings,
  bound: string,
  pieces: NodePieces,
  endpoints: readonly Endpoint[],
  preferred?: string,
): Service {
  const metadata = new Map(Object.entries(settings.metadata));
  // Ours last: peers choose the wire by `protocol`.
  metadata.set("transport", pieces.transport);
  metadata.set("server", pieces.server);
  metadata.set("broker", pieces.broker);
  metadata.set("registry", pieces.registry);
  metadata.set("protocol", pieces.server);
  // Only this server is sure to listen with the transport.
  const wire = pieces.server === "mucp" ? pieces.wire : undefined;
  const workers = wire === undefined || pieces.workers === 1 ? undefined : pieces.workers?.toString();
  for (const [name, value] of [
    ["wire", wire],
    ["wire-workers", workers],
  ] as const) {
    if (value === undefined) metadata.delete(name);
    else metadata.set(name, value);
  }
  return {
    name: settings.name,
    version: settings.version,
    metadata: {},
    endpoints,
    nodes: [
      {
        id: nodeId(settings),
        address: advertiseAddress(settings.advertise ?? bound, undefined, { bound, preferred }),
        metadata: Object.fromEntries(metadata),
      },
    ],
  };
}
