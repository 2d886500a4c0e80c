/** Runs the matrix: every scenario with every generation of go-micro, in both directions, by mdns and by address. Started by `run.mjs`. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { GoCannot, type Scenario } from "./src/outcome.ts";
import { ourLog } from "./src/our-service.ts";
import { type Column, type Generation, type GoServer, Pair, type Via, versions } from "./src/pair.ts";
import { waitFor } from "./src/wait.ts";
import { brokers } from "./src/scenarios/brokers.ts";
import { calls } from "./src/scenarios/calls.ts";
import { errors } from "./src/scenarios/errors.ts";
import { fleet } from "./src/scenarios/fleet.ts";
import { gateway } from "./src/scenarios/gateway.ts";
import { httpBroker } from "./src/scenarios/http-broker.ts";
import { load } from "./src/scenarios/load.ts";
import { oldProtocol } from "./src/scenarios/old-protocol.ts";
import { registries } from "./src/scenarios/registries.ts";
import { registry } from "./src/scenarios/registry.ts";
import { startServers, stopServers } from "./src/servers.ts";
import { streams } from "./src/scenarios/streams.ts";
import { time } from "./src/scenarios/time.ts";
import { types } from "./src/scenarios/types.ts";

type Direction = "goToTs" | "tsToGo";

interface Cell {
  readonly generation: Generation;
  readonly direction: Direction;
  readonly via: Via;
  readonly state: "ok" | "FAIL" | "cannot";
  /** The failure, or why Go cannot. */
  readonly text: string;
  readonly ms: number;
}

const { values: options } = parseArgs({
  options: {
    peers: { type: "string" },
    // Servers that can be had, and why others cannot.
    servers: { type: "string", multiple: true },
    missing: { type: "string", multiple: true },
    json: { type: "string" },
    // Parts of names, for work on one scenario.
    only: { type: "string", multiple: true },
    generation: { type: "string", multiple: true },
    verbose: { type: "boolean", default: false },
  },
});
const peers = JSON.parse(options.peers ?? "{}") as Record<Generation | "micro", string>;

await startServers(options.servers ?? []);
const home = await mkdtemp(join(tmpdir(), "micro-interop-"));
const all = [
  ...registry,
  ...registries(),
  ...calls,
  ...types,
  ...errors,
  ...time,
  ...streams,
  ...oldProtocol,
  ...gateway(peers.micro, home),
  ...httpBroker,
  ...brokers(),
  ...load,
  ...fleet,
];
const scenarios = all.filter(({ name }) => options.only?.some((part) => name.includes(part)) ?? true);
const generations = (["v2", "v4", "v5"] as const).filter((name) => options.generation?.includes(name) ?? true);
const directions: readonly Direction[] = ["goToTs", "tsToGo"];
const ways: readonly Via[] = ["mdns", "address"];

/** Limit of one cell: a scenario that hangs is a failure, not the end of the suite. */
const cellLimitMs = 120_000;
/** Limit of everything. */
const suiteLimitMs = 9 * 60_000;

const results = new Map<Scenario, Cell[]>(scenarios.map((scenario) => [scenario, []]));
const started = performance.now();
setTimeout(() => {
  process.stderr.write(`interop: not done after ${suiteLimitMs / 1000} s, at ${[...current].join(", ")}\n`);
  process.exit(1);
}, suiteLimitMs).unref();

const current = new Set<string>();

async function runCell(scenario: Scenario, direction: Direction, column: Column): Promise<Cell> {
  const { generation, via } = column;
  const label = `${scenario.name} [${generation} ${direction} ${via}]`;
  current.add(label);
  const from = performance.now();
  const limit = Promise.withResolvers<never>();
  const timer = setTimeout(() => limit.reject(new Error(`not done after ${cellLimitMs / 1000} s`)), cellLimitMs);
  let state: Cell["state"] = "ok";
  let text = "";
  try {
    const outcome = await Promise.race([scenario[direction]!(column), limit.promise]);
    if (outcome instanceof GoCannot) {
      state = "cannot";
      text = outcome.reason;
    }
  } catch (error) {
    state = "FAIL";
    text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  } finally {
    clearTimeout(timer);
    current.delete(label);
  }
  const ms = Math.round(performance.now() - from);
  if (options.verbose || state === "FAIL")
    process.stdout.write(
      `${state.padEnd(7)} ${String(ms).padStart(6)} ms  ${label}\n${state === "FAIL" ? `${text}\n` : ""}`,
    );
  return { generation, direction, via, state, text, ms };
}

async function runGeneration(generation: Generation): Promise<void> {
  const pair = new Pair(generation, peers[generation], home);
  await using stack = new AsyncDisposableStack();
  stack.defer(() => pair.ours.stop());
  await pair.ours.start();
  const go: GoServer = stack.use(await pair.startServer(`go-${generation}`, "-metadata", "region=there"));
  await waitFor(
    "we find Go's server",
    () => pair.ours.registry.getService(go.name),
    (found) => found.length > 0,
    15_000,
  );
  for (const scenario of scenarios) {
    for (const direction of directions) {
      if (scenario[direction] === undefined) continue;
      if (scenario.generations?.includes(generation) === false) continue;
      for (const via of ways) {
        if (scenario.via !== undefined && scenario.via !== via) continue;
        const column = { pair, generation, via, go, to: via === "address" ? { address: go.address } : {} };
        results.get(scenario)!.push(await runCell(scenario, direction, column));
      }
    }
  }
}

let broken = "";
try {
  await Promise.all(generations.map(runGeneration));
} catch (error) {
  broken = error instanceof Error ? (error.stack ?? error.message) : String(error);
} finally {
  await stopServers();
  await rm(home, { recursive: true, force: true });
}

/** Lines of the matrix: one per scenario, a column per generation, direction and way. */
function table(): string {
  const width = Math.max(...scenarios.map(({ name }) => name.length));
  const columns = generations.flatMap((generation) =>
    directions.flatMap((direction) => ways.map((via) => ({ generation, direction, via }))),
  );
  const lines = [
    `${"".padEnd(width)}  ${generations.map((generation) => `go-micro ${versions[generation]}`.padEnd(34)).join("  ")}`,
    `${"".padEnd(width)}  ${generations.map(() => `${"Go → TS".padEnd(16)}  ${"TS → Go".padEnd(16)}`).join("  ")}`,
    `${"".padEnd(width)}  ${columns.map(({ via }) => via.padEnd(7)).join("  ")}`,
  ];
  const notes: string[] = [];
  for (const [scenario, cells] of results) {
    const row = columns.map((column) => {
      const cell = cells.find(
        (one) => one.generation === column.generation && one.direction === column.direction && one.via === column.via,
      );
      if (cell === undefined) return "-".padEnd(7);
      if (cell.state !== "cannot") return cell.state.padEnd(7);
      let note = notes.indexOf(cell.text);
      if (note === -1) note = notes.push(cell.text) - 1;
      return `go(${note + 1})`.padEnd(7);
    });
    lines.push(`${scenario.name.padEnd(width)}  ${row.join("  ")}`.trimEnd());
  }
  if (notes.length > 0)
    lines.push(
      "",
      "go(n): Go cannot, and that was asserted:",
      ...notes.map((note, index) => `  (${index + 1}) ${note}`),
    );
  return lines.join("\n");
}

const cells = [...results.values()].flat();
const failures = cells.filter(({ state }) => state === "FAIL").length + (broken === "" ? 0 : 1);
const passed = cells.filter(({ state }) => state !== "FAIL").length;
process.stdout.write(`\n${table()}\n`);
if (broken !== "") process.stdout.write(`\nThe suite broke off: ${broken}\n`);
if (failures > 0 && ourLog.length > 0) process.stdout.write(`\nOur log:\n${ourLog.slice(-60).join("")}`);
process.stdout.write(
  `\ninterop: ${passed} passed, ${failures} failed in ${((performance.now() - started) / 1000).toFixed(0)} s\n`,
);
if (options.json !== undefined)
  await writeFile(
    options.json,
    JSON.stringify({
      passed,
      failed: failures,
      skipped: options.missing ?? [],
      cells: [...results].flatMap(([{ name }, row]) => row.map((cell) => ({ scenario: name, ...cell }))),
    }),
  );
process.exit(failures === 0 ? 0 : 1);
