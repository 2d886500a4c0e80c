/**
 * Messages the user may not publish. The server drops them and says so to the connection, not to the publish: those that
 * wait for its word on that topic are told, and the log is in any case.
 */
import { RefusalLog } from "@micro/core";
import type { Logger, MicroError } from "@micro/core";
import { fromNats } from "./errors.ts";

/** See the head of this file. */
export class RefusedPublishes {
  readonly #log: RefusalLog;
  readonly #watches = new Map<string, Set<(error: MicroError) => void>>();

  constructor(logger: Logger) {
    this.#log = new RefusalLog(logger);
  }

  /** The server has refused a message. */
  add(subject: string, cause: Error): void {
    const error = fromNats(cause, `publishing to ${subject}`);
    for (const reject of this.#watches.get(subject) ?? []) reject(error);
    // Each message is acknowledged to a subject of its own.
    const about = subject.startsWith("$JS.ACK.") ? subject.split(".", 4).join(".") : subject;
    this.#log.refused(about, error);
  }

  /** It is allowed (again). */
  forget(subject: string): void {
    this.#log.allowed(subject);
  }

  /** Subjects on which somebody waits for the server's word. */
  get watched(): number {
    return this.#watches.size;
  }

  /** What `work` resolves with. @throws {MicroError} `forbidden` once the server refuses a message on the subject, if that comes first. */
  async during<T>(subject: string, work: () => Promise<T>): Promise<T> {
    const { promise, reject } = Promise.withResolvers<never>();
    const watches = this.#watches.get(subject) ?? new Set();
    this.#watches.set(subject, watches.add(reject));
    try {
      return await Promise.race([work(), promise]);
    } finally {
      watches.delete(reject);
      if (watches.size === 0) this.#watches.delete(subject);
    }
  }
}
