/** Says in the log which topics a broker's user may not publish to: once each, however often it is tried. */
import type { MicroError } from "../errors.ts";
import type { Logger } from "../logger/logger.ts";
import { brokerLine } from "./log-line.ts";

const maxTold = 1_000;

/** See the head of this file. */
export class RefusalLog {
  readonly #logger: Logger;
  readonly #told = new Set<string>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** True while there is a topic whose refusal was told. */
  get any(): boolean {
    return this.#told.size > 0;
  }

  /** The backend has refused a message for the topic: told at `error`, unless it was. */
  refused(topic: string, error: MicroError): void {
    if (this.#told.has(topic)) return;
    if (this.#told.size >= maxTold) this.#told.clear();
    this.#told.add(topic);
    this.#logger.error(brokerLine(error));
  }

  /** It has taken one: the next refusal is news. */
  allowed(topic: string): void {
    this.#told.delete(topic);
  }
}
