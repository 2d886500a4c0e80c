/** The compiler: buf's, which comes as an npm package, or a protoc of the user's. */
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, type FileDescriptorSet } from "@bufbuild/protobuf/wkt";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, realpath, rm, symlink } from "node:fs/promises";
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
  const output = join(scratch.path, "set.binpb");
  const bundled = await stageBundledProtos(join(scratch.path, "bundled"), folders);
  const flags = ["--include_imports", "--include_source_info", `--descriptor_set_out=${output}`];
  const { code, stderr } =
    protoc === undefined
      ? await runBuf(scratch.path, [...folders, bundled], flags, found, folders)
      : await run(
          protoc,
          [...[...folders, bundled].flatMap((folder) => ["-I", folder]), ...flags, ...found.map(({ path }) => path)],
          process.cwd(),
        );
  if (code !== 0) throw new InputError(stderr || `the compiler ended with exit code ${code}`);
  const set = fromBinary(FileDescriptorSetSchema, await readFile(output));
  return { set, names: found.map(({ name }) => name), warnings: stderr === "" ? [] : stderr.split("\n") };
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
 * Run buf's replacement of protoc. It refuses folders inside of others, which protoc takes and which are usual
 * (`-I . -I third_party`), so it sees each one through a link of its own.
 */
async function runBuf(
  scratch: string,
  roots: readonly string[],
  flags: readonly string[],
  files: readonly FoundFile[],
  folders: readonly string[],
): Promise<{ code: number; stderr: string }> {
  const program = bundledCompiler();
  await mkdir(join(scratch, "roots"));
  for (const [index, root] of roots.entries())
    await symlink(resolve(root), join(scratch, "roots", String(index)), "junction");
  const args = [
    "alpha",
    "protoc",
    ...roots.flatMap((_, index) => ["-I", String(index)]),
    ...flags,
    ...files.map(({ folder, name }) => `${folders.findIndex((one) => resolve(one) === resolve(folder))}/${name}`),
  ];
  const { code, stderr } = await run(program, args, join(scratch, "roots"));
  const shown = (index: string, rest: string): string => normalize(join(roots[Number(index)]!, rest));
  const lines = stderr
    .split("\n")
    .map((line) =>
      line
        .replace(/^(\d+)[/\\](.+?\.proto)(?=:\d)/, (_, index: string, rest: string) => shown(index, rest))
        .replaceAll(/(?<= )(\d+)[/\\]([^\s:]+\.proto)\b/g, (_, index: string, rest: string) => shown(index, rest)),
    );
  return { code, stderr: (await Promise.all(lines.map(withImport))).join("\n") };
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
