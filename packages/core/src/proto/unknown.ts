/** Fields that a message had on the wire and that its type here does not know: kept, and written again. */
import { take, unknownBytes } from "./memory.ts";

const unknown: unique symbol = Symbol.for("@micro/core/proto.unknown");

interface Keeping {
  [unknown]?: Uint8Array;
}

/**
 * The fields of a message that its type does not know, as they came; undefined without any. A copy by `{ ...message }`
 * keeps them, one by JSON does not.
 */
export function unknownFields(message: object): Uint8Array | undefined {
  return (message as Keeping)[unknown];
}

/** Replace the fields of a message that its type does not know; undefined forgets them. */
export function setUnknownFields(message: object, bytes: Uint8Array | undefined): void {
  if (bytes === undefined || bytes.length === 0) delete (message as Keeping)[unknown];
  // A `Buffer` that somebody passes becomes what reading leaves.
  else (message as Keeping)[unknown] = Buffer.isBuffer(bytes) ? new Uint8Array(bytes) : bytes;
}

/** @internal Add one field, copied: what is read from may be used again. */
export function keepUnknown(message: object, field: Uint8Array): void {
  const before = (message as Keeping)[unknown];
  if (before === undefined) {
    take(unknownBytes);
    // A Buffer's own slice would be a view.
    (message as Keeping)[unknown] = new Uint8Array(field);
    return;
  }
  // Doubling, so that a million unknown fields take no quadratic time.
  const needed = before.length + field.length;
  const spare = before.buffer.byteLength - before.byteOffset;
  let bytes = before;
  if (spare < needed) {
    bytes = new Uint8Array(new ArrayBuffer(needed * 2), 0, needed);
    bytes.set(before);
  } else bytes = new Uint8Array(before.buffer, before.byteOffset, needed);
  bytes.set(field, before.length);
  (message as Keeping)[unknown] = bytes;
}
