import { describe, expect, it } from "vitest";
import { retryNever } from "../../src/client/retry.ts";
import { MicroError, type ErrorCode } from "../../src/errors.ts";
import type { Registry } from "../../src/registry/registry.ts";
import { watchLeaks } from "@micro/testing";
import { faultyRegistry } from "../support/faulty-registry.ts";
import { errorOf, Fleet, waitFor } from "./support/fleet.ts";

/** A fleet of one instance whose registry nobody has asked about it yet, and that goes away now. */
async function withoutRegistry() {
  const registry = faultyRegistry();
  const fleet = new Fleet({ registry });
  const served = { calls: 0 };
  const server = await fleet.start("echo", (handlers) =>
    handlers.handle("Echo", {
      say: () => ({ call: ++served.calls }),
      async *count() {
        served.calls++;
        yield { count: 1 };
      },
    }),
  );
  const nodes = [{ id: "echo-1", address: server.address!, metadata: { protocol: "mucp" } }];
  await registry.register({ name: "echo", version: "latest", metadata: {}, endpoints: [], nodes });
  registry.down = true;
  registry.counts.getService = 0;
  return { fleet, registry, served };
}

describe("a look-up while the registry is away", () => {
  it.each([0, 1])("waits for it, and is no attempt that `retries: %i` would count", async (retries) => {
    const { fleet, registry, served } = await withoutRegistry();
    await using _ = fleet;
    const answer = fleet.connect({ retries }).call("echo", "Echo.Say", {});
    await waitFor(() => registry.counts.getService >= 2);
    registry.down = false;
    expect(await answer).toEqual({ call: 1 });
    expect(served.calls).toBe(1);
  });

  it("waits for it before a stream is opened", async () => {
    const { fleet, registry, served } = await withoutRegistry();
    await using _ = fleet;
    const opening = fleet.connect({ retries: 0 }).stream("echo", "Echo.Count");
    await waitFor(() => registry.counts.getService >= 2);
    registry.down = false;
    await using stream = await opening;
    await stream.send({});
    stream.closeSend();
    expect(await stream.receive()).toEqual({ count: 1 });
    expect(served.calls).toBe(1);
  });

  it("says in time that it is unavailable and nothing ran, and how often it asked", async () => {
    const { fleet } = await withoutRegistry();
    await using _ = fleet;
    const start = performance.now();
    const error = await errorOf(fleet.connect({ retries: 0 }).call("echo", "Echo.Say", {}, { timeoutMs: 1_000 }));
    const took = performance.now() - start;
    expect(error).toMatchObject({ code: "unavailable", statusCode: 503, notRun: true, attempts: [] });
    expect(error.detail).toMatch(
      /^error selecting echo node: registry faulty: connection refused; asked \d+ times in \d+ ms$/,
    );
    expect(took).toBeGreaterThan(900);
    expect(took).toBeLessThan(1_500);
  });

  it("waits as long as a call may take for what has no deadline", async () => {
    const { fleet } = await withoutRegistry();
    await using _ = fleet;
    const client = fleet.connect({ timeoutMs: 300 });
    const start = performance.now();
    const error = await errorOf(client.stream("echo", "Echo.Count"));
    expect(error).toMatchObject({ code: "unavailable", notRun: true });
    expect(performance.now() - start).toBeGreaterThan(200);
  });

  it("is not repeated where the policy is never to repeat", async () => {
    const { fleet, registry } = await withoutRegistry();
    await using _ = fleet;
    const error = await errorOf(fleet.connect().call("echo", "Echo.Say", {}, { retry: retryNever }));
    expect(error).toMatchObject({ code: "unavailable", notRun: true });
    expect(error.detail).not.toContain("asked");
    expect(registry.counts.getService).toBe(1);
  });

  it("ends with the call's signal, and leaves neither timer nor listener", async () => {
    const { fleet, registry } = await withoutRegistry();
    await using _ = fleet;
    const client = fleet.connect();
    // The cache's own timers go on.
    await errorOf(client.call("echo", "Echo.Say", {}, { retry: retryNever }));
    registry.counts.getService = 0;
    const leaks = watchLeaks();
    const controller = leaks.controller();
    const error = errorOf(client.call("echo", "Echo.Say", {}, { signal: controller.signal, timeoutMs: 60_000 }));
    await waitFor(() => registry.counts.getService >= 1);
    registry.down = false;
    controller.abort();
    expect(await error).toMatchObject({ code: "aborted" });
    await fleet[Symbol.asyncDispose]();
    await leaks.end();
  });

  it.each<[ErrorCode, number]>([
    ["unauthorized", 401],
    ["forbidden", 403],
    ["bad_request", 400],
  ])("is not repeated after a reason of the registry's own: %s", async (code, statusCode) => {
    let asked = 0;
    const refusing = (inner: Registry): Registry => ({
      ...inner,
      getService: () => {
        asked++;
        return Promise.reject(new MicroError("no", { code }));
      },
    });
    await using fleet = new Fleet({ registry: refusing(faultyRegistry()) });
    const error = await errorOf(fleet.connect().call("echo", "Echo.Say", {}));
    expect(error).toMatchObject({ code, statusCode, notRun: true });
    expect(asked).toBe(1);
  });
});

/** One instance, of which the next look-up says nothing before it is let go. */
async function held() {
  const registry = faultyRegistry();
  const fleet = new Fleet({ registry });
  const served = { calls: 0 };
  const server = await fleet.start("echo", (handlers) => handlers.handle("Echo.Say", () => ({ n: ++served.calls })));
  const nodes = [{ id: "echo-1", address: server.address!, metadata: { protocol: "mucp" } }];
  await registry.register({ name: "echo", version: "latest", metadata: {}, endpoints: [], nodes });
  const { promise, resolve } = Promise.withResolvers<void>();
  registry.hold = promise;
  return { fleet, registry, served, release: resolve };
}

/** Attempts that count as running on the one node. */
async function inFlight(fleet: Fleet): Promise<number> {
  let count = -1;
  const selection = await fleet.selector.pick("echo", {
    strategy: (candidates) => ((count = candidates[0]!.inFlight), candidates[0]!),
  });
  selection.done(undefined);
  return count;
}

describe("a call that ends while its service is looked up", () => {
  it("by its signal never runs, and counts on no node", async () => {
    const { fleet, registry, served, release } = await held();
    await using _ = fleet;
    const controller = new AbortController();
    const error = errorOf(fleet.connect().call("echo", "Echo.Say", {}, { signal: controller.signal }));
    await waitFor(() => registry.counts.getService > 0);
    controller.abort();
    release();
    expect(await error).toMatchObject({ code: "aborted" });
    expect(await inFlight(fleet)).toBe(0);
    expect(served.calls).toBe(0);
  });

  it("by its deadline, noticed late by a busy process, never runs, and counts on no node", async () => {
    const { fleet, registry, served, release } = await held();
    await using _ = fleet;
    const calls = [fleet.connect().call("echo", "Echo.Say", {}, { timeoutMs: 200 })];
    calls.push(fleet.connect().stream("echo", "Echo.Say", { streamTimeoutMs: 200 }) as Promise<unknown>);
    const errors = calls.map(errorOf);
    await waitFor(() => registry.counts.getService > 0);
    release();
    for (const end = performance.now() + 300; performance.now() < end;);
    for (const error of await Promise.all(errors)) expect(error).toMatchObject({ code: "timeout", attempts: [] });
    expect(await inFlight(fleet)).toBe(0);
    expect(served.calls).toBe(0);
    expect(fleet.selector.told.length).toBe(fleet.selector.picked);
  });
});
