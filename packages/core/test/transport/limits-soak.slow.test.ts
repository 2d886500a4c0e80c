/**
 * Each limit of the wires that a peer can drive to its bound is driven there for a while, one after the other, while an honest caller calls
 * over both: none of his calls fails or takes long, and the listener's memory stays within its bounds. Times beside
 * each other are `bench/limits.mjs`'s: what another process does to this machine is no failure.
 * Time for each: MICRO_SOAK_SECONDS (default 6).
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";

const seconds = Number(process.env["MICRO_SOAK_SECONDS"] ?? 6);
const program = fileURLToPath(new URL("./programs/limits-load.ts", import.meta.url));
const mebibyte = 1024 * 1024;

interface Told {
  readonly calls: number;
  readonly failures: readonly string[];
  readonly p50: number;
  readonly p99: number;
}

interface Memory {
  readonly rss: number;
  readonly held: { readonly fromCallers: number; readonly toCallers: number };
}

const children: ChildProcess[] = [];

async function start<T>(...parameters: string[]): Promise<readonly [child: ChildProcess, first: T]> {
  const child = fork(program, parameters);
  children.push(child);
  const [first] = (await once(child, "message")) as [T];
  return [child, first];
}

async function ask<T>(child: ChildProcess, question: unknown): Promise<T> {
  const answer = once(child, "message") as Promise<[T]>;
  child.send(question as string);
  return (await answer)[0];
}

let listener: ChildProcess;
let honest: ChildProcess;
let address = "";

beforeAll(async () => {
  [listener, address] = await start<string>("listener");
  [honest] = await start("honest", address);
});

afterAll(() => {
  for (const child of children) child.kill();
});

const kinds = [
  "replies that nobody takes",
  "replies that come together and nobody takes",
  "calls that are cancelled",
  "cheap frames",
  "handlers that take their time",
  "parts of messages",
  "messages that nobody reads",
];

it("all kinds of load are driven", async () => {
  const [, known] = await start<string[]>("kinds");
  expect(known).toEqual(kinds);
});

it.each(kinds)("honest callers are served, and memory is bounded, under %s", async (kind) => {
  const quiet = await ask<Told>(honest, 1);
  const [hostile] = await start("hostile", address, kind);
  let most: Memory = { rss: 0, held: { fromCallers: 0, toCallers: 0 } };
  const told = await ask<Told>(honest, 1).then(async (first) => {
    let calls = first.calls;
    const failures = [...first.failures];
    let p99 = first.p99;
    for (let second = 1; second < seconds; second++) {
      const memory = await ask<Memory>(listener, "memory");
      expect(memory.held.fromCallers).toBeLessThanOrEqual(256 * mebibyte);
      expect(memory.held.toCallers).toBeLessThanOrEqual(256 * mebibyte);
      if (memory.rss > most.rss) most = memory;
      const next = await ask<Told>(honest, 1);
      calls += next.calls;
      failures.push(...next.failures);
      p99 = Math.max(p99, next.p99);
    }
    return { calls, failures, p99 };
  });
  hostile.kill();
  process.stdout.write(
    `${kind}: ${told.calls} calls, p99 ${quiet.p99.toFixed(1)} ms quiet, at most ${told.p99.toFixed(1)} ms of a second's; rss at most ${Math.round(most.rss / mebibyte)} MiB, held ${JSON.stringify(most.held)}\n`,
  );
  expect(told.failures).toEqual([]);
  expect(told.calls).toBeGreaterThan(20 * seconds);
  // Half a second is what a person notices, and a hundred times what it is on a machine that does nothing else.
  expect(told.p99).toBeLessThan(500);
  // Twice what is counted, for buffers that double, and the process itself.
  expect(most.rss).toBeLessThan(1_200 * mebibyte);
  await expect
    .poll(async () => Object.values((await ask<Memory>(listener, "memory")).held).every((bytes) => bytes < 10_000), {
      timeout: 10_000,
    })
    .toBe(true);
});
