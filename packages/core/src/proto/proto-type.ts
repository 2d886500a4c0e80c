/** A message type: what generated code declares for each message, and everything that can be done with one. */
import { ProtoJsonError } from "./json.ts";
import type { JsonObject, JsonReadOptions, JsonWriteOptions, JsonValue } from "./json.ts";
import { explain } from "./explain.ts";
import { fromJson } from "./json-read.ts";
import { toJson } from "./json-write.ts";
import { copyOf } from "./copy.ts";
import { isMessage, notMessage } from "./plain.ts";
import { counted, memoryOf, uncounted } from "./memory.ts";
import { readWhole, type Reader } from "./reader.ts";
import { checkRequired } from "./required.ts";
import { tableOf, type Field, type FieldRow, type Table } from "./table.ts";
import { Writer } from "./writer.ts";
import type { DecodeLimits } from "../definition.ts";
import type { ProtoInput } from "../proto.ts";

/** What generated code gives for one message. */
export interface ProtoTypeParts<T extends object> {
  /** A message with nothing set. */
  readonly base: () => T;
  readonly write: (message: T, writer: Writer) => void;
  /** Read fields up to `end` into a message. */
  readonly read: (message: T, reader: Reader, end: number) => void;
  /** Write JSON with lowerCamel names. It may throw anything: what is wrong is looked for again. */
  readonly json: (message: T, options: JsonWriteOptions) => JsonObject;
  /** Its fields, for everything else. */
  readonly fields: readonly FieldRow[];
}

/** JSON of a well-known type that is not an object of its fields. */
export interface SpecialJson<T> {
  read(value: unknown, options: JsonReadOptions): T;
  /** Fields that a sender left out are not there. */
  write(message: Partial<T>, options: JsonWriteOptions): JsonValue;
}

/** A message type, made by generated code. Messages themselves are plain objects. */
export class ProtoType<T extends object> {
  /** Full name, e.g. `greeter.HelloRequest`. */
  readonly $type: string;
  /** @internal */
  readonly base: () => T;
  /** @internal */
  readonly write: (message: T, writer: Writer) => void;
  /** @internal */
  readonly read: (message: T, reader: Reader, end: number) => void;
  /** @internal */
  readonly json: (message: T, options: JsonWriteOptions) => JsonObject;
  /** @internal Its JSON, if that is not an object of its fields. */
  special: SpecialJson<T> | undefined;
  /** @internal Estimate of what one takes that is empty, in bytes. */
  readonly memory: number;
  readonly #rows: readonly FieldRow[];
  #table: Table | undefined;

  /** @internal Use `message`: well-known types get their JSON there. */
  constructor(
    name: string,
    { base, write, read, json, fields }: ProtoTypeParts<T>,
    special: SpecialJson<T> | undefined,
  ) {
    this.$type = name;
    this.base = base;
    this.write = write;
    this.read = read;
    this.json = json;
    this.special = special;
    this.memory = memoryOf(fields);
    this.#rows = fields;
  }

  /** @internal Fields by their names, made when they are first asked for. */
  get table(): Table {
    return (this.#table ??= tableOf(this.#rows));
  }

  /** Fields of the message, in the order of the .proto file. */
  get fields(): readonly Field[] {
    return this.table.fields;
  }

  /**
   * A message with all its fields, those left out at their zero values. Nothing of `input` is shared with it, bytes
   * apart.
   * @throws {TypeError} that names what is no message, list or map where one belongs, or is of no field of a oneof
   */
  create(input?: ProtoInput<T>): T {
    return input === undefined ? this.base() : copyOf(this, input as T);
  }

  /**
   * Protobuf bytes. Fields that are missing are not written, or have their zero value.
   * @throws {TypeError} that names the field whose value does not fit its type, or is required and missing
   */
  encode(message: ProtoInput<T>): Uint8Array<ArrayBuffer> {
    try {
      if (!isMessage(message)) throw notMessage(message, this.$type);
      checkRequired(this, message);
      return Writer.encode(this, message as T);
    } catch (error) {
      throw explain(this, message, error);
    }
  }

  /**
   * Read protobuf bytes. Fields that are not known here are kept and written again. Fields of type bytes are views of
   * `bytes`.
   * @throws {Error} if the bytes are not a message of this type, or have so many small parts that it would take more memory
   * than `maxMemoryBytes`
   */
  decode(bytes: Uint8Array, limits?: DecodeLimits): T {
    const message = readWhole(this, bytes, limits?.maxMemoryBytes);
    checkRequired(this, message);
    return message;
  }

  /**
   * Read proto3 JSON, as `JSON.parse` gives it.
   * @throws {ProtoJsonError} that says where it is wrong: `items[2].name: 5 is not a string`
   */
  fromJSON(value: unknown, options: JsonReadOptions = {}): T {
    const before = counted(options.maxMemoryBytes ?? Infinity);
    try {
      const message = fromJson(this, value, options);
      checkRequired(this, message);
      return message;
    } finally {
      uncounted(before);
    }
  }

  /** Proto3 JSON of a message, for `JSON.stringify`. @throws {ProtoJsonError} if a value has no JSON */
  toJSON(message: ProtoInput<T>, options: JsonWriteOptions = {}): JsonValue {
    if (!isMessage(message)) throw new ProtoJsonError("", notMessage(message, this.$type).message);
    checkRequired(this, message);
    // Types are given for what generated code does not know: extensions.
    if (options.names !== "proto" && options.types === undefined) {
      try {
        return this.special === undefined
          ? this.json(message as T, options)
          : this.special.write(message as T, options);
      } catch {
        // Told below, with the field's path.
      }
    }
    return toJson(this, message as T, options);
  }
}
