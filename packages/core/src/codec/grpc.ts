/** gRPC's message framing as a codec, as Go's `codec/grpc` offers it over the http transport. */
import type { MessageType } from "../definition.ts";
import { MicroError } from "../errors.ts";
import type { Codec } from "./codec.ts";
import { jsonCodec } from "./json.ts";
import { protoCodec } from "./proto.ts";

/** Go reads no larger message (`codec/grpc/util.go`). */
const maxBytes = 4 * 1024 * 1024;

function framed(name: string, inner: Codec): Codec {
  const failure = (detail: string): MicroError => new MicroError(detail, { id: `codec.${name}`, code: "codec" });
  return {
    name,
    encode(message: unknown, type: MessageType | undefined) {
      const data = inner.encode(message, type);
      if (data.length === 0) return data; // Go writes no prefix either.
      if (data.length > maxBytes) throw failure(`a message of ${data.length} bytes exceeds ${maxBytes}`);
      const frame = Buffer.allocUnsafe(5 + data.length);
      frame[0] = 0;
      frame.writeUInt32BE(data.length, 1);
      frame.set(data, 5);
      return frame;
    },
    decode(body: Uint8Array, type: MessageType | undefined) {
      if (body.length === 0) return inner.decode(body, type);
      if (body.length < 5) throw failure("the body is shorter than a frame's prefix");
      if (body[0] !== 0) throw failure("the message is compressed, which this content type does not support here");
      const size = new DataView(body.buffer, body.byteOffset, body.byteLength).getUint32(1);
      if (size > maxBytes) throw failure(`a message of ${size} bytes exceeds ${maxBytes}`);
      if (size !== body.length - 5) throw failure(`the frame says ${size} bytes, the body has ${body.length - 5}`);
      return inner.decode(body.subarray(5), type);
    },
  };
}

/** For content types `application/grpc` and `application/grpc+proto`: a 5-byte prefix, then protobuf; at most 4 MiB. */
export const grpcProtoCodec: Codec = framed("grpc", protoCodec);

/** For content type `application/grpc+json`: a 5-byte prefix, then JSON; at most 4 MiB. */
export const grpcJsonCodec: Codec = framed("grpc+json", jsonCodec);
