/** Reading proto3 JSON, in both spellings of names, and what Go up to v5.13 writes instead of it. */
import type { Boxed } from "./boxed.ts";
import { setExtension } from "./extension.ts";
import { inside, ProtoJsonError, type JsonReadOptions } from "./json.ts";
import { keyFromJson, scalarFromJson } from "./json-scalars.ts";
import { hasEntry, setEntry } from "./maps.ts";
import { take } from "./memory.ts";
import { isMessage, notMessage } from "./plain.ts";
import type { ProtoType } from "./proto-type.ts";
import { maxDepth } from "./reader.ts";
import { bare, enumNames, type EnumValues, type Field } from "./table.ts";
import { wrong } from "./wrong.ts";

/** Stands for an enum's name that is not known and may be passed over. */
const skipped = Symbol("skipped");

let depth = 0;

/** A message from JSON. @throws {ProtoJsonError} */
export function fromJson<T extends object>(type: ProtoType<T>, value: unknown, options: JsonReadOptions): T {
  if (type.special !== undefined) return special(type, value, options);
  return fieldsFromJson(type, value, options, undefined);
}

function special<T extends object>(type: ProtoType<T>, value: unknown, options: JsonReadOptions): T {
  if (depth >= maxDepth) throw new ProtoJsonError("", `messages are nested deeper than ${maxDepth} levels`);
  depth++;
  try {
    return type.special!.read(value, options);
  } catch (error) {
    throw error instanceof ProtoJsonError ? error : new ProtoJsonError("", (error as Error).message);
  } finally {
    depth--;
  }
}

/** The fields of an object; `except` is a member that is none of them. */
export function fieldsFromJson<T extends object>(
  type: ProtoType<T>,
  value: unknown,
  options: JsonReadOptions,
  except: string | undefined,
): T {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new ProtoJsonError("", notMessage(value, type.$type).message);
  if (depth >= maxDepth) throw new ProtoJsonError("", `messages are nested deeper than ${maxDepth} levels`);
  const { byName } = type.table;
  take(type.memory);
  const message = type.base();
  const target = message as Record<string, unknown>;
  const source = value as Record<string, unknown>;
  let seen: Field[] | undefined;
  let current = "";
  depth++;
  try {
    for (const key in source) {
      if (key === except) continue;
      current = key;
      const field = byName.get(key);
      if (field === undefined) {
        if (
          !(key.startsWith("[") && extensionFromJson(type, message, key, source[key], options)) &&
          !oneofOfGo(type, target, key, source[key], options) &&
          options.ignoreUnknownFields !== true
        )
          throw new ProtoJsonError("", `${type.$type} has no field of this name`);
        continue;
      }
      // Both spellings of one field; the same one twice is not seen here, since JSON.parse takes the last.
      if (key !== field.json || field.json !== field.name) {
        if (seen?.includes(field)) throw new ProtoJsonError("", "the field is given twice, in both spellings");
        (seen ??= []).push(field);
      }
      setField(target, field, source[key], options);
    }
  } catch (error) {
    if (!isMessage(value)) throw new ProtoJsonError("", notMessage(value, type.$type).message);
    throw inside(current, error);
  } finally {
    depth--;
  }
  // A Date, a Map, a promise have no members at all.
  if (current === "" && !isMessage(value)) throw new ProtoJsonError("", notMessage(value, type.$type).message);
  return message;
}

function setField(target: Record<string, unknown>, field: Field, value: unknown, options: JsonReadOptions): void {
  if (field.list === true) {
    if (value !== null) target[field.key] = listFromJson(field, value, options);
    return;
  }
  if (field.map !== undefined) {
    if (value !== null) mapFromJson(target[field.key], field, value, options);
    return;
  }
  if (value === null && !takesNull(field)) return;
  const single = valueFromJson(field, value, options);
  if (single === skipped) return;
  if (field.oneof === undefined) target[field.key] = single;
  else {
    if (target[field.oneof] !== undefined) throw new TypeError("another field of the same oneof is given as well");
    target[field.oneof] = { $case: field.key, value: single };
  }
}

function listFromJson(field: Field, value: unknown, options: JsonReadOptions): unknown[] {
  if (!Array.isArray(value)) throw wrong(value, "an array");
  const list: unknown[] = [];
  let index = 0;
  try {
    for (; index < value.length; index++) {
      const element = valueFromJson(field, value[index], options);
      if (element !== skipped) list.push(element);
    }
  } catch (error) {
    throw inside(index, error);
  }
  return list;
}

function mapFromJson(map: unknown, field: Field, value: unknown, options: JsonReadOptions): void {
  if (!isMessage(value)) throw wrong(value, "an object (a map)");
  let current = "";
  try {
    for (const [key, entry] of Object.entries(value)) {
      current = key;
      const element = valueFromJson(field, entry, options);
      if (element === skipped) continue;
      const known = keyFromJson(field.map!, key, field.int64);
      // `0` and `-0`: the text of a key is there once, or whoever parsed it took the last.
      if (hasEntry(map, known)) throw new TypeError("the key is given twice, in different texts");
      setEntry(map, known, element);
    }
  } catch (error) {
    throw inside(current, error);
  }
}

/** True where null is a value, not absence. */
function takesNull(field: Field): boolean {
  return field.type === "enum" ? field.null === true : isAnyJson(field);
}

/** True for a field whose values in code are those of JSON, null among them. */
export function isAnyJson(field: Field): boolean {
  return field.type === "boxed" && (field.of!() as Boxed<unknown, object>).type.$type === "google.protobuf.Value";
}

function valueFromJson(field: Field, value: unknown, options: JsonReadOptions): unknown {
  switch (field.type) {
    case "message":
      return fromJson(field.of!() as ProtoType<object>, value, options);
    case "boxed":
      return (field.of!() as Boxed<unknown, object>).fromJSON(value, options);
    case "enum":
      return enumFromJson(field, value, options);
    default:
      return scalarFromJson(field.type, value, field.int64);
  }
}

function enumFromJson(field: Field, value: unknown, options: JsonReadOptions): unknown {
  const values = field.of!() as EnumValues;
  if (typeof value === "string") {
    if (Object.hasOwn(values, value)) return values[value];
    if (options.ignoreUnknownFields === true) return skipped;
    throw new TypeError(
      `${wrong(value, "a value of the enum").message}: ${Object.keys(values).slice(0, 5).join(", ")}…`,
    );
  }
  if (typeof value === "number" && value === (value | 0)) {
    if (field.closed !== true || enumNames(values).has(value)) return value | 0;
    if (options.ignoreUnknownFields === true) return skipped;
  }
  if (value === null && field.null === true) return 0;
  throw wrong(value, "a name or a number of the enum");
}

/** A member such as `[acme.priority]`. @returns false if no such extension is known */
function extensionFromJson(
  type: ProtoType<any>,
  message: object,
  key: string,
  value: unknown,
  options: JsonReadOptions,
): boolean {
  const known = options.types?.get(key);
  if (known === undefined || !("holder" in known) || known.extendee !== type) return false;
  if (value === null) return true;
  const target: Record<string, unknown> = known.holder.base();
  setField(target, known.holder.fields[0]!, value, options);
  setExtension(message, known, target["value"]);
  return true;
}

/** Go up to v5.13 writes `{"Choice": {"ChosenText": "x"}}` for what proto3 JSON has as `{"chosenText": "x"}`. */
function oneofOfGo(
  type: ProtoType<any>,
  target: Record<string, unknown>,
  key: string,
  value: unknown,
  options: JsonReadOptions,
): boolean {
  // Names of Go begin with a capital letter; those of JSON rarely do.
  const members = /^[A-Z]/.test(key) ? type.table.oneofs.get(bare(key)) : undefined;
  if (members === undefined) return false;
  if (value === null) return true;
  if (!isMessage(value)) throw wrong(value, "an object (a oneof)");
  for (const [name, member] of Object.entries(value)) {
    const field = members.get(bare(name));
    if (field === undefined) throw inside(name, new TypeError("the oneof has no field of this name"));
    setField(target, field, member, options);
  }
  return true;
}
