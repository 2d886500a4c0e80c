/** How a start that fails is told: what a person can mend in one line, anything else with its stack. */
import { MicroError } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import { UsageError } from "./flags.ts";

/**
 * Log why `service` cannot start, in one line; with debugging on, stack and causes as well.
 * @returns what is to be printed in its place, where the logger writes nothing; undefined if `error` is nothing that
 * whoever starts the program could mend: it is for its author.
 */
export function tellFailedStart(service: string, error: unknown, logger: Logger): string | undefined {
  // As `init()` tells of it.
  if (error instanceof UsageError) {
    const shown = error.cause instanceof Error && logger.enabled("debug") ? `${error.cause.stack}\n` : "";
    return `${service}: ${error.message}\n${shown}`;
  }
  if (!MicroError.is(error)) return undefined;
  const text = `${service} cannot start: ${error.detail}`;
  if (!logger.enabled("fatal")) return `${text}\n`;
  logger.log("fatal", text, logger.enabled("debug") ? { error } : { code: error.code });
  return "";
}
