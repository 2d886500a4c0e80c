/**
 * Value trees: how the registry describes messages. Go derives them from struct types (`server/extractor.go`); here
 * they are written by hand or by a generator, or come from a JSON Schema.
 */
import type { MessageType } from "../definition.ts";
import type { Value } from "./registry.ts";

/** Levels of a tree: the root, its fields, and theirs. */
const maxDepth = 3;

/** Request and response of every streaming method, as Go registers them: the names of its two parameter types. */
export const streamRequestValue: Value = Object.freeze({ name: "Context", type: "Context", values: null });
export const streamResponseValue: Value = Object.freeze({ name: "Stream", type: "Stream", values: null });

/** Fields by name: Go's type name (`string`, `int64`, `[]string`; empty for a map), or a nested {@link message}. */
export type MessageFields = Readonly<Record<string, string | Value>>;

/** Describe a message: `message("HelloRequest", { name: "string", tags: "[]string" })`. */
export function message(typeName: string, fields: MessageFields = {}): Value {
  const values = Object.entries(fields).map(([name, field]) =>
    typeof field === "string" ? { name, type: field, values: null } : { ...field, name },
  );
  return limited({ name: typeName, type: typeName, values: values.length === 0 ? null : values }, maxDepth);
}

/** The description of a message type: its own, or its name without fields. Never deeper than three levels. */
export function valueOf(type: MessageType): Value {
  return type.value === undefined ? message(type.name) : limited(type.value, maxDepth);
}

function limited(value: Value, levels: number): Value {
  if (value.values === null) return value;
  const values = levels > 1 ? value.values.map((field) => limited(field, levels - 1)) : null;
  return { name: value.name, type: value.type, values };
}

type JsonSchema = Readonly<Record<string, unknown>>;

/**
 * The description of a JSON Schema (any draft; references inside the schema are followed). What has no counterpart in
 * Go, such as a union, has an empty type, as Go's `interface{}` has.
 */
export function valueOfJsonSchema(name: string, schema: JsonSchema): Value {
  return limited({ ...describe(schema, name, schema, maxDepth), name }, maxDepth);
}

const goTypes = new Map([
  ["string", "string"],
  ["integer", "int64"],
  ["number", "float64"],
  ["boolean", "bool"],
]);

function describe(given: unknown, name: string, root: JsonSchema, levels: number): Value {
  const schema = resolve(given, root);
  const leaf = (type: string): Value => ({ name, type, values: null });
  // Below 0 are lists in lists; a list may be its own element.
  if (schema === undefined || levels < -maxDepth) return leaf("");
  const type = schemaType(schema.schema);
  if (type === "array") {
    const element = describe(schema.schema["items"], singular(name), root, Math.min(levels, 1) - 1);
    return leaf(`[]${element.type}`);
  }
  if (type === "string" && schema.schema["contentEncoding"] === "base64") return leaf("[]uint8");
  if (type !== "object") return leaf(goTypes.get(type) ?? "");
  const properties = schema.schema["properties"];
  if (!isObject(properties)) return leaf(""); // A map.
  const { title } = schema.schema;
  const typeName = schema.name ?? (typeof title === "string" && /^\w+$/.test(title) ? title : capitalised(name));
  const values =
    levels > 1 ? Object.entries(properties).map(([key, property]) => describe(property, key, root, levels - 1)) : [];
  return { name, type: typeName, values: values.length === 0 ? null : values };
}

/** Follow references and see through `T | null`. */
function resolve(
  given: unknown,
  root: JsonSchema,
): { readonly schema: JsonSchema; readonly name: string | undefined } | undefined {
  let schema = given;
  let name: string | undefined;
  // A reference may lead to itself.
  for (let step = 0; step < 32; step++) {
    if (!isObject(schema)) return undefined;
    const { $ref: reference } = schema;
    const choices = schema["anyOf"] ?? schema["oneOf"] ?? schema["allOf"];
    if (typeof reference === "string") {
      const parts = reference.split("/").slice(1);
      schema = parts.reduce<unknown>(
        (at, part) => (isObject(at) && Object.hasOwn(at, part) ? at[part] : undefined),
        root,
      );
      if (parts.length > 0 && /^[A-Za-z]\w*$/.test(parts.at(-1)!)) name = parts.at(-1);
    } else if (schema["type"] === undefined && Array.isArray(choices)) {
      const real: unknown[] = choices.filter((choice) => !isObject(choice) || choice["type"] !== "null");
      if (real.length !== 1) return { schema: commonType(real), name: undefined };
      schema = real[0];
    } else return { schema, name };
  }
  return undefined;
}

/** Literals of one type (`"a" | "b"`) are that type; other unions have none. */
function commonType(choices: readonly unknown[]): JsonSchema {
  const types = new Set(choices.map((choice) => (isObject(choice) ? schemaType(choice) : "")));
  const [type] = types;
  return types.size === 1 && type !== undefined && goTypes.has(type) ? { type } : {};
}

function schemaType(schema: JsonSchema): string {
  const { type } = schema;
  if (typeof type === "string") return type;
  if (Array.isArray(type)) {
    const real: unknown[] = type.filter((name) => name !== "null");
    return real.length === 1 && typeof real[0] === "string" ? real[0] : "";
  }
  const examples = "const" in schema ? [schema["const"]] : Array.isArray(schema["enum"]) ? schema["enum"] : [];
  const kinds = new Set(examples.map((example) => (Number.isInteger(example) ? "integer" : typeof example)));
  const [kind] = kinds;
  return kinds.size === 1 && kind !== undefined ? kind : "";
}

function isObject(value: unknown): value is JsonSchema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function capitalised(name: string): string {
  return name.slice(0, 1).toUpperCase() + name.slice(1);
}

/** `users` has elements of type `User`. */
function singular(name: string): string {
  return /[^s]s$/.test(name) ? name.slice(0, -1) : name;
}
