import { httpBroker, memoryNetwork, memoryRegistry } from "@micro/core";
import { brokerConformance } from "@micro/testing";
import { describe, it } from "vitest";
import { faultyRegistry } from "../support/faulty-registry.ts";

let topics = 0;

brokerConformance(
  { describe, it },
  async () => {
    const network = memoryNetwork();
    const registries = new AsyncDisposableStack();
    const make = () => httpBroker({ registry: registries.use(memoryRegistry({ network })), address: "127.0.0.1:0" });
    const broker = make();
    return {
      broker,
      connect: async () => make(),
      topic: () => `topic.${topics++}`,
      async [Symbol.asyncDispose]() {
        await broker[Symbol.asyncDispose]();
        await registries[Symbol.asyncDispose]();
      },
    };
  },
  {
    redelivers: false,
    quietMs: 50,
    unreachable: async () => {
      const registry = faultyRegistry();
      registry.down = true;
      return httpBroker({ registry, address: "127.0.0.1:0" });
    },
  },
);
