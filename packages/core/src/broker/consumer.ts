/**
 * What every broker does with the messages of one subscription: run the handler in order and within bounds, retry
 * what failed, hand what failed for good to the dead letter topic, acknowledge, drain.
 *
 * A plugin feeds {@link Consumer.deliver} and tells its backend what the {@link Delivery} is told.
 */
import { AsyncResource } from "node:async_hooks";
import { Metadata } from "../metadata.ts";
import { Cancellation, detach } from "../context.ts";
import { MicroError, fromError } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import { thrownText } from "../thrown.ts";
import type { Backoff } from "../client/client.ts";
import { type Work, frames } from "../work.ts";
import { checkSubscribeOptions, type FurtherOptions } from "./option-names.ts";
import { processTaken, type TakenBytes } from "./taken-bytes.ts";
import type {
  BrokerEvent,
  BrokerHandler,
  BrokerMessage,
  EventFate,
  OutgoingBrokerMessage,
  SubscribeOptions,
  SubscriberStats,
} from "./broker.ts";

/** One message as the backend gave it. */
export interface Delivery {
  readonly topic: string;
  readonly message: BrokerMessage;
  /** The message is settled: the backend may forget it. A rejection is reported; the backend will deliver it again. */
  ack(): void | Promise<void>;
  /**
   * The message was not handled and will not be here: the backend may give it to somebody else. Left out by backends
   * that cannot take one back. A failure is reported.
   */
  giveBack?(): void | Promise<void>;
  /** The message is given up: its handler failed for good, and there is no dead letter topic. Default: as `ack()`. */
  drop?(): void | Promise<void>;
}

/** Settings of {@link Consumer}. */
export interface ConsumerOptions {
  /** The broker's name, for errors; also the key of the options that only it has. */
  readonly broker: string;
  /** The broker itself: a handler that disconnects it is not waited for by itself (`unlessInside`). */
  readonly owner?: object | undefined;
  readonly topic: string;
  readonly handler: BrokerHandler;
  readonly options: SubscribeOptions;
  /** For failures, where the subscription's options have none. */
  readonly logger: Logger;
  /**
   * What becomes of a message whose handler failed for good when there is no dead letter topic: `drop` it
   * (at-most-once), or `retry` it until it succeeds (at-least-once). Errors that would repeat (`bad_request`, `codec`)
   * are dropped in either case.
   */
  readonly lastResort: "drop" | "retry";
  /** Bytes of all subscriptions together. Default: the process's. */
  readonly taken?: TakenBytes | undefined;
  /** Publishes to the dead letter topic; resolves once the backend has it. */
  readonly publish: (topic: string, message: OutgoingBrokerMessage) => Promise<void>;
}

const mebibyte = 1024 * 1024;
const defaults = {
  concurrency: 1,
  prefetch: 64,
  prefetchBytes: 64 * mebibyte,
  maxMessageBytes: 4 * mebibyte,
  retries: 3,
};
const drainTimeoutMs = 30_000;
const longestDelayMs = 30_000;

/** 100 ms doubling up to 30 s, less a random part of up to a half. */
export const redeliveryBackoff: Backoff = (attempt) =>
  Math.min(100 * 2 ** Math.min(attempt, 20), longestDelayMs) * (1 - Math.random() / 2);

/**
 * {@link Consumer} and `Subscription` do it themselves. A broker that checks more does so between this and making one: who is
 * refused leaves nothing behind.
 * @param further options that are taken beside those of every broker, e.g. `{ kafka: true }`.
 * @throws {TypeError} saying which option makes no sense.
 */
export function checkSubscription(
  topic: string,
  handler: BrokerHandler,
  options: SubscribeOptions,
  further: FurtherOptions,
): void {
  if (typeof topic !== "string" || topic === "")
    throw new TypeError("subscribe: the topic must be a text that is not empty");
  if (typeof handler !== "function")
    throw new TypeError(`subscribe: the handler of ${JSON.stringify(topic)} must be a function`);
  checkSubscribeOptions(options, further);
  const {
    queue,
    deadLetter,
    concurrency = 1,
    prefetch = Math.max(defaults.prefetch, concurrency),
    retries = 0,
  } = options;
  for (const [name, value] of [
    ["queue", queue],
    ["deadLetter", deadLetter],
  ] as const)
    if (value !== undefined && (typeof value !== "string" || value === ""))
      throw new TypeError(`subscribe: \`${name}\` must be a text that is not empty`);
  if (deadLetter === topic)
    throw new TypeError("subscribe: `deadLetter` must be another topic than the one subscribed");
  if (!Number.isInteger(concurrency) || concurrency < 1)
    throw new TypeError("subscribe: `concurrency` must be a whole number, 1 or more");
  if (!Number.isInteger(prefetch) || prefetch < concurrency)
    throw new TypeError("subscribe: `prefetch` must be a whole number, `concurrency` or more");
  for (const name of ["prefetchBytes", "maxMessageBytes"] as const) {
    const value = options[name];
    if (value !== undefined && !(typeof value === "number" && value >= 1))
      throw new TypeError(`subscribe: \`${name}\` must be a number of bytes, 1 or more`);
  }
  if (!(typeof retries === "number" && retries >= 0))
    throw new TypeError("subscribe: `retries` must be a number, 0 or more");
}

/** True for errors that the same message would cause again. */
function isPermanent(error: MicroError): boolean {
  return error.code === "bad_request" || error.code === "codec" || error.code === "too_large";
}

type Phase = "waiting" | "running" | "unsettled" | "retrying" | "settled";

class ConsumedEvent implements BrokerEvent, Work {
  readonly delivery: Delivery;
  readonly bytes: number;
  readonly #consumer: Consumer;
  attempt = 1;
  phase: Phase = "waiting";
  /** True while it takes one of the places for running handlers: also between attempts, which keeps the order. */
  holdsPlace = false;
  /** Counts handler runs: what an earlier run still does is not the outcome of the present one. */
  runs = 0;
  inHandler = false;
  acknowledged: Promise<void> | undefined;

  constructor(consumer: Consumer, delivery: Delivery) {
    this.#consumer = consumer;
    this.delivery = delivery;
    this.bytes = delivery.message.body.byteLength;
  }
  get topic(): string {
    return this.delivery.topic;
  }
  get message(): BrokerMessage {
    return this.delivery.message;
  }
  get signal(): AbortSignal {
    return this.#consumer.cancellation.signal;
  }
  get running(): boolean {
    return this.phase !== "settled";
  }
  isOf(owner: object): boolean {
    return this.#consumer.isOf(owner);
  }
  ack(): Promise<void> {
    return this.#consumer.acknowledge(this);
  }
  nack(error?: unknown): void {
    this.#consumer.reject(this, error ?? new MicroError("the handler refused the message", { code: "internal" }));
  }
}

/** See the head of this file. */
export class Consumer implements Work {
  readonly #options: ConsumerOptions;
  readonly #autoAck: boolean;
  readonly #concurrency: number;
  readonly #prefetch: number;
  readonly #prefetchBytes: number;
  readonly #maxMessageBytes: number;
  readonly #taken: TakenBytes;
  /** Of bodies taken and not settled. */
  #bytes = 0;
  readonly #retries: number;
  readonly #backoff: Backoff;
  /** Shared by all events: aborts when draining takes too long. @internal */
  readonly cancellation = new Cancellation();
  readonly #unsettled = new Set<ConsumedEvent>();
  #waiting: ConsumedEvent[] = [];
  #firstWaiting = 0;
  #running = 0;
  #starting = false;
  #received = 0;
  #handled = 0;
  #failed = 0;
  #deadLettered = 0;
  #dropped = 0;
  #ended = false;
  #room: PromiseWithResolvers<void> | undefined;
  #idle: PromiseWithResolvers<void> | undefined;
  #draining: Promise<boolean> | undefined;
  readonly #pauses = new Map<ConsumedEvent, () => void>();
  /**
   * Handlers run in what surrounded the subscription, whoever's socket, timer or publish brings the message: it is nobody's
   * nested call, even if it was published in this process.
   */
  readonly #surroundings = frames.run(
    { work: this },
    () => new AsyncResource("MicroSubscription", { requireManualDestroy: true }),
  );

  /** @throws {TypeError} as {@link checkSubscription}. */
  constructor(options: ConsumerOptions) {
    checkSubscription(options.topic, options.handler, options.options, { [options.broker]: true });
    this.#options = options;
    const { autoAck = true, concurrency = defaults.concurrency, prefetch, retries, backoff } = options.options;
    this.#autoAck = autoAck;
    this.#concurrency = concurrency;
    this.#prefetch = prefetch ?? Math.max(defaults.prefetch, concurrency);
    const { prefetchBytes = defaults.prefetchBytes, maxMessageBytes = defaults.maxMessageBytes } = options.options;
    this.#prefetchBytes = prefetchBytes;
    this.#maxMessageBytes = maxMessageBytes;
    this.#taken = options.taken ?? processTaken;
    this.#retries = retries ?? defaults.retries;
    this.#backoff = backoff ?? redeliveryBackoff;
  }

  get stats(): SubscriberStats {
    return {
      received: this.#received,
      handled: this.#handled,
      failed: this.#failed,
      deadLettered: this.#deadLettered,
      dropped: this.#dropped,
      inFlight: this.#unsettled.size,
    };
  }

  /** Messages taken and not settled. */
  get inFlight(): number {
    return this.#unsettled.size;
  }

  /** Messages the backend may send before any is settled. */
  get prefetch(): number {
    return this.#prefetch;
  }

  /** Bytes of bodies the backend may send before any is settled, beside one message that is taken whatever its size. */
  get roomBytes(): number {
    return Math.max(0, this.#prefetchBytes - this.#bytes);
  }

  /**
   * True while an event is not settled, whichever: telling them apart would cost more than most handlers do. Code that one
   * handler has left behind is taken for part of another one that runs. @internal
   */
  get running(): boolean {
    return this.#unsettled.size > 0;
  }
  /** @internal */
  isOf(owner: object): boolean {
    return owner === this || owner === this.#options.owner;
  }

  /** No further message is taken. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Take a message. It never fails.
   * @returns undefined while there is room for another one; otherwise what resolves once there is, or at the end. A
   * backend that cannot be held back may go on delivering: it has to bound that itself.
   */
  deliver(delivery: Delivery): Promise<void> | undefined {
    const event = new ConsumedEvent(this, delivery);
    if (this.#ended) {
      this.#giveBack(event);
      return undefined;
    }
    if (event.bytes > this.#maxMessageBytes) {
      this.unreadable(tooLarge(this.#options, event.bytes, this.#maxMessageBytes), delivery);
      return this.room();
    }
    this.#received++;
    this.#take(event);
    this.#waiting.push(event);
    this.#startWaiting();
    return this.room();
  }

  /** Undefined while there is room for another message; otherwise what resolves once there is, or at the end. */
  room(): Promise<void> | undefined {
    if (this.#ended || this.#hasRoom()) return undefined;
    if (this.#taken.isFull) this.#taken.wait(this);
    return (this.#room ??= Promise.withResolvers()).promise;
  }

  #hasRoom(): boolean {
    const { size } = this.#unsettled;
    if (size === 0) return true;
    return size < this.#prefetch && this.#bytes < this.#prefetchBytes && !this.#taken.isFull;
  }

  #take(event: ConsumedEvent): void {
    this.#unsettled.add(event);
    this.#bytes += event.bytes;
    this.#taken.change(event.bytes);
  }

  /** Others have settled what they had taken. @internal */
  roomAgain(): void {
    if (this.#room === undefined || !this.#hasRoom()) return;
    this.#room.resolve();
    this.#room = undefined;
  }

  /**
   * Forget messages that no handler runs for and that the backend has taken back, with a connection or an assignment that
   * was lost: it will deliver them again, here or elsewhere. What runs is finished; acknowledging it is up to the {@link Delivery}.
   */
  revoke(isGone: (delivery: Delivery) => boolean): void {
    const gone = [...this.#unsettled].filter(
      ({ phase, delivery }) => (phase === "waiting" || phase === "retrying") && isGone(delivery),
    );
    const wakes = gone.map((event) => this.#pauses.get(event));
    // All of them first: forgetting one between attempts leaves a place that another one would take.
    for (const event of gone) event.phase = "settled";
    for (const event of gone) this.#forget(event);
    // There is nothing left to wait for.
    for (const wake of wakes) wake?.();
  }

  /** Report and count a message that cannot even be read; `event` shows what is known of it. */
  unreadable(error: MicroError, delivery: Delivery): void {
    this.#received++;
    const event = new ConsumedEvent(this, delivery);
    this.#take(event);
    event.phase = "running";
    this.reject(event, error);
  }

  /** Report a failure: of the backend, or of an attempt at handling `event`, of which `fate` tells what comes of it. */
  report(error: unknown, event?: BrokerEvent, fate?: EventFate): void {
    const { broker, topic, options } = this.#options;
    const logger = options.logger ?? this.#options.logger;
    if (options.onError === undefined) {
      const text = `Broker [${broker}] ${topic}: ${thrownText(error)}`;
      if (event === undefined || fate === undefined) logger.error(text, { error });
      else logger.error(`${text} (${this.#fateText(event, fate)})`, { error, attempt: event.attempt });
      return;
    }
    try {
      options.onError(fromError(error), event, fate);
    } catch (thrown) {
      logger.error(`Broker [${broker}] ${topic}: the error handler failed`, { error: thrown });
    }
  }

  /** Count messages the backend lost because this subscriber was too slow, and report them. */
  lost(count: number, error: MicroError): void {
    this.#dropped += count;
    this.report(error);
  }

  /**
   * End: take nothing more, finish what runs; give back what waits, or finish it, too, where the backend cannot take
   * it back. What runs after `timeoutMs` (default: 30000) is cancelled.
   * @returns false if something was cancelled.
   */
  drain(timeoutMs = drainTimeoutMs): Promise<boolean> {
    return (this.#draining ??= this.#drain(timeoutMs));
  }

  async #drain(timeoutMs: number): Promise<boolean> {
    this.#ended = true;
    this.#taken.forget(this);
    this.#room?.resolve();
    for (const event of this.#unsettled) {
      if (event.phase === "waiting" && this.#isRedelivered(event)) this.#giveBack(event);
      // Waiting for its next attempt: it goes back, or has that attempt now.
      else if (event.phase === "retrying") this.#pauses.get(event)?.();
    }
    this.#startWaiting();
    if (this.#unsettled.size === 0) return true;
    this.#idle = Promise.withResolvers();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), Math.min(timeoutMs, 0x7fff_ffff));
    });
    const finished = await Promise.race([this.#idle.promise.then(() => true), late]);
    clearTimeout(timer);
    if (finished) return true;
    this.cancellation.cancel(new MicroError("the subscription has ended", { id: this.#id, code: "closed" }));
    for (const event of this.#unsettled) this.#giveBack(event);
    return false;
  }

  /** True if a message that is not settled here will be delivered again. */
  #isRedelivered(event: ConsumedEvent): boolean {
    return event.delivery.giveBack !== undefined || this.#options.lastResort === "retry";
  }

  get #id(): string {
    return `go.micro.broker.${this.#options.broker}`;
  }

  /** Start waiting messages while there are free places. Handlers that end at once do not recurse into here. */
  #startWaiting(): void {
    if (this.#starting) return;
    this.#starting = true;
    while (this.#running < this.#concurrency && this.#firstWaiting < this.#waiting.length) {
      const event = this.#waiting[this.#firstWaiting]!;
      this.#firstWaiting++;
      if (event.phase !== "waiting") continue;
      event.holdsPlace = true;
      this.#running++;
      this.#run(event);
    }
    if (this.#firstWaiting === this.#waiting.length) {
      this.#waiting.length = 0;
      this.#firstWaiting = 0;
    } else if (this.#firstWaiting > 1_024) {
      this.#waiting = this.#waiting.slice(this.#firstWaiting);
      this.#firstWaiting = 0;
    }
    this.#starting = false;
  }

  #run(event: ConsumedEvent): void {
    event.phase = "running";
    event.inHandler = true;
    const run = ++event.runs;
    let result: void | Promise<void>;
    try {
      result = this.#surroundings.runInAsyncScope(this.#options.handler, undefined, event);
    } catch (error) {
      this.#threw(event, run, error);
      return;
    }
    if (result === undefined) this.#returned(event, run);
    else
      Promise.resolve(result).then(
        () => this.#returned(event, run),
        (error: unknown) => this.#threw(event, run, error),
      );
  }

  #returned(event: ConsumedEvent, run: number): void {
    if (event.runs !== run) return;
    event.inHandler = false;
    if (event.phase === "settled") this.#leavePlace(event);
    else if (event.phase === "running" && this.#autoAck) void this.acknowledge(event);
    else if (event.phase === "running") {
      event.phase = "unsettled";
      this.#leavePlace(event);
    }
  }

  #threw(event: ConsumedEvent, run: number, error: unknown): void {
    if (event.runs !== run) return;
    event.inHandler = false;
    if (event.phase === "running") {
      this.reject(event, error);
      return;
    }
    // It had been acknowledged or refused before: that stands, and the error is only reported.
    this.report(error, event);
    if (event.phase === "settled") this.#leavePlace(event);
  }

  /** @internal */
  acknowledge(event: ConsumedEvent): Promise<void> {
    if (event.phase === "settled") return event.acknowledged ?? Promise.resolve();
    if (event.phase === "waiting" || event.phase === "retrying") return Promise.resolve();
    this.#handled++;
    return (event.acknowledged = this.#settle(event));
  }

  /** Tell the backend that it is done with. Never rejects. */
  #settle(event: ConsumedEvent, dropped = false): Promise<void> {
    event.phase = "settled";
    const { delivery } = event;
    let told: void | Promise<void> = undefined;
    try {
      told = dropped && delivery.drop !== undefined ? delivery.drop() : delivery.ack();
    } catch (error) {
      this.report(error, event);
    }
    if (told === undefined) {
      this.#forget(event);
      return settled;
    }
    // Its place is free, but it counts until the backend has been told: draining waits for that.
    this.#leavePlace(event);
    return told.then(
      () => this.#forget(event),
      (error: unknown) => {
        this.report(error, event);
        this.#forget(event);
      },
    );
  }

  /** An attempt failed. @internal */
  reject(event: ConsumedEvent, error: unknown): void {
    if (event.phase !== "running" && event.phase !== "unsettled") return;
    this.#failed++;
    const failure = fromError(error);
    const { deadLetter } = this.#options.options;
    const fate = this.#fate(event, failure);
    this.report(error, event, fate);
    if (fate === "retried") this.#retry(event, this.#backoff(event.attempt - 1));
    else if (deadLetter !== undefined) void this.#bury(event, failure, deadLetter);
    else {
      this.#dropped++;
      void this.#settle(event, true);
    }
  }

  #fate(event: ConsumedEvent, failure: MicroError): EventFate {
    const mayRetry = !isPermanent(failure);
    if (mayRetry && event.attempt <= this.#retries) return "retried";
    if (this.#options.options.deadLetter !== undefined) return "deadLettered";
    return mayRetry && this.#options.lastResort === "retry" ? "retried" : "dropped";
  }

  #fateText(event: BrokerEvent, fate: EventFate): string {
    const { lastResort, options } = this.#options;
    // Without an end there is no number of attempts to tell.
    const endless = options.deadLetter === undefined && lastResort === "retry";
    const attempt = `attempt ${event.attempt}${endless || this.#retries === Infinity ? "" : ` of ${this.#retries + 1}`}`;
    if (fate === "retried") return `${attempt}: it is tried again`;
    // One that is not tried again as often as it may be fails in the same way each time.
    const early = event.attempt <= this.#retries ? ", and would fail again" : "";
    if (fate === "dropped") return `${attempt}${early}: the event is dropped`;
    return `${attempt}${early}: the event goes to ${options.deadLetter}`;
  }

  #retry(event: ConsumedEvent, delayMs: number): void {
    if (this.#ended && this.#isRedelivered(event)) {
      this.#giveBack(event);
      return;
    }
    event.phase = "retrying";
    const again = (): void => {
      clearTimeout(timer);
      this.#pauses.delete(event);
      if (event.phase !== "retrying") return;
      if (this.#ended && this.#isRedelivered(event)) {
        this.#giveBack(event);
        return;
      }
      event.attempt++;
      if (event.holdsPlace) this.#run(event);
      else {
        event.phase = "waiting";
        this.#waiting.push(event);
        this.#startWaiting();
      }
    };
    // With the end near there is no time for pauses.
    const timer = setTimeout(again, this.#ended ? 0 : Math.min(Math.max(0, delayMs), longestDelayMs));
    timer.unref();
    this.#pauses.set(event, again);
  }

  /** Publish to the dead letter topic, however long that takes: until then the message is not settled. */
  async #bury(event: ConsumedEvent, failure: MicroError, deadLetter: string): Promise<void> {
    event.phase = "retrying";
    const { header, body } = event.message;
    const buried = new Metadata(header)
      .keep("Micro-Error", JSON.stringify(failure))
      .keep("Micro-Dead-Topic", event.topic)
      .keep("Micro-Attempts", String(event.attempt));
    for (let tries = 0; ; tries++) {
      try {
        await detach(() => this.#options.publish(deadLetter, { header: buried, body }));
        break;
      } catch (error) {
        this.report(error, event);
        if (this.#ended || isSettled(event)) {
          this.#giveBack(event);
          return;
        }
        await this.#pause(event, redeliveryBackoff(tries));
        if (isSettled(event)) return;
      }
    }
    if (isSettled(event)) return;
    this.#deadLettered++;
    await this.#settle(event);
  }

  #pause(event: ConsumedEvent, delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#pauses.delete(event);
        resolve();
      };
      const timer = setTimeout(wake, delayMs);
      timer.unref();
      this.#pauses.set(event, wake);
    });
  }

  #giveBack(event: ConsumedEvent): void {
    if (event.phase === "settled") return;
    event.phase = "settled";
    if (!this.#isRedelivered(event)) this.#dropped++;
    try {
      const told = event.delivery.giveBack?.();
      if (told !== undefined) told.catch((error: unknown) => this.report(error, event));
    } catch (error) {
      this.report(error, event);
    }
    this.#forget(event);
  }

  #leavePlace(event: ConsumedEvent): void {
    if (!event.holdsPlace || event.inHandler) return;
    event.holdsPlace = false;
    this.#running--;
    this.#startWaiting();
  }

  #forget(event: ConsumedEvent): void {
    if (this.#unsettled.delete(event)) {
      this.#bytes -= event.bytes;
      this.#taken.change(-event.bytes);
    }
    this.#leavePlace(event);
    if (this.#room !== undefined) this.roomAgain();
    if (this.#unsettled.size === 0) this.#idle?.resolve();
  }
}

function tooLarge({ broker, topic }: ConsumerOptions, bytes: number, limit: number): MicroError {
  return new MicroError(
    `a message of ${topic} has ${bytes} bytes, more than the ${limit} that the subscription takes (maxMessageBytes)`,
    { id: `go.micro.broker.${broker}`, code: "too_large" },
  );
}

const settled = Promise.resolve();

const isSettled = (event: ConsumedEvent): boolean => event.phase === "settled";
