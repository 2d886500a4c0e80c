/**
 * What runs, and what waits for it before it ends. A server that stops waits for its handlers, a broker that disconnects for its
 * subscribers: the handler that asks for that end must not be kept waiting for itself.
 */
import { AsyncLocalStorage } from "node:async_hooks";

/** A handler or hook at work. @internal */
export interface Work {
  /** False once nobody waits for it any more: what it has left behind, say a timer, may wait for any end. */
  readonly running: boolean;
  /** True for those whose end waits for it: its subscription and broker, or its server. */
  isOf(owner: object): boolean;
}

/** What everything started by a piece of work can find it by. @internal */
export interface WorkFrame {
  readonly work: Work | undefined;
}

/** The one store of this package: a second one would make every call dearer. @internal */
export const frames: AsyncLocalStorage<WorkFrame | undefined> = new AsyncLocalStorage<WorkFrame | undefined>();

/** True inside of what `owner` waits for before it ends: there, its end can only be begun, not waited for. @internal */
export function runsInside(owner: object): boolean {
  const work = frames.getStore()?.work;
  return work !== undefined && work.running && work.isOf(owner);
}

/**
 * What an `end()` returns: `ending`, or for whoever `owner` waits for, a promise that is resolved, as the end has begun.
 *
 * For authors of brokers and servers: `return unlessInside(this, (this.#ending ??= detach(() => this.#end())))`.
 */
export function unlessInside(owner: object, ending: Promise<void>): Promise<void> {
  if (!runsInside(owner)) return ending;
  // Who waits from elsewhere hears of it.
  ending.catch(() => {});
  return Promise.resolve();
}

/** The event or call as work, where it is a piece of it. @internal */
export function asWork(value: object): Work | undefined {
  return "isOf" in value && "running" in value ? (value as Work) : undefined;
}

/** Run `run` as work that `owner` waits for. @internal */
export async function runAsWork(owner: object, run: () => void | Promise<void>): Promise<void> {
  const work = { running: true, isOf: (other: object) => other === owner };
  try {
    await frames.run({ work }, run);
  } finally {
    work.running = false;
  }
}
