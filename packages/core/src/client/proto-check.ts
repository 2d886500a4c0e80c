/**
 * A look at a protobuf message before it is encoded: encoders trust their input, and make a number of a text, or a
 * text of a number, without a word.
 */
import type { MessageType } from "../definition.ts";

type Fields = Readonly<Record<string, unknown>>;

const emptyMessages = new WeakMap<MessageType, Fields | null>();

/** What is wrong with the first field that has another type than in an empty message; undefined if none has. */
export function wrongField(type: MessageType, message: unknown): string | undefined {
  if (typeof message !== "object" || message === null) return undefined;
  const empty = emptyMessage(type);
  if (empty === null) return undefined;
  for (const [name, value] of Object.entries(message)) {
    const expected = Object.hasOwn(empty, name) ? kindOf(empty[name]) : "undefined";
    // A field that may be missing says nothing of its type.
    if (expected === "undefined" || value === undefined) continue;
    const received = kindOf(value);
    if (received !== expected && !(expected === "bigint" && received === "number"))
      return `${name}: expected ${expected}, received ${received}`;
  }
  return undefined;
}

function emptyMessage(type: MessageType): Fields | null {
  const known = emptyMessages.get(type);
  if (known !== undefined) return known;
  let empty: unknown = null;
  try {
    empty = type.binary!.decode(new Uint8Array(0));
  } catch {
    // A decoder written by hand may want more; the encoder has the word then.
  }
  const fields = typeof empty === "object" ? (empty as Fields | null) : null;
  emptyMessages.set(type, fields);
  return fields;
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (value instanceof Uint8Array) return "bytes";
  return typeof value;
}
