/**
 * The Kafka client, behind an interface of our own: connections, producing, topics. `kafka-group.ts` and
 * `kafka-reader.ts` are the consuming half; no other file knows it.
 */
import { connect as connectTcp, isIP } from "node:net";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { withLimit } from "@micro/core";
import type { Logger } from "@micro/core";
import kafkajs from "kafkajs";
import type {
  Admin,
  Cluster,
  ISocketFactoryArgs,
  Kafka,
  Message,
  PartitionMetadata,
  Producer,
  SASLOptions,
} from "kafkajs";
import { MicroError } from "@micro/core";
import { source, typeOf } from "./errors.ts";
import type { KafkaSettings } from "./options.ts";
import { repairRequestQueue } from "./request-queue-fix.ts";

/** A record as it was read. */
export interface KafkaRecord {
  readonly offset: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers?: Readonly<Record<string, Buffer | string | (Buffer | string)[] | undefined>> | undefined;
}

/** A record to be written. `partition` is filled in when it is first sent, and then stays. */
export interface OutgoingRecord {
  readonly key: Buffer | string | null;
  readonly value: Buffer;
  readonly headers: Record<string, string>;
  readonly timestamp?: string;
  partition?: number;
}

/** The client retries a little by itself: what goes on for longer is ours to handle. */
const retry = { initialRetryTime: 50, maxRetryTime: 500, factor: 0.2, multiplier: 2, retries: 4 };
const connectionTimeoutMs = 3_000;
const appearPollMs = 20;
const keepAliveDelayMs = 30_000;
/** How long an orderly end may take before the sockets are closed anyhow. */
const endTimeoutMs = 2_000;

/** Connections to one cluster, of one producer, group member or reader: they end together. */
export class KafkaClient {
  readonly kafka: Kafka;
  readonly #sockets = new Set<Socket>();
  #closed = false;
  /** Told when the last connection is lost. */
  onLost: ((error: Error) => void) | undefined;

  get connections(): number {
    return this.#sockets.size;
  }

  /** Connects nothing. */
  static async make(settings: KafkaSettings, logger: Logger): Promise<KafkaClient> {
    const client = new KafkaClient(settings, logger);
    await repairRequestQueue(client.kafka, openCluster);
    return client;
  }

  private constructor(settings: KafkaSettings, logger: Logger) {
    const { sasl, tls } = settings;
    this.kafka = new kafkajs.Kafka({
      brokers: [...settings.addresses],
      clientId: settings.clientId,
      connectionTimeout: connectionTimeoutMs,
      authenticationTimeout: settings.requestTimeoutMs,
      requestTimeout: settings.requestTimeoutMs,
      retry: { ...retry, retries: Math.max(retry.retries, settings.addresses.length) },
      ssl: tls ?? false,
      ...(sasl === undefined ? {} : { sasl: { ...sasl } as SASLOptions }),
      socketFactory: (args) => this.#connect(args),
      logLevel: kafkajs.logLevel.WARN,
      // What matters comes as errors, too, and is reported by whoever it concerns.
      logCreator: () => (entry) => logger.debug(`Broker [kafka] ${entry.log.message}`, { namespace: entry.namespace }),
    });
  }

  #connect({ host, port, ssl, onConnect }: ISocketFactoryArgs): Socket {
    if (this.#closed) throw new Error("the connection was closed");
    // The type says that there always are TLS options; without TLS there are none.
    const tls = ssl as typeof ssl | false;
    const socket =
      tls === false || tls === undefined || tls === null
        ? connectTcp({ host, port }, onConnect)
        : connectTls({ host, port, ...(isIP(host) === 0 ? { servername: host } : {}), ...tls }, onConnect);
    socket.setKeepAlive(true, keepAliveDelayMs);
    socket.setNoDelay(true);
    let failure: Error | undefined;
    this.#sockets.add(socket);
    socket.once("error", (error) => (failure = error));
    socket.once("close", () => {
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0 && !this.#closed) this.onLost?.(failure ?? new Error("the connection was closed"));
    });
    return socket;
  }

  /** End: in order if that works out soon, and in any case. */
  async close(orderly?: () => Promise<unknown>): Promise<void> {
    if (orderly !== undefined)
      await withLimit(orderly(), { timeoutMs: endTimeoutMs, what: "closing" }).catch(() => {
        // The sockets are closed below: there is nobody to tell.
      });
    this.#closed = true;
    // With an error: the client notices no other sudden end, and would wait for answers for ever.
    for (const socket of this.#sockets) socket.destroy(new Error("the connection was closed"));
  }
}

/** Where topics are looked up and made. */
export interface KafkaTopics {
  /** Undefined if the topic is known to exist. @throws {MicroError} `not_found`, `forbidden`, … */
  ensure(topic: string): Promise<void> | undefined;
  /** It may have been deleted. */
  forget(topic: string): void;
}

/** A producer and what belongs to it. */
export interface KafkaLink {
  readonly topics: KafkaTopics;
  /** Resolves with the reason when the connections are lost. */
  readonly lost: Promise<unknown>;
  /** Write to one topic; resolves when `acks` are there. Retries for about a second. */
  send(topic: string, records: OutgoingRecord[]): Promise<void>;
  close(): Promise<void>;
}

/** Connect a producer. */
export async function openLink(settings: KafkaSettings, logger: Logger): Promise<KafkaLink> {
  const client = await KafkaClient.make(settings, logger);
  const lost = Promise.withResolvers<unknown>();
  const producer: Producer = client.kafka.producer({
    allowAutoTopicCreation: false,
    metadataMaxAge: settings.metadataMaxAgeMs,
    createPartitioner: () => stablePartitioner(),
  });
  try {
    await producer.connect();
  } catch (error) {
    await client.close();
    throw error;
  }
  // Not before: of several addresses the first ones may be dead.
  client.onLost = lost.resolve;
  if (client.connections === 0) lost.resolve(new Error("the connection was closed"));
  // What comes after an answer that never came may be the rest of it.
  producer.on(producer.events.REQUEST_TIMEOUT, ({ payload }) =>
    lost.resolve(new Error(`${payload.broker} did not answer ${payload.apiName} in time`)),
  );
  const ended = lost.promise.then((reason) => Promise.reject(reason as Error));
  ended.catch(() => {});
  const topics = new Topics(client.kafka, settings);
  const compression = settings.compression === "gzip" ? { compression: kafkajs.CompressionTypes.GZIP } : {};
  return {
    topics,
    lost: lost.promise,
    async send(topic, records) {
      const sent = producer.send({
        topic,
        messages: records,
        acks: settings.acks,
        timeout: settings.requestTimeoutMs,
        ...compression,
      });
      // The client would try again for a while, to no end.
      await Promise.race([sent, ended]);
    },
    close: () => client.close(() => Promise.allSettled([producer.disconnect(), topics.close()])),
  };
}

/**
 * Chooses a partition once per record: by the key as Java's client does, else the next one in turn. The client asks
 * again with every retry, and would lose records that then went to a partition whose part had been sent already.
 */
function stablePartitioner() {
  const byKey = kafkajs.Partitioners.DefaultPartitioner();
  const turns = new Map<string, number>();
  return ({
    topic,
    partitionMetadata,
    message,
  }: {
    topic: string;
    partitionMetadata: PartitionMetadata[];
    message: Message;
  }): number => {
    const { partition } = message;
    if (partition !== undefined) {
      // The client would skip it silently.
      if (!partitionMetadata.some(({ partitionId }) => partitionId === partition))
        throw new MicroError(
          `broker kafka: ${topic} has no partition ${partition}, only ${partitionMetadata.length} of them`,
          { id: source, code: "bad_request" },
        );
      return partition;
    }
    if (message.key !== null && message.key !== undefined)
      return (message.partition = byKey({ topic, partitionMetadata, message }));
    const available = partitionMetadata.filter(({ leader }) => leader >= 0);
    const choice = available.length > 0 ? available : partitionMetadata;
    if (turns.size >= 10_000) turns.clear();
    const turn = turns.get(topic) ?? Math.floor(Math.random() * choice.length);
    turns.set(topic, turn + 1);
    return (message.partition = choice[turn % choice.length]!.partitionId);
  };
}

/** A look at the cluster that the client gives to those who share partitions out; nothing is joined. */
export function openCluster(kafka: Kafka): Cluster {
  let cluster: Cluster | undefined;
  kafka.consumer({
    groupId: "unused",
    allowAutoTopicCreation: false,
    partitionAssigners: [
      (config) => {
        cluster = config.cluster;
        return kafkajs.PartitionAssigners.roundRobin(config);
      },
    ],
  });
  return cluster!;
}

/** The offsets of each partition's beginning or end. */
export async function fetchOffsets(
  cluster: Cluster,
  topic: string,
  partitions: readonly number[],
  which: "oldest" | "newest",
): Promise<Map<number, number>> {
  const wanted = partitions.map((partition) => ({ partition }));
  return offsetMap(await cluster.fetchTopicsOffset([{ topic, partitions: wanted, fromBeginning: which === "oldest" }]));
}

export function offsetMap(topics: readonly { partitions: readonly { partition: number; offset: string }[] }[]) {
  return new Map(
    topics.flatMap(({ partitions }) =>
      partitions.map(({ partition, offset }): [number, number] => [partition, Number(offset)]),
    ),
  );
}

class Topics implements KafkaTopics {
  readonly #kafka: Kafka;
  readonly #settings: KafkaSettings;
  readonly #known = new Map<string, Promise<void> | true>();
  #cluster: Promise<Cluster> | undefined;
  #admin: Promise<Admin> | undefined;

  constructor(kafka: Kafka, settings: KafkaSettings) {
    this.#kafka = kafka;
    this.#settings = settings;
  }

  ensure(topic: string): Promise<void> | undefined {
    const known = this.#known.get(topic);
    if (known !== undefined) return known === true ? undefined : known;
    if (this.#known.size >= 10_000) this.#known.clear();
    const looking = this.#ensure(topic);
    this.#known.set(topic, looking);
    looking.then(
      () => this.#known.get(topic) === looking && this.#known.set(topic, true),
      () => this.#known.get(topic) === looking && this.#known.delete(topic),
    );
    return looking;
  }

  forget(topic: string): void {
    this.#known.delete(topic);
  }

  async #ensure(topic: string): Promise<void> {
    if (await this.#exists(topic)) return;
    const { createTopics } = this.#settings;
    if (createTopics === undefined)
      throw new MicroError(`broker kafka: there is no topic ${topic}: make it, or allow \`createTopics\``, {
        id: source,
        code: "not_found",
      });
    const { partitions, replicationFactor, config } = createTopics;
    const admin = await (this.#admin ??= this.#connectAdmin());
    let made: boolean;
    try {
      // False if somebody else was quicker, who may have wanted it otherwise.
      made = await admin.createTopics({
        topics: [
          {
            topic,
            ...(partitions === undefined ? {} : { numPartitions: partitions }),
            ...(replicationFactor === undefined ? {} : { replicationFactor }),
            ...(config === undefined
              ? {}
              : { configEntries: Object.entries(config).map(([name, value]) => ({ name, value })) }),
          },
        ],
        timeout: this.#settings.requestTimeoutMs,
        waitForLeaders: false,
      });
    } catch (cause) {
      if (!/AUTHORIZATION_FAILED/.test(typeOf(cause) ?? "")) throw cause;
      const text = `broker kafka: there is no topic ${topic}, and the user may not make it: make it by hand, or allow the user to (\`Create\`)`;
      throw new MicroError(text, { id: source, code: "forbidden", cause });
    }
    await this.#appears(topic, made ? (partitions ?? 1) : 1);
  }

  /**
   * What the controller has made the brokers learn a moment later, each of its own partitions. Written to before, some
   * would refuse, and the client would send once more what the others have taken.
   */
  async #appears(topic: string, wanted: number): Promise<void> {
    const end = performance.now() + this.#settings.requestTimeoutMs;
    const cluster = openCluster(this.#kafka);
    try {
      await cluster.connect();
      for (;;) {
        try {
          await cluster.addMultipleTargetTopics([topic]);
          await cluster.refreshMetadata();
          const partitions = cluster.findTopicPartitionMetadata(topic).map(({ partitionId }) => partitionId);
          if (partitions.length >= wanted) {
            await fetchOffsets(cluster, topic, partitions, "newest");
            return;
          }
        } catch (error) {
          if (typeOf(error) === undefined || performance.now() > end) throw error;
        }
        if (performance.now() > end)
          throw new MicroError(`broker kafka: the topic ${topic} was made, but is not ready`, {
            id: source,
            code: "unavailable",
          });
        await sleep(appearPollMs);
      }
    } finally {
      await cluster.disconnect();
    }
  }

  async #exists(topic: string): Promise<boolean> {
    const cluster = await (this.#cluster ??= this.#connectCluster());
    try {
      const broker = await cluster.findControllerBroker();
      await broker.metadata([topic]);
      return true;
    } catch (error) {
      const type = typeOf(error);
      if (type === "UNKNOWN_TOPIC_OR_PARTITION") return false;
      // It is being made: sending to it waits for its leaders.
      if (type === "LEADER_NOT_AVAILABLE") return true;
      throw error;
    }
  }

  async #connectCluster(): Promise<Cluster> {
    const cluster = openCluster(this.#kafka);
    try {
      await cluster.connect();
      await cluster.refreshMetadata();
      return cluster;
    } catch (error) {
      this.#cluster = undefined;
      throw error;
    }
  }

  async #connectAdmin(): Promise<Admin> {
    const admin = this.#kafka.admin({ retry });
    try {
      await admin.connect();
      return admin;
    } catch (error) {
      this.#admin = undefined;
      throw error;
    }
  }

  async close(): Promise<void> {
    const [cluster, admin] = await Promise.allSettled([this.#cluster, this.#admin]);
    await Promise.allSettled([
      cluster.status === "fulfilled" ? cluster.value?.disconnect() : undefined,
      admin.status === "fulfilled" ? admin.value?.disconnect() : undefined,
    ]);
  }
}
