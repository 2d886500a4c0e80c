/** Scalars of protobuf: their names, ranges and zero values. */
import { wrong } from "./wrong.ts";

/** Types that stand for themselves in a row of a message's table. */
export type ScalarName =
  | "double"
  | "float"
  | "int32"
  | "int64"
  | "uint32"
  | "uint64"
  | "sint32"
  | "sint64"
  | "fixed32"
  | "fixed64"
  | "sfixed32"
  | "sfixed64"
  | "bool"
  | "string"
  | "bytes";

/** How 64-bit integers appear in code. */
export type Int64Form = "bigint" | "number" | "string";

/** The largest float. */
export const mostFloat = 3.4028234663852886e38;

const unsigned = new Set<string>(["uint32", "uint64", "fixed32", "fixed64"]);
export const isUnsigned = (scalar: string): boolean => unsigned.has(scalar);
export const is64Bit = (scalar: string): boolean => scalar.endsWith("64");

/** A 64-bit integer from what user code may have for one. @throws {TypeError} if it is none, or does not fit */
export function int64Of(value: bigint | number | string, signed: boolean): bigint {
  let number: bigint;
  if (typeof value === "bigint") number = value;
  else if (typeof value === "number") {
    if (!Number.isSafeInteger(value)) throw new TypeError(`${value} is not an integer that a number holds exactly`);
    number = BigInt(value);
  } else {
    if (typeof value !== "string" || !/^-?\d{1,20}$/.test(value)) throw wrong(value, "an integer");
    number = BigInt(value);
  }
  if (number !== (signed ? BigInt.asIntN(64, number) : BigInt.asUintN(64, number)))
    throw new TypeError(`${number} does not fit into 64 bits${signed ? "" : " without a sign"}`);
  return number;
}

/**
 * A 64-bit integer as the number it is in code generated with `--int64 number`.
 * @throws {Error} if a number does not hold it exactly
 */
export function int64Number(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new Error(`${value} is more than a number holds exactly`);
  return number;
}

/** Put a 64-bit integer into the form of the code. */
export function int64As(value: bigint, form: Int64Form | undefined): bigint | number | string {
  return form === "number" ? int64Number(value) : form === "string" ? value.toString() : value;
}

/** The value of a field that is not there. */
export function zeroOf(scalar: ScalarName | "enum", form: Int64Form | undefined): unknown {
  if (scalar === "string") return "";
  if (scalar === "bool") return false;
  if (scalar === "bytes") return new Uint8Array(0);
  return is64Bit(scalar) ? int64As(0n, form) : 0;
}
