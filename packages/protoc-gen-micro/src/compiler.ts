/** The compiler: buf's, which comes as an npm package, or a protoc of the user's. */
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, type FileDescriptorSet } from "@bufbuild/protobuf/wkt";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, isAbsolute, join, normalize, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { InputError } from "./options.ts";
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
  /** Paths of .proto files, or their names below one of the folders. */
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
    if (!existsSync(folder)) throw new InputError(`the folder ${folder} (--proto-path) does not exist`);
  const found = files.map((file) => findFile(file, protoPaths));
  const folders = [...protoPaths, ...found.map(({ folder }) => folder)].filter(
    (folder, index, all) => all.findIndex((other) => resolve(other) === resolve(folder)) === index,
  );
  await using scratch = await temporaryFolder();
  for (const { path, name } of found) {
    const first = folders.find((folder) => existsSync(join(folder, name)));
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
          [...[...folders, bundled].flatMap((folder) => ["-I", folder]), ...flags, ...found.map(({ path }) => path)],
          process.cwd(),
        );
  if (code !== 0) throw new InputError(stderr || `the compiler ended with exit code ${code}`);
  const set = fromBinary(FileDescriptorSetSchema, await readFile(output));
  const paths = new Map<string, string>();
  for (const { name } of set.file) {
    const folder = folders.find((one) => existsSync(join(one, name)));
    if (folder !== undefined) paths.set(name, join(folder, name));
  }
  return {
    set,
    names: found.map(({ name }) => name),
    exists: (name) => [...folders, bundledProtos].some((folder) => existsSync(join(folder, name))),
    paths,
    warnings: stderr === "" ? [] : stderr.split("\n"),
  };
}

/** Paths of the files that are asked for, for who waits for them to be put right. */
export function knownPaths(files: readonly string[], protoPaths: readonly string[]): string[] {
  return files.flatMap((file) => {
    try {
      return [findFile(file, protoPaths).path];
    } catch {
      return [];
    }
  });
}

async function temporaryFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  // The real path: buf compares paths after following links.
  const path = await realpath(await mkdtemp(join(tmpdir(), "protoc-gen-micro-")));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** Put our copies of `google/api` where no folder of the user's has its own: a file may be in one folder only. */
async function stageBundledProtos(target: string, folders: readonly string[]): Promise<string> {
  await mkdir(join(target, "google", "api"), { recursive: true });
  for (const name of ["google/api/annotations.proto", "google/api/http.proto"])
    if (!folders.some((folder) => existsSync(join(folder, name))))
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
  const args = ["alpha", "protoc", "-I", ".", ...flags, ...files.map(({ name }) => name)];
  const { code, stderr } = await run(program, args, root);
  const shown = (name: string): string => staged.get(name) ?? name;
  const lines = stderr
    .split("\n")
    .map((line) =>
      line
        .replace(/^(.+?\.proto)(?=:\d)/, (_, name: string) => shown(name))
        .replaceAll(/(?<= )([^\s:"`]+\.proto)\b/g, (_, name: string) => shown(name)),
    );
  return { code, stderr: (await Promise.all(lines.map(withImport))).join("\n") };
}

/** The compiler takes what has a zero byte for an empty file. */
function refuseBinary(path: string, text: Buffer): void {
  const index = text.indexOf(0);
  if (index === -1) return;
  const before = text.subarray(0, index).toString("latin1").split("\n");
  throw new InputError(`${path}:${before.length}:${before.at(-1)!.length + 1}: a zero byte: this is no .proto file`);
}

/** Put files and all they import into one folder. @returns where each is, by its name there */
async function stage(
  root: string,
  folders: readonly string[],
  files: readonly FoundFile[],
): Promise<Map<string, string>> {
  await mkdir(root);
  const staged = new Map<string, string>();
  const pending = files.map(({ name }) => name);
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (staged.has(name)) continue;
    const folder = folders.find((one) => isBelow(join(one, name), one) && existsSync(join(one, name)));
    // What is not there is told by the compiler, with the place of the import.
    if (folder === undefined) continue;
    const path = normalize(join(folder, name));
    staged.set(name, path);
    const target = join(root, name);
    await mkdir(dirname(target), { recursive: true });
    const text = await readFile(path);
    refuseBinary(path, text);
    await writeFile(target, text);
    for (const [, , imported = ""] of text
      .toString("latin1")
      .matchAll(/\bimport\s+(?:(?:public|weak|option)\s+)?(["'])([^"'\n]+)\1/g))
      pending.push(imported);
  }
  return staged;
}

/** buf names the line of an import that is missing, not the file. */
async function withImport(line: string): Promise<string> {
  const place = /^(.+\.proto):(\d+):\d+:imported file does not exist$/.exec(line);
  if (place === null) return line;
  const source = await readFile(place[1]!, "utf8").catch(() => "");
  const name = /import[^"']*["']([^"']+)["']/.exec(source.split("\n")[Number(place[2]) - 1] ?? "")?.[1];
  return name === undefined ? line : `${line}: ${name}`;
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

/** A file by its path, or by its name below a folder. Without folders it is found from here, or brings its own. */
function findFile(file: string, protoPaths: readonly string[]): FoundFile {
  const folders = protoPaths.length === 0 ? ["."] : protoPaths;
  const exists = existsSync(file);
  const around = exists ? folders.find((folder) => isBelow(file, folder)) : undefined;
  if (around !== undefined)
    return { path: file, folder: around, name: relative(resolve(around), resolve(file)).replaceAll("\\", "/") };
  const folder = folders.find(
    (candidate) => isBelow(join(candidate, file), candidate) && existsSync(join(candidate, file)),
  );
  if (folder !== undefined) return { path: join(folder, file), folder, name: normalize(file).replaceAll("\\", "/") };
  if (exists) return { path: file, folder: dirname(file), name: basename(file) };
  throw new InputError(`${file}: no such file, neither here nor in ${folders.join(", ")}`);
}

function isBelow(file: string, folder: string): boolean {
  const path = relative(resolve(folder), resolve(file));
  return path !== "" && !isAbsolute(path) && path.split(/[/\\]/, 1)[0] !== "..";
}
