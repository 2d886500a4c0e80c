/** Descriptions of messages for the registry: what Go finds in the structs of its generated code (`server/extractor.go`). */
import { ScalarType, type DescEnum, type DescField, type DescMessage } from "@bufbuild/protobuf";
import { goCamelCase } from "./names.ts";

/** A message's fields by name: a Go type name, or a message again. */
export interface MessageTree {
  readonly typeName: string;
  readonly fields: readonly (readonly [name: string, field: string | MessageTree])[];
}

/** Levels of a description: the message, its fields, and theirs. */
const maxDepth = 3;

const scalarTypes: Readonly<Record<ScalarType, string>> = {
  [ScalarType.DOUBLE]: "float64",
  [ScalarType.FLOAT]: "float32",
  [ScalarType.INT64]: "int64",
  [ScalarType.UINT64]: "uint64",
  [ScalarType.INT32]: "int32",
  [ScalarType.FIXED64]: "uint64",
  [ScalarType.FIXED32]: "uint32",
  [ScalarType.BOOL]: "bool",
  [ScalarType.STRING]: "string",
  [ScalarType.BYTES]: "[]uint8",
  [ScalarType.UINT32]: "uint32",
  [ScalarType.SFIXED32]: "int32",
  [ScalarType.SFIXED64]: "int64",
  [ScalarType.SINT32]: "int32",
  [ScalarType.SINT64]: "int64",
};

/** A type's name in Go's generated code: nested ones have an underscore between. */
export function goTypeName(type: DescMessage | DescEnum): string {
  const parts: string[] = [];
  for (let next: DescMessage | DescEnum | undefined = type; next !== undefined; next = next.parent)
    parts.unshift(goCamelCase(next.name));
  return parts.join("_");
}

export function messageTree(message: DescMessage, depth = maxDepth): MessageTree {
  const typeName = goTypeName(message);
  if (depth <= 1) return { typeName, fields: [] };
  const fields: [string, string | MessageTree][] = [];
  // Go has one field for all members of a oneof, where the first of them stands; an interface without a tag.
  const seen = new Set<unknown>();
  for (const field of message.fields) {
    const { oneof } = field;
    if (oneof === undefined) fields.push([field.name, fieldType(field, depth - 1)]);
    else if (!seen.has(oneof)) {
      seen.add(oneof);
      const name = goCamelCase(oneof.name);
      fields.push([name, `is${typeName}_${name}`]);
    }
  }
  return { typeName, fields };
}

function fieldType(field: DescField, depth: number): string | MessageTree {
  switch (field.fieldKind) {
    case "scalar":
      return scalarTypes[field.scalar];
    case "enum":
      return goTypeName(field.enum);
    case "message":
      return messageTree(field.message, depth);
    case "map":
      return "";
    case "list":
      if (field.listKind === "message") return `[]${goTypeName(field.message)}`;
      if (field.listKind === "enum") return `[]${goTypeName(field.enum)}`;
      // A slice of slices: the inner one has no name.
      return field.scalar === ScalarType.BYTES ? "[]" : `[]${scalarTypes[field.scalar]}`;
    default:
      return field satisfies never;
  }
}

/**
 * Names in Go of the oneofs of a message and of all messages inside it. Well-known types have JSON of their own, and no
 * names of oneofs in it.
 */
export function oneofNames(message: DescMessage): string[] {
  const names = new Set<string>();
  const seen = new Set<DescMessage>();
  const visit = (next: DescMessage): void => {
    if (seen.has(next) || next.typeName.startsWith("google.protobuf.")) return;
    seen.add(next);
    for (const { name } of next.oneofs) names.add(goCamelCase(name));
    for (const field of next.fields) if (field.message !== undefined) visit(field.message);
  };
  visit(message);
  return [...names].toSorted();
}
