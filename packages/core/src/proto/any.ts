/** Messages inside of `google.protobuf.Any`. */
import type { ProtoInput } from "../proto.ts";
import type { ProtoType } from "./proto-type.ts";
import type { Any } from "./gen/any.ts";

/** Put a message into an `Any`: `packAny(Invoice, { id: 7n })`. */
export function packAny<T extends object>(type: ProtoType<T>, message: ProtoInput<T>): Any {
  return { typeUrl: `type.googleapis.com/${type.$type}`, value: type.encode(message) };
}

/** True if an `Any` holds a message of the type. */
export function anyIs(any: Any, type: ProtoType<any>): boolean {
  return any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1) === type.$type;
}

/** The message of an `Any`, or undefined if it holds one of another type. @throws {Error} if its bytes are wrong */
export function unpackAny<T extends object>(any: Any, type: ProtoType<T>): T | undefined {
  return anyIs(any, type) ? type.decode(any.value) : undefined;
}
