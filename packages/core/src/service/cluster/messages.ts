/** What a primary and its workers say to each other, over the channel `node:cluster` gives them. */
import type { Endpoint } from "../../registry/registry.ts";

/** Set in the environment of a worker: what it is to be. */
export const orderVariable = "MICRO_CLUSTER_WORKER";

export interface WorkerOrder {
  /** Id of the one node all workers are. */
  readonly id: string;
  /** Where to listen; undefined where the server was made by the program, address and all. */
  readonly address?: string | undefined;
}

/** What the primary registers for its workers. */
export interface WorkerReport {
  /** The bound address. */
  readonly address: string;
  readonly server: string;
  readonly transport: string;
  readonly wire?: string | undefined;
  readonly endpoints: readonly Endpoint[];
}

/** Programs may send messages of their own over the same channel: ours have `micro`. */
export type FromWorker =
  | { readonly micro: "listening"; readonly report: WorkerReport }
  /** Its start is over. */
  | { readonly micro: "started" }
  /** It takes part in a stop, asks for one, or could not start (`failed`); it goes on once it is told to. */
  | { readonly micro: "leaving"; readonly failed: boolean }
  | { readonly micro: "checked"; readonly check: number; readonly refusal?: string | undefined };

export type FromPrimary =
  | { readonly micro: "registered" }
  | { readonly micro: "stop" }
  /** Deregistered, and callers have had the time to learn of it. */
  | { readonly micro: "drain" }
  | { readonly micro: "check"; readonly check: number };

/** Whether a message is one of ours. */
export function isOwnMessage(message: unknown): message is FromWorker | FromPrimary {
  return typeof message === "object" && message !== null && "micro" in message;
}
