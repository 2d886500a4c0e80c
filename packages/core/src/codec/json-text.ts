/**
 * JSON texts below the level of `JSON.parse`: where one is wrong, how deep it nests, and which bytes a member takes.
 *
 * Nothing here recurses, so that no input can exhaust the stack.
 */
// JSON strings exclude control characters, so the expressions below name them.
/* oxlint-disable no-control-regex */
import { isUtf8 } from "node:buffer";
import { MicroError } from "../errors.ts";

/** The deepest nesting accepted, as in Go's decoder (`encoding/json/scanner.go`). */
export const maxJsonDepth = 10_000;

const token =
  /[\t\n\r ]*(?:("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)|([[\]{}:,]))/y;

/** The error of a text that `JSON.parse` refused: its offset in bytes and what stands there. */
export function jsonSyntaxError(id: string, text: string, cause: unknown): MicroError {
  const index = errorIndex(text);
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

/** Index of the first character that cannot belong to one JSON value; the text's length if it only ends too early. */
function errorIndex(text: string): number {
  const open: string[] = [];
  let expected: Expected = "value";
  let index = 0;
  for (;;) {
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

/** @throws {MicroError} `codec` if brackets nest deeper than {@link maxJsonDepth}. */
export function checkDepth(id: string, text: string): void {
  // Every level takes two characters: the usual body is too short to need a look.
  if (text.length <= 2 * maxJsonDepth) return;
  let depth = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === 0x22) {
      index = stringEnd(text, index);
      if (index < 0) return; // JSON.parse says what is wrong.
    } else if (code === 0x5b || code === 0x7b) {
      if (++depth > maxJsonDepth)
        throw new MicroError(`invalid JSON: nested deeper than ${maxJsonDepth} levels`, { id, code: "codec" });
    } else if (code === 0x5d || code === 0x7d) depth--;
  }
}

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
 * The members of a JSON object, or the elements of an array, as the bytes they take: values stay unparsed, so that
 * numbers keep all digits. Checks the punctuation between them; what is inside a value is left to its reader.
 * @throws {MicroError} `codec`
 */
export function jsonMembers(id: string, bytes: Uint8Array): { key: string; value: Uint8Array }[] {
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
    members.push({ key, value: bytes.subarray(index, end) });
    index = afterBlanks(bytes, end);
  }
  index = afterBlanks(bytes, index + 1);
  if (index < bytes.length) throw fail(index);
  return members;
}

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
