// Node 24 and pnpm as npm packages, in a cache outside the checkout. Runs on Node 20 and later with nothing installed.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));

const versions = { node: "24.21.0", pnpm: "12.21.0" };
const windows = process.platform === "win32";

/** Where everything fetched or built on a user's machine goes: never into the checkout. */
export const cacheFolder = join(
  process.env.XDG_CACHE_HOME || (windows ? process.env.LOCALAPPDATA : undefined) || join(homedir(), ".cache"),
  "micro-ts",
);

/** Run a program; resolves with its exit code. Output goes to this process's, or is collected with `quiet`. */
export function run(command, args, options = {}) {
  const { quiet = false, ...rest } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      stdio: quiet ? ["ignore", "pipe", "pipe"] : ["ignore", "inherit", "inherit"],
      shell: windows && /\.(cmd|bat)$/.test(command),
      ...rest,
    });
    let output = "";
    child.stdout?.on("data", (chunk) => (output += chunk));
    child.stderr?.on("data", (chunk) => (output += chunk));
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code: code ?? 1, signal, output }));
  });
}

/** As `run`, but a failure ends the process with the program's output. */
export async function must(what, command, args, options = {}) {
  const { code, output } = await run(command, args, { quiet: true, ...options });
  if (code === 0) return output;
  process.stderr.write(`${output}\n${what} failed: \`${command} ${args.join(" ")}\` ended with exit code ${code}\n`);
  process.exit(1);
}

async function installToolchain(folder) {
  const fresh = `${folder}.${process.pid}`;
  mkdirSync(fresh, { recursive: true });
  const npm = windows ? "npm.cmd" : "npm";
  const packages = Object.entries(versions).map(([name, version]) => `${name}@${version}`);
  process.stderr.write(`fetching ${packages.join(" and ")} into ${cacheFolder}\n`);
  await must("fetching the toolchain", npm, [
    "install",
    "--prefix",
    fresh,
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
    ...packages,
  ]);
  for (const binary of binaries(fresh)) {
    if (existsSync(binary)) continue;
    process.stderr.write(
      `${binary} is missing: npm did not run the install scripts of ${packages.join(" and ")}; allow them and try again\n`,
    );
    process.exit(1);
  }
  try {
    renameSync(fresh, folder);
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true });
    // Another run was faster; its toolchain is the same.
    if (!existsSync(folder)) throw error;
  }
}

function binaries(folder) {
  const modules = join(folder, "node_modules");
  return windows
    ? [join(modules, "node", "bin", "node.exe"), join(modules, ".bin", "pnpm.cmd")]
    : [join(modules, "node", "bin", "node"), join(modules, ".bin", "pnpm")];
}

/** Paths of node and pnpm, and an environment in which both are found first. Fetches them when missing. */
export async function toolchain() {
  const folder = join(cacheFolder, `toolchain-${versions.node}-${versions.pnpm}`);
  if (!existsSync(folder)) await installToolchain(folder);
  const [node, pnpm] = binaries(folder);
  const path = [
    join(folder, "node_modules", "node", "bin"),
    join(folder, "node_modules", ".bin"),
    process.env.PATH,
  ].join(delimiter);
  return { node, pnpm, env: { ...process.env, PATH: path } };
}

/** Install the workspace's dependencies from the lock file and compile all packages. */
export async function installAndBuild({ node, pnpm, env }) {
  await must("installing dependencies", pnpm, ["install", "--frozen-lockfile", "--prefer-offline"], { env });
  await must("building", node, [join(root, "node_modules", "typescript", "bin", "tsc"), "-b"], { env });
  await must("bundling core", node, [join(root, "scripts", "bundle.mjs")], { env });
}
