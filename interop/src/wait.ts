/** Wait for conditions, never for time. */
import { setTimeout as delay } from "node:timers/promises";

export async function waitFor<T>(
  what: string,
  read: () => T | Promise<T>,
  accept: (value: T) => boolean,
  timeoutMs = 5_000,
): Promise<T> {
  const limit = performance.now() + timeoutMs;
  for (;;) {
    const value = await read();
    if (accept(value)) return value;
    if (performance.now() > limit)
      throw new Error(`not within ${timeoutMs} ms: ${what}; last seen ${JSON.stringify(value)}`);
    await delay(25);
  }
}
