/** `Struct`, `Value`, `ListValue`: JSON in protobuf. */
import type { JsonObject, JsonValue } from "./json.ts";
import { inside } from "./json.ts";
import { textOf } from "./json-scalars.ts";
import { entriesOf, setEntry } from "./maps.ts";
import { isMessage, notMessage } from "./plain.ts";
import type { SpecialJson } from "./proto-type.ts";
import { maxDepth } from "./reader.ts";
import type { ListValue, Struct, Value } from "./gen/struct.ts";
import { shown, wrong } from "./wrong.ts";

/** A value of JSON as the message. @throws {TypeError} for what JSON has not */
export function packValue(value: unknown, depth = 0): Value {
  // As deep as others read: a list and its elements are two messages.
  if (depth > maxDepth / 2) throw new TypeError(`JSON is nested deeper than ${maxDepth / 2} levels`);
  if (value === null) return { kind: { $case: "nullValue", value: 0 } };
  if (typeof value === "boolean") return { kind: { $case: "boolValue", value } };
  if (typeof value === "string") return { kind: { $case: "stringValue", value } };
  if (typeof value === "number") return { kind: { $case: "numberValue", value } };
  // An integer of more digits than a number holds, from the JSON codec.
  if (typeof value === "bigint") return { kind: { $case: "numberValue", value: Number(value) } };
  if (Array.isArray(value)) return { kind: { $case: "listValue", value: packList(value, depth + 1) } };
  if (isMessage(value)) return { kind: { $case: "structValue", value: packStruct(value, depth + 1) } };
  throw wrong(value, "a value of JSON");
}

export function packStruct(value: unknown, depth = 0): Struct {
  if (!isMessage(value)) throw wrong(value, "an object");
  const fields: Struct["fields"] = {};
  for (const [key, member] of Object.entries(value)) {
    if (member === undefined) continue;
    try {
      setEntry(fields, key, packValue(member, depth));
    } catch (error) {
      throw inside(key, error);
    }
  }
  return { fields };
}

export function packList(value: unknown, depth = 0): ListValue {
  if (!Array.isArray(value)) throw wrong(value, "an array");
  const values: Value[] = [];
  // Not by `map`, which passes over what is missing in between.
  for (const [index, element] of value.entries()) {
    try {
      values.push(packValue(element, depth));
    } catch (error) {
      throw inside(index, error);
    }
  }
  return { values };
}

export function unpackValue(message: Value): JsonValue {
  if (!isMessage(message)) throw notMessage(message, "google.protobuf.Value");
  const { kind } = message;
  // A value without any kind says nothing: JSON has null for that.
  if (kind === undefined || kind === null) return null;
  const { $case, value } = kind;
  switch ($case) {
    case "nullValue":
      return null;
    case "structValue":
      if (!isMessage(value)) throw notMessage(value, "google.protobuf.Struct");
      return unpackStruct(value);
    case "listValue":
      if (!isMessage(value)) throw notMessage(value, "google.protobuf.ListValue");
      return unpackList(value);
    case "numberValue":
      if (typeof value !== "number") throw wrong(value, "a number");
      return value;
    case "stringValue":
      if (typeof value !== "string") throw wrong(value, "a string");
      return value;
    case "boolValue":
      if (typeof value !== "boolean") throw wrong(value, "a boolean");
      return value;
    default:
      throw new TypeError(`a oneof has $case ${shown($case)}, which is none of its fields`);
  }
}

export function unpackStruct(message: Partial<Struct>): JsonObject {
  return addFields({}, message);
}

export function unpackList(message: Partial<ListValue>): JsonValue[] {
  return addElements([], message);
}

/** Set the fields of a message in an object, as a later part of a `Struct` does. */
export function addFields(object: JsonObject, { fields }: Partial<Struct>): JsonObject {
  for (const [key, value] of entriesOf(fields)) {
    try {
      setEntry(object, key, unpackValue(value as Value));
    } catch (error) {
      throw inside(String(key), error);
    }
  }
  return object;
}

/** Append the elements of a message to a list, as a later part of a `ListValue` does. */
export function addElements(list: JsonValue[], { values }: Partial<ListValue>): JsonValue[] {
  const added: unknown = values ?? [];
  if (!Array.isArray(added)) throw wrong(added, "an array");
  for (const [index, value] of added.entries()) {
    try {
      list.push(unpackValue(value as Value));
    } catch (error) {
      throw inside(index, error);
    }
  }
  return list;
}

/** Add a part to a value. A part that has another kind, if only in between, replaces it. */
export function mergeValue(value: JsonValue, read: (into: Value) => Value): JsonValue {
  if (Array.isArray(value)) {
    const part: ListValue = { values: [] };
    const message = read({ kind: { $case: "listValue", value: part } });
    return message.kind?.value === part ? addElements(value, part) : unpackValue(message);
  }
  if (typeof value === "object" && value !== null) {
    const part: Struct = { fields: {} };
    const message = read({ kind: { $case: "structValue", value: part } });
    return message.kind?.value === part ? addFields(value, part) : unpackValue(message);
  }
  return unpackValue(read(packValue(value)));
}

/** @throws {TypeError} if a number or a text in it has no JSON */
export function checkedJson<T extends JsonValue>(value: T): T {
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new TypeError(`${shown(value)} has no JSON in a google.protobuf.Value`);
  } else if (typeof value === "string") textOf(value);
  else if (typeof value === "object" && value !== null) {
    const isList = Array.isArray(value);
    for (const [key, member] of Object.entries(value)) {
      try {
        if (!isList) textOf(key);
        checkedJson(member);
      } catch (error) {
        throw inside(isList ? Number(key) : key, error);
      }
    }
  }
  return value;
}

export const structJson: SpecialJson<Struct> = {
  read: (value) => packStruct(value),
  write: (message) => checkedJson(unpackStruct(message)),
};
export const listJson: SpecialJson<ListValue> = {
  read: (value) => packList(value),
  write: (message) => checkedJson(unpackList(message)),
};
export const valueJson: SpecialJson<Value> = {
  read: (value) => packValue(value),
  write: (message) => checkedJson(unpackValue(message)),
};
