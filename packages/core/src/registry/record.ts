/**
 * Registry records as text: Go's JSON of services and of watch results, written and read.
 *
 * Every registry that stores records uses this form (`registry/registry.go`, `registry/watcher.go` in go-micro), so
 * that services of both languages read each other.
 */
import { MicroError } from "../errors.ts";
import { heldByJson } from "./held-bytes.ts";
import type { Endpoint, Node, RegistryEvent, Service, StringMap, Value } from "./registry.ts";

/** Longest text that is read: far above any real record, and small enough to parse at once. */
const maxTextLength = 4 * 1024 * 1024;
/** Most memory that what is read may take once it is read: `{}` in a list takes a hundred times its two bytes. */
const maxReadBytes = 16 * 1024 * 1024;
/** Deepest value tree that is read or written; go-micro describes types three levels deep. */
const maxValueDepth = 16;

const source = "go.micro.registry";

/**
 * A service as Go marshals it: every key present, empty lists `null`, one line.
 * @throws {MicroError} `bad_request` if it is not a service, see {@link copyService}.
 */
export function encodeService(service: Service): string {
  return escapeHtml(JSON.stringify(serviceJson(copyService(service, { nodes: "any" }))));
}

/**
 * Read a service. Keys in any case, `null` and missing members as empty, unknown keys ignored. The result is frozen,
 * its maps have no prototype.
 * @throws {MicroError} `codec` naming the member that is wrong; also for more than 4 MiB of text, or what would take
 *   more than 16 MiB once it is read.
 */
export function decodeService(text: string | Uint8Array): Service {
  return readService(parseText(text), "service");
}

/** A watch result as Go marshals it: `{"Action":"create","Service":{…}}`. */
export function encodeResult(event: RegistryEvent): string {
  const service = serviceJson(copyService(event.service, { nodes: "any" }));
  return escapeHtml(JSON.stringify({ Action: event.action, Service: service }));
}

/**
 * Read a watch result.
 * @throws {MicroError} `codec` if it is not one, or if the action is none of `create`, `update` and `delete`.
 */
export function decodeResult(text: string | Uint8Array): RegistryEvent {
  const fields = readObject(parseText(text), "result");
  const action = readString(fields.get("action"), "Action");
  if (action !== "create" && action !== "update" && action !== "delete")
    throw wrong("Action", "one of create, update and delete");
  return Object.freeze({ action, service: readService(fields.get("service"), "Service") });
}

/**
 * A frozen copy of a service, checked: what a registry keeps, so that a caller who changes the object later changes
 * nothing. Missing lists and maps become empty ones.
 *
 * `nodes: "some"` (the default) demands at least one node, as registering does.
 * @throws {MicroError} `bad_request` naming what is wrong.
 */
export function copyService(service: Service, options: { nodes?: "some" | "any" } = {}): Service {
  try {
    const copy = readService(service, "service");
    if (copy.name === "") throw wrong("service.name", "a text that is not empty");
    if (options.nodes !== "any" && copy.nodes.length === 0) throw wrong("service.nodes", "a list of at least one node");
    for (const [index, node] of copy.nodes.entries())
      if (node.id === "") throw wrong(`service.nodes[${index}].id`, "a text that is not empty");
    return copy;
  } catch (cause) {
    if (!MicroError.is(cause)) throw cause;
    throw new MicroError(cause.detail, { id: source, code: "bad_request", cause });
  }
}

/** True if two nodes say the same: id, address and metadata. */
export function equalNodes(a: Node, b: Node): boolean {
  return a.id === b.id && a.address === b.address && equalMaps(a.metadata, b.metadata);
}

/** True if two services describe themselves alike, nodes aside: name, version, metadata and endpoints. */
export function equalDescriptions(a: Service, b: Service): boolean {
  return (
    a.name === b.name &&
    a.version === b.version &&
    equalMaps(a.metadata, b.metadata) &&
    a.endpoints.length === b.endpoints.length &&
    a.endpoints.every((endpoint, index) => equalEndpoints(endpoint, b.endpoints[index]!))
  );
}

/** The endpoint list as Go marshals it inside other records, `null` when empty. @internal */
export function endpointsJson(endpoints: readonly Endpoint[]): object[] | null {
  if (endpoints.length === 0) return null;
  return endpoints.map(({ name, request, response, metadata }) => ({ name, request, response, metadata }));
}

/** Read the members of a JSON object by lower-case name; for records other than services. @internal */
export function readObject(value: unknown, at: string): Map<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(at, "an object");
  const fields = new Map<string, unknown>();
  // Of several spellings of a key the last one wins, as in Go.
  for (const [key, member] of Object.entries(value)) fields.set(key.toLowerCase(), member);
  return fields;
}

/** @internal */
export function readString(value: unknown, at: string): string {
  if (value === undefined || value === null) return "";
  if (typeof value !== "string") throw wrong(at, "a string");
  return value;
}

/** @internal */
export function readMap(value: unknown, at: string): StringMap {
  if (value === undefined || value === null) return emptyMap;
  if (typeof value !== "object" || Array.isArray(value)) throw wrong(at, "an object of strings");
  const entries = Object.entries(value);
  if (entries.length === 0) return emptyMap;
  const map = Object.create(null) as Record<string, string>;
  for (const [key, member] of entries) map[key] = readString(member, `${at}[${JSON.stringify(key)}]`);
  return Object.freeze(map);
}

/** @internal */
export function readEndpoints(value: unknown, at: string): readonly Endpoint[] {
  return readList(value, at, readEndpoint);
}

/** Parse JSON that is bounded, and whose result is. @internal */
export function parseText(text: string | Uint8Array, maxBytes: number = maxReadBytes): unknown {
  if (text.length > maxTextLength) throw wrong("record", `at most ${maxTextLength} bytes, not ${text.length}`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(
      typeof text === "string" ? text : Buffer.from(text.buffer, text.byteOffset, text.length).toString(),
    );
  } catch (cause) {
    throw new MicroError("registry record: not JSON", { id: source, code: "codec", cause });
  }
  checkWeight(parsed, maxBytes);
  return parsed;
}

/** @throws {MicroError} `codec` if `value`, read, would take more than `maxBytes`. @internal */
export function checkWeight(value: unknown, maxBytes: number): void {
  if (heldByJson(value, maxBytes) < 0) throw wrong("record", `read in at most ${maxBytes} bytes of memory`);
}

function readService(value: unknown, at: string): Service {
  const fields = readObject(value, at);
  return Object.freeze({
    name: readString(fields.get("name"), `${at}.name`),
    version: readString(fields.get("version"), `${at}.version`),
    metadata: readMap(fields.get("metadata"), `${at}.metadata`),
    endpoints: readList(fields.get("endpoints"), `${at}.endpoints`, readEndpoint),
    nodes: readList(fields.get("nodes"), `${at}.nodes`, readNode),
  });
}

function readNode(value: unknown, at: string): Node {
  const fields = readObject(value, at);
  return Object.freeze({
    id: readString(fields.get("id"), `${at}.id`),
    address: readString(fields.get("address"), `${at}.address`),
    metadata: readMap(fields.get("metadata"), `${at}.metadata`),
  });
}

function readEndpoint(value: unknown, at: string): Endpoint {
  const fields = readObject(value, at);
  return Object.freeze({
    name: readString(fields.get("name"), `${at}.name`),
    request: readValue(fields.get("request"), `${at}.request`, 1),
    response: readValue(fields.get("response"), `${at}.response`, 1),
    metadata: readMap(fields.get("metadata"), `${at}.metadata`),
  });
}

function readValue(value: unknown, at: string, depth: number): Value | null {
  if (value === undefined || value === null) return null;
  if (depth > maxValueDepth) throw wrong(at, `at most ${maxValueDepth} levels deep`);
  const fields = readObject(value, at);
  const values = fields.get("values");
  return Object.freeze({
    name: readString(fields.get("name"), `${at}.name`),
    type: readString(fields.get("type"), `${at}.type`),
    values:
      values === undefined || values === null
        ? null
        : readList(values, `${at}.values`, (member, memberAt) => readValue(member, memberAt, depth + 1)),
  });
}

/** A list without its `null` members, which Go's pointers may give. */
function readList<T>(value: unknown, at: string, read: (member: unknown, at: string) => T | null): readonly T[] {
  if (value === undefined || value === null) return Object.freeze([]);
  if (!Array.isArray(value)) throw wrong(at, "a list");
  const list: T[] = [];
  for (const [index, member] of value.entries()) {
    const item = member === null || member === undefined ? null : read(member, `${at}[${index}]`);
    if (item !== null) list.push(item);
  }
  return Object.freeze(list);
}

function serviceJson(service: Service): object {
  const { name, version, metadata, endpoints, nodes } = service;
  return {
    name,
    version,
    // Go's servers leave this map nil and the others empty.
    metadata: Object.keys(metadata).length === 0 ? null : metadata,
    endpoints: endpointsJson(endpoints),
    nodes:
      nodes.length === 0
        ? null
        : nodes.map((node) => ({ id: node.id, address: node.address, metadata: node.metadata })),
  };
}

/** Go's encoder writes these characters as escapes. @internal */
export function escapeHtml(json: string): string {
  return json.replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function equalEndpoints(a: Endpoint, b: Endpoint): boolean {
  return (
    a.name === b.name &&
    equalMaps(a.metadata, b.metadata) &&
    equalValues(a.request, b.request) &&
    equalValues(a.response, b.response)
  );
}

function equalValues(a: Value | null, b: Value | null): boolean {
  if (a === null || b === null) return a === b;
  if (a.name !== b.name || a.type !== b.type) return false;
  if (a.values === null || b.values === null) return a.values === b.values;
  return a.values.length === b.values.length && a.values.every((value, index) => equalValues(value, b.values![index]!));
}

function equalMaps(a: StringMap, b: StringMap): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && a[key] === b[key]);
}

const emptyMap: StringMap = Object.freeze(Object.create(null) as Record<string, string>);

function wrong(at: string, expected: string): MicroError {
  return new MicroError(`registry record: ${at} must be ${expected}`, { id: source, code: "codec" });
}
