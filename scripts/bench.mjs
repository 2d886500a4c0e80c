// `npm run bench -- [--quick] [--json FILE] [--only TARGET,…] [--cells hello@1,stream@16,…] [--rounds N] [--against CHECKOUT]`: side by side, interleaved, server and client on a core each.
import { spawn, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join, resolve as resolvePath } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { installAndBuild, must, root, toolchain } from "./toolchain.mjs";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "string" },
    only: { type: "string" },
    cells: { type: "string" },
    rounds: { type: "string" },
    // Another checkout of this project, built: its own results beside these, e.g. to see what a change costs.
    against: { type: "string" },
  },
});
const tools = await toolchain();
await installAndBuild(tools);
await must("installing the benchmark's peers", tools.pnpm, ["install", "--frozen-lockfile", "--prefer-offline"], {
  cwd: join(root, "bench"),
  env: tools.env,
});
// Minutes where Go's build cache is empty: only for those who are measured.
const goPeer =
  options.only === undefined || /(?:^|[,-])go(?:$|[,-])|grpc-go/.test(options.only) ? await buildGoPeer() : undefined;

const nodeTarget = (program, label, checkout = root, name = program) => ({
  name,
  label,
  workloads: ["hello", "echo", "stream"],
  server: [tools.node, [join(checkout, "bench", "server.mjs"), program]],
  client: (address) => [tools.node, [join(checkout, "bench", "client.mjs"), program, address]],
});
const otherCheckout = (program, label) =>
  options.against === undefined ? [] : [nodeTarget(program, label, resolvePath(options.against), `${program}-before`)];
const goTarget = (name, label, server, client) => ({
  name,
  label,
  workloads: ["hello", "echo", "stream"],
  server: [goPeer, [...server, "-address", "127.0.0.1:0"]],
  // The peer's own client, one process a measurement, which warms up by itself.
  ask: (address, request) => askGoClient(name, client, address, request),
});
const targets = [
  nodeTarget("micro", "@micro/core"),
  ...otherCheckout("micro", "@micro/core, other checkout"),
  nodeTarget("micro-http", "@micro/core (HTTP/1.1 wire)"),
  ...otherCheckout("micro-http", "@micro/core (HTTP/1.1 wire), other checkout"),
  nodeTarget("net", "raw node:net"),
  nodeTarget("http", "raw node:http"),
  nodeTarget("grpc-js", "@grpc/grpc-js"),
  nodeTarget("moleculer", "Moleculer TCP"),
  nodeTarget("nestjs", "NestJS TCP"),
  ...(goPeer === undefined
    ? []
    : [
        // Its fast streams are only sound as raw frames, which is what this peer sends.
        goTarget("go-micro", "go-micro v5.30 (mucp)", ["bench-server"], ["bench-client"]),
        goTarget(
          "go-micro-grpc",
          "go-micro v5.30 (gRPC)",
          ["grpc-server", "-stack", "micro"],
          ["grpc-client", "-stack", "micro"],
        ),
        goTarget("grpc-go", "grpc-go v1.71", ["grpc-server"], ["grpc-client"]),
      ]),
].filter(({ name }) => options.only === undefined || options.only.split(",").includes(name.replace(/-before$/, "")));

const inFlights = [1, 16, 128];
const rounds = Number(options.rounds ?? (options.quick ? 3 : 5));
if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds ${options.rounds}: a whole number from 1 on`);
const allCells = ["hello", "echo", "stream"].flatMap((workload) => inFlights.map((n) => `${workload}@${n}`));
const wanted = options.cells?.split(",") ?? allCells;
for (const cell of wanted)
  if (!allCells.includes(cell)) throw new Error(`--cells ${cell}: there are only ${allCells.join(", ")}`);
const ms = options.quick ? 250 : 1500;
const pinned = process.platform === "linux" && cpus().length >= 2 && spawnSync("taskset", ["-V"]).status === 0;

async function buildGoPeer() {
  const script = join(root, "interop", "build.mjs");
  const { buildPeers, Unavailable } = await import(script);
  try {
    return (await buildPeers((line) => process.stderr.write(`${line}\n`)))["v5-grpc"];
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    process.stderr.write(`go-micro is left out: ${error.message}\n`);
    return undefined;
  }
}

async function askGoClient(name, command, address, { workload, inFlight, ms: time }) {
  const scenario = workload === "stream" ? "count" : workload;
  const flags = [
    "-address",
    address,
    "-scenario",
    scenario,
    "-in-flight",
    inFlight,
    "-time",
    `${time}ms`,
    "-warm",
    "200ms",
  ];
  const client = start([goPeer, [...command, ...flags.map(String)]], 1);
  const { perSecond, p50, p99, ok, calls, every, cpuMs } = await client.next();
  if (!ok) process.stderr.write(`${name} failed calls in ${scenario}@${inFlight}\n`);
  const size = scenario === "count" ? 1000 : 1;
  return { perSecond: perSecond * size, p50, p99, units: every * size, clientCpuUs: (cpuMs * 1000) / (calls * size) };
}

/** CPU time a process has used so far, in microseconds, to a hundredth of a second; undefined where it cannot be read. */
function cpuTimeUs(pid) {
  try {
    // User and system time in ticks; the name before them may contain anything, even brackets.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10_000;
  } catch {
    return undefined;
  }
}

/** A child whose standard output is read line by line as JSON; lines that are none are ignored. */
function start([command, args], core) {
  const [file, list] = pinned ? ["taskset", ["-c", String(core), command, ...args]] : [command, args];
  const child = spawn(file, list, { stdio: ["pipe", "pipe", "pipe"], env: { ...tools.env, HOME: process.env.HOME } });
  let log = "";
  child.stderr.on("data", (chunk) => (log = (log + chunk).slice(-4000)));
  const waiting = [];
  createInterface({ input: child.stdout }).on("line", (line) => {
    // The Go peers put a record separator before what is theirs: go-micro logs to standard output as well.
    const text = line.replace("\u001e", "");
    if (text.startsWith("{")) waiting.shift()?.resolve(JSON.parse(text));
  });
  child.on("exit", (code) => {
    for (const { reject } of waiting.splice(0))
      reject(new Error(`${args.join(" ")} ended with exit code ${code}\n${log}`));
  });
  const next = () =>
    new Promise((resolve, reject) => {
      if (child.exitCode !== null) return reject(new Error(`${args.join(" ")} has ended\n${log}`));
      const timer = setTimeout(() => reject(new Error(`${args.join(" ")} said nothing for 60 s\n${log}`)), 60_000);
      const settled = (settle) => (value) => (clearTimeout(timer), settle(value));
      return waiting.push({ resolve: settled(resolve), reject: settled(reject) });
    });
  return {
    child,
    next,
    ask(request) {
      const answer = next();
      child.stdin.write(`${JSON.stringify(request)}\n`);
      return answer;
    },
  };
}

const running = [];
process.on("exit", () => running.forEach(({ child }) => child.kill("SIGKILL")));
for (const target of targets) {
  const server = start(target.server, 0);
  running.push(server);
  target.pid = server.child.pid;
  const { address } = await server.next();
  if (target.client === undefined) {
    const ask = target.ask;
    target.ask = (request) => ask(address, request);
    continue;
  }
  const client = start(target.client(address), 1);
  running.push(client);
  target.ask = client.ask;
  for (const workload of target.workloads) await target.ask({ workload, inFlight: 16, ms: 700 });
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const samples = new Map();
for (let round = 0; round < rounds; round++) {
  for (const workload of ["hello", "echo", "stream"]) {
    for (const inFlight of inFlights) {
      // Who comes first differs from round to round: what comes next may profit from it.
      for (const target of round % 2 === 0 ? targets : targets.toReversed()) {
        if (!target.workloads.includes(workload) || !wanted.includes(`${workload}@${inFlight}`)) continue;
        const before = cpuTimeUs(target.pid);
        const result = await target.ask({ workload, inFlight, ms });
        result.serverCpuUs = before === undefined ? Number.NaN : (cpuTimeUs(target.pid) - before) / result.units;
        const key = `${workload}@${inFlight} ${target.name}`;
        samples.set(key, [...(samples.get(key) ?? []), result]);
      }
    }
  }
  process.stderr.write(`round ${round + 1} of ${rounds}\n`);
}

const results = {};
for (const [key, list] of samples) {
  const [cell, name] = key.split(" ");
  const pick = (field) => median(list.map((sample) => sample[field]));
  // What is measured beside its other checkout is compared with itself.
  const own = samples.get(`${cell} ${name.endsWith("-before") ? name.replace(/-before$/, "") : "micro"}`);
  (results[cell] ??= {})[name] = {
    perSecond: Math.round(pick("perSecond")),
    p50Ms: pick("p50"),
    p99Ms: pick("p99"),
    clientCpuUs: pick("clientCpuUs"),
    serverCpuUs: pick("serverCpuUs"),
    // Of neighbours in time: what slows the whole machine for a while does not show in it.
    ratio: own === undefined ? undefined : median(list.map((sample, round) => own[round].perSecond / sample.perSecond)),
  };
}

const lines = [];
const unit = {
  hello: "unary greeter, calls/s",
  echo: "1 KiB echo, calls/s",
  stream: "server stream of 1000, messages/s",
};
for (const workload of ["hello", "echo", "stream"]) {
  lines.push(
    "",
    `### ${unit[workload]} (ratio of @micro/core to it; p50 ms)`,
    "",
    `| | ${inFlights.map((n) => `@${n}`).join(" | ")} |`,
    `|---|${inFlights.map(() => "---|").join("")}`,
  );
  for (const target of targets) {
    if (!target.workloads.includes(workload)) continue;
    const cells = inFlights.map((inFlight) => {
      const result = results[`${workload}@${inFlight}`]?.[target.name];
      // Not one call came to its end in the time.
      if (result === undefined || result.perSecond === 0) return "–";
      const ratio = result.ratio === undefined || target.name === "micro" ? "" : ` (${result.ratio.toFixed(2)}×)`;
      return `${result.perSecond.toLocaleString("en-US")}${ratio}; ${result.p50Ms.toFixed(2)}`;
    });
    lines.push(`| ${target.label} | ${cells.join(" | ")} |`);
  }
}

// What another process on the machine cannot spoil.
lines.push(
  "",
  "### CPU time a call or message, µs, server + client (ratio of it to @micro/core)",
  "",
  `| | ${["hello", "echo", "stream"].flatMap((workload) => inFlights.map((n) => `${workload}@${n}`)).join(" | ")} |`,
  `|---|${"---|".repeat(3 * inFlights.length)}`,
);
const cpuOf = (sample) => (sample === undefined ? Number.NaN : sample.serverCpuUs + sample.clientCpuUs);
for (const target of targets) {
  const cells = ["hello", "echo", "stream"].flatMap((workload) =>
    inFlights.map((inFlight) => {
      const cell = results[`${workload}@${inFlight}`] ?? {};
      const used = cpuOf(cell[target.name]);
      if (!Number.isFinite(used)) return "–";
      const ratio = used / cpuOf(cell.micro);
      return `${used.toFixed(1)}${target.name === "micro" || Number.isNaN(ratio) ? "" : ` (${ratio.toFixed(1)}×)`}`;
    }),
  );
  lines.push(`| ${target.label} | ${cells.join(" | ")} |`);
}

/** What importing a module costs over bare Node: medians of whole processes. */
function importCost() {
  const program = (body) => {
    const { stdout } = spawnSync(
      tools.node,
      [
        "--input-type=module",
        "-e",
        `const from = process.memoryUsage.rss(); const at = performance.now(); ${body}
process.stdout.write(JSON.stringify([performance.now() - at, process.memoryUsage.rss() - from]))`,
      ],
      { env: tools.env, encoding: "utf8" },
    );
    return JSON.parse(stdout);
  };
  const url = pathToFileURL(join(root, "packages", "core", "dist", "index.js")).href;
  const runs = Array.from({ length: 15 }, () => program(`await import(${JSON.stringify(url)});`));
  return { ms: median(runs.map(([time]) => time)), megabytes: median(runs.map(([, bytes]) => bytes)) / 1e6 };
}
const cost = importCost();
lines.push(
  "",
  `importing @micro/core: ${cost.ms.toFixed(1)} ms, ${cost.megabytes.toFixed(1)} MB (medians of 15 processes)`,
);

process.stdout.write(
  `${pinned ? "server pinned to core 0, client to core 1" : "not pinned"}; ${rounds} rounds, interleaved, medians\n${lines.join("\n")}\n`,
);
if (options.json !== undefined)
  writeFileSync(
    options.json,
    `${JSON.stringify({ date: new Date().toISOString(), node: process.version, pinned, rounds, ms, results, importCost: cost }, null, 2)}\n`,
  );
for (const { child } of running) child.kill("SIGTERM");
process.exit(0);
