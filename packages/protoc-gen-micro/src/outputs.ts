/** What the command leaves in the output folder: files, no older ones, a lock. Nothing that was not generated is touched. */
import { lstat, readFile, realpath } from "node:fs/promises";
import { dirname, isAbsolute, join, relative, resolve } from "node:path";
import { lockText, plainLines, readLock, type Inputs } from "./lock.ts";
import { InputError } from "./options.ts";
import { isGenerated, staleFiles, type Sources } from "./stale.ts";
import type { GeneratedFile } from "./ts-proto.ts";
import { applyChanges, type Change } from "./writing.ts";

export interface OutputOptions {
  readonly folder: string;
  /** Write nothing. */
  readonly check: boolean;
  /** Remove what was generated earlier and is not any more: see {@link staleFiles}. */
  readonly clean: boolean;
  /** Where the hashes of all inputs and outputs are kept. */
  readonly lock: string | undefined;
}

export interface Outputs {
  readonly files: readonly GeneratedFile[];
  /** Names of files that belong to the same inputs, and that this run was asked to leave to another. */
  readonly others: readonly string[];
  readonly inputs: Inputs;
  readonly sources: Sources;
}

/**
 * Write what differs; all of it or nothing.
 * @returns the paths of what did
 * @throws {InputError} before anything is written, for a path that is not ours to write
 */
export async function writeOutputs(outputs: Outputs, { folder, check, clean, lock }: OutputOptions): Promise<string[]> {
  const { files, inputs, sources } = outputs;
  const changes: Change[] = [];
  const refused: string[] = [];
  await refuseFile(folder);
  for (const { name, content } of files) {
    const path = join(folder, name);
    const there = await outputAt(folder, path);
    if (typeof there === "object") refused.push(there.refused);
    else if (!isSame(there, content)) changes.push({ path, content });
  }
  const earlier = lock === undefined ? undefined : await readLock(lock);
  if (lock !== undefined && files.some(({ name }) => resolve(folder, name) === resolve(lock)))
    refused.push(`--lock: ${lock} is one of the generated files`);
  if (refused.length > 0) throw new InputError(refused.join("\n"));
  if (clean) {
    const kept = new Set([...files.map(({ name }) => name), ...outputs.others]);
    const written = lock === undefined ? undefined : new Set(Object.keys(earlier?.lock.outputs ?? {}));
    for (const name of await staleFiles(folder, sources, written))
      if (!kept.has(name)) changes.push({ path: join(folder, name), content: undefined });
  }
  if (lock !== undefined) {
    const content = lockText(files, inputs);
    if (!isSame(earlier?.text, content)) changes.push({ path: lock, content });
  }
  if (!check) await applyChanges(changes);
  return changes.map(({ path }) => path);
}

function isSame(there: string | undefined, content: string): boolean {
  return there !== undefined && plainLines(there) === plainLines(content);
}

/** The text of an earlier output, undefined for none, or why nothing may be written there. */
async function outputAt(folder: string, path: string): Promise<string | undefined | { readonly refused: string }> {
  const outside = await leavesFolder(folder, path);
  if (outside !== undefined) return { refused: outside };
  const entry = await lstat(path).catch(() => undefined);
  if (entry === undefined) return undefined;
  if (entry.isSymbolicLink())
    return { refused: `${path} is a symbolic link: remove it, or write elsewhere with --out` };
  if (!entry.isFile()) return { refused: `${path} is no file: remove it, or write elsewhere with --out` };
  const text = await readFile(path, "utf8");
  // What is empty is nobody's work.
  if (text.trim() === "" || isGenerated(text)) return text;
  return {
    refused: `${path} was not generated and would be overwritten: move it, or write elsewhere with --out, --message-suffix or --output-suffix`,
  };
}

/** A link inside of the output folder may lead anywhere. @returns what is wrong with it */
async function leavesFolder(folder: string, path: string): Promise<string | undefined> {
  const root = await realpath(folder).catch(() => undefined);
  if (root === undefined) return undefined;
  // What is not there yet is made, and no link.
  for (let parent = dirname(resolve(path)); isBelow(parent, resolve(folder)); parent = dirname(parent)) {
    if ((await lstat(parent).catch(() => undefined)) === undefined) continue;
    const real = await realpath(parent).catch(() => undefined);
    if (real === undefined || (real !== root && !isBelow(real, root)))
      return `${path} is outside of ${folder}, because ${relative(process.cwd(), parent)} is a link: remove it, or write elsewhere with --out`;
    return undefined;
  }
  return undefined;
}

async function refuseFile(folder: string): Promise<void> {
  const entry = await lstat(await realpath(folder).catch(() => folder)).catch(() => undefined);
  if (entry !== undefined && !entry.isDirectory()) throw new InputError(`--out: ${folder} is no folder`);
}

function isBelow(path: string, folder: string): boolean {
  const below = relative(folder, path);
  return below !== "" && !isAbsolute(below) && below.split(/[/\\]/, 1)[0] !== "..";
}
