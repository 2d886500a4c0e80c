/** Where a message cannot be written: looked for only after it has failed. */
import { inside, ProtoJsonError } from "./json.ts";
import { entriesOf } from "./maps.ts";
import { caseFault } from "./oneofs.ts";
import { isMessage } from "./plain.ts";
import type { ProtoType } from "./proto-type.ts";
import { isMap } from "./realms.ts";
import { maxDepth } from "./reader.ts";
import type { Field } from "./table.ts";
import { nestedTooDeep, Writer } from "./writer.ts";

/** The error with the path of the field, where that can be found. */
export function explain(type: ProtoType<any>, message: unknown, error: unknown): unknown {
  // The stack ends before the writer's own bound where frames are large.
  if (error instanceof RangeError && /call stack/i.test(error.message)) return nestedTooDeep(error);
  if (!(error instanceof TypeError)) return error;
  if (!isMessage(message)) return error;
  const found = faultOf(type, message as Record<string, unknown>, 0);
  return found === undefined ? error : new TypeError(found.message, { cause: error });
}

/**
 * The first field that cannot be written even alone. Each level is written again: those that no reader takes are not looked
 * into, and what is wrong there is told of the last one above.
 */
function faultOf(type: ProtoType<any>, message: Record<string, unknown>, depth: number): ProtoJsonError | undefined {
  if (depth === maxDepth) return undefined;
  const wrongCase = caseFault(type, message);
  if (wrongCase !== undefined) return wrongCase;
  for (const field of type.table.fields) {
    const key = field.oneof ?? field.key;
    const part = message[key];
    if (part === undefined || part === null) continue;
    if (field.oneof !== undefined && (part as { $case?: unknown }).$case !== field.key) continue;
    const error = errorOf(type, { [key]: part });
    if (error === undefined) continue;
    return inside(field.key, faultInField(type, field, part, depth) ?? error);
  }
  return undefined;
}

function faultInField(type: ProtoType<any>, field: Field, part: unknown, depth: number): ProtoJsonError | undefined {
  if (field.list === true) {
    if (!Array.isArray(part)) return undefined;
    for (const [index, element] of part.entries()) {
      const error = errorOf(type, { [field.key]: [element] });
      if (error !== undefined) return inside(index, faultInValue(field, element, depth) ?? error);
    }
    return undefined;
  }
  if (field.map !== undefined) {
    if (!isMap(part) && !isMessage(part)) return undefined;
    for (const [key, entry] of entriesOf(part)) {
      const map = isMap(part) ? new Map([[key, entry]]) : { [key as string]: entry };
      const error = errorOf(type, { [field.key]: map });
      if (error !== undefined) return inside(String(key), faultInValue(field, entry, depth) ?? error);
    }
    return undefined;
  }
  return faultInValue(field, field.oneof === undefined ? part : (part as { value?: unknown }).value, depth);
}

function faultInValue(field: Field, value: unknown, depth: number): ProtoJsonError | undefined {
  if (field.type !== "message" || !isMessage(value)) return undefined;
  return faultOf(field.of!() as ProtoType<any>, value as Record<string, unknown>, depth + 1);
}

function errorOf(type: ProtoType<any>, message: object): Error | undefined {
  try {
    Writer.encode(type, message);
    return undefined;
  } catch (error) {
    return error as Error;
  }
}
