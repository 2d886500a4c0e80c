/**
 * The interop suite: builds the Go peers where needed and runs the matrix in a network namespace of its own.
 *
 *     node interop/run.mjs [--json FILE] [--only PART-OF-A-NAME] [--generation v2|v4|v5] [--verbose]
 *
 * Exit code 0: passed, or skipped with the reason printed (and in FILE); 1: failed.
 */
import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Unavailable, buildPeers } from "./build.mjs";
import * as servers from "../scripts/servers.mjs";

const file = (name) => fileURLToPath(new URL(name, import.meta.url));
const args = process.argv.slice(2);
const json = args.includes("--json") ? args[args.indexOf("--json") + 1] : undefined;

function finish(result, code) {
  if (json !== undefined) writeFileSync(json, JSON.stringify({ passed: 0, failed: 0, skipped: [], ...result }));
  process.exit(code);
}

function skip(reason) {
  console.log(`interop: skipped: ${reason}`);
  finish({ skipped: [reason] }, 0);
}

if (Number(process.versions.node.split(".")[0]) < 24) {
  console.error("interop: Node 24 is needed to run the sources as they are");
  finish({ failed: 1 }, 1);
}

let peers;
try {
  peers = await buildPeers((line) => console.log(line));
} catch (error) {
  if (error instanceof Unavailable) skip(error.message.split("\n").slice(0, 5).join(" "));
  console.error(error.message);
  finish({ failed: 1 }, 1);
}

// Built out here: in the namespace there is no network.
const found = [];
for (const name of ["etcd", "consul", "nats", "rabbitmq", "kafka-3.9"])
  try {
    await servers.ensureServer(name, (line) => console.log(line));
    found.push("--servers", name);
  } catch (error) {
    if (!(error instanceof servers.Unavailable)) throw error;
    console.log(`interop: scenarios with ${name} are skipped: ${error.message}`);
    found.push("--missing", `${name}: ${error.message.split("\n")[0]}`);
  }

// All traffic of the suite, multicast included, stays between its own processes.
const trial = spawnSync(peers.netns, ["true"], { encoding: "utf8" });
if (trial.status !== 0) skip(`no network namespace can be made: ${trial.stderr.trim()}`);

const { netns, ...binaries } = peers;
const child = spawn(
  netns,
  [
    process.execPath,
    "--disable-warning=ExperimentalWarning",
    "--import",
    file("resolve.mjs"),
    file("matrix.ts"),
    "--peers",
    JSON.stringify(binaries),
    ...found,
    ...args,
  ],
  { stdio: ["ignore", "inherit", "inherit"] },
);
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
child.on("exit", (code) => process.exit(code ?? 1));
