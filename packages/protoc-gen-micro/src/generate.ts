/** From a compiled request to files: what the plugin and the command share. */
import { create, createFileRegistry, type DescFile } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, type CodeGeneratorRequest } from "@bufbuild/protobuf/wkt";
import { generateMessageFile } from "./message-file.ts";
import { filesWithMessages, messagesPath, stubsPath } from "./messages.ts";
import { InputError, type GenerateOptions } from "./options.ts";
import { generateStubs } from "./stub.ts";
import { generateMessages, type GeneratedFile } from "./ts-proto.ts";
import { refuseForTsProto } from "./ts-proto-limits.ts";

export interface Generated {
  /** Sorted by name. */
  readonly files: readonly GeneratedFile[];
  readonly warnings: readonly string[];
}

/** Generate what `options.emit` says for the files of a request. @throws {InputError} for rpcs that cannot be told apart */
export async function generate(request: CodeGeneratorRequest, options: GenerateOptions): Promise<Generated> {
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: request.protoFile }));
  const asked = request.fileToGenerate.map((name): DescFile => {
    const file = registry.getFile(name);
    if (file === undefined) throw new InputError(`${name} is not among the files of the request`);
    return file;
  });
  const warnings: string[] = [];
  const withMessages =
    options.emit === "stubs"
      ? []
      : filesWithMessages(asked, options).filter((file) => options.imports || asked.includes(file));
  if (options.messages === "ts-proto" && options.emit !== "stubs") refuseForTsProto(withMessages.filter(isUsers));
  const messages =
    options.messages === "micro"
      ? ownMessages(withMessages, options)
      : generateMessages(
          request,
          withMessages.map((file) => file.proto.name),
          options,
        );
  // Awaited below; a failure of the stubs comes first.
  messages.catch(() => {});
  const files: GeneratedFile[] = [];
  if (options.emit !== "messages") {
    for (const file of asked) {
      const content = generateStubs(file, { options, registry, warn: (text) => warnings.push(text) });
      if (content !== undefined) files.push({ name: stubsPath(file, options), content });
    }
  }
  files.push(...(await messages));
  return { files: files.toSorted((a, b) => (a.name < b.name ? -1 : 1)), warnings };
}

/** Google's own files are what they are: nobody can change them, and ts-proto knows the most usual ones. */
function isUsers({ proto }: DescFile): boolean {
  return !proto.name.startsWith("google/protobuf/");
}

async function ownMessages(files: readonly DescFile[], options: GenerateOptions): Promise<GeneratedFile[]> {
  if (options.int64 === "long") throw new InputError("option int64: long is possible with messages=ts-proto only");
  return files.map((file) => ({
    name: `${messagesPath(file, options)}.ts`,
    content: generateMessageFile(file, options),
  }));
}
