import { rabbitmqBroker } from "@micro/broker-rabbitmq";
import type { RabbitmqBrokerOptions } from "@micro/broker-rabbitmq";
import { brokerConformance } from "@micro/testing";
import type { BrokerConformanceOptions } from "@micro/testing";
import { afterAll, beforeAll, describe, it } from "vitest";
import { endRabbitmq, missing, startShared, rabbitmqUrl, withBareChannel } from "./support/rabbitmq.ts";

beforeAll(startShared, 90_000);
afterAll(endRabbitmq);

const gone = "as Go declares it by default the queue is deleted with its last consumer, and what it held with it";

const bytes = {
  "slow subscriber: it is given no more bytes than it takes, and the rest later":
    "AMQP's prefetch counts messages: what their bytes come to is bounded by the server's largest message",
};

const suites: readonly [string, RabbitmqBrokerOptions, BrokerConformanceOptions["skip"]][] = [
  [
    "as Go's plugin declares it",
    {},
    {
      "at least once: what was cancelled goes to another member of the queue": gone,
      "at least once: what was not acknowledged goes to another member of the queue": gone,
      "at least once: what waits in a subscriber that ends goes to another member of the queue": gone,
    },
  ],
  ["durable", { durable: true, exchange: "conformance-durable" }, undefined],
];

for (const [name, options, skip] of suites)
  describe.skipIf(missing !== undefined)(name, () => {
    brokerConformance(
      { describe, it },
      async () => {
        const url = await rabbitmqUrl();
        const made = { ...options, addresses: [url] };
        const broker = rabbitmqBroker(made);
        return {
          broker,
          connect: async () => rabbitmqBroker(made),
          topic: () => `conformance.${crypto.randomUUID()}`,
          async [Symbol.asyncDispose]() {
            await broker[Symbol.asyncDispose]();
            await withBareChannel(url, async (channel) => {
              for (const queue of ["jobs", "mails"]) await channel.deleteQueue(queue);
            });
          },
        };
      },
      {
        skip: { ...skip, ...bytes },
        // A port nobody listens on.
        unreachable: async () => rabbitmqBroker({ ...options, addresses: ["127.0.0.1:9"] }),
      },
    );
  });
