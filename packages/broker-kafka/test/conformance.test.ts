import { kafkaBroker } from "@micro/broker-kafka";
import { brokerConformance, faultProxy } from "@micro/testing";
import { afterAll, beforeAll, describe, it } from "vitest";
import { endKafka, kafkaAddress, missing, startShared } from "./support/kafka.ts";

beforeAll(startShared, 90_000);
afterAll(endKafka);

brokerConformance(
  { describe: describe.skipIf(missing !== undefined), it },
  async () => {
    const address = await kafkaAddress();
    // One partition: the suite wants one order of all messages of a topic, and Kafka has one for each partition.
    // A body of 1 MiB is more than Kafka takes unless told to, once it is an envelope.
    const createTopics = { partitions: 1, config: { "max.message.bytes": "4194304" } };
    const connect = async () => kafkaBroker({ addresses: [address], createTopics });
    const broker = await connect();
    return {
      broker,
      connect,
      topic: () => `conformance.${crypto.randomUUID()}`,
      [Symbol.asyncDispose]: () => broker[Symbol.asyncDispose](),
    };
  },
  {
    unreachable: async () => {
      const proxy = await faultProxy({ target: "127.0.0.1:9" });
      const { address } = proxy;
      await proxy[Symbol.asyncDispose]();
      return kafkaBroker({ addresses: [address] });
    },
    patienceMs: 20_000,
    skip: {
      "queue: its members in several instances share the work":
        "members share partitions, and these topics have one: held by a test of its own with several",
    },
  },
);
