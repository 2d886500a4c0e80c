/** Where ts-proto puts the messages of a file, and what it calls them. */
import type { DescFile, DescMessage } from "@bufbuild/protobuf";
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
  return `${withoutExtension(file)}${options.messageSuffix}`;
}

/** The path of a file's stubs below the output folder. */
export function stubsPath(file: DescFile, options: GenerateOptions): string {
  return `${withoutExtension(file)}${options.outputSuffix}`;
}

function withoutExtension(file: DescFile): string {
  return file.proto.name.replace(/\.proto$/, "");
}

/** What the stubs of `from` import for the messages of `file`. */
export function messagesModule(from: DescFile, file: DescFile, options: GenerateOptions): string {
  const mapped = options.modules.get(file.proto.name);
  if (mapped !== undefined) return mapped;
  const target = messagesPath(file, options).split("/");
  const start = from.proto.name.split("/").slice(0, -1);
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
    found.add(file);
    for (const { methods } of file.services) {
      for (const method of methods) {
        visit(method.input.file);
        visit(method.output.file);
      }
    }
    file.messages.forEach(visitMessage);
  };
  const visitMessage = (message: DescMessage): void => {
    for (const field of message.fields) {
      if (field.message !== undefined) visit(field.message.file);
      if (field.enum !== undefined) visit(field.enum.file);
    }
    message.nestedMessages.forEach(visitMessage);
  };
  files.forEach(visit);
  return [...found];
}
