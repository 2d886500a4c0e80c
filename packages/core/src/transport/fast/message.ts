/** What stands before the body of a listener's message: content type, error, metadata. */
import { Metadata } from "../../metadata.ts";
import { isReadBuffer } from "../http/dial.ts";
import type { ExchangeMessage, OutgoingMessage } from "../transport.ts";
import { type Fields, literalFields, readLiteralFields } from "./dictionary.ts";
import type { Slab } from "./message-queue.ts";
import {
  dataFlag,
  ExchangeError,
  fieldFlags,
  frameCost,
  maxFieldsBytes,
  readText,
  readUint16,
  resetCode,
  WireError,
} from "./frames.ts";

const noFields: Fields = [];
const noBytes = new Uint8Array(0);

/** Flags and bytes of the fields of a message. */
export interface MessageFields {
  readonly flags: number;
  readonly bytes: Uint8Array;
}

const plain: MessageFields = { flags: 0, bytes: noBytes };
const untyped: MessageFields = { flags: dataFlag.type, bytes: Buffer.alloc(2) };

/** @param contentType that of the route, which goes without saying. @throws {ExchangeError} if they are too large. */
export function messageFields(message: OutgoingMessage, contentType: string): MessageFields {
  if (message.error === undefined && message.metadata === undefined && message.notRun !== true) {
    if (message.contentType === contentType) return plain;
    if (message.contentType === undefined || message.contentType === "") return untyped;
  }
  let flags = 0;
  const texts: Buffer[] = [];
  if ((message.contentType ?? "") !== contentType) {
    flags |= dataFlag.type;
    texts.push(Buffer.from(message.contentType ?? "", "utf8"));
  }
  if (message.error !== undefined) {
    flags |= dataFlag.error;
    // An error must not be empty, as little as on the other wire.
    texts.push(Buffer.from(message.error === "" ? "unknown error" : message.error, "utf8"));
  }
  if (message.notRun === true) flags |= dataFlag.notRun;
  if (message.metadata !== undefined && message.metadata.size > 0) {
    flags |= dataFlag.metadata;
    texts.push(literalFields(message.metadata));
  }
  const length = texts.reduce((sum, text) => sum + 2 + text.length, 0);
  if (length > maxFieldsBytes)
    throw new ExchangeError(`${length} bytes of headers are too many for a message`, resetCode.tooLarge);
  const bytes = Buffer.allocUnsafe(length);
  let at = 0;
  for (const text of texts) {
    bytes.writeUInt16BE(text.length, at);
    bytes.set(text, at + 2);
    at += 2 + text.length;
  }
  return { flags, bytes };
}

/** The fields of a received message, and where its body begins. */
export interface ReceivedFields {
  readonly contentType: string;
  readonly error: string | undefined;
  readonly fields: Fields;
  readonly bodyStart: number;
}

export function hasFields(flags: number): boolean {
  return (flags & fieldFlags) !== 0;
}

/** @throws {WireError} */
export function readFields(
  flags: number,
  bytes: Uint8Array,
  start: number,
  end: number,
  contentType: string,
): ReceivedFields {
  let at = start;
  const next = (): number => {
    const length = at + 2 <= end ? readUint16(bytes, at) : 0;
    if (at + 2 + length > end) throw new WireError("a DATA frame ends inside of its fields");
    at += 2 + length;
    return at - length;
  };
  let type = contentType;
  let error: string | undefined;
  let fields = noFields;
  if (flags & dataFlag.type) type = readText(bytes, next(), at);
  if (flags & dataFlag.error) error = readText(bytes, next(), at);
  if (flags & dataFlag.metadata) fields = readLiteralFields(bytes, next(), at);
  return { contentType: type, error: error === "" ? "unknown error" : error, fields, bodyStart: at };
}

/** A message as the caller sees it. */
export class FastMessage implements ExchangeMessage {
  readonly contentType: string;
  readonly error: string | undefined;
  readonly notRun: boolean;
  readonly body: Uint8Array;
  /** Of the frames it came in: what it holds of its exchange's credit until it is read. */
  readonly cost: number;
  readonly #fields: Fields;
  #header: Metadata | undefined;

  constructor(
    contentType: string,
    error: string | undefined,
    notRun: boolean,
    fields: Fields,
    body: Uint8Array,
    cost: number,
  ) {
    this.cost = cost;
    this.contentType = contentType;
    this.error = error;
    this.notRun = notRun;
    this.#fields = fields;
    this.body = body;
  }

  get header(): Metadata {
    return (this.#header ??= Metadata.lazy(() => {
      const entries = new Map<string, string>();
      setFields(entries, this.#fields);
      if (this.contentType !== "") entries.set("Content-Type", this.contentType);
      if (this.error !== undefined) entries.set("Micro-Error", this.error);
      if (this.notRun) entries.set("Micro-Retry", "not-run");
      return entries;
    }));
  }
}

/** A message that is nothing but its body, in a slab until somebody wants it. */
export class PackedMessage implements ExchangeMessage {
  readonly contentType: string;
  readonly #slab: Slab;
  readonly #start: number;
  readonly #end: number;

  constructor(contentType: string, slab: Slab, start: number, end: number) {
    this.contentType = contentType;
    this.#slab = slab;
    this.#start = start;
    this.#end = end;
  }

  get error(): undefined {
    return undefined;
  }

  get notRun(): boolean {
    return false;
  }

  get body(): Uint8Array {
    return this.#slab.bytes.subarray(this.#start, this.#end);
  }

  get cost(): number {
    return this.#end - this.#start + frameCost(0);
  }

  text(): string | undefined {
    return this.#slab.text(this.#start, this.#end);
  }

  get header(): Metadata {
    const { contentType } = this;
    return contentType === "" ? new Metadata() : new Metadata().keep("Content-Type", contentType);
  }
}

export function setFields(entries: Map<string, string>, fields: Fields): void {
  for (let index = 0; index < fields.length; index += 2) entries.set(fields[index]!, fields[index + 1]!);
}

export const emptyFields: Fields = noFields;

/** A body that outlives its chunk: what is small is copied, so that it does not keep the chunk in memory. */
export function keepBody(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const length = end - start;
  if (length === 0) return noBytes;
  if (length * 3 > bytes.length && length > 1024 && !isReadBuffer(bytes)) return bytes.subarray(start, end);
  const copy = Buffer.allocUnsafe(length);
  if (length > 48) copy.set(bytes.subarray(start, end));
  else for (let index = 0; index < length; index++) copy[index] = bytes[start + index]!;
  return copy;
}
