/**
 * What a piece of work leaves behind: timers, sockets, ports, listeners on signals that were handed in and on the process.
 *
 * A forgotten timer or listener breaks no single call; it shows after days, as memory or as a process that does not end.
 */
import assert from "node:assert/strict";
import type { Socket } from "node:dgram";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { getEventListeners, type EventEmitter } from "node:events";

/** See {@link watchLeaks}. */
export interface LeakWatch {
  /** A controller whose signal must have no listener left at the end, whether it was aborted or not. */
  controller(): AbortController;
  /** An emitter that is handed to what is tested: it must have the listeners at the end that it has now. */
  emitter<Emitter extends EventEmitter>(emitter: Emitter): Emitter;
  /**
   * Timers, sockets, bound ports and listeners that began since the watch did and are there now. Of work that goes on, to see that
   * it does not take more and more.
   */
  standing(): number;
  /**
   * Wait until nothing is left that began since the watch did.
   * @throws {AssertionError} naming what is still there after two seconds, and the code that started it.
   */
  end(): Promise<void>;
}

interface Sighting {
  readonly what: string;
  readonly stack: string;
  gone(): boolean;
}

/** A socket of `node:net`, or a server. */
interface Handle {
  readonly destroyed?: boolean;
  readonly listening?: boolean;
  once(event: "close", listener: () => void): unknown;
}

const patienceMs = 2_000;
const processEvents = ["exit", "beforeExit", "SIGTERM", "SIGINT", "SIGQUIT", "uncaughtException", "unhandledRejection"];
/** The frame that starts something is the test runner's: its own affair. */
const foreign = /^[^\n]*node_modules[\\/](?:@vitest|vitest|jest|mocha|tinypool)/;

/**
 * Begin to watch. Until {@link LeakWatch.end}, timers set by `setTimeout` and `setInterval`, sockets, and bound ports are
 * noted, and so are listeners on the process. One watch at a time: what other work of the process starts meanwhile counts, too.
 */
export function watchLeaks(): LeakWatch {
  let seen: Sighting[] = [];
  const controllers: { readonly signal: AbortSignal; readonly stack: string }[] = [];
  const emitters: { readonly emitter: EventEmitter; readonly before: number; readonly stack: string }[] = [];
  const before = new Map(processEvents.map((event) => [event, process.listenerCount(event)]));
  const { setTimeout: realTimeout, setInterval: realInterval } = globalThis;

  const note = (what: string, gone: () => boolean): void => {
    const stack = caller();
    if (!foreign.test(stack)) seen.push({ what, stack, gone });
  };
  const noteTimer = <Timer extends object>(what: string, timer: Timer): Timer => {
    const reference = new WeakRef(timer);
    // Without a frame of anybody's it is Node's own, such as what `fetch` keeps its connections with.
    if (caller() !== "") note(what, () => !isSet(reference.deref()));
    return timer;
  };
  const noteHandle = (what: string, handle: Handle): void => {
    let closed = false;
    handle.once("close", () => (closed = true));
    note(what, () => closed || handle.destroyed === true);
  };
  const onClient = (message: unknown): void => noteHandle("a socket", (message as { socket: Handle }).socket);
  const onAccepted = (message: unknown): void =>
    noteHandle("an accepted socket", (message as { socket: Handle }).socket);
  const onDatagram = (message: unknown): void => {
    const { socket } = message as { socket: Socket };
    note("a bound datagram socket", () => !isBound(socket));
  };
  const onListen = (message: unknown): void => {
    const { server } = message as { server: Handle };
    note("a bound port", () => server.listening !== true);
  };
  subscribe("net.client.socket", onClient);
  subscribe("net.server.socket", onAccepted);
  subscribe("udp.socket", onDatagram);
  subscribe("tracing:net.server.listen:asyncStart", onListen);
  const timeouts = (...parameters: Parameters<typeof realTimeout>): NodeJS.Timeout =>
    noteTimer("a timer", realTimeout(...parameters));
  const intervals = (...parameters: Parameters<typeof realInterval>): NodeJS.Timeout =>
    noteTimer("an interval", realInterval(...parameters));
  globalThis.setTimeout = Object.assign(timeouts, realTimeout);
  globalThis.setInterval = Object.assign(intervals, realInterval);
  let watching = true;

  function stop(): void {
    if (!watching) return;
    watching = false;
    unsubscribe("net.client.socket", onClient);
    unsubscribe("net.server.socket", onAccepted);
    unsubscribe("udp.socket", onDatagram);
    unsubscribe("tracing:net.server.listen:asyncStart", onListen);
    globalThis.setTimeout = realTimeout;
    globalThis.setInterval = realInterval;
  }

  /** What is gone does not come back. */
  function there(): Sighting[] {
    return (seen = seen.filter((sighting) => !sighting.gone()));
  }

  function left(): string[] {
    const handles = there().map(({ what, stack }) => `${what}, from\n${stack}`);
    const signals = controllers
      .map(({ signal, stack }) => ({ count: getEventListeners(signal, "abort").length, stack }))
      .filter(({ count }) => count > 0)
      .map(({ count, stack }) => `${count} listeners on a signal made at\n${stack}`);
    const others = emitters
      .map(({ emitter, before: had, stack }) => ({ more: listenersOf(emitter) - had, stack }))
      .filter(({ more }) => more > 0)
      .map(({ more, stack }) => `${more} listeners on an emitter handed in at\n${stack}`);
    const ofProcess = [...before]
      .filter(([event, count]) => process.listenerCount(event) > count)
      .map(([event, count]) => `${process.listenerCount(event) - count} listeners of the process's ${event}`);
    return [...handles, ...signals, ...others, ...ofProcess];
  }

  return {
    controller() {
      const controller = new AbortController();
      controllers.push({ signal: controller.signal, stack: caller() });
      return controller;
    },
    emitter(emitter) {
      emitters.push({ emitter, before: listenersOf(emitter), stack: caller() });
      return emitter;
    },
    standing() {
      const onSignals = controllers.map(({ signal }) => getEventListeners(signal, "abort").length);
      const onEmitters = emitters.map(({ emitter, before: had }) => listenersOf(emitter) - had);
      return [...onSignals, ...onEmitters].reduce((sum, count) => sum + count, there().length);
    },
    async end() {
      stop();
      const until = performance.now() + patienceMs;
      let remaining = left();
      while (remaining.length > 0 && performance.now() < until) {
        await new Promise((resolve) => realTimeout(resolve, 10));
        remaining = left();
      }
      assert.equal(remaining.length, 0, `left behind: ${remaining.join("\n")}`);
    },
  };
}

/** Listeners for `close` would not do: who closes such a socket may remove them all. */
function isBound(socket: Socket): boolean {
  try {
    return socket.address().port !== 0;
  } catch {
    return false;
  }
}

/** Nothing public says of a timer whether it is still set. */
function isSet(timer: object | undefined): boolean {
  return timer !== undefined && Reflect.get(timer, "_destroyed") === false;
}

function listenersOf(emitter: EventEmitter): number {
  return emitter.eventNames().reduce((sum, event) => sum + emitter.listenerCount(event), 0);
}

/** Where a call of this module comes from, Node's own frames left out. */
function caller(): string {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 16;
  const lines = new Error("").stack?.split("\n").slice(1) ?? [];
  Error.stackTraceLimit = limit;
  return lines.filter((line) => !/\(?node:|[\\/]testing[\\/](?:src|dist)[\\/]leaks\.[jt]s/.test(line)).join("\n");
}
