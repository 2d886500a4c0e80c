/** Messages from partial ones: everything there, nothing shared. */
import type { Boxed } from "./boxed.ts";
import { inside } from "./json.ts";
import { isAnyJson } from "./json-read.ts";
import { valueToJson } from "./json-write.ts";
import { entriesOf, hasEntry, keyOf, setEntry, twice } from "./maps.ts";
import { checkCases } from "./oneofs.ts";
import { isMessage, notMessage } from "./plain.ts";
import type { ProtoType } from "./proto-type.ts";
import { int64As } from "./scalars.ts";
import type { Field } from "./table.ts";
import { setUnknownFields, unknownFields } from "./unknown.ts";
import { wrong } from "./wrong.ts";

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
    if (chosen?.$case === field.key)
      target[field.oneof] = { $case: field.key, value: copyOfValue(field, chosen.value) };
    return;
  }
  const value = source[field.key];
  if (value === undefined || (value === null && !isAnyJson(field))) return;
  if (field.list === true) target[field.key] = copyOfList(field, value);
  else if (field.map === undefined) target[field.key] = copyOfValue(field, value);
  else copyMap(field, value, target[field.key]);
}

function copyOfList(field: Field, value: unknown): unknown[] {
  if (!Array.isArray(value)) throw wrong(value, "an array");
  const list: unknown[] = [];
  // Not by `map`, which passes over what is missing in between, and makes a list of another realm of one.
  for (const [index, element] of value.entries()) {
    try {
      list.push(copyOfValue(field, element));
    } catch (error) {
      throw error instanceof RangeError ? error : inside(index, error);
    }
  }
  return list;
}

function copyMap(field: Field, value: unknown, target: unknown): void {
  for (const [key, entry] of entriesOf(value)) {
    try {
      const known = keyFor(field, key);
      if (hasEntry(target, known)) throw twice(String(known));
      setEntry(target, known, copyOfValue(field, entry));
    } catch (error) {
      throw error instanceof RangeError ? error : inside(String(key), error);
    }
  }
}

function copyOfValue(field: Field, value: unknown): unknown {
  if (field.type === "message") return copyOf(field.of!() as ProtoType<object>, value as object);
  // Says what it is not: a list, a map and a oneof have no place for what is not there.
  if (value === undefined) valueToJson(field, value, {});
  return field.type === "boxed" ? ((field.of!() as Boxed<unknown, object>).copy?.(value) ?? value) : value;
}

/** A key as a message of ours has it. */
function keyFor({ map, int64 }: Field, key: unknown): unknown {
  const known = keyOf(map!, key);
  return typeof known === "bigint" ? int64As(known, int64) : known;
}
