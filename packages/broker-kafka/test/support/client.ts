/** The bare client, for what others do to the cluster and how they see it. */
import kafkajs from "kafkajs";
import type { Admin, IHeaders, Kafka, KafkaMessage } from "kafkajs";
import { kafkaAddress } from "./kafka.ts";

/** @param address default: the server shared by the file's tests. */
export async function bareKafka(address?: string): Promise<Kafka> {
  return new kafkajs.Kafka({ brokers: [address ?? (await kafkaAddress())], logLevel: kafkajs.logLevel.NOTHING });
}

export async function withAdmin<T>(use: (admin: Admin) => Promise<T>, address?: string): Promise<T> {
  const admin = (await bareKafka(address)).admin();
  await admin.connect();
  try {
    return await use(admin);
  } finally {
    await admin.disconnect();
  }
}

export const makeTopic = (topic: string, numPartitions = 1) =>
  withAdmin((admin) => admin.createTopics({ topics: [{ topic, numPartitions }] }));

/** What is committed, by partition. */
export const committed = (groupId: string, topic: string, address?: string) =>
  withAdmin(async (admin) => {
    const found = await admin.fetchOffsets({ groupId, topics: [topic] });
    return new Map(
      found.flatMap(({ partitions }) => partitions).map(({ partition, offset }) => [partition, Number(offset)]),
    );
  }, address);

interface BareMessage {
  readonly value: string | Buffer | null;
  readonly key?: string | Buffer | null;
  readonly headers?: IHeaders;
  readonly partition?: number;
}

/** Write records as a program without go-micro does. */
export async function produce(topic: string, messages: readonly BareMessage[]): Promise<void> {
  const kafka = await bareKafka();
  const producer = kafka.producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner });
  await producer.connect();
  try {
    await producer.send({ topic, messages: [...messages] });
  } finally {
    await producer.disconnect();
  }
}

/** Read so many records from the beginning, as a program without go-micro does. */
export async function consume(topic: string, count: number): Promise<(KafkaMessage & { partition: number })[]> {
  const consumer = (await bareKafka()).consumer({ groupId: `bare-${crypto.randomUUID()}`, maxWaitTimeInMs: 200 });
  const found: (KafkaMessage & { partition: number })[] = [];
  const enough = Promise.withResolvers<void>();
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ partition, message }) => {
      found.push({ partition, ...message });
      if (found.length >= count) enough.resolve();
    },
  });
  await enough.promise;
  await consumer.disconnect();
  return found;
}

/** Wait until `check` gives something true. */
export async function eventually<T>(what: string, check: () => T | Promise<T>, timeoutMs = 15_000): Promise<T> {
  for (const end = performance.now() + timeoutMs; ;) {
    const found = await check();
    if (found) return found;
    if (performance.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
