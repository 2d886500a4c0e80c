// The Kafka broker in a queue, against the client it stands on as a member of a consumer group: once writing and reading the
// same bytes and sending what is published in one turn together, once in the client's plain way, a request for each publish.
import { createRequire } from "node:module";
import { kafkaBroker } from "../../packages/broker-kafka/dist/index.js";
import { startKafka } from "../../scripts/servers.mjs";

// The client the package stands on, not another copy.
const { Kafka, Partitioners, logLevel } = createRequire(
  new URL("../../packages/broker-kafka/package.json", import.meta.url),
)("kafkajs");

export const label = "Kafka";

export async function start() {
  const server = await startKafka();
  return { address: server.address, stop: () => server.dispose() };
}

const contentType = "application/octet-stream";
const partitions = 1;

const ours = {
  async publisher(address) {
    const broker = kafkaBroker({ addresses: [address], createTopics: { partitions } });
    await broker.connect();
    return {
      publish: (topic, body) =>
        broker.publish(topic, { header: { "Content-Type": contentType, "Micro-Topic": topic }, body }),
      close: () => broker.disconnect(),
    };
  },
  async consumer(address) {
    const broker = kafkaBroker({ addresses: [address], createTopics: { partitions } });
    return {
      subscribe: (topic, handle) =>
        broker.subscribe(topic, ({ message }) => handle(message.body), { queue: "bench" }).ready,
      close: () => broker.disconnect(),
    };
  },
};

const client = (address) => new Kafka({ brokers: [address], logLevel: logLevel.NOTHING });

async function bareConsumer(address, read) {
  const kafka = client(address);
  const admin = kafka.admin();
  await admin.connect();
  const consumers = [];
  return {
    async subscribe(topic, handle) {
      await admin.createTopics({ topics: [{ topic, numPartitions: partitions }] });
      const consumer = kafka.consumer({ groupId: `bare-${topic}`, maxWaitTimeInMs: 500 });
      consumers.push(consumer);
      await consumer.connect();
      await consumer.subscribe({ topics: [topic], fromBeginning: true });
      await consumer.run({
        eachBatch: async ({ batch, resolveOffset, heartbeat }) => {
          for (const message of batch.messages) {
            handle(read(message));
            resolveOffset(message.offset);
          }
          await heartbeat();
        },
      });
    },
    async close() {
      await Promise.all([...consumers, admin].map((each) => each.disconnect()));
    },
  };
}

async function bareProducer(address) {
  const producer = client(address).producer({
    allowAutoTopicCreation: false,
    createPartitioner: Partitioners.DefaultPartitioner,
  });
  await producer.connect();
  return producer;
}

const same = {
  async publisher(address) {
    const producer = await bareProducer(address);
    let batch = [];
    let sending = false;
    const send = async (topic) => {
      if (sending) return;
      sending = true;
      while (batch.length > 0) {
        const now = batch;
        batch = [];
        await producer.send({ topic, messages: now.map(({ message }) => message), acks: -1 });
        for (const { resolve } of now) resolve();
      }
      sending = false;
    };
    return {
      publish(topic, body) {
        const headers = { "Content-Type": contentType, "Micro-Topic": topic };
        const value = Buffer.from(JSON.stringify({ Header: headers, Body: body.toString("base64") }));
        return new Promise((resolve) => {
          batch.push({ resolve, message: { key: null, value, headers } });
          if (batch.length === 1) setImmediate(send, topic);
        });
      },
      close: () => producer.disconnect(),
    };
  },
  consumer: (address) => bareConsumer(address, ({ value }) => Buffer.from(JSON.parse(value.toString()).Body, "base64")),
};

const plain = {
  async publisher(address) {
    const producer = await bareProducer(address);
    return {
      publish: (topic, body) => producer.send({ topic, messages: [{ key: null, value: body }], acks: -1 }),
      close: () => producer.disconnect(),
    };
  },
  consumer: (address) => bareConsumer(address, ({ value }) => value),
};

export const sides = {
  "@micro/broker-kafka": ours,
  "bare kafkajs, the same bytes in batches": same,
  "bare kafkajs, a request each": plain,
};
