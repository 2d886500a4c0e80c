import { describe, expect, it } from "vitest";
import { contextKey, Context, currentContext, runInContext } from "../src/context.ts";
import { jitteredBackoff, supervise } from "../src/supervisor.ts";
import type { SupervisorState } from "../src/supervisor.ts";
import { fakeClock } from "@micro/testing";

/** A task whose failures the test decides. */
function controlledTask() {
  let fail: ((error: Error) => void) | undefined;
  const task = {
    runs: 0,
    refuse: undefined as Error | undefined,
    contexts: [] as unknown[],
    fail: (error: Error) => fail?.(error),
    run: async ({ signal, up }: { signal: AbortSignal; up: () => void }): Promise<void> => {
      task.runs++;
      task.contexts.push(currentContext());
      if (task.refuse !== undefined) throw task.refuse;
      up();
      await new Promise<void>((resolve, reject) => {
        fail = reject;
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    },
  };
  return task;
}

describe("supervise", () => {
  it("runs the task, and again when it fails, telling each change once", async () => {
    const clock = fakeClock();
    const task = controlledTask();
    const states: SupervisorState["status"][] = [];
    await using supervisor = supervise({
      run: task.run,
      onChange: ({ status }) => states.push(status),
      clock,
      random: () => 0.999,
    });
    expect(task.runs).toBe(0);
    expect(supervisor.state.status).toBe("starting");
    await clock.settle();
    expect(supervisor.state.status).toBe("up");
    task.refuse = new Error("refused");
    task.fail(new Error("lost"));
    await clock.advance(3_000);
    // After 100, 200, 400, 800 and 1600 ms at most.
    expect(task.runs).toBe(5);
    expect(supervisor.state).toMatchObject({ status: "down", reason: new Error("lost") });
    task.refuse = undefined;
    await clock.advance(2_000);
    expect(states).toEqual(["up", "down", "up"]);
    await supervisor.stop();
    expect(states).toEqual(["up", "down", "up", "stopped"]);
    expect(clock.pending).toBe(0);
  });

  it("waits ever longer up to the bound, with full jitter", () => {
    let random = 1;
    const backoff = jitteredBackoff({ minDelayMs: 100, maxDelayMs: 1_000, random: () => random });
    expect([1, 2, 3, 4, 5, 6].map(() => backoff.next())).toEqual([100, 200, 400, 800, 1_000, 1_000]);
    random = 0.25;
    expect(backoff.next()).toBe(250);
    backoff.reset();
    expect(backoff.next()).toBe(25);
  });

  it("starts over with short pauses after the state held for a while, not after every success", async () => {
    const clock = fakeClock();
    const task = controlledTask();
    await using supervisor = supervise({ run: task.run, clock, random: () => 0.999 });
    await clock.settle();
    const pauses: number[] = [];
    const failNow = async (): Promise<void> => {
      const before = clock.now();
      task.fail(new Error("lost"));
      await clock.settle();
      await clock.advanceTo(clock.nextAt!);
      pauses.push(Math.round(clock.now() - before));
    };
    await failNow();
    await failNow();
    await failNow();
    await clock.advance(1_000);
    await failNow();
    expect(pauses).toEqual([100, 200, 400, 100]);
    expect(supervisor.state.status).toBe("up");
  });

  it("takes a task that ends without an error for a failure", async () => {
    const clock = fakeClock();
    let runs = 0;
    await using supervisor = supervise({ run: async () => void runs++, clock, random: () => 0.5 });
    await clock.advance(1_000);
    expect(runs).toBeGreaterThan(2);
    expect(supervisor.state.status).toBe("down");
  });

  it("ends the task and a pause at once when stopped, and may be stopped twice", async () => {
    const clock = fakeClock();
    const task = controlledTask();
    const supervisor = supervise({ run: task.run, clock });
    await clock.settle();
    await supervisor.stop();
    const failing = supervise({ run: () => Promise.reject(new Error("no")), clock });
    await clock.settle();
    await Promise.all([failing.stop(), failing.stop()]);
    await failing.stop();
    expect(clock.pending).toBe(0);
    expect(failing.state.status).toBe("stopped");
  });

  it("never starts the task when stopped first", async () => {
    const task = controlledTask();
    await supervise({ run: task.run }).stop();
    expect(task.runs).toBe(0);
  });

  it("runs outside of the call that started it", async () => {
    const clock = fakeClock();
    const task = controlledTask();
    const context = new Context({ service: "s", endpoint: "e" }).with(contextKey<number>("n"), 1);
    const supervisor = runInContext(context, () => supervise({ run: task.run, clock }));
    await clock.settle();
    expect(task.contexts).toEqual([undefined]);
    await supervisor.stop();
  });

  it("refuses bounds that make no sense", () => {
    expect(() => jitteredBackoff({ minDelayMs: 10, maxDelayMs: 5 })).toThrow(TypeError);
  });
});

describe("fakeClock", () => {
  it("fires timers in order, at their own time, and those they set", async () => {
    const clock = fakeClock(0);
    const fired: string[] = [];
    const note = (name: string): void => void fired.push(`${name}@${clock.now()}`);
    clock.setTimeout(() => note("late"), 30);
    clock.setTimeout(() => {
      note("first");
      void Promise.resolve().then(() => clock.setTimeout(() => note("nested"), 5));
    }, 10);
    clock.setTimeout(() => note("second"), 10);
    const cancelled = clock.setTimeout(() => note("never"), 20);
    clock.clearTimeout(cancelled);
    await clock.advance(29);
    expect(fired).toEqual(["first@10", "second@10", "nested@15"]);
    expect(clock.now()).toBe(29);
    await clock.advanceTo(40);
    expect(fired.at(-1)).toBe("late@30");
    expect(clock.pending).toBe(0);
    await expect(clock.advance(-1)).rejects.toThrow(TypeError);
    await expect(clock.advanceTo(39)).rejects.toThrow(TypeError);
  });

  it("fires what fell due during a freeze afterwards", async () => {
    const clock = fakeClock(0);
    const fired: number[] = [];
    clock.setTimeout(() => fired.push(clock.now()), 10);
    await clock.freeze(1_000);
    expect(fired).toEqual([1_000]);
  });
});
