/** Oneofs of messages in code: `{ $case, value }`, or nothing. */
import { inside, type ProtoJsonError } from "./json.ts";
import { isMessage } from "./plain.ts";
import type { ProtoType } from "./proto-type.ts";
import { shown, wrong } from "./wrong.ts";

/** So many are named. */
const fewNames = 12;

/** What is wrong with the first oneof that has none of its fields. */
export function caseFault(type: ProtoType<any>, message: object): ProtoJsonError | undefined {
  for (const [oneof, names] of type.table.cases) {
    const chosen: unknown = (message as Record<string, unknown>)[oneof];
    if (chosen === undefined || chosen === null) continue;
    const { $case, value } = chosen as { $case?: unknown; value?: unknown };
    if (typeof $case === "string" && names.includes($case)) {
      if (value !== undefined) continue;
      return inside(oneof, new TypeError(`a oneof has $case ${shown($case)}, and no value`));
    }
    const known = `${names.slice(0, fewNames).join(", ")}${names.length > fewNames ? ", …" : ""}`;
    if (!isMessage(chosen)) return inside(oneof, wrong(chosen, `an object with $case and value ($case: ${known})`));
    return inside(oneof, new TypeError(`a oneof has $case ${shown($case)}, which is none of its fields: ${known}`));
  }
  return undefined;
}

/** @throws {ProtoJsonError} for a oneof that has none of its fields */
export function checkCases(type: ProtoType<any>, message: object): void {
  const fault = caseFault(type, message);
  if (fault !== undefined) throw fault;
}
