/** What a conformance suite needs of a test runner, and how its cases are declared. Works with vitest, node:test, jest and mocha. */

import { watchLeaks, type LeakWatch } from "./leaks.ts";

/** `{ describe, it }` of any runner. */
export interface TestRunner {
  describe(name: string, body: () => void): void;
  it(name: string, body: () => Promise<void>): void;
}

/** Declared differences of an implementation: test name to the reason it does not apply. */
export type Skips = Readonly<Record<string, string>>;

/**
 * One case of a suite; a fresh instance is made for each and disposed afterwards. Nothing of it may be left then: signals and
 * emitters come from `leaks`, timers and sockets are seen by themselves.
 */
export type SuiteCase<Fixture> = (fixture: Fixture, leaks: LeakWatch) => Promise<void>;

/**
 * Declare a suite. A fixture is made for every case, and disposed however the case ends; a case that leaves a timer, a socket, a
 * port or a listener behind fails.
 * @throws {TypeError} if `skip` names no case, or gives no reason.
 */
export function defineSuite<Fixture extends AsyncDisposable>(
  runner: TestRunner,
  name: string,
  create: () => Promise<Fixture>,
  cases: Readonly<Record<string, SuiteCase<Fixture>>>,
  skip: Skips = {},
): void {
  for (const [key, reason] of Object.entries(skip)) {
    if (!Object.hasOwn(cases, key)) throw new TypeError(`${name}: skip names no test: ${JSON.stringify(key)}`);
    if (reason.trim() === "") throw new TypeError(`${name}: skip of ${JSON.stringify(key)} gives no reason`);
  }
  runner.describe(name, () => {
    for (const [key, body] of Object.entries(cases)) {
      if (Object.hasOwn(skip, key)) continue;
      runner.it(key, async () => {
        const leaks = watchLeaks();
        try {
          await using fixture = await create();
          await body(fixture, leaks);
        } catch (error) {
          // What a failed case leaves behind is no news.
          await leaks.end().catch(() => {});
          throw error;
        }
        await leaks.end();
      });
    }
  });
}
