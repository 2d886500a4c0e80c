/**
 * DNS messages as go-micro's mdns writes and reads them (RFC 1035; go-micro uses github.com/miekg/dns).
 *
 * Only the records discovery is made of are read; all others are skipped by their length. Names are kept in
 * presentation form, with the escapes of Go's library, so that comparing two texts is comparing bytes.
 */

export const recordTypes = { A: 1, PTR: 12, TXT: 16, AAAA: 28, SRV: 33, ANY: 255 } as const;

/** Class IN. */
export const classInternet = 1;
/** Top bit of the class: cache flush in records, "answer by unicast" in questions. */
export const topClassBit = 0x8000;
/** Response. */
export const flagResponse = 0x8000;
/** Response, authoritative: what go-micro's answers carry. */
export const flagsAnswer = 0x8400;
/** The largest message that fits a UDP datagram over IPv4. */
export const maxMessageBytes = 65_507;

// A message of ours has four records; what has hundreds is not discovery.
const maxRecords = 512;
const maxQuestions = 64;

export interface Question {
  readonly name: string;
  readonly type: number;
  /** As on the wire, top bit included. */
  readonly class: number;
}

export type Record =
  | { readonly type: "PTR"; readonly name: string; readonly ttl: number; readonly target: string }
  | {
      readonly type: "SRV";
      readonly name: string;
      readonly ttl: number;
      readonly priority: number;
      readonly weight: number;
      readonly port: number;
      readonly target: string;
    }
  | { readonly type: "A"; readonly name: string; readonly ttl: number; readonly address: Uint8Array }
  | { readonly type: "AAAA"; readonly name: string; readonly ttl: number; readonly address: Uint8Array }
  | { readonly type: "TXT"; readonly name: string; readonly ttl: number; readonly strings: readonly string[] };

export interface Message {
  readonly id: number;
  readonly flags: number;
  readonly questions: readonly Question[];
  readonly answers: readonly Record[];
  readonly authorities: readonly Record[];
  readonly additionals: readonly Record[];
}

/** A message that breaks the format or a limit. Never leaves the registry. */
export class PacketError extends Error {}

/**
 * Write a message.
 * @throws {PacketError} if a name or the message is too long.
 */
export function encodeMessage(message: Partial<Message>, options: { compress: boolean }): Buffer {
  const writer = new Writer(options.compress);
  const { questions = [], answers = [], authorities = [], additionals = [] } = message;
  writer.uint16(message.id ?? 0);
  writer.uint16(message.flags ?? 0);
  for (const section of [questions, answers, authorities, additionals]) writer.uint16(section.length);
  for (const question of questions) {
    writer.name(question.name);
    writer.uint16(question.type);
    writer.uint16(question.class);
  }
  for (const record of [...answers, ...authorities, ...additionals]) writer.record(record);
  return writer.finish();
}

/**
 * Read a message.
 * @throws {PacketError} for anything malformed: a loop of compression pointers, a record beyond the end, too many.
 */
export function decodeMessage(bytes: Uint8Array): Message {
  return new Reader(bytes).message();
}

/**
 * The bytes of a name's labels, the escapes of presentation form undone.
 * @throws {PacketError} if a label is empty or beyond 63 bytes, or the name beyond 255.
 */
export function nameLabels(name: string): Buffer[] {
  const labels: Buffer[] = [];
  let label: number[] = [];
  let length = 1;
  const bytes = Buffer.from(name);
  const finish = (): void => {
    if (label.length === 0) throw new PacketError(`the name ${JSON.stringify(name)} has an empty part`);
    if (label.length > 63)
      throw new PacketError(
        `${JSON.stringify(Buffer.from(label).toString())} has ${label.length} bytes; a part of a DNS name has at most 63`,
      );
    length += label.length + 1;
    if (length > 255)
      throw new PacketError(`the name ${JSON.stringify(name)} is longer than the 255 bytes of a DNS name`);
    labels.push(Buffer.from(label));
    label = [];
  };
  if (name === "" || name === ".") return labels;
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index]!;
    if (byte === dot) finish();
    else if (byte !== backslash) label.push(byte);
    else {
      const digits = /^\d{3}/.exec(bytes.toString("latin1", index + 1, index + 4))?.[0];
      label.push(digits === undefined ? (bytes[index + 1] ?? backslash) : Number(digits) & 0xff);
      index += digits === undefined ? 1 : 3;
    }
  }
  // The dot at the end of a full name is no separator.
  if (label.length > 0) finish();
  return labels;
}

const dot = 0x2e;
const backslash = 0x5c;

/** A label in presentation form, escaped as Go's library does. */
function presentLabel(bytes: Uint8Array, start: number, end: number): string {
  let text = "";
  for (let index = start; index < end; index++) {
    const byte = bytes[index]!;
    if (byte < 0x20 || byte > 0x7e) text += `\\${byte.toString().padStart(3, "0")}`;
    else {
      const character = String.fromCharCode(byte);
      text += ` '@;().\\"`.includes(character) ? `\\${character}` : character;
    }
  }
  return text;
}

class Writer {
  #bytes = Buffer.allocUnsafe(1024);
  #length = 0;
  /** Where a name, or the end of one, has been written; undefined when not compressing. */
  readonly #offsets: Map<string, number> | undefined;

  constructor(compress: boolean) {
    this.#offsets = compress ? new Map() : undefined;
  }

  uint16(value: number): void {
    this.#grow(2);
    this.#length = this.#bytes.writeUInt16BE(value, this.#length);
  }

  uint32(value: number): void {
    this.#grow(4);
    this.#length = this.#bytes.writeUInt32BE(value, this.#length);
  }

  /** `pointer: false` writes the name in full, yet lets later names point to it: RFC 2782 wants SRV targets so. */
  name(name: string, options: { pointer: boolean } = { pointer: true }): void {
    const labels = nameLabels(name);
    for (const [index, label] of labels.entries()) {
      const suffix =
        this.#offsets &&
        labels
          .slice(index)
          .map((part) => part.toString("hex"))
          .join(".");
      const offset = suffix === undefined ? undefined : this.#offsets!.get(suffix);
      if (offset !== undefined && options.pointer) return this.uint16(0xc000 | offset);
      // A pointer has 14 bits.
      if (suffix !== undefined && offset === undefined && this.#length < 0x4000)
        this.#offsets!.set(suffix, this.#length);
      this.#grow(label.length + 1);
      this.#bytes[this.#length++] = label.length;
      this.#length += label.copy(this.#bytes, this.#length);
    }
    this.#grow(1);
    this.#bytes[this.#length++] = 0;
  }

  record(record: Record): void {
    this.name(record.name);
    this.uint16(recordTypes[record.type]);
    this.uint16(classInternet);
    this.uint32(record.ttl);
    const start = this.#length;
    this.uint16(0);
    if (record.type === "PTR") this.name(record.target);
    else if (record.type === "SRV") {
      this.uint16(record.priority);
      this.uint16(record.weight);
      this.uint16(record.port);
      this.name(record.target, { pointer: false });
    } else if (record.type === "TXT") {
      for (const text of record.strings) {
        const bytes = Buffer.from(text);
        if (bytes.length > 255) throw new PacketError("a string of a TXT record is longer than 255 bytes");
        this.bytes(Uint8Array.of(bytes.length));
        this.bytes(bytes);
      }
    } else this.bytes(record.address);
    const length = this.#length - start - 2;
    if (length > 0xffff) throw new PacketError(`a record of ${length} bytes; DNS allows 65535`);
    this.#bytes.writeUInt16BE(length, start);
  }

  bytes(bytes: Uint8Array): void {
    this.#grow(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  finish(): Buffer {
    if (this.#length > maxMessageBytes)
      throw new PacketError(`a message of ${this.#length} bytes; a datagram holds ${maxMessageBytes}`);
    return this.#bytes.subarray(0, this.#length);
  }

  #grow(bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + bytes));
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }
}

class Reader {
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  message(): Message {
    const id = this.#uint16();
    const flags = this.#uint16();
    const [questions, answers, authorities, additionals] = [
      this.#uint16(),
      this.#uint16(),
      this.#uint16(),
      this.#uint16(),
    ];
    if (questions > maxQuestions) throw new PacketError(`${questions} questions`);
    if (answers + authorities + additionals > maxRecords)
      throw new PacketError(`${answers + authorities + additionals} records`);
    return {
      id,
      flags,
      questions: Array.from({ length: questions }, () => this.#question()),
      answers: this.#records(answers),
      authorities: this.#records(authorities),
      additionals: this.#records(additionals),
    };
  }

  #question(): Question {
    return { name: this.#name(), type: this.#uint16(), class: this.#uint16() };
  }

  #records(count: number): Record[] {
    const records: Record[] = [];
    for (let index = 0; index < count; index++) {
      const record = this.#record();
      if (record !== undefined) records.push(record);
    }
    return records;
  }

  /** The next record; undefined for one of a type or class that means nothing here. */
  #record(): Record | undefined {
    const name = this.#name();
    const type = this.#uint16();
    const recordClass = this.#uint16() & ~topClassBit;
    const ttl = this.#uint16() * 0x1_0000 + this.#uint16();
    const length = this.#uint16();
    const end = this.#offset + length;
    if (end > this.#bytes.length) throw new PacketError("a record goes beyond the end");
    const record = recordClass === classInternet ? this.#data(name, type, ttl, end) : undefined;
    if (record !== undefined && this.#offset !== end)
      throw new PacketError(`a ${record.type} record of a wrong length`);
    this.#offset = end;
    return record;
  }

  #data(name: string, type: number, ttl: number, end: number): Record | undefined {
    switch (type) {
      case recordTypes.PTR:
        return { type: "PTR", name, ttl, target: this.#name() };
      case recordTypes.SRV: {
        const [priority, weight, port] = [this.#uint16(), this.#uint16(), this.#uint16()];
        return { type: "SRV", name, ttl, priority, weight, port, target: this.#name() };
      }
      case recordTypes.A:
        return { type: "A", name, ttl, address: this.#take(4) };
      case recordTypes.AAAA:
        return { type: "AAAA", name, ttl, address: this.#take(16) };
      case recordTypes.TXT: {
        const strings: string[] = [];
        while (this.#offset < end) strings.push(Buffer.from(this.#take(this.#byte())).toString());
        return { type: "TXT", name, ttl, strings };
      }
      default:
        return undefined;
    }
  }

  /** A name in presentation form with a dot at its end. Pointers may only lead backwards, so that none can loop. */
  #name(): string {
    const labels: string[] = [];
    let offset = this.#offset;
    let limit = offset;
    let length = 1;
    let jumped = false;
    for (;;) {
      const size = this.#bytes[offset];
      if (size === undefined) throw new PacketError("a name goes beyond the end");
      if (size >= 0xc0) {
        const target = ((size & 0x3f) << 8) | (this.#bytes[offset + 1] ?? 0xff);
        if (!jumped) this.#offset = offset + 2;
        jumped = true;
        if (target >= limit) throw new PacketError("a compressed name points forward");
        limit = offset = target;
        continue;
      }
      if (size >= 0x40) throw new PacketError("a label of an unknown kind");
      offset++;
      if (size === 0) break;
      if (offset + size > this.#bytes.length) throw new PacketError("a name goes beyond the end");
      length += size + 1;
      if (length > 255) throw new PacketError("a name of more than 255 bytes");
      labels.push(presentLabel(this.#bytes, offset, offset + size));
      offset += size;
    }
    if (!jumped) this.#offset = offset;
    return `${labels.join(".")}.`;
  }

  #byte(): number {
    return this.#take(1)[0]!;
  }

  #uint16(): number {
    const [high, low] = this.#take(2);
    return (high! << 8) | low!;
  }

  #take(length: number): Uint8Array {
    const end = this.#offset + length;
    if (end > this.#bytes.length) throw new PacketError("the message is cut short");
    const bytes = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return bytes;
  }
}
