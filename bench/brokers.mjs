// node bench/brokers.mjs [--json FILE] [--quick] [--rounds N] [NAME…]: what publishing and consuming costs through a broker of
// ours and through the bare driver (or another peer) doing the same on the same server, in one run. Needs the built packages.
//
// NAME is a file of bench/brokers/ (http, nats, kafka, rabbitmq…; default: all), which exports
//
//   label             what the table is called
//   start()           the backend, made once in this process: resolves with { address, stop() }; `address` may be any JSON
//                     value and is what both processes are given. Throw an Error with `unavailable = true` if it cannot be had.
//   sides             by name, ours first: { "@micro/broker-x": side, "bare x": side }, or a function of (leftOut) that resolves
//                     with them and says with leftOut(text) which cannot be had; each side has
//     publisher(address, link)        resolves with { publish(topic, body), close() }; `body` is a Buffer that is not used
//                                     again; the promise of `publish` settles when the next message may be sent in its place
//     consumer(address)               resolves with { subscribe(topic, handle), close() }; `subscribe` resolves once every
//                                     later message is received, with the `link` the publisher is made with, if peers find
//                                     each other without a server; `handle(body)` returns at once, and then the message
//                                     counts as handled and is to be acknowledged, if the peer does such things
//     command(role, address)          instead of the two: [program, arguments] that speaks the protocol of brokers/peer.mjs on
//                                     its standard streams; `role` is "consumer" or "publisher"
//     inFlight                        optional: for this side alone
//   inFlight          optional: publishes under way at once when throughput is measured. Default: 64
//
// Bodies begin with the time of their publish: nanoseconds on the monotonic clock all processes share, a little-endian double.
// Publisher and consumer are processes of their own, pinned to a core each; all sides written in JavaScript share one pair. A
// server runs wherever the system puts it. Rounds are interleaved; medians are printed.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: "boolean", default: false },
    json: { type: "string" },
    rounds: { type: "string" },
  },
});
const directory = new URL("./brokers/", import.meta.url);
const helpers = new Set(["peer.mjs"]);
const names =
  positionals.length > 0
    ? positionals
    : readdirSync(directory)
        .filter((file) => file.endsWith(".mjs") && !helpers.has(file))
        .map((file) => file.slice(0, -4))
        .toSorted();
const rounds = Number(options.rounds ?? (options.quick ? 3 : 7));
const sizes = [100, 1024];
const throughputMs = options.quick ? 300 : 1_000;
const latencyMessages = options.quick ? 200 : 1_000;
const latencyTurns = 5;
const pinned = process.platform === "linux" && cpus().length >= 2 && spawnSync("taskset", ["-V"]).status === 0;

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

/** A child that answers one line of JSON with one line of JSON, in order. */
function open([command, args], core) {
  const [file, list] = pinned ? ["taskset", ["-c", String(core), command, ...args]] : [command, args];
  const child = spawn(file, list, { stdio: ["pipe", "pipe", "pipe"] });
  let log = "";
  child.stderr.on("data", (chunk) => (log = (log + chunk).slice(-4_000)));
  child.stdin.on("error", () => {});
  const waiting = [];
  createInterface({ input: child.stdout }).on("line", (line) => {
    const text = line.replace("\u001e", "");
    if (text.startsWith("{")) waiting.shift()?.resolve(JSON.parse(text));
  });
  const ended = once(child, "exit");
  child.on("exit", (code) => {
    for (const { reject } of waiting.splice(0))
      reject(new Error(`${args.join(" ")} ended with exit code ${code}\n${log}`));
  });
  return {
    child,
    ask(request) {
      return new Promise((resolve, reject) => {
        if (child.exitCode !== null) return reject(new Error(`${args.join(" ")} has ended\n${log}`));
        const timer = setTimeout(
          () => reject(new Error(`${args.join(" ")}: no answer within 60 s to ${JSON.stringify(request)}\n${log}`)),
          60_000,
        );
        waiting.push({
          resolve: (value) => {
            clearTimeout(timer);
            if (value.error === undefined) resolve(value);
            else reject(new Error(`${args.join(" ")}: ${value.error}`));
          },
          reject: (error) => (clearTimeout(timer), reject(error)),
        });
        child.stdin.write(`${JSON.stringify(request)}\n`);
      });
    },
    async close() {
      child.stdin.end();
      const timer = setTimeout(() => child.kill("SIGKILL"), 5_000);
      await ended;
      clearTimeout(timer);
    },
  };
}

const children = new Set();
process.on("exit", () => children.forEach(({ child }) => child.kill("SIGKILL")));

/** One side of a target: a consumer, a publisher, and what one needs to know of the other. */
async function openSide(name, side, pair, address, inFlight) {
  let { consumer, publisher } = pair;
  if (side.command !== undefined) {
    consumer = open(side.command("consumer", address), 0);
    publisher = open(side.command("publisher", address), 1);
    children.add(consumer).add(publisher);
  }
  const topic = `bench-${process.pid}-${Math.random().toString(36).slice(2, 8)}`;
  const { link } = await consumer.ask({ do: "subscribe", side: name, topic });
  const publish = (request) => publisher.ask({ do: "publish", side: name, topic, link, ...request });
  const collect = async (count, request) => {
    await consumer.ask({ do: "expect", side: name, topic, count });
    const sent = await publish({ count, ...request });
    return { sent, got: await consumer.ask({ do: "collect", side: name, topic }) };
  };
  return {
    own: side.command === undefined ? [] : [consumer, publisher],
    /** Messages a second, from the first publish to the last message handled. */
    async throughput(size, count) {
      const { sent, got } = await collect(count, { size, inFlight });
      return {
        perSecond: count / ((got.endNs - sent.startNs) / 1e9),
        publisherCpuUs: sent.cpuUs / count,
        consumerCpuUs: got.cpuUs / count,
      };
    },
    /** From before a publish to its handler, one message at a time. */
    async latency(size, count) {
      const { got } = await collect(count, { size, inFlight: 1, pauseMs: 0.2 });
      return { p50Ms: got.p50Ns / 1e6, p99Ms: got.p99Ns / 1e6 };
    },
  };
}

const peer = fileURLToPath(new URL("peer.mjs", directory));
const report = {};
for (const name of names) {
  const target = await import(new URL(`${name}.mjs`, directory).href);
  let backend;
  try {
    backend = await target.start();
  } catch (error) {
    if (error.unavailable !== true) throw error;
    process.stderr.write(`${name} is left out: ${error.message}\n`);
    continue;
  }
  const program = (role) => [process.execPath, [peer, role, name, JSON.stringify(backend.address ?? null)]];
  const pair = { consumer: open(program("consumer"), 0), publisher: open(program("publisher"), 1) };
  children.add(pair.consumer).add(pair.publisher);
  const sides = new Map();
  const started = [];
  try {
    const left = [];
    const available = typeof target.sides === "function" ? await target.sides((line) => left.push(line)) : target.sides;
    for (const line of left) process.stderr.write(`${name}: ${line}\n`);
    for (const [side, implementation] of Object.entries(available)) {
      const opened = await openSide(
        side,
        implementation,
        pair,
        backend.address ?? null,
        implementation.inFlight ?? target.inFlight ?? 64,
      );
      started.push(...opened.own);
      sides.set(side, opened);
    }
    // How many messages fill the time, found while warming up.
    const counts = new Map();
    for (const [side, { throughput }] of sides)
      for (const size of sizes) {
        let count = 64;
        for (let warming = 0; warming < 3; warming++) {
          const { perSecond } = await throughput(size, count);
          count = Math.min(200_000, Math.max(64, Math.round((perSecond * throughputMs) / 1e3)));
        }
        counts.set(`${side} ${size}`, count);
      }
    const samples = new Map();
    const note = (key, sample) => samples.set(key, [...(samples.get(key) ?? []), sample]);
    const measure = async (size) => {
      const sample = new Map();
      for (const [side, { throughput }] of sides)
        sample.set(side, { ...(await throughput(size, counts.get(`${side} ${size}`))), latencies: [] });
      // Short turns: where the system puts the server decides more than who asks it, and changes now and then.
      for (let turn = 0; turn < latencyTurns; turn++)
        for (const [side, { latency }] of sides)
          sample.get(side).latencies.push(await latency(size, latencyMessages / latencyTurns));
      for (const [side, { latencies, ...rest }] of sample) {
        const pick = (field) => median(latencies.map((turn) => turn[field]));
        note(`${side} ${size}`, { ...rest, p50Ms: pick("p50Ms"), p99Ms: pick("p99Ms") });
      }
    };
    for (let round = 0; round < rounds; round++) {
      for (const size of sizes) await measure(size);
      process.stderr.write(`${name}: round ${round + 1} of ${rounds}\n`);
    }
    report[name] = summarise(target.label ?? name, [...sides.keys()], samples);
  } finally {
    for (const child of [pair.consumer, pair.publisher, ...started]) {
      await child.close();
      children.delete(child);
    }
    await backend.stop?.();
  }
}

function summarise(label, sides, samples) {
  const results = {};
  const lines = [
    `### ${label}`,
    "",
    `| | ${sizes.map((size) => `${size} bytes, messages/s | p50 ms | CPU µs, publisher + consumer`).join(" | ")} |`,
    `|---|${sizes.map(() => "---|---|---|").join("")}`,
  ];
  for (const side of sides) {
    const cells = sizes.map((size) => {
      const pick = (of, field) => median(samples.get(`${of} ${size}`).map((sample) => sample[field]));
      const fields = ["perSecond", "p50Ms", "p99Ms", "publisherCpuUs", "consumerCpuUs"];
      const own = Object.fromEntries(fields.map((field) => [field, pick(side, field)]));
      (results[side] ??= {})[size] = own;
      // Of the rounds' ratios, not of the medians: neighbours in time suffered the same neighbours on the machine.
      const ratio = (field) =>
        median(
          samples.get(`${sides[0]} ${size}`).map((each, at) => each[field] / samples.get(`${side} ${size}`)[at][field]),
        );
      const times = side === sides[0] ? "" : ` (${ratio("perSecond").toFixed(2)}×)`;
      const later = side === sides[0] ? "" : ` (${ratio("p50Ms").toFixed(2)}×)`;
      return `${Math.round(own.perSecond).toLocaleString("en-US")}${times} | ${own.p50Ms.toFixed(3)}${later} | ${own.publisherCpuUs.toFixed(1)} + ${own.consumerCpuUs.toFixed(1)}`;
    });
    lines.push(`| ${side} | ${cells.join(" | ")} |`);
  }
  process.stdout.write(`${lines.join("\n")}\n\n`);
  return results;
}

process.stdout.write(
  `${pinned ? "consumers pinned to core 0, publishers to core 1" : "not pinned"}; ${rounds} rounds, interleaved, medians; in brackets ours to it\n`,
);
if (options.json !== undefined)
  writeFileSync(
    options.json,
    `${JSON.stringify({ date: new Date().toISOString(), node: process.version, pinned, rounds, results: report }, null, 2)}\n`,
  );
process.exit(0);
