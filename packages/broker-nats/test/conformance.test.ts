import { natsBroker } from "@micro/broker-nats";
import type { NatsBrokerOptions } from "@micro/broker-nats";
import { brokerConformance } from "@micro/testing";
import { afterAll, beforeAll, describe, it } from "vitest";
import { endNats, missing, natsAddress, startShared } from "./support/nats.ts";

beforeAll(startShared, 90_000);
afterAll(endNats);

const suites: readonly [name: string, options: NatsBrokerOptions, redelivers: boolean][] = [
  ["core NATS", {}, false],
  ["JetStream", { jetstream: { storage: "memory" } }, true],
];

for (const [name, options, redelivers] of suites)
  describe.skipIf(missing !== undefined)(name, () => {
    brokerConformance(
      { describe, it },
      async () => {
        const made = { ...options, servers: [await natsAddress()] };
        const broker = natsBroker(made);
        return {
          broker,
          connect: async () => natsBroker(made),
          topic: () => `conformance.${crypto.randomUUID()}`,
          [Symbol.asyncDispose]: () => broker[Symbol.asyncDispose](),
        };
      },
      {
        redelivers,
        ...(redelivers
          ? {
              skip: {
                "slow subscriber: it is given no more bytes than it takes, and the rest later":
                  "the server hands out no fewer bytes at once than its largest message has: held by a test of its own",
              },
            }
          : {}),
        // A port nobody listens on.
        unreachable: async () => natsBroker({ ...options, servers: ["127.0.0.1:9"] }),
      },
    );
  });
