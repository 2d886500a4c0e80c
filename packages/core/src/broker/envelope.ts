/**
 * go-micro's JSON form of a broker message, `{"Header":{…},"Body":"<base64>"}`, as the http, NATS and Kafka brokers
 * write it (`broker/http.go`, `codec/json`).
 */
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

/** Encode a message. */
export function encodeEnvelope(header: Metadata, body: Uint8Array): Buffer {
  let text = '{"Header":{';
  let separator = "";
  for (const [name, value] of wireHeader(header)) {
    text += `${separator}${JSON.stringify(name)}:${JSON.stringify(value)}`;
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
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString());
  } catch (cause) {
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
    if (name !== "") metadata.set(name, value);
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
