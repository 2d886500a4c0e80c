/**
 * The broker of one process: for tests, for services that live together, and the reference of the conformance suite.
 * Go's counterpart is `broker/memory.go`; unlike it, queue groups are kept, handlers do not run inside the publish,
 * and a subscriber that is too slow holds publishers back.
 */
import { detach } from "../context.ts";
import { MicroError } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import { silentLogger } from "../logger/console-logger.ts";
import { checkOptionNames, type OptionNames } from "../option-check.ts";
import { optionKinds } from "../option-kinds.ts";
import { publishTimeout } from "./connection-gate.ts";
import type {
  Broker,
  BrokerHandler,
  OutgoingBrokerMessage,
  PublishOptions,
  SubscribeOptions,
  Subscriber,
} from "./broker.ts";
import { Lane } from "./lane.ts";
import type { LaneMessage, LaneWaiter } from "./lane.ts";
import { checkPublishOptions } from "./option-names.ts";
import { outgoingHeader } from "./outgoing.ts";
import { Subscription } from "./subscription.ts";
import { unlessInside } from "../work.ts";

const id = "go.micro.broker.memory";
const further = { memory: true } as const;
const optionNames: OptionNames<MemoryBrokerOptions> = { network: true, logger: optionKinds.logger, maxWaiting: true };

/** Settings of {@link memoryBroker}. */
export interface MemoryBrokerOptions {
  /** What instances share; see {@link memoryBrokerNetwork}. Default: a network of its own. */
  network?: MemoryBrokerNetwork | undefined;
  /** Told what no error handler is there for. Default: nothing is logged. */
  logger?: Logger | undefined;
  /** Publishes of this instance that may wait for slow subscribers at once. Default: 1000. */
  maxWaiting?: number | undefined;
}

/** The place where memory brokers meet. Made by {@link memoryBrokerNetwork}. */
export interface MemoryBrokerNetwork {
  readonly kind: "memory broker network";
}

/** A network for {@link memoryBroker}: instances given the same one get each other's messages. */
export function memoryBrokerNetwork(): MemoryBrokerNetwork {
  return new Network();
}

/**
 * Create a broker in memory. A publish resolves once every subscriber, and one of each queue group, has taken the
 * message; it waits for those that have `prefetch` messages already, up to its deadline. Nobody there: that is fine.
 * Delivery is at most once. The body is copied once, however many there are to get it.
 * @throws {TypeError} for an option that does not exist, if `network` was not made by {@link memoryBrokerNetwork}, or `maxWaiting` is no number.
 */
export function memoryBroker(options: MemoryBrokerOptions = {}): Broker {
  checkOptionNames("memoryBroker", options, optionNames);
  const { network = new Network(), logger = silentLogger, maxWaiting = 1_000 } = options;
  if (!(network instanceof Network)) throw new TypeError("memoryBroker: make `network` with memoryBrokerNetwork()");
  if (!(maxWaiting >= 0)) throw new TypeError("memoryBroker: `maxWaiting` must be a number, 0 or more");
  return new MemoryBroker(network, logger, maxWaiting);
}

class Network implements MemoryBrokerNetwork {
  readonly kind = "memory broker network";
  /** By topic, then by queue; a subscription without a queue is a lane of its own, found by itself. */
  readonly #topics = new Map<string, Map<string | Subscription, Lane>>();

  lanes(topic: string): Iterable<Lane> {
    return this.#topics.get(topic)?.values() ?? [];
  }

  join(subscription: Subscription): void {
    const lanes = this.#topics.get(subscription.topic) ?? new Map<string | Subscription, Lane>();
    this.#topics.set(subscription.topic, lanes);
    const place = subscription.queue ?? subscription;
    const lane = lanes.get(place) ?? new Lane();
    lanes.set(place, lane);
    lane.members.add(subscription);
    lane.pump();
  }

  leave(subscription: Subscription): void {
    const lanes = this.#topics.get(subscription.topic);
    const place = subscription.queue ?? subscription;
    const lane = lanes?.get(place);
    if (lanes === undefined || lane === undefined) return;
    lane.members.delete(subscription);
    if (lane.members.size === 0) lanes.delete(place);
    if (lanes.size === 0) this.#topics.delete(subscription.topic);
    lane.pump();
  }
}

class MemoryBroker implements Broker {
  readonly name = "memory";
  readonly address = "memory";
  readonly #network: Network;
  readonly #logger: Logger;
  readonly #maxWaiting: number;
  readonly #subscriptions = new Set<Subscription>();
  /** Ends each publish that waits; resolved promises of theirs are what `disconnect()` awaits. */
  readonly #waiting = new Map<Promise<void>, (error: MicroError) => void>();
  #closing: Promise<void> | undefined;

  constructor(network: Network, logger: Logger, maxWaiting: number) {
    this.#network = network;
    this.#logger = logger;
    this.#maxWaiting = maxWaiting;
  }

  async connect({ signal }: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    this.#throwIfClosed();
    throwIfAborted(signal);
  }

  async publish(topic: string, message: OutgoingBrokerMessage, options: PublishOptions = {}): Promise<void> {
    this.#throwIfClosed();
    checkPublishOptions(options, further);
    await this.#publish(topic, message, options);
  }

  subscribe(topic: string, handler: BrokerHandler, options: SubscribeOptions = {}): Subscriber {
    this.#throwIfClosed();
    const subscription: Subscription = new Subscription({
      broker: this.name,
      owner: this,
      topic,
      handler,
      options,
      logger: this.#logger,
      lastResort: "drop",
      publish: async (to, dead) => this.#publish(to, dead, {}),
      stop: () => this.#network.leave(subscription),
      close: () => void this.#subscriptions.delete(subscription),
    });
    this.#subscriptions.add(subscription);
    if (options.signal?.aborted === true) return subscription;
    this.#network.join(subscription);
    subscription.holds();
    return subscription;
  }

  disconnect(options: { timeoutMs?: number | undefined } = {}): Promise<void> {
    return unlessInside(this, (this.#closing ??= detach(() => this.#disconnect(options))));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.disconnect();
  }

  async #disconnect({ timeoutMs = 30_000 }: { timeoutMs?: number | undefined }): Promise<void> {
    const end = setTimeout(
      () => {
        for (const fail of this.#waiting.values()) fail(closed());
      },
      Math.min(timeoutMs, 0x7fff_ffff),
    );
    await Promise.all([...this.#subscriptions].map((each) => each.unsubscribe({ timeoutMs })));
    await Promise.allSettled(this.#waiting.keys());
    clearTimeout(end);
  }

  #publish(topic: string, message: OutgoingBrokerMessage, options: PublishOptions): Promise<void> | undefined {
    const { signal } = options;
    const header = outgoingHeader(topic, message);
    const timeoutMs = publishTimeout(options);
    throwIfAborted(signal);
    const full: Lane[] = [];
    let copy: LaneMessage | undefined;
    for (const lane of this.#network.lanes(topic)) {
      copy ??= { topic, header, body: new Uint8Array(message.body) };
      if (!lane.offer(copy)) full.push(lane);
    }
    if (full.length === 0 || copy === undefined) return undefined;
    return this.#wait(copy, full, timeoutMs, signal);
  }

  #wait(
    message: LaneMessage,
    lanes: readonly Lane[],
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (this.#waiting.size >= this.#maxWaiting)
      throw new MicroError(
        `a subscriber of ${message.topic} is too slow, and ${this.#maxWaiting} messages wait already: this one did not reach it`,
        { id, code: "unavailable" },
      );
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    let left = lanes.length;
    const waiting: LaneWaiter = { message, taken: () => --left === 0 && settle() };
    const settle = (error?: MicroError): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      for (const lane of lanes) lane.waiting.delete(waiting);
      this.#waiting.delete(promise);
      if (error === undefined) resolve();
      else reject(error);
    };
    const abort = (): void => settle(aborted(signal!));
    const late = (): void =>
      settle(
        new MicroError(
          `${left} of the subscribers of ${message.topic} had no room for the message within ${Math.ceil(timeoutMs)} ms`,
          { id, code: "timeout" },
        ),
      );
    const timer = setTimeout(late, Math.min(timeoutMs, 0x7fff_ffff));
    signal?.addEventListener("abort", abort, { once: true });
    this.#waiting.set(promise, settle);
    for (const lane of lanes) lane.wait(waiting);
    return promise;
  }

  #throwIfClosed(): void {
    if (this.#closing !== undefined) throw closed();
  }
}

function closed(): MicroError {
  return new MicroError("the memory broker is disconnected", { id, code: "closed" });
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw aborted(signal);
}

function aborted(signal: AbortSignal): MicroError {
  const cause: unknown = signal.reason;
  return MicroError.is(cause) ? cause : new MicroError("cancelled by the caller", { id, code: "aborted", cause });
}
