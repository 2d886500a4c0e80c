/** Messages: ts-proto's own plugin, run as protoc would run it. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { CodeGeneratorRequestSchema, CodeGeneratorResponseSchema, type CodeGeneratorRequest } from "@bufbuild/protobuf/wkt";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { runProgram } from "./program.ts";
import type { GenerateOptions } from "./options.ts";

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

/** Generate the messages of `files`. @throws {Error} with what ts-proto says */
export async function generateMessages(
  request: CodeGeneratorRequest,
  files: readonly string[],
  options: GenerateOptions,
): Promise<GeneratedFile[]> {
  if (files.length === 0) return [];
  const input = create(CodeGeneratorRequestSchema, {
    fileToGenerate: [...files],
    protoFile: request.protoFile,
    parameter: tsProtoParameter(options),
  });
  const plugin = join(dirname(createRequire(import.meta.url).resolve("ts-proto/package.json")), "protoc-gen-ts_proto");
  const { code, stdout, stderr } = await runProgram(
    process.execPath,
    [plugin],
    toBinary(CodeGeneratorRequestSchema, input),
  );
  if (code !== 0) throw new Error(`ts-proto failed: ${stderr.trim() || `exit code ${code}`}`);
  const response = fromBinary(CodeGeneratorResponseSchema, stdout);
  if (response.error !== "") throw new Error(`ts-proto failed: ${response.error}`);
  return response.file.map(({ name, content }) => ({ name, content: keepUnknownEnumNumbers(content) }));
}

/**
 * Let numbers of enums that this side does not know pass through JSON, as they pass through protobuf and as proto3 JSON
 * has it. ts-proto reads them as -1 and writes `"UNRECOGNIZED"`, which no Go service reads.
 */
export function keepUnknownEnumNumbers(content: string): string {
  return content
    .replaceAll(
      /( {4}default:\n {6}return )(\w+\.UNRECOGNIZED);/g,
      (_, before: string, unrecognized: string) => `${before}typeof object === "number" ? (object as any) : ${unrecognized};`,
    )
    .replaceAll(
      /^(export function \w+ToJSON\(object: \w+\): )string( \{\n(?: {2,}.*\n)*? {4}default:\n {6}return )"UNRECOGNIZED";/gm,
      (_, before: string, middle: string) => `${before}string | number${middle}object;`,
    );
}
