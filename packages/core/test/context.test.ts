import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, expectTypeOf, it, vi } from "vitest";
import { Cancellation, Context, contextKey, currentContext, detach, runInContext } from "../src/context.ts";
import { MicroError } from "../src/errors.ts";
import { Metadata } from "../src/metadata.ts";

const gone = (): MicroError => new MicroError("the caller is gone", { code: "aborted" });
const make = (cancellation?: Cancellation): Context =>
  new Context({ service: "greeter", endpoint: "Greeter.Hello", cancellation });

/** Wait until `ready`, at most five seconds. */
async function until(ready: () => boolean): Promise<void> {
  for (const limit = performance.now() + 5000; !ready(); await sleep(1))
    if (performance.now() > limit) throw new Error("it did not happen within 5 s");
}

describe("Context", () => {
  it("fills what it is not given", () => {
    expect(make()).toMatchObject({
      remote: "",
      local: "",
      contentType: "",
      deadline: undefined,
      remainingMs: undefined,
    });
    expect(make().metadata.size).toBe(0);
    expect(make().body).toHaveLength(0);
  });

  it("knows its caller from the metadata", () => {
    const metadata = new Metadata({ "micro-from-service": "web" });
    expect(new Context({ service: "a", endpoint: "B.C", metadata }).caller).toBe("web");
    expect(make().caller).toBeUndefined();
  });

  it("carries typed values in copies, under keys that are equal only to themselves", () => {
    const account = contextKey<{ name: string }>("account");
    const other = contextKey<number>("account");
    const context = make();
    const first = context.with(account, { name: "a" });
    const second = first.with(other, 5).with(account, { name: "b" });
    expect(context.get(account)).toBeUndefined();
    expect([first.get(account), first.get(other)]).toEqual([{ name: "a" }, undefined]);
    expect([second.get(account), second.get(other)]).toEqual([{ name: "b" }, 5]);
    expectTypeOf(second.get(account)).toEqualTypeOf<{ name: string } | undefined>();
  });

  it("shares everything else with its copies", () => {
    const cancellation = new Cancellation(performance.now() + 60_000);
    const context = new Context({
      service: "s",
      endpoint: "A.B",
      metadata: new Metadata({ a: "1" }),
      remote: "1.2.3.4:5",
      local: "5.6.7.8:9",
      contentType: "application/json",
      body: new Uint8Array([1]),
      cancellation,
    });
    const copy = context.with(contextKey("k"), 1);
    for (const name of [
      "service",
      "endpoint",
      "metadata",
      "remote",
      "local",
      "contentType",
      "body",
      "deadline",
    ] as const)
      expect(copy[name]).toBe(context[name]);
    expect(copy.signal).toBe(context.signal);
    cancellation.end();
  });

  it("counts down to its deadline and not below 0", () => {
    const soon = make(new Cancellation(performance.now() + 10_000)).remainingMs!;
    expect(soon).toBeGreaterThan(9000);
    expect(soon).toBeLessThanOrEqual(10_000);
    expect(make(new Cancellation(performance.now() - 1)).remainingMs).toBe(0);
  });
});

describe("Cancellation", () => {
  it("aborts the signal, made before or after, with the reason", () => {
    const cancellation = new Cancellation();
    const { signal } = cancellation;
    expect([signal.aborted, cancellation.reason]).toEqual([false, undefined]);
    const reason = gone();
    cancellation.cancel(reason);
    expect(signal.reason).toBe(reason);
    expect(cancellation.reason).toBe(reason);
    const late = new Cancellation();
    late.cancel(reason);
    expect(late.signal.aborted).toBe(true);
    expect(late.signal.reason).toBe(reason);
    expect(late.signal).toBe(late.signal);
  });

  it("keeps the first reason", () => {
    const cancellation = new Cancellation();
    const first = gone();
    cancellation.cancel(first);
    cancellation.cancel(gone());
    expect(cancellation.reason).toBe(first);
  });

  it("calls every listener once, late ones at once, removed ones never", () => {
    const cancellation = new Cancellation();
    const seen: string[] = [];
    cancellation.onCancel(() => seen.push("a"));
    const remove = cancellation.onCancel(() => seen.push("removed"));
    cancellation.onCancel(() => seen.push("b"));
    remove();
    remove();
    cancellation.cancel(gone());
    cancellation.cancel(gone());
    cancellation.onCancel(({ code }) => seen.push(code))();
    expect(seen).toEqual(["a", "b", "aborted"]);
  });

  it("calls the other listeners when one throws", () => {
    const cancellation = new Cancellation();
    const seen: string[] = [];
    cancellation.onCancel(() => {
      throw new Error("broken listener");
    });
    cancellation.onCancel(() => seen.push("called"));
    expect(() => cancellation.cancel(gone())).toThrow("broken listener");
    expect(seen).toEqual(["called"]);
  });

  it("passes its deadline as a timeout, with a listener or a signal and without", async () => {
    const listened = new Cancellation(performance.now() + 20);
    let heard: MicroError | undefined;
    listened.onCancel((reason) => (heard = reason));
    const { signal } = new Cancellation(performance.now() + 20);
    const silent = new Cancellation(performance.now() + 20);
    expect([heard, signal.aborted, silent.reason]).toEqual([undefined, false, undefined]);
    const keepAlive = setTimeout(() => {}, 10_000); // The timers of contexts do not hold a process.
    await until(() => heard !== undefined && signal.aborted && silent.reason !== undefined);
    clearTimeout(keepAlive);
    for (const reason of [heard, signal.reason, silent.reason])
      expect(reason).toMatchObject({ code: "timeout", statusCode: 408 });
  });

  it("is cancelled from the start when its deadline has passed", () => {
    const cancellation = new Cancellation(performance.now() - 1);
    expect(cancellation.signal.aborted).toBe(true);
    expect(cancellation.reason?.code).toBe("timeout");
  });

  it("never cancels before its deadline, however far that is", () => {
    const far = new Cancellation(performance.now() + 2 ** 40);
    expect(far.signal.aborted).toBe(false);
    expect(new Cancellation(Number.POSITIVE_INFINITY).signal.aborted).toBe(false);
    far.end();
  });

  it("is inert once the call has ended: nobody is told, nothing is kept", async () => {
    const cancellation = new Cancellation(performance.now() + 10);
    const { signal } = cancellation;
    let called = 0;
    cancellation.onCancel(() => called++);
    cancellation.end();
    cancellation.cancel(gone());
    cancellation.onCancel(() => called++);
    await sleep(30);
    cancellation.cancel(gone());
    expect([called, signal.aborted, cancellation.reason, cancellation.signal.aborted]).toEqual([
      0,
      false,
      undefined,
      false,
    ]);
  });

  it("holds no timer while nobody waits, one while somebody does, and none after the end", () => {
    const started = vi.spyOn(globalThis, "setTimeout");
    const cleared = vi.spyOn(globalThis, "clearTimeout");
    try {
      const cancellation = new Cancellation(performance.now() + 60_000);
      expect(cancellation.reason).toBeUndefined();
      expect(started).not.toHaveBeenCalled();
      void cancellation.signal;
      cancellation.onCancel(() => {});
      expect(started).toHaveBeenCalledOnce();
      const timer = started.mock.results[0]!.value as NodeJS.Timeout;
      expect(timer.hasRef()).toBe(false);
      cancellation.end();
      expect(cleared).toHaveBeenCalledWith(timer);
    } finally {
      started.mockRestore();
      cleared.mockRestore();
    }
  });
});

describe("the current context", () => {
  it("is that of the call, across awaits, timers and nested calls", async () => {
    expect(currentContext()).toBeUndefined();
    const outer = make();
    const inner = outer.with(contextKey("k"), 1);
    const result = await runInContext(outer, async () => {
      await sleep(1);
      expect(currentContext()).toBe(outer);
      await runInContext(inner, async () => {
        await Promise.resolve();
        expect(currentContext()).toBe(inner);
      });
      expect(currentContext()).toBe(outer);
      return "done";
    });
    expect([result, currentContext()]).toEqual(["done", undefined]);
  });

  it("is kept apart between concurrent calls", async () => {
    const contexts = Array.from({ length: 20 }, make.bind(undefined, undefined));
    const found = await Promise.all(
      contexts.map((context, index) =>
        runInContext(context, async () => {
          await sleep(index % 5);
          return currentContext();
        }),
      ),
    );
    for (const [index, context] of found.entries()) expect(context).toBe(contexts[index]);
  });

  it("is left by detach, for all that is started inside", async () => {
    await runInContext(make(), async () => {
      const outside = detach(async () => {
        await sleep(1);
        return currentContext();
      });
      expect(await outside).toBeUndefined();
      expect(currentContext()).toBeDefined();
    });
  });

  it("is restored when the call throws", () => {
    expect(() =>
      runInContext(make(), () => {
        throw new Error("handler");
      }),
    ).toThrow("handler");
    expect(currentContext()).toBeUndefined();
  });
});
