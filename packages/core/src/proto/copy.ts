/** Messages from partial ones: everything there, nothing shared. */
import { inside } from "./json.ts";
import { entriesOf, setEntry } from "./maps.ts";
import { checkCases } from "./oneofs.ts";
import { isMessage, notMessage } from "./plain.ts";
import type { ProtoType } from "./proto-type.ts";
import { is64Bit, type ScalarName } from "./scalars.ts";
import type { Field } from "./table.ts";
import { setUnknownFields, unknownFields } from "./unknown.ts";
import { wrong } from "./writer.ts";

/** @throws {TypeError} naming what is no message, list or map where one belongs */
export function copyOf<T extends object>(type: ProtoType<T>, input: T): T {
  if (!isMessage(input)) throw notMessage(input, type.$type);
  checkCases(type, input);
  const message = type.base();
  const target = message as Record<string, unknown>;
  const source = input as Record<string, unknown>;
  let current: Field | undefined;
  try {
    for (const field of type.table.fields) {
      current = field;
      copyField(field, source, target);
    }
  } catch (error) {
    // An object that holds itself has no path worth telling.
    throw error instanceof RangeError ? error : inside(current!.key, error);
  }
  const unknown = unknownFields(input);
  if (unknown !== undefined) setUnknownFields(message, unknown);
  return message;
}

function copyField(field: Field, source: Record<string, unknown>, target: Record<string, unknown>): void {
  if (field.oneof !== undefined) {
    const chosen = source[field.oneof] as { $case?: string; value?: unknown } | undefined;
    if (chosen?.$case === field.key && chosen.value !== undefined)
      target[field.oneof] = { $case: field.key, value: copyOfValue(field, chosen.value) };
    return;
  }
  const value = source[field.key];
  if (value === undefined || (value === null && field.type !== "boxed")) return;
  if (field.list === true) target[field.key] = copyOfList(field, value);
  else if (field.map === undefined) target[field.key] = copyOfValue(field, value);
  else copyMap(field, value, target[field.key]);
}

function copyOfList(field: Field, value: unknown): unknown[] {
  if (!Array.isArray(value)) throw wrong(value, "an array");
  return value.map((element, index) => {
    try {
      return copyOfValue(field, element);
    } catch (error) {
      throw error instanceof RangeError ? error : inside(index, error);
    }
  });
}

function copyMap(field: Field, value: unknown, target: unknown): void {
  for (const [key, entry] of entriesOf(value)) {
    let copy: unknown;
    try {
      copy = copyOfValue(field, entry);
    } catch (error) {
      throw error instanceof RangeError ? error : inside(String(key), error);
    }
    setEntry(target, keyFor(field.map!, key), copy);
  }
}

function copyOfValue(field: Field, value: unknown): unknown {
  return field.type === "message" ? copyOf(field.of!() as ProtoType<object>, value as object) : value;
}

/** Keys of an object are texts, those of a `Map` what the type says. */
function keyFor(type: ScalarName, key: unknown): unknown {
  if (typeof key !== "string") return key;
  return type === "bool" ? key === "true" : is64Bit(type) ? BigInt(key) : key;
}
