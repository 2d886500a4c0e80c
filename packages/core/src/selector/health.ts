/**
 * What traffic says of nodes: latency, attempts running, and whether a node is out.
 *
 * A node is known by its address, so that one found in the registry and one a caller named share their record.
 *
 * healthy → ejected (refused, or too many failures) → one attempt at a time as a probe → recovering (a growing share
 * of the traffic) → healthy. A failure on the way back ejects again, for longer.
 */
import type { Clock } from "../clock.ts";
import type { MicroError } from "../errors.ts";

/** What an attempt says of its node. */
export type Verdict =
  /** It answered. */
  | "success"
  /** Nothing: the caller gave up, or the fault was ours. */
  | "neutral"
  /** It did not answer, or not in a way that can be read. */
  | "failure"
  /** Nobody listens there, or it cannot be reached. */
  | "refused"
  /** It lives, but takes no calls now: it is draining or full. */
  | "busy"
  /** The process there is another service's: the record is wrong, the address says nothing. */
  | "misplaced";

/** Says whether another node of a service may be put out for failing. */
export interface EjectionLimit {
  mayEject(): boolean;
}

/** Bounds of {@link HealthTable}. */
export interface HealthOptions {
  readonly clock: Clock;
  /** First time out, in milliseconds; doubles with each failure on the way back. */
  readonly ejectionMs: number;
  /** Longest time out, in milliseconds. */
  readonly maxEjectionMs: number;
}

// A busy node is asked again after this time, however often it was busy.
const busyMs = 1_000;
// Timeouts and broken connections: so many in a row, or half of the latest ones, eject.
const failuresInRow = 3;
const windowSize = 20;
const windowMinimum = 10;
const windowMask = (1 << windowSize) - 1;
// The way back ends after so many successes, or so much time without a failure.
const recoverySuccesses = 10;
const recoveryMs = 10_000;
const smallestWeight = 0.1;
// A node of unknown latency is not blamed for timeouts of callers that had hardly any time.
const shortestBlameMs = 100;
// A probe whose outcome is never told blocks the next one for this long.
const probeMs = 30_000;
// A node that was well for this long starts over with the shortest time out.
const forgetMs = 60_000;
// Time constant of the latency average.
const latencyMemoryMs = 5_000;
// Records of addresses no service has, kept for callers that name addresses.
const maxLoose = 1_000;

const unreachable = new Set(["ECONNREFUSED", "EHOSTUNREACH", "EHOSTDOWN", "ENETUNREACH", "ENOTFOUND", "ENOENT"]);
// Our own shortages say nothing of the node.
const ownFaults = new Set(["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EADDRNOTAVAIL"]);

/** The record of one address. */
export class NodeHealth {
  readonly address: string;
  /** Services that list the address. */
  references = 0;
  /** Attempts running. */
  inFlight = 0;
  /** Orders nodes by their latest failure; 0 = never failed. */
  failedAt = 0;
  /** Why it is out, for error texts and logs. */
  lastError: MicroError | undefined;
  readonly #table: HealthTable;
  #state: "healthy" | "ejected" | "recovering" = "healthy";
  #busy = false;
  #latencyMs: number | undefined;
  #latencyAt = 0;
  #failuresInRow = 0;
  #window = 0;
  #windowSize = 0;
  #ejections = 0;
  #until = 0;
  #probing = false;
  /** Attempts with a lower number began before the latest change and say nothing of what came after. */
  #since = 0;
  #recoverySince = 0;
  #recoverySuccesses = 0;
  #wellSince = 0;

  constructor(address: string, table: HealthTable) {
    this.address = address;
    this.#table = table;
  }

  /** Average latency, fading while nobody asks: a node that was slow once is tried again. */
  get latencyMs(): number | undefined {
    if (this.#latencyMs === undefined) return undefined;
    const idle = this.#table.now - this.#latencyAt;
    return idle < 1_000 ? this.#latencyMs : this.#latencyMs * Math.exp(-idle / latencyMemoryMs);
  }

  get weight(): number {
    if (this.#state === "healthy") return 1;
    if (this.#state === "ejected") return smallestWeight;
    const share = Math.max(
      this.#recoverySuccesses / recoverySuccesses,
      (this.#table.now - this.#recoverySince) / recoveryMs,
    );
    return Math.min(1, Math.max(smallestWeight, share));
  }

  /** Out, and whether merely busy. */
  get out(): "busy" | "ejected" | undefined {
    if (this.#state !== "ejected") return undefined;
    return this.#busy ? "busy" : "ejected";
  }

  /** May be picked: not out, or out for long enough and no probe running. */
  get ready(): boolean {
    return this.#state !== "ejected" || this.#table.now >= this.#until;
  }

  /** When `ready` turns true by itself. */
  get readyAt(): number {
    return this.ready ? Number.POSITIVE_INFINITY : this.#until;
  }

  /** An attempt begins. Returns its number, to be given to {@link NodeHealth.end}. */
  begin(): number {
    this.inFlight++;
    if (this.#state === "ejected" && this.ready) {
      this.#probing = true;
      this.#until = this.#table.now + probeMs;
      this.#table.epoch++;
    }
    return ++this.#table.attempts;
  }

  /**
   * An attempt is over. `owner` is asked before a node is put out for failing, not for refusing. Returns true if that
   * put the node out.
   */
  end(attempt: number, startedAt: number, error: MicroError | undefined, owner: EjectionLimit): boolean {
    this.inFlight--;
    const table = this.#table;
    const now = (table.now = table.clock.now());
    const durationMs = now - startedAt;
    const verdict = verdictOf(error);
    if (verdict === "success") this.#observe(durationMs, now);
    const late = attempt < this.#since;
    if (verdict === "neutral" || verdict === "misplaced" || late) {
      if (!late) this.#releaseProbe(now);
      return false;
    }
    if (verdict === "success") {
      this.#succeeded(now);
      return false;
    }
    // Whoever waited for less than the node usually needs cannot blame it.
    if (error?.code === "timeout" && verdict === "failure" && durationMs < (this.#latencyMs ?? shortestBlameMs)) {
      this.#releaseProbe(now);
      return false;
    }
    this.failedAt = ++table.attempts;
    this.lastError = error;
    return this.#failed(verdict, now, owner);
  }

  /** The node was registered anew: nothing learned about it holds. */
  reset(): void {
    if (this.#state !== "healthy") this.#table.epoch++;
    this.#state = "healthy";
    this.#latencyMs = undefined;
    this.#failuresInRow = this.#window = this.#windowSize = this.#ejections = this.failedAt = 0;
    this.#probing = false;
    this.lastError = undefined;
    this.#since = ++this.#table.attempts;
  }

  #succeeded(now: number): void {
    this.#failuresInRow = 0;
    this.#note(0);
    if (this.#state === "ejected") {
      this.#probing = false;
      this.#state = this.#busy ? "healthy" : "recovering";
      this.#recoverySince = now;
      this.#recoverySuccesses = 0;
      this.#window = this.#windowSize = 0;
      this.#table.epoch++;
    }
    if (this.#state !== "recovering") return;
    this.#recoverySuccesses++;
    if (this.#recoverySuccesses < recoverySuccesses && now - this.#recoverySince < recoveryMs) return;
    this.#state = "healthy";
    this.#wellSince = now;
  }

  #failed(verdict: "failure" | "refused" | "busy", now: number, owner: EjectionLimit): boolean {
    this.#failuresInRow++;
    this.#note(1);
    // Out already and used for want of another: that must not lengthen its time out.
    if (this.#state === "ejected" && !this.#probing) return false;
    if (verdict === "failure" && this.#state === "healthy") {
      const half = this.#windowSize >= windowMinimum && countBits(this.#window) * 2 >= this.#windowSize;
      if ((this.#failuresInRow < failuresInRow && !half) || !owner.mayEject()) return false;
    }
    this.#eject(verdict === "busy", now);
    return true;
  }

  #eject(busy: boolean, now: number): void {
    const table = this.#table;
    const { ejectionMs, maxEjectionMs } = table.options;
    if (this.#state === "healthy" && now - this.#wellSince >= forgetMs) this.#ejections = 0;
    this.#state = "ejected";
    this.#busy = busy;
    this.#probing = false;
    this.#until = now + (busy ? busyMs : Math.min(ejectionMs * 2 ** this.#ejections, maxEjectionMs));
    if (!busy) this.#ejections = Math.min(this.#ejections + 1, 30);
    this.#since = ++table.attempts;
    table.epoch++;
  }

  #releaseProbe(now: number): void {
    if (!this.#probing) return;
    this.#probing = false;
    this.#until = now;
    this.#table.epoch++;
  }

  #note(failed: 0 | 1): void {
    this.#window = ((this.#window << 1) | failed) & windowMask;
    if (this.#windowSize < windowSize) this.#windowSize++;
  }

  /** Quick to rise, slow to fall: a node that gets slow is noticed by the next calls already. */
  #observe(sampleMs: number, now: number): void {
    const average = this.latencyMs;
    if (average === undefined) this.#latencyMs = sampleMs;
    else if (sampleMs > average) this.#latencyMs = (average + sampleMs) / 2;
    else {
      const keep = Math.exp(-Math.max(1, now - this.#latencyAt) / latencyMemoryMs);
      this.#latencyMs = average * keep + sampleMs * (1 - keep);
    }
    this.#latencyAt = now;
  }
}

/** All records of a selector, bounded by what is registered and running. */
export class HealthTable {
  readonly options: HealthOptions;
  readonly clock: Clock;
  /** The time of the current pick or report; saves looking at the clock per candidate. */
  now: number;
  /** Changes whenever some node's readiness does, other than by the passing of time. */
  epoch = 0;
  /** Attempts so far: their numbers order attempts and changes of state. */
  attempts = 0;
  readonly #records = new Map<string, NodeHealth>();
  #listed = 0;

  constructor(options: HealthOptions) {
    this.options = options;
    this.clock = options.clock;
    this.now = options.clock.now();
  }

  get size(): number {
    return this.#records.size;
  }

  /** The record of an address a service lists. Must be given back with {@link HealthTable.release}. */
  acquire(address: string): NodeHealth {
    const record = this.#record(address);
    if (record.references++ === 0) this.#listed++;
    return record;
  }

  /** A service no longer lists the address. */
  release(record: NodeHealth): void {
    if (--record.references > 0) return;
    this.#listed--;
    this.#records.delete(record.address);
  }

  /** The record of an address a caller named. Those no service lists are bounded in number. */
  named(address: string): NodeHealth {
    const record = this.#record(address);
    if (this.#records.size - this.#listed > maxLoose) this.#trim();
    return record;
  }

  #record(address: string): NodeHealth {
    const known = this.#records.get(address);
    if (known !== undefined) return known;
    const record = new NodeHealth(address, this);
    this.#records.set(address, record);
    return record;
  }

  /** Drop the older half of what no service lists and nobody is using. */
  #trim(): void {
    let surplus = maxLoose / 2;
    for (const [address, record] of this.#records) {
      if (record.references > 0 || record.inFlight > 0) continue;
      this.#records.delete(address);
      if (--surplus === 0) return;
    }
  }
}

/** Tell from an attempt's error what it says of the node. Errors of the application count as success. */
export function verdictOf(error: MicroError | undefined): Verdict {
  if (error === undefined) return "success";
  const errno = systemCode(error);
  if (errno !== undefined && ownFaults.has(errno)) return "neutral";
  if (errno === "EWRONGSERVICE") return "misplaced";
  switch (error.code) {
    case "unavailable":
      if (errno !== undefined && unreachable.has(errno)) return "refused";
      // A reply that says so has no cause; what the transport could not send has.
      return error.notRun && error.cause === undefined ? "busy" : "failure";
    case "timeout":
      // Of making a connection, not of the call as a whole.
      return error.notRun && error.id.startsWith("transport.") ? "refused" : "failure";
    case "protocol":
      return "failure";
    case "bad_request":
      // No handler saw it, so it was the address that made no sense.
      return error.notRun ? "refused" : "success";
    case "internal":
      // The http transport's answer to something that is no micro server; a handler's 500 has another id.
      return error.id.startsWith("transport.") ? "failure" : "success";
    case "aborted":
    case "closed":
    case "codec":
    case "too_large":
      return "neutral";
    default:
      return "success";
  }
}

function systemCode(error: MicroError): string | undefined {
  let cause: unknown = error.cause;
  for (let depth = 0; depth < 5 && typeof cause === "object" && cause !== null; depth++) {
    const { code, cause: deeper } = cause as { code?: unknown; cause?: unknown };
    if (typeof code === "string" && /^E[A-Z]/.test(code)) return code;
    cause = deeper;
  }
  return undefined;
}

function countBits(bits: number): number {
  let count = 0;
  for (let rest = bits; rest !== 0; rest &= rest - 1) count++;
  return count;
}
