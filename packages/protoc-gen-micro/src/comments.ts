/** Comments of a .proto file as doc comments, and places in it for messages to its author. */
import type {
  DescEnum,
  DescEnumValue,
  DescExtension,
  DescField,
  DescFile,
  DescMessage,
  DescOneof,
} from "@bufbuild/protobuf";

type SourceLocation = NonNullable<DescFile["proto"]["sourceCodeInfo"]>["location"][number];

/** Numbers of fields in `descriptor.proto`, of which the paths of locations are made. */
const serviceField = 6;
const methodField = 2;

export class SourceNotes {
  readonly #file: DescFile;
  #locations: Map<string, SourceLocation> | undefined;

  constructor(file: DescFile) {
    this.#file = file;
  }

  /** Lines of the comment before a service or rpc, else of the one behind it. */
  comment(service: number, method?: number): string[] {
    return commentOf(this.#service(service, method));
  }

  /** `greeter.proto:12:3`, as compilers write it. */
  place(service: number, method?: number): string {
    return this.#placed(this.#service(service, method));
  }

  commentOf(described: Described): string[] {
    return commentOf(this.#find(pathOf(described)));
  }

  placeOf(described: Described): string {
    return this.#placed(this.#find(pathOf(described)));
  }

  #placed(location: SourceLocation | undefined): string {
    const [line, column] = location?.span ?? [];
    return line === undefined ? this.#file.proto.name : `${this.#file.proto.name}:${line + 1}:${(column ?? 0) + 1}`;
  }

  #service(service: number, method?: number): SourceLocation | undefined {
    return this.#find(method === undefined ? [serviceField, service] : [serviceField, service, methodField, method]);
  }

  #find(path: readonly number[]): SourceLocation | undefined {
    this.#locations ??= new Map(
      (this.#file.proto.sourceCodeInfo?.location ?? []).map((location) => [location.path.join(), location]),
    );
    return this.#locations.get(path.join());
  }
}

type Described = DescMessage | DescEnum | DescExtension | DescField | DescOneof | DescEnumValue;

function pathOf(described: Described): number[] {
  switch (described.kind) {
    case "message": {
      const { parent, file, proto } = described;
      return parent === undefined
        ? [4, file.proto.messageType.indexOf(proto)]
        : [...pathOf(parent), 3, parent.proto.nestedType.indexOf(proto)];
    }
    case "enum": {
      const { parent, file, proto } = described;
      return parent === undefined
        ? [5, file.proto.enumType.indexOf(proto)]
        : [...pathOf(parent), 4, parent.proto.enumType.indexOf(proto)];
    }
    case "extension": {
      const { parent, file, proto } = described;
      return parent === undefined
        ? [7, file.proto.extension.indexOf(proto)]
        : [...pathOf(parent), 6, parent.proto.extension.indexOf(proto)];
    }
    case "field":
      return [...pathOf(described.parent), 2, described.parent.proto.field.indexOf(described.proto)];
    case "oneof":
      return [...pathOf(described.parent), 8, described.parent.proto.oneofDecl.indexOf(described.proto)];
    case "enum_value":
      return [...pathOf(described.parent), 2, described.parent.proto.value.indexOf(described.proto)];
    default:
      return described satisfies never;
  }
}

function commentOf(location: SourceLocation | undefined): string[] {
  const text = location?.leadingComments.trim() ? location.leadingComments : (location?.trailingComments ?? "");
  const lines = text.trimEnd().split(/\r\n|[\r\n\u2028\u2029]/);
  return lines.length === 1 && lines[0]!.trim() === "" ? [] : lines.map((line) => line.replace(/^ /, "").trimEnd());
}

/** A doc comment in lines, or none for no text. */
export function docComment(lines: readonly string[], indent = ""): string[] {
  // A comment must not end before its text does.
  const safe = lines.map((line) => line.replaceAll("*/", "*\\/"));
  if (safe.length === 0) return [];
  if (safe.length === 1 && safe[0]!.length < 110) return [`${indent}/** ${safe[0]} */`];
  return [`${indent}/**`, ...safe.map((line) => `${indent} * ${line}`.trimEnd()), `${indent} */`];
}
