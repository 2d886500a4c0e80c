import { rabbitmqBroker } from "@micro/broker-rabbitmq";
import { describe, expect, it } from "vitest";
import { startRabbitmq } from "../../../scripts/servers.mjs";
import { brokerFaults } from "../../core/test/support/broker-faults.ts";
import { missing } from "./support/rabbitmq.ts";

const kits = {
  "as Go's plugin declares it: publishers and subscribers live through": brokerFaults({
    start: () => startRabbitmq(),
    connect: (address) => rabbitmqBroker({ addresses: [address] }),
    atLeastOnce: false,
  }),
  "durable: publishers and subscribers live through": brokerFaults({
    start: () => startRabbitmq(),
    connect: (address) => rabbitmqBroker({ addresses: [address], durable: true }),
    atLeastOnce: true,
  }),
};

for (const [name, kit] of Object.entries(kits))
  describe.skipIf(missing !== undefined)(name, { timeout: 240_000 }, () => {
    for (const [fault, run] of Object.entries(kit)) it(fault, run);
  });

describe.skipIf(missing !== undefined)("durable: messages nobody has handled yet", { timeout: 240_000 }, () => {
  it("outlive kill -9, in a classic and in a quorum queue", async () => {
    const server = await startRabbitmq();
    try {
      await using broker = rabbitmqBroker({ addresses: [server.address], durable: true });
      const queues = ["classic", "quorum"] as const;
      for (const queueType of queues) {
        const subscriber = broker.subscribe("kept", () => {}, { queue: queueType, rabbitmq: { queueType } });
        await subscriber.ready;
        await subscriber.unsubscribe();
      }
      // A quorum queue killed in its first seconds has no leader afterwards.
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      const bodies = Array.from({ length: 500 }, (_, index) => String(index));
      await Promise.all(
        bodies.map((body) => broker.publish("kept", { body: Buffer.from(body) }, { timeoutMs: 20_000 })),
      );
      await server.kill();
      await server.start();
      for (const queueType of queues) {
        const seen = new Set<string>();
        const done = Promise.withResolvers<void>();
        const handler = ({ message }: { message: { body: Uint8Array } }): void => {
          if (seen.add(Buffer.from(message.body).toString()).size === bodies.length) done.resolve();
        };
        broker.subscribe("kept", handler, { queue: queueType, rabbitmq: { queueType }, onError() {} });
        await done.promise;
        expect(seen.size).toBe(bodies.length);
      }
    } finally {
      await server.dispose();
    }
  });
});
