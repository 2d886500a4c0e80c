/** Hooks: functions around start and stop. */
import { runAsWork } from "../work.ts";

/** A hook of `beforeStart`, `afterStart`, `beforeStop` or `afterStop`. */
export type Hook = () => void | Promise<void>;

/** Run in order; the first error ends it. `owner` waits for them before it ends. */
export async function runHooks(owner: object, hooks: readonly Hook[]): Promise<void> {
  for (const hook of hooks) await runAsWork(owner, hook);
}

/** Run all in order whatever happens; errors go to `failed`. */
export async function runAllHooks(
  owner: object,
  hooks: readonly Hook[],
  failed: (error: unknown) => void,
): Promise<void> {
  for (const hook of hooks) {
    try {
      await runAsWork(owner, hook);
    } catch (error) {
      failed(error);
    }
  }
}
