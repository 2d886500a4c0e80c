import { getEventListeners } from "node:events";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Broker } from "../../src/broker/broker.ts";
import { memoryBroker } from "../../src/broker/memory.ts";
import { Cancellation, type Context } from "../../src/context.ts";
import { logRing } from "../../src/debug/log-ring.ts";
import { badRequest } from "../../src/errors.ts";
import { MemoryLogger } from "./support/memory-logger.ts";
import { errorOf, json, served, waitFor } from "./support/served.ts";

/** Listeners on cancellations that were added and not taken off. */
let listening = 0;

beforeEach(() => {
  listening = 0;
  // oxlint-disable-next-line typescript/unbound-method
  const { onCancel } = Cancellation.prototype;
  vi.spyOn(Cancellation.prototype, "onCancel").mockImplementation(function (this: Cancellation, listener) {
    listening++;
    const remove = onCancel.call(this, listener);
    let removed = false;
    return () => {
      if (!removed) listening--;
      removed = true;
      remove();
    };
  });
});
afterEach(() => void vi.restoreAllMocks());

/** Handlers that answer when they are told. */
class Gate {
  readonly waiting: (() => void)[] = [];
  readonly handler = (): Promise<unknown> => new Promise((resolve) => void this.waiting.push(() => resolve({})));
}

function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe("a call that waits for its turn", () => {
  it("is not run once its deadline has passed, though no timer had a turn, and gives its place back", async () => {
    const gate = new Gate();
    await using host = await served((server) => server.handle("Slow.Call", gate.handler), { maxConcurrency: 2 });
    const running = [host.exchange("Slow.Call", {}), host.exchange("Slow.Call", {})];
    const late = host.exchange("Slow.Call", {}, { timeoutMs: 20 });
    const next = host.exchange("Slow.Call", {});
    block(30);
    gate.waiting[0]!();
    await running[0]!.answer;
    expect(errorOf(await late.answer)).toMatchObject({ code: 408 });
    expect(gate.waiting).toHaveLength(3);
    for (const open of gate.waiting) open();
    expect(json(await next.answer)).toEqual({});
    await running[1]!.answer;
    expect(host.server.stats).toEqual({ requests: 3, errors: 0, inFlight: 0 });
    const again = [host.exchange("Slow.Call", {}), host.exchange("Slow.Call", {})];
    expect(gate.waiting).toHaveLength(5);
    for (const open of gate.waiting) open();
    await Promise.all(again.map(({ answer }) => answer));
  });

  it("listens for its caller no longer than it waits", async () => {
    const gate = new Gate();
    await using host = await served((server) => server.handle("Slow.Call", gate.handler), { maxConcurrency: 2 });
    const peers = [1, 2, 3, 4].map(() => host.exchange("Slow.Call", {}));
    expect(listening).toBe(2);
    for (const [i, left] of [1, 0, 0, 0].entries()) {
      gate.waiting[i]!();
      await peers[i]!.answer;
      expect(listening).toBe(left);
    }
  });
});

describe("what a call took", () => {
  it("is given back however it ends", async () => {
    await using host = await served(
      (server) => {
        server.handle("Ends", {
          now: () => ({}),
          thrown() {
            throw new Error("x");
          },
          async rejected() {
            throw badRequest("", "x");
          },
          unwritable() {
            const self: Record<string, unknown> = {};
            return Object.assign(self, { self });
          },
          *stream() {
            yield {};
          },
          async *broken() {
            yield {};
            throw new Error("x");
          },
          async *left(_: unknown, { signal }: Context) {
            yield {};
            await new Promise((resolve) => signal.addEventListener("abort", resolve));
          },
        });
      },
      { maxConcurrency: 1 },
    );
    const stream = async (endpoint: string, leave = false): Promise<void> => {
      const peer = host.exchange(endpoint);
      peer.push("{}");
      await peer.read();
      if (leave) peer.leave();
      else await peer.read();
    };
    const ends: Record<string, () => Promise<unknown>> = {
      "an answer": () => host.call("Ends.Now", {}),
      "a throw": () => host.call("Ends.Thrown", {}),
      "a rejection": () => host.call("Ends.Rejected", {}),
      "an answer that cannot be written": () => host.call("Ends.Unwritable", {}),
      "a request that cannot be read": () => host.call("Ends.Now", undefined, { body: Buffer.from("{") }),
      "a stream's end": () => stream("Ends.Stream"),
      "a stream that fails": () => stream("Ends.Broken"),
      "a stream that is left": () => stream("Ends.Left", true),
    };
    for (const [how, end] of Object.entries(ends)) {
      await end();
      await waitFor(() => host.server.stats.inFlight === 0);
      const next = host.exchange("Ends.Now", {});
      expect([how, next.replies, listening]).toEqual([how, 1, 0]);
    }
  });
});

describe("subscriptions and events", () => {
  it("leave no listener on a signal that was handed in, however they end", async () => {
    await using broker = memoryBroker();
    await using host = await served(() => {}, { broker });
    for (const end of ["unsubscribe", "abort"] as const) {
      const controller = new AbortController();
      const subscriber = host.server.subscribe("t", () => {}, { signal: controller.signal });
      await subscriber.ready;
      expect(getEventListeners(controller.signal, "abort").length).toBeGreaterThan(0);
      if (end === "abort") controller.abort();
      await subscriber.unsubscribe();
      expect(getEventListeners(controller.signal, "abort")).toEqual([]);
    }
  });

  it("leave nothing on their subscription when their handlers asked for a signal", async () => {
    await using broker: Broker = memoryBroker();
    let handled = 0;
    await using host = await served(
      (server) =>
        server.subscribe("t", (_, context) => {
          expect(context.signal.aborted).toBe(false);
          const nth = handled++;
          if (nth === 0) return undefined;
          if (nth === 1) throw badRequest("", "at once");
          return new Promise<void>((resolve, reject) => {
            setImmediate(() => (nth === 2 ? resolve() : reject(badRequest("", "later"))));
          });
        }),
      { broker },
    );
    for (let i = 0; i < 4; i++)
      await broker.publish("t", { header: { "Content-Type": "application/json" }, body: Buffer.from("{}") });
    await waitFor(() => handled === 4);
    await waitFor(() => listening === 0);
    await host.server.stop();
  });
});

it("a reader of the log who leaves takes his listener along", async () => {
  const { signal } = new AbortController();
  const { logger, follow } = ring();
  for (let i = 0; i < 3; i++) {
    const records = follow(signal);
    logger.info("x");
    expect((await records.next()).value).toMatchObject({ message: "x" });
    await records.return!();
  }
  expect(getEventListeners(signal, "abort")).toEqual([]);
});

function ring() {
  const made = logRing({ logger: new MemoryLogger() });
  return { logger: made.logger, follow: (signal: AbortSignal) => made.follow(signal) };
}
