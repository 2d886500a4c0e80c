/**
 * JSON texts below the level of `JSON.parse`: where one is wrong, how deep it nests, and which bytes a member takes.
 *
 * Nothing here recurses, so that no input can exhaust the stack.
 */
// JSON strings exclude control characters, so the expressions below name them.
/* oxlint-disable no-control-regex */
import { isUtf8 } from "node:buffer";
import { MicroError } from "../errors.ts";
import { integerOf } from "../proto/decimal.ts";

/** The deepest nesting accepted, as in Go's decoder (`encoding/json/scanner.go`). */
export const maxJsonDepth = 10_000;

/**
 * Arrays, objects and members of objects in one text. Making them takes a parser up to two microseconds each, during
 * which nothing else of the process runs; numbers and texts are bounded well enough by the bytes they take.
 */
export const maxJsonParts = 250_000;

/** Looking for a fault goes token by token, ten times as slow as parsing: not to the end of a long text. */
const maxTokens = 100_000;

const token =
  /[\t\n\r ]*(?:("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)|([[\]{}:,]))/y;

/** The error of a text that `JSON.parse` refused: its offset in bytes and what stands there. */
export function jsonSyntaxError(id: string, text: string, cause: unknown): MicroError {
  const index = errorIndex(text);
  if (index === undefined) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new MicroError(`invalid JSON: ${reason.slice(0, 200).toWellFormed()}`, { id, code: "codec", cause });
  }
  const offset = Buffer.byteLength(text.slice(0, index));
  const found = index >= text.length ? "unexpected end" : `unexpected ${JSON.stringify(character(text, index))}`;
  return new MicroError(`invalid JSON: ${found} at offset ${offset}${near(text, index)}`, {
    id,
    code: "codec",
    cause,
  });
}

function character(text: string, index: number): string {
  return String.fromCodePoint(text.codePointAt(index) ?? 0);
}

/** A short piece of the text up to and around `index`, for messages. */
function near(text: string, index: number): string {
  const start = Math.max(0, index - 20);
  const end = Math.min(text.length, index + 12);
  if (start === end) return "";
  const excerpt = text.slice(start, end).toWellFormed();
  return `, near ${JSON.stringify(`${start > 0 ? "…" : ""}${excerpt}${end < text.length ? "…" : ""}`)}`;
}

type Expected = "value" | "value or ]" | "key" | "key or }" | ":" | "," | "end";

/**
 * Index of the first character that cannot belong to one JSON value; the text's length if it only ends too early.
 * Undefined if it is behind the first {@link maxTokens} tokens.
 */
function errorIndex(text: string): number | undefined {
  const open: string[] = [];
  let expected: Expected = "value";
  let index = 0;
  for (let tokens = 0; tokens < maxTokens; tokens++) {
    token.lastIndex = index;
    const match = token.exec(text);
    const start =
      match === null ? skipBlanks(text, index) : token.lastIndex - (match[1] ?? match[2] ?? match[3]!).length;
    if (match === null) return start < text.length ? insideToken(text, start) : start;
    const mark = match[3];
    const isValue = expected === "value" || expected === "value or ]";
    if (mark === undefined) {
      if (match[1] !== undefined && (expected === "key" || expected === "key or }")) expected = ":";
      else if (isValue) expected = open.length === 0 ? "end" : ",";
      else return start;
    } else if ((mark === "[" || mark === "{") && isValue) {
      open.push(mark);
      expected = mark === "[" ? "value or ]" : "key or }";
    } else if (mark === ":" && expected === ":") expected = "value";
    else if (mark === "," && expected === ",") expected = open.at(-1) === "[" ? "value" : "key";
    else if (
      (mark === "]" && open.at(-1) === "[" && (expected === "," || expected === "value or ]")) ||
      (mark === "}" && open.at(-1) === "{" && (expected === "," || expected === "key or }"))
    ) {
      open.pop();
      expected = open.length === 0 ? "end" : ",";
    } else return start;
    index = token.lastIndex;
  }
  return undefined;
}

/** A string that ends too early is wrong at the end of the text, one with a bad character in it at that character. */
function insideToken(text: string, start: number): number {
  if (text[start] !== '"') return start;
  const valid = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*/y;
  valid.lastIndex = start;
  valid.exec(text);
  return valid.lastIndex;
}

function skipBlanks(text: string, index: number): number {
  while (index < text.length && " \t\n\r".includes(text[index]!)) index++;
  return index;
}

/** The text of a body. @throws {MicroError} `codec` if it is not UTF-8. */
export function utf8Text(id: string, body: Uint8Array): string {
  const buffer = Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const text = buffer.toString();
  // Only where a replacement character appears can a byte have been wrong.
  if (text.includes("\ufffd") && !isUtf8(buffer)) throw new MicroError("the body is not UTF-8", { id, code: "codec" });
  return text;
}

/**
 * Look at the structure of a text before it is parsed, since a parser cannot be interrupted.
 * @throws {MicroError} `codec` if brackets nest deeper than {@link maxJsonDepth}, or there are more than `maxParts` arrays,
 * objects and members.
 */
export function checkStructure(id: string, text: string, maxParts: number): void {
  // Every level takes two characters, and so does every part: the usual body is too short to need a look.
  if (text.length <= 2 * Math.min(maxJsonDepth, maxParts)) return;
  let depth = 0;
  let parts = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === 0x22) {
      index = stringEnd(text, index);
      if (index < 0) return; // JSON.parse says what is wrong.
      continue;
    }
    if (code === 0x5b || code === 0x7b) {
      if (++depth > maxJsonDepth)
        throw new MicroError(`invalid JSON: nested deeper than ${maxJsonDepth} levels`, { id, code: "codec" });
      parts++;
    } else if (code === 0x3a) parts++;
    else if (code === 0x5d || code === 0x7d) depth--;
    if (parts > maxParts)
      throw new MicroError(
        `the JSON has more than ${maxParts} arrays, objects and members (jsonCodecWith({ maxParts }) takes more)`,
        { id, code: "codec" },
      );
  }
}

const numbers = /"|-?\d+(\.\d+)?([eE][+-]?\d+)?/g;

/** True if a text may have an integer that a number does not hold exactly. */
export function maybeLongIntegers(text: string): boolean {
  return /\d{16}|(?:^|[[:,\s])-?\d+(?:\.\d+)?[eE]\+?\d/.test(text);
}

/**
 * The text with the integers that a number cannot hold exactly as texts, which begin with `mark`; for valid JSON only.
 * @param most digits that an integer may have to be told so. @param every also those with a point or an exponent, as `1.5e18`
 */
export function quoteLongIntegers(text: string, mark: string, most: number, every: boolean): string {
  let quoted = "";
  let copied = 0;
  numbers.lastIndex = 0;
  for (let match = numbers.exec(text); match !== null; match = numbers.exec(text)) {
    const [found, fraction, power] = match;
    if (found === '"') {
      const end = stringEnd(text, match.index);
      if (end < 0) break;
      numbers.lastIndex = end + 1;
      continue;
    }
    if (found.length < 16 && power === undefined) continue;
    const value = Number(found);
    if (Number.isSafeInteger(value)) continue;
    let digits: string | undefined = found;
    if (fraction === undefined && power === undefined) {
      if (found.length > most) continue;
    } else {
      if (!every || Math.abs(value) > mostInteger) continue;
      // None, if there is something behind the point that the number has lost.
      digits = integerOf(found)?.toString();
      if (digits === undefined) continue;
    }
    quoted += `${text.slice(copied, match.index)}"${mark}${digits}"`;
    copied = match.index + found.length;
  }
  return copied === 0 ? text : quoted + text.slice(copied);
}

/** No integer of 64 bits is beyond it. */
const mostInteger = 2 ** 64;

/** Index of the quote that closes the string opened at `start`, or -1. */
function stringEnd(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === 0x5c) backslashes++;
    if (backslashes % 2 === 0) return end;
  }
  return -1;
}

/**
 * Of a member that an object has twice, `JSON.parse` takes the last, others the first: refused where that matters.
 * @param value what the text was parsed into
 * @throws {MicroError} `codec` naming the member
 */
export function refuseRepeatedMembers(id: string, text: string, value: unknown): void {
  let written = 0;
  for (let index = text.indexOf('"'); index >= 0; index = text.indexOf('"', index)) {
    index = skipBlanks(text, stringEnd(text, index) + 1);
    if (text.charCodeAt(index) === 0x3a) written++;
  }
  if (written === membersIn(value)) return;
  throw new MicroError(`invalid JSON: the member ${JSON.stringify(repeatedMember(text))} is given twice`, {
    id,
    code: "codec",
  });
}

/** Members of all objects inside a value. */
function membersIn(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  let count = 0;
  const pending: object[] = [value];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const isArray = Array.isArray(next);
    for (const key in next) {
      if (!isArray) count++;
      const member = (next as Record<string, unknown>)[key];
      if (typeof member === "object" && member !== null) pending.push(member);
    }
  }
  return count;
}

/** The first member of a valid text that its object has already. */
function repeatedMember(text: string): string {
  const open: Set<string>[] = [];
  for (let index = 0; index < text.length; index++) {
    const mark = text[index];
    if (mark === "{" || mark === "[") open.push(new Set());
    else if (mark === "}" || mark === "]") open.pop();
    else if (mark === '"') {
      const end = stringEnd(text, index);
      const next = skipBlanks(text, end + 1);
      if (text[next] === ":") {
        const key = JSON.parse(text.slice(index, end + 1)) as string;
        if (open.at(-1)!.has(key)) return key;
        open.at(-1)!.add(key);
      }
      index = end;
    }
  }
  return "";
}

/**
 * The members of a JSON object, or the elements of an array, as the bytes they take: values stay unparsed, so that
 * numbers keep all digits. Checks the punctuation between them; what is inside a value is left to its reader. At most
 * `most` are given.
 * @throws {MicroError} `codec`
 */
export function jsonMembers(
  id: string,
  bytes: Uint8Array,
  most = maxEnvelopeMembers,
): { key: string; value: Uint8Array }[] {
  const fail = (index: number): MicroError =>
    new MicroError(
      index >= bytes.length
        ? `invalid JSON: unexpected end at offset ${bytes.length}`
        : `invalid JSON: unexpected byte 0x${bytes[index]!.toString(16).padStart(2, "0")} at offset ${index}`,
      { id, code: "codec" },
    );
  const members: { key: string; value: Uint8Array }[] = [];
  let index = afterBlanks(bytes, 0);
  const isObject = bytes[index] === 0x7b;
  if (!isObject && bytes[index] !== 0x5b) throw fail(index);
  const close = isObject ? 0x7d : 0x5d;
  index = afterBlanks(bytes, index + 1);
  while (bytes[index] !== close) {
    if (members.length > 0) {
      if (bytes[index] !== 0x2c) throw fail(index);
      index = afterBlanks(bytes, index + 1);
    }
    let key = "";
    if (isObject) {
      if (bytes[index] !== 0x22) throw fail(index);
      const end = valueEnd(bytes, index);
      key = parseJsonText(id, utf8Text(id, bytes.subarray(index, end))) as string;
      index = afterBlanks(bytes, end);
      if (bytes[index] !== 0x3a) throw fail(index);
      index = afterBlanks(bytes, index + 1);
    }
    const end = valueEnd(bytes, index);
    if (end === index) throw fail(index);
    if (members.length === most && isObject)
      throw new MicroError(`the JSON object has more than ${most} members`, { id, code: "codec" });
    if (members.length < most) members.push({ key, value: bytes.subarray(index, end) });
    index = afterBlanks(bytes, end);
  }
  index = afterBlanks(bytes, index + 1);
  if (index < bytes.length) throw fail(index);
  return members;
}

/** An envelope has three; a stranger does not decide how many are kept. */
const maxEnvelopeMembers = 64;

/** `JSON.parse` with our error. */
export function parseJsonText(id: string, text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw jsonSyntaxError(id, text, cause);
  }
}

function afterBlanks(bytes: Uint8Array, index: number): number {
  for (; index < bytes.length; index++) {
    const byte = bytes[index];
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) break;
  }
  return index;
}

/** Index after the value that starts at `start`: a string, a bracketed value, or anything up to punctuation. */
function valueEnd(bytes: Uint8Array, start: number): number {
  let depth = 0;
  let index = start;
  for (; index < bytes.length; index++) {
    const byte = bytes[index];
    if (byte === 0x22) {
      for (index++; index < bytes.length && bytes[index] !== 0x22; index++) if (bytes[index] === 0x5c) index++;
      if (depth === 0) return Math.min(index + 1, bytes.length);
    } else if (byte === 0x5b || byte === 0x7b) depth++;
    else if (byte === 0x5d || byte === 0x7d) {
      if (depth === 0) return index;
      if (--depth === 0) return index + 1;
    } else if (depth === 0 && (byte === 0x2c || byte === 0x3a || (byte! <= 0x20 && index > start))) return index;
  }
  return index;
}
