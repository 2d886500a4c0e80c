/** The proto codec: protobuf bytes without a frame. */
import type { Codec } from "./codec.ts";
import type { MessageType } from "../definition.ts";
import { MicroError } from "../errors.ts";
import { checkNumber, checkOptionNames } from "../option-check.ts";
import { memoryFor } from "../proto/memory.ts";
import { decodeError, encodeError } from "./json.ts";
import { isPromise } from "./json-lost.ts";

const id = "codec.proto";

/** Settings of {@link protoCodecWith}. */
export interface ProtoCodecOptions {
  /**
   * How many bytes of memory a message may take for each byte that was sent, besides 1 MiB: an empty message of two bytes
   * takes hundreds where its type has many fields. For messages of `protoc-gen-micro`. Default: 32.
   */
  maxGrowth?: number | undefined;
}

/**
 * Protobuf, for content type `application/protobuf`. Only a definition knows the fields; a `Uint8Array` passed
 * without one is sent as an encoded message.
 */
export const protoCodec: Codec = makeCodec(undefined);

/**
 * The proto codec with a limit of its own, for messages of very many small parts:
 * `codecs: { "application/protobuf": protoCodecWith({ maxGrowth: 200 }) }`.
 * @throws {TypeError} for an option that does not exist, or a limit that is no number of 1 or more.
 */
export function protoCodecWith(options: ProtoCodecOptions): Codec {
  checkOptionNames("protoCodecWith", options, { maxGrowth: true });
  checkNumber("protoCodecWith", "maxGrowth", options.maxGrowth, { least: 1 });
  return makeCodec(options.maxGrowth);
}

function makeCodec(maxGrowth: number | undefined): Codec {
  return {
    name: "proto",
    encode(message, type) {
      if (type?.binary === undefined) {
        if (message instanceof Uint8Array) return Buffer.from(message);
        throw noBinary(type, "encode");
      }
      let body: Uint8Array;
      try {
        body = type.binary.encode(message);
      } catch (cause) {
        throw encodeError("proto", type, cause);
      }
      // Messages of ts-proto are whatever has their fields, or has none.
      if (body.length === 0 && isPromise(message))
        throw encodeError("proto", type, "a promise is no message: did you forget an await?");
      return body;
    },
    decode(body, type) {
      if (type?.binary === undefined) throw noBinary(type, "decode");
      const { buffer, byteOffset, byteLength } = body;
      let message: unknown;
      try {
        // Fields of type bytes are views of what the decoder is given: of a Buffer they would be Buffers.
        message = type.binary.decode(
          Buffer.isBuffer(body) ? new Uint8Array(buffer, byteOffset, byteLength) : body,
          maxGrowth === undefined ? undefined : { maxMemoryBytes: memoryFor(byteLength, maxGrowth) },
        );
      } catch (cause) {
        throw decodeError("proto", type, cause);
      }
      // Generated code assigns the keys of maps to plain objects, whatever they are.
      const bytes = Buffer.isBuffer(body) ? body : Buffer.from(buffer, byteOffset, byteLength);
      if (bytes.includes("__proto__") && hasForeignPrototype(message))
        throw new MicroError(`cannot decode ${type.name}: the map key "__proto__" is not allowed`, {
          id,
          code: "codec",
        });
      return message;
    },
  };
}

/** True if a plain object in the message got another prototype. */
function hasForeignPrototype(message: unknown): boolean {
  const pending: unknown[] = [message];
  while (pending.length > 0) {
    const value = pending.pop();
    if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) continue;
    const prototype = Object.getPrototypeOf(value) as object | null;
    // The prototype of a class has a constructor of its own, and no decoded message holds a function.
    if (prototype !== null && typeof Object.getOwnPropertyDescriptor(prototype, "constructor")?.value !== "function")
      return true;
    for (const member of Object.values(value)) pending.push(member);
  }
  return false;
}

function noBinary(type: MessageType | undefined, what: string): MicroError {
  const detail =
    type === undefined
      ? `cannot ${what} protobuf in a call by name: call with a definition made from a .proto file, pass a Frame, or use content type application/json`
      : `cannot ${what} ${type.name} as protobuf: its definition has no protobuf form; use content type application/json`;
  return new MicroError(detail, { id, code: "codec" });
}
