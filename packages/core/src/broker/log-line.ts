/** How a broker's logger is told of the broker: in the form that every piece of a service has, `Broker [nats] …`. */
import type { MicroError } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";

/** An error's text as a line of a log: `broker nats: why` as `Broker [nats] why`. */
export function brokerLine({ detail }: MicroError): string {
  return detail.replace(/^broker (\w+): /, "Broker [$1] ");
}

/**
 * For authors of brokers: the connection that there was is lost. Told at `warn`, as of all that is tried again without help; that it
 * is back is `info`.
 */
export function logConnectionLost(logger: Logger, broker: string, { detail }: MicroError): void {
  logger.warn(`Broker [${broker}] Connection lost, it is made again: ${detail.replace(`broker ${broker}: `, "")}`);
}
