/** Names of fields in JSON that two fields of one message have. Compilers look as well; who makes a request by hand may not. */
import type { DescField, DescFile, DescMessage } from "@bufbuild/protobuf";
import { Edition, FeatureSet_JsonFormat } from "@bufbuild/protobuf/wkt";
import { SourceNotes } from "./comments.ts";
import { jsonOwner, lowerCamel } from "./message-names.ts";
import { InputError, type GenerateOptions } from "./options.ts";

interface Context {
  readonly options: GenerateOptions;
  readonly warn: (text: string) => void;
}

/**
 * As protoc: an error, but a warning where one of the names is made of the field's own and the file is of proto2, whose JSON is what it is.
 * @throws {InputError} with file and line of every such field
 */
export function checkJsonNames(files: readonly DescFile[], { options, warn }: Context): void {
  const faults: string[] = [];
  for (const file of files) {
    const notes = new SourceNotes(file);
    for (const field of file.messages.flatMap(fieldsIn)) {
      const owner = jsonOwner(field);
      if (owner === field || field.parent.proto.options?.deprecatedLegacyJsonFieldConflicts === true) continue;
      const place = notes.placeOf(field);
      const text = `the fields ${owner.name} and ${field.name} of ${field.parent.typeName} are both ${JSON.stringify(field.jsonName)} in JSON`;
      if (isLegacy(field.parent) && !(isCustom(owner) && isCustom(field))) {
        const effect = options.messages === "micro" ? ", which has only the first" : "";
        warn(`${place}: warning: ${text}${effect}: give one of them a json_name`);
      } else faults.push(`${place}: ${text}: give one of them another json_name`);
    }
  }
  if (faults.length > 0) throw new InputError(faults.join("\n"));
}

function fieldsIn(message: DescMessage): DescField[] {
  return [...message.fields, ...message.nestedMessages.flatMap(fieldsIn)];
}

function isCustom({ name, jsonName }: DescField): boolean {
  return jsonName !== lowerCamel(name);
}

/** True where JSON is done as well as it can be, `features.json_format = LEGACY_BEST_EFFORT`; in proto2 it always is. */
function isLegacy(message: DescMessage): boolean {
  const unset = FeatureSet_JsonFormat.JSON_FORMAT_UNKNOWN;
  let format = unset;
  for (let next: DescMessage | undefined = message; next !== undefined && format === unset; next = next.parent)
    format = next.proto.options?.features?.jsonFormat ?? unset;
  if (format === unset) format = message.file.proto.options?.features?.jsonFormat ?? unset;
  if (format === unset) return message.file.edition === Edition.EDITION_PROTO2;
  return format === FeatureSet_JsonFormat.LEGACY_BEST_EFFORT;
}
