/** One connection that should be there: made again whenever it is lost, to whichever node answers first. */
import { MicroError, supervise, logConnectionLost } from "@micro/core";
import type { Logger, Supervisor } from "@micro/core";
import { openLink } from "./amqp-client.ts";
import type { AmqpLink } from "./amqp-client.ts";
import { fromAmqp, isRefusal } from "./errors.ts";
import type { RabbitmqSettings } from "./options.ts";

const retry = { minDelayMs: 50, maxDelayMs: 2_000 };

/** Settings of {@link Connection}. */
export interface ConnectionOptions {
  readonly settings: RabbitmqSettings;
  readonly logger: Logger;
  /** A new one is there. */
  readonly onLink: (link: AmqpLink) => void;
  /** It was lost, or could not be made; `refused` if asking again would not help. */
  readonly onDown: (reason: MicroError, refused: boolean) => void;
}

/** Something that should hold for as long as a connection does. */
export interface KeepOptions {
  /** @param up to be called once it holds. Run again whenever it ends. */
  readonly run: (up: () => void) => Promise<void>;
  /** True once it is no longer wanted. */
  readonly ended: () => boolean;
  /** Told of every failure while it is wanted. */
  readonly failed: (failure: unknown) => void;
}

/** Connects with `start()`, not before. */
export class Connection {
  readonly #options: ConnectionOptions;
  #supervisor: Supervisor | undefined;
  #link: AmqpLink | undefined;
  #stopping = Promise.resolve();
  #lost = false;
  /** What is kept on this link. */
  readonly #kept = new Set<Supervisor>();
  /** Where the next attempt begins. */
  #next = 0;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  get link(): AmqpLink | undefined {
    return this.#link;
  }

  start(): void {
    const former = this.#stopping;
    this.#supervisor ??= supervise({
      run: async (task) => {
        await former;
        await this.#run(task.signal, task.up);
      },
      ...retry,
    });
  }

  /** Close. It may be started again, which waits for the end of this one. */
  stop(): Promise<void> {
    const supervisor = this.#supervisor;
    if (supervisor === undefined) return this.#stopping;
    this.#supervisor = undefined;
    return (this.#stopping = this.#stop(supervisor));
  }

  async #stop(supervisor: Supervisor): Promise<void> {
    const stopped = supervisor.stop();
    await this.#link?.close();
    await stopped;
  }

  /** Keep something on this link for as long as there are both. @returns what ends it. */
  keep(link: AmqpLink, { run, ended, failed }: KeepOptions): () => void {
    const isOver = (): boolean => this.#link !== link || ended();
    const stop = (): void => {
      this.#kept.delete(supervisor);
      void supervisor.stop();
    };
    const supervisor = supervise({
      ...retry,
      run: async ({ up }) => {
        if (isOver()) {
          stop();
          return;
        }
        try {
          await run(up);
        } catch (error) {
          // The link's own end is told elsewhere; it comes with the same turn.
          await new Promise(setImmediate);
          if (!isOver()) failed(error);
          throw error;
        }
      },
    });
    this.#kept.add(supervisor);
    return stop;
  }

  async #run(signal: AbortSignal, up: () => void): Promise<void> {
    const { onLink, onDown, logger } = this.#options;
    let link: AmqpLink | undefined;
    try {
      link = await this.#open(signal);
    } catch (error) {
      const failure = fromAmqp(error, "connecting");
      if (!signal.aborted) onDown(failure, isRefusal(failure));
      throw failure;
    }
    if (link === undefined) return;
    if (signal.aborted) {
      await link.close();
      return;
    }
    this.#link = link;
    // The service says so of the first one.
    logger.log(this.#lost ? "info" : "debug", `Broker [rabbitmq] Connected to ${link.address}`);
    up();
    onLink(link);
    const reason = await link.closed;
    this.#link = undefined;
    this.#lost = true;
    for (const supervisor of this.#kept) void supervisor.stop();
    this.#kept.clear();
    const failure = fromAmqp(reason, `the connection to ${link.address}`);
    onDown(failure, false);
    if (signal.aborted) return;
    logConnectionLost(logger, "rabbitmq", failure);
    throw failure;
  }

  /** The first node that takes us. Undefined if stopped meanwhile. */
  async #open(signal: AbortSignal): Promise<AmqpLink | undefined> {
    const { settings } = this.#options;
    let failure: MicroError | undefined;
    for (let tries = 0; tries < settings.nodes.length && !signal.aborted; tries++) {
      const node = settings.nodes[this.#next % settings.nodes.length]!;
      const opening = openLink(settings, node);
      try {
        const link = await untilAborted(opening, signal);
        if (link !== undefined) return link;
        // The attempt cannot be called off: what it brings is closed.
        opening.then(
          (late) => late.close(),
          () => {},
        );
        return undefined;
      } catch (error) {
        this.#next++;
        const latest = fromAmqp(error, `connecting to ${node.address}`);
        // That one node is down says less than that another one refuses us.
        if (failure === undefined || isRefusal(latest) || !isRefusal(failure)) failure = latest;
      }
    }
    if (failure !== undefined) throw failure;
    return undefined;
  }
}

function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  if (signal.aborted) return Promise.resolve(undefined);
  return new Promise((resolve, reject) => {
    const abort = (): void => resolve(undefined);
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
