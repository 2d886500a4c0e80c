/** What repeats is sent once: routes and metadata fields get numbers, for the life of a connection. */
import { canonicalName, perMessageHeaders, type Metadata } from "../../metadata.ts";
import { isHeaderName, isSent } from "../http/head-writer.ts";
import type { ExchangeRequest } from "../transport.ts";
import {
  defineKind,
  ExchangeError,
  frameType,
  goAwayCode,
  maxFieldsBytes,
  readText,
  readUint16,
  resetCode,
  WireError,
  writeUint16,
} from "./frames.ts";
import type { FrameWriter } from "./frame-writer.ts";
import type { WireSettings } from "./preface.ts";

/** Where a request goes, and how it is written. */
export interface Route {
  readonly service: string;
  readonly endpoint: string;
  readonly contentType: string;
  readonly accept: string;
}

interface KnownRoute extends Route {
  readonly id: number;
}

/** What is known of one field name: a value that came once is a candidate, one that came again has a number. */
interface KnownField {
  candidate: string;
  defined: string;
  id: number;
}

const maxDefinedFieldLength = 2048;
const maxFieldNames = 256;

/** The client's half. */
export class DictionaryWriter {
  readonly #writer: FrameWriter;
  readonly #settings: WireSettings;
  #routes = new Map<string, KnownRoute[]>();
  #lastRoute: KnownRoute | undefined;
  #fields = new Map<string, KnownField>();
  #sizes: number[] = [0];
  #total = 0;
  #lastMetadata: Metadata | undefined;
  #lastRevision = 0;
  #lastBlock: Uint8Array = noBytes;

  constructor(writer: FrameWriter, settings: WireSettings) {
    this.#writer = writer;
    this.#settings = settings;
  }

  /** The number of the request's route. @throws {ExchangeError} if it is too large. */
  route(request: ExchangeRequest): number {
    const last = this.#lastRoute;
    if (last !== undefined && isRoute(last, request)) return last.id;
    let routes = this.#routes.get(request.endpoint);
    let route = routes?.find((known) => isRoute(known, request));
    if (route === undefined) {
      const { service, endpoint, contentType } = request;
      const accept = request.accept ?? contentType;
      const texts = [service, endpoint, contentType, accept === contentType ? "" : accept];
      const id = this.#define(defineKind.route, 0, texts);
      route = { service, endpoint, contentType, accept, id };
      // The dictionary may have been emptied to make room.
      routes = this.#routes.get(endpoint);
      if (routes === undefined) this.#routes.set(endpoint, (routes = []));
      routes.push(route);
    }
    this.#lastRoute = route;
    return route.id;
  }

  /** Metadata as it goes into OPEN. @throws {ExchangeError} if it is too large. */
  fields(metadata: Metadata | undefined): Uint8Array {
    if (metadata === undefined || metadata.size === 0) return noBytes;
    if (metadata === this.#lastMetadata && metadata.revision === this.#lastRevision) return this.#lastBlock;
    const parts: (number | Buffer)[] = [];
    let literals = false;
    let length = 0;
    for (const [name, value] of metadata) {
      if (!isSent(name)) continue;
      const id = this.#field(name, value);
      if (id !== 0) {
        parts.push(id);
        length += 2;
      } else {
        const text = literal(name, value);
        parts.push(text);
        length += text.length;
        literals = true;
      }
    }
    if (length > maxFieldsBytes || length > this.#settings.maxHeaderBytes) throw tooLargeFields(length);
    const block = Buffer.allocUnsafeSlow(length);
    let at = 0;
    for (const part of parts) {
      if (typeof part === "number") {
        writeUint16(block, at, part);
        at += 2;
      } else {
        block.set(part, at);
        at += part.length;
      }
    }
    // Kept only where it is all numbers: what is literal now may have numbers the next time.
    this.#lastMetadata = literals ? undefined : metadata;
    this.#lastRevision = metadata.revision;
    this.#lastBlock = block;
    return block;
  }

  #field(name: string, value: string): number {
    const known = this.#fields.get(name);
    if (known === undefined) {
      if (this.#fields.size < maxFieldNames && name.length + value.length <= maxDefinedFieldLength)
        this.#fields.set(name, { candidate: value, defined: "", id: 0 });
      return 0;
    }
    if (known.id !== 0 && known.defined === value) return known.id;
    if (known.candidate !== value) {
      known.candidate = name.length + value.length <= maxDefinedFieldLength ? value : "";
      return 0;
    }
    if (value === "" || !this.#hasRoom(known.id, Buffer.byteLength(name) + Buffer.byteLength(value))) return 0;
    known.id = this.#define(defineKind.field, known.id, [name, value]);
    known.defined = value;
    return known.id;
  }

  /** Fields take no room from each other or from routes; routes empty the dictionary when they need to. */
  #hasRoom(id: number, size: number): boolean {
    const { maxDictionaryIds, maxHeaderBytes } = this.#settings;
    const known = id === 0 ? 0 : (this.#sizes[id] ?? 0);
    return (id !== 0 || this.#sizes.length <= maxDictionaryIds) && this.#total - known + size <= maxHeaderBytes;
  }

  #define(kind: number, known: number, texts: readonly string[]): number {
    const bytes = texts.map((text) => Buffer.from(text, "utf8"));
    const size = bytes.reduce((sum, text) => sum + text.length, 0);
    if (size > this.#settings.maxHeaderBytes || size > maxFieldsBytes) throw tooLargeFields(size);
    if (!this.#hasRoom(known, size)) this.#forget();
    const id = known === 0 ? this.#sizes.length : known;
    this.#total += size - (this.#sizes[id] ?? 0);
    this.#sizes[id] = size;
    const payload = Buffer.allocUnsafe(3 + size + 2 * bytes.length);
    writeUint16(payload, 0, id);
    payload[2] = kind;
    let at = 3;
    for (const text of bytes) {
      writeUint16(payload, at, text.length);
      payload.set(text, at + 2);
      at += 2 + text.length;
    }
    this.#writer.frame(frameType.define, 0, 0, payload);
    return id;
  }

  #forget(): void {
    this.#routes = new Map();
    this.#fields = new Map();
    this.#lastRoute = undefined;
    this.#lastMetadata = undefined;
    this.#sizes = [0];
    this.#total = 0;
    this.#writer.frame(frameType.define, 0, 0, Buffer.from([0, 0, defineKind.forget]));
  }
}

const noBytes = new Uint8Array(0);

function isRoute(route: Route, request: ExchangeRequest): boolean {
  return (
    route.endpoint === request.endpoint &&
    route.service === request.service &&
    route.contentType === request.contentType &&
    (request.accept === undefined ? route.accept === route.contentType : route.accept === request.accept)
  );
}

function tooLargeFields(length: number): ExchangeError {
  return new ExchangeError(`${length} bytes of headers are more than the peer takes`, resetCode.tooLarge);
}

function literal(name: string, value: string): Buffer {
  const nameBytes = Buffer.from(name, "utf8");
  const valueBytes = Buffer.from(value, "utf8");
  if (nameBytes.length > 0xffff || valueBytes.length > 0xffff)
    throw tooLargeFields(nameBytes.length + valueBytes.length);
  const bytes = Buffer.allocUnsafe(6 + nameBytes.length + valueBytes.length);
  writeUint16(bytes, 0, 0);
  writeUint16(bytes, 2, nameBytes.length);
  bytes.set(nameBytes, 4);
  writeUint16(bytes, 4 + nameBytes.length, valueBytes.length);
  bytes.set(valueBytes, 6 + nameBytes.length);
  return bytes;
}

/** Literal fields for a message of a listener. @throws {ExchangeError} if they are too large. */
export function literalFields(metadata: Metadata): Buffer {
  const parts: Buffer[] = [];
  let length = 0;
  for (const [name, value] of metadata) {
    if (!isSent(name)) continue;
    const part = literal(name, value);
    parts.push(part);
    length += part.length;
  }
  if (length > maxFieldsBytes) throw tooLargeFields(length);
  return Buffer.concat(parts, length);
}

/** Names and values in turn. */
export type Fields = readonly string[];

const noFields: Fields = [];
type Entry = Route | Fields;

/** The listener's half. */
export class DictionaryReader {
  readonly #maxIds: number;
  readonly #maxBytes: number;
  #entries: (Entry | undefined)[] = [undefined];
  #sizes: number[] = [0];
  #total = 0;

  constructor(settings: Pick<WireSettings, "maxDictionaryIds" | "maxHeaderBytes">) {
    this.#maxIds = settings.maxDictionaryIds;
    this.#maxBytes = settings.maxHeaderBytes;
  }

  /** What is held, of text and for each entry. */
  get bytes(): number {
    return this.#total + entryCost * this.#entries.length;
  }

  /** @throws {WireError} */
  define(bytes: Uint8Array, start: number, end: number): void {
    if (end - start < 3) throw new WireError("a DEFINE frame is too short");
    const id = readUint16(bytes, start);
    const kind = bytes[start + 2];
    if (kind === defineKind.forget) {
      if (id !== 0 || end - start !== 3) throw new WireError("a DEFINE frame that forgets names an id", dictionaryCode);
      this.#entries = [undefined];
      this.#sizes = [0];
      this.#total = 0;
      return;
    }
    if (id === 0 || id > this.#maxIds) throw new WireError(`dictionary id ${id} is out of range`, dictionaryCode);
    if (kind !== defineKind.route && kind !== defineKind.field)
      throw new WireError(`a dictionary has no entries of kind ${kind}`, dictionaryCode);
    // A gap would make a sparse array, and there is no reason for one.
    if (id > this.#sizes.length) throw new WireError(`dictionary id ${id} leaves a gap`, dictionaryCode);
    const count = kind === defineKind.route ? 4 : 2;
    const texts: string[] = [];
    let at = start + 3;
    for (let index = 0; index < count; index++) {
      const length = at + 2 <= end ? readUint16(bytes, at) : 0;
      if (at + 2 + length > end) throw new WireError("a DEFINE frame ends inside of a text", dictionaryCode);
      texts.push(readText(bytes, at + 2, at + 2 + length));
      at += 2 + length;
    }
    if (at !== end) throw new WireError("a DEFINE frame goes on behind its texts", dictionaryCode);
    const size = end - start - 3 - 2 * count;
    this.#total += size - (this.#sizes[id] ?? 0);
    if (this.#total > this.#maxBytes)
      throw new WireError(`the dictionary holds more than ${this.#maxBytes} bytes`, dictionaryCode);
    this.#sizes[id] = size;
    this.#entries[id] = kind === defineKind.route ? toRoute(texts) : toFields(texts[0] as string, texts[1] as string);
  }

  /** @throws {WireError} */
  route(id: number): Route {
    const entry = this.#entries[id];
    if (entry === undefined || Array.isArray(entry))
      throw new WireError(`dictionary id ${id} is no route`, dictionaryCode);
    return entry as Route;
  }

  /** The fields of an OPEN frame. @throws {WireError} */
  fields(bytes: Uint8Array, start: number, end: number): Fields {
    if (end - start === 2) return this.#field(readUint16(bytes, start));
    const all: string[] = [];
    let at = start;
    while (at < end) {
      if (end - at < 2) throw new WireError("metadata ends inside of a field");
      const id = readUint16(bytes, at);
      if (id === 0) at = readLiteral(bytes, at, end, all);
      else {
        const field = this.#field(id);
        for (const text of field) all.push(text);
        at += 2;
      }
    }
    return all;
  }

  #field(id: number): Fields {
    const entry = this.#entries[id];
    if (!Array.isArray(entry)) throw new WireError(`dictionary id ${id} is no field`, dictionaryCode);
    return entry as Fields;
  }
}

/** What an entry takes beside its text. */
const entryCost = 64;
const dictionaryCode = goAwayCode.dictionary;

function toRoute(texts: readonly string[]): Route {
  const [service = "", endpoint = "", contentType = "", accept = ""] = texts;
  return { service, endpoint, contentType, accept: accept === "" ? contentType : accept };
}

/** Names that no header can have, and those that describe a message, are not taken from a peer. */
function toFields(name: string, value: string): Fields {
  if (!isHeaderName(name)) return noFields;
  const canonical = canonicalName(name);
  if (perMessageHeaders.has(canonical)) return noFields;
  return [canonical, value];
}

/** Read the literal at `at`. @returns where it ends. @throws {WireError} */
function readLiteral(bytes: Uint8Array, at: number, end: number, all: string[]): number {
  const nameEnd = at + 4 <= end ? at + 4 + readUint16(bytes, at + 2) : end + 1;
  const valueEnd = nameEnd + 2 <= end ? nameEnd + 2 + readUint16(bytes, nameEnd) : end + 1;
  if (valueEnd > end) throw new WireError("metadata ends inside of a field");
  for (const text of toFields(readText(bytes, at + 4, nameEnd), readText(bytes, nameEnd + 2, valueEnd))) all.push(text);
  return valueEnd;
}

/** Literal fields of a message of a listener. @throws {WireError} */
export function readLiteralFields(bytes: Uint8Array, start: number, end: number): Fields {
  const all: string[] = [];
  for (let at = start; at < end;) {
    if (end - at < 2 || readUint16(bytes, at) !== 0) throw new WireError("a listener's fields are not literal");
    at = readLiteral(bytes, at, end, all);
  }
  return all;
}
