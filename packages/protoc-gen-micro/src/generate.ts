/** From a compiled request to files: what the plugin and the command share. */
import { create, createFileRegistry, type DescFile, type FileRegistry } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, type CodeGeneratorRequest } from "@bufbuild/protobuf/wkt";
import { generateMessageFile } from "./message-file.ts";
import { filesWithMessages, hasSign, isCompilers, messagesPath, stubsPath } from "./messages.ts";
import { InputError, type GenerateOptions } from "./options.ts";
import { refuseEditions } from "./editions.ts";
import { checkJsonNames } from "./json-names.ts";
import { checkRoutes } from "./route-check.ts";
import { generateStubs } from "./stub.ts";
import { checkTsProtoOptions, generateMessages, type GeneratedFile } from "./ts-proto.ts";
import { refuseForTsProto } from "./ts-proto-limits.ts";

export interface Generated {
  /** Sorted by name. */
  readonly files: readonly GeneratedFile[];
  /** Names of files that `emit` leaves out: stubs beside messages, or messages that the stubs import. */
  readonly others: readonly string[];
  readonly warnings: readonly string[];
}

/** Generate what `options.emit` says for the files of a request. @throws {InputError} for rpcs that cannot be told apart */
export async function generate(request: CodeGeneratorRequest, options: GenerateOptions): Promise<Generated> {
  checkTsProtoOptions(options);
  refuseEditions(request);
  const registry = registryOf(request);
  const asked = request.fileToGenerate.map((name): DescFile => {
    const file = registry.getFile(name);
    if (file === undefined) throw new InputError(`${name} is not among the files of the request`);
    return file;
  });
  const warnings: string[] = [];
  const context = { options, registry, warn: (text: string): void => void warnings.push(text) };
  const needed = filesWithMessages(asked, options).filter(
    (file) => options.imports || asked.includes(file) || isCompilers(file),
  );
  const withServices = asked.filter(({ services }) => services.length > 0);
  const places = {
    stubs: withServices.map((file) => ({ name: stubsPath(file, options), what: `the stubs of ${file.proto.name}` })),
    messages: needed.map((file) => ({
      name: `${messagesPath(file, options)}.ts`,
      what: `the messages of ${file.proto.name}`,
    })),
  };
  // Whatever is written today: the other half may be written by another run.
  refuseSamePaths([...places.messages, ...places.stubs]);
  if (options.messages === "ts-proto") refuseSigns(needed);
  checkJsonNames(needed, context);
  if (options.emit !== "messages") checkRoutes(withServices, context);
  const withMessages = options.emit === "stubs" ? [] : needed;
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
    for (const file of withServices) {
      const content = generateStubs(file, context);
      files.push({ name: stubsPath(file, options), content });
    }
  }
  files.push(...(await messages));
  const others = [
    ...(options.emit === "messages" ? places.stubs : []),
    ...(options.emit === "stubs" ? places.messages : []),
  ];
  return {
    files: files.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    others: others.map(({ name }) => name),
    warnings,
  };
}

function registryOf({ protoFile }: CodeGeneratorRequest): FileRegistry {
  try {
    return createFileRegistry(create(FileDescriptorSetSchema, { file: protoFile }));
  } catch (error) {
    throw new InputError(`the files of the request are incomplete: ${(error as Error).message}`);
  }
}

/** @throws {InputError} for two outputs that are one file, on some systems or on all */
function refuseSamePaths(places: readonly { readonly name: string; readonly what: string }[]): void {
  const taken = new Map<string, { readonly name: string; readonly what: string }>();
  const faults: string[] = [];
  for (const place of places) {
    // As macOS and Windows compare names.
    const key = place.name.normalize("NFC").toLowerCase();
    const other = taken.get(key);
    if (other === undefined) taken.set(key, place);
    else
      faults.push(
        other.name === place.name
          ? `${other.what} and ${place.what} would both be written to ${place.name}: rename a .proto file, or choose another output suffix or message suffix`
          : `${other.what} and ${place.what} would be written to ${other.name} and ${place.name}, which are one file on macOS and Windows: rename a .proto file`,
      );
  }
  if (faults.length > 0) throw new InputError(faults.join("\n"));
}

/** @throws {InputError} for files of ts-proto that nobody could import */
function refuseSigns(files: readonly DescFile[]): void {
  const faults = files
    .map(({ proto }) => proto.name)
    .filter(hasSign)
    .map((name) => `${name}: ts-proto's file of this name cannot be imported: rename it without %, #, ? and \\`);
  if (faults.length > 0) throw new InputError(faults.join("\n"));
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
