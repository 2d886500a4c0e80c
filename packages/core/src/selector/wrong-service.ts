/** How a client tells its selector that a node's record led to another service's process. */

/**
 * The `cause` of the error of such an attempt. The record is stale, or its port has a new owner; the process itself may be well,
 * and is so for its own service's callers. Known by its code, so that it may come from another copy of this package.
 */
export class WrongServiceError extends Error {
  readonly code = "EWRONGSERVICE";

  override get name(): string {
    return "WrongServiceError";
  }
}
