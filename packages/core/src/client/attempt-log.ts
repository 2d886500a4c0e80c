/** What one call has tried so far, and the error that tells of it. */
import { MicroError, type CallAttempt, type MicroErrorOptions } from "../errors.ts";
import type { Node } from "../registry/registry.ts";
import { clientId } from "./deadline.ts";
import { withRoom } from "./trace.ts";

/** Made at the first failure: a call that succeeds has none. */
export class AttemptLog {
  readonly #attempts: CallAttempt[] = [];
  /** Ids and addresses: two records of one address lead to the same process. */
  readonly tried: Set<string> = new Set();

  add({ id, address }: Node, error: MicroError, durationMs: number): void {
    this.#attempts.push({ node: id, address, error, durationMs });
    this.tried.add(id).add(address);
  }

  has({ id, address }: Node): boolean {
    return this.tried.has(id) || this.tried.has(address);
  }

  /** The call's error: that of the last attempt with the list of all. A peer's own words stay as they came: see `call` of errors. */
  failure(error: MicroError, answered: boolean, call: string, note?: string): MicroError {
    const attempts = this.#attempts;
    let { detail, cause } = error;
    if (answered && !error.notRun) {
      if (note !== undefined) cause ??= new Error(note);
    } else if (attempts.length > 1 || note !== undefined) {
      const tries = attempts.length > 1 && error.code !== "timeout" ? this.#tries(words(attempts.at(-1)!)) : undefined;
      const parts = [detail, note, tries];
      detail = parts.filter((part) => part !== undefined).join("; ");
    }
    const options: MicroErrorOptions = {
      id: error.id === "" && !answered ? clientId : error.id,
      code: error.code,
      statusCode: error.statusCode,
      status: error.status,
      notRun: error.notRun,
      issues: error.issues,
      cause,
      attempts,
      call,
    };
    // A frame for each attempt, beside those of this one.
    return withRoom(() => new MicroError(detail, options), attempts.length + 4);
  }

  toString(): string {
    return this.#tries();
  }

  /** @param told words of the text that this becomes a part of: they are not repeated. */
  #tries(told?: string): string {
    const tries = this.#attempts.map((attempt) => {
      const { node, address, durationMs } = attempt;
      const name = node === address ? address : `${node} at ${address}`;
      const own = words(attempt);
      return `${name} (${own === told ? "" : `${own}, `}${Math.round(durationMs)} ms)`;
    });
    return `tried ${tries.join(", ")}`;
  }
}

/** What an attempt failed with, without where that was. */
function words({ address, error }: CallAttempt): string {
  const where = `(${address}): `;
  const at = error.detail.indexOf(where);
  return at < 0 ? error.detail || error.code : error.detail.slice(at + where.length);
}
