/** The connection that publishes go through: kept up, and made again whenever it is lost. */
import { MicroError, supervise, logConnectionLost } from "@micro/core";
import type { ConnectionGate, Logger, Supervisor } from "@micro/core";
import { closedError, fromKafka, isRefusal, source } from "./errors.ts";
import { openLink } from "./kafka-client.ts";
import type { KafkaLink } from "./kafka-client.ts";
import type { KafkaSettings } from "./options.ts";

/** Settings of {@link Link}. */
export interface LinkOptions {
  readonly settings: KafkaSettings;
  readonly logger: Logger;
  readonly gate: ConnectionGate;
  /** There is a connection (again). Called before the gate opens. */
  readonly onUp: () => void;
  /** The cluster refuses us; it is asked again all the same. */
  readonly onRefused: (error: MicroError) => void;
}

interface Waiting {
  readonly resolve: (link: KafkaLink) => void;
  readonly reject: (error: unknown) => void;
}

/** See the head of this file. Connects nothing before {@link Link.start}. */
export class Link {
  readonly #options: LinkOptions;
  readonly #waiting = new Set<Waiting>();
  #supervisor: Supervisor | undefined;
  #current: KafkaLink | undefined;
  #lose: ((reason: unknown) => void) | undefined;
  /** Why, and that those concerned know. */
  #refusal: string | undefined;
  #lost = false;
  #stopping = Promise.resolve();

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  get current(): KafkaLink | undefined {
    return this.#current;
  }

  start(): void {
    const former = this.#stopping;
    this.#supervisor ??= supervise({
      run: async ({ signal, up }) => {
        await former;
        await this.#run(signal, up);
      },
      minDelayMs: 50,
      maxDelayMs: 1_000,
    });
  }

  /** This connection does not work any more: make another one. */
  lose(link: KafkaLink, reason: unknown): void {
    if (this.#current !== link) return;
    this.#current = undefined;
    this.#lose?.(reason);
  }

  /** The connection, once there is one. @throws what `signal` aborted with, or `closed`. */
  connected(signal: AbortSignal): Promise<KafkaLink> {
    if (signal.aborted) return Promise.reject(signal.reason as Error);
    if (this.#current !== undefined) return Promise.resolve(this.#current);
    return new Promise((resolve, reject) => {
      const done = (): void => {
        this.#waiting.delete(waiting);
        signal.removeEventListener("abort", abort);
      };
      const abort = (): void => {
        done();
        reject(signal.reason as Error);
      };
      const waiting: Waiting = {
        resolve: (link) => (done(), resolve(link)),
        reject: (error) => (done(), reject(error)),
      };
      signal.addEventListener("abort", abort, { once: true });
      this.#waiting.add(waiting);
    });
  }

  /** Close for good. */
  async stop(): Promise<void> {
    for (const { reject } of this.#waiting) reject(closedError());
    await this.rest();
  }

  /** Close. It may be started again, which waits for the end of this one. */
  rest(): Promise<void> {
    const supervisor = this.#supervisor;
    if (supervisor === undefined) return this.#stopping;
    this.#supervisor = undefined;
    // From now on publishes wait for the next one.
    this.#current = undefined;
    this.#options.gate.close("the connection was closed");
    return (this.#stopping = supervisor.stop());
  }

  async #run(signal: AbortSignal, up: () => void): Promise<void> {
    const { settings, logger, gate, onUp, onRefused } = this.#options;
    const where = settings.addresses.join(", ");
    const aborted = Promise.withResolvers<"aborted">();
    const abort = (): void => aborted.resolve("aborted");
    signal.addEventListener("abort", abort, { once: true });
    const opening = openLink(settings, logger);
    let link: KafkaLink;
    try {
      const opened = await Promise.race([opening, aborted.promise]);
      if (opened === "aborted") {
        opening.then(
          (late) => late.close(),
          () => {},
        );
        return;
      }
      link = opened;
    } catch (error) {
      const failure = fromKafka(error, `connecting to ${where}`);
      if (signal.aborted) throw failure;
      gate.close(failure);
      if (isRefusal(failure)) {
        gate.fail(failure);
        if (this.#refusal !== failure.detail) onRefused(failure);
        this.#refusal = failure.detail;
      }
      throw failure;
    }
    const lost = Promise.withResolvers<unknown>();
    this.#lose = lost.resolve;
    this.#refusal = undefined;
    this.#current = link;
    // The service says so of the first one.
    logger.log(this.#lost ? "info" : "debug", `Broker [kafka] Connected to ${where}`);
    up();
    onUp();
    gate.open();
    for (const { resolve } of this.#waiting) resolve(link);
    const reason = await Promise.race([link.lost, lost.promise, aborted.promise]);
    this.#current = undefined;
    this.#lost = true;
    const failure = MicroError.is(reason) ? reason : fromKafka(reason, `the connection to ${where}`);
    if (!signal.aborted) {
      gate.close(failure);
      logConnectionLost(logger, "kafka", failure);
    }
    await link.close();
    if (!signal.aborted) throw failure;
  }
}

/** For errors of publishes that nobody waits for any longer. */
export const overloaded = (topic: string, waiting: number): MicroError =>
  new MicroError(`broker kafka: ${waiting} messages wait to be sent already: the one for ${topic} was not sent`, {
    id: source,
    code: "unavailable",
  });
