/** Code of one field: its type, how it is written, how it is read. */
import { ScalarType, type DescEnum, type DescField, type DescMessage } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import type { GenerateOptions } from "./options.ts";

/** Names of scalars: in .proto files, and of the functions that read and write them. */
const scalarNames: Readonly<Record<ScalarType, string>> = {
  [ScalarType.DOUBLE]: "double",
  [ScalarType.FLOAT]: "float",
  [ScalarType.INT64]: "int64",
  [ScalarType.UINT64]: "uint64",
  [ScalarType.INT32]: "int32",
  [ScalarType.FIXED64]: "fixed64",
  [ScalarType.FIXED32]: "fixed32",
  [ScalarType.BOOL]: "bool",
  [ScalarType.STRING]: "string",
  [ScalarType.BYTES]: "bytes",
  [ScalarType.UINT32]: "uint32",
  [ScalarType.SFIXED32]: "sfixed32",
  [ScalarType.SFIXED64]: "sfixed64",
  [ScalarType.SINT32]: "sint32",
  [ScalarType.SINT64]: "sint64",
};

export const scalarName = (scalar: ScalarType): string => scalarNames[scalar];

/** Well-known messages that are plain values in code: their types, and the names of their boxes. */
const boxes = new Map([
  ["DoubleValue", ["number", "boxedDouble"]],
  ["FloatValue", ["number", "boxedFloat"]],
  ["Int64Value", ["bigint", "boxedInt64"]],
  ["UInt64Value", ["bigint", "boxedUInt64"]],
  ["Int32Value", ["number", "boxedInt32"]],
  ["UInt32Value", ["number", "boxedUInt32"]],
  ["BoolValue", ["boolean", "boxedBool"]],
  ["StringValue", ["string", "boxedString"]],
  ["BytesValue", ["$.Bytes", "boxedBytes"]],
  ["Struct", ["$.JsonObject", "boxedStruct"]],
  ["Value", ["$.JsonValue", "boxedValue"]],
  ["ListValue", ["$.JsonValue[]", "boxedList"]],
] as const);

/** Files whose types come with the run-time, so that there is one of each in a program. */
export const runtimeFiles = new Set(
  ["any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers"].map(
    (name) => `google/protobuf/${name}.proto`,
  ),
);

/** What the code of one file needs to know of the types it uses. */
export interface TypeNames {
  readonly options: GenerateOptions;
  /** The name of a message or an enum in this file, imported if need be. */
  name(type: DescMessage | DescEnum): string;
  /** Bytes in this file: the global type, unless a message is called like it. */
  readonly bytes: string;
  /** False where well-known types themselves are generated. */
  readonly boxed: boolean;
}

/** The single value of a field: that of its elements for lists, of its entries for maps. */
export class ValueCode {
  readonly field: DescField;
  readonly #names: TypeNames;
  readonly kind: "scalar" | "enum" | "message" | "boxed";
  readonly scalar: ScalarType | undefined;
  readonly #box: readonly [type: string, name: string] | undefined;

  constructor(field: DescField, names: TypeNames) {
    this.field = field;
    this.#names = names;
    this.scalar = field.scalar;
    this.#box = names.boxed ? boxOf(field.message, names.options.int64) : undefined;
    this.kind =
      field.message === undefined
        ? field.enum === undefined
          ? "scalar"
          : "enum"
        : this.#box === undefined
          ? "message"
          : "boxed";
  }

  get isClosedEnum(): boolean {
    return this.field.enum?.open === false;
  }

  /** True for the enum whose JSON is null, whatever its number. */
  get isNull(): boolean {
    return this.field.enum?.typeName === "google.protobuf.NullValue";
  }

  /** True if what {@link json} gives reads the options `o`. */
  get jsonTakesOptions(): boolean {
    return this.kind === "message" || this.kind === "boxed";
  }

  get isDelimited(): boolean {
    const { field } = this;
    return "delimitedEncoding" in field && field.delimitedEncoding;
  }

  /** Its type in TypeScript. */
  get type(): string {
    if (this.kind === "scalar") return scalarType(this.scalar!, this.#names);
    if (this.#box?.[0] === "$.Bytes") return this.#names.bytes;
    return this.#box?.[0] ?? this.#names.name((this.field.message ?? this.field.enum)!);
  }

  /** The name of the message, enum or box as a value. */
  get reference(): string {
    return this.#box === undefined ? this.#names.name((this.field.message ?? this.field.enum)!) : `$.${this.#box[1]}`;
  }

  /** Number of the wire type, not packed. */
  get wireType(): number {
    if (this.kind === "enum") return 0;
    if (this.kind !== "scalar") return this.isDelimited ? 3 : 2;
    return scalarWireType(this.scalar!);
  }

  /** Statements that write `value`, its tag first. */
  write(value: string, number: number): string {
    const tag = `w.tag(${tagOf(number, this.wireType)}); `;
    if ((this.kind === "message" || this.kind === "boxed") && this.isDelimited)
      return `${tag}w.${this.kind === "boxed" ? "boxedGroup" : "group"}(${this.reference}, ${value}, ${tagOf(number, 4)});`;
    if (this.kind === "boxed") return `${tag}w.boxed(${this.reference}, ${value});`;
    return tag + this.writeBare(value);
  }

  /** An expression for the JSON of `value`. */
  json(value: string): string {
    if (this.kind === "message") return `$.jsonMessage(${this.reference}, ${value}, o)`;
    if (this.kind === "boxed") return `$.jsonBoxed(${this.reference}, ${value}, o)`;
    if (this.kind === "scalar") return `$.${jsonFunction(this.scalar!)}(${value})`;
    return this.isNull ? `$.jsonNull(${value})` : `$.jsonEnum(${this.reference}, ${value})`;
  }

  /** A statement that writes `value` without a tag. */
  writeBare(value: string): string {
    if (this.kind === "message") return `w.message(${this.reference}, ${value});`;
    return `w.${this.kind === "enum" ? "enum" : scalarName(this.scalar!)}(${value});`;
  }

  /** An expression that reads a value; `existing` is one of the same field that was read before. */
  read(existing: string, number: number): string {
    switch (this.kind) {
      case "boxed":
      case "message": {
        const isBoxed = this.kind === "boxed";
        const rest = existing === "" ? ")" : `, ${existing})`;
        return this.isDelimited
          ? `r.${isBoxed ? "boxedGroup" : "group"}(${this.reference}, ${number}${rest}`
          : `r.${isBoxed ? "boxed" : "message"}(${this.reference}${rest}`;
      }
      case "enum":
        return "r.enum()";
      default:
        return readScalar(this.scalar!, this.field, this.#names.options.int64);
    }
  }
}

function boxOf(
  message: DescMessage | undefined,
  int64: GenerateOptions["int64"],
): readonly [type: string, name: string] | undefined {
  if (message === undefined || !runtimeFiles.has(message.file.proto.name)) return undefined;
  const box = boxes.get(message.name as never) as readonly [string, string] | undefined;
  if (box?.[0] !== "bigint" || int64 === "bigint") return box;
  return int64 === "number" ? ["number", `${box[1]}Number`] : ["string", `${box[1]}String`];
}

function readScalar(scalar: ScalarType, field: DescField, int64: GenerateOptions["int64"]): string {
  if (scalar === ScalarType.STRING) return field.utf8Validation ? "r.string()" : "r.anyString()";
  const plain = `r.${scalarName(scalar)}()`;
  if (!is64Bit(scalar) || int64 === "bigint") return plain;
  return int64 === "number" ? `$.int64Number(${plain})` : `${plain}.toString()`;
}

function jsonFunction(scalar: ScalarType): string {
  const name = scalarName(scalar);
  if (is64Bit(scalar)) return name === "uint64" || name === "fixed64" ? "jsonUint64" : "jsonInt64";
  if (name.endsWith("32")) return name === "uint32" || name === "fixed32" ? "jsonUint32" : "jsonInt32";
  return `json${name.slice(0, 1).toUpperCase()}${name.slice(1)}`;
}

export function is64Bit(scalar: ScalarType): boolean {
  return scalarName(scalar).endsWith("64");
}

export function scalarType(scalar: ScalarType, { options: { int64 }, bytes }: TypeNames): string {
  if (scalar === ScalarType.STRING) return "string";
  if (scalar === ScalarType.BYTES) return bytes;
  if (scalar === ScalarType.BOOL) return "boolean";
  return is64Bit(scalar) ? int64 : "number";
}

/** The zero value of a scalar, as code. */
export function zeroText(scalar: ScalarType, int64: GenerateOptions["int64"]): string {
  if (scalar === ScalarType.STRING) return `""`;
  if (scalar === ScalarType.BYTES) return "$.emptyBytes()";
  if (scalar === ScalarType.BOOL) return "false";
  if (!is64Bit(scalar)) return "0";
  return int64 === "bigint" ? "0n" : int64 === "number" ? "0" : `"0"`;
}

export function scalarWireType(scalar: ScalarType): number {
  switch (scalar) {
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return 1;
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return 5;
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return 2;
    default:
      return 0;
  }
}

export function tagOf(number: number, wireType: number): number {
  return ((number << 3) | wireType) >>> 0;
}

/** True for a message of proto1's whose fields are all extensions, each an item with a number of 31 bits. */
export function isMessageSet(message: DescMessage): boolean {
  return message.proto.options?.messageSetWireFormat === true;
}

export function isRequired(field: DescField): boolean {
  return field.presence === FeatureSet_FieldPresence.LEGACY_REQUIRED;
}

/** True where a scalar is not written at its zero value, since absence means that. */
export function isImplicit(field: DescField): boolean {
  return field.presence === FeatureSet_FieldPresence.IMPLICIT;
}
