/** Scalars in proto3 JSON: range, form, nothing guessed. */
import { integerOf } from "./decimal.ts";
import type { JsonValue } from "./json.ts";
import { isBytes } from "./realms.ts";
import { int64As, int64Of, isUnsigned, type Int64Form, type ScalarName } from "./scalars.ts";
import { shown, wrong } from "./wrong.ts";

const number = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** @throws {TypeError} if the value is not JSON of this type */
export function scalarFromJson(type: ScalarName, value: unknown, form: Int64Form | undefined): unknown {
  switch (type) {
    case "string":
      return textOf(value);
    case "bool":
      if (typeof value !== "boolean") throw wrong(value, "true or false");
      return value;
    case "bytes":
      return bytesFromJson(value);
    case "double":
    case "float":
      return realFromJson(type, value);
    case "int64":
    case "sint64":
    case "sfixed64":
    case "uint64":
    case "fixed64": {
      const found = int64FromJson(type, value);
      return form === undefined ? found : int64As(found, form);
    }
    default:
      return int32FromJson(type, value);
  }
}

/** A text as it is in JSON, and in code. */
export function textOf(value: unknown): string {
  if (typeof value !== "string") throw wrong(value, "a string");
  if (!value.isWellFormed()) throw new TypeError("the text holds half of a surrogate pair");
  return value;
}

function int32FromJson(type: ScalarName, value: unknown): number {
  // Nearly always.
  if (typeof value === "number" && value === (value | 0) && (value >= 0 || !isUnsigned(type))) return value | 0;
  const found = typeof value === "string" ? integerOf(value) : value;
  if (typeof found !== "bigint" && !Number.isInteger(found)) throw wrong(value, `an integer (${type})`);
  const whole = Number(found);
  const fits = isUnsigned(type) ? whole === whole >>> 0 : whole === (whole | 0);
  if (!fits) throw outOfRange(value, type);
  return whole === 0 ? 0 : whole;
}

function int64FromJson(type: ScalarName, value: unknown): bigint {
  const isRounded = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
  const found =
    typeof value === "string"
      ? integerOf(value)
      : typeof value === "number"
        ? Number.isInteger(value)
          ? BigInt(value)
          : undefined
        : value;
  if (typeof found !== "bigint") throw wrong(value, `an integer (${type})`);
  if (found !== (isUnsigned(type) ? BigInt.asUintN(64, found) : BigInt.asIntN(64, found)))
    throw outOfRange(value, type);
  // Whatever it was in the text, `JSON.parse` gave the nearest number there is. The JSON codec gives a bigint.
  if (isRounded) throw new TypeError(`${value} is more than a number holds exactly: JSON has such integers as texts`);
  return found;
}

function outOfRange(value: unknown, type: ScalarName): TypeError {
  return new TypeError(`${typeof value === "bigint" ? value : shown(value)} is out of the range of ${type}`);
}

function realFromJson(type: "double" | "float", value: unknown): number {
  let found = value;
  if (typeof value === "string") {
    if (value === "NaN") return NaN;
    if (value === "Infinity") return Infinity;
    if (value === "-Infinity") return -Infinity;
    if (number.test(value)) found = Number(value);
  }
  // An integer of more digits than a number holds, from the JSON codec.
  if (typeof value === "bigint") found = Number(value);
  if (typeof found !== "number") throw wrong(value, `a number (${type})`);
  const rounded = type === "float" ? Math.fround(found) : found;
  if (!Number.isFinite(rounded)) throw new TypeError(`${shown(value)} is out of the range of ${type}`);
  return rounded;
}

function bytesFromJson(value: unknown): Uint8Array {
  if (typeof value !== "string") throw wrong(value, "bytes in base64");
  const { length } = value;
  const padding = value.endsWith("==") ? 2 : value.endsWith("=") ? 1 : 0;
  const digits = length - padding;
  const bytes = Buffer.from(value, "base64");
  // Node passes over what is no digit, or ends there: fewer bytes come out than so many digits make.
  const isWhole = bytes.length === Math.floor((digits * 3) / 4);
  if (!isWhole || digits % 4 === 1 || (padding > 0 && length % 4 !== 0)) throw wrong(value, "bytes in base64");
  // Small ones share memory with others, which whoever looks at `buffer` would see.
  const isOwn = bytes.length === bytes.buffer.byteLength;
  return isOwn ? new Uint8Array(bytes.buffer) : new Uint8Array(bytes);
}

/** @throws {TypeError} if the value is none of this type */
export function scalarToJson(type: ScalarName, value: unknown): JsonValue {
  switch (type) {
    case "string":
      return textOf(value);
    case "bool":
      if (typeof value !== "boolean") throw wrong(value, "a boolean");
      return value;
    case "bytes":
      if (!isBytes(value)) throw wrong(value, "a Uint8Array");
      return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64");
    case "double":
    case "float":
      if (typeof value !== "number") throw wrong(value, "a number");
      if (!Number.isFinite(value)) return String(value);
      return type === "float" ? shortFloat(value) : value;
    case "int64":
    case "sint64":
    case "sfixed64":
      return int64Of(value as bigint, true).toString();
    case "uint64":
    case "fixed64":
      return int64Of(value as bigint, false).toString();
    case "uint32":
    case "fixed32":
      if (typeof value !== "number" || value !== value >>> 0) throw wrong(value, `a ${type}`);
      return value;
    default:
      if (typeof value !== "number" || value !== (value | 0)) throw wrong(value, `an ${type}`);
      return value | 0;
  }
}

/** The shortest number that is this float, as Go writes it: 0.1, not 0.10000000149011612. */
function shortFloat(value: number): number {
  if (Number.isInteger(value) && Math.abs(value) < 16_777_216) return value;
  const float = Math.fround(value);
  if (!Number.isFinite(float)) throw wrong(value, "a float");
  const rounded = Math.round(float * 1000) / 1000;
  if (Math.abs(rounded) < 10_000 && Math.fround(rounded) === float) return rounded;
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(float.toPrecision(digits));
    if (Math.fround(short) === float) return short;
  }
  return float;
}

const integer = /^-?(?:0|[1-9]\d*)$/;

/** A map's key from its text in JSON. @throws {TypeError} if it is none of the type */
export function keyFromJson(type: ScalarName, key: string, form: Int64Form | undefined): unknown {
  if (type === "bool") {
    if (key !== "true" && key !== "false") throw wrong(key, "true or false");
    return key === "true";
  }
  // As in Go, with one form only: `1` and `1.0` would be one key.
  if (type !== "string" && !integer.test(key)) throw wrong(key, `an integer (${type})`);
  return scalarFromJson(type, key, form);
}
