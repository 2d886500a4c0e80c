/** Signals that end a service. */
import { constants } from "node:os";

// Windows has no SIGQUIT; closing the console sends SIGHUP, Ctrl-Break SIGBREAK.
const stopSignals: readonly NodeJS.Signals[] =
  process.platform === "win32" ? ["SIGINT", "SIGTERM", "SIGBREAK"] : ["SIGINT", "SIGTERM", "SIGQUIT"];

type Listener = (signal: NodeJS.Signals) => void;

// Node warns of a leak at the eleventh listener of a signal, and a process may run more services than that: the process
// has one listener while anybody listens.
const listeners = new Set<Listener>();

function tellAll(signal: NodeJS.Signals): void {
  // A copy: who begins to listen meanwhile has not been signalled, and who has ended meanwhile is told nothing.
  const present = [...listeners];
  for (const listener of present) {
    if (listeners.has(listener)) listener(signal);
  }
}

/**
 * Call `first` on the first stop signal; the second one ends the process at once, with 128 and the signal's number as a
 * shell does. Disposing ends that; the process keeps no listener once everybody has. May be called any number of times.
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
  if (listeners.size === 0) {
    for (const name of stopSignals) process.on(name, tellAll);
  }
  listeners.add(listener);
  return {
    [Symbol.dispose]() {
      if (!listeners.delete(listener) || listeners.size > 0) return;
      for (const name of stopSignals) process.off(name, tellAll);
    },
  };
}
