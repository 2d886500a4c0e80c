/** Fields that proto2 calls required: a message without one is no message. */
import { entriesOf } from "./maps.ts";
import { isMessage } from "./plain.ts";
import type { ProtoType } from "./proto-type.ts";
import { isMap } from "./realms.ts";
import type { Field } from "./table.ts";

/** @throws {Error} naming the first required field that is missing, here or inside */
export function checkRequired(type: ProtoType<any>, message: object): void {
  if (hasRequired(type)) check(type, message, "");
}

/** True if a message, or one inside it, has a field that is required; found out once a type. */
function hasRequired(type: ProtoType<any>): boolean {
  const { table } = type;
  if (table.required === undefined) settle(type);
  return table.required!;
}

/**
 * Whether a type has required fields anywhere inside: types may hold each other. All that it can reach is settled with it,
 * so that what is settled is right for good, whichever type is used first.
 */
function settle(root: ProtoType<any>): void {
  const seen = new Set<ProtoType<any>>();
  const users = new Map<ProtoType<any>, ProtoType<any>[]>();
  const pending = [root];
  const found: ProtoType<any>[] = [];
  for (let type = pending.pop(); type !== undefined; type = pending.pop()) {
    if (seen.has(type)) continue;
    seen.add(type);
    const { fields, required } = type.table;
    if (required ?? fields.some((field) => field.required === true)) found.push(type);
    if (required !== undefined) continue;
    for (const field of fields) {
      // Those that are plain values in code have none.
      if (field.type !== "message") continue;
      const inner = field.of!() as ProtoType<any>;
      const known = users.get(inner);
      if (known === undefined) users.set(inner, [type]);
      else known.push(type);
      pending.push(inner);
    }
  }
  const having = new Set<ProtoType<any>>();
  for (let type = found.pop(); type !== undefined; type = found.pop()) {
    if (having.has(type)) continue;
    having.add(type);
    for (const user of users.get(type) ?? []) found.push(user);
  }
  for (const type of seen) type.table.required ??= having.has(type);
}

const pathOf = (path: string, { key }: Field): string => (path === "" ? key : `${path}.${key}`);

function check(type: ProtoType<any>, message: object, path: string): void {
  // What is none is told by who writes it.
  if (!isMessage(message)) return;
  const source = message as Record<string, unknown>;
  for (const field of type.table.fields) {
    const chosen = field.oneof === undefined ? undefined : (source[field.oneof] as { $case?: string; value?: unknown });
    const value =
      field.oneof === undefined ? source[field.key] : chosen?.$case === field.key ? chosen.value : undefined;
    if (value === undefined || value === null) {
      if (field.required === true) throw new TypeError(`${pathOf(path, field)} is required and missing`);
      continue;
    }
    if (field.type !== "message") continue;
    const inner = field.of!() as ProtoType<any>;
    if (inner.table.required !== true) continue;
    const where = pathOf(path, field);
    if (field.map !== undefined) {
      if (!isMessage(value) && !isMap(value)) continue;
      for (const [key, entry] of entriesOf(value))
        check(inner, entry as object, `${where}[${JSON.stringify(String(key))}]`);
    } else if (field.list === true) {
      if (!Array.isArray(value)) continue;
      value.forEach((entry, index) => check(inner, entry as object, `${where}[${index}]`));
    } else check(inner, value, where);
  }
}
