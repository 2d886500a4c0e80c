/** The compiler: buf's, which comes as an npm package, or a protoc of the user's. */
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, type FileDescriptorSet } from "@bufbuild/protobuf/wkt";
import { existsSync, readdirSync, statSync, type Stats } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, isAbsolute, join, normalize, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { importsOf } from "./imports.ts";
import { InputError } from "./options.ts";
import { isPrintable } from "./printable.ts";
import { runProgram } from "./program.ts";

/** Files that may be imported without being there: `google/api/annotations.proto`. */
const bundledProtos = fileURLToPath(new URL("../protos/", import.meta.url));

/** npm packages with buf's program, by Node's platform and architecture. */
const packages = new Map([
  ["darwin arm64", "@bufbuild/buf-darwin-arm64/bin/buf"],
  ["darwin x64", "@bufbuild/buf-darwin-x64/bin/buf"],
  ["linux arm64", "@bufbuild/buf-linux-aarch64/bin/buf"],
  ["linux arm", "@bufbuild/buf-linux-armv7/bin/buf"],
  ["linux x64", "@bufbuild/buf-linux-x64/bin/buf"],
  ["win32 arm64", "@bufbuild/buf-win32-arm64/bin/buf.exe"],
  ["win32 x64", "@bufbuild/buf-win32-x64/bin/buf.exe"],
]);

export interface CompileOptions {
  /** Paths of .proto files, or their names below one of the folders; a folder stands for every .proto file in it and below. */
  readonly files: readonly string[];
  /** Folders in which imports are looked for, in order. None: this one, or a file's own if it is elsewhere. */
  readonly protoPaths: readonly string[];
  /** A protoc to use instead of the bundled compiler. */
  readonly protoc?: string | undefined;
}

export interface Compiled {
  readonly set: FileDescriptorSet;
  /** Names of the files that were asked for. */
  readonly names: readonly string[];
  /** True for the name of a file that is in one of the folders, or comes with the command. */
  readonly exists: (name: string) => boolean;
  /** Paths of all files that were read, by their names, as far as they are known. */
  readonly paths: ReadonlyMap<string, string>;
  /** What the compiler says although it succeeds. */
  readonly warnings: readonly string[];
}

/** Compile .proto files with all they import. @throws {InputError} with the compiler's messages, file and line in each */
export async function compile({ files, protoPaths, protoc }: CompileOptions): Promise<Compiled> {
  for (const folder of protoPaths)
    if (statOf(folder)?.isDirectory() !== true)
      throw new InputError(
        existsSync(folder)
          ? `${folder} (--proto-path) is no folder: name the one that the file is in`
          : `the folder ${folder} (--proto-path) does not exist`,
      );
  const found = findFiles(files, protoPaths);
  const folders = [...protoPaths, ...found.map(({ folder }) => folder)].filter(
    (folder, index, all) => all.findIndex((other) => resolve(other) === resolve(folder)) === index,
  );
  await using scratch = await temporaryFolder();
  for (const { path, name } of found) {
    const first = folders.find((folder) => isFile(join(folder, name)));
    if (first !== undefined && resolve(first, name) !== resolve(path))
      throw new InputError(
        `${path}: ${normalize(join(first, name))} comes before it, as the first of that name in the folders of --proto-path; change their order`,
      );
  }
  const output = join(scratch.path, "set.binpb");
  const bundled = await stageBundledProtos(join(scratch.path, "bundled"), folders);
  const flags = ["--include_imports", "--include_source_info", `--descriptor_set_out=${output}`];
  const { code, stderr } =
    protoc === undefined
      ? await runBuf(scratch.path, [...folders, bundled], flags, found)
      : await run(
          protoc,
          [
            ...[...folders, bundled].flatMap((folder) => ["-I", folder]),
            ...flags,
            ...found.map(({ path }) => plainArgument(path)),
          ],
          process.cwd(),
        );
  if (code !== 0) throw new InputError(stderr || `the compiler ended with exit code ${code}`);
  const set = await descriptorsIn(output, protoc ?? "the bundled compiler");
  const paths = new Map<string, string>();
  for (const { name } of set.file) {
    const folder = folders.find((one) => isFile(join(one, name)));
    if (folder !== undefined) paths.set(name, join(folder, name));
  }
  return {
    set,
    names: found.map(({ name }) => name),
    exists: (name) => [...folders, bundledProtos].some((folder) => isFile(join(folder, name))),
    paths,
    warnings: stderr === "" ? [] : stderr.split("\n"),
  };
}

/** Paths of the files that are asked for, and of folders in which any may appear, for who waits for them to change. */
export function knownPaths(files: readonly string[], protoPaths: readonly string[]): string[] {
  return files.flatMap((file) => {
    try {
      const folder = findFolder(file, protoPaths);
      const below = folder === undefined ? [] : foldersBelow(folder.path);
      return [...below, ...findFiles([file], protoPaths).map(({ path }) => path)];
    } catch {
      return [];
    }
  });
}

async function descriptorsIn(path: string, compiler: string): Promise<FileDescriptorSet> {
  try {
    const set = fromBinary(FileDescriptorSetSchema, await readFile(path));
    if (set.file.length > 0) return set;
  } catch {
    // Told below.
  }
  throw new InputError(`${compiler} ended without an error, and without what a protoc writes: is it one?`);
}

async function temporaryFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  // The real path: buf compares paths after following links.
  let path: string;
  try {
    path = await realpath(await mkdtemp(join(tmpdir(), "protoc-gen-micro-")));
  } catch (error) {
    throw new InputError(`no temporary folder can be made (TMPDIR is ${tmpdir()}): ${(error as Error).message}`);
  }
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** Put our copies of `google/api` where no folder of the user's has its own: a file may be in one folder only. */
async function stageBundledProtos(target: string, folders: readonly string[]): Promise<string> {
  await mkdir(join(target, "google", "api"), { recursive: true });
  for (const name of ["google/api/annotations.proto", "google/api/http.proto"])
    if (!folders.some((folder) => isFile(join(folder, name))))
      await copyFile(join(bundledProtos, name), join(target, name));
  return target;
}

/**
 * Run buf's replacement of protoc. It refuses folders inside of others and files that are in several, both of which
 * protoc takes: so it sees one folder, in which every file is that of the first folder that has it.
 */
async function runBuf(
  scratch: string,
  roots: readonly string[],
  flags: readonly string[],
  files: readonly FoundFile[],
): Promise<{ code: number; stderr: string }> {
  const program = bundledCompiler();
  const root = join(scratch, "root");
  const staged = await stage(root, roots, files);
  const args = ["alpha", "protoc", "-I", ".", ...flags, ...files.map(({ name }) => plainArgument(name))];
  const { code, stderr } = await run(program, args, root);
  // The last root is ours.
  const lines = stderr
    .split("\n")
    .map((line) => explained(line.replaceAll(`${root}/`, ""), staged, roots.slice(0, -1)));
  return { code, stderr: lines.join("\n") };
}

/** No flag, and no `@file` with more arguments. */
function plainArgument(path: string): string {
  return /^[-@]/.test(path) ? `./${path}` : path;
}

/** The compiler takes what has a zero byte for an empty file. */
function refuseBinary(path: string, text: Buffer): void {
  const index = text.indexOf(0);
  if (index === -1) return;
  const before = text.subarray(0, index).toString("latin1").split("\n");
  throw new InputError(`${path}:${before.length}:${before.at(-1)!.length + 1}: a zero byte: this is no .proto file`);
}

/** A file that the compiler sees. */
interface StagedFile {
  readonly path: string;
  readonly text: string;
}

/** Put files and all they import into one folder. @returns them by their names there */
async function stage(
  root: string,
  folders: readonly string[],
  files: readonly FoundFile[],
): Promise<Map<string, StagedFile>> {
  await mkdir(root);
  const staged = new Map<string, StagedFile>();
  const pending = files.map(({ name }) => name);
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (staged.has(name) || !isPrintable(name)) continue;
    const folder = folders.find((one) => isBelow(join(one, name), one) && isFile(join(one, name)));
    // What is not there is told by the compiler, with the place of the import.
    if (folder === undefined) continue;
    const path = normalize(join(folder, name));
    try {
      const bytes = await readFile(path);
      refuseBinary(path, bytes);
      const target = join(root, name);
      await mkdir(dirname(target), { recursive: true });
      await writeFile(target, bytes);
      const text = bytes.toString();
      staged.set(name, { path, text });
      pending.push(...importsOf(text).map((one) => one.name));
    } catch (error) {
      if (error instanceof InputError) throw error;
      throw new InputError(`cannot read ${path}: ${(error as Error).message}`);
    }
  }
  return staged;
}

/** A line of the compiler's, with paths as the user knows them. Of an import that is missing it names the place only. */
function explained(line: string, staged: ReadonlyMap<string, StagedFile>, folders: readonly string[]): string {
  const place = /^(.+?\.proto):(\d+):(\d+):(.*)$/.exec(line);
  const shown = (name: string): string => staged.get(name)?.path ?? name;
  const inText = (text: string): string =>
    text.replaceAll(/(?<= )([^\s:"`]+\.proto)\b/g, (_, name: string) => shown(name));
  if (place === null) return inText(line.replace(/^Failure: /, ""));
  const [, name = "", row, column, text = ""] = place;
  const start = `${shown(name)}:${row}:${column}:`;
  if (text !== "imported file does not exist") return start + inText(text);
  const file = staged.get(name);
  const missing = importsOf(file?.text ?? "").find((one) => one.line === Number(row) && one.column === Number(column));
  if (file === undefined || missing === undefined) return start + text;
  const home = nearbyFolder(file.path, missing.name);
  const advice =
    home === undefined ? "name the folder that it is below with -I" : `it is below ${home}: add -I ${home}`;
  const quoted = isPrintable(missing.name) ? missing.name : JSON.stringify(missing.name);
  return `${start}${text}: ${quoted}, looked for in ${folders.join(", ")}; ${advice}`;
}

/** The folder around a file that has what it imports: most often the one that should have been named. */
function nearbyFolder(path: string, imported: string): string | undefined {
  for (let folder = dirname(path), up = 0; up < 20; folder = dirname(folder), up++) {
    if (isPrintable(imported) && isBelow(join(folder, imported), folder) && isFile(join(folder, imported)))
      return folder;
    if (folder === dirname(folder)) break;
  }
  return undefined;
}

async function run(program: string, args: readonly string[], cwd: string): Promise<{ code: number; stderr: string }> {
  try {
    const { code, stderr, stdout } = await runProgram(program, args, { cwd });
    return { code, stderr: stderr.trim() || (code === 0 ? "" : stdout.toString().trim()) };
  } catch (error) {
    throw new InputError(`cannot run ${program}: ${(error as Error).message}`);
  }
}

function bundledCompiler(): string {
  const platform = `${process.platform} ${process.arch}`;
  const path = packages.get(platform);
  const advice = "install protoc and pass --protoc protoc";
  if (path === undefined) throw new InputError(`there is no bundled compiler for ${platform}: ${advice}`);
  try {
    return createRequire(import.meta.url).resolve(path);
  } catch {
    const name = path.split("/").slice(0, 2).join("/");
    throw new InputError(`${name} is not installed (optional dependencies were left out?): install it, or ${advice}`);
  }
}

interface FoundFile {
  readonly path: string;
  /** The folder it belongs to, and its name there: what others import it by. */
  readonly folder: string;
  readonly name: string;
}

/** All files that are asked for, each once. */
function findFiles(files: readonly string[], protoPaths: readonly string[]): FoundFile[] {
  const found = new Map<string, FoundFile>();
  for (const file of files) {
    const folder = findFolder(file, protoPaths);
    for (const one of folder === undefined ? [findFile(file, protoPaths)] : protosBelow(folder)) {
      if (!isPrintable(one.name)) throw new InputError(`${JSON.stringify(one.path)}: a name with control characters`);
      if (!one.name.endsWith(".proto")) throw new InputError(`${one.path}: names of .proto files end in .proto`);
      found.set(one.name, found.get(one.name) ?? one);
    }
  }
  return [...found.values()];
}

/** A file by its path, or by its name below a folder. Without folders it is found from here, or brings its own. */
function findFile(file: string, protoPaths: readonly string[]): FoundFile {
  const folders = protoPaths.length === 0 ? ["."] : protoPaths;
  const exists = isFile(file);
  const around = exists ? folders.find((folder) => isBelow(file, folder)) : undefined;
  if (around !== undefined) return { path: file, folder: around, name: nameBelow(around, file) };
  const folder = folders.find(
    (candidate) => isBelow(join(candidate, file), candidate) && isFile(join(candidate, file)),
  );
  if (folder !== undefined) return { path: join(folder, file), folder, name: normalize(file).replaceAll("\\", "/") };
  if (exists) return { path: file, folder: dirname(file), name: basename(file) };
  if (existsSync(file)) throw new InputError(`${file}: neither a file nor a folder`);
  throw new InputError(`${file}: no such file, neither here nor in ${folders.join(", ")}`);
}

interface FoundFolder {
  readonly path: string;
  /** The folder below which its files have their names. */
  readonly root: string;
}

/** A folder by its path, or by its name below a folder; undefined for what is none. */
function findFolder(path: string, protoPaths: readonly string[]): FoundFolder | undefined {
  const folders = protoPaths.length === 0 ? ["."] : protoPaths;
  if (statOf(path)?.isDirectory() === true) {
    const around = folders.find((folder) => isBelow(path, folder) || resolve(path) === resolve(folder));
    return { path, root: around ?? path };
  }
  const root = folders.find((candidate) => statOf(join(candidate, path))?.isDirectory() === true);
  return root === undefined ? undefined : { path: join(root, path), root };
}

/** Every .proto file in a folder and below, but for packages and hidden folders. */
function protosBelow({ path, root }: FoundFolder): FoundFile[] {
  const found = foldersBelow(path).flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith(".proto") && isFile(join(folder, name)))
      .map((name) => join(folder, name)),
  );
  if (found.length === 0) throw new InputError(`${path}: no .proto file is in this folder or below it`);
  return found.toSorted().map((file) => ({ path: file, folder: root, name: nameBelow(root, file) }));
}

function foldersBelow(folder: string): string[] {
  let entries;
  try {
    entries = readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    throw new InputError(`cannot read ${folder}: ${(error as Error).message}`);
  }
  const inner = entries.filter(
    (entry) => entry.isDirectory() && entry.name !== "node_modules" && !entry.name.startsWith("."),
  );
  return [folder, ...inner.flatMap(({ name }) => foldersBelow(join(folder, name)))];
}

function nameBelow(folder: string, file: string): string {
  return relative(resolve(folder), resolve(file)).replaceAll("\\", "/");
}

/** Folders, pipes and devices have names as well, and reading them fails or never ends. */
function isFile(path: string): boolean {
  return statOf(path)?.isFile() === true;
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    // A name that the system does not take: too long, a file as a folder.
    return undefined;
  }
}

function isBelow(file: string, folder: string): boolean {
  const path = relative(resolve(folder), resolve(file));
  return path !== "" && !isAbsolute(path) && path.split(/[/\\]/, 1)[0] !== "..";
}
