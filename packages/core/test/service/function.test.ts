import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { memoryNetwork, memoryRegistry } from "../../src/registry/memory.ts";
import { createFunction } from "../../src/service/function.ts";
import type { MicroFunction } from "../../src/service/function.ts";
import { createService } from "../../src/service/service.ts";
import { keepingLogger, waitFor } from "../support/service.ts";

function place(options: Parameters<typeof createFunction>[0] = {}) {
  const network = memoryNetwork();
  const logger = keepingLogger();
  const own: MicroFunction = createFunction({
    name: "once",
    registry: memoryRegistry({ network }),
    address: "127.0.0.1:0",
    logger,
    args: [],
    env: {},
    ...options,
  });
  const client = createService({ name: "c", registry: memoryRegistry({ network }), logger });
  return {
    own,
    client,
    async [Symbol.asyncDispose]() {
      await Promise.all([own.stop(), client.stop()]);
    },
  };
}

describe("a function", () => {
  it("ends after its first request, with the answer out", async () => {
    await using site = place();
    let calls = 0;
    site.own.handle("Once", { run: ({ x }: { x: number }) => ({ x, calls: ++calls }) });
    const run = site.own.run();
    await waitFor(() => site.own.ready || undefined, "the start");
    expect(await site.client.call("once", "Debug.Health", {})).toEqual({ status: "ok" });
    expect(site.own.ready).toBe(true);
    expect(await site.client.call("once", "Once.Run", { x: 7 })).toEqual({ x: 7, calls: 1 });
    await run;
    const error = await site.client.call("once", "Once.Run", { x: 8 }).catch((reason: unknown) => reason);
    expect(MicroError.is(error) && ["not_found", "unavailable"].includes(error.code)).toBe(true);
    expect(calls).toBe(1);
  });

  it("ends after a request that failed, too", async () => {
    await using site = place();
    site.own.handle("Once", {
      run() {
        throw new Error("broken");
      },
    });
    const run = site.own.run();
    await waitFor(() => site.own.ready || undefined, "the start");
    await expect(site.client.call("once", "Once.Run", {})).rejects.toMatchObject({ detail: "broken" });
    await run;
  });

  it("ends when its first stream is over", async () => {
    await using site = place();
    const next = Promise.withResolvers<void>();
    site.own.handle("Once", {
      async *count() {
        yield { i: 1 };
        await next.promise;
        yield { i: 2 };
      },
    });
    const run = site.own.run();
    await waitFor(() => site.own.ready || undefined, "the start");
    const stream = await site.client.stream<unknown, { i: number }>("once", "Once.Count");
    await stream.send({});
    stream.closeSend();
    expect(await stream.receive()).toEqual({ i: 1 });
    expect(site.own.ready).toBe(true);
    next.resolve();
    expect(await stream.receive()).toEqual({ i: 2 });
    expect(await stream.receive()).toBeUndefined();
    await run;
  });

  it("ends when it is told to, hooks and wrappers included", async () => {
    const order: string[] = [];
    await using site = place({
      wrapHandler: [(next) => (request, context) => (order.push("wrapper"), next(request, context) as unknown)],
      afterStop: () => void order.push("afterStop"),
    });
    site.own.handle("Once", { run: () => ({}) });
    const run = site.own.run();
    await waitFor(() => site.own.ready || undefined, "the start");
    await site.client.call("once", "Once.Run", {});
    site.own.done();
    await run;
    expect(order).toEqual(["wrapper", "afterStop"]);
  });
});
