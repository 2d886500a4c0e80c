import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { memoryBroker, memoryBrokerNetwork, MicroError } from "@micro/core";
import type { BrokerEvent } from "@micro/core";

const body = Buffer.from("x");
const text = ({ message }: BrokerEvent) => Buffer.from(message.body).toString();

async function failureOf(promise: Promise<unknown>): Promise<MicroError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!MicroError.is(error)) throw error ?? new Error("nothing failed");
  return error;
}

/** A broker with a subscriber that has no room until the gate opens. */
function crowded(options: { maxWaiting?: number } = {}) {
  const broker = memoryBroker(options);
  const gate = Promise.withResolvers<void>();
  const handled: string[] = [];
  const subscriber = broker.subscribe(
    "a",
    async (event) => {
      await gate.promise;
      handled.push(text(event));
    },
    { prefetch: 1 },
  );
  return { broker, gate, handled, subscriber };
}

describe("memoryBroker", () => {
  it("keeps publishers waiting for a subscriber without room, in their order", async () => {
    const { broker, gate, handled } = crowded();
    const published = ["1", "2", "3", "4"].map((each) => broker.publish("a", { body: Buffer.from(each) }));
    await published[0];
    expect(handled).toEqual([]);
    gate.resolve();
    await Promise.all(published);
    await broker.disconnect();
    expect(handled).toEqual(["1", "2", "3", "4"]);
  });

  it("gives up at the deadline, or when the signal aborts, and what is given up never arrives", async () => {
    const { broker, gate, handled } = crowded();
    await broker.publish("a", { body });
    expect((await failureOf(broker.publish("a", { body: Buffer.from("late") }, { timeoutMs: 20 }))).code).toBe(
      "timeout",
    );
    const controller = new AbortController();
    const publishing = failureOf(broker.publish("a", { body: Buffer.from("no") }, { signal: controller.signal }));
    await Promise.resolve();
    controller.abort();
    expect((await publishing).code).toBe("aborted");
    expect(getEventListeners(controller.signal, "abort")).toHaveLength(0);
    gate.resolve();
    await broker.publish("a", { body: Buffer.from("next") });
    await broker.disconnect();
    expect(handled).toEqual(["x", "next"]);
  });

  it("lets only so many publishes wait", async () => {
    const { broker, gate } = crowded({ maxWaiting: 1 });
    await broker.publish("a", { body });
    const waiting = broker.publish("a", { body });
    expect((await failureOf(broker.publish("a", { body }))).code).toBe("unavailable");
    gate.resolve();
    await waiting;
    await broker.disconnect();
  });

  it("lets those go on who waited for a subscriber that has left", async () => {
    const { broker, gate, subscriber } = crowded();
    await broker.publish("a", { body });
    const waiting = broker.publish("a", { body });
    const ending = subscriber.unsubscribe();
    await waiting;
    gate.resolve();
    await ending;
    expect(subscriber.stats).toMatchObject({ received: 1, handled: 1, inFlight: 0 });
    await broker.disconnect();
  });

  it("gives what waits for a queue to whichever member has room first", async () => {
    const network = memoryBrokerNetwork();
    await using broker = memoryBroker({ network });
    await using other = memoryBroker({ network });
    const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const handled: string[] = [];
    for (const [index, { promise }] of gates.entries())
      [broker, other][index]!.subscribe(
        "a",
        async (event) => {
          await promise;
          handled.push(`${index}:${text(event)}`);
        },
        { queue: "jobs", prefetch: 1 },
      );
    await Promise.all(["1", "2"].map((each) => broker.publish("a", { body: Buffer.from(each) })));
    const waiting = broker.publish("a", { body: Buffer.from("3") });
    gates[1]!.resolve();
    await waiting;
    gates[0]!.resolve();
    await Promise.all([broker.disconnect(), other.disconnect()]);
    expect(handled.toSorted()).toEqual(["0:1", "1:2", "1:3"]);
  });

  it("ends what waits when it is disconnected and time is up", async () => {
    const network = memoryBrokerNetwork();
    const publisher = memoryBroker({ network });
    await using stuck = memoryBroker({ network });
    const gate = Promise.withResolvers<void>();
    stuck.subscribe("a", () => gate.promise, { prefetch: 1 });
    await publisher.publish("a", { body });
    const waiting = failureOf(publisher.publish("a", { body }));
    await publisher.disconnect({ timeoutMs: 20 });
    expect((await waiting).code).toBe("closed");
    gate.resolve();
  });

  it("refuses options that make no sense", () => {
    expect(() => memoryBroker({ network: {} as never })).toThrow(TypeError);
    expect(() => memoryBroker({ maxWaiting: -1 })).toThrow(TypeError);
  });
});
