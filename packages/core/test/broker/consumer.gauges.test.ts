/** What a subscription counts is given back, whichever way a message ends; then it takes what it should. */
import { describe, expect, it } from "vitest";
import type { BrokerEvent, SubscribeOptions } from "../../src/broker/broker.ts";
import { Consumer, type Delivery } from "../../src/broker/consumer.ts";
import { MicroError } from "../../src/errors.ts";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { Metadata } from "../../src/metadata.ts";
import { TakenBytes } from "../../src/broker/taken-bytes.ts";
import { waitFor } from "../support/raw-socket.ts";

const size = 100;
const message = () => ({ header: new Metadata(), body: new Uint8Array(size) });

function consumerOf(
  handler: (event: BrokerEvent) => void | Promise<void>,
  options: SubscribeOptions,
  more: object = {},
) {
  const taken = new TakenBytes(10 * size);
  const consumer = new Consumer({
    broker: "test",
    topic: "topic",
    handler,
    options: { onError() {}, backoff: () => 1, ...options },
    logger: silentLogger,
    lastResort: "drop",
    publish: async () => {},
    taken,
    ...more,
  });
  return { consumer, taken };
}

const delivery = (more: Partial<Delivery> = {}): Delivery => ({
  topic: "topic",
  message: message(),
  ack() {},
  ...more,
});
const fail = () => {
  throw new Error("no");
};
const failForGood = () => {
  throw new MicroError("no", { code: "bad_request" });
};

/** Each brings one message to its end. */
const ends: Record<string, () => Promise<ReturnType<typeof consumerOf>>> = {
  async handled() {
    const made = consumerOf(() => {}, {});
    void made.consumer.deliver(delivery());
    return made;
  },
  async "handled, and acknowledged later"() {
    const told = Promise.withResolvers<void>();
    const made = consumerOf(() => {}, {});
    void made.consumer.deliver(delivery({ ack: () => told.promise }));
    expect(made.taken.bytes).toBe(size);
    told.resolve();
    return made;
  },
  async "handled, and not acknowledged for an error"() {
    const made = consumerOf(() => {}, {});
    void made.consumer.deliver(delivery({ ack: () => Promise.reject(new Error("lost")) }));
    void made.consumer.deliver(delivery({ ack: fail }));
    return made;
  },
  async "acknowledged by its handler"() {
    const made = consumerOf((event) => event.ack(), { autoAck: false });
    void made.consumer.deliver(delivery());
    return made;
  },
  async "refused by its handler"() {
    const made = consumerOf((event) => event.nack(), { autoAck: false, retries: 1 });
    void made.consumer.deliver(delivery());
    return made;
  },
  async dropped() {
    const made = consumerOf(fail, { retries: 2 });
    void made.consumer.deliver(delivery());
    return made;
  },
  async "dropped at once"() {
    const made = consumerOf(failForGood, {});
    void made.consumer.deliver(delivery());
    return made;
  },
  async "dropped by the backend"() {
    const made = consumerOf(fail, { retries: 0 });
    void made.consumer.deliver(delivery({ drop: async () => {} }));
    return made;
  },
  async buried() {
    const made = consumerOf(fail, { retries: 0, deadLetter: "dead" });
    void made.consumer.deliver(delivery());
    return made;
  },
  async "buried at the second try"() {
    let tries = 0;
    const publish = async () => {
      if (tries++ === 0) throw new Error("away");
    };
    const made = consumerOf(fail, { retries: 0, deadLetter: "dead" }, { publish });
    void made.consumer.deliver(delivery());
    return made;
  },
  async unreadable() {
    const made = consumerOf(() => {}, {});
    made.consumer.unreadable(new MicroError("what is that?", { code: "codec" }), delivery());
    return made;
  },
  async "unreadable and buried"() {
    const made = consumerOf(() => {}, { deadLetter: "dead" });
    made.consumer.unreadable(new MicroError("what is that?", { code: "codec" }), delivery());
    return made;
  },
  async "too large"() {
    const made = consumerOf(() => {}, { maxMessageBytes: size - 1 });
    void made.consumer.deliver(delivery());
    return made;
  },
  async "revoked while it waits, and between attempts"() {
    const made = consumerOf(fail, { retries: 9, backoff: () => 60_000 });
    void made.consumer.deliver(delivery());
    void made.consumer.deliver(delivery());
    await waitFor(() => made.consumer.stats.failed === 1, "the first attempt");
    made.consumer.revoke(() => true);
    return made;
  },
  async "revoked while its handler runs"() {
    const gate = Promise.withResolvers<void>();
    const made = consumerOf(() => gate.promise, {});
    void made.consumer.deliver(delivery());
    made.consumer.revoke(() => true);
    gate.resolve();
    return made;
  },
};

describe("a message that was", () => {
  for (const [name, end] of Object.entries(ends))
    it(`${name} leaves its bytes and its place to others`, async () => {
      const { consumer, taken } = await end();
      await waitFor(() => consumer.inFlight === 0, "the end of the message");
      expect(taken.bytes).toBe(0);
      expect(consumer.roomBytes).toBe(64 * 1024 * 1024);
      expect(consumer.room()).toBeUndefined();
      // Its place, too: one runs at a time, and another one can.
      const { stats } = consumer;
      void consumer.deliver(delivery());
      await waitFor(() => consumer.stats.received > stats.received && consumer.inFlight <= 1, "another message");
      await waitFor(
        () => consumer.stats.handled + consumer.stats.failed > stats.handled + stats.failed,
        "the handler of another message",
      );
      await consumer.drain(10);
      expect(taken.bytes).toBe(0);
    });

  it.each([true, false])("given back at the end (by the backend: %s) leaves its bytes", async (redelivers) => {
    const gate = Promise.withResolvers<void>();
    const { consumer, taken } = consumerOf(() => gate.promise, {}, { lastResort: redelivers ? "retry" : "drop" });
    const given = redelivers ? { giveBack: async () => {} } : {};
    for (let count = 0; count < 3; count++) void consumer.deliver(delivery(given));
    expect(taken.bytes).toBe(3 * size);
    await consumer.drain(20);
    expect(taken.bytes).toBe(0);
    void consumer.deliver(delivery(given));
    expect(taken.bytes).toBe(0);
    gate.resolve();
    await gate.promise;
    expect(taken.bytes).toBe(0);
  });
});

describe("the bytes that all subscriptions have taken", () => {
  it("keep each of them to one message while they are at their bound, and wake them afterwards", async () => {
    const taken = new TakenBytes(3 * size);
    const gate = Promise.withResolvers<void>();
    const [first, second] = [() => gate.promise, () => gate.promise].map(
      (handler) => consumerOf(handler, {}, { taken }).consumer,
    ) as [Consumer, Consumer];
    for (let count = 0; count < 3; count++) void first.deliver(delivery());
    expect(second.room()).toBeUndefined();
    const room = second.deliver(delivery());
    expect(room).toBeInstanceOf(Promise);
    expect(first.room()).toBeInstanceOf(Promise);
    expect(taken.waiting).toBe(2);
    gate.resolve();
    await room;
    expect(taken.waiting).toBe(0);
    await waitFor(() => taken.bytes === 0, "the end");
    expect([first.room(), second.room()]).toEqual([undefined, undefined]);
  });

  it("are waited for by nobody who has ended", async () => {
    const taken = new TakenBytes(size);
    const { consumer } = consumerOf(() => new Promise(() => {}), {}, { taken });
    void consumer.deliver(delivery());
    const room = consumer.room();
    expect(taken.waiting).toBe(1);
    await consumer.drain(5);
    await room;
    expect(taken.waiting).toBe(0);
  });
});
