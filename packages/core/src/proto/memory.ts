/**
 * What reading one message may take of memory. Two bytes on the wire can be an empty message of a type with very many
 * fields, which takes a thousand: what is made is counted by estimates on the high side, and refused where it is out of all
 * proportion to what was sent.
 */
import type { FieldRow } from "./table.ts";

/** What any message may take, however short it is. */
export const leastMemory = 1 << 20;
/** Bytes of memory for each byte that was sent. */
export const defaultGrowth = 32;

/** What reading `size` bytes may take. */
export const memoryFor = (size: number, growth = defaultGrowth): number => leastMemory + size * growth;

/** What is left to what is being read: reading is never interrupted. */
const left = Float64Array.of(Infinity);

/** Begin to count. @returns what {@link uncounted} wants */
export function counted(bytes: number): number {
  const before = left[0]!;
  left[0] = bytes;
  return before;
}

/** Go on as before: also where reading has failed. */
export function uncounted(before: number): void {
  left[0] = before;
}

/** @throws {Error} if what is read has taken all it may */
export function take(bytes: number): void {
  if ((left[0] = left[0]! - bytes) < 0) throw tooMuch();
}

function tooMuch(): Error {
  return new Error(
    "the message takes far more memory than bytes: it has very many small parts (protoCodecWith({ maxGrowth }) and jsonCodecWith({ maxGrowth }) take more)",
  );
}

/** An object, and each member of one. */
const objectBytes = 24;
const memberBytes = 8;
const listBytes = 40;
const objectMapBytes = 64;
const mapBytes = 192;
/** An entry of a map, without its value. */
export const entryBytes = 64;
/** The first unknown field of a message. */
export const unknownBytes = 300;

/** What a message takes before anything is in it, with its place among others. */
export function memoryOf(rows: readonly FieldRow[]): number {
  let bytes = objectBytes + memberBytes;
  for (const { list, map } of rows) {
    bytes += memberBytes;
    if (list === true) bytes += listBytes;
    // As generated code has it: text and 32-bit integers are keys of objects.
    else if (map !== undefined) bytes += map === "bool" || map.endsWith("64") ? mapBytes : objectMapBytes;
  }
  return bytes;
}
