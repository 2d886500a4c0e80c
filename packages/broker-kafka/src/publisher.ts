/**
 * Publishes of the same turn to the same topic go out together, and the next ones once those have been answered: that
 * is quick, and keeps them in order whatever has to be repeated.
 */
import { MicroError, RefusalLog, limitTimer } from "@micro/core";
import type { Logger } from "@micro/core";
import { closedError, fromKafka, source, typeOf } from "./errors.ts";
import type { KafkaLink, OutgoingRecord } from "./kafka-client.ts";
import { overloaded } from "./link.ts";
import type { Link } from "./link.ts";

/** One publish that is on its way. */
interface Pending {
  readonly record: OutgoingRecord;
  readonly bytes: number;
  settled: boolean;
  settle(error?: unknown): void;
}

interface TopicQueue {
  readonly topic: string;
  waiting: Pending[];
  sending: boolean;
  /** In a row, with the topic said not to exist. */
  missing: number;
}

/** Brokers take 1048588 bytes at once by default, with some 70 for each record and the envelope around all of them. */
const maxBatchBytes = 900_000;
const maxBatchRecords = 10_000;
const recordOverhead = 70;
/** Before what brokers would not take is sent again; the client has tried for about a second then. */
const refusedPauseMs = 250;
const missingPauseMs = 100;
/** On their way at once, over all topics. */
const maxPending = 100_000;
const maxPendingBytes = 256 * 1024 * 1024;

/** See the head of this file. */
export class Publisher {
  readonly #link: Link;
  readonly #refusals: RefusalLog;
  readonly #onIdle: () => void;
  readonly #queues = new Map<string, TopicQueue>();
  readonly #dirty = new Set<TopicQueue>();
  #scheduled = false;
  #pending = 0;
  #bytes = 0;
  #idle: PromiseWithResolvers<void> | undefined;

  /** @param onIdle told when nothing is on its way any more. */
  constructor(link: Link, logger: Logger, onIdle: () => void) {
    this.#link = link;
    this.#refusals = new RefusalLog(logger);
    this.#onIdle = onIdle;
  }

  get isIdle(): boolean {
    return this.#pending === 0;
  }

  /** Resolves once the record is written. @throws `timeout`, `aborted`, `unavailable`, and what Kafka says of the record. */
  publish(
    topic: string,
    record: OutgoingRecord,
    timeoutMs: number,
    signal: AbortSignal | undefined,
    what: string,
  ): Promise<void> {
    const bytes = sizeOf(record);
    if (this.#pending >= maxPending || (this.#pending > 0 && this.#bytes + bytes > maxPendingBytes))
      return Promise.reject(overloaded(topic, this.#pending));
    return new Promise((resolve, reject) => {
      const abort = (): void => pending.settle(aborted(signal!));
      const late = (blocked: boolean): void =>
        pending.settle(
          new MicroError(
            `${what}: Kafka did not confirm the message within ${Math.ceil(timeoutMs)} ms${blocked ? ", and this process was busy" : ""}`,
            {
              id: source,
              code: "timeout",
            },
          ),
        );
      const pending: Pending = {
        record,
        bytes,
        settled: false,
        settle: (error) => {
          if (pending.settled) return;
          pending.settled = true;
          timer.clear();
          signal?.removeEventListener("abort", abort);
          this.#pending--;
          this.#bytes -= bytes;
          if (error === undefined) resolve();
          else reject(error);
          if (this.#pending > 0) return;
          this.#idle?.resolve();
          this.#onIdle();
        },
      };
      const timer = limitTimer(timeoutMs, late);
      signal?.addEventListener("abort", abort, { once: true });
      this.#pending++;
      this.#bytes += bytes;
      const queue = this.#queue(topic);
      queue.waiting.push(pending);
      this.#schedule(queue);
    });
  }

  /** Resolves once nothing is on its way. */
  idle(): Promise<void> {
    if (this.#pending === 0) return Promise.resolve();
    return (this.#idle ??= Promise.withResolvers()).promise;
  }

  /** There is a connection: send what waited. */
  resume(): void {
    for (const queue of this.#queues.values()) this.#schedule(queue);
  }

  /** Everything that is on its way fails. */
  end(): void {
    for (const queue of this.#queues.values()) {
      for (const pending of queue.waiting) pending.settle(closedError());
      queue.waiting = [];
    }
  }

  #queue(topic: string): TopicQueue {
    let queue = this.#queues.get(topic);
    if (queue === undefined) {
      queue = { topic, waiting: [], sending: false, missing: 0 };
      this.#queues.set(topic, queue);
    }
    return queue;
  }

  #schedule(queue: TopicQueue): void {
    if (queue.sending) return;
    this.#dirty.add(queue);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      const dirty = [...this.#dirty];
      this.#dirty.clear();
      for (const each of dirty) void this.#drain(each);
    });
  }

  /** Never rejects: each publish learns of its own fate. */
  async #drain(queue: TopicQueue): Promise<void> {
    if (queue.sending) return;
    // `resume()` comes when there is one.
    const link = this.#link.current;
    if (link === undefined) return;
    queue.sending = true;
    const batch = takeBatch(queue);
    if (batch.length > 0) await this.#send(link, queue, batch);
    queue.sending = false;
    if (queue.waiting.length === 0) this.#queues.delete(queue.topic);
    // In another turn: those who waited for this batch may have more, which should not miss the next one.
    else this.#schedule(queue);
  }

  async #send(link: KafkaLink, queue: TopicQueue, batch: readonly Pending[]): Promise<void> {
    const { topic } = queue;
    try {
      const looking = link.topics.ensure(topic);
      if (looking !== undefined) await looking;
      await link.send(
        topic,
        batch.map(({ record }) => record),
      );
      queue.missing = 0;
      if (this.#refusals.any) this.#refusals.allowed(topic);
      for (const pending of batch) pending.settle();
    } catch (error) {
      await this.#failed(link, queue, batch, error);
    }
  }

  async #failed(link: KafkaLink, queue: TopicQueue, batch: readonly Pending[], error: unknown): Promise<void> {
    const { topic } = queue;
    const failure = fromKafka(error, `publishing to ${topic}`);
    if (failure.code === "forbidden") this.#refusals.refused(topic, failure);
    if (typeOf(error) === "UNKNOWN_TOPIC_OR_PARTITION") {
      // Deleted, or so new that not every broker knows of it.
      this.#again(queue, batch);
      link.topics.forget(topic);
      // The client goes on asking for topics that have gone, and then knows of no others either.
      if (++queue.missing % 3 === 0) this.#link.lose(link, failure);
      else await pause(missingPauseMs);
    } else if (failure.code === "unavailable") {
      this.#again(queue, batch);
      // Where brokers answer, another connection would not help: too few replicas, a leader that is being chosen.
      if (typeOf(error) === undefined) this.#link.lose(link, failure);
      else await pause(refusedPauseMs);
    } else if (batch.length > 1) {
      // One of them is the cause: the others are to go.
      for (const pending of batch) if (!pending.settled) await this.#send(link, queue, [pending]);
    } else for (const pending of batch) pending.settle(failure);
  }

  /** They stay the first ones. */
  #again(queue: TopicQueue, batch: readonly Pending[]): void {
    queue.waiting.unshift(...batch.filter(({ settled }) => !settled));
  }
}

function takeBatch(queue: TopicQueue): Pending[] {
  const batch: Pending[] = [];
  let bytes = 0;
  let taken = 0;
  for (const pending of queue.waiting) {
    if (!pending.settled) {
      if (batch.length > 0 && (bytes + pending.bytes > maxBatchBytes || batch.length >= maxBatchRecords)) break;
      batch.push(pending);
      bytes += pending.bytes;
    }
    taken++;
  }
  if (taken === queue.waiting.length) queue.waiting = [];
  else queue.waiting.splice(0, taken);
  return batch;
}

function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, delayMs);
  });
}

function sizeOf({ key, value, headers }: OutgoingRecord): number {
  let bytes = recordOverhead + value.length + (key?.length ?? 0);
  for (const name of Object.keys(headers)) bytes += name.length + headers[name]!.length * 3 + 4;
  return bytes;
}

/** The error of a publish whose signal has aborted. */
export function aborted(signal: AbortSignal): MicroError {
  const cause: unknown = signal.reason;
  if (MicroError.is(cause)) return cause;
  return new MicroError("broker kafka: the publish was cancelled", { id: source, code: "aborted", cause });
}
