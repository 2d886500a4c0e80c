import { memoryBroker, memoryBrokerNetwork } from "@micro/core";
import { brokerConformance } from "@micro/testing";
import { describe, it } from "vitest";

let topics = 0;

brokerConformance(
  { describe, it },
  async () => {
    const network = memoryBrokerNetwork();
    const broker = memoryBroker({ network });
    return {
      broker,
      connect: async () => memoryBroker({ network }),
      topic: () => `topic-${topics++}`,
      [Symbol.asyncDispose]: () => broker[Symbol.asyncDispose](),
    };
  },
  { redelivers: false, quietMs: 50 },
);
