/** Hooks: functions around start and stop. */

/** A hook of `beforeStart`, `afterStart`, `beforeStop` or `afterStop`. */
export type Hook = () => void | Promise<void>;

/** Run in order; the first error ends it. */
export async function runHooks(hooks: readonly Hook[]): Promise<void> {
  for (const hook of hooks) await hook();
}

/** Run all in order whatever happens; errors go to `failed`. */
export async function runAllHooks(hooks: readonly Hook[], failed: (error: unknown) => void): Promise<void> {
  for (const hook of hooks) {
    try {
      await hook();
    } catch (error) {
      failed(error);
    }
  }
}
