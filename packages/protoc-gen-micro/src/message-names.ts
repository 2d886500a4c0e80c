/** What messages, enums and their members are called in code. */
import type { DescEnum, DescExtension, DescField, DescFile, DescMessage } from "@bufbuild/protobuf";

/** Names that TypeScript refuses for a type or a constant of a module, or reads as something else. */
const refused = new Set(
  (
    "abstract any arguments as asserts async await bigint boolean break case catch class const continue debugger default delete do else " +
    "enum eval export exports extends false finally for from function get globalThis if implements import in infer " +
    "instanceof interface is keyof let module namespace never new null number object of package private protected readonly " +
    "public require return set static string super switch symbol this throw true try type typeof undefined unique unknown " +
    "using var void while with yield __esModule __dirname __filename __proto__ " +
    // Variables of generated functions.
    "m w r j o v k to tag part start end"
  ).split(" "),
);

/** No name of a .proto file has a `$`, so that a name with one is free. */
export function safeTypeName(name: string): string {
  return refused.has(name) ? `${name}$` : name;
}

/** Members that every object has: a message without the field would have them all the same. */
const inherited = new Set([
  ...Object.getOwnPropertyNames(Object.prototype),
  // Not inherited, but called by `JSON.stringify` and `await`.
  "toJSON",
  "then",
]);

export function isInherited(name: string): boolean {
  return inherited.has(name);
}

export function safeMemberName(name: string): string {
  return inherited.has(name) || name === "" ? `${name}$` : name;
}

type Named = DescMessage | DescEnum | DescExtension;

const cache = new WeakMap<DescFile, ReadonlyMap<Named, string>>();

/** Names of all messages and enums of a file: `Outer_Inner`; of several that would be the same, later ones get a `$`. */
export function namesOf(file: DescFile): ReadonlyMap<Named, string> {
  let names = cache.get(file);
  if (names === undefined) cache.set(file, (names = nameAll(file)));
  return names;
}

function nameAll(file: DescFile): Map<Named, string> {
  const names = new Map<Named, string>();
  const taken = new Set<string>();
  const take = (type: Named, wanted: string): void => {
    let name = safeTypeName(wanted);
    while (taken.has(name)) name += "$";
    taken.add(name);
    names.set(type, name);
  };
  const nested: { type: Named; name: string }[] = [];
  const visit = (message: DescMessage, path: string): void => {
    for (const inner of message.nestedEnums) nested.push({ type: inner, name: `${path}_${inner.name}` });
    for (const inner of message.nestedExtensions) nested.push({ type: inner, name: `${path}_${inner.name}` });
    for (const inner of message.nestedMessages) {
      nested.push({ type: inner, name: `${path}_${inner.name}` });
      visit(inner, `${path}_${inner.name}`);
    }
  };
  // Those of the file itself keep their names whatever is inside of others.
  for (const type of [...file.messages, ...file.enums, ...file.extensions]) take(type, type.name);
  for (const message of file.messages) visit(message, message.name);
  for (const { type, name } of nested) take(type, name);
  return names;
}

export function typeName(type: Named): string {
  return namesOf(type.file).get(type)!;
}

/** protoc's JSON name, which is the name in code as well. */
export function lowerCamel(name: string): string {
  return name.replace(/_+(.?)/g, (_, next: string) => next.toUpperCase());
}

/** The field that has a field's name in JSON: of several with one name the first. */
export function jsonOwner(field: DescField): DescField {
  const { parent, kind } = field as DescField | DescExtension;
  // Extensions have names of their own, in brackets.
  if (kind === "extension") return field;
  return parent.fields.find(({ jsonName }) => jsonName === field.jsonName) ?? field;
}

/** Names of the members of one message in code: fields and oneofs by their descriptors' names. */
export interface MemberNames {
  readonly fields: ReadonlyMap<string, string>;
  readonly oneofs: ReadonlyMap<string, string>;
}

const memberCache = new WeakMap<DescMessage, MemberNames>();

export function membersOf(message: DescMessage): MemberNames {
  let members = memberCache.get(message);
  if (members === undefined) memberCache.set(message, (members = nameMembers(message)));
  return members;
}

function free(wanted: string, names: Set<string>): string {
  let name = safeMemberName(wanted);
  while (names.has(name)) name += "$";
  names.add(name);
  return name;
}

function nameMembers(message: DescMessage): MemberNames {
  const fields = new Map<string, string>();
  const oneofs = new Map<string, string>();
  const taken = new Set<string>();
  const takenIn = new Map<string, Set<string>>();
  for (const member of message.members) {
    if (member.kind === "field") fields.set(member.name, free(lowerCamel(member.name), taken));
    else oneofs.set(member.name, free(lowerCamel(member.name), taken));
  }
  // Members of a oneof are told apart by `$case`, whose names are their own.
  for (const oneof of message.oneofs) {
    const names = takenIn.get(oneof.name) ?? new Set<string>();
    takenIn.set(oneof.name, names);
    for (const field of oneof.fields) fields.set(field.name, free(lowerCamel(field.name), names));
  }
  return { fields, oneofs };
}
