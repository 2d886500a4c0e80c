/**
 * Descriptions of messages for the registry, where nobody wrote one down: what Go finds in the structs of its generated
 * code (`server/extractor.go`), as far as a message's own fields tell.
 */
import type { Value } from "../registry/registry.ts";
import type { Field } from "./table.ts";

/** Levels: the message, its fields, and theirs. */
const maxDepth = 3;

/** A message type: generated ones are such. */
interface DescribedType {
  readonly $type: string;
  readonly fields: readonly unknown[];
}

const goTypes: Readonly<Record<string, string>> = {
  double: "float64",
  float: "float32",
  sint32: "int32",
  sfixed32: "int32",
  fixed32: "uint32",
  sint64: "int64",
  sfixed64: "int64",
  fixed64: "uint64",
  bytes: "[]uint8",
  // Of an enum only the values are known here, not its name.
  enum: "int32",
};

/** The description of a message type, under the name it has. */
export function describeMessage(name: string, type: DescribedType): Value {
  return { ...describe(name, type, maxDepth), name };
}

function describe(name: string, { fields }: DescribedType, depth: number): Value {
  const values: Value[] = [];
  // Go has one field for all members of a oneof, where the first of them stands.
  const seen = new Set<string>();
  for (const row of depth > 1 ? (fields as readonly Field[]) : []) {
    if (row.oneof === undefined) values.push(describeField(row, depth - 1));
    else if (!seen.has(row.oneof)) {
      seen.add(row.oneof);
      const oneof = row.oneof.slice(0, 1).toUpperCase() + row.oneof.slice(1);
      values.push({ name: oneof, type: `is${name}_${oneof}`, values: null });
    }
  }
  return { name, type: name, values: values.length === 0 ? null : values };
}

function describeField(row: Field, depth: number): Value {
  const { name } = row;
  if (row.map !== undefined) return { name, type: "", values: null };
  const message = row.type === "message" || row.type === "boxed" ? messageOf(row) : undefined;
  const type = message === undefined ? (goTypes[row.type] ?? row.type) : typeName(message);
  // A slice of slices: the inner one has no name.
  if (row.list === true) return { name, type: type === "[]uint8" ? "[]" : `[]${type}`, values: null };
  return message === undefined ? { name, type, values: null } : { ...describe(type, message, depth), name };
}

function messageOf({ of }: Field): DescribedType {
  const type = of!() as DescribedType | { readonly type: DescribedType };
  return "type" in type ? type.type : type;
}

/** `acme.v1.Order.Line` is `Order_Line`: packages are in small letters. */
function typeName({ $type }: DescribedType): string {
  const parts = $type.split(".");
  const first = parts.findIndex((part) => /^\p{Lu}/u.test(part));
  return parts.slice(first < 0 ? parts.length - 1 : first).join("_");
}
