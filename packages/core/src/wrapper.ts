/**
 * Wrappers: code around calls. One shape for client, call, handler and subscriber:
 * `(next) => (request, context) => next(request, context)`. The first one listed is the outermost.
 */

/** `request` is the decoded message, or an async iterable of them where the caller streams; the result likewise. */
export type Next<C> = (request: any, context: C) => any;

export type Wrapper<C> = (next: Next<C>) => Next<C>;

/** Compose wrappers around `innermost`, the first listed outermost. */
export function wrap<C>(wrappers: readonly Wrapper<C>[], innermost: Next<C>): Next<C> {
  return wrappers.reduceRight<Next<C>>((next, wrapper) => wrapper(next), innermost);
}
