/** A subscription without a queue: reads the topic by itself, from its end on, and commits nothing. */
import { setTimeout as sleep } from "node:timers/promises";
import { deliver } from "./feed.ts";
import type { Feed, FeedOptions } from "./feed.ts";
import { openReader } from "./kafka-reader.ts";
import type { ReadBatch, TopicReader } from "./kafka-reader.ts";
import { PartitionProgress } from "./progress.ts";

const noAck = (): void => {};

export class BroadcastFeed implements Feed {
  readonly #options: FeedOptions;
  /** Outlives connections: a new one reads on where the last one was. */
  readonly #progress = new Map<number, PartitionProgress>();
  #stopped = false;
  #reader: TopicReader | undefined;

  constructor(options: FeedOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal, up: () => void): Promise<void> {
    if (!this.#stopped) await this.#read(signal, up);
    // Handlers may still run: there is nothing to do until they have ended.
    if (this.#stopped && !signal.aborted)
      await new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
  }

  async #read(signal: AbortSignal, up: () => void): Promise<void> {
    const { settings, logger, topic } = this.#options;
    const reader = await openReader(settings, logger, topic);
    this.#reader = reader;
    const end = (): void => void reader.close();
    signal.addEventListener("abort", end, { once: true });
    try {
      if (this.#stopped || signal.aborted) return;
      await this.#locate(reader, this.#progress.size === 0 ? this.#options.start : "oldest");
      up();
      while (!this.#over(signal)) await this.#round(reader, signal);
    } catch (error) {
      if (!this.#over(signal)) throw error;
    } finally {
      signal.removeEventListener("abort", end);
      await reader.close();
    }
  }

  #over(signal: AbortSignal): boolean {
    return this.#stopped || signal.aborted;
  }

  /** Find out where partitions begin that are new to us. */
  async #locate(reader: TopicReader, which: "oldest" | "newest"): Promise<void> {
    const fresh = reader.partitions().filter((partition) => !this.#progress.has(partition));
    if (fresh.length === 0) return;
    const offsets = await reader.offsets(fresh, which);
    for (const [partition, offset] of offsets)
      this.#progress.set(partition, new PartitionProgress(partition, Math.max(0, offset)));
  }

  /** Read from all leaders at once until it is time to look again who they are. */
  async #round(reader: TopicReader, signal: AbortSignal): Promise<void> {
    const round = { until: performance.now() + this.#options.settings.metadataMaxAgeMs, over: false };
    const leaders = reader.leaders();
    if (leaders.size === 0) await sleep(200);
    const outcomes = await Promise.allSettled(
      [...leaders].map(async ([leader, partitions]) => {
        try {
          while (!round.over && !this.#over(signal) && performance.now() < round.until)
            if (!(await this.#readFrom(reader, leader, partitions, signal))) break;
        } finally {
          round.over = true;
        }
      }),
    );
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    if (this.#over(signal)) return;
    await reader.refresh();
    // Nobody has read these before: from their beginning.
    await this.#locate(reader, "oldest");
  }

  /** @returns false when the leaders have to be looked up again. */
  async #readFrom(
    reader: TopicReader,
    leader: string,
    partitions: readonly number[],
    signal: AbortSignal,
  ): Promise<boolean> {
    const positions = new Map<number, number>();
    for (const partition of partitions) {
      const progress = this.#progress.get(partition);
      if (progress !== undefined) positions.set(partition, progress.position);
    }
    const answer = await reader.read(leader, positions);
    if (answer === "moved") return false;
    if (typeof answer === "number") {
      // What we had not read is gone, or the topic began anew: go on with the first there is.
      const oldest = (await reader.offsets([answer], "oldest")).get(answer) ?? 0;
      this.#progress.set(answer, new PartitionProgress(answer, Math.max(0, oldest)));
      return true;
    }
    for (const batch of answer) {
      if (this.#over(signal)) return false;
      await this.#take(batch);
    }
    return true;
  }

  async #take({ partition, records, next }: ReadBatch): Promise<void> {
    const progress = this.#progress.get(partition)!;
    for (const record of records) {
      if (this.#stopped) return;
      progress.passTo(record.offset + 1);
      const room = deliver(this.#options, record, progress, noAck);
      if (room !== undefined) await room;
    }
    progress.passTo(next);
  }

  stop(): void {
    this.#stopped = true;
    void this.#reader?.close();
  }

  async close(): Promise<void> {}
}
