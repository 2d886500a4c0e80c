/** Signals that end a service. */
import { constants } from "node:os";

// Windows has no SIGQUIT; closing the console sends SIGHUP, Ctrl-Break SIGBREAK.
const stopSignals: readonly NodeJS.Signals[] =
  process.platform === "win32" ? ["SIGINT", "SIGTERM", "SIGBREAK"] : ["SIGINT", "SIGTERM", "SIGQUIT"];

/**
 * Call `first` on the first stop signal; the second one ends the process at once, with 128 and the signal's number as a
 * shell does. Disposing removes the listeners.
 */
export function onStopSignal(first: (signal: NodeJS.Signals) => void, exit: (code: number) => void): Disposable {
  let signalled = false;
  const listener = (signal: NodeJS.Signals) => {
    if (signalled) {
      exit(128 + (constants.signals[signal] ?? 0));
      return;
    }
    signalled = true;
    first(signal);
  };
  for (const signal of stopSignals) process.on(signal, listener);
  return {
    [Symbol.dispose]() {
      for (const signal of stopSignals) process.off(signal, listener);
    },
  };
}
