/** A logger that stays valid while the service's logger is exchanged: `init()` reads the level. */
import type { LogFields, Logger, LogLevel } from "../logger/logger.ts";

/**
 * Log to whatever `current` gives. Members are getters of bound functions rather than methods, so that no stack frame
 * stands between the caller and a logger that prints where it was called.
 */
export function followingLogger(current: () => Logger): Logger {
  return new FollowingLogger(current);
}

class FollowingLogger implements Logger {
  readonly #current: () => Logger;

  constructor(current: () => Logger) {
    this.#current = current;
  }

  get name(): string {
    return this.#current().name;
  }
  get level(): LogLevel {
    return this.#current().level;
  }
  get enabled(): Logger["enabled"] {
    return bound(this.#current(), "enabled");
  }
  get log(): Logger["log"] {
    return bound(this.#current(), "log");
  }
  get trace(): Logger["trace"] {
    return bound(this.#current(), "trace");
  }
  get debug(): Logger["debug"] {
    return bound(this.#current(), "debug");
  }
  get info(): Logger["info"] {
    return bound(this.#current(), "info");
  }
  get warn(): Logger["warn"] {
    return bound(this.#current(), "warn");
  }
  get error(): Logger["error"] {
    return bound(this.#current(), "error");
  }

  child(fields: LogFields): Logger {
    let parent: Logger | undefined;
    let child: Logger | undefined;
    return new FollowingLogger(() => {
      const logger = this.#current();
      if (child === undefined || parent !== logger) {
        parent = logger;
        child = logger.child(fields);
      }
      return child;
    });
  }
}

function bound<Name extends "enabled" | "log" | Exclude<LogLevel, "fatal">>(logger: Logger, name: Name): Logger[Name] {
  return logger[name].bind(logger) as Logger[Name];
}
