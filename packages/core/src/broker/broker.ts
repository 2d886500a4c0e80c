/**
 * The broker: messages published to a topic reach all subscribers, or one of each queue group.
 *
 * A plugin author implements {@link Broker}. What every backend shares lies beside this file: `consumer.ts` runs
 * handlers (order, concurrency, retries, dead letters, draining), `connection-gate.ts` lets publishes wait for a
 * backend that is away, `envelope.ts` writes and reads go-micro's JSON form of a message (`broker/broker.go`).
 */
import type { Backoff } from "../client/client.ts";
import type { MicroError } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import type { Metadata, MetadataInit } from "../metadata.ts";

/** A message as it was received. */
export interface BrokerMessage {
  /** E.g. `Content-Type`, `Micro-Topic`, `Micro-Id`, and the metadata of whoever published it. */
  readonly header: Metadata;
  readonly body: Uint8Array;
}

/** A message to be published. */
export interface OutgoingBrokerMessage {
  /** Default: none. */
  readonly header?: MetadataInit | undefined;
  readonly body: Uint8Array;
}

/** A message on its way through a handler. */
export interface BrokerEvent {
  /** The topic it was published to; where a subscription's topic is a pattern, the one that matched. */
  readonly topic: string;
  readonly message: BrokerMessage;
  /** 1 for the first attempt at handling it. */
  readonly attempt: number;
  /** Aborts when the subscription ends before the handler does: see {@link Subscriber.unsubscribe}. */
  readonly signal: AbortSignal;
  /**
   * Done: the message is not delivered again. Only needed with `autoAck: false`; a second call does nothing.
   * Resolves once the backend has been told; a lost connection is reported to the error handler, and the message
   * delivered again.
   */
  ack(): Promise<void>;
  /** Failed, as if the handler had thrown `error`: it is retried, dead-lettered or dropped. Only with `autoAck: false`. */
  nack(error?: unknown): void;
}

/** Handles one message. A rejection, or a throw, is a negative acknowledgement. */
export type BrokerHandler = (event: BrokerEvent) => void | Promise<void>;

/**
 * Options of one publish. A plugin adds what only it has under a key of its own, typed by declaration merging:
 * `declare module "@micro/core" { interface PublishOptions { kafka?: KafkaPublishOptions | undefined } }`.
 */
export interface PublishOptions {
  /** Gives up: the publish rejects with code `aborted`, and may have happened. */
  signal?: AbortSignal | undefined;
  /**
   * How long to wait for the backend, in milliseconds: for a connection while it is away, and for its word that it has
   * the message where it gives one. Passing it rejects with code `timeout`. Default: 5000.
   */
  timeoutMs?: number | undefined;
}

/** Options of one subscription. A plugin adds its own as in {@link PublishOptions}. */
export interface SubscribeOptions {
  /** Of all subscribers with the same queue name, one gets each message. Default: none, every message comes here. */
  queue?: string | undefined;
  /** Acknowledge when the handler resolves. With false the handler calls `event.ack()` or `event.nack()`, then or later. Default: true. */
  autoAck?: boolean | undefined;
  /** Handlers running at once. With 1 messages are handled in the order they came in. Default: 1. */
  concurrency?: number | undefined;
  /** Messages taken from the backend and not settled yet, those being handled included; at least `concurrency`. Default: 64. */
  prefetch?: number | undefined;
  /** Bytes of bodies taken and not settled; one message is taken whatever its size. Default: 67108864 (64 MiB). */
  prefetchBytes?: number | undefined;
  /**
   * Largest body, in bytes. A larger one never reaches the handler: it is reported with code `too_large`, and dead-lettered or dropped. A
   * broker with a limit of its own may have another default. Default: 4194304 (4 MiB).
   */
  maxMessageBytes?: number | undefined;
  /** Further attempts after a failed one. Errors with code `bad_request`, `codec` or `too_large` are not retried: they would fail again. Default: 3. */
  retries?: number | undefined;
  /** Pause before a retry, in milliseconds, by the number of retries made so far. Default: 100 doubling up to 30000, less a random part of up to a half. */
  backoff?: Backoff | undefined;
  /**
   * Topic to publish a message to whose handler has failed for good, with headers `Micro-Error`, `Micro-Dead-Topic`
   * (where it came from) and `Micro-Attempts` added. Default: none: a backend with at-least-once delivery goes on
   * retrying, another one drops the message; both report it.
   */
  deadLetter?: string | undefined;
  /**
   * Told of every failure: of a handler (each attempt), of a message that cannot be read, of the backend. `event` is
   * the message concerned, if any, and `fate` what becomes of it where this attempt decides that. Must not throw. Default: logged.
   */
  onError?: ((error: MicroError, event: BrokerEvent | undefined, fate: EventFate | undefined) => void) | undefined;
  /** Where failures are logged without `onError`. Default: the service's for its subscriptions, the broker's for others. */
  logger?: Logger | undefined;
  /** Unsubscribes when it aborts. */
  signal?: AbortSignal | undefined;
}

/** What becomes of a message after a failed attempt: it is handled again, goes to the dead letter topic, or is given up. */
export type EventFate = "retried" | "deadLettered" | "dropped";

/** Counters of a subscription. */
export interface SubscriberStats {
  /** Messages taken from the backend. */
  readonly received: number;
  /** Handled and acknowledged. */
  readonly handled: number;
  /** Attempts that failed. */
  readonly failed: number;
  /** Messages published to the dead letter topic. */
  readonly deadLettered: number;
  /** Messages given up: failed for good without a dead letter topic, unreadable, or lost by a subscriber too slow for its backend. */
  readonly dropped: number;
  /** Taken and not settled. */
  readonly inFlight: number;
}

/** A running subscription. It is made true again after every reconnect, without help. */
export interface Subscriber extends AsyncDisposable {
  readonly topic: string;
  readonly queue: string | undefined;
  /**
   * Resolves once every message published later is received. While the backend is away it waits; it rejects if the
   * backend refuses (`unauthorized`, `bad_request`, …) or the subscription ends before. Need not be awaited.
   */
  readonly ready: Promise<void>;
  readonly stats: SubscriberStats;
  /**
   * Take no more messages; let running handlers finish and acknowledge; give the rest back where the backend can have
   * them. Handlers still running after `timeoutMs` (default: 30000) are cancelled through their signal and not waited for.
   * May be called twice. In a handler of its own it only begins: the promise does not wait for that handler, nor for anything else.
   */
  unsubscribe(options?: { timeoutMs?: number | undefined }): Promise<void>;
  /** The same as `unsubscribe()`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What a broker plugin implements. All methods may be called concurrently. Making one connects nothing. */
export interface Broker extends AsyncDisposable {
  /** E.g. `nats`; becomes node metadata `broker` and appears in logs and errors. */
  readonly name: string;
  /** Where it is connected, or will connect to; without credentials. Empty for one that has yet to bind. */
  readonly address: string;
  /**
   * Connect now. Not needed: the first publish or subscription does.
   * @throws {MicroError} `unavailable` if that does not work out within `timeoutMs` (default: 5000), `unauthorized` if
   * refused, `aborted`, `closed`. It may be tried again.
   */
  connect(options?: { signal?: AbortSignal | undefined; timeoutMs?: number | undefined }): Promise<void>;
  /**
   * Bind the address at which messages come in, without asking for anything that is elsewhere. A service with subscribers does
   * so first at its start, to know early of an address that is taken; the first subscription does it anyway, and without one
   * nothing is bound. Left out by brokers that only dial. May be called again.
   * @throws {MicroError} `unavailable` when the address is taken, `closed`.
   */
  listen?(): Promise<void>;
  /**
   * Publish. Resolves once the backend has the message, as far as it says so: see the README of each.
   *
   * While the backend is away a bounded number of publishes waits for it, each up to its deadline; inside a handler
   * that is never later than the handler's own.
   * @throws {MicroError} `timeout` at the deadline; `unavailable` if too many wait already; `bad_request` for a topic or
   * a header the backend cannot carry, `too_large`, `unauthorized`, `aborted`, `closed`.
   */
  publish(topic: string, message: OutgoingBrokerMessage, options?: PublishOptions): Promise<void>;
  /**
   * Subscribe. Returns at once; await `ready` to know that it holds.
   * @throws {TypeError} for options that make no sense.
   * @throws {MicroError} `bad_request` for a topic the backend cannot carry, `closed`.
   */
  subscribe(topic: string, handler: BrokerHandler, options?: SubscribeOptions): Subscriber;
  /**
   * End for good: unsubscribe everything (as {@link Subscriber.unsubscribe}), send what publishes wait for, close.
   * Everything asked for afterwards is refused with `closed`. May be called twice. In a handler of this broker it only begins, as
   * `unsubscribe()` does.
   */
  disconnect(options?: { timeoutMs?: number | undefined }): Promise<void>;
  /**
   * No service uses it any more, for now: called at the end of the last service's stop, where the program made the broker
   * and keeps it. Nothing that nobody waits on may keep the process alive from here on: a connection (and its timers)
   * without subscription or publish is closed or unref'd; what somebody waits on goes on. The next use connects anew.
   * Left out by brokers whose idle connections hold nothing. Must not throw; may be called again.
   */
  release?(): void | Promise<void>;
  /** The same as `disconnect()`. */
  [Symbol.asyncDispose](): Promise<void>;
}
