/** Comments of a .proto file as doc comments, and places in it for messages to its author. */
import type { DescFile } from "@bufbuild/protobuf";

type SourceLocation = NonNullable<DescFile["proto"]["sourceCodeInfo"]>["location"][number];

/** Numbers of fields in `descriptor.proto`, of which the paths of locations are made. */
const serviceField = 6;
const methodField = 2;

export class SourceNotes {
  readonly #file: DescFile;
  readonly #locations = new Map<string, SourceLocation>();

  constructor(file: DescFile) {
    this.#file = file;
    for (const location of file.proto.sourceCodeInfo?.location ?? []) {
      // Only services are asked for; files with a thousand messages have many more locations.
      if (location.path[0] === serviceField) this.#locations.set(location.path.join(), location);
    }
  }

  /** Lines of the comment before a service or rpc, else of the one behind it. */
  comment(service: number, method?: number): string[] {
    const location = this.#location(service, method);
    const text = location?.leadingComments.trim() ? location.leadingComments : (location?.trailingComments ?? "");
    const lines = text.trimEnd().split("\n");
    return lines.length === 1 && lines[0]!.trim() === "" ? [] : lines.map((line) => line.replace(/^ /, "").trimEnd());
  }

  /** `greeter.proto:12:3`, as compilers write it. */
  place(service: number, method?: number): string {
    const [line, column] = this.#location(service, method)?.span ?? [];
    return line === undefined ? this.#file.proto.name : `${this.#file.proto.name}:${line + 1}:${(column ?? 0) + 1}`;
  }

  #location(service: number, method?: number): SourceLocation | undefined {
    const path = method === undefined ? [serviceField, service] : [serviceField, service, methodField, method];
    return this.#locations.get(path.join());
  }
}

/** A doc comment in lines, or none for no text. */
export function docComment(lines: readonly string[], indent = ""): string[] {
  // A comment must not end before its text does.
  const safe = lines.map((line) => line.replaceAll("*/", "*\\/"));
  if (safe.length === 0) return [];
  if (safe.length === 1 && safe[0]!.length < 110) return [`${indent}/** ${safe[0]} */`];
  return [`${indent}/**`, ...safe.map((line) => `${indent} * ${line}`.trimEnd()), `${indent} */`];
}
