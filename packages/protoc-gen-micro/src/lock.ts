/** The lock: hashes of all inputs and outputs of a run, by which CI knows that generated files are current. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { InputError } from "./options.ts";
import type { GeneratedFile } from "./ts-proto.ts";

/** Text as it is wherever lines end in `\n`. Git may have changed them on its way: that is no change of a file. */
export function plainLines(text: string): string {
  return text.replaceAll("\r\n", "\n");
}

/** Inputs of a run, by their names. */
export interface Inputs {
  readonly options: string;
  readonly files: ReadonlyMap<string, string>;
}

export interface Lock {
  readonly options: string;
  /** Hashes by name. */
  readonly inputs: Readonly<Record<string, string>>;
  readonly outputs: Readonly<Record<string, string>>;
}

/** The lock of an earlier run, or undefined. @throws {InputError} for a file that is none: it would be overwritten */
export async function readLock(path: string): Promise<{ readonly text: string; readonly lock: Lock } | undefined> {
  if (path.endsWith(".proto"))
    throw new InputError(`--lock: ${path} is a .proto file: name a file of its own, as in proto.lock`);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new InputError(`--lock: cannot read ${path}: ${(error as Error).message}`);
  }
  const lock = parseLock(text);
  if (lock === undefined)
    throw new InputError(
      `--lock: ${path} is no lock and would be overwritten: name another file, or remove it if it was one`,
    );
  return { text, lock };
}

function parseLock(text: string): Lock | undefined {
  let value: Partial<Record<keyof Lock, unknown>> | null;
  try {
    value = JSON.parse(text) as typeof value;
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { options, inputs, outputs } = value;
  const isLock = isHash(options) && isHashes(inputs) && isHashes(outputs) && Object.keys(value).length === 3;
  return isLock ? (value as Lock) : undefined;
}

function isHash(value: unknown): boolean {
  return typeof value === "string" && /^[\da-f]{64}$/.test(value);
}

function isHashes(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.values(value).every(isHash);
}

export function lockText(files: readonly GeneratedFile[], { options, files: inputs }: Inputs): string {
  const lock: Lock = {
    options: hash(options),
    inputs: sorted(inputs),
    outputs: sorted(files.map(({ name, content }) => [name, content] as const)),
  };
  return `${JSON.stringify(lock, undefined, 2)}\n`;
}

function sorted(entries: Iterable<readonly [string, string]>): Record<string, string> {
  return Object.fromEntries(
    [...entries].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([name, text]) => [name, hash(text)]),
  );
}

const hash = (text: string): string => createHash("sha256").update(plainLines(text)).digest("hex");
