/** The fields of a message as a table: what JSON, copies and error texts go by. */
import type { Boxed } from "./boxed.ts";
import type { ProtoType } from "./proto-type.ts";
import type { Int64Form, ScalarName } from "./scalars.ts";

/** Values of an enum by name. */
export type EnumValues = Readonly<Record<string, number>>;

/** One field as generated code writes it down. */
export interface FieldRow {
  readonly no: number;
  /** Name in the .proto file. */
  readonly name: string;
  /** Name in JSON. Default: `name` in lowerCamel. */
  readonly json?: string;
  /** Name in code. Default: `name` in lowerCamel. */
  readonly key?: string;
  readonly type: ScalarName | "enum" | "message" | "boxed";
  /** Type of messages, boxes and enums; a function, since types may need each other. */
  readonly of?: () => ProtoType<any> | Boxed<any, any> | EnumValues;
  readonly list?: true;
  /** Type of the keys, for maps. */
  readonly map?: ScalarName;
  /** Name in code of the oneof it belongs to. */
  readonly oneof?: string;
  /** Absence and the zero value differ. */
  readonly explicit?: true;
  readonly required?: true;
  /** Numbers without a name are not values of this enum. */
  readonly closed?: true;
  /** An enum whose JSON is null: `google.protobuf.NullValue`. */
  readonly null?: true;
  readonly int64?: Int64Form;
}

/** A field with everything that a row leaves out. */
export interface Field extends AllOf<FieldRow> {
  readonly json: string;
  readonly key: string;
  /** Its zero value means that it is not there. */
  readonly isImplicit: boolean;
}

type AllOf<Row> = {
  readonly [Key in keyof Required<Row>]: Row extends Record<Key, unknown> ? Row[Key] : Required<Row>[Key] | undefined;
};

export interface Table {
  readonly fields: readonly Field[];
  /** By both of their names in JSON. */
  readonly byName: ReadonlyMap<string, Field>;
  /** By the names that Go up to v5.13 gives a oneof and its members, `Choice` and `ChosenText`: see `json-read.ts`. */
  readonly oneofs: ReadonlyMap<string, ReadonlyMap<string, Field>>;
  /** Names in code of the fields of each oneof, by its own. */
  readonly cases: ReadonlyMap<string, readonly string[]>;
  /** True if it, or a message inside it, has a field that is required. */
  required: boolean | undefined;
}

export function tableOf(rows: readonly FieldRow[]): Table {
  const fields = rows.map((row): Field => {
    const camel = lowerCamel(row.name);
    // All of one shape, with every member there: they are looked at for every value of every message.
    return {
      no: row.no,
      name: row.name,
      json: row.json ?? camel,
      key: row.key ?? camel,
      type: row.type,
      of: row.of,
      list: row.list,
      map: row.map,
      oneof: row.oneof,
      explicit: row.explicit,
      required: row.required,
      closed: row.closed,
      null: row.null,
      int64: row.int64,
      isImplicit: row.explicit !== true && row.type !== "message" && row.type !== "boxed",
    };
  });
  const byName = new Map<string, Field>();
  for (const field of fields) byName.set(field.name, field);
  // Of several with one name in JSON the first has it, as in Go.
  for (const field of fields.toReversed()) byName.set(field.json, field);
  const oneofs = new Map<string, Map<string, Field>>();
  const cases = new Map<string, string[]>();
  for (const field of fields) {
    if (field.oneof === undefined) continue;
    const others = cases.get(field.oneof);
    if (others === undefined) cases.set(field.oneof, [field.key]);
    else others.push(field.key);
    const name = bare(field.oneof);
    let members = oneofs.get(name);
    if (members === undefined) oneofs.set(name, (members = new Map()));
    members.set(bare(field.name), field);
  }
  return { fields, byName, oneofs, cases, required: undefined };
}

/** protoc's JSON name of a field: `first_name` is `firstName`. */
export function lowerCamel(name: string): string {
  return name.includes("_") ? name.replace(/_+(.?)/g, (_, next: string) => next.toUpperCase()) : name;
}

/** What is the same in a name in Go and in the .proto file. */
export function bare(name: string): string {
  return name.replaceAll(/[_$]/g, "").toLowerCase();
}

const names = new WeakMap<EnumValues, Map<number, string>>();

/** Names of an enum by number; of several for one, the first. */
export function enumNames(values: EnumValues): ReadonlyMap<number, string> {
  let known = names.get(values);
  if (known === undefined) {
    names.set(values, (known = new Map()));
    for (const [name, number] of Object.entries(values)) if (!known.has(number)) known.set(number, name);
  }
  return known;
}
