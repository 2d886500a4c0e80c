import { describe, expect, it } from "vitest";
import type { CallContext } from "../../src/client/client.ts";
import { retryAlways, retryNever, retryOnError } from "../../src/client/retry.ts";
import { MicroError, badRequest } from "../../src/errors.ts";
import type { HandlerRegistration } from "../../src/server/server.ts";
import { errorOf, Fleet, waitFor } from "./support/fleet.ts";

const say = (text: string) => (handlers: HandlerRegistration) => handlers.handle("Echo.Say", () => ({ text }));
const fail = (handlers: HandlerRegistration) =>
  handlers.handle("Echo.Say", () => {
    throw new MicroError("broken", { id: "echo", statusCode: 500 });
  });
/** Ports nobody listens on: reserved ones, of an address that no program chooses. */
const deadAddresses = ["127.0.0.2:1", "127.0.0.2:2", "127.0.0.2:3", "127.0.0.2:4"];

/** A policy that takes longer to decide than the call has. */
const slowly = async (_error: unknown, { deadline }: CallContext): Promise<boolean> => {
  while (performance.now() <= deadline!) await new Promise((resolve) => setImmediate(resolve));
  return true;
};

describe("attempts on other nodes", () => {
  it("pass over nodes that refuse the connection without counting them", async () => {
    await using fleet = new Fleet({ transport: "http", strategy: "roundRobin" });
    for (const [index, address] of deadAddresses.entries()) await fleet.register("echo", `dead-${index}`, address);
    await fleet.serve("echo", say("alive"));
    const client = fleet.connect({ retries: 0 });
    for (let call = 0; call < 10; call += 1)
      expect(await client.call("echo", "Echo.Say", {})).toEqual({ text: "alive" });
    expect(
      fleet.selector.told.filter(({ error }) => error !== undefined).map(({ error }) => error?.notRun),
    ).not.toContain(false);
  });

  it("pass over a draining node, and lose no call", async () => {
    await using fleet = new Fleet({ transport: "http", strategy: "roundRobin" });
    const first = await fleet.serve("echo", say("first"));
    await fleet.serve("echo", say("second"));
    const client = fleet.connect({ retries: 0 });
    first.server.refuse();
    for (let call = 0; call < 10; call += 1)
      expect(await client.call("echo", "Echo.Say", {})).toEqual({ text: "second" });
    const refusals = fleet.selector.told.filter(({ error }) => error !== undefined);
    expect(refusals.length).toBeGreaterThan(0);
    for (const { node, error } of refusals) {
      expect(node).toBe(first.id);
      expect(error).toMatchObject({ code: "unavailable", notRun: true });
    }
  });

  it("end when every node refuses: unavailable, not run, each attempt listed", async () => {
    await using fleet = new Fleet({ transport: "http", strategy: "roundRobin" });
    const first = await fleet.serve("echo", say("first"));
    const second = await fleet.serve("echo", say("second"));
    first.server.refuse();
    second.server.refuse();
    const error = await errorOf(fleet.connect({ retries: 0 }).call("echo", "Echo.Say", {}));
    expect(error).toMatchObject({ code: "unavailable", statusCode: 503, notRun: true });
    expect(error.attempts.map(({ node }) => node).toSorted()).toEqual([first.id, second.id]);
    expect(error.detail).toContain(first.id);
    expect(error.detail).toContain(second.address);
  });

  it("wait before the one node is tried again, which may be back by then", async () => {
    await using fleet = new Fleet({ transport: "http" });
    const instance = await fleet.serve("echo", say("back"));
    await instance.kill();
    const start = performance.now();
    const error = await errorOf(fleet.connect().call("echo", "Echo.Say", {}));
    expect(performance.now() - start).toBeGreaterThanOrEqual(99);
    expect(error).toMatchObject({ code: "unavailable", notRun: true });
    expect(error.attempts).toHaveLength(2);

    let restarted: Promise<unknown> | undefined;
    const backoff = (): number => {
      restarted = fleet.serve("echo", say("back"));
      return 300;
    };
    expect(await fleet.connect().call("echo", "Echo.Say", {}, { backoff })).toEqual({ text: "back" });
    await restarted;
  });

  it("are not made for errors of the application, whatever their code", async () => {
    await using fleet = new Fleet();
    let calls = 0;
    await fleet.serve("echo", (handlers) =>
      handlers.handle("Echo.Say", ({ statusCode }: { statusCode: number }) => {
        calls += 1;
        throw new MicroError("no", { id: "echo", statusCode });
      }),
    );
    const client = fleet.connect();
    for (const statusCode of [400, 408, 500, 503]) {
      const error = await errorOf(client.call("echo", "Echo.Say", { statusCode }));
      expect(error).toMatchObject({ statusCode, detail: "no", id: "echo" });
      expect(error.attempts).toHaveLength(1);
    }
    expect(calls).toBe(4);
    expect(fleet.selector.told.map(({ error }) => error)).toEqual([undefined, undefined, undefined, undefined]);
  });

  it("are made as a policy says, on another node first", async () => {
    await using fleet = new Fleet({ strategy: "roundRobin" });
    await fleet.serve("echo", fail);
    await fleet.serve("echo", fail);
    const error = await errorOf(fleet.connect({ retry: retryOnError }).call("echo", "Echo.Say", {}));
    expect(error).toMatchObject({ statusCode: 500, detail: "broken", id: "echo", status: "Internal Server Error" });
    expect(error.attempts.map(({ node }) => node).toSorted()).toEqual(["echo-1", "echo-2"]);

    const asked: [number, string][] = [];
    const retry = async (_error: MicroError, context: CallContext, attempt: number): Promise<boolean> => {
      asked.push([attempt, context.endpoint]);
      return attempt < 3;
    };
    const waits: number[] = [];
    const backoff = (attempt: number): number => waits.push(attempt) && 0;
    await errorOf(fleet.connect().call("echo", "Echo.Say", {}, { retries: 9, retry, backoff }));
    expect(asked).toEqual([1, 2, 3].map((attempt) => [attempt, "Echo.Say"]));
    expect(waits).toEqual([0, 1]);
  });

  it("are made once for an address, however many records lead to it", async () => {
    await using fleet = new Fleet({ transport: "http" });
    for (const id of ["one", "two", "three"]) await fleet.register("echo", id, deadAddresses[0]!);
    const error = await errorOf(fleet.connect({ retries: 0 }).call("echo", "Echo.Say", {}));
    expect(error).toMatchObject({ code: "unavailable", notRun: true });
    expect(error.attempts).toHaveLength(1);
  });

  it("are not begun once the time is up, and the node that was picked is told nothing against it", async () => {
    await using fleet = new Fleet();
    let calls = 0;
    const instances = [];
    for (let count = 0; count < 2; count++)
      instances.push(await fleet.serve("echo", (handlers) => handlers.handle("Echo.Say", () => ++calls)));
    for (const { server } of instances) server.refuse();
    const options = { timeoutMs: 200, retry: slowly, backoff: () => 0 };
    const error = await errorOf(fleet.connect().call("echo", "Echo.Say", {}, options));
    expect(error).toMatchObject({ code: "timeout" });
    expect(error.attempts).toHaveLength(1);
    expect(calls).toBe(0);
    expect(fleet.selector.told).toHaveLength(fleet.selector.picked);
  });

  it("are bounded by `retries`", async () => {
    await using fleet = new Fleet();
    let calls = 0;
    await fleet.serve("echo", (handlers) =>
      handlers.handle("Echo.Say", () => {
        calls += 1;
        throw badRequest("echo", "no");
      }),
    );
    const options = { retry: retryAlways, retries: 3, backoff: () => 0 };
    const error = await errorOf(fleet.connect().call("echo", "Echo.Say", {}, options));
    expect(calls).toBe(4);
    expect(error.attempts).toHaveLength(4);
  });

  it("are never made with retryNever, not even on refused connections", async () => {
    await using fleet = new Fleet({ transport: "http" });
    await fleet.register("echo", "dead", deadAddresses[0]!);
    const error = await errorOf(fleet.connect({ retry: retryNever }).call("echo", "Echo.Say", {}));
    expect(error.attempts).toHaveLength(1);
  });

  it("are not begun when the wait would end after the deadline", async () => {
    await using fleet = new Fleet({ transport: "http" });
    await fleet.register("echo", "dead", deadAddresses[0]!);
    const start = performance.now();
    const options = { timeoutMs: 3_000, backoff: () => 60_000 };
    const error = await errorOf(fleet.connect().call("echo", "Echo.Say", {}, options));
    expect(performance.now() - start).toBeLessThan(2_000);
    expect(error).toMatchObject({ code: "unavailable", notRun: true });
    expect(error.detail).toContain("no time was left");
  });

  it("end with the caller's cancellation, also while waiting", async () => {
    await using fleet = new Fleet({ transport: "http" });
    await fleet.register("echo", "dead", deadAddresses[0]!);
    const controller = new AbortController();
    const backoff = (): number => {
      // By the next turn it waits.
      setImmediate(() => controller.abort());
      return 4_000;
    };
    const error = await errorOf(fleet.connect().call("echo", "Echo.Say", {}, { backoff, signal: controller.signal }));
    expect(error).toMatchObject({ code: "aborted", statusCode: 499 });
    expect(error.attempts).toHaveLength(1);
  });

  it("stop when the retry budget is used up, and the error says so", async () => {
    await using fleet = new Fleet();
    let calls = 0;
    await fleet.serve("echo", (handlers) => {
      handlers.handle("Echo.Say", () => {
        calls += 1;
        throw badRequest("echo", "no");
      });
    });
    const instance = await fleet.serve("full", say("x"));
    instance.server.refuse();
    const client = fleet.connect({ retryBudget: 0 });
    const options = { retry: retryAlways, retries: 1_000, backoff: () => 0 };
    const error = await errorOf(client.call("echo", "Echo.Say", {}, options));
    expect(calls).toBe(101);
    expect(error).toMatchObject({ detail: "no", statusCode: 400, id: "echo" });
    expect(String(error.cause)).toContain("retry budget");
    const refused = await errorOf(client.call("full", "Echo.Say", {}, options));
    expect(refused.detail).toContain("retry budget");
  });
});

describe("a deadline", () => {
  it("holds for all attempts together and says what was tried", async () => {
    await using fleet = new Fleet({ transport: "http" });
    // Answers nothing, not even to its cancellation.
    const instance = await fleet.serve("echo", (handlers) => handlers.handle("Echo.Say", () => new Promise(() => {})));
    const start = performance.now();
    const error = await errorOf(fleet.connect().call("echo", "Echo.Say", {}, { timeoutMs: 60, retry: retryAlways }));
    const took = performance.now() - start;
    expect(took).toBeGreaterThanOrEqual(59);
    expect(took).toBeLessThan(2_000);
    expect(error.code).toBe("timeout");
    expect(error.toJSON()).toMatchObject({ code: 408, status: "Request Timeout" });
    if (error.id === "go.micro.client") {
      expect(error.detail).toMatch(/^call timeout: context deadline exceeded/);
      expect(error.detail).toContain(instance.address);
      expect(error.detail).toContain("echo Echo.Say");
    }
    expect(error.attempts).toHaveLength(1);
  });

  it("that has passed already means no attempt", async () => {
    await using fleet = new Fleet();
    await fleet.serve("echo", say("x"));
    const client = fleet.connect();
    for (const timeoutMs of [0, -5]) {
      const error = await errorOf(client.call("echo", "Echo.Say", {}, { timeoutMs }));
      expect(error).toMatchObject({ code: "timeout", statusCode: 408, id: "go.micro.client" });
      expect(error.attempts).toEqual([]);
    }
    expect(fleet.selector.picked).toBe(0);
  });

  it("that is no number is a TypeError", async () => {
    await using fleet = new Fleet();
    const client = fleet.connect();
    await expect(client.call("echo", "Echo.Say", {}, { timeoutMs: Number.NaN })).rejects.toThrow(TypeError);
    await expect(client.call("echo", "Echo.Say", {}, { timeoutMs: "5" as unknown as number })).rejects.toThrow(
      TypeError,
    );
    expect(() => fleet.connect({ timeoutMs: Number.NaN })).toThrow(TypeError);
    expect(() => fleet.connect({ retries: -1 })).toThrow(TypeError);
  });
});

describe("addresses given by the caller", () => {
  it("are used in turn, and the next one when one refuses", async () => {
    await using fleet = new Fleet({ transport: "http" });
    const first = await fleet.serve("echo", say("first"));
    const second = await fleet.serve("echo", say("second"));
    const client = fleet.connect({ retries: 0 });
    const address = [first.address, second.address];
    const texts = new Set<string>();
    for (let call = 0; call < 4; call += 1)
      texts.add((await client.call<{ text: string }>("none", "Echo.Say", {}, { address })).text);
    expect(texts).toEqual(new Set(["first", "second"]));
    await first.kill();
    for (let call = 0; call < 4; call += 1)
      expect(await client.call("none", "Echo.Say", {}, { address })).toEqual({ text: "second" });
  });

  it("must be given", async () => {
    await using fleet = new Fleet();
    const client = fleet.connect();
    for (const address of ["", [], [""]])
      await expect(client.call("echo", "Echo.Say", {}, { address })).rejects.toThrow(TypeError);
  });
});

describe("the selector", () => {
  it("is told once of every attempt, with an error only where the node is to blame", async () => {
    await using fleet = new Fleet({ transport: "http" });
    let started = Promise.withResolvers<void>();
    await fleet.serve("echo", (handlers) =>
      handlers.handle("Echo", {
        say: () => ({}),
        fail: () => {
          throw new Error("broken");
        },
        wait: () => {
          started.resolve();
          return new Promise(() => {});
        },
      }),
    );
    const client = fleet.connect();
    await client.call("echo", "Echo.Say", {});
    await errorOf(client.call("echo", "Echo.Fail", {}));
    await errorOf(client.call("echo", "Echo.Wait", {}, { timeoutMs: 30 }));
    const controller = new AbortController();
    started = Promise.withResolvers<void>();
    const call = client.call("echo", "Echo.Wait", {}, { signal: controller.signal });
    await started.promise;
    controller.abort();
    await errorOf(call);
    const circular: Record<string, unknown> = {};
    circular["self"] = circular;
    expect(await errorOf(client.call("echo", "Echo.Say", circular))).toMatchObject({ code: "codec", attempts: [] });
    await waitFor(() => fleet.selector.told.length === fleet.selector.picked);
    expect(fleet.selector.told.map(({ error }) => error?.code)).toEqual([
      undefined,
      undefined,
      // Of a machine that was itself busy past the limit, nobody is told but that it gave up.
      expect.stringMatching(/timeout|aborted/),
      "aborted",
      "aborted",
    ]);
  });
});
