import { httpBroker, memoryNetwork, memoryRegistry } from "@micro/core";
import { brokerConformance } from "@micro/core/testing";
import { describe, it } from "vitest";

let topics = 0;

brokerConformance(
  { describe, it },
  async () => {
    const network = memoryNetwork();
    const stack = new AsyncDisposableStack();
    const make = () => httpBroker({ registry: stack.use(memoryRegistry({ network })), address: "127.0.0.1:0" });
    const broker = make();
    return {
      broker,
      connect: async () => make(),
      topic: () => `topic.${topics++}`,
      async [Symbol.asyncDispose]() {
        await broker[Symbol.asyncDispose]();
        await stack[Symbol.asyncDispose]();
      },
    };
  },
  { redelivers: false, quietMs: 50 },
);
