/** A record that led to another service's process. Its own service does without it; what the address does for others is no matter. */
import type { MicroError } from "../errors.ts";
import type { HealthTable } from "./health.ts";

/** Left out for a time that doubles, like a node that refuses: its service may have its port again one day. */
export class StaleRecord {
  /** What the process there said, for logs. */
  error: MicroError | undefined;
  /** Until when it is left out, on the table's clock, in milliseconds. */
  until = 0;
  readonly #table: HealthTable;
  #times = 0;

  constructor(table: HealthTable) {
    this.#table = table;
  }

  get out(): boolean {
    return this.#table.now < this.until;
  }

  /** An attempt met the other service. Returns false if the record was out already. `table.now` must be current. */
  met(error: MicroError): boolean {
    if (this.out) return false;
    const table = this.#table;
    const { ejectionMs, maxEjectionMs } = table.options;
    this.error = error;
    this.until = table.now + Math.min(ejectionMs * 2 ** this.#times, maxEjectionMs);
    this.#times = Math.min(this.#times + 1, 30);
    table.epoch++;
    return true;
  }
}
