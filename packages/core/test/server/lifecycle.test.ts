import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { Context } from "../../src/context.ts";
import { MicroError } from "../../src/errors.ts";
import { errorOf, json, served, waitFor } from "./support/served.ts";

/** Handlers that answer when they are told. */
class Gate {
  readonly waiting: { readonly i: number; readonly context: Context; open(): void }[] = [];
  readonly handler = ({ i }: { i: number }, context: Context): Promise<unknown> => {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    this.waiting.push({ i, context, open: () => resolve({ i }) });
    return promise;
  };
}

const overloaded = { id: "greeter", code: 503, detail: "the server is overloaded", status: "Service Unavailable" };

describe("a full server", () => {
  it("queues as many as it runs, in order, and refuses the rest as not run", async () => {
    const gate = new Gate();
    await using host = await served((server) => server.handle("Slow.Call", gate.handler), { maxConcurrency: 2 });
    const peers = [1, 2, 3, 4, 5].map((i) => host.exchange("Slow.Call", { i }));
    expect(gate.waiting.map(({ i }) => i)).toEqual([1, 2]);
    expect(host.server.stats).toEqual({ requests: 2, errors: 0, inFlight: 2 });
    const refused = await peers[4]!.answer;
    expect(errorOf(refused)).toEqual(overloaded);
    expect(refused.notRun).toBe(true);
    for (let i = 0; i < 4; i++) {
      gate.waiting[i]!.open();
      expect(json(await peers[i]!.answer)).toEqual({ i: i + 1 });
    }
    expect(gate.waiting.map(({ i }) => i)).toEqual([1, 2, 3, 4]);
    expect(host.server.stats).toEqual({ requests: 4, errors: 0, inFlight: 0 });
  });

  it("answers 408 without running the handler when the deadline passes in the queue", async () => {
    const gate = new Gate();
    await using host = await served((server) => server.handle("Slow.Call", gate.handler), { maxConcurrency: 1 });
    const running = host.exchange("Slow.Call", { i: 1 });
    const late = host.exchange("Slow.Call", { i: 2 }, { timeoutMs: 5 });
    expect(errorOf(await late.answer)).toMatchObject({ id: "greeter", code: 408 });
    const gone = host.exchange("Slow.Call", { i: 3 });
    gone.leave();
    const next = host.exchange("Slow.Call", { i: 4 });
    gate.waiting[0]!.open();
    await running.answer;
    expect(gate.waiting.map(({ i }) => i)).toEqual([1, 4]);
    gate.waiting[1]!.open();
    await next.answer;
    expect(host.server.stats).toEqual({ requests: 2, errors: 0, inFlight: 0 });
  });

  it("works off a long queue of handlers that answer at once", async () => {
    const gate = new Gate();
    await using host = await served(
      (server) => {
        server.handle("Slow.Call", gate.handler);
        server.handle("Fast.Call", ({ i }) => ({ i }));
      },
      { maxConcurrency: 20_000 },
    );
    const first = Array.from({ length: 20_000 }, (_, i) => host.exchange("Slow.Call", { i }));
    const peers = Array.from({ length: 20_000 }, (_, i) => host.exchange("Fast.Call", { i }));
    gate.waiting[0]!.open();
    await first[0]!.answer;
    expect(json(await peers.at(-1)!.answer)).toEqual({ i: 19_999 });
    for (const call of gate.waiting) call.open();
    await waitFor(() => host.server.stats.inFlight === 0);
  });

  it("still answers internal calls", async () => {
    const gate = new Gate();
    await using host = await served(
      (server) => {
        server.handle("Slow.Call", gate.handler);
        server.handle("Debug", { health: () => ({ status: "ok" }) }, { internal: true });
      },
      { maxConcurrency: 1 },
    );
    host.exchange("Slow.Call", { i: 1 });
    host.exchange("Slow.Call", { i: 2 });
    expect(json(await host.call("Debug.Health"))).toEqual({ status: "ok" });
    expect(host.server.stats.requests).toBe(1);
    gate.waiting[0]!.open();
    await waitFor(() => gate.waiting.length === 2);
    gate.waiting[1]!.open();
  });
});

describe("draining", () => {
  it("refuses new calls and those in the queue as not run, with Go's retryable code, and finishes running ones", async () => {
    const gate = new Gate();
    await using host = await served((server) => server.handle("Slow.Call", gate.handler), { maxConcurrency: 1 });
    const running = host.exchange("Slow.Call", { i: 1 });
    const queued = host.exchange("Slow.Call", { i: 2 });
    const drained = host.server.drain(10_000);
    const event = host.exchange("", undefined, { topic: "user.created" });
    for (const peer of [queued, host.exchange("Slow.Call", { i: 3 }), event]) {
      const refused = await peer.answer;
      expect(errorOf(refused)).toMatchObject({ id: "greeter", code: 408 });
      expect(refused.notRun).toBe(true);
    }
    gate.waiting[0]!.open();
    expect(await drained).toBe(true);
    expect(json(await running.answer)).toEqual({ i: 1 });
    expect(gate.waiting).toHaveLength(1);
    expect(await host.server.drain(0)).toBe(true);
  });

  it("cancels what still runs when its time is over, and answers for handlers that do not", async () => {
    const reasons: unknown[] = [];
    await using host = await served((server) => {
      server.handle("Slow", {
        stubborn: () => new Promise(() => {}),
        polite: (_: unknown, { signal }: Context) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener("abort", () => {
              reasons.push(signal.reason);
              reject(new MicroError("giving up", { code: "conflict" }));
            });
          }),
        async *stream() {
          yield {};
          await new Promise(() => {});
        },
      });
    });
    const stubborn = host.exchange("Slow.Stubborn");
    const polite = host.exchange("Slow.Polite");
    const stream = host.exchange("Slow.Stream");
    stream.push("{}");
    await stream.read();
    expect(host.server.stats.inFlight).toBe(3);
    expect(await host.server.drain(10)).toBe(false);
    expect(errorOf(await polite.answer)).toMatchObject({ code: 409 });
    const stopped = { id: "greeter", code: 503, detail: "the server stopped before the call was finished" };
    expect(errorOf(await stubborn.answer)).toMatchObject(stopped);
    expect((await stubborn.answer).notRun).toBe(false);
    expect(await stream.read()).toBeUndefined();
    expect(errorOf(stream.ended?.error)).toMatchObject(stopped);
    expect((reasons[0] as MicroError).code).toBe("unavailable");
    expect(host.server.stats).toEqual({ requests: 3, errors: 3, inFlight: 0 });
  });

  it("does not wait for internal streams", async () => {
    let closed = false;
    await using host = await served((server) =>
      server.handle(
        "Debug",
        {
          async *log(_: unknown, { signal }: Context) {
            try {
              yield {};
              await new Promise((resolve) => {
                signal.addEventListener("abort", resolve);
              });
            } finally {
              closed = true;
            }
          },
        },
        { internal: true },
      ),
    );
    const peer = host.exchange("Debug.Log");
    peer.push("{}");
    await peer.read();
    expect(await host.server.drain(60_000)).toBe(true);
    await waitFor(() => closed);
    expect(errorOf(peer.ended?.error)).toMatchObject({ code: 503 });
  });
});

describe("stop", () => {
  it("may be called at any time, twice, and before start; the server may start again", async () => {
    await using host = await served((server) => server.handle("A.B", () => ({})));
    await host.call("A.B");
    await Promise.all([host.server.stop(), host.server.stop()]);
    expect(host.server.address).toBeUndefined();
    expect(host.transport.handler).toBeUndefined();
    await host.server.stop();
    await host.server.start();
    expect(host.server.stats.requests).toBe(0);
    expect(json(await host.call("A.B"))).toEqual({});
    await expect(host.server.start()).rejects.toThrow(TypeError);
  });

  it("cancels what runs when nobody drained", async () => {
    await using host = await served((server) => server.handle("Slow.Call", () => new Promise(() => {})));
    const peer = host.exchange("Slow.Call");
    await host.server.stop();
    expect(errorOf(await peer.answer)).toMatchObject({ code: 503 });
  });

  it("wins over a start that is not finished", async () => {
    await using host = await served(() => {});
    await host.server.stop();
    const starting = host.server.start();
    const stopping = host.server.stop();
    await expect(starting).rejects.toMatchObject({ code: "closed" });
    await stopping;
    expect(host.transport.handler).toBeUndefined();
  });

  it("is part of disposal, after draining", async () => {
    const gate = new Gate();
    const host = await served((server) => server.handle("Slow.Call", gate.handler));
    const peer = host.exchange("Slow.Call", { i: 1 });
    const disposed = host.server[Symbol.asyncDispose]();
    await turn();
    expect(host.transport.handler).toBeDefined();
    gate.waiting[0]!.open();
    await disposed;
    expect(json(await peer.answer)).toEqual({ i: 1 });
    expect(host.transport.handler).toBeUndefined();
  });
});
