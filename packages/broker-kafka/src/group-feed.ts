/**
 * A subscription with a queue: a member of the consumer group of that name.
 *
 * What is committed is, for each partition, the lowest offset that is not settled: never past a message that failed.
 */
import { MicroError, withLimit } from "@micro/core";
import { deliver } from "./feed.ts";
import type { Feed, FeedOptions, KafkaDelivery } from "./feed.ts";
import { source } from "./errors.ts";
import { joinGroup } from "./kafka-group.ts";
import type { GroupBatch, GroupMember } from "./kafka-group.ts";
import { PartitionProgress } from "./progress.ts";
import type { Taken } from "./progress.ts";

/** Messages of a partition taken past one that is not settled; then the partition, and only it, waits. */
const maxAhead = 10_000;
/** Members give each other so long to say where a new queue's partitions begin. */
const othersWithinMs = 2_000;
const othersPollMs = 50;
const establishPauseMs = 100;
/** How long the end of a subscription waits for its last commit. */
const lastCommitMs = 5_000;

/** One sharing out of partitions. */
interface Generation {
  readonly member: GroupMember;
  readonly partitions: readonly number[];
  over: boolean;
  /** Resolves once all partitions have a position; undefined when they do. */
  located: Promise<void> | undefined;
}

export class GroupFeed implements Feed {
  readonly #options: FeedOptions;
  readonly #groupId: string;
  /** Outlives membership: a partition that comes back unchanged goes on where it was. */
  readonly #progress = new Map<number, PartitionProgress>();
  readonly #paused = new Set<number>();
  #member: GroupMember | undefined;
  #generation: Generation | undefined;
  #formerMember: string | undefined;
  /** The topic's, as far as they have been seen: one that is added later is read from its beginning. */
  #known: Set<number> | undefined;
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;
  #committing: Promise<void> | undefined;
  #up: (() => void) | undefined;

  constructor(options: FeedOptions, groupId: string) {
    this.#options = options;
    this.#groupId = groupId;
  }

  async run(signal: AbortSignal, up: () => void): Promise<void> {
    const { settings, logger, topic } = this.#options;
    this.#up = up;
    const member = await joinGroup({
      settings,
      logger,
      topic,
      groupId: this.#groupId,
      formerMember: this.#formerMember,
      signal,
      events: {
        rebalancing: () => this.#rebalancing(),
        assigned: (...given) => this.#assigned(...given),
        batch: (batch) => this.#take(batch),
      },
    });
    this.#member = member;
    const aborted = Promise.withResolvers<void>();
    const abort = (): void => aborted.resolve();
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    try {
      // One whose assignment came before it was ours to pause.
      if (this.#stopped) member.pause();
      const reason = await Promise.race([member.lost, aborted.promise]);
      if (!signal.aborted) throw reason;
    } finally {
      signal.removeEventListener("abort", abort);
      if (this.#generation !== undefined) this.#generation.over = true;
      this.#formerMember = signal.aborted ? undefined : member.memberId;
      this.#member = undefined;
      await member.leave();
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#member?.pause();
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    const { topic } = this.#options;
    await withLimit(this.#commitNow(), {
      timeoutMs: lastCommitMs,
      what: `broker kafka: committing what was handled of ${topic}`,
    });
  }

  #rebalancing(): void {
    if (this.#generation !== undefined) this.#generation.over = true;
    // Who gets a partition next begins where we say that we are.
    this.#commitNow().catch((error: unknown) => this.#debug("what was handled could not be committed", error));
  }

  #assigned(member: GroupMember, partitions: readonly number[], sameMember: boolean): void {
    if (this.#generation !== undefined) this.#generation.over = true;
    const generation: Generation = { member, partitions, over: false, located: undefined };
    this.#generation = generation;
    for (const [partition, progress] of this.#progress)
      if (!partitions.includes(partition)) this.#revoke(partition, progress);
    this.#paused.clear();
    if (!this.#stopped) member.resume(partitions);
    for (const progress of this.#progress.values()) {
      progress.sought = sameMember;
      if (sameMember) member.seek(progress.partition, progress.position);
    }
    generation.located = this.#establish(generation, sameMember);
    generation.located.then(
      () => (generation.located = undefined),
      (error: unknown) => this.#debug("the queue's positions are not known", error),
    );
  }

  /** It is somebody else's, or not what it was: what waits is not handled here, what runs is not committed. */
  #revoke(partition: number, progress: PartitionProgress): void {
    progress.revoked = true;
    this.#progress.delete(partition);
    this.#paused.delete(partition);
    this.#options.consumer.revoke((delivery) => (delivery as KafkaDelivery).progress === progress);
  }

  async #establish(generation: Generation, sameMember: boolean): Promise<void> {
    for (let tries = 0; ; tries++) {
      try {
        await this.#locate(generation, sameMember);
        break;
      } catch (error) {
        if (generation.over || tries >= 20) throw error;
        await pause(establishPauseMs);
      }
    }
    void this.#awaitOthers(generation);
  }

  /** Find out where our partitions begin, and write that down for those that nobody has begun yet. */
  async #locate(generation: Generation, sameMember: boolean): Promise<void> {
    const { member, partitions } = generation;
    const committed = await member.committed();
    const fresh = partitions.filter((partition) => !(sameMember && this.#progress.has(partition)));
    const begin = new Map<number, number>();
    const unknown = Map.groupBy(
      fresh.filter((partition) => (committed.get(partition) ?? -1) < 0),
      (partition) => this.#startOf(partition, committed.get(partition)),
    );
    for (const [which, wanted] of unknown)
      for (const [partition, offset] of await member.offsets(wanted, which)) begin.set(partition, offset);
    // Otherwise a message published now would be missed if the first to read it were another member.
    if (begin.size > 0) await member.commit(begin);
    if (generation.over) throw new Error("partitions are being shared out anew");
    this.#known = new Set([...(this.#known ?? []), ...committed.keys()]);
    for (const partition of fresh) {
      const at = begin.get(partition) ?? committed.get(partition) ?? 0;
      const former = this.#progress.get(partition);
      // Nobody has committed anything since: what we have taken is still ours.
      if (former !== undefined && former.committed <= at && at <= former.watermark) continue;
      if (former !== undefined) this.#revoke(partition, former);
      this.#progress.set(partition, new PartitionProgress(partition, at));
    }
  }

  /** -2 stands for the beginning: what the client writes when the offset it was at has gone. */
  #startOf(partition: number, committed: number | undefined): "newest" | "oldest" {
    return committed === -2 || this.#known?.has(partition) === false ? "oldest" : this.#options.start;
  }

  /** The subscription holds once the partitions of the other members have a beginning, too. */
  async #awaitOthers(generation: Generation): Promise<void> {
    const { member } = generation;
    const end = performance.now() + othersWithinMs;
    while (!generation.over && this.#up !== undefined) {
      try {
        const open = [...(await member.committed())].filter(([, offset]) => offset < 0).map(([partition]) => partition);
        if (open.length > 0 && performance.now() < end) {
          await pause(othersPollMs);
          continue;
        }
        // A client of another kind may not say before it has handled something.
        if (open.length > 0) await member.commit(await member.offsets(open, this.#options.start));
        if (generation.over) return;
        this.#up();
        this.#up = undefined;
      } catch (error) {
        this.#debug("the queue's positions are not known yet", error);
        await pause(establishPauseMs);
      }
    }
  }

  async #take(batch: GroupBatch): Promise<void> {
    const generation = this.#generation;
    if (generation === undefined) return;
    if (generation.located !== undefined) await this.#until(generation.located, batch);
    const { partition } = batch;
    if (generation.over || this.#stopped) return;
    let progress = this.#progress.get(partition);
    if (progress === undefined) return;
    if (batch.first < progress.position && !progress.sought) {
      // The client began at what is committed: what lies between has been taken already.
      progress.sought = true;
      generation.member.seek(partition, progress.position);
      return;
    }
    progress.sought = true;
    if (batch.last < progress.position && batch.first < progress.position) {
      // The topic began anew below us.
      this.#revoke(partition, progress);
      progress = new PartitionProgress(partition, batch.first);
      progress.sought = true;
      this.#progress.set(partition, progress);
    }
    for (const record of batch.records) {
      if (record.offset < progress.position) continue;
      if (this.#stopped || generation.over || progress.revoked) return;
      if (progress.ahead >= maxAhead) {
        this.#paused.add(partition);
        generation.member.pause([partition]);
        return;
      }
      const own = progress;
      const taken = own.take(record.offset);
      const room = deliver(this.#options, record, own, () => this.#settled(own, taken));
      batch.resolve(record.offset);
      if (room !== undefined) await this.#until(room, batch);
    }
    progress.passTo(batch.last + 1);
    batch.resolve(batch.last);
  }

  /** Wait, and go on saying that we are there. @throws when partitions are shared out anew. */
  async #until(promise: Promise<void>, batch: GroupBatch): Promise<void> {
    const { heartbeatIntervalMs } = this.#options.settings;
    const done = promise.then(() => true);
    for (;;) {
      let timer: NodeJS.Timeout | undefined;
      const beat = new Promise<boolean>((resolve) => {
        timer = setTimeout(() => resolve(false), heartbeatIntervalMs);
      });
      const over = await Promise.race([done, beat]).finally(() => clearTimeout(timer));
      if (over) return;
      await batch.heartbeat();
    }
  }

  #settled(progress: PartitionProgress, taken: Taken): void | Promise<void> {
    const moved = progress.settle(taken);
    if (progress.revoked) {
      if (this.#options.explicit) return Promise.reject(revokedError(this.#options.topic, progress.partition));
      return;
    }
    if (this.#paused.has(progress.partition) && progress.ahead < maxAhead / 2) {
      this.#paused.delete(progress.partition);
      this.#member?.resume([progress.partition]);
    }
    if (!moved) return;
    if (this.#options.explicit) return this.#commitNow();
    this.#commitSoon();
  }

  #commitSoon(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#commitNow().catch((error: unknown) => {
        // It stays to be done: after the next join, or with the next message.
        this.#debug("what was handled could not be committed", error);
        if (this.#member !== undefined) this.#commitSoon();
      });
    }, this.#options.settings.commitIntervalMs);
    this.#timer.unref();
  }

  /** Commit all there is now. One at a time, so that an earlier one does not come after a later one. */
  async #commitNow(): Promise<void> {
    while (this.#committing !== undefined) await this.#committing.catch(() => {});
    await (this.#committing = this.#commit().finally(() => (this.#committing = undefined)));
  }

  async #commit(): Promise<void> {
    const moved = [...this.#progress.values()].filter(({ watermark, committed }) => watermark > committed);
    if (moved.length === 0) return;
    const offsets = moved.map((progress) => ({ progress, offset: progress.watermark }));
    const member = this.#member;
    if (member === undefined)
      throw new MicroError("broker kafka: not a member of the group", { id: source, code: "unavailable" });
    await member.commit(new Map(offsets.map(({ progress, offset }) => [progress.partition, offset])));
    for (const { progress, offset } of offsets) progress.committed = Math.max(progress.committed, offset);
  }

  #debug(text: string, error: unknown): void {
    this.#options.logger.debug(`Broker [kafka] ${this.#options.topic}: ${text}`, { error });
  }
}

function revokedError(topic: string, partition: number): MicroError {
  const text = `broker kafka: partition ${partition} of ${topic} went to another member of the queue before the message was acknowledged: it gets the message, too`;
  return new MicroError(text, { id: source, code: "unavailable" });
}

function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, delayMs).unref();
  });
}
