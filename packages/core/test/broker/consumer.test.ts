import { describe, expect, it } from "vitest";
import { Consumer, Metadata, MicroError, redeliveryBackoff, silentLogger } from "@micro/core";
import type { BrokerEvent, ConsumerOptions, Delivery, OutgoingBrokerMessage, SubscribeOptions } from "@micro/core";
import { waitFor } from "../support/raw-socket.ts";

type Told = { acked: string[]; givenBack: string[]; buried: [string, OutgoingBrokerMessage][]; errors: MicroError[] };

/** A consumer of a backend that notes what it is told. */
function consumerOf(
  handler: (event: BrokerEvent) => void | Promise<void>,
  options: SubscribeOptions = {},
  more: Partial<ConsumerOptions> = {},
) {
  const told: Told = { acked: [], givenBack: [], buried: [], errors: [] };
  const consumer = new Consumer({
    broker: "test",
    topic: "jobs",
    handler,
    options: { backoff: () => 1, onError: (error) => told.errors.push(error), ...options },
    logger: silentLogger,
    lastResort: "retry",
    publish: async (topic, message) => void told.buried.push([topic, message]),
    ...more,
  });
  const delivery = (name: string, part: Partial<Delivery> = {}): Delivery => ({
    topic: "jobs",
    message: { header: new Metadata(), body: Buffer.from(name) },
    ack: () => void told.acked.push(name),
    giveBack: () => void told.givenBack.push(name),
    ...part,
  });
  return { consumer, told, delivery };
}

const name = ({ message }: BrokerEvent) => Buffer.from(message.body).toString();
const cannot = (): never => {
  throw new Error("closing");
};
const settle = (check: () => boolean) => waitFor(check, "the consumer to settle");

describe("Consumer", () => {
  it("acknowledges after the handler, and only then", async () => {
    const gate = Promise.withResolvers<void>();
    const { consumer, told, delivery } = consumerOf(() => gate.promise);
    void consumer.deliver(delivery("a"));
    await Promise.resolve();
    expect([told.acked, consumer.stats.inFlight]).toEqual([[], 1]);
    gate.resolve();
    await settle(() => consumer.stats.inFlight === 0);
    expect(told.acked).toEqual(["a"]);
  });

  it("a backend that cannot take back what is left, thrown or rejected, is told of; the rest goes back", async () => {
    const { consumer, told, delivery } = consumerOf(() => new Promise(() => {}), { concurrency: 3 });
    void consumer.deliver(delivery("a", { giveBack: cannot }));
    void consumer.deliver(delivery("b", { giveBack: () => Promise.reject(new Error("gone")) }));
    void consumer.deliver(delivery("c"));
    expect(await consumer.drain(0)).toBe(false);
    await settle(() => told.errors.length === 2);
    expect(told.errors.map(({ detail }) => detail).toSorted()).toEqual(["closing", "gone"]);
    expect([told.givenBack, consumer.stats.inFlight]).toEqual([["c"], 0]);
  });

  it("forgets what the backend has taken back, but for what runs", async () => {
    const gate = Promise.withResolvers<void>();
    const handled: string[] = [];
    const { consumer, told, delivery } = consumerOf(
      async (event) => {
        handled.push(name(event));
        if (name(event) === "fails") throw new Error("not yet");
        await gate.promise;
      },
      { concurrency: 2, backoff: () => 60_000, prefetch: 4 },
    );
    const mine = ["fails", "runs", "waits"].map((each) => delivery(each));
    for (const each of mine) void consumer.deliver(each);
    const full = consumer.deliver(delivery("stays"));
    await settle(() => told.errors.length === 1);
    consumer.revoke((each) => mine.includes(each));
    await full;
    // The backend knows.
    expect(told.givenBack).toEqual([]);
    gate.resolve();
    await settle(() => consumer.stats.inFlight === 0);
    expect(handled).toEqual(["fails", "runs", "stays"]);
    expect(told.acked.toSorted()).toEqual(["runs", "stays"]);
    expect(consumer.stats.dropped).toBe(0);
  });

  it("says when there is room again", async () => {
    const gate = Promise.withResolvers<void>();
    const { consumer, delivery } = consumerOf(() => gate.promise, { prefetch: 2 });
    expect(consumer.deliver(delivery("a"))).toBeUndefined();
    const full = consumer.deliver(delivery("b"));
    expect(full).toBeInstanceOf(Promise);
    expect(consumer.room()).toBe(full);
    gate.resolve();
    await full;
    expect(consumer.room()).toBeUndefined();
  });

  it("waits for the backend's word that it has the acknowledgement before it has ended", async () => {
    const told = Promise.withResolvers<void>();
    const { consumer, delivery } = consumerOf(() => {});
    void consumer.deliver(delivery("a", { ack: () => told.promise }));
    let ended = false;
    const draining = consumer.drain().then((clean) => (ended = clean));
    // Nothing but promises stands between the word and the end.
    await new Promise(setImmediate);
    expect(ended).toBe(false);
    told.resolve();
    expect(await draining).toBe(true);
  });

  it("reports an acknowledgement that does not get through, and goes on", async () => {
    const { consumer, told, delivery } = consumerOf(() => {});
    void consumer.deliver(delivery("a", { ack: () => Promise.reject(new Error("connection lost")) }));
    void consumer.deliver(
      delivery("b", {
        ack() {
          throw new Error("channel closed");
        },
      }),
    );
    void consumer.deliver(delivery("c"));
    await settle(() => consumer.stats.inFlight === 0);
    expect(told.errors.map(({ detail }) => detail).toSorted()).toEqual(["channel closed", "connection lost"]);
    expect(told.acked).toEqual(["c"]);
  });

  it("gives back what waits when it ends, and what arrives afterwards", async () => {
    const gate = Promise.withResolvers<void>();
    const { consumer, told, delivery } = consumerOf(() => gate.promise);
    for (const each of ["a", "b", "c"]) void consumer.deliver(delivery(each));
    const draining = consumer.drain();
    void consumer.deliver(delivery("d"));
    gate.resolve();
    expect(await draining).toBe(true);
    expect([told.acked, told.givenBack]).toEqual([["a"], ["b", "c", "d"]]);
    expect(consumer.stats.dropped).toBe(0);
  });

  it("handles what waits when it ends, if nobody would deliver it again", async () => {
    const { consumer, told, delivery } = consumerOf(() => Promise.resolve(), {}, { lastResort: "drop" });
    for (const each of ["a", "b", "c"]) {
      const { topic, message } = delivery(each);
      void consumer.deliver({ topic, message, ack: () => void told.acked.push(each) });
    }
    expect(await consumer.drain()).toBe(true);
    expect(told.acked).toEqual(["a", "b", "c"]);
  });

  it("cancels what does not end in time, and gives it back", async () => {
    let reason: unknown;
    const { consumer, told, delivery } = consumerOf(
      ({ signal }) =>
        new Promise((_, reject) => {
          signal.addEventListener("abort", () => {
            reason = signal.reason;
            reject(new Error("cancelled"));
          });
        }),
    );
    void consumer.deliver(delivery("a"));
    expect(await consumer.drain(20)).toBe(false);
    expect(MicroError.is(reason) && reason.code).toBe("closed");
    expect([told.givenBack, told.acked, consumer.stats.inFlight]).toEqual([["a"], [], 0]);
  });

  it("does not wait for the pause before a retry when it ends", async () => {
    const { consumer, told, delivery } = consumerOf(() => Promise.reject(new Error("no")), { backoff: () => 60_000 });
    void consumer.deliver(delivery("a"));
    await settle(() => consumer.stats.failed === 1);
    expect(await consumer.drain(5_000)).toBe(true);
    expect(told.givenBack).toEqual(["a"]);
  });

  it("asks the backoff with the number of retries made", async () => {
    const asked: number[] = [];
    const backoff = (attempt: number) => (asked.push(attempt), 1);
    const { consumer, delivery } = consumerOf(
      ({ attempt }) => {
        if (attempt < 5) throw new Error("not yet");
      },
      { retries: 2, backoff },
    );
    void consumer.deliver(delivery("a"));
    await settle(() => consumer.stats.handled === 1);
    expect(asked).toEqual([0, 1, 2, 3]);
  });

  it("publishes to the dead letter topic until that works, and settles the message then", async () => {
    let refusals = 3;
    const buried: string[] = [];
    const { consumer, told, delivery } = consumerOf(
      () => {
        throw new MicroError("no good", { code: "bad_request" });
      },
      { deadLetter: "dead" },
      {
        publish: async (topic) => {
          if (refusals-- > 0) throw new MicroError("away", { code: "unavailable" });
          buried.push(topic);
        },
      },
    );
    void consumer.deliver(delivery("a"));
    await settle(() => consumer.stats.inFlight === 0);
    expect([buried, told.acked, consumer.stats.deadLettered]).toEqual([["dead"], ["a"], 1]);
    expect(told.errors.map(({ code }) => code)).toEqual(["bad_request", "unavailable", "unavailable", "unavailable"]);
  });

  it("gives a message back that could not be dead-lettered before the end", async () => {
    const { consumer, told, delivery } = consumerOf(
      () => {
        throw new MicroError("no good", { code: "codec" });
      },
      { deadLetter: "dead" },
      { publish: () => Promise.reject(new MicroError("away", { code: "unavailable" })) },
    );
    void consumer.deliver(delivery("a"));
    await settle(() => told.errors.length >= 2);
    expect(await consumer.drain(5_000)).toBe(true);
    expect([told.givenBack, told.acked]).toEqual([["a"], []]);
  });

  it("counts, reports and dead-letters what cannot be read", async () => {
    const { consumer, told, delivery } = consumerOf(() => expect.unreachable(), { deadLetter: "dead" });
    consumer.unreadable(new MicroError("gibberish", { code: "codec" }), delivery("a"));
    await settle(() => consumer.stats.inFlight === 0);
    expect(told.errors.map(({ detail }) => detail)).toEqual(["gibberish"]);
    expect(told.buried).toHaveLength(1);
    expect(consumer.stats).toMatchObject({ received: 1, failed: 1, deadLettered: 1, handled: 0 });
  });

  it("counts what the backend lost", () => {
    const { consumer, told } = consumerOf(() => {});
    consumer.lost(7, new MicroError("too slow", { code: "unavailable" }));
    expect([consumer.stats.dropped, told.errors.length]).toEqual([7, 1]);
  });

  it("survives a long row of handlers that end at once", async () => {
    const seen: string[] = [];
    const { consumer, delivery } = consumerOf((event) => void seen.push(name(event)), { prefetch: 20_000 });
    for (let index = 0; index < 10_000; index++) void consumer.deliver(delivery(String(index)));
    expect(seen).toHaveLength(10_000);
    expect(seen.at(-1)).toBe("9999");
    expect(await consumer.drain()).toBe(true);
  });
});

describe("redeliveryBackoff", () => {
  it("doubles from 100 ms up to 30 s, less up to a half", () => {
    for (const [retries, most] of [
      [0, 100],
      [1, 200],
      [5, 3_200],
      [9, 30_000],
      [1_000, 30_000],
    ] as const) {
      const delay = redeliveryBackoff(retries);
      expect(delay).toBeLessThanOrEqual(most);
      expect(delay).toBeGreaterThanOrEqual(most / 2);
    }
  });
});
