/** Stacks that end in the caller's code, without a cost to calls that succeed. */
import { MicroError } from "../errors.ts";

// Between what fails and the caller there are so many frames of this library's and of wrappers, at most as a rule.
const ownFrames = 10;

/**
 * The error with the stack of here. One that a timer or a socket made has none of the caller's frames; told while the caller's
 * `await` is all that is left to do, the engine finds them along the promises. Other errors than ours keep theirs.
 */
export function traced<Thrown>(error: Thrown): Thrown {
  if (MicroError.is(error)) withRoom(() => Error.captureStackTrace(error));
  return error;
}

/** What `make` makes, with room in its stack for `frames` of this library's own, so that the caller's are not cut off. */
export function withRoom<T>(make: () => T, frames: number = ownFrames): T {
  const limit = Error.stackTraceLimit;
  if (!(limit > 0)) return make();
  Error.stackTraceLimit = limit + frames;
  try {
    return make();
  } finally {
    Error.stackTraceLimit = limit;
  }
}
