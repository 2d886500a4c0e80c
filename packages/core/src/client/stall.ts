/** Time that passed because this process was busy, and that no node is to blame for. */
import { MicroError } from "../errors.ts";
import { clientId } from "./deadline.ts";

// A limit noticed later than this was noticed by a loop that was blocked: timers are a millisecond late, seldom more.
const lateMs = 5;
// Of long waits a short stall is no part that matters.
const lateShare = 0.05;

/** What a selector is told of an attempt whose time was spent here. It says nothing of the node. */
const busyHere = new MicroError("this process was busy past the limit of the attempt", {
  id: clientId,
  code: "aborted",
});

/**
 * What a selector is told of `error`, a limit that passed: the error itself, unless the limit was noticed so long after it was
 * `due` that our own event loop was blocked, and an answer may have been waiting. Times are on the clock of `performance.now()`.
 */
export function blame(error: MicroError, startedAt: number, due: number, now: number): MicroError {
  const late = now - due;
  return late > lateMs && late > (now - startedAt) * lateShare ? busyHere : error;
}
