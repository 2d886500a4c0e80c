/** What all calls of one client share. */
import type { Logger } from "../logger/logger.ts";
import type { Metadata } from "../metadata.ts";
import type { Selector } from "../selector/selector.ts";
import type { Transport } from "../transport/transport.ts";
import type { Next } from "../wrapper.ts";
import type { Call } from "./call-context.ts";
import type { AttemptContext, CallContext, ClientOptions } from "./client.ts";
import type { RetryBudget } from "./retry-budget.ts";
import type { Wires } from "./wire.ts";

export interface ClientCore {
  readonly transport: Transport;
  readonly selector: Selector;
  readonly logger: Logger;
  readonly wires: Wires;
  readonly budget: RetryBudget;
  /** Metadata of every call: the client's own name. */
  readonly constant: Metadata | undefined;
  /** The client wrappers around a call, and the call wrappers around an attempt; undefined where there are none. */
  readonly aroundCall: Next<CallContext> | undefined;
  readonly aroundAttempt: Next<AttemptContext> | undefined;
  readonly protocols: ClientOptions["protocols"];
  /** Running streams, cancelled when the client closes. */
  readonly streams: Set<Call>;
  /** Turns around lists of addresses. */
  nextAddress: number;
}
