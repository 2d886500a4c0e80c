/** Wrappers: a scalar that may be absent. */
import { scalarFromJson, scalarToJson } from "./json-scalars.ts";
import { isMessage } from "./plain.ts";
import type { SpecialJson } from "./proto-type.ts";
import { zeroOf, type ScalarName } from "./scalars.ts";

export function wrapperJson(scalar: ScalarName): SpecialJson<{ value: unknown }> {
  return {
    read: (value) => ({ value: wrappedFromJson(scalar, value) }),
    write: ({ value }) => scalarToJson(scalar, value ?? zeroOf(scalar, undefined)),
  };
}

/** The value inside a wrapper. Up to v5.13 Go writes the message as it is. */
export function wrappedFromJson(scalar: ScalarName, value: unknown): unknown {
  if (isMessage(value)) {
    const keys = Object.keys(value);
    if (keys.length === 0) return zeroOf(scalar, undefined);
    if (keys.length === 1 && keys[0] === "value")
      return scalarFromJson(scalar, (value as { value: unknown }).value, undefined);
  }
  return scalarFromJson(scalar, value, undefined);
}
