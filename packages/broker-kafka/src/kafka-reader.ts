/**
 * Reads a topic without a consumer group, by the Kafka client's own requests: nothing is joined, waited for, committed
 * or left behind.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Broker, Cluster } from "kafkajs";
import type { Logger } from "@micro/core";
import { typeOf } from "./errors.ts";
import { KafkaClient, fetchOffsets, openCluster } from "./kafka-client.ts";
import type { KafkaRecord } from "./kafka-client.ts";
import type { KafkaSettings } from "./options.ts";

/** What came of one partition. */
export interface ReadBatch {
  readonly partition: number;
  /** In order; those before the position asked for are left out. */
  readonly records: readonly KafkaRecord[];
  /** Where to read on. */
  readonly next: number;
}

export interface TopicReader {
  partitions(): number[];
  offsets(partitions: readonly number[], which: "oldest" | "newest"): Promise<Map<number, number>>;
  /** Look up again who leads which partition. */
  refresh(): Promise<void>;
  /** Partitions by the broker to read them from. */
  leaders(): Map<string, number[]>;
  /**
   * What there is from these positions on; waits up to `maxWaitMs` for something.
   * @returns "moved" if a broker no longer leads a partition; the number of a partition that begins later than asked
   * for, or ends earlier.
   */
  read(leader: string, positions: ReadonlyMap<number, number>): Promise<readonly ReadBatch[] | "moved" | number>;
  close(): Promise<void>;
}

/** Brokers say so when their part in a topic has changed. */
const movedTypes = new Set([
  "LEADER_NOT_AVAILABLE",
  "NOT_LEADER_FOR_PARTITION",
  "FENCED_LEADER_EPOCH",
  "UNKNOWN_LEADER_EPOCH",
  "UNKNOWN_TOPIC_OR_PARTITION",
  "REPLICA_NOT_AVAILABLE",
]);
const readCommitted = 1;
const maxBytes = 10 * 1024 * 1024;

interface FetchedRecord {
  readonly offset: string;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers?: KafkaRecord["headers"];
  readonly isControlRecord?: boolean;
  readonly batchContext?: { readonly producerId: string; readonly inTransaction: boolean };
}

interface FetchedPartition {
  readonly partition: number;
  readonly messages: readonly FetchedRecord[];
  readonly abortedTransactions?: readonly { producerId: string; firstOffset: string }[] | null;
}

interface FetchAnswer {
  readonly responses: readonly { readonly partitions: readonly FetchedPartition[] }[];
}

/** Connect, and learn of the topic. */
export async function openReader(settings: KafkaSettings, logger: Logger, topic: string): Promise<TopicReader> {
  const client = await KafkaClient.make(settings, logger);
  const cluster = openCluster(client.kafka);
  try {
    await cluster.connect();
    await cluster.addMultipleTargetTopics([topic]);
  } catch (error) {
    await client.close();
    throw error;
  }
  return new KafkaTopicReader(client, cluster, settings, topic);
}

class KafkaTopicReader implements TopicReader {
  readonly #client: KafkaClient;
  readonly #cluster: Cluster;
  readonly #settings: KafkaSettings;
  readonly #topic: string;

  constructor(client: KafkaClient, cluster: Cluster, settings: KafkaSettings, topic: string) {
    this.#client = client;
    this.#cluster = cluster;
    this.#settings = settings;
    this.#topic = topic;
  }

  partitions(): number[] {
    return this.#cluster.findTopicPartitionMetadata(this.#topic).map(({ partitionId }) => partitionId);
  }

  offsets(partitions: readonly number[], which: "oldest" | "newest"): Promise<Map<number, number>> {
    return fetchOffsets(this.#cluster, this.#topic, partitions, which);
  }

  refresh(): Promise<void> {
    return this.#cluster.refreshMetadata();
  }

  leaders(): Map<string, number[]> {
    const leaders = new Map<string, number[]>();
    for (const { partitionId, leader } of this.#cluster.findTopicPartitionMetadata(this.#topic)) {
      if (leader < 0) continue;
      const led = leaders.get(String(leader));
      if (led === undefined) leaders.set(String(leader), [partitionId]);
      else led.push(partitionId);
    }
    return leaders;
  }

  async read(leader: string, positions: ReadonlyMap<number, number>): Promise<readonly ReadBatch[] | "moved" | number> {
    let answer: FetchAnswer;
    try {
      const broker: Broker = await this.#cluster.findBroker({ nodeId: leader });
      const partitions = [...positions].map(([partition, position]) => ({
        partition,
        fetchOffset: String(position),
        maxBytes: this.#settings.maxBytesPerPartition,
      }));
      answer = (await broker.fetch({
        maxWaitTime: this.#settings.maxWaitMs,
        minBytes: 1,
        maxBytes,
        isolationLevel: readCommitted,
        topics: [{ topic: this.#topic, partitions }],
      })) as FetchAnswer;
    } catch (error) {
      const { name, partition } = error as { name?: string; partition?: number };
      if (name === "KafkaJSOffsetOutOfRange" && partition !== undefined) return partition;
      if (!movedTypes.has(typeOf(error) ?? "") && name !== "KafkaJSBrokerNotFound") throw error;
      await sleep(100);
      return "moved";
    }
    return answer.responses.flatMap(({ partitions }) =>
      partitions
        .filter(({ messages }) => messages.length > 0)
        .map((fetched) => readPartition(fetched, positions.get(fetched.partition)!)),
    );
  }

  close(): Promise<void> {
    return this.#client.close();
  }
}

/** Without what transactions took back, the marks they leave, and what precedes the position in its batch. */
function readPartition(fetched: FetchedPartition, position: number): ReadBatch {
  const records: KafkaRecord[] = [];
  const aborted = (fetched.abortedTransactions ?? [])
    .map(({ producerId, firstOffset }) => ({ producerId, from: Number(firstOffset) }))
    .toSorted((a, b) => a.from - b.from);
  const dropping = new Set<string>();
  let begun = 0;
  for (const { offset: text, key, value, headers, isControlRecord, batchContext } of fetched.messages) {
    const offset = Number(text);
    for (; begun < aborted.length && aborted[begun]!.from <= offset; begun++) dropping.add(aborted[begun]!.producerId);
    if (isControlRecord === true) {
      // The end of its transaction, whichever way that went.
      if (batchContext !== undefined) dropping.delete(batchContext.producerId);
    } else if (offset >= position && !(batchContext?.inTransaction === true && dropping.has(batchContext.producerId)))
      records.push({ offset, key, value, headers });
  }
  // Of a batch whose end has been compacted away nothing says how far it went: one further always is.
  const last = Number(fetched.messages.at(-1)?.offset ?? -1);
  return { partition: fetched.partition, records, next: Math.max(last, position) + 1 };
}
