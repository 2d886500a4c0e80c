/** What ts-proto would write wrongly, or in a form that does not compile: refused, with the place in the .proto file. */
import type { DescEnum, DescField, DescFile, DescMessage } from "@bufbuild/protobuf";
import { Edition, FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { SourceNotes } from "./comments.ts";
import { safeTypeName } from "./message-names.ts";
import { InputError } from "./options.ts";

/** Types that its code uses by their bare names. */
const used = new Set(
  "Builtin DeepPartial Exact KeysOfUnion MessageFns Partial Map Uint8Array ReadonlyArray BinaryReader BinaryWriter Long".split(
    " ",
  ),
);
const sixtyFour = new Set(["google.protobuf.Int64Value", "google.protobuf.UInt64Value"]);
const advice = "leave --messages=ts-proto out, or change the .proto file";

/** @throws {InputError} with every place of a file that ts-proto cannot do */
export function refuseForTsProto(files: readonly DescFile[]): void {
  const faults = files.flatMap((file) => new Faults(file).found);
  if (faults.length > 0) throw new InputError(faults.join("\n"));
}

class Faults {
  readonly found: string[] = [];
  readonly #file: DescFile;
  readonly #notes: SourceNotes;
  readonly #foreign: ReadonlySet<string>;

  constructor(file: DescFile) {
    this.#file = file;
    this.#notes = new SourceNotes(file);
    this.#foreign = new Set(file.dependencies.flatMap(({ messages }) => messages.map(({ name }) => name)));
    file.messages.forEach((message) => this.#message(message));
    file.enums.forEach((type) => this.#enum(type));
  }

  #add(described: DescMessage | DescEnum | DescField, reason: string): void {
    this.found.push(`${this.#notes.placeOf(described)}: ts-proto ${reason}; ${advice}`);
  }

  #message(message: DescMessage): void {
    const { name } = message;
    if (used.has(name) || safeTypeName(name) !== name)
      this.#add(message, `writes code that does not compile for a message called ${name}`);
    else if (message.parent === undefined && this.#foreign.has(name))
      this.#add(message, `confuses the message ${name} with the imported one of that name`);
    message.fields.forEach((field) => this.#field(field));
    message.nestedMessages.forEach((inner) => this.#message(inner));
    message.nestedEnums.forEach((type) => this.#enum(type));
  }

  #enum(type: DescEnum): void {
    const word = type.values.find(({ name }) => safeTypeName(name) !== name || name === "UNRECOGNIZED");
    if (word !== undefined) this.#add(type, `writes code that does not compile for an enum value called ${word.name}`);
  }

  #field(field: DescField): void {
    const { edition } = this.#file;
    const type = field.message?.typeName ?? field.enum?.typeName ?? "";
    if (field.presence === FeatureSet_FieldPresence.LEGACY_REQUIRED)
      return this.#add(field, `does not write the required field ${field.name} at its zero value`);
    const isScalar = field.fieldKind === "scalar" || field.fieldKind === "enum";
    const isExplicit = field.presence === FeatureSet_FieldPresence.EXPLICIT && field.oneof === undefined;
    if (isScalar && isExplicit && edition !== Edition.EDITION_PROTO3)
      return this.#add(field, `loses whether the field ${field.name} is there`);
    if (edition >= Edition.EDITION_2023 && "delimitedEncoding" in field && field.delimitedEncoding)
      return this.#add(field, `writes the delimited field ${field.name} with its length`);
    if (field.oneof !== undefined) {
      if (type === "google.protobuf.Value" || type === "google.protobuf.NullValue")
        return this.#add(field, `loses a null in the oneof field ${field.name}`);
      if (sixtyFour.has(type))
        return this.#add(field, `writes code that does not compile for the wrapper ${field.name} in a oneof`);
    }
    if (field.fieldKind === "map" && type === "google.protobuf.BytesValue")
      return this.#add(field, `leaves bytes in the map ${field.name} as text when it reads JSON`);
    return undefined;
  }
}
