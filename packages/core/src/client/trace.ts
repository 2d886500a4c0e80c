/** Stacks that end in the caller's code, without a cost to calls that succeed. */
import { MicroError } from "../errors.ts";

/**
 * The error with the stack of here. One that a timer or a socket made has none of the caller's frames; told while the caller's
 * `await` is all that is left to do, the engine finds them along the promises. Other errors than ours keep theirs.
 */
export function traced<Thrown>(error: Thrown): Thrown {
  if (MicroError.is(error)) Error.captureStackTrace(error);
  return error;
}
