/** The generator as users run it: in this process for most tests, as a program where the process is the point. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runCommand } from "../../src/command.ts";

export const protos = fileURLToPath(new URL("../protos/", import.meta.url));
export const generated = fileURLToPath(new URL("../gen/", import.meta.url));
export const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
export const workspace = fileURLToPath(new URL("../../../../", import.meta.url));

export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly errors: string;
}

/** Run the command in this process. */
export async function command(...args: string[]): Promise<Ended> {
  const out: string[] = [];
  const errors: string[] = [];
  const code = await runCommand(args, { out: (line) => void out.push(line), error: (line) => void errors.push(line) });
  return { code, out: out.join("\n"), errors: errors.join("\n") };
}

/** Run a program to its end; never rejects for its exit code. */
export function execute(program: string, args: readonly string[], cwd: string): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(program, [...args], { cwd, maxBuffer: 64 << 20 }, (error, out, errors) => {
      resolve({ code: error === null ? 0 : typeof error.code === "number" ? error.code : 1, out, errors });
    });
  });
}

/** A folder with files in it that goes away with `await using`. */
export async function folder(
  files: Readonly<Record<string, string>> = {},
): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), "micro-generator-"));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(path, name)), { recursive: true });
    await writeFile(join(path, name), text);
  }
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** All files below a folder, by name. */
export async function filesBelow(path: string): Promise<Record<string, string>> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => []);
  const names = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted();
  return Object.fromEntries(
    await Promise.all(
      names.map(async (name) => [name.slice(path.length).replace(/^[/\\]/, ""), await readFile(name, "utf8")] as const),
    ),
  );
}

/** buf, which comes with the generator. */
export function bufProgram(): string {
  const names: Readonly<Record<string, string>> = { arm64: "aarch64", arm: "armv7" };
  const architecture = process.platform === "linux" ? (names[process.arch] ?? process.arch) : process.arch;
  return createRequire(import.meta.url).resolve(
    `@bufbuild/buf-${process.platform}-${architecture}/bin/buf${process.platform === "win32" ? ".exe" : ""}`,
  );
}
