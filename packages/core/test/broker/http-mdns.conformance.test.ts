import { httpBroker, mdnsRegistry } from "@micro/core";
import { brokerConformance } from "@micro/testing";
import { describe, it } from "vitest";
import { freeUdpPort } from "../registry/mdns-support.ts";

const port = await freeUdpPort();
let domains = 0;
let topics = 0;

brokerConformance(
  { describe, it },
  async () => {
    const domain = `broker-${++domains}`;
    const registries = new AsyncDisposableStack();
    const make = () =>
      httpBroker({
        registry: registries.use(mdnsRegistry({ port, loopbackOnly: true, domain })),
        address: "127.0.0.1:0",
      });
    const broker = make();
    return {
      broker,
      connect: async () => make(),
      // Longer than a DNS label leaves room for.
      topic: () => `events.of-something-with-a-long-name-${topics++}`,
      async [Symbol.asyncDispose]() {
        await broker[Symbol.asyncDispose]();
        await registries[Symbol.asyncDispose]();
      },
    };
  },
  {
    redelivers: false,
    skip: {
      "disconnect: leaves no timer, socket or server behind":
        "an instance here brings a registry of its own, whose sockets stay until the registry is closed",
    },
  },
);
