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

/** Of each service that runs; the listeners are there as long as there is one. */
const running = new Set<{ readonly logger: Logger }>();
let listening: (() => void) | undefined;

/**
 * Outlive errors of the standard streams until disposed of. Each kind of error is logged once for each stream, which
 * reaches somebody where the other stream, or another logger, still works. Listeners of the program get every error as before.
 */
export function outliveStandardStreams(logger: Logger): Disposable {
  const service = { logger };
  running.add(service);
  listening ??= listen();
  return {
    [Symbol.dispose]() {
      running.delete(service);
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
      const [service] = running;
      service?.logger.warn(`${name} cannot be written to (${error.code ?? error.message}); the service goes on`);
    };
    stream.on("error", onError);
    return () => void stream.off("error", onError);
  });
  return () => {
    for (const remove of listeners) remove();
  };
}
