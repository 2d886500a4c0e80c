/**
 * A fleet in trouble: `npm run chaos -- --seed N --minutes M --backend etcd|consul|mdns`.
 *
 * Six services in processes of their own, with nested calls, streams, queues and broadcasts, are killed, stopped, frozen and
 * robbed of their ports, and the servers they meet at are killed, frozen, cut off and emptied, while callers go on. Ends with what
 * was seen, and with exit code 1 if anything did not hold that must (`verdict.ts`).
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { startBackend, type Trouble } from "./backends.ts";
import { backendNames, connectBackend, type BackendAddress, type BackendName } from "./connect.ts";
import { Fleet } from "./fleet.ts";
import { Load } from "./load.ts";
import { Random } from "./random.ts";
import { roleNames } from "./roles.ts";
import * as verdict from "./verdict.ts";

const { values: given } = parseArgs({
  options: {
    seed: { type: "string" },
    minutes: { type: "string", default: "1" },
    backend: { type: "string", default: "etcd" },
    rate: { type: "string", default: "40" },
    keep: { type: "boolean", default: false },
    json: { type: "string" },
  },
});
const seed = given.seed === undefined ? Math.floor(Math.random() * 1e9) : number("seed", given.seed, 0, 2 ** 32 - 1);
const minutes = number("minutes", given.minutes, 0.1, 600);
const rate = number("rate", given.rate, 1, 1000);
const backendName = backendNames.find((name) => name === given.backend);
if (backendName === undefined) usage(`--backend is one of ${backendNames.join(", ")}, not ${given.backend}`);
/** Troubles under way at once. */
const atOnce = 3;
/** Time in which nothing may fail any more, after the fleet had its ten seconds. */
const calmMs = 15_000;
const warmUpMs = 4_000;

const code = await run(backendName);
// All is closed by now. Node 24 has been seen to turn in a loop while it waits for handles of children that it has closed itself.
process.exit(code);

async function run(name: BackendName): Promise<number> {
  say(`chaos: seed ${seed}, ${minutes} min, ${name}, ${rate} orders/s`);
  const folder = mkdtempSync(join(tmpdir(), "micro-chaos-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => {
    if (given.keep) say(`logs and effects are in ${folder}`);
    else rmSync(folder, { recursive: true, force: true });
  });
  const backend = stack.use(await startBackend(name, say));
  // Below those that the system gives to outgoing connections: a port must be free when its owner comes back.
  const firstPort = 12_000 + ((process.pid * 37) % 15_000);
  const fleet = stack.use(new Fleet({ folder, backend: backend.address, instances: 2, firstPort }));
  fleet.start();
  const load = stack.use(new Load(backend.address));
  await everybodyIsThere(backend.address);
  load.start(rate);
  await sleep(warmUpMs);
  const before = await fleet.vitals();

  const random = new Random(seed);
  const struck = new Map<string, number>();
  const until = performance.now() + minutes * 60_000;
  const underWay = new Set<Promise<void>>();
  // One thing at a time befalls a server: its troubles undo each other.
  const afflicted = new Set<string>();
  const problems: string[] = [];
  while (performance.now() < until) {
    await sleep(random.between(300, 1_500));
    if (underWay.size >= atOnce) continue;
    const trouble = random.weighted<Trouble>([...fleet.troubles, ...backend.troubles]);
    const whom = subject(trouble.name);
    if (afflicted.has(whom)) continue;
    if (whom !== "process") afflicted.add(whom);
    struck.set(trouble.name, (struck.get(trouble.name) ?? 0) + 1);
    const running: Promise<void> = trouble
      .strike(random.fork())
      .catch((error: unknown) => void problems.push(`${trouble.name}: ${String(error)}`))
      .finally(() => {
        underWay.delete(running);
        afflicted.delete(whom);
      });
    underWay.add(running);
  }
  await Promise.all(underWay);
  const endedAt = performance.now();
  await sleep(10_000 + calmMs);
  await load.end();
  await eventually(20_000, () => verdict.eventsHandled(load, fleet.effects()).length === 0);
  const after = await fleet.vitals();
  const effects = fleet.effects();
  const survivors = [...after.keys()].filter((pid) => before.has(pid)).length;
  await fleet.stop();
  const registered = await leftRegistered(backend.address);

  const checks = {
    "no call beyond its deadline": verdict.deadlines(load),
    "no effect lost or doubled": verdict.effectsOnce(load, effects),
    "no answer of a service that was not asked": verdict.wrongAnswers(load),
    "no stream short": verdict.noStreamShort(load),
    "no acknowledged event lost": verdict.eventsHandled(load, effects),
    "healed within 10 s": verdict.healed(load, endedAt),
    "survivors have their memory and handles back": verdict.vitalsBack(before, after),
    "SIGTERM ends with 0 and no registration left": verdict.goodEnds(fleet.badEnds, registered),
    "the troubles themselves": problems,
  };
  return report(name, { checks, struck, load, stopped: fleet.stopped, survivors });
}

interface Run {
  readonly checks: Readonly<Record<string, readonly string[]>>;
  /** How often each trouble came. */
  readonly struck: ReadonlyMap<string, number>;
  readonly load: Load;
  readonly stopped: number;
  readonly survivors: number;
}

/** Say what was seen. @returns the exit code. */
function report(name: BackendName, { checks, struck, load, stopped, survivors }: Run): number {
  const totals = { orders: load.orders, events: load.events, streams: load.streams };
  say(`troubles: ${[...struck.values()].reduce((sum, count) => sum + count, 0)}`);
  for (const [what, count] of struck) say(`  ${String(count).padStart(4)} × ${what}`);
  for (const [what, outcomes] of Object.entries(totals)) {
    const failed = outcomes.filter(({ error }) => error !== undefined);
    say(`${what}: ${outcomes.length}, of which ${failed.length} failed`);
    for (const line of verdict.failures(failed).slice(0, 12)) say(`  ${line}`);
  }
  say(`processes stopped in good order: ${stopped}; alive from beginning to end: ${survivors}`);
  for (const [what, violations] of Object.entries(checks)) {
    say(
      `${violations.length === 0 ? "ok    " : "FAILED"} ${what}${violations.length === 0 ? "" : ` (${violations.length})`}`,
    );
    for (const violation of violations.slice(0, 10)) say(`         ${violation}`);
  }
  const failed = Object.values(checks).filter((violations) => violations.length > 0).length;
  say(`\n${Object.keys(checks).length - failed} passed, ${failed} failed (seed ${seed}, ${name})`);
  if (given.json !== undefined) {
    writeFileSync(
      given.json,
      JSON.stringify({ passed: Object.keys(checks).length - failed, failed, seed, backend: name, checks }),
    );
  }
  return failed === 0 ? 0 : 1;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function subject(trouble: string): string {
  return /etcd|NATS|Consul|RabbitMQ|Kafka/.exec(trouble)?.[0] ?? "process";
}

async function everybodyIsThere(address: BackendAddress): Promise<void> {
  await using backend = connectBackend(address);
  const there = await eventually(60_000, async () => {
    const found = await Promise.all(roleNames.map((role) => backend.options.registry.getService(role).catch(() => [])));
    return found.every((services) => services.some(({ nodes }) => nodes.length >= 2));
  });
  if (!there) throw new Error("the fleet did not come up within 60 s");
}

/** Names of roles that the registry still knows; records of killed processes live until their TTL is over. */
async function leftRegistered(address: BackendAddress): Promise<string[]> {
  await using backend = connectBackend(address);
  const left = async (): Promise<string[]> => {
    const found = await Promise.all(
      roleNames.map(async (role) => ({
        role,
        nodes: (await backend.options.registry.getService(role)).flatMap(({ nodes }) => nodes),
      })),
    );
    return found.filter(({ nodes }) => nodes.length > 0).map(({ role }) => role);
  };
  await eventually(20_000, async () => (await left().catch(() => roleNames)).length === 0);
  // A registry that does not answer by now is no proof of anything.
  return await left();
}

async function eventually(limitMs: number, condition: () => boolean | Promise<boolean>): Promise<boolean> {
  const until = performance.now() + limitMs;
  while (performance.now() < until) {
    if (await condition()) return true;
    await sleep(250);
  }
  return false;
}

function number(name: string, text: string, low: number, high: number): number {
  const value = Number(text);
  if (!(value >= low && value <= high))
    usage(`--${name} is a number from ${low} to ${high}, not ${JSON.stringify(text)}`);
  return value;
}

function usage(problem: string): never {
  process.stderr.write(
    `${problem}\nusage: npm run chaos -- [--seed N] [--minutes M] [--backend ${backendNames.join("|")}] [--rate N] [--keep]\n`,
  );
  process.exit(2);
}
