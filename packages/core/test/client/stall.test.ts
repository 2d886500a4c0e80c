import { describe, expect, it } from "vitest";
import { blame } from "../../src/client/stall.ts";
import { MicroError } from "../../src/errors.ts";
import type { Context } from "../../src/context.ts";
import type { HandlerRegistration } from "../../src/server/server.ts";
import type { Transport } from "../../src/transport/transport.ts";
import { bound, errorOf, Fleet } from "./support/fleet.ts";

/** Keep the event loop from turning. */
function block(durationMs: number): void {
  for (const end = performance.now() + durationMs; performance.now() < end;);
}

const endless = (_request: unknown, context: Context): Promise<never> =>
  new Promise((_, reject) => void context.cancellation.onCancel(reject));

const serve = (handlers: HandlerRegistration) =>
  handlers.handle("Slow", {
    say: endless,
    async *count(request: unknown, context: Context) {
      yield { n: 0 };
      await endless(request, context);
    },
    async *pair() {
      yield { n: 0 };
      await new Promise((resolve) => setTimeout(resolve, 30));
      yield { n: 1 };
      await new Promise((resolve) => setTimeout(resolve, 30));
      yield { n: 2 };
    },
  });

/** What a transport says whose dial limit has passed. */
const slow = (transport: Transport): Transport => ({
  ...bound(transport),
  name: "slow",
  call: (_address, _request, { dialTimeoutMs }) =>
    new Promise((_, reject) =>
      setTimeout(
        () => reject(new MicroError("dial limit", { id: "transport.slow", code: "timeout", notRun: true })),
        dialTimeoutMs,
      ),
    ),
});

describe("a limit that passed", () => {
  const timedOut = new MicroError("late", { code: "timeout" });

  it.each([
    ["as it was due", 100, 100, true],
    ["as late as timers are", 100, 105, true],
    ["later than that", 100, 106, false],
    ["by a twentieth of a long wait", 4_750, 5_000, true],
    ["by more than a twentieth of a long wait", 4_700, 5_000, false],
  ])("is the node's fault when it was noticed %s", (_when, due, now, blamed) => {
    expect(blame(timedOut, 0, due, now) === timedOut).toBe(blamed);
    // Whatever the clock says at the start.
    expect(blame(timedOut, 7_000, 7_000 + due, 7_000 + now) === timedOut).toBe(blamed);
  });
});

describe("a process that was busy past a limit", () => {
  for (const transport of ["memory", "direct", "fast", "http"] as const) {
    it(`does not blame the node for a call: ${transport}`, async () => {
      await using fleet = new Fleet({ transport });
      await fleet.serve("slow", serve);
      const client = fleet.connect();
      const call = (): Promise<unknown> => client.call("slow", "Slow.Say", {}, { timeoutMs: 60 });
      // Once without, so that the connection is there.
      expect(await errorOf(call())).toMatchObject({ code: "timeout" });
      fleet.selector.told.length = 0;
      const error = errorOf(call());
      await new Promise((resolve) => setTimeout(resolve, 10));
      block(200);
      expect(await error).toMatchObject({ code: "timeout" });
      // The server of this same process may have answered by then, and be heard.
      expect(fleet.selector.told).toHaveLength(1);
      expect([undefined, "aborted"]).toContain(fleet.selector.told[0]!.error?.code);
    });

    it(`does not blame the node for a stream: ${transport}`, async () => {
      await using fleet = new Fleet({ transport });
      await fleet.serve("slow", serve);
      const client = fleet.connect();
      for (const limit of [{ streamTimeoutMs: 500 }, { streamIdleTimeoutMs: 200 }]) {
        const stream = await client.stream("slow", "Slow.Count", limit);
        await stream.send({});
        stream.closeSend();
        await stream.receive();
        const error = errorOf(stream.receive());
        await new Promise((resolve) => setTimeout(resolve, 10));
        block(700);
        expect(await error).toMatchObject({ code: "timeout" });
      }
      expect(fleet.selector.told).toHaveLength(2);
      for (const { error } of fleet.selector.told) expect([undefined, "aborted"]).toContain(error?.code);
    });
  }

  for (const transport of ["fast", "http"] as const)
    it(`reads what has arrived before it calls a stream silent: ${transport}`, async () => {
      await using fleet = new Fleet({ transport });
      await fleet.serve("slow", serve);
      const stream = await fleet.connect().stream("slow", "Slow.Pair", { streamIdleTimeoutMs: 80 });
      await stream.send({});
      stream.closeSend();
      expect(await stream.receive()).toEqual({ n: 0 });
      const next = stream.receive();
      block(200);
      expect(await next).toEqual({ n: 1 });
      expect(await stream.receive()).toEqual({ n: 2 });
      expect(await stream.receive()).toBeUndefined();
    });

  it("does not blame the node for a connection that was not made in time", async () => {
    await using fleet = new Fleet({ faults: slow });
    await fleet.serve("slow", serve);
    const client = fleet.connect({ retries: 0 });
    const late = errorOf(client.call("slow", "Slow.Say", {}, { dialTimeoutMs: 40 }));
    await new Promise((resolve) => setTimeout(resolve, 10));
    block(150);
    expect(await late).toMatchObject({ notRun: true });
    expect(fleet.selector.told.map(({ error }) => error?.code)).not.toContain("timeout");
    expect(fleet.selector.told[0]?.error?.detail).toMatch(/^this process was busy/);
  });
});
