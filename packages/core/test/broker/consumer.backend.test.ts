import { Consumer, Metadata, MicroError, silentLogger } from "@micro/core";
import type { BrokerHandler, Delivery, SubscribeOptions } from "@micro/core";
import { describe, expect, it, vi } from "vitest";

function consumer(handler: BrokerHandler, options: SubscribeOptions, lastResort: "drop" | "retry"): Consumer {
  return new Consumer({
    broker: "test",
    topic: "a",
    handler,
    options: { onError() {}, ...options },
    logger: silentLogger,
    lastResort,
    publish: async () => {},
  });
}

/** A message that notes what becomes of it. */
function delivery(name: string, told: string[], withDrop: boolean): Delivery {
  return {
    topic: name,
    message: { header: new Metadata(), body: new Uint8Array(0) },
    ack: () => void told.push(`${name} ack`),
    giveBack: () => void told.push(`${name} back`),
    ...(withDrop ? { drop: () => void told.push(`${name} drop`) } : {}),
  };
}

const unreadable = (): never => {
  throw new MicroError("unreadable", { code: "codec" });
};

describe("what a backend is told", () => {
  it("a message that is given up is dropped where the backend has a word for it, else acknowledged", () => {
    const told: string[] = [];
    const handled = consumer(unreadable, {}, "retry");
    void handled.deliver(delivery("with", told, true));
    void handled.deliver(delivery("without", told, false));
    expect(told).toEqual(["with drop", "without ack"]);
    expect(handled.stats).toMatchObject({ dropped: 2, inFlight: 0 });
  });

  it("one that is handled, or buried, is acknowledged", async () => {
    const told: string[] = [];
    void consumer(() => {}, {}, "drop").deliver(delivery("handled", told, true));
    const buried = consumer(unreadable, { deadLetter: "dead" }, "drop");
    void buried.deliver(delivery("buried", told, true));
    await buried.drain();
    expect(told).toEqual(["handled ack", "buried ack"]);
  });

  it("what waits and was taken back is forgotten; what runs is finished, and what others brought is handled", async () => {
    const told: string[] = [];
    const handled: string[] = [];
    const gate = Promise.withResolvers<void>();
    const one = consumer(
      ({ topic }) => {
        handled.push(topic);
        return gate.promise;
      },
      { prefetch: 3 },
      "retry",
    );
    for (const name of ["old 1", "old 2", "new 1"]) void one.deliver(delivery(name, told, true));
    const room = one.room();
    expect(room).toBeInstanceOf(Promise);
    one.revoke(({ topic }) => topic.startsWith("old"));
    await room;
    expect(one.stats.inFlight).toBe(2);
    gate.resolve();
    await one.drain();
    expect(handled).toEqual(["old 1"]);
    expect(told.toSorted()).toEqual(["new 1 back", "old 1 ack"]);
  });

  it.each<[string, SubscribeOptions]>([
    ["between attempts", { retries: 5, backoff: () => 10_000 }],
    ["between attempts to bury it", { retries: 0, deadLetter: "dead" }],
  ])("a message that was taken back %s leaves no timer", async (_when, options) => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    try {
      const errors: MicroError[] = [];
      const failing = new Consumer({
        broker: "test",
        topic: "a",
        handler: () => Promise.reject(new Error("not today")),
        options: { onError: (error) => void errors.push(error), ...options },
        logger: silentLogger,
        lastResort: "retry",
        publish: () => Promise.reject(new Error("nor there")),
      });
      void failing.deliver(delivery("a", [], true));
      await new Promise(setImmediate);
      expect(vi.getTimerCount()).toBe(1);
      const reported = errors.length;
      failing.revoke(() => true);
      await new Promise(setImmediate);
      expect(vi.getTimerCount()).toBe(0);
      expect([failing.stats.inFlight, errors.length]).toEqual([0, reported]);
    } finally {
      vi.useRealTimers();
    }
  });

  it("a message that was taken back is neither handled nor waited for at the end", async () => {
    const one = consumer(() => new Promise<void>(() => {}), { concurrency: 1, autoAck: false }, "retry");
    void one.deliver(delivery("running", [], true));
    void one.deliver(delivery("waiting", [], true));
    one.revoke(({ topic }) => topic === "waiting");
    expect(one.stats.inFlight).toBe(1);
    expect(await one.drain(20)).toBe(false);
    expect(one.stats.inFlight).toBe(0);
  });
});
