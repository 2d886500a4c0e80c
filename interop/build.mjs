/**
 * Builds the Go peers into a cache outside the checkout, when Go is there and something changed.
 *
 *     node interop/build.mjs        exit code 0: built or up to date; 1: does not compile; 3: cannot be had here
 *
 * Each peer is its own Go module (`go/v2`, `go/v4`, `go/v5`), for the three generations cannot share one; what they
 * share is `go/peer`, which is put beside each module before it is built.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { homedir } from "node:os";
import { delimiter, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { networkFailed, withDownloads } from "../scripts/servers/shared.mjs";

const sources = fileURLToPath(new URL("./go/", import.meta.url));
export const generations = ["v2", "v4", "v5"];
/** How many builds stay in the cache beside the newest. */
const keptBuilds = 2;

/** The peers cannot be had on this machine: not a defect of the project. */
export class Unavailable extends Error {}

/** Where Go usually is, when it is not in the path. */
function findGo() {
  const places = [
    process.env.GO,
    ...(process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, "go")),
    "/usr/local/go/bin/go",
    "/usr/lib/go/bin/go",
  ];
  for (const place of places) {
    if (!place || !existsSync(place) || !statSync(place).isFile()) continue;
    const version = spawnSync(place, ["version"], { encoding: "utf8", env: { ...process.env, GOTOOLCHAIN: "local" } });
    const match = /go(\d+)\.(\d+)/.exec(version.stdout ?? "");
    if (match === null) continue;
    if (Number(match[1]) === 1 && Number(match[2]) < 24)
      throw new Unavailable(`Go 1.24 or newer is needed for the peers, ${place} is ${match[0]}`);
    return { go: place, version: version.stdout.trim() };
  }
  throw new Unavailable("Go is not installed (looked in PATH and /usr/local/go); https://go.dev/dl has it");
}

function filesBelow(directory) {
  return readdirSync(directory, { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(directory, entry.name);
      return entry.isDirectory() ? filesBelow(path) : [path];
    })
    .toSorted();
}

function cacheDirectory() {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "micro-ts", "go-peers");
}

function run(command, parameters, options) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, parameters, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const note = (chunk) => {
      output = (output + chunk).slice(-20_000);
    };
    child.stdout.on("data", note);
    child.stderr.on("data", note);
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
}

/**
 * Build what is not built yet.
 * @returns paths of the binaries: `v2`, `v4`, `v5`, `v5-grpc` (for the benchmark), `micro` (the official command, v2.9.3), and `netns` (a program in a network namespace of its own)
 * @throws {Unavailable} where they cannot be had; any other error is a defect
 */
export async function buildPeers(log = () => {}) {
  if (process.platform !== "linux") throw new Unavailable("the peers run in a network namespace, which needs Linux");
  const { go, version } = findGo();
  const hash = createHash("sha256")
    .update(version)
    .update(readFileSync(fileURLToPath(import.meta.url)));
  for (const file of filesBelow(sources)) hash.update(`\0${relative(sources, file)}\0`).update(readFileSync(file));
  const cache = cacheDirectory();
  const target = join(cache, hash.digest("hex").slice(0, 16));
  // v5's gRPC client and server replace grpc-go's codec and with it break the etcd registry of the same program: what
  // the benchmark needs of them is a program of its own.
  const names = [...generations, "v5-grpc", "micro", "netns"];
  const binaries = Object.fromEntries(names.map((name) => [name, join(target, name)]));
  if (Object.values(binaries).every((binary) => existsSync(binary))) {
    log(`go peers: up to date in ${target}`);
    return binaries;
  }

  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, "building-"));
  try {
    mkdirSync(join(work, "out"));
    for (const name of names) {
      const started = Date.now();
      const module = join(work, name);
      cpSync(join(sources, name.replace("-grpc", "")), module, { recursive: true });
      const isPeer = name !== "netns" && name !== "micro";
      if (isPeer) cpSync(join(sources, "peer"), join(module, "peer"), { recursive: true });
      log(`go peers: building ${name} (${version.split(" ")[2]})`);
      const parameters = [
        "build",
        "-trimpath",
        "-buildvcs=false",
        // Only this generation's modules have what the benchmark's gRPC peers need.
        ...(name === "v5-grpc" ? ["-tags", "grpcbench"] : []),
        "-o",
        join(work, "out", name),
        isPeer ? "./peer" : ".",
      ];
      // A workspace or flags of the user's would change what is built.
      const env = { ...process.env, GOFLAGS: "", GOWORK: "off", CGO_ENABLED: "0" };
      const built = await withDownloads(() => run(go, parameters, { cwd: module, env }));
      if (built.code !== 0) {
        const message = `building the ${name} peer failed:\n${built.output}`;
        const notHere = networkFailed(built) || built.output.includes("no space left");
        throw notHere ? new Unavailable(message) : new Error(message);
      }
      log(`go peers: ${name} built in ${((Date.now() - started) / 1000).toFixed(1)} s`);
    }
    if (existsSync(target)) rmSync(target, { recursive: true });
    renameSync(join(work, "out"), target);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  prune(cache, target);
  return binaries;
}

/** Old builds are some hundred megabytes in all. */
function prune(cache, newest) {
  const builds = readdirSync(cache)
    .map((name) => join(cache, name))
    .filter((path) => path !== newest && /[/\\][0-9a-f]{16}$/.test(path))
    .toSorted((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  for (const build of builds.slice(keptBuilds)) rmSync(build, { recursive: true, force: true });
  for (const name of readdirSync(cache)) {
    const leftover = join(cache, name);
    if (name.startsWith("building-") && Date.now() - statSync(leftover).mtimeMs > 86_400_000)
      rmSync(leftover, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const binaries = await buildPeers((line) => console.log(line));
    for (const [name, path] of Object.entries(binaries)) console.log(`${name}\t${path}`);
  } catch (error) {
    console.error(error.message);
    process.exitCode = error instanceof Unavailable ? 3 : 1;
  }
}
