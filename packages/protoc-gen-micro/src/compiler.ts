/** The compiler: buf's, which comes as an npm package, or a protoc of the user's. */
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, type FileDescriptorSet } from "@bufbuild/protobuf/wkt";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
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
  /** Folders in which imports are looked for, in order. */
  readonly protoPaths: readonly string[];
  /** A protoc to use instead of the bundled compiler. */
  readonly protoc?: string | undefined;
}

export interface Compiled {
  readonly set: FileDescriptorSet;
  /** Names of the files that were asked for. */
  readonly names: readonly string[];
}

/** Compile .proto files with all they import. @throws {InputError} with the compiler's messages, file and line in each */
export async function compile({ files, protoPaths, protoc }: CompileOptions): Promise<Compiled> {
  for (const folder of protoPaths)
    if (!existsSync(folder)) throw new InputError(`the folder ${folder} (--proto-path) does not exist`);
  const found = files.map((file) => findFile(file, protoPaths));
  const folders = [...protoPaths, ...new Set(found.flatMap(({ root }) => (root === undefined ? [] : [root])))];
  const paths = found.map(({ path }) => path);
  const scratch = await mkdtemp(join(tmpdir(), "protoc-gen-micro-"));
  try {
    const output = join(scratch, "set.binpb");
    const args = [
      ...[...folders, bundledProtos].flatMap((folder) => ["-I", folder]),
      "--include_imports",
      "--include_source_info",
      `--descriptor_set_out=${output}`,
      ...paths,
    ];
    const bundled = protoc === undefined ? bundledCompiler() : undefined;
    const { code, stderr, stdout } = await (bundled === undefined
      ? runProgram(protoc!, args)
      : // Its replacement of protoc takes the same arguments.
        runProgram(bundled, ["alpha", "protoc", ...args])
    ).catch((error: NodeJS.ErrnoException) => {
      throw new InputError(`cannot run ${protoc ?? bundled}: ${error.message}`);
    });
    if (code !== 0) throw new InputError(stderr.trim() || stdout.toString().trim() || `the compiler ended with ${code}`);
    const set = fromBinary(FileDescriptorSetSchema, await readFile(output));
    return { set, names: found.map(({ path }) => nameBelow(path, folders)) };
  } finally {
    await rm(scratch, { recursive: true, force: true });
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

/** A file by its path, or by its name below a folder; one outside of all folders brings its own. */
function findFile(file: string, folders: readonly string[]): { path: string; root?: string } {
  if (existsSync(file)) {
    const isInside = folders.some((folder) => isBelow(file, folder));
    return isInside ? { path: file } : { path: file, root: dirname(file) };
  }
  const folder = folders.find((candidate) => existsSync(join(candidate, file)));
  if (folder === undefined) throw new InputError(`${file}: no such file, neither here nor in ${folders.join(", ")}`);
  return { path: join(folder, file) };
}

function isBelow(file: string, folder: string): boolean {
  const path = relative(resolve(folder), resolve(file));
  return path !== "" && !path.startsWith("..") && resolve(folder, path) === resolve(file);
}

/** The name a file is imported by: below the first folder that has it. */
function nameBelow(file: string, folders: readonly string[]): string {
  const folder = folders.find((candidate) => isBelow(file, candidate))!;
  return relative(resolve(folder), resolve(file)).replaceAll("\\", "/");
}
