/** A member of a consumer group, by the Kafka client: what `kafka-client.ts` is for producing. */
import type { Broker, Cluster, Consumer, EachBatchPayload } from "kafkajs";
import type { Logger } from "@micro/core";
import { KafkaClient, fetchOffsets, offsetMap } from "./kafka-client.ts";
import type { KafkaRecord } from "./kafka-client.ts";
import type { KafkaSettings } from "./options.ts";
import { rangeAssigner } from "./range-assigner.ts";

/** Records of one partition, in order. */
export interface GroupBatch {
  readonly partition: number;
  /** Where what was read begins; the first record may lie behind it. */
  readonly first: number;
  /** The last offset read, which may lie behind the last record. */
  readonly last: number;
  readonly records: Iterable<KafkaRecord>;
  /** Say that we are there; to be called at least every `heartbeatIntervalMs`. @throws when partitions are shared out anew. */
  heartbeat(): Promise<void>;
  /** Read on behind this offset next time. */
  resolve(offset: number): void;
}

/** What a member is told. */
export interface GroupEvents {
  /** Partitions are being shared out anew. What is committed now still counts. */
  rebalancing(): void;
  /** These partitions are ours from now on. `sameMember`: and those that stayed were nobody else's in between. */
  assigned(member: GroupMember, partitions: readonly number[], sameMember: boolean): void;
  /** The next records; nothing more comes until it resolves. */
  batch(batch: GroupBatch): Promise<void>;
}

export interface GroupMember {
  /** Resolves with the reason when it is no member any more. */
  readonly lost: Promise<unknown>;
  readonly memberId: string | undefined;
  /** What is committed for each partition of the topic; below 0: nothing (-1), or the beginning (-2). */
  committed(): Promise<Map<number, number>>;
  /** The offsets of each partition's beginning or end. */
  offsets(partitions: readonly number[], which: "oldest" | "newest"): Promise<Map<number, number>>;
  /** @throws if that is not known to be done. */
  commit(offsets: ReadonlyMap<number, number>): Promise<void>;
  /** Read on here. */
  seek(partition: number, offset: number): void;
  pause(partitions?: readonly number[]): void;
  resume(partitions: readonly number[]): void;
  leave(): Promise<void>;
}

export interface JoinOptions {
  readonly settings: KafkaSettings;
  readonly logger: Logger;
  readonly groupId: string;
  readonly topic: string;
  /** A member we were and no longer can be: the group need not wait until it has not been heard of for long enough. */
  readonly formerMember: string | undefined;
  readonly events: GroupEvents;
  /** Gives up. */
  readonly signal: AbortSignal;
}

/** Batches of several partitions may wait for room at once. */
const partitionsAtOnce = 16;

/** Join. Resolves once the group has taken us; partitions are told of by `events.assigned`. */
export async function joinGroup(options: JoinOptions): Promise<GroupMember> {
  const client = await KafkaClient.make(options.settings, options.logger);
  const member = new KafkaGroupMember(client, options);
  const { signal } = options;
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(signal.reason as Error);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  const joining = member.join();
  try {
    await Promise.race([joining, aborted.promise]);
    return member;
  } catch (error) {
    // Who is on the way in should leave in order, or the group waits for it.
    await client.close(async () => {
      await joining.catch(() => {});
      await member.leave();
    });
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

class KafkaGroupMember implements GroupMember {
  readonly #client: KafkaClient;
  readonly #options: JoinOptions;
  readonly #consumer: Consumer;
  readonly #lost = Promise.withResolvers<unknown>();
  #cluster!: Cluster;
  memberId: string | undefined;
  #committed = false;

  constructor(client: KafkaClient, options: JoinOptions) {
    this.#client = client;
    this.#options = options;
    const { settings, groupId, topic, events } = options;
    this.#consumer = client.kafka.consumer({
      groupId,
      partitionAssigners: [rangeAssigner((cluster) => (this.#cluster = cluster))],
      sessionTimeout: settings.sessionTimeoutMs,
      rebalanceTimeout: settings.sessionTimeoutMs,
      heartbeatInterval: settings.heartbeatIntervalMs,
      maxWaitTimeInMs: settings.maxWaitMs,
      maxBytesPerPartition: settings.maxBytesPerPartition,
      metadataMaxAge: settings.metadataMaxAgeMs,
      allowAutoTopicCreation: false,
      // Restarts are ours.
      retry: { retries: 10, restartOnFailure: () => Promise.resolve(false) },
    });
    const { CRASH, GROUP_JOIN, REBALANCING, COMMIT_OFFSETS, REQUEST_TIMEOUT } = this.#consumer.events;
    this.#consumer.on(CRASH, ({ payload }) => this.#lost.resolve(payload.error));
    // What comes after an answer that never came may be the rest of it.
    this.#consumer.on(REQUEST_TIMEOUT, ({ payload }) =>
      this.#lost.resolve(new Error(`${payload.broker} did not answer ${payload.apiName} in time`)),
    );
    this.#consumer.on(COMMIT_OFFSETS, () => (this.#committed = true));
    this.#consumer.on(REBALANCING, () => events.rebalancing());
    this.#consumer.on(GROUP_JOIN, ({ payload }) => {
      const sameMember = payload.memberId === this.memberId;
      this.memberId = payload.memberId;
      events.assigned(this, payload.memberAssignment[topic] ?? [], sameMember);
    });
  }

  get lost(): Promise<unknown> {
    return this.#lost.promise;
  }

  async join(): Promise<void> {
    const { topic, groupId, formerMember, events } = this.#options;
    await this.#consumer.connect();
    if (formerMember !== undefined) await this.#leaveAs(groupId, formerMember);
    // Partitions that nobody has read yet, and those that lost what we had not read, begin at their beginning.
    await this.#consumer.subscribe({ topics: [topic], fromBeginning: true });
    const running = this.#consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: partitionsAtOnce,
      eachBatch: (payload) => events.batch(groupBatch(payload)),
    });
    running.catch(() => {});
    // A crash while joining is told by the event alone.
    const lost = this.#lost.promise.then((error: unknown) => Promise.reject(error as Error));
    await Promise.race([running, lost]);
    lost.catch(() => {});
    // The two may come together.
    if (this.memberId === undefined) throw await this.#lost.promise;
    // The client would only say so when it has tried for long enough, and taken its leave of nobody.
    this.#client.onLost = this.#lost.resolve;
    if (this.#client.connections === 0) this.#lost.resolve(new Error("the connection was closed"));
  }

  /** The client has no word for this; where it fails the group waits for `sessionTimeoutMs`. */
  async #leaveAs(groupId: string, memberId: string): Promise<void> {
    try {
      const coordinator = await this.#cluster.findGroupCoordinator({ groupId });
      await (
        coordinator as Broker & { leaveGroup(request: { groupId: string; memberId: string }): Promise<unknown> }
      ).leaveGroup({ groupId, memberId });
    } catch (error) {
      this.#options.logger.debug("Broker [kafka] the former member of the group could not leave it", { error });
    }
  }

  #partitions(): number[] {
    return this.#cluster.findTopicPartitionMetadata(this.#options.topic).map(({ partitionId }) => partitionId);
  }

  async committed(): Promise<Map<number, number>> {
    const { groupId, topic } = this.#options;
    const coordinator = await this.#cluster.findGroupCoordinator({ groupId });
    const partitions = this.#partitions().map((partition) => ({ partition, offset: "-1" }));
    const { responses } = await coordinator.offsetFetch({ groupId, topics: [{ topic, partitions }] });
    return offsetMap(responses);
  }

  async offsets(partitions: readonly number[], which: "oldest" | "newest"): Promise<Map<number, number>> {
    return fetchOffsets(this.#cluster, this.#options.topic, partitions, which);
  }

  async commit(offsets: ReadonlyMap<number, number>): Promise<void> {
    const { topic } = this.#options;
    this.#committed = false;
    await this.#consumer.commitOffsets(
      [...offsets].map(([partition, offset]) => ({ topic, partition, offset: String(offset) })),
    );
    // Once it has stopped the client does nothing, and says nothing.
    if (!this.#committed) throw new Error("the consumer has stopped");
  }

  seek(partition: number, offset: number): void {
    this.#consumer.seek({ topic: this.#options.topic, partition, offset: String(offset) });
  }

  pause(partitions?: readonly number[]): void {
    const { topic } = this.#options;
    this.#consumer.pause([partitions === undefined ? { topic } : { topic, partitions: [...partitions] }]);
  }

  resume(partitions: readonly number[]): void {
    this.#consumer.resume([{ topic: this.#options.topic, partitions: [...partitions] }]);
  }

  leave(): Promise<void> {
    return this.#client.close(() => this.#consumer.disconnect());
  }
}

function groupBatch(payload: EachBatchPayload): GroupBatch {
  const { batch } = payload;
  const { partition, messages } = batch;
  return {
    partition,
    first: Number(batch.firstOffset() ?? messages[0]?.offset ?? 0),
    last: Number(batch.lastOffset()),
    records: read(messages),
    heartbeat: () => payload.heartbeat(),
    resolve: (offset) => payload.resolveOffset(String(offset)),
  };
}

/** One at a time: most of a batch may have to be read again later. */
function* read(messages: EachBatchPayload["batch"]["messages"]): IterableIterator<KafkaRecord> {
  for (const { offset, key, value, headers } of messages) yield { offset: Number(offset), key, value, headers };
}
