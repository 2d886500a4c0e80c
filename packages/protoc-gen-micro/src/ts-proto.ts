/** Messages: ts-proto's own plugin, run as protoc would run it. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  CodeGeneratorRequestSchema,
  CodeGeneratorResponseSchema,
  FileDescriptorProtoSchema,
  type CodeGeneratorRequest,
  type FileDescriptorProto,
} from "@bufbuild/protobuf/wkt";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { suggestion } from "./nearest.ts";
import { runProgram } from "./program.ts";
import { InputError, type GenerateOptions } from "./options.ts";

/** A file to be written, below the output folder. */
export interface GeneratedFile {
  readonly name: string;
  readonly content: string;
}

/** ts-proto's parameter: what core's `protoMessage` and the stubs rely on, and what the options ask for. */
export function tsProtoParameter(options: GenerateOptions): string {
  return [
    "esModuleInterop=true",
    "outputServices=none",
    "outputClientImpl=false",
    // Plain enums are no types that can be stripped.
    "enumsAsLiterals=true",
    // Names of well-known types, whose JSON is not an object, for `protoMessage`.
    "outputTypeAnnotations=static-only",
    // These types reject objects that are fine, and are slow to check.
    "useExactTypes=false",
    "oneof=unions-value",
    "annotateFilesWithVersion=false",
    "emitImportedFiles=false",
    `importSuffix=${options.importExtension}`,
    `fileSuffix=${options.messageSuffix}`,
    `forceLong=${options.int64}`,
    ...(options.jsonNames === "proto" ? ["protoJsonFormat=false", "snakeToCamel=keys"] : []),
    ...[...options.modules].map(([file, module]) => `M${file}=${module}`),
    ...options.tsProto,
  ].join(",");
}

/** @throws {InputError} for options of ts-proto's that nobody would read */
export function checkTsProtoOptions({ messages, emit, tsProto }: GenerateOptions): void {
  if (tsProto.length === 0) return;
  if (messages !== "ts-proto" || emit === "stubs")
    throw new InputError(
      `ts-proto's option ${tsProto[0]!} has no effect: it needs messages=ts-proto, and messages to be written`,
    );
  // What it does not know it passes over.
  const { defaultOptions } = createRequire(import.meta.url)("ts-proto/build/src/options") as {
    defaultOptions: () => object;
  };
  const known = Object.keys(defaultOptions()).filter((name) => name !== "M");
  for (const option of tsProto) {
    const name = option.split("=", 1)[0]!;
    if (!known.includes(name)) throw new InputError(`ts-proto has no option ${name}${suggestion(name, known)}`);
  }
}

/** Size of descriptors that is worth a process of its own, in bytes. */
const bytesPerProcess = 100_000;

/** Generate the messages of `files`, several at once where there are many. @throws {InputError} with what ts-proto says */
export async function generateMessages(
  request: CodeGeneratorRequest,
  files: readonly string[],
  options: GenerateOptions,
): Promise<GeneratedFile[]> {
  const wanted = new Set(files);
  const sized = request.protoFile
    .filter(({ name }) => wanted.has(name))
    .map((file) => ({ name: file.name, bytes: toBinary(FileDescriptorProtoSchema, file).length }))
    .toSorted((a, b) => b.bytes - a.bytes);
  const total = sized.reduce((sum, { bytes }) => sum + bytes, 0);
  const processes = Math.min(sized.length, availableParallelism(), 4, Math.ceil(total / bytesPerProcess));
  // The largest first, each to the process with the least.
  const shares = Array.from({ length: processes }, () => ({ bytes: 0, names: new Set<string>() }));
  for (const { name, bytes } of sized) {
    const share = shares.reduce((least, next) => (next.bytes < least.bytes ? next : least));
    share.names.add(name);
    share.bytes += bytes;
  }
  const results = await Promise.all(shares.map(({ names }) => runTsProto(request, names, options)));
  return results.flat();
}

async function runTsProto(
  request: CodeGeneratorRequest,
  files: ReadonlySet<string>,
  options: GenerateOptions,
): Promise<GeneratedFile[]> {
  const input = create(CodeGeneratorRequestSchema, {
    fileToGenerate: [...files],
    // Comments are read where they are written out.
    protoFile: request.protoFile.map((file) => (files.has(file.name) ? file : withoutSourceInfo(file))),
    parameter: tsProtoParameter(options),
  });
  const plugin = join(dirname(createRequire(import.meta.url).resolve("ts-proto/package.json")), "protoc-gen-ts_proto");
  const { code, stdout, stderr } = await runProgram(process.execPath, [plugin], {
    input: toBinary(CodeGeneratorRequestSchema, input),
  });
  if (code !== 0) throw new InputError(`ts-proto failed: ${stderr.trim() || `exit code ${code}`}`);
  const response = fromBinary(CodeGeneratorResponseSchema, stdout);
  if (response.error !== "") throw new InputError(`ts-proto failed: ${response.error}`);
  return response.file.map(({ name, content }) => ({ name, content }));
}

function withoutSourceInfo(file: FileDescriptorProto): FileDescriptorProto {
  const { sourceCodeInfo: _, ...rest } = file;
  return rest;
}
