/** Messages of protobuf: what generated code imports as `$`, and what users of it may need. */
export * from "./runtime.ts";
export * from "./boxes.ts";
export { getExtension, hasExtension, setExtension } from "./extension.ts";
export type { Boxed } from "./boxed.ts";
export { ProtoJsonError } from "./json.ts";
export type { JsonReadOptions, JsonWriteOptions, ProtoTypes } from "./json.ts";
export type { Field, EnumValues } from "./table.ts";
export { setUnknownFields, unknownFields } from "./unknown.ts";
export { protoTypes } from "./well-known-types.ts";
export { anyIs, packAny, unpackAny } from "./any.ts";
export { dateOf, timestampOf } from "./time.ts";
export { Any } from "./gen/any.ts";
export { Duration } from "./gen/duration.ts";
export { Empty } from "./gen/empty.ts";
export { FieldMask } from "./gen/field_mask.ts";
export { ListValue, NullValue, Struct, Value } from "./gen/struct.ts";
export { Timestamp } from "./gen/timestamp.ts";
export {
  BoolValue,
  BytesValue,
  DoubleValue,
  FloatValue,
  Int32Value,
  Int64Value,
  StringValue,
  UInt32Value,
  UInt64Value,
} from "./gen/wrappers.ts";
