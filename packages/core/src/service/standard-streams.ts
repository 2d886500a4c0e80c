/**
 * Errors of stdout and stderr while a service runs.
 *
 * Whoever reads them may go away (`service | head`, a collector that restarts), a disk may be full. Node reports that as
 * an `error` event, which ends the process where nobody listens; a service has better reasons to live than its log.
 */
import type { Logger } from "../logger/logger.ts";

interface Watched {
  readonly stream: NodeJS.WriteStream;
  readonly name: string;
}

/** How many services run; the listeners are there as long as there is one. */
const running = new Map<Logger, number>();
let listening: (() => void) | undefined;

/**
 * Outlive errors of the standard streams until disposed of. Each kind of error is logged once for each stream, which
 * reaches somebody where the other stream, or another logger, still works. Listeners of the program get every error as before.
 */
export function outliveStandardStreams(logger: Logger): Disposable {
  running.set(logger, (running.get(logger) ?? 0) + 1);
  listening ??= listen();
  let ended = false;
  return {
    [Symbol.dispose]() {
      if (ended) return;
      ended = true;
      const left = (running.get(logger) ?? 1) - 1;
      if (left > 0) running.set(logger, left);
      else running.delete(logger);
      // What was written last is reported with the next turn.
      setImmediate(() => {
        if (running.size > 0) return;
        listening?.();
        listening = undefined;
      });
    },
  };
}

function listen(): () => void {
  const watched: readonly Watched[] = [
    { stream: process.stdout, name: "stdout" },
    { stream: process.stderr, name: "stderr" },
  ];
  const told = new Set<string>();
  const listeners = watched.map(({ stream, name }) => {
    const onError = (error: NodeJS.ErrnoException): void => {
      const kind = `${name} ${error.code ?? error.message}`;
      if (told.has(kind)) return;
      told.add(kind);
      const logger = running.keys().next().value;
      logger?.warn(`${name} cannot be written to (${error.code ?? error.message}); the service goes on`);
    };
    stream.on("error", onError);
    return () => void stream.off("error", onError);
  });
  return () => {
    for (const remove of listeners) remove();
  };
}
