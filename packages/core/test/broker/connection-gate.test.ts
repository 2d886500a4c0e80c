import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { Cancellation, ConnectionGate, Context, MicroError, publishTimeout, runInContext } from "@micro/core";

const gateOf = (maxWaiting?: number) =>
  new ConnectionGate({ name: "test", backend: () => "the server at 127.0.0.1:1", maxWaiting });

async function codeOf(run: () => unknown): Promise<string> {
  try {
    await run();
    return "none";
  } catch (error) {
    return MicroError.is(error) ? error.code : String(error);
  }
}

describe("ConnectionGate", () => {
  it("is passed at once while it is open", () => {
    const gate = gateOf();
    gate.open();
    expect([gate.isOpen, gate.pass(), gate.waiting]).toEqual([true, undefined, 0]);
  });

  it("lets those who wait through in their order when it opens", async () => {
    const gate = gateOf();
    const passed: number[] = [];
    const waiting = [1, 2, 3].map(async (each) => {
      await gate.pass();
      passed.push(each);
    });
    expect([gate.isOpen, gate.waiting]).toEqual([false, 3]);
    gate.open();
    await Promise.all(waiting);
    expect([passed, gate.waiting]).toEqual([[1, 2, 3], 0]);
  });

  it("gives up at the deadline, and says why the backend is away", async () => {
    const gate = gateOf();
    gate.close(new Error("connection refused"));
    const error: unknown = await gate.pass({ timeoutMs: 20 })!.catch((reason: unknown) => reason);
    expect(MicroError.is(error) && error.code).toBe("timeout");
    expect(String(error)).toContain("the server at 127.0.0.1:1 cannot be reached (connection refused)");
    expect(gate.waiting).toBe(0);
  });

  it("gives up when the signal aborts, and leaves no listener", async () => {
    const gate = gateOf();
    const controller = new AbortController();
    const waiting = gate.pass({ signal: controller.signal });
    expect(getEventListeners(controller.signal, "abort")).toHaveLength(1);
    controller.abort();
    expect(await codeOf(() => waiting)).toBe("aborted");
    expect(getEventListeners(controller.signal, "abort")).toHaveLength(0);
    expect(await codeOf(() => gate.pass({ signal: controller.signal }))).toBe("aborted");
    expect(gate.waiting).toBe(0);
  });

  it("leaves no listener on a signal that lives on, whichever way the waiting ends", async () => {
    const { signal } = new AbortController();
    const ways: ((gate: ConnectionGate) => void)[] = [
      (gate) => gate.open(),
      (gate) => gate.fail(new MicroError("refused", { code: "unauthorized" })),
      (gate) => gate.fail(new MicroError("disconnected", { code: "closed" }), true),
      () => {},
    ];
    for (const end of ways) {
      const gate = gateOf();
      const waiting = gate.pass({ signal, timeoutMs: 20 })!.catch(() => {});
      expect(getEventListeners(signal, "abort")).toHaveLength(1);
      end(gate);
      await waiting;
      expect([getEventListeners(signal, "abort").length, gate.waiting]).toEqual([0, 0]);
    }
  });

  it("says in one sentence that a connection is unavailable", async () => {
    const gate = gateOf();
    gate.close(new Error("connecting: Connection error: connect ECONNREFUSED 127.0.0.1:1"));
    await expect(gate.connected({ timeoutMs: 5 })).rejects.toMatchObject({
      code: "unavailable",
      detail: "the server at 127.0.0.1:1 cannot be reached: connection refused",
    });
  });

  it("keeps no more waiting than it is told", async () => {
    const gate = gateOf(2);
    const [first, second] = [gate.pass(), gate.pass()];
    expect(await codeOf(() => gate.pass())).toBe("unavailable");
    gate.open();
    await first;
    await second;
  });

  it("fails those who wait, and later ones only if that is for good", async () => {
    const gate = gateOf();
    const refused = new MicroError("wrong password", { code: "unauthorized" });
    const first = gate.pass();
    gate.fail(refused);
    expect(await codeOf(() => first)).toBe("unauthorized");
    const second = gate.pass();
    gate.fail(new MicroError("disconnected", { code: "closed" }), true);
    expect(await codeOf(() => second)).toBe("closed");
    gate.open();
    expect(await codeOf(() => gate.pass())).toBe("closed");
  });

  it("is closed again when the connection is lost", async () => {
    const gate = gateOf();
    gate.open();
    gate.close(new Error("lost"));
    expect(await codeOf(() => gate.pass({ timeoutMs: 5 }))).toBe("timeout");
  });
});

describe("publishTimeout", () => {
  it("is five seconds, or what is asked for", () => {
    expect([publishTimeout(), publishTimeout({ timeoutMs: 70_000 }), publishTimeout({ timeoutMs: 0 })]).toEqual([
      5_000, 70_000, 0,
    ]);
  });

  it("is never more than the handler has left", () => {
    const cancellation = new Cancellation(performance.now() + 1_000);
    const context = new Context({ service: "a", endpoint: "A.B", cancellation });
    const [left, less] = runInContext(context, () => [publishTimeout(), publishTimeout({ timeoutMs: 10 })] as const);
    expect(left).toBeLessThanOrEqual(1_000);
    expect(left).toBeGreaterThan(500);
    expect(less).toBe(10);
    cancellation.end();
  });

  it.each([-1, Number.NaN, "5s" as unknown as number])("refuses %s", (timeoutMs) => {
    expect(() => publishTimeout({ timeoutMs })).toThrow(TypeError);
  });
});
