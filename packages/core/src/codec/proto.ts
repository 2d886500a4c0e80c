/** The proto codec: protobuf bytes without a frame. */
import type { Codec } from "./codec.ts";
import type { MessageType } from "../definition.ts";
import { MicroError } from "../errors.ts";
import { decodeError, encodeError } from "./json.ts";

/**
 * Protobuf, for content type `application/protobuf`. Only a definition knows the fields; a `Uint8Array` passed
 * without one is sent as an encoded message.
 */
export const protoCodec: Codec = {
  name: "proto",
  encode(message, type) {
    if (type?.binary === undefined) {
      if (message instanceof Uint8Array) return Buffer.from(message);
      throw noBinary(type, "encode");
    }
    try {
      return type.binary.encode(message);
    } catch (cause) {
      throw encodeError("proto", type, cause);
    }
  },
  decode(body, type) {
    if (type?.binary === undefined) throw noBinary(type, "decode");
    try {
      // Fields of type bytes are views of what the decoder is given: of a Buffer they would be Buffers.
      return type.binary.decode(
        Buffer.isBuffer(body) ? new Uint8Array(body.buffer, body.byteOffset, body.byteLength) : body,
      );
    } catch (cause) {
      throw decodeError("proto", type, cause);
    }
  },
};

function noBinary(type: MessageType | undefined, what: string): MicroError {
  const detail =
    type === undefined
      ? `cannot ${what} protobuf in a call by name: call with a definition made from a .proto file, pass a Frame, or use content type application/json`
      : `cannot ${what} ${type.name} as protobuf: its definition has no protobuf form; use content type application/json`;
  return new MicroError(detail, { id: "codec.proto", code: "codec" });
}
