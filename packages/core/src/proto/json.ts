/** What reading and writing proto3 JSON have in common. */
import type { Extension } from "./extension.ts";
import type { ProtoType } from "./proto-type.ts";

/** What `JSON.parse` gives. */
export type JsonValue = string | number | boolean | null | JsonValue[] | { [key: string]: JsonValue };
/** A JSON object: what `google.protobuf.Struct` is in code. */
export type JsonObject = { [key: string]: JsonValue };

/** Message types by full name, for what an `Any` may hold, and extensions by theirs in brackets: `[acme.priority]`. */
export type ProtoTypes = ReadonlyMap<string, ProtoType<any> | Extension<any, any>>;

export interface JsonReadOptions {
  /** Pass over fields, and names of enums, that are not known here. Default: false, an error. */
  readonly ignoreUnknownFields?: boolean | undefined;
  /** Types that an `Any` may hold besides the well-known ones, and extensions. Default: none. */
  readonly types?: ProtoTypes | undefined;
  /** Estimate of the memory that the message may take. Default: none, since nothing tells how long the text was. */
  readonly maxMemoryBytes?: number | undefined;
}

export interface JsonWriteOptions {
  /** Names of fields: `camel` for lowerCamel or the field's own `json_name`, `proto` for those of the .proto file. Default: `camel`. */
  readonly names?: "camel" | "proto" | undefined;
  /** Types that an `Any` may hold besides the well-known ones, and extensions. Default: none. */
  readonly types?: ProtoTypes | undefined;
}

/** What is wrong with a JSON value, and where. Its message has both: `items[2].name: 5 is not a string`. */
export class ProtoJsonError extends TypeError {
  /** Path of the field, e.g. `items[2].name`; empty for the message itself. */
  readonly path: string;
  readonly reason: string;

  constructor(path: string, reason: string) {
    super(path === "" ? reason : `${shortened(path)}: ${reason}`);
    this.name = "ProtoJsonError";
    this.path = path;
    this.reason = reason;
  }
}

/** A path of a hundred levels says no more than its ends. */
function shortened(path: string): string {
  return path.length > 120 ? `${path.slice(0, 60).toWellFormed()}…${path.slice(-50).toWellFormed()}` : path;
}

/** The error of what is inside a member, an element or a key. */
export function inside(step: string | number, error: unknown): ProtoJsonError {
  const known = error instanceof ProtoJsonError ? error : undefined;
  const reason = known?.reason ?? (error instanceof Error ? error.message : String(error));
  const own = typeof step === "number" ? `[${step}]` : /^[\w$]+$/.test(step) ? step : `[${JSON.stringify(step)}]`;
  const rest = known?.path ?? "";
  return new ProtoJsonError(rest === "" || rest.startsWith("[") ? own + rest : `${own}.${rest}`, reason);
}

/** Set a member of a name that every object has: `__proto__` would be taken for something else. */
export function setMember(json: JsonObject, name: string, value: JsonValue): void {
  Object.defineProperty(json, name, { value, writable: true, enumerable: true, configurable: true });
}
