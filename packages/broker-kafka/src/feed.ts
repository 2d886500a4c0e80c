/** What the two ways of subscribing share: records become deliveries, one by one, as long as there is room. */
import { errors } from "@micro/core";
import type { Consumer, Delivery, Logger } from "@micro/core";
import type { KafkaRecord } from "./kafka-client.ts";
import type { KafkaSettings } from "./options.ts";
import type { PartitionProgress } from "./progress.ts";
import { rawMessage, readRecord } from "./records.ts";

/** What a feed is made with. */
export interface FeedOptions {
  readonly settings: KafkaSettings;
  readonly logger: Logger;
  readonly topic: string;
  readonly consumer: Consumer;
  /** Where to begin if nothing says where we were. */
  readonly start: "newest" | "oldest";
  /** The handler acknowledges by itself and may wait for the word that it is done. */
  readonly explicit: boolean;
}

/** Gets messages from Kafka, and is made again true by {@link Feed.run} after every failure. */
export interface Feed {
  /** Feed the consumer until that fails or the signal aborts. `up`: every message published from now on will come. */
  run(signal: AbortSignal, up: () => void): Promise<void>;
  /** Take nothing more. */
  stop(): void;
  /** All is settled that will be: say so, and leave. */
  close(): Promise<void>;
}

/** A delivery that knows its partition. */
export interface KafkaDelivery extends Delivery {
  readonly progress: PartitionProgress;
}

/** Nothing has to be done: what is not committed comes again. */
const giveBack = (): void => {};

/** Hand a record to the consumer. @returns undefined while there is room for more; otherwise what resolves once there is. */
export function deliver(
  { consumer, topic }: FeedOptions,
  record: KafkaRecord,
  progress: PartitionProgress,
  ack: () => void | Promise<void>,
): Promise<void> | undefined {
  try {
    const delivery: KafkaDelivery = { topic, message: readRecord(topic, record), progress, ack, giveBack };
    return consumer.deliver(delivery);
  } catch (error) {
    const delivery: KafkaDelivery = { topic, message: rawMessage(topic, record), progress, ack, giveBack };
    consumer.unreadable(errors.fromError(error), delivery);
    return consumer.room();
  }
}
