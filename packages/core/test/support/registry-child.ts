/** A service in a process of its own that can be frozen, killed and shown another time of day. */
import { createService, type Logger, type LogLevel, type Registry } from "@micro/core";

/** Sent to the process: its wall clock jumps by so much. Timers and `performance.now()` are not touched by that. */
export interface ClockJump {
  readonly jumpMs: number;
}

/** What the process sends. */
export type ChildReport = { readonly line: string } | { readonly ready: boolean } | { readonly jumped: number };

const report = (message: ChildReport): void => void process.send?.(message);

const at = (level: LogLevel) => (message: string) => report({ line: `${level} ${message}` });

function reportingLogger(): Logger {
  const logger: Logger = {
    name: "reporting",
    level: "info",
    enabled: () => true,
    log: (level, message) => at(level)(message),
    trace: () => {},
    debug: () => {},
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: () => logger,
  };
  return logger;
}

/** Every way to read the time of day, as after `settimeofday`. */
function jump(ms: number): void {
  const { Date: Before } = globalThis;
  globalThis.Date = class extends Before {
    constructor(...parameters: [] | [number | string | Date]) {
      if (parameters.length === 0) super(Before.now() + ms);
      else super(...(parameters as [number]));
    }
    static override now(): number {
      return Before.now() + ms;
    }
  } as DateConstructor;
}

/** Run the service until the process ends. */
export async function runChild(registry: Registry, ttlMs: number, intervalMs: number): Promise<void> {
  const service = createService({
    name: "child",
    address: "127.0.0.1:0",
    logger: reportingLogger(),
    args: [],
    env: {},
    registry,
    registerTtlMs: ttlMs,
    registerIntervalMs: intervalMs,
    spreadMs: 0,
  });
  service.handle("Child", {
    hour: () => ({ hour: Math.round(Date.now() / 3_600_000) }),
    // A call of our own, with a look-up and a deadline.
    relay: () => service.call("greeter", "Greeter.Hello", {}, { timeoutMs: 10_000 }),
  });
  process.on("message", ({ jumpMs }: ClockJump) => {
    jump(jumpMs);
    report({ jumped: jumpMs });
  });
  let ready = false;
  setInterval(() => {
    if (service.ready !== ready) report({ ready: (ready = service.ready) });
  }, 20);
  // The parent is gone.
  process.on("disconnect", () => process.exit(1));
  await service.run();
  process.disconnect();
}
