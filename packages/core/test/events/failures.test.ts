import { describe, expect, it } from "vitest";
import { createService, errors, memoryBroker, memoryRegistry, type Broker, type EventFate } from "../../src/index.ts";
import { MemoryLogger } from "../server/support/memory-logger.ts";
import { waitFor } from "../client/support/fleet.ts";

/** By name the broker has the service's logger; an instance has one of its own, or none. */
const brokers: Record<string, () => Broker | string> = {
  "http, by name": () => "http",
  "memory, by name": () => "memory",
  "memory, an instance": () => memoryBroker(),
};

const told = (logger: MemoryLogger): string[] =>
  logger.records.filter(({ level }) => level === "error").map(({ message }) => message.replace(/^Broker \[\w+\] /, ""));

describe.each(Object.entries(brokers))("a handler that fails: %s", (_name, broker) => {
  async function serviceWith(logger: MemoryLogger) {
    const given = { registry: memoryRegistry(), broker: broker(), logger, handleSignals: false };
    const service = createService({ ...given, address: "127.0.0.1:0", spreadMs: 0 });
    await service.start();
    return service;
  }

  it("is told by the service's logger, each attempt by its number, and what becomes of the event", async () => {
    const logger = new MemoryLogger();
    await using service = await serviceWith(logger);
    const subscriber = service.subscribe(
      "t",
      () => {
        throw new Error("bad event");
      },
      { retries: 2, backoff: () => 1 },
    );
    await subscriber.ready;
    await service.publish("t", {});
    await waitFor(() => subscriber.stats.dropped === 1);
    expect(told(logger)).toEqual([
      "t: bad event (attempt 1 of 3: it is tried again)",
      "t: bad event (attempt 2 of 3: it is tried again)",
      "t: bad event (attempt 3 of 3: the event is dropped)",
    ]);
    expect(logger.records.filter(({ level }) => level === "error").map(({ fields }) => fields?.["attempt"])).toEqual([
      1, 2, 3,
    ]);
  });

  it("with a dead letter topic, and for what would fail again", async () => {
    const logger = new MemoryLogger();
    await using service = await serviceWith(logger);
    const buried = service.subscribe(
      "t",
      () => {
        throw new Error("bad event");
      },
      { retries: 0, deadLetter: "t.dead" },
    );
    const refused = service.subscribe("u", () => {
      throw errors.badRequest("shop", "no such field");
    });
    await Promise.all([buried.ready, refused.ready]);
    await service.publish("t", {});
    await service.publish("u", {});
    await waitFor(() => buried.stats.deadLettered === 1 && refused.stats.dropped === 1);
    expect(told(logger).toSorted()).toEqual([
      "t: bad event (attempt 1 of 1: the event goes to t.dead)",
      "u: no such field (attempt 1 of 4, and would fail again: the event is dropped)",
    ]);
  });

  it("is told to `onError` with what becomes of it, and logged nowhere then", async () => {
    const logger = new MemoryLogger();
    await using service = await serviceWith(logger);
    const fates: (EventFate | undefined)[] = [];
    const subscriber = service.subscribe(
      "t",
      () => {
        throw new Error("bad event");
      },
      { retries: 1, backoff: () => 1, onError: (_error, _event, fate) => void fates.push(fate) },
    );
    await subscriber.ready;
    await service.publish("t", {});
    await waitFor(() => subscriber.stats.dropped === 1);
    expect(fates).toEqual(["retried", "dropped"]);
    expect(told(logger)).toEqual([]);
  });

  it("a subscription's own logger is told instead", async () => {
    const [logger, own] = [new MemoryLogger(), new MemoryLogger()];
    await using service = await serviceWith(logger);
    const subscriber = service.subscribe("t", () => Promise.reject(new Error("bad event")), {
      retries: 0,
      logger: own,
    });
    await subscriber.ready;
    await service.publish("t", {});
    await waitFor(() => subscriber.stats.dropped === 1);
    expect(told(logger)).toEqual([]);
    expect(told(own)).toEqual(["t: bad event (attempt 1 of 1: the event is dropped)"]);
  });
});
