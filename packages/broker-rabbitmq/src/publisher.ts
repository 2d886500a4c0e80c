/**
 * Publishes over one confirming channel, many messages at once, and waits for the server's word about each. What is
 * unconfirmed when the channel or the connection ends is sent again on the next one, within its deadline: it may then
 * be there twice, and is never lost.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { ConnectionGate, MicroError, RefusalLog, limitTimer, publishTimeout } from "@micro/core";
import type { LimitTimer, Logger, PublishOptions } from "@micro/core";
import type { AmqpConfirmChannel, AmqpLink, AmqpProperties, Confirmation } from "./amqp-client.ts";
import { closedError, fromAmqp, isRefusal, reply, replyCode, serverText, source } from "./errors.ts";
import type { RabbitmqSettings } from "./options.ts";
import type { Topology } from "./topology.ts";

/** A message to be published. */
export interface Outgoing {
  readonly exchange: string;
  readonly key: string;
  readonly body: Buffer;
  readonly properties: AmqpProperties;
}

class Unconfirmed {
  readonly outgoing: Outgoing;
  readonly resolve: () => void;
  readonly reject: (error: MicroError) => void;
  /** As `performance.now()` counts. */
  readonly deadline: number;
  readonly timeoutMs: number;
  settled = false;
  returned = false;
  removeAbort: (() => void) | undefined = undefined;

  constructor(outgoing: Outgoing, timeoutMs: number, resolve: () => void, reject: (error: MicroError) => void) {
    this.outgoing = outgoing;
    this.timeoutMs = timeoutMs;
    this.deadline = performance.now() + timeoutMs;
    this.resolve = resolve;
    this.reject = reject;
  }
}

/** See the head of this file. */
export class Publisher {
  readonly gate: ConnectionGate;
  readonly #settings: RabbitmqSettings;
  readonly #topology: Topology;
  readonly #logger: Logger;
  readonly #refusals: RefusalLog;
  readonly #onIdle: () => void;
  /** In the order they came. */
  readonly #unconfirmed = new Set<Unconfirmed>();
  readonly #mandatory = new Map<string, Unconfirmed>();
  #channel: AmqpConfirmChannel | undefined;
  /** True while what an earlier channel left behind is sent again: later messages wait. */
  #resending = false;
  #blocked: string | undefined;
  /** On the wire and not confirmed: also those nobody waits for any more. */
  #sent = 0;
  #sentBytes = 0;
  #full = false;
  /** The last channel was ended by the server because of one of the messages then unconfirmed. */
  #suspicious = false;
  #down: unknown;
  #timer: LimitTimer | undefined;
  #wakesAt = Number.POSITIVE_INFINITY;

  /** @param onIdle told when nothing is unconfirmed any more. */
  constructor(
    settings: RabbitmqSettings,
    topology: Topology,
    logger: Logger,
    backend: () => string,
    onIdle: () => void,
  ) {
    this.#onIdle = onIdle;
    this.#logger = logger;
    this.#refusals = new RefusalLog(logger);
    this.#settings = settings;
    this.#topology = topology;
    this.gate = new ConnectionGate({ name: "rabbitmq", backend, maxWaiting: settings.maxWaiting });
  }

  /** Nothing is unconfirmed, and nobody waits for a connection. */
  get isIdle(): boolean {
    return this.#unconfirmed.size === 0 && this.gate.waiting === 0;
  }

  /** This connection is to be published over. */
  attach(link: AmqpLink): void {
    this.#blocked = undefined;
    link.onBlocked = (reason) => {
      if (reason !== undefined) this.#logger.warn(`Broker [rabbitmq] ${link.address} takes no messages now: ${reason}`);
      else if (this.#blocked !== undefined) this.#logger.info(`Broker [rabbitmq] ${link.address} takes messages again`);
      this.#blocked = reason;
      this.#updateGate();
    };
  }

  /** There is no connection. Who waits learns at once what waiting cannot mend. */
  down(reason: MicroError): void {
    this.#down = reason;
    this.#updateGate();
    if (isRefusal(reason)) this.gate.fail(reason);
  }

  /** Publish over a channel of this connection until the channel ends. @param up called once it is through with what was left. */
  async run(link: AmqpLink, up: () => void): Promise<void> {
    await this.#topology.ensureExchange(link);
    try {
      let channel = await this.#open(link);
      let resent = await this.#resend(channel);
      while (resent === "one refused") {
        channel = await this.#open(link);
        resent = await this.#resend(channel);
      }
      this.#resending = false;
      if (channel.isOpen) {
        up();
        this.#updateGate();
      }
      const ended = await channel.closed;
      if (resent === "all" && ended !== undefined) this.#accuse(ended);
      throw failure(
        "unavailable",
        `the channel was closed${ended === undefined ? "" : `: ${serverText(ended)}`}`,
        ended,
      );
    } catch (error) {
      this.#down = error;
      throw error;
    } finally {
      this.#channel = undefined;
      this.#resending = false;
      this.#updateGate();
      this.#topology.forgetExchange(link);
    }
  }

  async #open(link: AmqpLink): Promise<AmqpConfirmChannel> {
    const channel = await link.openConfirmChannel();
    channel.onReturned = (messageId) => {
      const entry = this.#mandatory.get(messageId);
      if (entry !== undefined) entry.returned = true;
    };
    this.#channel = channel;
    this.#sent = 0;
    this.#sentBytes = 0;
    this.#resending = true;
    return channel;
  }

  /** What one of the unconfirmed messages did to the channel must not happen to all of them for ever. */
  #accuse(reason: Error): void {
    // A missing exchange is made again, and no message's fault.
    if (replyCode(reason) === reply.notFound) return;
    const [only] = this.#unconfirmed;
    if (this.#unconfirmed.size === 1 && only !== undefined) this.#condemn(only, reason);
    else if (this.#unconfirmed.size > 1) this.#suspicious = true;
  }

  #condemn(entry: Unconfirmed, reason: Error): void {
    const { exchange } = entry.outgoing;
    // Nobody's message is taken there: no need to try each.
    const forAll = replyCode(reason) === reply.accessRefused && /access to exchange/.test(serverText(reason));
    for (const each of forAll ? this.#unconfirmed : [entry])
      if (each.outgoing.exchange === exchange)
        this.#settle(each, fromAmqp(reason, `the message for ${each.outgoing.key}`));
  }

  async #resend(channel: AmqpConfirmChannel): Promise<"all" | "one refused" | "not all"> {
    const left = [...this.#unconfirmed];
    if (!this.#suspicious) {
      for (const entry of left) this.#write(channel, entry);
      return "all";
    }
    // One at a time: the one after which the channel ends is the one the server does not want.
    for (const entry of left) {
      if (entry.settled) continue;
      const confirmed = new Promise<void>((resolve) => this.#write(channel, entry, resolve));
      await Promise.race([confirmed, channel.closed]);
      if (channel.isOpen) continue;
      const reason = await channel.closed;
      if (reason === undefined || replyCode(reason) === reply.notFound) return "not all";
      this.#condemn(entry, reason);
      return "one refused";
    }
    this.#suspicious = false;
    return "all";
  }

  /** @throws {MicroError} or rejects, as `Broker.publish` says; `not_found` for a mandatory message no queue takes. */
  publish(outgoing: Outgoing, options: PublishOptions): Promise<void> {
    const waiting = this.gate.pass(options);
    if (waiting !== undefined) return this.#publishLater(waiting, outgoing, options);
    return this.#send(outgoing, options, publishTimeout(options));
  }

  async #publishLater(waiting: Promise<void>, outgoing: Outgoing, options: PublishOptions): Promise<void> {
    const deadline = performance.now() + publishTimeout(options);
    const remaining = (): number => Math.max(0, deadline - performance.now());
    for (let turn: Promise<void> | undefined = waiting; turn !== undefined;) {
      await turn;
      turn = this.gate.pass({ ...options, timeoutMs: remaining() });
    }
    await this.#send(outgoing, options, remaining());
  }

  #send(outgoing: Outgoing, { signal }: PublishOptions, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const entry = new Unconfirmed(outgoing, timeoutMs, resolve, reject);
      if (this.#unconfirmed.size === 0) this.#timer?.ref();
      this.#unconfirmed.add(entry);
      if (entry.deadline < this.#wakesAt) this.#wakeAt(entry.deadline);
      if (signal !== undefined) {
        const abort = (): void => this.#aborted(entry, signal);
        signal.addEventListener("abort", abort, { once: true });
        entry.removeAbort = () => signal.removeEventListener("abort", abort);
      }
      const { mandatory, messageId } = outgoing.properties;
      if (mandatory === true) this.#mandatory.set(messageId!, entry);
      this.#write(this.#channel!, entry);
    });
  }

  #write(channel: AmqpConfirmChannel, entry: Unconfirmed, then?: () => void): void {
    const { exchange, key, body, properties } = entry.outgoing;
    entry.returned = false;
    this.#sent++;
    this.#sentBytes += body.length;
    try {
      channel.publish(exchange, key, body, properties, (outcome) => {
        if (this.#channel === channel) {
          this.#sent--;
          this.#sentBytes -= body.length;
          if (this.#full) this.#updateGate();
        }
        this.#confirm(entry, outcome);
        then?.();
      });
    } catch (error) {
      this.#sent--;
      this.#sentBytes -= body.length;
      // An ended channel leaves it to the next one; a message that cannot be written never can.
      if (channel.isOpen) this.#settle(entry, cannotBeWritten(entry.outgoing, error));
      then?.();
      return;
    }
    if (this.#isFull(1)) this.#updateGate();
  }

  #confirm(entry: Unconfirmed, outcome: Confirmation): void {
    // Sent again on the next channel.
    if (outcome === "lost" || entry.settled) return;
    const { key } = entry.outgoing;
    if (outcome === "refused")
      this.#settle(entry, failure("unavailable", `the server refused the message for ${key}: a queue is full`));
    else if (entry.returned) this.#settle(entry, failure("not_found", `no queue takes messages for ${key}`));
    else this.#settle(entry, undefined);
  }

  /** One timer for all of them: nearly every message is confirmed long before its deadline. */
  #wakeAt(deadline: number): void {
    this.#timer?.clear();
    this.#wakesAt = deadline;
    this.#timer = limitTimer(Math.ceil(deadline - performance.now()), (blocked) => this.#expire(blocked));
  }

  #expire(blocked: boolean): void {
    this.#wakesAt = Number.POSITIVE_INFINITY;
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    for (const entry of this.#unconfirmed) {
      if (entry.deadline > now) {
        next = Math.min(next, entry.deadline);
        continue;
      }
      const { timeoutMs, outgoing } = entry;
      const busy = blocked ? ", and this process was busy" : "";
      const text = `no answer within ${Math.ceil(timeoutMs)} ms${busy}: the message for ${outgoing.key} may have been published`;
      const why = this.#blocked === undefined ? "" : ` (the server takes no messages now: ${this.#blocked})`;
      this.#settle(entry, failure("timeout", text + why, this.#down));
    }
    if (next < Number.POSITIVE_INFINITY) this.#wakeAt(next);
  }

  #aborted(entry: Unconfirmed, signal: AbortSignal): void {
    const text = `the publish was cancelled: the message for ${entry.outgoing.key} may have been published`;
    this.#settle(entry, failure("aborted", text, signal.reason));
  }

  #settle(entry: Unconfirmed, error: MicroError | undefined): void {
    if (entry.settled) return;
    entry.settled = true;
    entry.removeAbort?.();
    this.#unconfirmed.delete(entry);
    const { mandatory, messageId } = entry.outgoing.properties;
    if (mandatory === true && this.#mandatory.get(messageId!) === entry) this.#mandatory.delete(messageId!);
    if (error === undefined) {
      if (this.#refusals.any) this.#refusals.allowed(entry.outgoing.key);
      entry.resolve();
    } else {
      if (error.code === "forbidden") this.#refusals.refused(entry.outgoing.key, error);
      entry.reject(error);
    }
    // What has no deadline left to watch holds no process.
    if (this.#unconfirmed.size > 0) return;
    this.#timer?.unref();
    this.#onIdle();
  }

  /** Full at the limits; with room again below a share of them. */
  #isFull(share: number): boolean {
    const { maxUnconfirmed, maxUnconfirmedBytes } = this.#settings;
    return this.#sent >= maxUnconfirmed * share || this.#sentBytes >= maxUnconfirmedBytes * share;
  }

  #updateGate(): void {
    this.#full = this.#isFull(this.#full ? 0.75 : 1);
    if (this.#channel === undefined) this.gate.close(this.#down);
    else if (this.#resending) this.gate.close("what it has not confirmed is being sent again");
    else if (this.#blocked !== undefined) this.gate.close(`it takes no messages now: ${this.#blocked}`);
    else if (this.#full) this.gate.close(`${this.#sent} messages are not confirmed yet`);
    else if (!this.gate.isOpen) {
      this.#down = undefined;
      this.gate.open();
    }
  }

  /** Wait for what is on its way, or for its turn, if there is a connection; everything else fails, and what comes later. */
  async end(timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    const isBusy = (): boolean => this.#unconfirmed.size > 0 || this.gate.waiting > 0;
    while (this.#channel !== undefined && isBusy() && performance.now() < deadline) await sleep(5);
    this.gate.fail(closedError(), true);
    for (const entry of this.#unconfirmed) this.#settle(entry, closedError());
    this.#timer?.clear();
  }
}

function failure(code: "timeout" | "aborted" | "unavailable" | "not_found", text: string, cause?: unknown): MicroError {
  return new MicroError(`broker rabbitmq: ${text}`, { id: source, code, cause });
}

function cannotBeWritten({ key }: Outgoing, cause: unknown): MicroError {
  // The client has 64 KiB for all headers, and AMQP 255 bytes for a name.
  const isSize = cause instanceof RangeError && /encoding buffer|out of range/i.test(cause.message);
  const text = cause instanceof Error ? cause.message : String(cause);
  const why = isSize ? "its header is larger than AMQP and the client can carry" : "it cannot be written";
  return new MicroError(`broker rabbitmq: the message for ${key}: ${why} (${text})`, {
    id: source,
    code: "bad_request",
    cause,
  });
}
