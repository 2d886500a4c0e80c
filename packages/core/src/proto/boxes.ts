/** The boxes of well-known types, by the names generated code uses. */
import type { Boxed } from "./boxed.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import { scalarToJson } from "./json-scalars.ts";
import type { ProtoType } from "./proto-type.ts";
import { int64As, is64Bit, type Int64Form, type ScalarName } from "./scalars.ts";
import {
  addElements,
  addFields,
  checkedJson,
  mergeValue,
  packList,
  packStruct,
  packValue,
  unpackList,
  unpackStruct,
  unpackValue,
} from "./special-struct.ts";
import { wrappedFromJson } from "./special-wrappers.ts";
import { ListValue, Struct, Value } from "./gen/struct.ts";
import * as wrappers from "./gen/wrappers.ts";

function wrapper<T>(type: ProtoType<any>, scalar: ScalarName, form?: Int64Form): Boxed<T, { value: any }> {
  const from = (value: unknown): T =>
    (is64Bit(scalar) && form !== undefined ? int64As(value as bigint, form) : value) as T;
  return {
    type,
    pack(value) {
      // In a list or a oneof; elsewhere it is not written at all. Without it the wrapper would say zero.
      if (value === undefined || value === null) scalarToJson(scalar, value);
      return { value };
    },
    unpack: ({ value }) => from(value),
    merge: (value, read) => from(read({ value }).value),
    fromJSON: (value) => from(wrappedFromJson(scalar, value)),
    toJSON: (value) => scalarToJson(scalar, value),
  };
}

export const boxedDouble: Boxed<number, { value: number }> = wrapper(wrappers.DoubleValue, "double");
export const boxedFloat: Boxed<number, { value: number }> = wrapper(wrappers.FloatValue, "float");
export const boxedInt64: Boxed<bigint, { value: bigint }> = wrapper(wrappers.Int64Value, "int64");
export const boxedInt64Number: Boxed<number, { value: any }> = wrapper(wrappers.Int64Value, "int64", "number");
export const boxedInt64String: Boxed<string, { value: any }> = wrapper(wrappers.Int64Value, "int64", "string");
export const boxedUInt64: Boxed<bigint, { value: bigint }> = wrapper(wrappers.UInt64Value, "uint64");
export const boxedUInt64Number: Boxed<number, { value: any }> = wrapper(wrappers.UInt64Value, "uint64", "number");
export const boxedUInt64String: Boxed<string, { value: any }> = wrapper(wrappers.UInt64Value, "uint64", "string");
export const boxedInt32: Boxed<number, { value: number }> = wrapper(wrappers.Int32Value, "int32");
export const boxedUInt32: Boxed<number, { value: number }> = wrapper(wrappers.UInt32Value, "uint32");
export const boxedBool: Boxed<boolean, { value: boolean }> = wrapper(wrappers.BoolValue, "bool");
export const boxedString: Boxed<string, { value: string }> = wrapper(wrappers.StringValue, "string");
export const boxedBytes: Boxed<Uint8Array, { value: Uint8Array }> = wrapper(wrappers.BytesValue, "bytes");

export const boxedStruct: Boxed<JsonObject, Struct> = {
  type: Struct,
  pack: packStruct,
  unpack: unpackStruct,
  merge: (value, read) => addFields(value, read({ fields: {} })),
  fromJSON: (value) => unpackStruct(packStruct(value)),
  copy: (value) => unpackStruct(packStruct(value)),
  toJSON: (value) => checkedJson(unpackStruct(packStruct(value))),
};
export const boxedList: Boxed<JsonValue[], ListValue> = {
  type: ListValue,
  pack: packList,
  unpack: unpackList,
  merge: (value, read) => addElements(value, read({ values: [] })),
  fromJSON: (value) => unpackList(packList(value)),
  copy: (value) => unpackList(packList(value)),
  toJSON: (value) => checkedJson(unpackList(packList(value))),
};
export const boxedValue: Boxed<JsonValue, Value> = {
  type: Value,
  pack: packValue,
  unpack: unpackValue,
  merge: mergeValue,
  fromJSON: (value) => unpackValue(packValue(value)),
  copy: (value) => unpackValue(packValue(value)),
  toJSON: (value) => checkedJson(unpackValue(packValue(value))),
};
