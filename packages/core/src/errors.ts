/**
 * The one error class that crosses package and process boundaries, and go-micro's `errors` package around it.
 *
 * On the wire an error is `{"id","code","detail","status"}` with a numeric code, as Go's `errors.Error`. In code,
 * callers branch on the string `code`, whatever backend or transport is behind it; the number is `statusCode`.
 */

import { thrownText } from "./thrown.ts";
import { checkOptionNames, type OptionNames } from "./option-check.ts";
import { optionKinds, valueName, wrongArgument } from "./option-kinds.ts";

/**
 * Stable string codes. Messages may change between releases, codes only with a major version.
 *
 * `unavailable`: nobody could be reached, or a node refused. `timeout`: a deadline passed. `aborted`: the caller
 * cancelled. `closed`: the component was disposed. `codec`: bytes that could not be encoded or decoded.
 * `protocol`: a peer broke the wire's rules. `unknown`: an error without a code, such as a Go handler's bare text.
 */
export type ErrorCode =
  | "bad_request"
  | "unauthorized"
  | "forbidden"
  | "not_found"
  | "method_not_allowed"
  | "timeout"
  | "conflict"
  | "too_large"
  | "too_many_requests"
  | "aborted"
  | "internal"
  | "not_implemented"
  | "unavailable"
  | "closed"
  | "codec"
  | "protocol"
  | "unknown";

/** One attempt of a failed call, in order. */
export interface CallAttempt {
  /** Node id, or the address when the caller gave an address. */
  readonly node: string;
  readonly address: string;
  readonly error: MicroError;
  readonly durationMs: number;
}

/** One thing that is wrong with a request, for programs: a form marks the field it names. */
export interface Issue {
  /** Where in the message, from its outside in, e.g. `["address", "lines", 0]`. Empty: the message as a whole. */
  readonly path: readonly (string | number)[];
  /** What kind of fault it is, as the validator calls it, e.g. `too_small`. Empty where it has no names. */
  readonly code: string;
  /** For people. */
  readonly message: string;
}

export interface MicroErrorOptions {
  /** Who failed: the service name, or an id of go-micro such as `go.micro.client`. Default: empty. */
  id?: string | undefined;
  /** Default: derived from `statusCode`, else `internal`. */
  code?: ErrorCode | undefined;
  /** The numeric code on the wire. Default: derived from `code`. */
  statusCode?: number | undefined;
  /** The status text on the wire. Default: the HTTP reason of `statusCode`. */
  status?: string | undefined;
  cause?: unknown;
  attempts?: readonly CallAttempt[] | undefined;
  /** See {@link MicroError.notRun}. Default: false. */
  notRun?: boolean | undefined;
  /** See {@link MicroError.issues}. Default: none. */
  issues?: readonly Issue[] | undefined;
  /** See {@link MicroError.call}. Default: empty. */
  call?: string | undefined;
}

const optionNames: OptionNames<MicroErrorOptions> = {
  id: optionKinds.text,
  code: true,
  statusCode: true,
  status: optionKinds.text,
  cause: true,
  attempts: optionKinds.list,
  notRun: true,
  issues: optionKinds.list,
  call: optionKinds.text,
};

/** The wire form, keys as Go writes them; empty and zero fields are left out. */
export interface ErrorJson {
  id?: string;
  code?: number;
  detail?: string;
  status?: string;
  /** Ours alone; Go's `errors.Parse` passes over fields it does not know. */
  issues?: Issue[];
}

// An error travels in a header, which readers bound: these bytes of issues, and no more of them, go along.
const maxIssueBytes = 4_096;
const maxIssues = 64;

const brand = Symbol.for("micro.error");

const statusCodes: Readonly<Record<ErrorCode, number>> = {
  bad_request: 400,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  method_not_allowed: 405,
  timeout: 408,
  conflict: 409,
  too_large: 413,
  too_many_requests: 429,
  aborted: 499,
  internal: 500,
  not_implemented: 501,
  unavailable: 503,
  closed: 500,
  codec: 500,
  protocol: 500,
  unknown: 0,
};

const codesByStatus = new Map<number, ErrorCode>([
  [0, "unknown"],
  [400, "bad_request"],
  [401, "unauthorized"],
  [403, "forbidden"],
  [404, "not_found"],
  [405, "method_not_allowed"],
  [408, "timeout"],
  [409, "conflict"],
  [413, "too_large"],
  [429, "too_many_requests"],
  [499, "aborted"],
  [500, "internal"],
  [501, "not_implemented"],
  [503, "unavailable"],
]);

// Go's net/http.StatusText, which the errors package uses; written out so that importing core does not load node:http.
const reasons = new Map<number, string>([
  [200, "OK"],
  [201, "Created"],
  [202, "Accepted"],
  [204, "No Content"],
  [301, "Moved Permanently"],
  [302, "Found"],
  [304, "Not Modified"],
  [400, "Bad Request"],
  [401, "Unauthorized"],
  [402, "Payment Required"],
  [403, "Forbidden"],
  [404, "Not Found"],
  [405, "Method Not Allowed"],
  [406, "Not Acceptable"],
  [407, "Proxy Authentication Required"],
  [408, "Request Timeout"],
  [409, "Conflict"],
  [410, "Gone"],
  [411, "Length Required"],
  [412, "Precondition Failed"],
  [413, "Request Entity Too Large"],
  [414, "Request URI Too Long"],
  [415, "Unsupported Media Type"],
  [416, "Requested Range Not Satisfiable"],
  [417, "Expectation Failed"],
  [418, "I'm a teapot"],
  [421, "Misdirected Request"],
  [422, "Unprocessable Entity"],
  [423, "Locked"],
  [424, "Failed Dependency"],
  [425, "Too Early"],
  [426, "Upgrade Required"],
  [428, "Precondition Required"],
  [429, "Too Many Requests"],
  [431, "Request Header Fields Too Large"],
  [451, "Unavailable For Legal Reasons"],
  [500, "Internal Server Error"],
  [501, "Not Implemented"],
  [502, "Bad Gateway"],
  [503, "Service Unavailable"],
  [504, "Gateway Timeout"],
  [505, "HTTP Version Not Supported"],
  [507, "Insufficient Storage"],
  [511, "Network Authentication Required"],
]);

const noIssues: readonly Issue[] = Object.freeze([]);

/** The error of every operation of core and its plugins. Test with {@link MicroError.is}, not `instanceof`. */
export class MicroError extends Error {
  /** What to branch on. */
  readonly code: ErrorCode;
  /** Who failed: a service name, or `go.micro.client`, `go.micro.server`, `registry.etcd`, … */
  readonly id: string;
  /**
   * What happened, for people, in the words of who failed; this is what travels. `message` is the same text, followed by
   * {@link call} where the text does not name it.
   */
  readonly detail: string;
  /** The numeric code on the wire: an HTTP-like status, 0 when the peer sent bare text. */
  readonly statusCode: number;
  /** The status text on the wire, e.g. `Not Found`; empty when `statusCode` has none. */
  readonly status: string;
  /** Every attempt of a failed call, in order; empty when no node was reached for. */
  readonly attempts: readonly CallAttempt[];
  /** True when the request provably did not reach a handler, so that repeating it is safe. */
  readonly notRun: boolean;
  /**
   * What is wrong with the request, one by one; empty where nobody said. Beside `detail`, which says the same as text.
   * The first 64 travel, as far as they fit 4 KiB as JSON.
   */
  readonly issues: readonly Issue[];
  /**
   * The call that failed, as its caller named it: `price Price.Get`. Set by the caller's client, and never sent: whoever gets the
   * error from there has a call of its own. Empty for errors of no call.
   */
  readonly call: string;

  /** @throws {TypeError} for a detail that is no text, an option that does not exist or is of the wrong kind. */
  constructor(detail: string, options: MicroErrorOptions = {}) {
    if (typeof detail !== "string") throw wrongArgument("MicroError", "first", detail, optionKinds.text);
    checkOptionNames("MicroError", options, optionNames);
    const { cause, call = "" } = options;
    super(placed(detail, options.id ?? "", call), cause === undefined ? undefined : { cause });
    this.detail = detail;
    this.id = options.id ?? "";
    this.code = options.code ?? codesByStatus.get(options.statusCode ?? 500) ?? "unknown";
    this.statusCode = options.statusCode ?? statusCodes[this.code];
    this.status = options.status ?? reasons.get(this.statusCode) ?? "";
    this.attempts = options.attempts ?? [];
    this.notRun = options.notRun ?? false;
    this.issues = options.issues ?? noIssues;
    this.call = call;
    if (this.statusCode === undefined)
      throw new TypeError(
        `MicroError: \`code\` must be one of ${Object.keys(statusCodes).join(", ")}, not ${valueName(options.code)}`,
      );
  }

  override get name(): string {
    return "MicroError";
  }

  get [brand](): true {
    return true;
  }

  /** The wire object, as Go marshals it. */
  toJSON(): ErrorJson {
    const json: ErrorJson = {};
    if (this.id !== "") json.id = this.id;
    if (this.statusCode !== 0) json.code = this.statusCode;
    if (this.detail !== "") json.detail = this.detail;
    if (this.status !== "") json.status = this.status;
    const issues = this.issues.length === 0 ? noIssues : boundedIssues(this.issues);
    if (issues.length > 0) json.issues = [...issues];
    return json;
  }

  /** True for a `MicroError` of this or another installed copy of core. */
  static is(value: unknown): value is MicroError {
    try {
      return typeof value === "object" && value !== null && (value as { [brand]?: unknown })[brand] === true;
    } catch {
      return false; // A proxy that tells nothing of itself.
    }
  }
}

/** Ids that say which part of a program failed, and not which service. */
const partId = /^go\.micro\./;

/** A text that says whose failure it is: the called service's, or that of one further on. */
function placed(detail: string, id: string, call: string): string {
  if (call === "" || detail.includes(call)) return detail;
  const others = id !== "" && !partId.test(id) && id !== call.slice(0, call.lastIndexOf(" "));
  return `${detail === "" ? "no text" : detail} (${others ? `of ${id}, by way of ` : ""}${call})`;
}

/** What the functions below make: both arguments are easily taken for the one that is missing. */
function made(maker: string, id: string, detail: string, options: MicroErrorOptions): MicroError {
  if (typeof id === "string" && typeof detail === "string") return new MicroError(detail, { ...options, id });
  const call = `errors.${maker}(id, detail${maker === "newError" ? ", statusCode" : ""})`;
  if (typeof id !== "string") throw new TypeError(`${call}: the id of who failed must be a text, not ${valueName(id)}`);
  throw new TypeError(
    `${call}: what happened must be a text, not ${valueName(detail)}; with "" as id it is the service's own`,
  );
}

/** A 400 of `id`, with what is wrong one by one where that is known. @throws {TypeError} where id or detail is no text, as all of these. */
export function badRequest(id: string, detail: string, issues?: readonly Issue[]): MicroError {
  return made("badRequest", id, detail, { code: "bad_request", issues });
}
/** A 401 of `id`. */
export function unauthorized(id: string, detail: string): MicroError {
  return made("unauthorized", id, detail, { code: "unauthorized" });
}
/** A 403 of `id`. */
export function forbidden(id: string, detail: string): MicroError {
  return made("forbidden", id, detail, { code: "forbidden" });
}
/** A 404 of `id`. */
export function notFound(id: string, detail: string): MicroError {
  return made("notFound", id, detail, { code: "not_found" });
}
/** A 405 of `id`. */
export function methodNotAllowed(id: string, detail: string): MicroError {
  return made("methodNotAllowed", id, detail, { code: "method_not_allowed" });
}
/** A 408 of `id`. */
export function timeout(id: string, detail: string): MicroError {
  return made("timeout", id, detail, { code: "timeout" });
}
/** A 409 of `id`. */
export function conflict(id: string, detail: string): MicroError {
  return made("conflict", id, detail, { code: "conflict" });
}
/** A 500 of `id`. */
export function internalServerError(id: string, detail: string): MicroError {
  return made("internalServerError", id, detail, { code: "internal" });
}
/** An error with any numeric code; its status is the HTTP reason of the code, or empty. Go's `errors.New`. */
export function newError(id: string, detail: string, statusCode: number): MicroError {
  if (!Number.isInteger(statusCode))
    throw new TypeError(
      `errors.newError(id, detail, statusCode): the code must be a whole number, not ${valueName(statusCode)}`,
    );
  return made("newError", id, detail, { statusCode });
}

/**
 * Read an error text as Go's `errors.Parse`: a JSON object gives its fields (keys in any case), anything else code 0
 * with the text as detail. Unlike there, an object of somebody else's, with neither `id` nor `detail` but with keys of its own,
 * is not taken for an error without a text: its text is the detail, and `code` and `status` are read where it has them.
 */
export function parse(text: string): MicroError {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return new MicroError(text, { statusCode: 0, status: "" });
  }
  if (value === null) return new MicroError("", { statusCode: 0, status: "" });
  const fields =
    typeof value === "object" && !Array.isArray(value) ? readFields(value as Record<string, unknown>) : undefined;
  if (fields === undefined) return new MicroError(text, { statusCode: 0, status: "" });
  const known = fields.id !== undefined || fields.detail !== undefined;
  const foreign = !known && Object.keys(value as object).some((key) => !wireKeys.has(key.toLowerCase()));
  return new MicroError(fields.detail ?? (foreign ? text : ""), {
    id: fields.id,
    code: codesByStatus.get(fields.code ?? 0) ?? "unknown",
    statusCode: fields.code ?? 0,
    status: fields.status ?? "",
    issues: fields.issues,
  });
}

const wireKeys: ReadonlySet<string> = new Set(["id", "code", "detail", "status", "issues"]);

/** Fields of a wire object, or undefined where one has the wrong type (Go's decoder refuses the whole text then). */
function readFields(object: Record<string, unknown>): ErrorJson | undefined {
  const fields: ErrorJson = {};
  for (const [key, value] of Object.entries(object)) {
    const name = key.toLowerCase();
    if (value === null) continue;
    if (name === "code") {
      if (typeof value !== "number" || !Number.isInteger(value) || value < -0x8000_0000 || value > 0x7fff_ffff)
        return undefined;
      fields.code = value;
    } else if (name === "id" || name === "detail" || name === "status") {
      if (typeof value !== "string") return undefined;
      fields[name] = value;
    } else if (name === "issues" && Array.isArray(value)) {
      const issues = readIssues(value);
      if (issues.length > 0) fields.issues = issues;
    }
  }
  return fields;
}

/** Those that can be read: what another library puts under the name of a field of ours makes no error unreadable. */
function readIssues(values: readonly unknown[]): Issue[] {
  const issues: Issue[] = [];
  for (const value of values.slice(0, maxIssues)) {
    if (typeof value !== "object" || value === null) continue;
    const { path, code, message } = value as { path?: unknown; code?: unknown; message?: unknown };
    if (typeof message !== "string") continue;
    const steps = Array.isArray(path) ? (path as unknown[]).filter(isStep) : [];
    issues.push({ path: steps, code: typeof code === "string" ? code : "", message });
  }
  return issues;
}

function isStep(step: unknown): step is string | number {
  return typeof step === "string" || typeof step === "number";
}

/** The first issues, as many as fit into an error on the wire. */
function boundedIssues(issues: readonly Issue[]): readonly Issue[] {
  const bounded: Issue[] = [];
  let bytes = 0;
  for (const { path, code, message } of issues.slice(0, maxIssues)) {
    const issue = { path: [...path], code, message };
    bytes += Buffer.byteLength(escaped(JSON.stringify(issue))) + 1;
    if (bytes > maxIssueBytes) break;
    bounded.push(issue);
  }
  return bounded;
}

/** A `MicroError` unchanged; any other thrown value as its text, parsed. Go's `errors.FromError`. */
export function fromError(error: unknown): MicroError {
  if (MicroError.is(error)) return error;
  const parsed = parse(textOf(error));
  return new MicroError(parsed.detail, {
    id: parsed.id,
    code: parsed.code,
    statusCode: parsed.statusCode,
    status: parsed.status,
    issues: parsed.issues,
    cause: error,
  });
}

/** Anything may be thrown, even what has no text of its own. */
function textOf(thrown: unknown): string {
  try {
    return String(thrown instanceof Error ? thrown.message : thrown);
  } catch {
    return untold(thrown);
  }
}

function untold(thrown: unknown): string {
  try {
    return Object.prototype.toString.call(thrown);
  } catch {
    return thrownText(thrown);
  }
}

/** True when both are errors with the same numeric code. Go's `errors.Equal`. */
export function equal(a: unknown, b: unknown): boolean {
  return MicroError.is(a) && MicroError.is(b) ? a.statusCode === b.statusCode : a === b;
}

/** The text of an error on the wire: one line of JSON with `<`, `>` and `&` escaped, as Go's encoder writes it. */
export function stringify(error: MicroError): string {
  return escaped(JSON.stringify(error));
}

function escaped(json: string): string {
  return json.replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
