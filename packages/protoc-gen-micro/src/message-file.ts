/** The messages and enums of one .proto file, as plain objects. */
import {
  ScalarType,
  type DescEnum,
  type DescExtension,
  type DescField,
  type DescFile,
  type DescMessage,
  type DescOneof,
} from "@bufbuild/protobuf";
import { docComment, fileHead, SourceNotes } from "./comments.ts";
import {
  isImplicit,
  isMessageSet,
  isRequired,
  runtimeFiles,
  scalarName,
  scalarType,
  scalarWireType,
  tagOf,
  ValueCode,
  zeroText,
  is64Bit,
  type TypeNames,
} from "./field-code.ts";
import { isInherited, jsonOwner, lowerCamel, membersOf, namesOf, typeName, type MemberNames } from "./message-names.ts";
import { isInRuntime, isOfOptions, messagesModule, usedFiles } from "./messages.ts";
import type { GenerateOptions } from "./options.ts";

/** The text of a file's messages. */
export function generateMessageFile(file: DescFile, options: GenerateOptions): string {
  return new MessageFile(file, options).text();
}

class MessageFile implements TypeNames {
  readonly options: GenerateOptions;
  readonly boxed: boolean;
  readonly bytes: string;
  readonly #map: string;
  /** True if the name of the language's is one of the file's own. */
  readonly #hasObject: boolean;
  readonly #file: DescFile;
  readonly #notes: SourceNotes;
  /** Names from other files, by module and name there. */
  readonly #imports = new Map<string, Map<string, string>>();
  readonly #taken: Set<string>;

  constructor(file: DescFile, options: GenerateOptions) {
    this.#file = file;
    this.options = options;
    this.boxed = !runtimeFiles.has(file.proto.name);
    this.#notes = new SourceNotes(file);
    this.#taken = new Set(["$types", "Map", "Object", "Uint8Array", ...namesOf(file).values()]);
    const own = new Set(namesOf(file).values());
    this.bytes = own.has("Uint8Array") ? "$.Bytes" : "Uint8Array";
    this.#map = own.has("Map") ? "$.MapOf" : "Map";
    this.#hasObject = own.has("Object");
  }

  name(type: DescMessage | DescEnum): string {
    const name = typeName(type);
    if (type.file === this.#file) return name;
    if (this.boxed && runtimeFiles.has(type.file.proto.name)) return `$.${name}`;
    return this.#import(type.file, name);
  }

  #import(file: DescFile, name: string): string {
    const module = messagesModule(this.#file, file, this.options);
    let names = this.#imports.get(module);
    if (names === undefined) this.#imports.set(module, (names = new Map()));
    let local = names.get(name);
    if (local === undefined) {
      for (local = name; this.#taken.has(local);) local += "$";
      this.#taken.add(local);
      names.set(name, local);
    }
    return local;
  }

  text(): string {
    const blocks: string[] = [];
    for (const type of this.#file.enums) blocks.push(this.#enum(type));
    for (const message of this.#file.messages) this.#message(message, blocks);
    for (const extension of this.#file.extensions) this.#extension(extension, blocks);
    // A file that has only services names what they take and give: that is what an `Any` among it may hold.
    if ((blocks.length > 0 || this.#file.services.length > 0) && this.boxed) blocks.push(this.#types());
    const modules = [...this.#imports].toSorted(([a], [b]) => (a < b ? -1 : 1));
    const head = [
      ...fileHead(this.#file),
      ...(blocks.length === 0 ? ["export {};"] : [`import * as $ from ${JSON.stringify(this.options.runtime)};`]),
      ...modules.map(([module, names]) => {
        const sorted = [...names].toSorted(([a], [b]) => (a < b ? -1 : 1));
        const texts = sorted.map(([name, local]) => (name === local ? name : `${name} as ${local}`));
        return `import { ${texts.join(", ")} } from ${JSON.stringify(module)};`;
      }),
    ].join("\n");
    return `${[head, ...blocks].join("\n\n")}\n`;
  }

  /** For an `Any`: what may be in it. */
  #types(): string {
    const own = [...namesOf(this.#file)]
      .filter(([type]) => type.kind === "message" || (type.kind === "extension" && !isOfOptions(type)))
      .map(([, name]) => name);
    const others = usedFiles(this.#file, this.options)
      .filter((file) => !isInRuntime(file, this.options) && !this.options.modules.has(file.proto.name))
      .map((file) => this.#import(file, "$types"));
    return [
      "/** Everything in this file and in those it imports, for what an `Any` may hold: `protoTypes($types)`. */",
      `export const $types: $.FileTypes = /* @__PURE__ */ $.fileTypes(() => $.typeList(${own.join(", ")}), () => [${others.join(", ")}]);`,
    ].join("\n");
  }

  #enum(type: DescEnum): string {
    const name = typeName(type);
    const lines = [
      ...this.#doc(this.#notes.commentOf(type), type.deprecated, ""),
      `export const ${name} = {`,
      ...type.values.flatMap((value) => [
        ...this.#doc(this.#notes.commentOf(value), value.deprecated, "  "),
        `  ${value.name === "__proto__" ? `["__proto__"]` : value.name}: ${value.number},`,
      ]),
      "} as const;",
      `export type ${name} = (typeof ${name})[keyof typeof ${name}];`,
    ];
    return lines.join("\n");
  }

  #message(message: DescMessage, blocks: string[]): void {
    // Entries of maps are no messages of code; the library does not list them.
    const name = typeName(message);
    const members = membersOf(message);
    const fields = message.fields.toSorted((a, b) => a.number - b.number);
    blocks.push(
      [
        // On the type only: what is said of the constant as well would be shown twice.
        ...this.#doc(this.#notes.commentOf(message), message.deprecated, ""),
        ...this.#interface(message, name, members),
        "",
        `export const ${name}: $.ProtoType<${name}> = /* @__PURE__ */ $.message<${name}>(${JSON.stringify(message.typeName)}, {`,
        ...this.#base(message, members),
        ...this.#write(message, fields, members),
        ...this.#read(fields, members),
        ...this.#json(message, members, this.#check(message, members)),
        ...this.#rows(message, members),
        "});",
      ].join("\n"),
    );
    for (const inner of message.nestedEnums) blocks.push(this.#enum(inner));
    for (const inner of message.nestedMessages) this.#message(inner, blocks);
    for (const inner of message.nestedExtensions) this.#extension(inner, blocks);
  }

  /** An extension is a message with one field, whose bytes are among the unknown ones of the message that it extends. */
  #extension(extension: DescExtension, blocks: string[]): void {
    // Options are read by compilers, not by programs.
    if (isOfOptions(extension)) return;
    const name = typeName(extension);
    const field = extension as unknown as DescField;
    const members: MemberNames = { fields: new Map([[extension.name, "value"]]), oneofs: new Map() };
    const type = this.#type(field).replace(/ \| undefined$/, "");
    const extendee = this.name(extension.extendee);
    const isItem = isMessageSet(extension.extendee);
    blocks.push(
      [
        ...this.#doc([...this.#notes.commentOf(extension), ...defaultNote(field)], extension.deprecated, ""),
        `export const ${name}: $.Extension<${extendee}, ${type}> = /* @__PURE__ */ $.extension(`,
        `  ${JSON.stringify(extension.typeName)},`,
        `  () => ${extendee},`,
        `  /* @__PURE__ */ $.message<{ value${isOptional(field) ? "?" : ""}: ${this.#type(field)} }>("", {`,
        `  base: () => ({ value: ${this.#zero(field)} }),`,
        "  write: (m, w) => {",
        // Of a message set: an item has its own number, and one field of its holder.
        ...this.#writeField(field, "m.value", isItem ? 1 : undefined),
        "  },",
        // What is not the extension is not its business.
        ...this.#read([field], members, isItem ? 1 : undefined).map((line) =>
          line.replace("if (r.other(m, tag)) return;", "r.skip(tag);"),
        ),
        ...this.#json({ members: [field] }, members),
        `  fields: [${this.#row(field, members, isItem ? 1 : undefined)}],`,
        "  }),",
        ...(isItem ? [`  ${field.number},`] : []),
        ");",
      ].join("\n"),
    );
  }

  #interface(message: DescMessage, name: string, members: MemberNames): string[] {
    const lines = [`export interface ${name} {`];
    for (const member of message.members) {
      const comment = this.#notes.commentOf(member);
      if (member.kind === "field") {
        const key = members.fields.get(member.name)!;
        lines.push(...this.#doc([...comment, ...defaultNote(member)], member.deprecated, "  "));
        lines.push(`  ${key}${isOptional(member) ? "?" : ""}: ${this.#type(member)};`);
      } else {
        lines.push(...this.#doc(comment, member.deprecated, "  "));
        lines.push(`  ${members.oneofs.get(member.name)!}?:`);
        for (const field of member.fields) {
          lines.push(...this.#doc(this.#notes.commentOf(field), field.deprecated, "    "));
          lines.push(
            `    | { $case: ${JSON.stringify(members.fields.get(field.name)!)}; value: ${this.#value(field).type} }`,
          );
        }
        lines.push("    | undefined;");
      }
    }
    lines.push("}");
    return lines;
  }

  #value(field: DescField): ValueCode {
    return new ValueCode(field, this);
  }

  #type(field: DescField): string {
    const { type } = this.#value(field);
    if (field.fieldKind === "list") return `${type}[]`;
    if (field.fieldKind === "map") {
      const key = scalarType(field.mapKey, this);
      return isObjectMap(field.mapKey) ? `{ [key: ${key}]: ${type} }` : `${this.#map}<${key}, ${type}>`;
    }
    return isOptional(field) ? `${type} | undefined` : type;
  }

  #base(message: DescMessage, members: MemberNames): string[] {
    const texts = message.members.map((member) => {
      if (member.kind === "oneof") return `${members.oneofs.get(member.name)!}: undefined`;
      return `${members.fields.get(member.name)!}: ${this.#zero(member)}`;
    });
    return [`  base: () => (${texts.length === 0 ? "{}" : `{ ${texts.join(", ")} }`}),`];
  }

  #zero(field: DescField): string {
    if (field.fieldKind === "list") return "[]";
    if (field.fieldKind === "map") return isObjectMap(field.mapKey) ? "{}" : "$.newMap()";
    // A required field is there before anybody sees the message.
    if (isRequired(field)) return "undefined!";
    if (isOptional(field)) return "undefined";
    return field.fieldKind === "scalar" ? zeroText(field.scalar, this.options.int64) : "0";
  }

  /** What is not by a literal is looked at. TypeScript knows better where a field has the name of what is looked at. */
  #check(message: DescMessage, members: MemberNames): string {
    const name = typeName(message);
    const isTaken = this.#hasObject || [...members.fields.values(), ...members.oneofs.values()].includes("constructor");
    return `    ${isTaken ? "" : "if (m.constructor !== Object) "}$.checkMessage(${name}, m);`;
  }

  #write(message: DescMessage, fields: readonly DescField[], members: MemberNames): string[] {
    const lines = ["  write: (m, w) => {"];
    const done = new Set<DescOneof>();
    for (const field of fields) {
      if (field.oneof === undefined) lines.push(...this.#writeField(field, `m.${members.fields.get(field.name)!}`));
      else if (!done.has(field.oneof)) {
        done.add(field.oneof);
        lines.push(...this.#writeOneof(field.oneof, members));
      }
    }
    lines.splice(1, lines.length - 1, ...inParts(lines.slice(1)));
    lines.splice(1, 0, this.#check(message, members));
    lines.push("    $.writeUnknown(m, w);", "  },");
    return fields.length === 0 ? ["  write: $.writeUnknown,"] : lines;
  }

  #writeOneof(oneof: DescOneof, members: MemberNames): string[] {
    const key = members.oneofs.get(oneof.name)!;
    return [
      `    switch (m.${key}?.$case) {`,
      ...oneof.fields.map(
        (field) =>
          `      case ${JSON.stringify(members.fields.get(field.name)!)}: ${this.#value(field).write(`m.${key}.value`, field.number)} break;`,
      ),
      `      default: $.noCase(m.${key});`,
      "    }",
    ];
  }

  #writeField(field: DescField, member: string, number = field.number): string[] {
    const value = this.#value(field);
    if (field.fieldKind === "list") {
      if (field.packed)
        return [
          `    if ($.list(${member}).length > 0) {`,
          `      w.tag(${tagOf(field.number, 2)}); const start = w.fork();`,
          `      for (const v of ${member}) ${value.writeBare("v")}`,
          "      w.join(start);",
          "    }",
        ];
      return [`    for (const v of $.list(${member})) { ${value.write("v", field.number)} }`];
    }
    if (field.fieldKind === "map") return this.#writeMap(field, member, value);
    return [`    if (${this.#present(field, member)}) { ${value.write(member, number)} }`];
  }

  #writeMap(field: DescField & { fieldKind: "map" }, member: string, value: ValueCode): string[] {
    const isObject = isObjectMap(field.mapKey);
    const key =
      field.mapKey === ScalarType.BOOL
        ? "$.boolKey(k)"
        : isObject && field.mapKey !== ScalarType.STRING
          ? "$.intKey(k)"
          : "k";
    return [
      `    for (const [k, v] of ${isObject ? "$.entries" : "$.mapEntries"}(${member})) {`,
      `      w.tag(${tagOf(field.number, 2)}); const start = w.fork();`,
      `      w.tag(${tagOf(1, scalarWireType(field.mapKey))}); w.${scalarName(field.mapKey)}(${key});`,
      `      ${value.write("v", 2)}`,
      "      w.join(start);",
      "    }",
    ];
  }

  /** The condition under which a field is written. */
  #present(field: DescField, member: string): string {
    // null is a value of google.protobuf.Value, and nothing elsewhere.
    if (field.message?.typeName === "google.protobuf.Value" && this.boxed) return `${member} !== undefined`;
    if (!isImplicit(field) || field.message !== undefined) return `${member} != null`;
    if (field.scalar === ScalarType.BYTES) return `$.hasBytes(${member})`;
    if (field.scalar === ScalarType.DOUBLE || field.scalar === ScalarType.FLOAT)
      return `${member} != null && $.isSet(${member})`;
    const zero = field.scalar === undefined ? "0" : zeroText(field.scalar, this.options.int64);
    return `${member} != null && ${member} !== ${zero}`;
  }

  #read(fields: readonly DescField[], members: MemberNames, number?: number): string[] {
    if (fields.length === 0) return ["  read: $.readUnknown,"];
    if (fields.length > fieldsPerSwitch) return this.#readInParts(fields, members);
    return [
      "  read: (m, r, end) => {",
      "    while (r.position < end) {",
      "      const tag = r.tag();",
      "      switch (tag) {",
      ...fields.flatMap((field) => this.#readField(field, members, number)),
      "      }",
      "      if (r.other(m, tag)) return;",
      "    }",
      "  },",
    ];
  }

  #readInParts(fields: readonly DescField[], members: MemberNames): string[] {
    const parts: string[] = [];
    for (let from = 0; from < fields.length; from += fieldsPerSwitch) {
      const cases = fields.slice(from, from + fieldsPerSwitch).flatMap((field) => this.#readField(field, members));
      parts.push(
        "      if ($.part((): boolean => {",
        "      switch (tag) {",
        ...cases.map((line) => line.replaceAll("continue;", "return true;")),
        "      }",
        "      return false;",
        "      })) continue;",
      );
    }
    return [
      "  read: (m, r, end) => {",
      "    while (r.position < end) {",
      "      const tag = r.tag();",
      ...parts,
      "      if (r.other(m, tag)) return;",
      "    }",
      "  },",
    ];
  }

  #readField(field: DescField, members: MemberNames, number = field.number): string[] {
    const { oneof } = field;
    const value = this.#value(field);
    const tag = tagOf(number, value.wireType);
    const key = members.fields.get(field.name)!;
    const member = `m.${key}`;
    const enumName = field.enum === undefined ? "" : value.reference;
    if (field.fieldKind === "map") return this.#readMap(field, member, value);
    if (field.fieldKind === "list") {
      const element = value.kind === "enum" ? `r.enum() as ${enumName}` : value.read("", number);
      const push = value.isClosedEnum
        ? `const v = r.enum(); if ($.hasNumber(${enumName}, v)) ${member}.push(v as ${enumName}); else r.keepEnum(m, ${tag}, v);`
        : `${member}.push(${element});`;
      const lines = [`        case ${tag}: ${value.isClosedEnum ? `{ ${push} continue; }` : `${push} continue;`}`];
      if (isPackable(field))
        lines.push(
          `        case ${tagOf(number, 2)}: { const to = r.span(); while (r.position < to) ${value.isClosedEnum ? `{ ${push} }` : push} r.end(to); continue; }`,
        );
      return lines;
    }
    const set = (text: string): string =>
      oneof === undefined
        ? `${member} = ${text};`
        : `m.${members.oneofs.get(oneof.name)!} = { $case: ${JSON.stringify(key)}, value: ${text} };`;
    if (value.kind === "enum") {
      if (!value.isClosedEnum) return [`        case ${tag}: ${set(`r.enum() as ${enumName}`)} continue;`];
      return [
        `        case ${tag}: { const v = r.enum(); if ($.hasNumber(${enumName}, v)) ${set(`v as ${enumName}`)} else r.keepEnum(m, ${tag}, v); continue; }`,
      ];
    }
    // Of a message that comes in parts, later ones are added to earlier ones.
    const oneofKey = oneof === undefined ? "" : members.oneofs.get(oneof.name)!;
    const existing =
      oneof === undefined
        ? member
        : `m.${oneofKey}?.$case === ${JSON.stringify(key)} ? m.${oneofKey}.value : undefined`;
    return [`        case ${tag}: ${set(value.read(existing, number))} continue;`];
  }

  #readMap(field: DescField & { fieldKind: "map" }, member: string, value: ValueCode): string[] {
    const keyText =
      field.mapKey === ScalarType.STRING
        ? field.utf8Validation
          ? "r.string()"
          : "r.anyString()"
        : `r.${scalarName(field.mapKey)}()`;
    const form = this.options.int64;
    const readKey =
      !is64Bit(field.mapKey) || form === "bigint"
        ? keyText
        : form === "number"
          ? `$.int64Number(${keyText})`
          : `${keyText}.toString()`;
    const keyType = scalarType(field.mapKey, this);
    const zero =
      value.kind === "scalar"
        ? zeroText(value.scalar!, form)
        : value.kind === "enum"
          ? String(field.enum!.values[0]!.number)
          : "undefined";
    const isNested = value.kind === "message" || value.kind === "boxed";
    const type = isNested ? `${value.type} | undefined` : value.kind === "enum" ? "number" : value.type;
    const result =
      value.kind === "enum"
        ? `v as ${value.reference}`
        : value.kind === "message"
          ? `v ?? r.base(${value.reference})`
          : value.kind === "boxed"
            ? `v === undefined ? ${value.reference}.unpack(${value.reference}.type.base()) : v`
            : "v";
    const put = `$.put(${member}, k, ${result});`;
    return [
      `        case ${tagOf(field.number, 2)}: {`,
      `          ${value.isClosedEnum ? "const from = r.tagStart; " : ""}const to = r.span(); let k: ${keyType} = ${zeroText(field.mapKey, form)}; let v: ${type} = ${zero};`,
      "          while (r.position < to) {",
      "            const part = r.tag();",
      `            if (part === ${tagOf(1, scalarWireType(field.mapKey))}) k = ${readKey};`,
      `            else if (part === ${tagOf(2, value.wireType)}) v = ${value.read(isNested ? "v" : "", 2)};`,
      "            else r.skip(part);",
      "          }",
      `          r.end(to); ${value.isClosedEnum ? `if ($.hasNumber(${value.reference}, v)) ${put} else r.keep(m, from);` : put}`,
      "          continue;",
      "        }",
    ];
  }

  #json(message: Pick<DescMessage, "members">, members: MemberNames, check?: string): string[] {
    const lines: string[] = [];
    for (const member of message.members) {
      if (member.kind !== "oneof") lines.push(...this.#jsonField(member, `m.${members.fields.get(member.name)!}`));
      else {
        const oneof = `m.${members.oneofs.get(member.name)!}`;
        const cases = member.fields.map(
          (field) =>
            `      case ${JSON.stringify(members.fields.get(field.name)!)}: ${jsonSet(field, this.#value(field).json(`${oneof}.value`))} break;`,
        );
        lines.push(`    switch (${oneof}?.$case) {`, ...cases, `      default: $.noCase(${oneof});`, "    }");
      }
    }
    if (lines.length === 0)
      return check === undefined ? ["  json: () => ({}),"] : ["  json: (m) => {", check, "    return {};", "  },"];
    const fields = message.members.flatMap((member) => (member.kind === "oneof" ? member.fields : [member]));
    // Options are for what is inside: `noUnusedParameters` minds those that nobody asks for.
    const takesOptions = fields.some((field) => this.#value(field).jsonTakesOptions);
    const parameters = takesOptions ? "(m, o)" : "(m)";
    return [
      `  json: ${parameters} => {`,
      ...(check === undefined ? [] : [check]),
      "    const j: $.JsonObject = {};",
      ...inParts(lines),
      "    return j;",
      "  },",
    ];
  }

  #jsonField(field: DescField, member: string): string[] {
    const value = this.#value(field);
    if (field.fieldKind === "list") {
      const list = `$.jsonList(${member}, (v) => ${value.json("v")})`;
      return [`    if ($.list(${member}).length > 0) ${jsonSet(field, list)}`];
    }
    if (field.fieldKind === "map") {
      const map = `$.jsonMap(${member}, ${JSON.stringify(scalarName(field.mapKey))}, (v) => ${value.json("v")})`;
      return [`    if ($.hasEntries(${member})) ${jsonSet(field, map)}`];
    }
    return [`    if (${this.#present(field, member)}) ${jsonSet(field, value.json(member))}`];
  }

  #rows(message: DescMessage, members: MemberNames): string[] {
    if (message.fields.length === 0) return ["  fields: [],"];
    return ["  fields: [", ...message.fields.map((field) => `    ${this.#row(field, members)},`), "  ],"];
  }

  #row(field: DescField, members: MemberNames, number = field.number): string {
    const value = this.#value(field);
    const key = members.fields.get(field.name)!;
    const camel = lowerCamel(field.name);
    const parts = [
      `no: ${number}`,
      `name: ${JSON.stringify(field.name)}`,
      ...(field.jsonName === camel ? [] : [`json: ${JSON.stringify(field.jsonName)}`]),
      ...(key === camel ? [] : [`key: ${JSON.stringify(key)}`]),
      `type: ${JSON.stringify(value.kind === "scalar" ? scalarName(value.scalar!) : value.kind)}`,
      ...(value.kind === "scalar" ? [] : [`of: () => ${value.reference}`]),
      ...(field.fieldKind === "list" ? ["list: true"] : []),
      ...(field.fieldKind === "map" ? [`map: ${JSON.stringify(scalarName(field.mapKey))}`] : []),
      ...(field.oneof === undefined ? [] : [`oneof: ${JSON.stringify(members.oneofs.get(field.oneof.name)!)}`]),
      ...(isOptional(field) && field.message === undefined ? ["explicit: true"] : []),
      ...(isRequired(field) ? ["required: true", "explicit: true"] : []),
      ...(value.isClosedEnum ? ["closed: true"] : []),
      ...(value.isNull ? ["null: true"] : []),
      ...(this.options.int64 === "bigint" || !has64Bit(field) ? [] : [`int64: ${JSON.stringify(this.options.int64)}`]),
    ];
    return `{ ${parts.join(", ")} }`;
  }

  #doc(lines: readonly string[], deprecated: boolean, indent: string): string[] {
    return docComment(deprecated ? [...lines, "@deprecated"] : lines, indent);
  }
}

/** Most lines of one function: TypeScript gives up on one with very many branches. */
const linesPerFunction = 300;
const fieldsPerSwitch = 300;

/** Statements of one level, in functions of their own if there are many. */
function inParts(lines: readonly string[]): string[] {
  if (lines.length <= linesPerFunction) return [...lines];
  const parts: string[] = [];
  let part: string[] = [];
  for (const [index, line] of lines.entries()) {
    part.push(line);
    // A statement begins at this level; what is inside of one is deeper.
    const next = lines[index + 1];
    const isWhole = next === undefined || /^ {4}(?:if|for|switch)\b/.test(next);
    if (next !== undefined && (part.length < linesPerFunction || !isWhole)) continue;
    parts.push("    $.part(() => {", ...part, "    });");
    part = [];
  }
  return parts;
}

/** A statement that puts a value into a message's JSON. */
function jsonSet(field: DescField, value: string): string {
  const { jsonName } = field;
  if (jsonOwner(field) !== field) return `$.noName(${value});`;
  // TypeScript takes these for the members that every object has.
  if (isInherited(jsonName)) return `$.setMember(j, ${JSON.stringify(jsonName)}, ${value});`;
  // In brackets, whatever the name: `noPropertyAccessFromIndexSignature`.
  return `j[${JSON.stringify(jsonName)}] = ${value};`;
}

/** True if the field may be absent, and that is told from its zero value. */
function isOptional(field: DescField): boolean {
  if (field.fieldKind === "list" || field.fieldKind === "map" || isRequired(field)) return false;
  return !isImplicit(field) || field.message !== undefined;
}

/** Keys that an object keeps as they are. All others need a `Map`. */
function isObjectMap(key: ScalarType): boolean {
  return key !== ScalarType.BOOL && !is64Bit(key);
}

function isPackable(field: DescField): boolean {
  return field.message === undefined && field.scalar !== ScalarType.STRING && field.scalar !== ScalarType.BYTES;
}

function has64Bit(field: DescField): boolean {
  return (field.scalar !== undefined && is64Bit(field.scalar)) || (field.fieldKind === "map" && is64Bit(field.mapKey));
}

function defaultNote(field: DescField): string[] {
  const { proto } = field;
  return proto.defaultValue === "" || !/^[\x20-\x7e]*$/.test(proto.defaultValue)
    ? []
    : [`Default: ${proto.defaultValue}`];
}
