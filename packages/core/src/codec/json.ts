/** The json codec: one JSON value and a newline, as Go's `codec/json` writes it. */
import { builtin } from "../builtins.ts";
import type { DecodeLimits, MessageType } from "../definition.ts";
import { MicroError } from "../errors.ts";
import { checkNumber, checkOptionNames } from "../option-check.ts";
import { memoryFor } from "../proto/memory.ts";
import type { Codec } from "./codec.ts";
import { isLost, isPromise, noForm } from "./json-lost.ts";
import {
  checkStructure,
  maxJsonParts,
  maybeLongIntegers,
  parseJsonText,
  quoteLongIntegers,
  refuseRepeatedMembers,
  utf8Text,
} from "./json-text.ts";

const id = "codec.json";
const fewLetters = 1000;
const shortestHostile = '{"__proto__":0}'.length;

/**
 * JSON, for content type `application/json`.
 *
 * Writing: a message's own JSON form where its type has one, else the value itself; `undefined` is `{}`; a `bigint`
 * is a decimal string, as protobuf's JSON mapping has it; bytes are padded base64, as in Go. What JSON would write as `{}`
 * and is no object of fields is an error that names it: a promise nobody awaited, a `Map`, an `Error`, an object of functions.
 *
 * Reading: exactly one value; an empty body is the empty message, since Go servers never decode one. The keys
 * `__proto__` and `constructor.prototype` are refused however they are escaped. Nesting is limited to Go's 10000, and
 * arrays, objects and members together to 250000, and the memory that protobuf messages take:
 * {@link jsonCodecWith} takes more.
 */
export const jsonCodec: Codec = jsonCodecWith({});

/** Settings of {@link jsonCodecWith}. */
export interface JsonCodecOptions {
  /**
   * How many arrays, objects and members of objects one message may have. Reading them takes up to two microseconds each,
   * and nothing else of the process runs meanwhile. Default: 250000.
   */
  maxParts?: number | undefined;
  /**
   * How many bytes of memory a protobuf message may take for each byte of the text, besides 1 MiB and what the text itself
   * takes: `{}` takes hundreds where its type has many fields. For messages of `protoc-gen-micro`. Default: 32.
   */
  maxGrowth?: number | undefined;
}

/**
 * The json codec with a limit of its own, for messages with very many parts:
 * `codecs: { "application/json": jsonCodecWith({ maxParts: 5_000_000 }) }`.
 * @throws {TypeError} for an option that does not exist, or a limit that is no positive whole number.
 */
export function jsonCodecWith(options: JsonCodecOptions): Codec {
  checkOptionNames("jsonCodecWith", options, { maxParts: true, maxGrowth: true });
  const { maxParts = maxJsonParts, maxGrowth } = options;
  checkNumber("jsonCodecWith", "maxGrowth", maxGrowth, { least: 1 });
  if (!(Number.isSafeInteger(maxParts) && maxParts > 0))
    throw new TypeError(`jsonCodecWith: \`maxParts\` must be a positive whole number, not ${String(maxParts)}`);
  return Object.assign(
    // Inherited: whoever makes a codec of a copy of this one with an `encode` of their own would not expect another way.
    Object.create({
      encodeText: (message: unknown, type: MessageType | undefined) => `${encodeJsonText(message, type)}\n`,
      decodeText: (text: string, type: MessageType | undefined) =>
        text === "" ? fromJson({}, type) : decodeJsonText(text, type, maxParts, maxGrowth),
    } satisfies Partial<Codec>) as object,
    {
      name: "json",
      encode: (message: unknown, type: MessageType | undefined) => Buffer.from(`${encodeJsonText(message, type)}\n`),
      decode: (body: Uint8Array, type: MessageType | undefined) =>
        body.length === 0 ? fromJson({}, type) : decodeJsonText(utf8Text(id, body), type, maxParts, maxGrowth),
    },
  );
}

/** The JSON text of a message, without a newline. @throws {MicroError} `codec` */
export function encodeJsonText(message: unknown, type: MessageType | undefined): string {
  if (message === undefined && type?.required !== true) return "{}";
  let text: string | undefined;
  try {
    const value = type?.json === undefined ? message : type.json.encode(message);
    text = stringifyValue(value);
  } catch (cause) {
    // One that has members of its own, as those of child processes, may fail by them.
    throw encodeError("json", type, isPromise(message) ? noForm(message, "") : cause);
  }
  // Types made by others may take what they are given for an empty message.
  if (text === "{}" && isPromise(message)) throw encodeError("json", type, noForm(message, ""));
  if (text === undefined) throw encodeError("json", type, `a ${typeof message} has no JSON form`);
  return text;
}

/** The message of a JSON text. @throws {MicroError} `codec` */
export function decodeJsonText(
  text: string,
  type: MessageType | undefined,
  maxParts = maxJsonParts,
  maxGrowth?: number,
): unknown {
  checkStructure(id, text, maxParts);
  // Protobuf types read 64-bit integers from text as well, and Go up to v5.13 writes them as numbers: keep all digits.
  const value =
    type?.json !== undefined && maybeLongIntegers(text)
      ? parseKeepingIntegers(text, type.json.integers === "bigint")
      : parseJsonText(id, text);
  // "proto" is part of both refused keys; a key written with escapes has a \u in it.
  if (text.length >= shortestHostile && (text.includes("proto") || text.includes("\\u"))) refuseHostileKeys(value);
  if (type?.json?.uniqueMembers === true) refuseRepeatedMembers(id, text, value);
  // What so few letters make needs no look.
  const limits = text.length < fewLetters ? undefined : { maxMemoryBytes: memoryFor(text.length, maxGrowth) };
  return fromJson(value, type, limits);
}

function fromJson(value: unknown, type: MessageType | undefined, limits?: DecodeLimits): unknown {
  if (type?.json === undefined) return value;
  try {
    return type.json.decode(value, limits);
  } catch (cause) {
    throw decodeError("json", type, cause);
  }
}

/** @internal The error of a message that cannot be written. */
export function encodeError(codec: string, type: MessageType | undefined, cause: unknown): MicroError {
  return codecError(codec, `cannot encode ${type?.name || "the message"}`, cause);
}

/** @internal The error of a message that cannot be read. */
export function decodeError(codec: string, type: MessageType | undefined, cause: unknown): MicroError {
  return codecError(codec, `cannot decode ${type?.name || "the message"}`, cause);
}

function codecError(codec: string, text: string, cause: unknown): MicroError {
  if (MicroError.is(cause)) return cause;
  const reason = cause instanceof Error ? cause.message.split("\n", 1)[0]! : String(cause);
  const short = reason.length > 200 ? `${reason.slice(0, 200).toWellFormed()}…` : reason;
  return new MicroError(`${text}: ${short}`, {
    id: `codec.${codec}`,
    code: "codec",
    cause: cause instanceof Error ? cause : undefined,
  });
}

function stringifyValue(value: unknown): string | undefined {
  let text: string | undefined;
  try {
    text = JSON.stringify(value) as string | undefined;
  } catch (cause) {
    if (!(cause instanceof TypeError) || !cause.message.includes("BigInt")) throw cause;
    return JSON.stringify(value, special);
  }
  // A look at what came out is cheaper than a replacer on every value.
  return text !== undefined && maybeSpecial(text) ? JSON.stringify(value, special) : text;
}

/** Views and buffers appear as `{"0":…` and `{"type":"Buffer"…`; maps, promises and the like as `{}`. */
function maybeSpecial(text: string): boolean {
  // Most messages are one object with nothing inside: a look at its beginning is enough.
  if (text.indexOf("{", 1) === -1) {
    if (text.charCodeAt(0) !== 0x7b) return false;
    const first = text.charCodeAt(2);
    if (text.length > 2 && first !== 0x30 && first !== 0x74) return false;
  }
  return text.includes('{"0":') || text.includes("{}") || text.includes('{"type":"Buffer"');
}

/** Replacer for values that `JSON.stringify` refuses or mangles. */
function special(this: Record<string, unknown>, key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  const original = this[key]; // Before a `toJSON`, which a Buffer has.
  if (typeof original !== "object" || original === null) return value;
  if (original instanceof Uint8Array)
    return Buffer.from(original.buffer, original.byteOffset, original.byteLength).toString("base64");
  if (ArrayBuffer.isView(original) && !(original instanceof DataView))
    return Array.from(original as unknown as ArrayLike<unknown>);
  if (value === original && isLost(original)) throw noForm(original, key);
  return value;
}

/**
 * Like `JSON.parse`, with integers that a number cannot hold exactly as decimal strings, or as bigints. A reviver would do
 * it, too, at a microsecond for every value there is.
 */
function parseKeepingIntegers(text: string, asBigInt: boolean): unknown {
  const value = parseJsonText(id, text);
  if (asBigInt && integerMark === "") integerMark = builtin.crypto().randomBytes(16).toString("hex");
  const quoted = asBigInt
    ? quoteLongIntegers(text, integerMark, maxBigIntLength, true)
    : quoteLongIntegers(text, "", Infinity, false);
  if (quoted === text) return value;
  const exact = parseJsonText(id, quoted);
  return asBigInt ? withBigInts(exact) : exact;
}

/** What no peer can know: a text that begins with it was an integer. */
let integerMark = "";
/** No field of any type holds more digits; a bigint of very many takes long to make. */
const maxBigIntLength = 21;

function withBigInts(value: unknown): unknown {
  const root = [value];
  const pending: (Record<string, unknown> | unknown[])[] = [root];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const holder = next as Record<string, unknown>;
    for (const key of Object.keys(next)) {
      const member = holder[key];
      if (typeof member === "string") {
        if (member.startsWith(integerMark)) setOwn(holder, key, BigInt(member.slice(integerMark.length)));
      } else if (typeof member === "object" && member !== null) pending.push(member as Record<string, unknown>);
    }
  }
  return root[0];
}

/** The key may be `__proto__`, which is refused only afterwards. */
function setOwn(holder: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(holder, key, { value, writable: true, enumerable: true, configurable: true });
}

function hostileKey(key: string): MicroError {
  return new MicroError(`invalid JSON: the key ${JSON.stringify(key)} is not allowed`, { id, code: "codec" });
}

/** Refuse keys by which a careless merge would reach a prototype. */
function refuseHostileKeys(value: unknown): void {
  const pending: unknown[] = [value];
  while (pending.length > 0) {
    const next = pending.pop();
    if (typeof next !== "object" || next === null) continue;
    if (Array.isArray(next)) {
      for (const element of next) if (typeof element === "object") pending.push(element);
      continue;
    }
    for (const key of Object.keys(next)) {
      if (key === "__proto__") throw hostileKey(key);
      const member = (next as Record<string, unknown>)[key];
      if (typeof member !== "object" || member === null) continue;
      if (key === "constructor" && Object.hasOwn(member, "prototype")) throw hostileKey("constructor.prototype");
      pending.push(member);
    }
  }
}
