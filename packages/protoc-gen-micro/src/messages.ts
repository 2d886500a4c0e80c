/** Where the messages of a file are, and what ts-proto calls them. */
import type { DescExtension, DescField, DescFile, DescMessage } from "@bufbuild/protobuf";
import { runtimeFiles } from "./field-code.ts";
import type { GenerateOptions } from "./options.ts";

/** A message's name in ts-proto's output (its `visit.ts`): `Outer_Inner`, names with underscores in camel case. */
export function tsMessageName(message: DescMessage): string {
  const parts: string[] = [];
  for (let next: DescMessage | undefined = message; next !== undefined; next = next.parent)
    parts.unshift(camelCase(next.name));
  const name = parts.join("_");
  return name === "Date" || name === "Function" ? `${name}Message` : name;
}

/** As ts-proto's `snakeToCamel`. */
function camelCase(name: string): string {
  if (!name.includes("_")) return name;
  const isMixed = /[a-z]/.test(name);
  return name
    .split("_")
    .map((word, index) => {
      const part = isMixed ? word : word.toLowerCase();
      return index === 0 ? part : part.slice(0, 1).toUpperCase() + part.slice(1);
    })
    .join("");
}

/** The path of a file's messages below the output folder, without `.ts`. */
export function messagesPath(file: DescFile, options: GenerateOptions): string {
  // ts-proto's files have their names from it.
  const start = options.messages === "micro" ? outputStart(file.proto.name) : withoutExtension(file.proto.name);
  return `${start}${options.messageSuffix}`;
}

/** The path of a file's stubs below the output folder. */
export function stubsPath(file: DescFile, options: GenerateOptions): string {
  return `${outputStart(file.proto.name)}${options.outputSuffix}`;
}

/** Signs that an `import` reads as something else, or that TypeScript and Node read in two ways. */
const signs = /[%#?\\]/;

/** True if a file's name has a sign that no import may have. */
export function hasSign(name: string): boolean {
  return signs.test(name);
}

/** How the names of outputs begin: as the .proto file's own, with `_` for what an import may not have. */
export function outputStart(name: string): string {
  return withoutExtension(name).replaceAll(new RegExp(signs, "g"), "_");
}

function withoutExtension(name: string): string {
  return name.replace(/\.proto$/, "");
}

/** What the stubs of `from` import for the messages of `file`. */
export function messagesModule(from: DescFile, file: DescFile, options: GenerateOptions): string {
  const mapped = options.modules.get(file.proto.name);
  if (mapped !== undefined) return mapped;
  if (isInRuntime(file, options) && file !== from) return options.runtime;
  const target = messagesPath(file, options).split("/");
  const start = outputStart(from.proto.name).split("/").slice(0, -1);
  let shared = 0;
  while (shared < start.length && shared < target.length - 1 && start[shared] === target[shared]) shared++;
  const up = start.length - shared;
  const path = [...(up === 0 ? ["."] : Array.from({ length: up }, () => "..")), ...target.slice(shared)].join("/");
  return `${path}${options.importExtension}`;
}

/**
 * The files whose messages the given ones need, themselves included. What is imported for its options only
 * (annotations, mostly) is not among them.
 */
export function filesWithMessages(files: readonly DescFile[], options: GenerateOptions): DescFile[] {
  const found = new Set<DescFile>();
  const visit = (file: DescFile): void => {
    if (found.has(file) || options.modules.has(file.proto.name)) return;
    if (isInRuntime(file, options) && !files.includes(file)) return;
    found.add(file);
    usedFiles(file, options).forEach(visit);
  };
  files.forEach(visit);
  return [...found];
}

/** The files whose types a file uses, without itself. */
export function usedFiles(file: DescFile, options: GenerateOptions): DescFile[] {
  const used = new Set<DescFile>();
  for (const { methods } of file.services)
    for (const { input, output } of methods) {
      used.add(input.file);
      used.add(output.file);
    }
  const visitField = (field: DescField | DescExtension): void => {
    if (field.message !== undefined) used.add(field.message.file);
    if (field.enum !== undefined) used.add(field.enum.file);
  };
  const visitExtension = (extension: DescExtension): void => {
    // Options are read by compilers, not by programs.
    if (isOfOptions(extension) || options.messages !== "micro") return;
    used.add(extension.extendee.file);
    visitField(extension);
  };
  const visitMessage = (message: DescMessage): void => {
    message.fields.forEach(visitField);
    message.nestedMessages.forEach(visitMessage);
    message.nestedExtensions.forEach(visitExtension);
  };
  file.messages.forEach(visitMessage);
  file.extensions.forEach(visitExtension);
  // What is imported although no field needs it may be in an `Any`.
  if (options.messages === "micro")
    for (const next of file.dependencies)
      if (next.messages.length > 0 && !next.extensions.some(isOfOptions) && !isDescriptor(next)) used.add(next);
  used.delete(file);
  return [...used];
}

/** True for an extension of options, which only compilers read. */
export function isOfOptions({ extendee }: DescExtension): boolean {
  return isDescriptor(extendee.file);
}

function isDescriptor(file: DescFile): boolean {
  return file.proto.name === "google/protobuf/descriptor.proto";
}

/** Files that come with every compiler, and that nobody generates: `buf generate` leaves them to whoever needs them. */
const compilersFiles = new Set(
  (
    "any api descriptor duration empty field_mask source_context struct timestamp type wrappers " +
    "compiler/plugin cpp_features go_features java_features"
  )
    .split(" ")
    .map((name) => `google/protobuf/${name}.proto`),
);

/** True for a file that comes with every compiler. */
export function isCompilers(file: DescFile): boolean {
  return compilersFiles.has(file.proto.name);
}

/** True for the well-known types that come with the run-time. */
export function isInRuntime(file: DescFile, options: GenerateOptions): boolean {
  return options.messages === "micro" && runtimeFiles.has(file.proto.name);
}
