/** Well-known messages that are plain values in code: wrappers, `Struct`, `Value`, `ListValue`. */
import type { JsonReadOptions, JsonValue, JsonWriteOptions } from "./json.ts";
import type { ProtoType } from "./proto-type.ts";

/** Between a value in code and the message that carries it. */
export interface Boxed<T, M extends object> {
  readonly type: ProtoType<M>;
  pack(value: T): M;
  unpack(message: M): T;
  /**
   * Add a further part of the same field to what earlier ones gave, which is this message's own. `read` reads the part into
   * a message. What grows takes the new part only: packing all of it for each would take quadratic time.
   */
  merge(value: T, read: (into: M) => M): T;
  /** @throws {Error} if the JSON is none of the type */
  fromJSON(value: unknown, options: JsonReadOptions): T;
  /** A copy that shares nothing; not there where values cannot be changed, and for bytes. */
  copy?(value: T): T;
  toJSON(value: T, options: JsonWriteOptions): JsonValue;
}
