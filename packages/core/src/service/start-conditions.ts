/**
 * What must be there before a service starts: its registry, and its broker where it subscribes.
 *
 * They are looked for before the port is bound. A process that listens and cannot register is a trap: whoever holds a
 * stale record of its address would call it, while it is about to end.
 */
import { sleep, systemClock, withLimit } from "../clock.ts";
import { MicroError } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import { startPausesMs } from "../registry/registrar.ts";
import { jitteredBackoff } from "../supervisor.ts";

/** Of one look. */
const timeoutMs = 5_000;
/** How often a start that waits says so. */
const reportIntervalMs = 30_000;

export interface Condition {
  /** E.g. `Registry [etcd]`: begins what is logged. */
  readonly what: string;
  readonly logger: Logger;
  /** Wait for as long as it takes, instead of giving up after the fourth try. */
  readonly wait: boolean;
  readonly signal: AbortSignal;
  /** Rejects while it is not there: `unavailable` and `timeout` mean that it may come. */
  readonly attempt: (limit: { signal: AbortSignal; timeoutMs: number }) => Promise<unknown>;
}

/** What to do where it is only late, as when everything is started at once. */
const advice = "MICRO_START_WAIT=true, --start_wait or `startWait` wait for it";

/** The error of a start that did not wait for what is away. */
export function withAdvice(failure: MicroError): MicroError {
  const { detail, id, code, statusCode, notRun, cause } = failure;
  return new MicroError(`${detail}; ${advice}`, { id, code, statusCode, notRun, cause: cause ?? failure });
}

/**
 * Resolves once `attempt` has worked, or failed in a way that waiting does not mend: whoever needs it finds out what
 * that means.
 * @throws {MicroError} the last failure where `wait` is false; `aborted` by the signal.
 */
export async function untilThere({ what, logger, wait, signal, attempt }: Condition): Promise<void> {
  const backoff = jitteredBackoff({ minDelayMs: 500, maxDelayMs: 5_000 });
  const since = systemClock.now();
  let toldAt = Number.NEGATIVE_INFINITY;
  for (let tries = 0; ; tries++) {
    // What is asked may know no limits.
    const limit = { signal, timeoutMs: timeoutMs + 100, what };
    const failure = await withLimit(attempt({ signal, timeoutMs }), limit).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (signal.aborted) throw signal.reason;
    if (!mayCome(failure)) break;
    if (!wait && tries === startPausesMs.length) throw withAdvice(failure);
    const now = systemClock.now();
    if (!wait) logger.debug(`${what} Not there: ${failure.detail}`);
    else if (now - toldAt >= reportIntervalMs) {
      const waited = toldAt < 0 ? "" : ` (for ${Math.round((now - since) / 1000)} s now)`;
      logger.warn(`${what} Not there, the start waits for it${waited}: ${failure.detail}`);
      toldAt = now;
    }
    await sleep(wait ? 100 + backoff.next() : startPausesMs[tries]!, { signal, keepAlive: true });
    if (signal.aborted) throw signal.reason;
  }
  if (toldAt > 0) logger.info(`${what} There, the start goes on`);
}

/** Whether waiting may mend a failure. */
export function mayCome(failure: unknown): failure is MicroError {
  return MicroError.is(failure) && (failure.code === "unavailable" || failure.code === "timeout");
}
