/** The first look-up of a call: a registry that is away for a moment costs time, not the call. */
import { MicroError } from "../errors.ts";
import type { Selection } from "../selector/selector.ts";
import type { Call } from "./call-context.ts";
import { clientId, pause } from "./deadline.ts";

// Waits between look-ups: doubled each time, and drawn from their upper half, so that many callers do not ask at once.
const firstWaitMs = 100;
const longestWaitMs = 1_000;
// With less time left than this nothing is waited for any more.
const shortestWaitMs = 10;
// How long a call without a deadline, as a stream is, waits for the registry, where its client sets no time for calls.
const unlimitedMs = 5_000;

/** What a selector is told of a node that was picked and not used. */
export const unused: MicroError = new MicroError("the node was not used", { id: clientId, code: "aborted" });

/**
 * The node of a look-up that has begun as `picked`. Where the registry cannot be asked it is asked again, by `pick`, as long
 * as the deadline and the retry policy allow: nothing has run, so that is no attempt and counts as none.
 * @throws {MicroError} the look-up's error, with how often it was asked; `timeout` and `aborted` as of the call.
 */
export async function firstNode(
  call: Call,
  picked: Promise<Selection>,
  pick: () => Selection | Promise<Selection>,
): Promise<Selection> {
  const startedAt = performance.now();
  let looking = picked;
  for (let asked = 1; ; asked++) {
    let failure: unknown;
    try {
      // oxlint-disable-next-line no-await-in-loop -- one after the other is the point
      const selection = await looking;
      const ended = call.ended("call timeout: ");
      if (ended === undefined) return selection;
      selection.done(unused);
      failure = ended;
    } catch (error) {
      failure = call.ended("call timeout: ") ?? error;
    }
    // oxlint-disable-next-line no-await-in-loop
    const waitMs = isAway(failure) && (await mayAskAgain(call, failure, asked)) ? nextWait(call, startedAt, asked) : 0;
    if (!(waitMs > 0)) throw asked === 1 ? failure : withCount(failure, asked, performance.now() - startedAt);
    // oxlint-disable-next-line no-await-in-loop
    await pause(waitMs, call.signal);
    const ended = call.ended("call timeout: ");
    // Out of time, the registry is still what is to be told of.
    if (ended !== undefined)
      throw ended.code === "timeout" ? withCount(failure, asked, performance.now() - startedAt) : ended;
    looking = new Promise((resolve) => resolve(pick()));
  }
}

/** The registry, not the service, is what is missing. */
function isAway(error: unknown): error is MicroError {
  return MicroError.is(error) && error.code === "unavailable" && error.notRun;
}

async function mayAskAgain(call: Call, error: MicroError, asked: number): Promise<boolean> {
  const policy = call.own?.retry ?? call.target.defaults.retry;
  return await policy(error, call, asked);
}

/** 0 = not again. The last look-ups come close to the deadline, none after it. */
function nextWait(call: Call, startedAt: number, asked: number): number {
  const { timeoutMs } = call.target.defaults;
  const limit = call.deadline ?? startedAt + (Number.isFinite(timeoutMs) ? timeoutMs : unlimitedMs);
  const bound = Math.min(firstWaitMs * 2 ** (asked - 1), longestWaitMs);
  const waitMs = Math.min(bound * (0.5 + Math.random() / 2), (limit - performance.now()) / 2);
  return waitMs < shortestWaitMs ? 0 : waitMs;
}

function withCount(error: unknown, asked: number, tookMs: number): unknown {
  if (!MicroError.is(error) || error.code !== "unavailable") return error;
  const { id, code, statusCode, notRun, cause } = error;
  const detail = `${error.detail}; asked ${asked} times in ${Math.round(tookMs)} ms`;
  return new MicroError(detail, { id, code, statusCode, notRun, cause });
}
