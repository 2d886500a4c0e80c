/**
 * What the language has, also of another realm: values of `vm.runInNewContext`, or of a test runner that gives each file a
 * world of its own, are no instances of our classes.
 */
import { types } from "node:util";

export function isBytes(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array || types.isUint8Array(value);
}

export function isMap(value: unknown): value is Map<unknown, unknown> {
  return value instanceof Map || types.isMap(value);
}
