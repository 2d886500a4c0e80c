import { describe, expect, it } from "vitest";
import { cacheWrapper } from "../../src/client/cache.ts";
import { badRequest, MicroError } from "../../src/errors.ts";
import { watchLeaks } from "@micro/testing";
import { errorOf, Fleet, waitFor } from "./support/fleet.ts";

async function counting(fleet: Fleet): Promise<{ calls: number; go: PromiseWithResolvers<void> }> {
  const state = { calls: 0, go: Promise.withResolvers<void>() };
  await fleet.serve("echo", (handlers) =>
    handlers.handle("Echo", {
      say: (request: unknown) => ({ request, call: ++state.calls }),
      fail: () => {
        state.calls += 1;
        throw badRequest("echo", "no");
      },
      slow: async () => {
        state.calls += 1;
        await state.go.promise;
        return { call: state.calls };
      },
    }),
  );
  return state;
}

describe("cacheWrapper", () => {
  it("answers the same call from memory, and only where the call asks for it", async () => {
    await using fleet = new Fleet();
    const state = await counting(fleet);
    const client = fleet.connect({ wrapClient: [cacheWrapper()] });
    const first = await client.call<{ request: { id: unknown } }>("echo", "Echo.Say", { id: 1 }, { cacheMs: 60_000 });
    first.request.id = "changed by its owner";
    expect(await client.call("echo", "Echo.Say", { id: 1 }, { cacheMs: 60_000 })).toEqual({
      request: { id: 1 },
      call: 1,
    });
    expect(state.calls).toBe(1);
    await client.call("echo", "Echo.Say", { id: 1 });
    expect(state.calls).toBe(2);
  });

  it("tells calls apart by endpoint, request, metadata and address, not by tracing", async () => {
    await using fleet = new Fleet();
    const state = await counting(fleet);
    const client = fleet.connect({ wrapClient: [cacheWrapper()], cacheMs: 60_000 });
    const call = (request: unknown, metadata: Record<string, string> = {}) =>
      client.call("echo", "Echo.Say", request, { metadata });
    for (const request of [1, "1", [1], { id: 1 }, null]) await call(request);
    expect(state.calls).toBe(5);
    await call(1, { "X-User": "a" });
    await call(1, { "X-User": "b" });
    expect(state.calls).toBe(7);
    await call(1, { "X-User": "b", "Micro-Trace-Id": "1" });
    await call(1, { "Micro-Trace-Id": "2", "x-user": "b" });
    expect(state.calls).toBe(7);
    // The same question to another process is another one.
    const servers = ["a", "b"].map((label) =>
      fleet.start("echo", (handlers) => handlers.handle("Echo", { say: () => ({ label }) })),
    );
    const [a = "", b = ""] = (await Promise.all(servers)).map(({ address }) => address);
    const at = (address: string | readonly string[]) => client.call("echo", "Echo.Say", 1, { address });
    for (let round = 0; round < 2; round++) {
      expect(await at(a)).toEqual({ label: "a" });
      expect(await at(b)).toEqual({ label: "b" });
      expect(await at([b])).toEqual({ label: "b" });
    }
    expect(state.calls).toBe(7);
  });

  it("forgets after the time, and the least recently used beyond its bound", async () => {
    await using fleet = new Fleet();
    const state = await counting(fleet);
    const client = fleet.connect({ wrapClient: [cacheWrapper({ maxEntries: 2 })] });
    const call = (request: unknown, cacheMs = 60_000) =>
      client.call<{ call: number }>("echo", "Echo.Say", request, { cacheMs });
    await call("brief", 20);
    await waitFor(async () => (await call("brief", 20)).call > 1);
    const before = state.calls;
    for (const request of ["a", "b", "a", "c", "a"]) await call(request);
    expect(state.calls - before).toBe(3);
    await call("b");
    expect(state.calls - before).toBe(4);
  });

  it("sends one of several same calls made at once", async () => {
    await using fleet = new Fleet();
    const state = await counting(fleet);
    const client = fleet.connect({ wrapClient: [cacheWrapper()], cacheMs: 60_000 });
    const calls = Array.from({ length: 10 }, () => client.call("echo", "Echo.Slow", {}));
    await waitFor(() => state.calls > 0);
    state.go.resolve();
    const answers = await Promise.all(calls);
    expect(state.calls).toBe(1);
    expect(new Set(answers).size).toBe(10);
  });

  it("does not let one caller's cancellation or deadline end the others' calls", async () => {
    await using fleet = new Fleet();
    const state = await counting(fleet);
    const client = fleet.connect({ wrapClient: [cacheWrapper()], cacheMs: 60_000 });
    const controller = new AbortController();
    const first = client.call("echo", "Echo.Slow", {}, { signal: controller.signal });
    const second = client.call("echo", "Echo.Slow", {});
    const third = client.call("echo", "Echo.Slow", {}, { timeoutMs: 10 });
    expect((await errorOf(third)).code).toBe("timeout");
    controller.abort();
    expect((await errorOf(first)).code).toBe("aborted");
    state.go.resolve();
    expect(await second).toHaveProperty("call");
  });

  it("keeps no errors and no streams", async () => {
    await using fleet = new Fleet();
    const state = await counting(fleet);
    const client = fleet.connect({ wrapClient: [cacheWrapper()], cacheMs: 60_000 });
    for (let call = 0; call < 2; call += 1)
      expect(await errorOf(client.call("echo", "Echo.Fail", {}))).toMatchObject({ statusCode: 400 });
    expect(state.calls).toBe(2);
  });

  it("refuses a bound that makes no sense", () => {
    for (const maxEntries of [0, -1, Number.NaN]) expect(() => cacheWrapper({ maxEntries })).toThrow(TypeError);
  });
});

describe("what the cache keeps of calls that are over", () => {
  it("is neither timer nor listener, and a call that failed is made anew", async () => {
    await using fleet = new Fleet();
    let calls = 0;
    await fleet.serve("echo", (handlers) =>
      handlers.handle("Echo.Say", async () => {
        calls++;
        await new Promise((resolve) => setImmediate(resolve));
        if (calls === 1) throw new MicroError("no", { id: "echo", code: "conflict" });
        return { calls };
      }),
    );
    const client = fleet.connect({ wrapClient: [cacheWrapper()] });
    const leaks = watchLeaks();
    const { signal } = leaks.controller();
    const options = { cacheMs: 60_000, timeoutMs: 60_000, signal };
    const call = (): Promise<unknown> => client.call("echo", "Echo.Say", {}, options);
    const failed = await Promise.allSettled([call(), call(), call()]);
    expect(failed.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    expect(calls).toBe(1);
    expect(await Promise.all([call(), call(), call()])).toEqual([{ calls: 2 }, { calls: 2 }, { calls: 2 }]);
    expect(await call()).toEqual({ calls: 2 });
    expect(calls).toBe(2);
    await leaks.end();
  });
});
