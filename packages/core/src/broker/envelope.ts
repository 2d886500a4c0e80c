/**
 * go-micro's JSON form of a broker message, `{"Header":{…},"Body":"<base64>"}`, as the http, NATS and Kafka brokers
 * write it (`broker/http.go`, `codec/json`).
 */
import { checkStructure } from "../codec/json-text.ts";
import { MicroError } from "../errors.ts";
import { Metadata } from "../metadata.ts";
import type { BrokerMessage } from "./broker.ts";

const id = "go.micro.broker";

/**
 * The names and values to write into a message's header. go-micro v2 looks for `Micro-Id` and later versions for
 * `Micro-ID`; neither finds the other's, so both are there.
 */
export function* wireHeader(header: Metadata): IterableIterator<[string, string]> {
  for (const entry of header) {
    yield entry;
    if (entry[0] === "Micro-Id") yield ["Micro-ID", entry[1]];
  }
}

/** Names come from peers, too: only so many are kept. */
const quotedNames = new Map<string, string>();
const maxQuotedNames = 1_024;

function quotedName(name: string): string {
  const known = quotedNames.get(name);
  if (known !== undefined) return known;
  const quoted = JSON.stringify(name);
  if (quotedNames.size < maxQuotedNames && name.length <= 64) quotedNames.set(name, quoted);
  return quoted;
}

/** Encode a message. */
export function encodeEnvelope(header: Metadata, body: Uint8Array): Buffer {
  let text = '{"Header":{';
  let separator = "";
  for (const [name, value] of header) {
    const quoted = JSON.stringify(value);
    text += `${separator}${quotedName(name)}:${quoted}`;
    if (name === "Micro-Id") text += `,"Micro-ID":${quoted}`;
    separator = ",";
  }
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  return Buffer.from(`${text}},"Body":"${bytes.toString("base64")}"}`);
}

/**
 * Decode a message. Its keys are read in any case, as Go does; either may be missing or null.
 * @throws {MicroError} `codec` for anything else.
 */
export function decodeEnvelope(bytes: Uint8Array): BrokerMessage {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
  return decodeUsual(text) ?? decodeAny(text);
}

const opening = '{"Header":{';
const middle = '},"Body":"';

/**
 * The form in which go-micro and we write it, without a pass over the body. What it cannot tell for certain it leaves
 * to the general way: undefined.
 */
function decodeUsual(text: string): BrokerMessage | undefined {
  if (!text.startsWith(opening) || !text.endsWith('"}')) return undefined;
  // A quote inside a header would be escaped: the first such sequence is the end of the header.
  const at = text.indexOf(middle, opening.length - 1);
  if (at < 0) return undefined;
  const encoded = text.slice(at + middle.length, -2);
  const { length } = encoded;
  // Node also takes the alphabet for URLs, which Go refuses.
  if (length % 4 !== 0 || encoded.includes("-") || encoded.includes("_")) return undefined;
  const body = Buffer.from(encoded, "base64");
  const padding = encoded.endsWith("==") ? 2 : encoded.endsWith("=") ? 1 : 0;
  // Anything that is not base64 has been skipped.
  if (body.length !== (length / 4) * 3 - padding) return undefined;
  let header: unknown;
  try {
    header = parse(text.slice(opening.length - 1, at + 1));
  } catch {
    return undefined;
  }
  return { header: readHeader(header), body };
}

/** Arrays, objects and members of an envelope; a parser cannot be interrupted. */
const maxParts = 1024;

function parse(text: string): unknown {
  try {
    checkStructure(id, text, maxParts);
  } catch (cause) {
    throw invalid(`more than ${maxParts} arrays, objects and members, or nested too deep`, cause);
  }
  return JSON.parse(text);
}

function decodeAny(text: string): BrokerMessage {
  let parsed: unknown;
  try {
    parsed = parse(text);
  } catch (cause) {
    if (MicroError.is(cause)) throw cause;
    throw invalid(cause instanceof Error ? cause.message : String(cause), cause);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw invalid("it is no JSON object");
  let header: unknown = null;
  let body: unknown = null;
  for (const [key, value] of Object.entries(parsed)) {
    const name = key.toLowerCase();
    if (name === "header") header = value;
    else if (name === "body") body = value;
  }
  return { header: readHeader(header), body: readBody(body) };
}

function readHeader(header: unknown): Metadata {
  const metadata = new Metadata();
  if (header === null) return metadata;
  if (typeof header !== "object" || Array.isArray(header)) throw invalid("`Header` is no object");
  for (const [name, value] of Object.entries(header)) {
    if (typeof value !== "string") throw invalid(`header ${JSON.stringify(name.slice(0, 64))} is no text`);
    if (name !== "") metadata.keep(name, value);
  }
  return metadata;
}

const base64 = /^[A-Za-z0-9+/]*={0,2}$/;

function readBody(body: unknown): Uint8Array {
  if (body === null) return new Uint8Array(0);
  if (typeof body !== "string") throw invalid("`Body` is no text");
  // Go ignores line breaks inside base64; Buffer would also skip anything else, which must not pass for a message.
  const text = body.includes("\n") || body.includes("\r") ? body.replace(/[\r\n]/g, "") : body;
  if (text.length % 4 !== 0 || !base64.test(text)) throw invalid("`Body` is not base64");
  return Buffer.from(text, "base64");
}

function invalid(reason: string, cause?: unknown): MicroError {
  return new MicroError(`the bytes are no broker message: ${reason}`, { id, code: "codec", cause });
}
