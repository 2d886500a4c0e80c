import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { mdnsRegistry } from "../../src/registry/mdns/mdns-registry.ts";
import type { Registry } from "../../src/registry/registry.ts";
import { createService } from "../../src/service/service.ts";
import type { MicroService } from "../../src/service/service.ts";
import { Program, keepingLogger, waitFor } from "../support/service.ts";

const callsPerSecond = 200;

interface Outcome {
  readonly call: number;
  readonly startedAt: number;
  readonly node?: string;
  readonly error?: unknown;
}

/** A caller at a steady rate, and what became of its calls. */
class Load implements AsyncDisposable {
  readonly outcomes: Outcome[] = [];
  readonly #registry: Registry;
  readonly #client: MicroService;
  readonly #timer: NodeJS.Timeout;
  readonly #startedAt = performance.now();
  readonly #running = new Set<Promise<void>>();
  #calls = 0;
  #lastTick = this.#startedAt;
  /** Longest time in which this process got no turn. */
  longestStallMs = 0;

  constructor(port: number) {
    this.#registry = mdnsRegistry({ loopbackOnly: true, port });
    this.#client = createService({ name: "load", registry: this.#registry, logger: keepingLogger() });
    this.#timer = setInterval(() => {
      const now = performance.now();
      this.longestStallMs = Math.max(this.longestStallMs, now - this.#lastTick);
      this.#lastTick = now;
      const due = ((now - this.#startedAt) / 1000) * callsPerSecond;
      while (this.#calls < due) {
        const running = this.#call(++this.#calls).finally(() => this.#running.delete(running));
        this.#running.add(running);
      }
    }, 5);
  }

  async #call(call: number): Promise<void> {
    const startedAt = performance.now();
    try {
      const { node } = await this.#client.call<{ node: string }>("fleet", "Fleet.Work", { call }, { timeoutMs: 2000 });
      this.outcomes.push({ call, startedAt, node });
    } catch (error) {
      this.outcomes.push({ call, startedAt, error });
    }
  }

  /** Wait until so many more calls have come to an end. */
  async more(calls: number): Promise<void> {
    const goal = this.outcomes.length + calls;
    await waitFor(() => this.outcomes.length >= goal, `${calls} calls`, 30_000);
  }

  get failures(): Outcome[] {
    return this.outcomes.filter(({ error }) => error !== undefined);
  }

  /** Calls answered by each node since call number `since`. */
  answered(since = 0): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { call, node } of this.outcomes)
      if (node !== undefined && call > since) counts.set(node, (counts.get(node) ?? 0) + 1);
    return counts;
  }

  async end(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#running);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    await this.#client.stop();
    await this.#registry[Symbol.asyncDispose]();
  }
}

async function instance(port: number): Promise<{ program: Program; node: string }> {
  const program = new Program("instance.ts", { env: { TEST_MDNS_PORT: String(port), MICRO_LOG_LEVEL: "debug" } });
  const [, node = ""] = await program.output(/ready (\S+)\n/);
  return { program, node };
}

/** What a round showed: failures of calls, and whether a process was kept from running for a good part of a deadline. */
interface Round {
  readonly failures: readonly unknown[];
  readonly disturbed: boolean;
}

/** No failures; a round in which processes were starved is repeated, since it says nothing of them. */
async function expectNoFailures(play: () => Promise<Round>): Promise<void> {
  for (let rounds = 1; ; rounds++) {
    const round = await play();
    if (round.failures.length > 0 && round.disturbed && rounds < 3) continue;
    expect(round.failures).toEqual([]);
    return;
  }
}

function disturbed(load: Load, programs: readonly Program[]): boolean {
  return load.longestStallMs > 500 || programs.some(({ stdout }) => stdout.includes("stalled for"));
}

async function restartAll(): Promise<Round> {
  const port = 20_000 + Math.floor(Math.random() * 12_000);
  await using cleanup = new AsyncDisposableStack();
  const programs: Program[] = [];
  const launch = async () => {
    const { program, node } = await instance(port);
    programs.push(cleanup.use(program));
    return node;
  };
  await Promise.all([launch(), launch(), launch()]);
  const originals = programs.slice();
  await using load = new Load(port);
  await waitFor(() => load.answered().size === 3, "answers of all three", 30_000);
  for (const program of originals) {
    program.kill("SIGTERM");
    await load.more(40);
    expect(await program.end()).toBe(0);
    const node = await launch();
    // The new instance must be taken into use before the next one goes.
    await waitFor(() => load.answered().has(node), "calls to the new instance", 30_000);
  }
  await load.more(100);
  await load.end();
  expect(load.answered().size).toBe(6);
  return { failures: load.failures.map(({ error }) => String(error)), disturbed: disturbed(load, programs) };
}

async function killOne(): Promise<Round> {
  const port = 20_000 + Math.floor(Math.random() * 12_000);
  await using cleanup = new AsyncDisposableStack();
  const fleet = await Promise.all([instance(port), instance(port), instance(port)]);
  for (const { program } of fleet) cleanup.use(program);
  const victim = fleet[0];
  await using load = new Load(port);
  await waitFor(() => load.answered().size === 3, "answers of all three", 30_000);
  await load.more(100);

  victim.program.kill("SIGKILL");
  const killedAt = performance.now();
  await victim.program.end();
  await load.more(300);
  await load.end();
  const received = new Set([...victim.program.stdout.matchAll(/got (\d+);/g)].map(([, call]) => Number(call)));
  const lost = load.failures.filter(({ call, startedAt, error }) => {
    // It was in the handler, or on its way there: sent before the death of the process could be known.
    const reached = received.has(call) || Math.abs(startedAt - killedAt) < 50;
    return !reached || !MicroError.is(error) || error.attempts.at(-1)?.node !== victim.node;
  });
  const last = Math.max(...load.outcomes.map(({ call }) => call));
  const others = fleet.slice(1).map(({ node }) => node);
  expect([...load.answered(last - 100).keys()].toSorted()).toEqual(others.toSorted());
  return {
    failures: lost.map(({ error }) => String(error)),
    disturbed: disturbed(
      load,
      fleet.map(({ program }) => program),
    ),
  };
}

describe("three instances at 200 calls a second", () => {
  it("can be restarted one after the other, and no call fails", () => expectNoFailures(restartAll), 180_000);

  it("lose no call that had not reached one that is killed", () => expectNoFailures(killOne), 180_000);
});
