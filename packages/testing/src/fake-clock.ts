/** A clock for tests: time stands still until the test moves it. */
import { setImmediate } from "node:timers/promises";
import type { Clock, ClockTimer } from "@micro/core";

/** See {@link fakeClock}. */
export interface FakeClock extends Clock {
  /** Timers that are set and have not fired. */
  readonly pending: number;
  /** When the next timer fires; undefined when none is set. */
  readonly nextAt: number | undefined;
  /**
   * Move time forward by `durationMs`, firing timers in the order they are due (those due at once in the order they
   * were set), each at its own time. What a timer starts is given the chance to run, and to set timers of its own,
   * before the next one fires.
   * @throws {TypeError} for a negative duration.
   */
  advance(durationMs: number): Promise<void>;
  /** Move time forward to `time`. @throws {TypeError} if that lies in the past. */
  advanceTo(time: number): Promise<void>;
  /** Jump without firing what falls due until afterwards, as a process that was stopped sees it; then fire it all. */
  freeze(durationMs: number): Promise<void>;
  /** Let promises settle and queued events arrive, without moving time. */
  settle(): Promise<void>;
}

interface FakeTimer {
  readonly at: number;
  readonly order: number;
  readonly callback: () => void;
}

/**
 * A {@link Clock} whose time moves only when told.
 * @param startMs The first `now()`. Default: 1000, so that a forgotten zero shows.
 */
export function fakeClock(startMs = 1_000): FakeClock {
  let time = startMs;
  let order = 0;
  const timers = new Set<FakeTimer>();

  function earliest(): FakeTimer | undefined {
    let first: FakeTimer | undefined;
    for (const timer of timers)
      if (first === undefined || timer.at < first.at || (timer.at === first.at && timer.order < first.order))
        first = timer;
    return first;
  }

  async function run(until: number): Promise<void> {
    await settle();
    for (let timer = earliest(); timer !== undefined && timer.at <= until; timer = earliest()) {
      timers.delete(timer);
      time = Math.max(time, timer.at);
      timer.callback();
      await settle();
    }
    time = Math.max(time, until);
  }

  return {
    now: () => time,
    setTimeout(callback: () => void, delayMs: number): ClockTimer {
      const timer = { at: time + Math.max(0, delayMs), order: order++, callback };
      timers.add(timer);
      return timer;
    },
    clearTimeout(timer: ClockTimer | undefined): void {
      timers.delete(timer as FakeTimer);
    },
    get pending() {
      return timers.size;
    },
    get nextAt() {
      return earliest()?.at;
    },
    async advance(durationMs: number): Promise<void> {
      if (!(durationMs >= 0)) throw new TypeError("fakeClock: advance() takes a duration of at least 0");
      await run(time + durationMs);
    },
    async advanceTo(target: number): Promise<void> {
      if (!(target >= time))
        throw new TypeError(`fakeClock: it is ${time} already, advanceTo(${target}) is in the past`);
      await run(target);
    },
    async freeze(durationMs: number): Promise<void> {
      if (!(durationMs >= 0)) throw new TypeError("fakeClock: freeze() takes a duration of at least 0");
      await settle();
      time += durationMs;
      await run(time);
    },
    settle,
  };
}

// Several rounds: a promise chain may go through the event loop (an immediate, a port) more than once.
async function settle(): Promise<void> {
  for (let round = 0; round < 3; round++) await setImmediate();
}
