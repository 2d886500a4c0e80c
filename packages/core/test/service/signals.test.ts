/** Stop signals of a process that runs many services. */
import { afterEach, describe, expect, it } from "vitest";
import { onStopSignal } from "../../src/service/signals.ts";

describe("stop signals", () => {
  const held: Disposable[] = [];
  afterEach(() => {
    for (const one of held.splice(0)) one[Symbol.dispose]();
  });

  function listen(first: () => void, exit: (code: number) => void = () => {}): Disposable {
    const one = onStopSignal(first, exit);
    held.push(one);
    return one;
  }

  it("take one listener of the process however many services run, and none once they have ended", () => {
    const before = process.listenerCount("SIGTERM");
    for (let i = 0; i < 20; i++) listen(() => {});
    expect(process.listenerCount("SIGTERM")).toBe(before + 1);
    for (const one of held) {
      one[Symbol.dispose]();
      one[Symbol.dispose]();
    }
    expect(process.listenerCount("SIGTERM")).toBe(before);
  });

  it("reach every service that still listens, each with a first and a second signal of its own", () => {
    const told: string[] = [];
    listen(
      () => told.push("a"),
      (code) => told.push(`a ${code}`),
    );
    const b = listen(() => told.push("b"));
    listen(() => {
      told.push("c");
      d[Symbol.dispose]();
    });
    const d = listen(() => told.push("d"));
    const signal = process.listeners("SIGTERM").at(-1) as (name: NodeJS.Signals) => void;
    b[Symbol.dispose]();
    signal("SIGTERM");
    expect(told).toEqual(["a", "c"]);
    signal("SIGTERM");
    expect(told).toEqual(["a", "c", "a 143"]);
  });
});
