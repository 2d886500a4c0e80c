/** Declaring message types: what generated code calls. */
import { ProtoType, type ProtoTypeParts } from "./proto-type.ts";
import { specialOf } from "./special.ts";

/** Declare a message type. */
export function message<T extends object>(name: string, parts: ProtoTypeParts<T>): ProtoType<T> {
  return new ProtoType(name, parts, specialOf(name));
}
