/**
 * A worker's end: it stands where a service of its own has its registrar, so that start and stop have one order in
 * both. Registering is telling the primary, and so is deregistering.
 */
import type { Worker } from "node:cluster";
import { builtin } from "../../builtins.ts";
import { MicroError } from "../../errors.ts";
import type { RegisterCheck } from "../options.ts";
import { isOwnMessage, orderVariable } from "./messages.ts";
import type { FromPrimary, FromWorker, WorkerOrder, WorkerReport } from "./messages.ts";

/**
 * What this process was started for; undefined in one that is to be a primary.
 * @throws {TypeError} in a worker that somebody else started.
 */
export function workerOrder(): WorkerOrder | undefined {
  if (!builtin.cluster().isWorker) return undefined;
  const text = process.env[orderVariable];
  if (text === undefined)
    throw new TypeError(
      "run: this process is a worker of a cluster already (pm2, or node:cluster in the program): leave `workers` out",
    );
  // Not for processes that this one may start.
  delete process.env[orderVariable];
  return JSON.parse(text) as WorkerOrder;
}

export interface WorkerLinkOptions {
  readonly report: () => WorkerReport;
  readonly check: RegisterCheck | undefined;
  /** The primary wants this worker to stop, or is gone. */
  readonly stop: () => void;
}

export class WorkerLink implements Disposable {
  readonly #options: WorkerLinkOptions;
  readonly #worker: Worker;
  readonly #registered = Promise.withResolvers<void>();
  readonly #mayDrain = Promise.withResolvers<void>();
  #stopping: Promise<void> | undefined;
  #failed = false;

  constructor(options: WorkerLinkOptions) {
    this.#options = options;
    this.#worker = builtin.cluster().worker as Worker;
    // Nobody may be waiting when it is refused.
    this.#registered.promise.catch(() => {});
    process.on("message", this.#onMessage);
    this.#worker.on("disconnect", this.#onDisconnect);
  }

  /** Tell the primary that this worker listens. Resolves once the node is in the registry. @throws {MicroError} `aborted` */
  start(): Promise<void> {
    if (this.#stopping === undefined) this.#send({ micro: "listening", report: this.#options.report() });
    return this.#registered.promise;
  }

  /** The start is over. */
  started(): void {
    this.#send({ micro: "started" });
  }

  /** The start has failed: what follows is the end of this worker, not of the service. */
  failed(): void {
    this.#failed = true;
  }

  /** Tell the primary that this worker leaves. Resolves once the node is out of the registry, or the primary is gone. */
  stop(): Promise<void> {
    this.#refuseStart();
    if (this.#stopping === undefined) {
      this.#send({ micro: "leaving", failed: this.#failed });
      this.#stopping = this.#mayDrain.promise;
    }
    return this.#stopping;
  }

  /** The service has stopped: the channel must not keep the process from ending, nor let it outlive the primary. */
  [Symbol.dispose](): void {
    process.off("message", this.#onMessage);
    this.#worker.off("disconnect", this.#onDisconnect);
    process.channel?.unref();
    if (!this.#worker.isConnected()) this.#worker.exitedAfterDisconnect = true;
  }

  readonly #onMessage = (received: unknown): void => {
    if (!isOwnMessage(received)) return;
    const message = received as FromPrimary;
    if (message.micro === "registered") this.#registered.resolve();
    else if (message.micro === "drain") this.#mayDrain.resolve();
    else if (message.micro === "check") void this.#check(message.check);
    else {
      this.#refuseStart();
      this.#options.stop();
    }
  };

  /** The primary has died. By default Node would end the process at once, with everything that runs. */
  readonly #onDisconnect = (): void => {
    this.#worker.exitedAfterDisconnect = true;
    this.#refuseStart();
    this.#mayDrain.resolve();
    this.#options.stop();
  };

  #refuseStart(): void {
    this.#registered.reject(new MicroError("the service was stopped while it started", { code: "aborted" }));
  }

  async #check(check: number): Promise<void> {
    let refusal: string | undefined;
    try {
      if ((await this.#options.check?.()) === false) refusal = "not ready";
    } catch (error) {
      refusal = error instanceof Error ? error.message : String(error);
    }
    this.#send({ micro: "checked", check, refusal });
  }

  #send(message: FromWorker): void {
    // A primary that is gone is told of by its disconnect.
    if (this.#worker.isConnected()) this.#worker.send(message, () => {});
  }
}
