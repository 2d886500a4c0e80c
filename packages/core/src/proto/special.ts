/** JSON of well-known types, by their full names. */
import type { SpecialJson } from "./proto-type.ts";
import { durationJson, fieldMaskJson, timestampJson } from "./special-text.ts";
import { listJson, structJson, valueJson } from "./special-struct.ts";
import { wrapperJson } from "./special-wrappers.ts";

const byName = new Map<string, SpecialJson<any>>([
  ["Timestamp", timestampJson],
  ["Duration", durationJson],
  ["FieldMask", fieldMaskJson],
  ["Struct", structJson],
  ["Value", valueJson],
  ["ListValue", listJson],
  ["DoubleValue", wrapperJson("double")],
  ["FloatValue", wrapperJson("float")],
  ["Int64Value", wrapperJson("int64")],
  ["UInt64Value", wrapperJson("uint64")],
  ["Int32Value", wrapperJson("int32")],
  ["UInt32Value", wrapperJson("uint32")],
  ["BoolValue", wrapperJson("bool")],
  ["StringValue", wrapperJson("string")],
  ["BytesValue", wrapperJson("bytes")],
]);

const prefix = "google.protobuf.";

/** The special JSON of a message, if it is a well-known one. */
export function specialOf(name: string): SpecialJson<any> | undefined {
  return name.startsWith(prefix) ? byName.get(name.slice(prefix.length)) : undefined;
}

/** Say what the JSON of a further one is: that of `Any` needs all the others. */
export function addSpecial(name: string, json: SpecialJson<any>): void {
  byName.set(name, json);
}
