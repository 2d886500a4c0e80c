/**
 * How a broker lets go of its connections once no service uses it (`Broker.release`): at once where nobody waits on
 * them, otherwise when the last one has stopped waiting.
 */

/** Settings of {@link IdleRelease}. */
export interface IdleReleaseOptions {
  /** Nobody subscribes, nothing is being published, nobody waits for a connection. */
  readonly isIdle: () => boolean;
  /** Close what is open. The next use opens it again. Must not reject. */
  readonly close: () => Promise<void>;
}

/** Publishes of a program that goes on by itself follow each other: the connection is not closed after each. */
const lingerMs = 1_000;

/** See the head of this file. */
export class IdleRelease {
  readonly #options: IdleReleaseOptions;
  #timer: NodeJS.Timeout | undefined;
  /** No service uses it: what is idle is closed. */
  released = false;

  constructor(options: IdleReleaseOptions) {
    this.#options = options;
  }

  /** What `Broker.release` does. */
  async release(): Promise<void> {
    this.released = true;
    if (this.#options.isIdle()) await this.#options.close();
  }

  /** Somebody wants a connection that stays: `Broker.connect`. */
  keep(): void {
    this.released = false;
    this.end();
  }

  /** Somebody has stopped waiting. Cheap while it is not released. */
  settled(): void {
    if (!this.released || this.#timer !== undefined || !this.#options.isIdle()) return;
    // Without holding the process: what is open does, until then.
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#options.isIdle()) void this.#options.close();
    }, lingerMs).unref();
  }

  /** The broker is disconnected. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
