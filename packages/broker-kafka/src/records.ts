/**
 * Messages as Kafka records: the value is go-micro's JSON envelope (`broker/kafka/kafka.go`), and the header is there
 * once more as record headers, for readers that know no envelope.
 */
import { Metadata, MicroError, decodeEnvelope, wireHeader } from "@micro/core";
import type { BrokerMessage } from "@micro/core";
import { source } from "./errors.ts";
import type { KafkaRecord } from "./kafka-client.ts";

/** The record headers of a message; without a prototype, since anybody may name them. */
export function recordHeaders(header: Metadata): Record<string, string> {
  const headers = Object.create(null) as Record<string, string>;
  for (const [name, value] of wireHeader(header)) headers[name] = value;
  return headers;
}

const envelopeStarts = ['{"Header":', '{"Body":'].map((text) => Buffer.from(text));

/** Go writes no other beginning; anything else that is an object of these two names is one, too. */
function isEnvelope(value: Buffer): boolean {
  if (envelopeStarts.some((start) => value.subarray(0, start.length).equals(start))) return true;
  if (value[0] !== 0x7b && !/^\s*\{/.test(value.subarray(0, 64).toString())) return false;
  try {
    const parsed: unknown = JSON.parse(value.toString());
    if (typeof parsed !== "object" || parsed === null) return false;
    const keys = Object.keys(parsed).map((key) => key.toLowerCase());
    return keys.length > 0 && keys.every((key) => key === "header" || key === "body");
  } catch {
    return false;
  }
}

/** As in an envelope. */
const maxHeaders = 1024;

/** The value as it is, with the record's headers: what programs that know no envelope write. */
export function rawMessage(topic: string, record: KafkaRecord): BrokerMessage {
  const header = new Metadata();
  copyHeaders(record, header);
  if (!header.has("Micro-Topic")) header.keep("Micro-Topic", topic);
  if (!header.has("Content-Type")) header.set("Content-Type", "application/json");
  return { header, body: record.value ?? new Uint8Array(0) };
}

/**
 * Envelope or raw value, as go-micro v4's plugin reads them; record headers count before those of the envelope.
 * @throws {MicroError} `codec` for an envelope that is broken, and for more than 1024 headers.
 */
export function readRecord(topic: string, record: KafkaRecord): BrokerMessage {
  if (Object.keys(record.headers ?? {}).length > maxHeaders)
    throw new MicroError(`broker kafka: record ${record.offset} of ${topic}: more than ${maxHeaders} headers`, {
      id: source,
      code: "codec",
    });
  if (record.value === null || !isEnvelope(record.value)) return rawMessage(topic, record);
  try {
    const message = decodeEnvelope(record.value);
    copyHeaders(record, message.header);
    return message;
  } catch (cause) {
    throw new MicroError(
      `broker kafka: record ${record.offset} of ${topic}: ${cause instanceof Error ? cause.message : String(cause)}`,
      { id: source, code: "codec", cause },
    );
  }
}

function copyHeaders({ headers }: KafkaRecord, into: Metadata): void {
  if (headers === undefined) return;
  for (const name of Object.keys(headers).slice(0, maxHeaders)) {
    const given = headers[name];
    const value = Array.isArray(given) ? given.at(-1) : given;
    if (name !== "" && value !== undefined && value !== null) into.keep(name, value.toString());
  }
}
