/** What the generated code of well-known types imports: all but those types. */
export { message } from "./message.ts";
export { ProtoType, type ProtoTypeParts } from "./proto-type.ts";
export { Extension, extension } from "./extension.ts";
export { fileTypes, typeList, type FileTypes } from "./file-types.ts";
export type { Reader } from "./reader.ts";
export type { Writer } from "./writer.ts";
export * from "./generated.ts";
export * from "./json-fast.ts";
export type { JsonObject, JsonValue } from "./json.ts";
export { setMember } from "./json.ts";
