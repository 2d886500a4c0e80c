/**
 * The messages of the `Debug` service, in protobuf and JSON, as go-micro's `debug/service/proto/debug.proto` has them.
 *
 * 64-bit integers are JSON numbers: Go's encoding/json takes only those, and both of Go's protobuf decoders take them.
 */
import type { MessageType } from "../definition.ts";

export interface HealthRequest {
  readonly service: string;
}
export interface HealthResponse {
  readonly status: string;
}
export interface StatsRequest {
  readonly service: string;
}
export interface StatsResponse {
  /** Unix time, in seconds; `started` likewise. */
  readonly timestamp: number;
  readonly started: number;
  /** Seconds. */
  readonly uptime: number;
  /** Bytes. */
  readonly memory: number;
  readonly threads: number;
  /** Nanoseconds. */
  readonly gc: number;
  readonly requests: number;
  readonly errors: number;
}
export interface TraceRequest {
  /** Trace id; empty for all. */
  readonly id: string;
}
export interface TraceResponse {
  readonly spans: readonly DebugSpan[];
}
export interface DebugSpan {
  readonly trace: string;
  readonly id: string;
  readonly parent: string;
  readonly name: string;
  /** Unix time, in nanoseconds. */
  readonly started: number;
  /** Nanoseconds. */
  readonly duration: number;
  readonly metadata: Readonly<Record<string, string>>;
  /** 0 inbound, 1 outbound. */
  readonly type: number;
}
export interface LogRequest {
  readonly service: string;
  /** Go on with new records. */
  readonly stream: boolean;
  /** At most so many of the records there are; 0 for the default. */
  readonly count: number;
  /** Unix time, in seconds; 0 for all. */
  readonly since: number;
}
export interface DebugLogRecord {
  /** Unix time, in seconds. */
  readonly timestamp: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly message: string;
}

type FieldKind = "string" | "bool" | "integer" | "strings" | "messages";

interface Field {
  readonly name: string;
  readonly number: number;
  readonly kind: FieldKind;
  /** Of `messages`. */
  readonly fields?: readonly Field[];
}

type Message = Record<string, unknown>;

const wireVarint = 0;
const wireFixed64 = 1;
const wireBytes = 2;
const wireFixed32 = 5;

const mapEntry: readonly Field[] = [field("key", 1), field("value", 2)];

export const healthRequest = messageType<HealthRequest>("HealthRequest", [field("service", 1)]);
export const healthResponse = messageType<HealthResponse>("HealthResponse", [field("status", 1)]);
export const statsRequest = messageType<StatsRequest>("StatsRequest", [field("service", 1)]);
export const statsResponse = messageType<StatsResponse>("StatsResponse", [
  field("timestamp", 1, "integer"),
  field("started", 2, "integer"),
  field("uptime", 3, "integer"),
  field("memory", 4, "integer"),
  field("threads", 5, "integer"),
  field("gc", 6, "integer"),
  field("requests", 7, "integer"),
  field("errors", 8, "integer"),
]);
export const traceRequest = messageType<TraceRequest>("TraceRequest", [field("id", 1)]);
export const traceResponse = messageType<TraceResponse>("TraceResponse", [
  {
    name: "spans",
    number: 1,
    kind: "messages",
    fields: [
      field("trace", 1),
      field("id", 2),
      field("parent", 3),
      field("name", 4),
      field("started", 5, "integer"),
      field("duration", 6, "integer"),
      field("metadata", 7, "strings"),
      field("type", 8, "integer"),
    ],
  },
]);
export const logRequest = messageType<LogRequest>("LogRequest", [
  field("service", 1),
  field("stream", 2, "bool"),
  field("count", 3, "integer"),
  field("since", 4, "integer"),
]);
export const logRecord = messageType<DebugLogRecord>("Record", [
  field("timestamp", 1, "integer"),
  field("metadata", 2, "strings"),
  field("message", 3),
]);

function field(name: string, number: number, kind: FieldKind = "string"): Field {
  return { name, number, kind };
}

function messageType<T>(name: string, fields: readonly Field[]): MessageType<T> {
  return {
    name,
    binary: {
      encode: (message) => encodeMessage(message as Message, fields),
      decode: (bytes) => decodeFields(bytes, fields) as T,
    },
    json: {
      encode: (message) => message,
      decode: (value) => fromJson(value, fields) as T,
    },
  };
}

function zeroMessage(fields: readonly Field[]): Message {
  return Object.fromEntries(fields.map(({ name, kind }) => [name, zeroValue(kind)]));
}

function zeroValue(kind: FieldKind): unknown {
  if (kind === "string") return "";
  if (kind === "bool") return false;
  if (kind === "integer") return 0;
  return kind === "messages" ? [] : Object.create(null);
}

/** A missing field counts as zero. */
function encodeMessage(message: Message, fields: readonly Field[]): Uint8Array {
  return Buffer.concat(
    fields.flatMap((definition) => encodeField(definition, message[definition.name] ?? zeroValue(definition.kind))),
  );
}

function encodeField({ number, kind, fields }: Field, value: unknown): Uint8Array[] {
  if (kind === "string") return value === "" ? [] : delimited(number, Buffer.from(value as string));
  if (kind === "bool" || kind === "integer")
    return value ? [varint(number * 8 + wireVarint), varint(Number(value))] : [];
  if (kind === "messages")
    return (value as Message[]).flatMap((message) => delimited(number, encodeMessage(message, fields ?? [])));
  return Object.entries(value as Record<string, string>).flatMap(([key, text]) =>
    delimited(number, encodeMessage({ key, value: text }, mapEntry)),
  );
}

function delimited(number: number, bytes: Uint8Array): Uint8Array[] {
  return [varint(number * 8 + wireBytes), varint(bytes.length), bytes];
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(Math.trunc(value)));
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

/** Unknown fields are skipped. @throws {Error} when the bytes are no protobuf message. */
function decodeFields(bytes: Uint8Array, fields: readonly Field[]): Message {
  const message = zeroMessage(fields);
  const reader = new Reader(bytes);
  while (!reader.done) {
    const tag = Number(reader.varint());
    const wire = tag & 7;
    const definition = fields.find(({ number }) => number === Math.floor(tag / 8));
    const varintField = definition?.kind === "integer" || definition?.kind === "bool";
    if (definition === undefined) reader.skip(wire);
    else if (wire !== (varintField ? wireVarint : wireBytes))
      throw new Error(`field ${definition.name} has wire type ${wire}`);
    else if (definition.kind === "bool") message[definition.name] = reader.varint() !== 0n;
    else if (definition.kind === "integer") message[definition.name] = Number(BigInt.asIntN(64, reader.varint()));
    else decodeBytes(message, definition, reader.bytes());
  }
  return message;
}

function decodeBytes(message: Message, { name, kind, fields }: Field, bytes: Uint8Array): void {
  if (kind === "string") message[name] = Buffer.from(bytes).toString();
  else if (kind === "messages") (message[name] as Message[]).push(decodeFields(bytes, fields ?? []));
  else {
    const entry = decodeFields(bytes, mapEntry);
    (message[name] as Record<string, unknown>)[entry["key"] as string] = entry["value"];
  }
}

class Reader {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#offset >= this.#bytes.length;
  }

  varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#bytes[this.#offset++];
      if (byte === undefined) throw new Error("the message is cut short");
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new Error("a number is longer than 64 bits");
  }

  bytes(): Uint8Array {
    return this.#take(Number(this.varint()));
  }

  skip(wire: number): void {
    if (wire === wireVarint) this.varint();
    else if (wire === wireFixed64) this.#take(8);
    else if (wire === wireBytes) this.bytes();
    else if (wire === wireFixed32) this.#take(4);
    else throw new Error(`wire type ${wire} is unknown`);
  }

  #take(length: number): Uint8Array {
    const end = this.#offset + length;
    if (end > this.#bytes.length) throw new Error("the message is cut short");
    const bytes = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return bytes;
  }
}

/** Integers may be text, as protobuf's JSON mapping writes them. @throws {TypeError} for a value of a wrong type. */
function fromJson(value: unknown, fields: readonly Field[]): Message {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new TypeError("an object was expected");
  const message = zeroMessage(fields);
  for (const { name, kind, fields: members } of fields) {
    const found = Object.hasOwn(value, name) ? (value as Message)[name] : undefined;
    if (found !== undefined && found !== null) message[name] = jsonValue(name, kind, found, members ?? []);
  }
  return message;
}

function jsonValue(name: string, kind: FieldKind, value: unknown, fields: readonly Field[]): unknown {
  if (kind === "string" && typeof value === "string") return value;
  if (kind === "bool" && typeof value === "boolean") return value;
  if (kind === "integer" && Number.isInteger(value)) return value;
  if (kind === "integer" && typeof value === "string" && /^-?\d{1,20}$/.test(value)) return Number(value);
  if (kind === "messages" && Array.isArray(value)) return value.map((item) => fromJson(item, fields));
  if (kind === "strings" && typeof value === "object") {
    const strings = Object.create(null) as Record<string, string>;
    for (const [key, text] of Object.entries(value as object)) strings[key] = String(text);
    return strings;
  }
  throw new TypeError(`field ${name} has the wrong type`);
}
