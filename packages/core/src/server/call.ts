/** What all running calls of a server have in common. */
import type { Cancellation } from "../context.ts";
import type { MicroError } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import type { ServerExchange } from "../transport/transport.ts";
import type { Job } from "./limiter.ts";
import type { MessageFormat } from "./messages.ts";
import type { Plan } from "./router.ts";

/** The server, as its calls see it. */
export interface CallHost {
  /** The service's name. */
  readonly service: string;
  readonly logger: Logger;
  /** The call goes on after `start()` has returned. */
  running(call: Call): void;
  /** The call is over. Once per started call. */
  finished(call: Call, failed: boolean): void;
}

/** One exchange on its way through the server. */
export interface Call extends Job {
  readonly plan: Plan;
  readonly exchange: ServerExchange;
  readonly format: MessageFormat;
  /** Cancel the handler; the caller gets `reason` unless the handler is quicker. */
  cancel(reason: MicroError): void;
  /** Answer with `reason` now and count the call as over, whatever the handler still does. */
  abandon(reason: MicroError): void;
}

/** True when the caller has gone: nobody hears how the call ended, so it did not fail. */
export function callerGone(cancellation: Cancellation): boolean {
  return cancellation.reason?.code === "aborted";
}
