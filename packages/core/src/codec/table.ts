/** Which codec a content type picks, and the two functions by which client and server use one. */
import type { MessageType } from "../definition.ts";
import { bytesCodec } from "./bytes.ts";
import { Frame, type Codec, type CodecTable } from "./codec.ts";
import { grpcJsonCodec, grpcProtoCodec } from "./grpc.ts";
import { jsonCodec } from "./json.ts";
import { jsonrpcCodec } from "./jsonrpc.ts";
import { protoCodec } from "./proto.ts";
import { protorpcCodec } from "./protorpc.ts";
import { textCodec } from "./text.ts";

/**
 * Codecs by content type. The match is exact, as in Go: a type with parameters (`; charset=utf-8`) is unknown.
 * Go's table (`server/rpc_codec.go`), and `text/plain` beside it.
 */
export const defaultCodecs: ReadonlyMap<string, Codec> = new Map([
  ["application/json", jsonCodec],
  ["application/protobuf", protoCodec],
  ["application/json-rpc", jsonrpcCodec],
  ["application/proto-rpc", protorpcCodec],
  ["application/octet-stream", bytesCodec],
  ["application/grpc", grpcProtoCodec],
  ["application/grpc+proto", grpcProtoCodec],
  ["application/grpc+json", grpcJsonCodec],
  ["text/plain", textCodec],
]);

/**
 * Codecs of messages in the old protocol, whose endpoint is in the body; other types are looked up in the usual
 * table. Go's `setupProtocol` (`server/rpc_codec.go`, `client/rpc_codec.go`).
 */
export const oldProtocolCodecs: ReadonlyMap<string, Codec> = new Map([
  ["application/json", jsonrpcCodec],
  ["application/json-rpc", jsonrpcCodec],
  ["application/protobuf", protorpcCodec],
  ["application/proto-rpc", protorpcCodec],
  ["application/octet-stream", protorpcCodec],
]);

/**
 * The content type under which a message goes to a node without `protocol` metadata. `application/octet-stream` keeps
 * its name, and takes its codec from {@link oldProtocolCodecs} like the others.
 */
export function oldProtocolContentType(contentType: string): string {
  if (contentType === "application/json") return "application/json-rpc";
  if (contentType === "application/protobuf") return "application/proto-rpc";
  return contentType;
}

/** The default table with `custom` over it. @throws {TypeError} for an entry that is not a codec. */
export function codecTable(custom?: CodecTable): ReadonlyMap<string, Codec> {
  if (custom === undefined) return defaultCodecs;
  const table = new Map(defaultCodecs);
  const entries = isMap(custom) ? custom : Object.entries(custom);
  for (const [contentType, codec] of entries) {
    if (contentType === "") throw new TypeError("codecs: a content type is empty");
    const { name, encode, decode } = (codec ?? {}) as Partial<Codec>;
    if (typeof name !== "string" || typeof encode !== "function" || typeof decode !== "function")
      throw new TypeError(`codecs: the entry for ${JSON.stringify(contentType)} needs name, encode and decode`);
    table.set(contentType, codec);
  }
  return table;
}

function isMap(table: CodecTable): table is ReadonlyMap<string, Codec> {
  return table instanceof Map;
}

/** Stands where a message type is asked for, and makes {@link decodeMessage} hand over the bytes as a {@link Frame}. */
export const frameType: MessageType<Frame> = Object.freeze({ name: "Frame" });

/** Encode a message; a {@link Frame} bypasses the codec, and its bytes are not copied. */
export function encodeMessage(codec: Codec, message: unknown, type: MessageType | undefined): Uint8Array {
  return message instanceof Frame ? message.data : codec.encode(message, type);
}

/** Decode a message; with {@link frameType} the body bypasses the codec. */
export function decodeMessage(codec: Codec, body: Uint8Array, type: MessageType | undefined): unknown {
  return type === frameType ? new Frame(body) : codec.decode(body, type);
}
