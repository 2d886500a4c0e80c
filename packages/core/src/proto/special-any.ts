/** `Any`: a message with its type's name. */
import { inside, ProtoJsonError, type JsonValue, type ProtoTypes } from "./json.ts";
import { scalarFromJson } from "./json-scalars.ts";
import { fieldsFromJson, fromJson } from "./json-read.ts";
import { fieldsToJson, toJson } from "./json-write.ts";
import { isMessage } from "./plain.ts";
import type { ProtoType, SpecialJson } from "./proto-type.ts";
import { readWhole } from "./reader.ts";
import { isBytes } from "./realms.ts";
import { wrong } from "./wrong.ts";

interface Any {
  typeUrl: string;
  value: Uint8Array;
}

type WellKnown = () => ReadonlyMap<string, ProtoType<any>>;

function typeOf(url: string, types: ProtoTypes | undefined, wellKnown: WellKnown): ProtoType<any> {
  const slash = url.lastIndexOf("/");
  const name = url.slice(slash + 1);
  // A name alone is no URL of a type.
  const type = slash === -1 || name === "" ? undefined : (types?.get(name) ?? wellKnown().get(name));
  if (type === undefined || "holder" in type)
    throw new TypeError(
      `the type ${JSON.stringify(url.slice(0, 200).toWellFormed())} is not known here: hand it over, as in protoMessage(X, { types: () => protoTypes([Y]) }) or toJSON(message, { types: protoTypes([Y]) })`,
    );
  return type;
}

/** True if its JSON is not an object of its fields, so that it stands under `value`. */
const isSpecial = (type: ProtoType<any>): boolean => type.special !== undefined;

/** @param wellKnown types that every `Any` may hold */
export const anyJson = (wellKnown: WellKnown): SpecialJson<Any> => ({
  read(value, options) {
    if (!isMessage(value)) throw wrong(value, "an object (Any)");
    const members = value as Record<string, unknown>;
    const keys = Object.keys(members);
    if (keys.length === 0) return { typeUrl: "", value: new Uint8Array(0) };
    const url = members["@type"];
    if (url === undefined && keys.every((key) => key === "type_url" || key === "value"))
      // As Go up to v5.13 writes it.
      return {
        typeUrl: scalarFromJson("string", members["type_url"] ?? "", undefined) as string,
        value: scalarFromJson("bytes", members["value"] ?? "", undefined) as Uint8Array,
      };
    if (typeof url !== "string") throw new ProtoJsonError("@type", "the type of an Any is missing, or no string");
    const type = typeOf(url, options.types, wellKnown);
    if (!isSpecial(type)) return { typeUrl: url, value: type.encode(fieldsFromJson(type, value, options, "@type")) };
    const extra = keys.find((key) => key !== "@type" && key !== "value");
    if (extra !== undefined && options.ignoreUnknownFields !== true)
      throw new ProtoJsonError(extra, `an Any of ${type.$type} has @type and value only`);
    if (!("value" in members)) throw new ProtoJsonError("value", `an Any of ${type.$type} needs it`);
    return { typeUrl: url, value: type.encode(fromJson(type, members["value"], options)) };
  },
  write(any, options) {
    const typeUrl = any.typeUrl ?? "";
    const value = any.value ?? new Uint8Array(0);
    if (typeof typeUrl !== "string") throw inside("typeUrl", wrong(typeUrl, "a string"));
    if (!isBytes(value)) throw inside("value", wrong(value, "a Uint8Array"));
    if (typeUrl === "" && value.length === 0) return {};
    const type = typeOf(typeUrl, options.types, wellKnown);
    // Without a look at required fields: Go writes such an `Any`, too.
    const message = readWhole(type, value);
    const json: JsonValue = isSpecial(type)
      ? { value: toJson(type, message, options) }
      : fieldsToJson(type, message, options);
    return { "@type": typeUrl, ...json };
  },
});
