/** What `Debug.Stats` tells of the process. */
import { builtin } from "../builtins.ts";

/** See Go's `debug/stats`. */
export interface ProcessStats {
  /** Unix time, in seconds. */
  readonly timestamp: number;
  /** Unix time of the start, in seconds. */
  readonly started: number;
  /** Seconds since the start. */
  readonly uptime: number;
  /** Heap in use, in bytes. */
  readonly memory: number;
  /** Resources that keep the event loop busy: handles, requests, timers. Goroutines in Go. */
  readonly threads: number;
  /** Pauses of the garbage collector, in nanoseconds in all. */
  readonly gc: number;
}

/** Measures the process from when it is made until disposal. */
export interface ProcessMeter extends Disposable {
  read(): ProcessStats;
}

/** Start to measure. */
export function processMeter(): ProcessMeter {
  const startedMs = Date.now();
  let pausedMs = 0;
  const observer = new (builtin.perfHooks().PerformanceObserver)((list) => {
    for (const { duration } of list.getEntries()) pausedMs += duration;
  });
  observer.observe({ entryTypes: ["gc"] });
  return {
    read() {
      const now = Date.now();
      return {
        timestamp: Math.floor(now / 1000),
        started: Math.floor(startedMs / 1000),
        uptime: Math.floor((now - startedMs) / 1000),
        memory: process.memoryUsage().heapUsed,
        threads: process.getActiveResourcesInfo().length,
        gc: Math.round(pausedMs * 1e6),
      };
    },
    [Symbol.dispose]() {
      observer.disconnect();
    },
  };
}
