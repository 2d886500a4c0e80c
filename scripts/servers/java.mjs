/** What runs Java servers: a Java of this machine, and jars from Maven Central. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { basename, delimiter, join } from "node:path";
import { aptInstall, canInstall } from "./debian.mjs";
import { Unavailable, help, serversFolder, takeLock } from "./shared.mjs";

const oldestJava = 17;
const windows = process.platform === "win32";

/** Java 17 or later; as root on Debian it is installed. @throws {Unavailable} */
export async function ensureJava(log, variable) {
  const found = findJava();
  if (found !== undefined) return found;
  if (canInstall()) await aptInstall(["openjdk-17-jre-headless", "openjdk-21-jre-headless"], log);
  const java = findJava();
  if (java !== undefined) return java;
  const install = "apt-get install openjdk-17-jre-headless, or set JAVA_HOME";
  throw new Unavailable(`Java ${oldestJava} or later is missing (${install}); or ${help(variable)}`);
}

function findJava() {
  const virtualMachines = existsSync("/usr/lib/jvm") ? readdirSync("/usr/lib/jvm") : [];
  const folders = [
    ...(process.env.JAVA_HOME ? [join(process.env.JAVA_HOME, "bin")] : []),
    ...(process.env.PATH ?? "").split(delimiter),
    ...virtualMachines.map((name) => join("/usr/lib/jvm", name, "bin")),
  ];
  const places = folders.map((folder) => join(folder, windows ? "java.exe" : "java"));
  return places.find((place) => existsSync(place) && statSync(place).isFile() && javaVersion(place) >= oldestJava);
}

function javaVersion(java) {
  const { stderr } = spawnSync(java, ["-version"], { encoding: "utf8" });
  return Number(/version "(\d+)/.exec(stderr ?? "")?.[1] ?? 0);
}

/**
 * Folder of the jars that `<name>-<version>.json` lists with their SHA-256, fetched if it is not in the cache.
 * @throws {Unavailable}
 */
export async function ensureJars(name, version, variable, log) {
  const list = readFileSync(new URL(`./${name}-${version}.json`, import.meta.url), "utf8");
  /** @type {readonly (readonly [string, string])[]} */
  const jars = Object.entries(JSON.parse(list));
  const label = `${name}-${version}-${createHash("sha256").update(list).digest("hex").slice(0, 8)}`;
  const folder = join(serversFolder, label);
  if (existsSync(folder)) return folder;
  const started = Date.now();
  const unlock = await takeLock(label);
  try {
    if (existsSync(folder)) return folder;
    const base = mavenCentral();
    log(`fetching ${name} ${version} into ${folder} (${jars.length} jars, once)`);
    const work = mkdtempSync(join(serversFolder, "fetching-"));
    try {
      const waiting = [...jars];
      const worker = async () => {
        for (let jar = waiting.shift(); jar !== undefined; jar = waiting.shift())
          writeFileSync(join(work, basename(jar[0])), await fetchJar(`${base}/${jar[0]}`, jar[1]));
      };
      await Promise.all(Array.from({ length: 4 }, worker));
      renameSync(work, folder);
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      throw new Unavailable(`${name} ${version}: ${error.message}; ${help(variable)}`);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  } finally {
    unlock();
  }
  log(`fetched ${name} ${version} in ${Math.round((Date.now() - started) / 1000)} s`);
  return folder;
}

async function fetchJar(url, sha256) {
  for (let attempt = 1; ; attempt++) {
    const problem = await fetchOnce(url).catch((error) => error);
    if (problem instanceof Error) {
      if (attempt < 3) continue;
      throw new Unavailable(`${url}: ${problem.cause?.message ?? problem.message}`);
    }
    const found = createHash("sha256").update(problem).digest("hex");
    if (found !== sha256) throw new Unavailable(`${url} has the SHA-256 ${found} instead of ${sha256}`);
    return problem;
  }
}

async function fetchOnce(url) {
  const response = await fetch(url, { signal: AbortSignal.timeout(120_000) });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return Buffer.from(await response.arrayBuffer());
}

/** Where Maven Central is for this user: `MICRO_MAVEN_CENTRAL`, a mirror in Maven's own settings, or the original. */
function mavenCentral() {
  const configured = process.env.MICRO_MAVEN_CENTRAL || mirrorInSettings() || "https://repo1.maven.org/maven2";
  return configured.replace(/\/+$/, "");
}

function mirrorInSettings() {
  const file = join(homedir(), ".m2", "settings.xml");
  if (!existsSync(file)) return undefined;
  const settings = readFileSync(file, "utf8").replace(/<!--[^]*?-->/g, "");
  for (const [, mirror] of settings.matchAll(/<mirror>([^]*?)<\/mirror>/g)) {
    const value = (tag) => new RegExp(`<${tag}>\\s*([^<]*?)\\s*</${tag}>`).exec(mirror)?.[1];
    const names = (value("mirrorOf") ?? "").split(",").map((name) => name.trim());
    const central = names.some((name) => ["central", "*", "external:*"].includes(name)) && !names.includes("!central");
    if (central && value("blocked") !== "true") return value("url");
  }
  return undefined;
}
