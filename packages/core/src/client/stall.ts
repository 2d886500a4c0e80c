/** Time that passed because this process was busy, and that no node is to blame for. */
import { MicroError } from "../errors.ts";
import { wasBlocked } from "../stall.ts";
import { clientId } from "./deadline.ts";

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
  return wasBlocked(startedAt, due, now) ? busyHere : error;
}
