/**
 * The proto-rpc codec: protobuf in two netstrings, the first an envelope message, as Go's `codec/protorpc` has it.
 *
 * `Request { string service_method = 1; fixed64 seq = 2; }`,
 * `Response { string service_method = 1; fixed64 seq = 2; string error = 3; }`.
 */
import { MicroError } from "../errors.ts";
import type { Codec, EnvelopeFormat } from "./codec.ts";
import { utf8Text } from "./json-text.ts";
import { protoCodec } from "./proto.ts";

const id = "codec.protorpc";

const envelopeFormat: EnvelopeFormat = {
  wrap(payload, { kind, endpoint, id: callId, error }) {
    const head = [...stringField(1, endpoint), ...seqField(callId)];
    if (kind === "response" && error !== undefined) head.push(...stringField(3, error));
    const envelope = Buffer.concat(head);
    const message = payload === undefined || error !== undefined ? Buffer.alloc(0) : payload;
    return Buffer.concat([length(envelope), envelope, length(message), message]);
  },

  unwrap(body, kind) {
    if (body.length === 0) throw failure("the body is empty, a proto-rpc envelope was expected");
    const head = netstring(body, 0);
    const message = netstring(body, head.end);
    if (message.end !== body.length) throw failure(`${body.length - message.end} bytes too many after the message`);
    const { endpoint, seq, error } = readEnvelope(head.data);
    return {
      envelope: { kind, endpoint, id: seq.toString(), error: kind === "response" && error !== "" ? error : undefined },
      payload: message.data,
    };
  },
};

/** Proto-RPC, for content type `application/proto-rpc`. `encode` and `decode` are the proto codec's; see `envelope`. */
export const protorpcCodec: Codec = { ...protoCodec, name: "protorpc", envelope: envelopeFormat };

function failure(detail: string): MicroError {
  return new MicroError(detail, { id, code: "codec" });
}

function length(data: Uint8Array): Buffer {
  const prefix = Buffer.allocUnsafe(4);
  prefix.writeUInt32BE(data.length);
  return prefix;
}

function netstring(body: Uint8Array, start: number): { data: Uint8Array; end: number } {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  if (start + 4 > body.length) throw failure(`the body ends inside a length at offset ${start}`);
  const end = start + 4 + view.getUint32(start);
  if (end > body.length) throw failure(`a length of ${end - start - 4} bytes at offset ${start} exceeds the body`);
  return { data: body.subarray(start + 4, end), end };
}

function stringField(number: number, text: string): Buffer[] {
  if (text === "") return [];
  const data = Buffer.from(text);
  return [Buffer.from([(number << 3) | 2, ...varint(data.length)]), data];
}

/** Go parses the id as a signed decimal; what is none counts as 0, and proto3 leaves 0 out. */
function seqField(callId: string): Buffer[] {
  const seq = /^[+-]?\d{1,19}$/.test(callId) ? BigInt(callId.replace(/^\+/, "")) : 0n;
  if (seq === 0n || BigInt.asIntN(64, seq) !== seq) return [];
  const field = Buffer.alloc(9);
  field[0] = (2 << 3) | 1;
  field.writeBigInt64LE(seq, 1);
  return [field];
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 0x7f; value = Math.floor(value / 128)) bytes.push((value % 128) | 0x80);
  bytes.push(value);
  return bytes;
}

function readEnvelope(data: Uint8Array): { endpoint: string; seq: bigint; error: string } {
  const found = { endpoint: "", seq: 0n, error: "" };
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let offset = 0;
  const take = (count: number): number => {
    const start = offset;
    if (count > data.length - start) throw failure("the envelope is cut short");
    offset += count;
    return start;
  };
  const readVarint = (): number => {
    let value = 0;
    for (let shift = 1, count = 0; count < 10; count++, shift *= 128) {
      const byte = data[take(1)]!;
      value += (byte & 0x7f) * shift;
      if (byte < 0x80) return value;
    }
    throw failure("the envelope holds a number longer than 10 bytes");
  };
  while (offset < data.length) {
    const tag = readVarint();
    const field = Math.floor(tag / 8);
    const wireType = tag % 8;
    if (wireType === 0) readVarint();
    else if (wireType === 1) {
      const start = take(8);
      if (field === 2) found.seq = view.getBigInt64(start, true);
    } else if (wireType === 2) {
      const size = readVarint();
      const start = take(size);
      if (field === 1) found.endpoint = utf8Text(id, data.subarray(start, start + size));
      else if (field === 3) found.error = utf8Text(id, data.subarray(start, start + size));
    } else if (wireType === 5) take(4);
    else throw failure(`the envelope holds a field of wire type ${wireType}`);
  }
  return found;
}
