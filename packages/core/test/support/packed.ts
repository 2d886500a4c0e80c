/** Packed tarballs and empty projects that install them, as a user gets them. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const workspace = fileURLToPath(new URL("../../../..", import.meta.url));

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Run a program to its end; never rejects for its exit code. */
export function execute(
  command: string,
  args: readonly string[],
  cwd: string,
  timeoutMs = 180_000,
  variables: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const options = { cwd, timeout: timeoutMs, maxBuffer: 64 << 20, env: { ...process.env, ...variables } };
  return new Promise((resolve) => {
    execFile(command, [...args], options, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : 1;
      resolve({ code, stdout, stderr });
    });
  });
}

async function must(command: string, args: readonly string[], cwd: string): Promise<string> {
  const { code, stdout, stderr } = await execute(command, args, cwd);
  if (code !== 0)
    throw new Error(`\`${command} ${args.join(" ")}\` ended with exit code ${code}\n${stdout}\n${stderr}`);
  return stdout;
}

/** Pack packages of the workspace (built before) into a folder; tarball paths by package folder name. */
export async function packTarballs(folder: string, packages: readonly string[]): Promise<Map<string, string>> {
  const tarballs = new Map<string, string>();
  for (const name of packages) {
    const destination = join(folder, name);
    await mkdir(destination, { recursive: true });
    await must("pnpm", ["pack", "--pack-destination", destination], join(workspace, "packages", name));
    const [file] = (await readdir(destination)).filter((entry) => entry.endsWith(".tgz"));
    if (file === undefined) throw new Error(`packing ${name} gave no tarball`);
    tarballs.set(name, join(destination, file));
  }
  return tarballs;
}

/** A temporary folder that goes away with `await using`. */
export async function temporaryFolder(prefix: string): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), prefix));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** Make an empty project in `folder` and `npm i` what is given: tarball paths or names with versions. */
export async function npmProject(folder: string, install: readonly string[]): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(
    join(folder, "package.json"),
    JSON.stringify({ name: "app", version: "1.0.0", private: true, type: "module" }),
  );
  await must("npm", ["install", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error", ...install], folder);
}

export async function writeFiles(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  }
}
