/** Messages from partial ones: everything there, nothing shared. */
import { entriesOf, setEntry } from "./maps.ts";
import type { ProtoType } from "./proto-type.ts";
import { is64Bit, type ScalarName } from "./scalars.ts";
import type { Field } from "./table.ts";
import { setUnknownFields, unknownFields } from "./unknown.ts";

export function copyOf<T extends object>(type: ProtoType<T>, input: T): T {
  const message = type.base();
  const target = message as Record<string, unknown>;
  const source = input as Record<string, unknown>;
  for (const field of type.table.fields) {
    if (field.oneof !== undefined) {
      const chosen = source[field.oneof] as { $case?: string; value?: unknown } | undefined;
      if (chosen?.$case === field.key && chosen.value !== undefined)
        target[field.oneof] = { $case: field.key, value: copyOfValue(field, chosen.value) };
      continue;
    }
    const value = source[field.key];
    if (value === undefined || (value === null && field.type !== "boxed")) continue;
    if (field.list === true) target[field.key] = (value as unknown[]).map((element) => copyOfValue(field, element));
    else if (field.map === undefined) target[field.key] = copyOfValue(field, value);
    else
      for (const [key, entry] of entriesOf(value))
        setEntry(target[field.key], keyFor(field.map, key), copyOfValue(field, entry));
  }
  const unknown = unknownFields(input);
  if (unknown !== undefined) setUnknownFields(message, unknown);
  return message;
}

function copyOfValue(field: Field, value: unknown): unknown {
  return field.type === "message" ? copyOf(field.of!() as ProtoType<object>, value as object) : value;
}

/** Keys of an object are texts, those of a `Map` what the type says. */
function keyFor(type: ScalarName, key: unknown): unknown {
  if (typeof key !== "string") return key;
  return type === "bool" ? key === "true" : is64Bit(type) ? BigInt(key) : key;
}
