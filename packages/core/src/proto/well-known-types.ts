/** The well-known types by full name: what every `Any` may hold. */
import type { Extension } from "./extension.ts";
import { typesOfFiles, type FileTypes } from "./file-types.ts";
import type { ProtoTypes } from "./json.ts";
import type { ProtoType } from "./proto-type.ts";
import { Any } from "./gen/any.ts";
import { Duration } from "./gen/duration.ts";
import { Empty } from "./gen/empty.ts";
import { FieldMask } from "./gen/field_mask.ts";
import { ListValue, Struct, Value } from "./gen/struct.ts";
import { Timestamp } from "./gen/timestamp.ts";
import { addSpecial } from "./special.ts";
import { anyJson } from "./special-any.ts";
import * as wrappers from "./gen/wrappers.ts";

let known: ReadonlyMap<string, ProtoType<any>> | undefined;

export function wellKnownTypes(): ReadonlyMap<string, ProtoType<any>> {
  return (known ??= new Map(
    [
      Any,
      Duration,
      Empty,
      FieldMask,
      ListValue,
      Struct,
      Timestamp,
      Value,
      ...(Object.values(wrappers) as ProtoType<any>[]),
    ].map((type: ProtoType<any>) => [type.$type, type]),
  ));
}

// Here and not where the others are: its JSON needs all of them, and all of them need the module of their JSON.
Any.special = anyJson(wellKnownTypes);
addSpecial("Any", Any.special);

/**
 * What an `Any` may hold, and extensions, for JSON: `protoTypes([Invoice, Receipt, priority])`, or all of a file and of
 * those it imports: `protoTypes($types)`.
 */
export function protoTypes(types: Iterable<ProtoType<any> | Extension<any, any>> | FileTypes): ProtoTypes {
  const map = new Map<string, ProtoType<any> | Extension<any, any>>();
  for (const type of "files" in types ? typesOfFiles(types) : types)
    if ("holder" in type) map.set(`[${type.$extension}]`, type);
    else map.set(type.$type, type);
  return map;
}
