/**
 * The primary of a cluster: starts workers that share one port, registers them as one node, replaces those that die and
 * takes them all through an ordered stop. It serves nothing itself.
 */
import type { Worker } from "node:cluster";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { builtin } from "../../builtins.ts";
import { MicroError } from "../../errors.ts";
import type { Logger } from "../../logger/logger.ts";
import { timerDelay } from "../../option-check.ts";
import type { Registrar } from "../../registry/registrar.ts";
import { jitteredBackoff } from "../../supervisor.ts";
import type { BackoffState } from "../../supervisor.ts";
import { isOwnMessage, orderVariable } from "./messages.ts";
import type { FromPrimary, FromWorker, WorkerOrder, WorkerReport } from "./messages.ts";

/** A worker that served for so long was in order. */
const healthyMs = 10_000;
/** A worker that ends so often in a row, each time sooner than that, ends the service. */
const maxFailures = 10;
const maxWorkers = 1024;

export interface ClusterPrimaryOptions {
  readonly workers: number;
  readonly order: WorkerOrder;
  readonly logger: Logger;
  readonly spreadMs: number;
  readonly drainTimeoutMs: number;
  /** Put the node into the registry. `report` says what the workers are now, `check` whether all want to be there. */
  readonly register: (report: () => WorkerReport, check: () => Promise<boolean>) => Promise<Registrar>;
  /** A worker asked for the end of the service, or they cannot be kept running. */
  readonly stop: () => void;
}

/** A worker ended that was to run. */
export class WorkerEnded extends Error {
  readonly exitCode: number;
  constructor(exitCode: number) {
    super(`a worker ended with code ${exitCode}`);
    this.exitCode = exitCode;
  }
  override get name(): string {
    return "WorkerEnded";
  }
}

/** @throws {TypeError} */
export function checkWorkers(workers: number): void {
  if (!Number.isInteger(workers) || workers < 1 || workers > maxWorkers)
    throw new TypeError(`run: \`workers\` must be a whole number from 1 to ${maxWorkers}, not ${String(workers)}`);
}

/** What is kept of a worker beyond its death: how often it died. */
interface Slot {
  failures: number;
  readonly backoff: BackoffState;
  timer?: NodeJS.Timeout;
}

interface Member {
  readonly worker: Worker;
  readonly slot: Slot;
  /** The address it was told to listen on. */
  readonly address: string | undefined;
  state: "starting" | "listening" | "started" | "leaving" | "ended";
  startedAt: number;
  readonly listening: PromiseWithResolvers<void>;
  readonly started: PromiseWithResolvers<void>;
  readonly left: PromiseWithResolvers<void>;
  readonly ended: PromiseWithResolvers<void>;
  readonly checks: Map<number, (refusal: string | undefined) => void>;
}

/** `node:cluster` is one for the whole process, so that there is no more than one primary in it. */
let primaries = 0;

export class ClusterPrimary {
  /** What the program should end with: the code of the first worker that failed. */
  exitCode = 0;
  readonly #options: ClusterPrimaryOptions;
  readonly #members = new Set<Member>();
  readonly #slots: readonly Slot[];
  #report: WorkerReport | undefined;
  #registrar: Registrar | undefined;
  #state: "idle" | "starting" | "running" | "stopping" = "idle";
  #stopping: Promise<void> | undefined;
  #nextCheck = 0;

  constructor(options: ClusterPrimaryOptions) {
    this.#options = options;
    this.#slots = Array.from({ length: options.workers }, () => ({
      failures: 0,
      backoff: jitteredBackoff({ maxDelayMs: 5_000 }),
    }));
  }

  /** The address all workers share; undefined before the first one listens. */
  get address(): string | undefined {
    return this.#report?.address;
  }

  /** Whether the registry holds the node, as far as is known. */
  get registered(): boolean {
    return this.#registrar?.registered === true;
  }

  /**
   * Start all workers, and register.
   * @throws {WorkerEnded} if one of them cannot start. @throws {TypeError} for a second primary in the process.
   */
  async start(): Promise<void> {
    if (primaries > 0) throw new TypeError("run: one service of a program can have workers, and one has them already");
    if (process.argv[1] === undefined)
      throw new TypeError("run: workers run the program's file again, and this program has none");
    primaries++;
    this.#state = "starting";
    const [first, ...others] = this.#slots as [Slot, ...Slot[]];
    // One finds out whether the service can start at all, and on which port; what is wrong is said once.
    const scout = this.#fork(first);
    await scout.listening.promise;
    const rest = others.map((slot) => this.#fork(slot));
    await Promise.all(rest.map(({ listening }) => listening.promise));
    const registrar = await this.#options.register(
      () => this.#report as WorkerReport,
      () => this.#check(),
    );
    this.#registrar = registrar;
    // Stopped meanwhile: whoever did that did not know of the registrar.
    if (this.#stopping !== undefined) {
      await registrar.stop();
      throw aborted();
    }
    for (const some of [[scout], rest]) {
      for (const member of some) send(member, { micro: "registered" });
      await Promise.all(some.map(({ started }) => started.promise));
    }
    // A worker that asks for the stop in its last hook says afterwards that it has started.
    if (this.#stopping !== undefined) throw aborted();
    this.#state = "running";
  }

  /**
   * Stop in the order of a single service, across all workers: their `beforeStop` hooks, deregistration, the time for
   * callers to learn of it, then every worker refuses, drains and ends. Resolves once all have ended.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** End all workers at once. */
  kill(): void {
    this.#state = "stopping";
    for (const { worker } of this.#members) worker.process.kill("SIGKILL");
  }

  async #stop(): Promise<void> {
    const { drainTimeoutMs, spreadMs } = this.#options;
    if (this.#state === "idle") return;
    this.#state = "stopping";
    for (const slot of this.#slots) clearTimeout(slot.timer);
    const members = [...this.#members];
    for (const member of members) send(member, { micro: "stop" });
    const limit = new AbortController();
    const late = sleep(timerDelay(drainTimeoutMs), undefined, { signal: limit.signal }).catch(() => {});
    await Promise.race([Promise.all(members.map(({ left }) => left.promise)), late]);
    limit.abort();
    if (this.#registrar !== undefined) {
      await this.#registrar.stop();
      if (spreadMs > 0) await sleep(spreadMs);
    }
    for (const member of members) {
      send(member, { micro: "drain" });
      // One that did not answer in all this time will not drain either.
      if (member.state !== "leaving" && member.state !== "ended") member.worker.process.kill("SIGKILL");
    }
    await Promise.all(members.map(({ ended }) => ended.promise));
    primaries--;
  }

  #fork(slot: Slot): Member {
    const address = this.#nextAddress();
    const { order } = this.#options;
    const worker = builtin.cluster().fork({ [orderVariable]: JSON.stringify({ ...order, address }) });
    const member: Member = {
      worker,
      slot,
      address,
      state: "starting",
      startedAt: 0,
      listening: Promise.withResolvers(),
      started: Promise.withResolvers(),
      left: Promise.withResolvers(),
      ended: Promise.withResolvers(),
      checks: new Map(),
    };
    // Not everybody who dies is waited for.
    member.listening.promise.catch(() => {});
    member.started.promise.catch(() => {});
    this.#members.add(member);
    worker.on("message", (message: unknown) => {
      if (isOwnMessage(message) && member.state !== "ended") this.#receive(member, message as FromWorker);
    });
    worker.once("exit", (code, signal) => this.#ended(member, code, signal as NodeJS.Signals | null));
    worker.on("error", (error) => {
      this.#options.logger.error(`Worker [${worker.process.pid ?? "none"}] ${error.message}`);
      // It could not even be started.
      if (worker.process.pid === undefined) this.#ended(member, 1, null);
    });
    return member;
  }

  /**
   * Workers find each other's port by what they ask for: the same `:0` while one of those who asked for it lives, the port
   * itself otherwise.
   */
  #nextAddress(): string | undefined {
    const { address } = this.#options.order;
    if (address === undefined || this.#report === undefined) return address;
    const anyPort = address === "" || address.endsWith(":0");
    const alive = [...this.#members].some((member) => member.address === address && member.state !== "starting");
    return anyPort && alive ? address : this.#report.address;
  }

  #receive(member: Member, message: FromWorker): void {
    if (message.micro === "listening") this.#listening(member, message.report);
    else if (message.micro === "started") {
      if (member.state === "listening") member.state = "started";
      member.startedAt = performance.now();
      member.started.resolve();
    } else if (message.micro === "leaving") this.#leaving(member, message.failed);
    else member.checks.get(message.check)?.(message.refusal);
  }

  #listening(member: Member, report: WorkerReport): void {
    const { address } = this.#report ?? report;
    const others = [...this.#members].some(
      (other) => other !== member && (other.state === "listening" || other.state === "started"),
    );
    if (report.address !== address && others) {
      this.#options.logger.error(
        `Worker [${member.worker.process.pid}] listens on ${report.address} instead of ${address}: it is ended`,
      );
      member.worker.process.kill("SIGKILL");
      return;
    }
    this.#report = report;
    member.state = "listening";
    member.listening.resolve();
    if (this.#state !== "running") return;
    const told = () => send(member, { micro: "registered" });
    if (report.address === address) told();
    else void this.#registrar?.update().then(told, told);
  }

  #leaving(member: Member, failed: boolean): void {
    member.state = "leaving";
    member.left.resolve();
    if (this.#state === "stopping") return;
    // One that could not start goes alone. Otherwise it is the service that is to stop, wherever it was asked to.
    if (failed) send(member, { micro: "drain" });
    else this.#options.stop();
  }

  #ended(member: Member, code: number | null, signal: NodeJS.Signals | null): void {
    if (member.state === "ended") return;
    const { state, slot } = member;
    member.state = "ended";
    this.#members.delete(member);
    const exitCode = signal === null ? (code ?? 1) : 128 + (constants.signals[signal] ?? 0);
    const reason = this.#state === "stopping" ? aborted() : new WorkerEnded(exitCode);
    member.listening.reject(reason);
    member.started.reject(reason);
    member.left.resolve();
    member.ended.resolve();
    for (const answer of member.checks.values()) answer("the worker has ended");
    if (this.#state !== "running") {
      // To end before the start is over is a failure, whatever the code. Ctrl-C reaches workers, too, and ends those that
      // are not so far that they leave signals to the primary.
      const interrupted = this.#state === "stopping" && state === "starting" && signal !== null;
      if (!interrupted) this.#failed(this.#state === "starting" ? exitCode || 1 : exitCode);
      return;
    }
    const { logger } = this.#options;
    const how = `Worker [${member.worker.process.pid}] ended with ${signal ?? `code ${exitCode}`}`;
    if (state === "started" && performance.now() - member.startedAt >= healthyMs) {
      slot.failures = 0;
      slot.backoff.reset();
    }
    if (++slot.failures >= maxFailures) {
      logger.error(`${how}, for the ${maxFailures}th time in a row: the service stops`);
      this.#failed(exitCode || 1);
      this.#options.stop();
      return;
    }
    const delayMs = slot.failures === 1 ? 0 : slot.backoff.next();
    logger.error(`${how}: it is replaced${delayMs === 0 ? "" : ` in ${Math.round(delayMs)} ms`}`);
    slot.timer = setTimeout(() => void this.#fork(slot), delayMs);
  }

  #failed(exitCode: number): void {
    if (this.exitCode === 0) this.exitCode = exitCode;
  }

  /** Ask every worker that serves. @throws {Error} the first refusal. */
  async #check(): Promise<boolean> {
    const serving = [...this.#members].filter(({ state }) => state === "listening" || state === "started");
    const refusals = await Promise.all(
      serving.map(async (member) => {
        const check = this.#nextCheck++;
        const { promise, resolve } = Promise.withResolvers<string | undefined>();
        member.checks.set(check, resolve);
        send(member, { micro: "check", check });
        // The registrar limits its time.
        return promise.finally(() => member.checks.delete(check));
      }),
    );
    const refusal = refusals.find((text) => text !== undefined);
    if (refusal !== undefined) throw new Error(refusal);
    return true;
  }
}

function send({ worker }: Member, message: FromPrimary): void {
  // One whose channel is closed is about to end.
  if (worker.isConnected()) worker.send(message, () => {});
}

function aborted(): MicroError {
  return new MicroError("the service was stopped while it started", { code: "aborted" });
}
