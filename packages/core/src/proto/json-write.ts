/** Writing proto3 JSON. */
import type { Boxed } from "./boxed.ts";
import { getExtension, hasExtension } from "./extension.ts";
import { inside, ProtoJsonError, setMember, type JsonObject, type JsonValue, type JsonWriteOptions } from "./json.ts";
import { scalarToJson } from "./json-scalars.ts";
import { entriesOf, setJsonEntry } from "./maps.ts";
import { checkCases } from "./oneofs.ts";
import { isMessage, notMessage } from "./plain.ts";
import type { ProtoType } from "./proto-type.ts";
import { isBytes } from "./realms.ts";
import { zeroOf, type ScalarName } from "./scalars.ts";
import { enumNames, type EnumValues, type Field } from "./table.ts";
import { unknownFields } from "./unknown.ts";
import { wrong } from "./wrong.ts";

/** JSON of a message. @throws {ProtoJsonError} */
export function toJson<T extends object>(type: ProtoType<T>, message: T, options: JsonWriteOptions): JsonValue {
  if (!isMessage(message)) throw new ProtoJsonError("", notMessage(message, type.$type).message);
  if (type.special === undefined) return fieldsToJson(type, message, options);
  try {
    return type.special.write(message, options);
  } catch (error) {
    throw error instanceof ProtoJsonError ? error : new ProtoJsonError("", (error as Error).message);
  }
}

export function fieldsToJson<T extends object>(type: ProtoType<T>, message: T, options: JsonWriteOptions): JsonObject {
  checkCases(type, message);
  const json: JsonObject = {};
  const source = message as Record<string, unknown>;
  const byProto = options.names === "proto";
  let current: Field | undefined;
  try {
    for (const field of type.table.fields) {
      current = field;
      const value = fieldToJson(source, field, options);
      if (value === undefined) continue;
      const name = byProto ? field.name : field.json;
      // Of proto2, where a message may have `foo_bar` and `fooBar`; and of a `json_name` that is another one's name.
      const reader = type.table.byName.get(name);
      if (reader !== field)
        throw new TypeError(
          `in JSON ${JSON.stringify(name)} is the field ${reader!.name}: give one of them a json_name`,
        );
      if (name === "__proto__") setMember(json, name, value);
      else json[name] = value;
    }
  } catch (error) {
    throw inside(current!.key, error);
  }
  if (options.types !== undefined && unknownFields(message) !== undefined)
    extensionsToJson(type, message, json, options);
  return json;
}

function extensionsToJson(type: ProtoType<any>, message: object, json: JsonObject, options: JsonWriteOptions): void {
  for (const [name, known] of options.types!) {
    if (!("holder" in known) || known.extendee !== type || !hasExtension(message, known)) continue;
    const [value] = Object.values(fieldsToJson(known.holder, { value: getExtension(message, known) }, options));
    if (value !== undefined) json[name] = value;
  }
}

function fieldToJson(source: Record<string, unknown>, field: Field, options: JsonWriteOptions): JsonValue | undefined {
  if (field.oneof !== undefined) {
    const chosen = source[field.oneof] as { $case?: string; value?: unknown } | undefined;
    if (chosen?.$case !== field.key) return undefined;
    return valueToJson(field, chosen.value, options);
  }
  const value = source[field.key];
  if (value === undefined) return undefined;
  if (field.list === true) return listToJson(field, value, options);
  if (field.map !== undefined) return mapToJson(field, value, options);
  if (value === null && field.type !== "boxed") return undefined;
  if (field.isImplicit && isZero(field, value)) return undefined;
  return valueToJson(field, value, options);
}

/** As generated code has it: what is nothing of another type is not nothing here. */
function isZero({ type, int64 }: Field, value: unknown): boolean {
  switch (type) {
    case "bytes":
      return isBytes(value) && value.length === 0;
    case "double":
    case "float":
      return Object.is(value, 0);
    default:
      return value === zeroOf(type as ScalarName, int64);
  }
}

function listToJson(field: Field, value: unknown, options: JsonWriteOptions): JsonValue | undefined {
  if (!Array.isArray(value)) throw wrong(value, "an array");
  if (value.length === 0) return undefined;
  const list: JsonValue[] = [];
  let index = 0;
  try {
    for (; index < value.length; index++) list.push(valueToJson(field, value[index], options));
  } catch (error) {
    throw inside(index, error);
  }
  return list;
}

function mapToJson(field: Field, value: unknown, options: JsonWriteOptions): JsonValue | undefined {
  const json: JsonObject = {};
  let isEmpty = true;
  for (const [key, entry] of entriesOf(value)) {
    try {
      setJsonEntry(json, field.map!, key, valueToJson(field, entry, options));
    } catch (error) {
      throw inside(String(key), error);
    }
    isEmpty = false;
  }
  return isEmpty ? undefined : json;
}

export function valueToJson(field: Field, value: unknown, options: JsonWriteOptions): JsonValue {
  switch (field.type) {
    case "message":
      return toJson(field.of!() as ProtoType<object>, value as object, options);
    case "boxed":
      return (field.of!() as Boxed<unknown, object>).toJSON(value, options);
    case "enum": {
      if (typeof value !== "number" || value !== (value | 0)) throw wrong(value, "a number of an enum");
      if (field.null === true) return null;
      return enumNames(field.of!() as EnumValues).get(value) ?? value | 0;
    }
    default:
      return scalarToJson(field.type, value);
  }
}
