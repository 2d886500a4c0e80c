/** The protoc plugin: a request on standard input, a response on standard output. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  CodeGeneratorRequestSchema,
  CodeGeneratorResponse_Feature,
  CodeGeneratorResponse_FileSchema,
  CodeGeneratorResponseSchema,
  type CodeGeneratorRequest,
  type CodeGeneratorResponse,
} from "@bufbuild/protobuf/wkt";
import { newestEdition, oldestEdition } from "./editions.ts";
import { generate } from "./generate.ts";
import { InputError, parseParameter } from "./options.ts";
import { printable } from "./printable.ts";

/**
 * Answer a `CodeGeneratorRequest`; what is wrong with the input is in the response, as protoc wants it.
 * @param warn is told what the author of a .proto file should know
 * @throws {InputError} for what is no request, which nobody waits for an answer to
 */
export async function runPlugin(request: Uint8Array, warn: (text: string) => void): Promise<Uint8Array> {
  const answer = create(CodeGeneratorResponseSchema, {
    supportedFeatures: BigInt(
      CodeGeneratorResponse_Feature.PROTO3_OPTIONAL | CodeGeneratorResponse_Feature.SUPPORTS_EDITIONS,
    ),
    minimumEdition: oldestEdition,
    maximumEdition: newestEdition,
  });
  return toBinary(CodeGeneratorResponseSchema, await fill(answer, requestOf(request), warn));
}

function requestOf(bytes: Uint8Array): CodeGeneratorRequest {
  const advice = "protoc and buf start this program and send one; by hand give it .proto files, see --help";
  try {
    const request = fromBinary(CodeGeneratorRequestSchema, bytes);
    if (request.fileToGenerate.length > 0) return request;
  } catch {
    throw new InputError(`what is on standard input is no request of a compiler: ${advice}`);
  }
  throw new InputError(`no request of a compiler is on standard input: ${advice}`);
}

async function fill(
  answer: CodeGeneratorResponse,
  request: CodeGeneratorRequest,
  warn: (text: string) => void,
): Promise<CodeGeneratorResponse> {
  try {
    const { files, warnings } = await generate(request, parseParameter(request.parameter));
    warnings.forEach((text) => warn(printable(text)));
    answer.file = files.map(({ name, content }) => create(CodeGeneratorResponse_FileSchema, { name, content }));
    return answer;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    answer.error = printable(error.message);
    return answer;
  }
}
