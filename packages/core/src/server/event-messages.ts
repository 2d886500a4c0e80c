/** Events on the wire: which codec reads one, and what a handler gets of it. */
import { bytesCodec } from "../codec/bytes.ts";
import { Frame, type Codec } from "../codec/codec.ts";
import { grpcJsonCodec, grpcProtoCodec } from "../codec/grpc.ts";
import { jsonCodec } from "../codec/json.ts";
import { protoCodec } from "../codec/proto.ts";
import { defaultCodecs, frameType } from "../codec/table.ts";
import type { MessageType } from "../definition.ts";
import { MicroError } from "../errors.ts";
import type { NamedTopic } from "../topic.ts";
import { decodePayload } from "./messages.ts";

/** Reads the events of one server. */
export class EventReader {
  readonly #service: string;
  readonly #codecs: ReadonlyMap<string, Codec>;
  readonly #defaultContentType: string;

  constructor(service: string, codecs: ReadonlyMap<string, Codec>, defaultContentType: string) {
    this.#service = service;
    this.#codecs = codecs;
    this.#defaultContentType = defaultContentType;
  }

  /** @throws {MicroError} `bad_request` naming the topic: the event would fail again. */
  decode(topic: NamedTopic, contentType: string, body: Uint8Array): unknown {
    const type = topic.definition?.message;
    if (type === frameType) return new Frame(body);
    const given = contentType === "" ? this.#assumed(topic) : contentType;
    const codec = this.#codecs.get(given);
    if (codec === undefined)
      throw this.refusal(topic.name, `unsupported Content-Type: ${given.slice(0, 256)}`, undefined);
    const actual = actualCodec(given, codec, body, type);
    try {
      return decodePayload(actual, body, type);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      const missing = contentType === "" ? ` (it has no Content-Type, ${given} is assumed)` : "";
      throw this.refusal(topic.name, `the message cannot be decoded: ${reason}${missing}`, cause);
    }
  }

  /** Check a decoded message. @throws {MicroError} or rejects with `bad_request` naming topic and field. */
  check(topic: NamedTopic, message: unknown): unknown {
    const validate = topic.definition?.message.validate;
    if (validate === undefined) return message;
    let checked: unknown;
    try {
      checked = validate(message);
    } catch (cause) {
      throw this.#invalid(topic.name, cause);
    }
    if (!(checked instanceof Promise)) return checked;
    return checked.catch((cause: unknown) => {
      throw this.#invalid(topic.name, cause);
    });
  }

  #invalid(topic: string, cause: unknown): MicroError {
    return this.refusal(topic, cause instanceof Error ? cause.message : String(cause), cause);
  }

  refusal(topic: string, reason: string, cause: unknown): MicroError {
    const issues = MicroError.is(cause) ? cause.issues : undefined;
    return new MicroError(`topic ${topic}: ${reason}`, { id: this.#service, code: "bad_request", cause, issues });
  }

  /** Go's servers assume protobuf; of a message that has no such form, what its topic says is the better guess. */
  #assumed({ definition }: NamedTopic): string {
    return definition === undefined || definition.message.binary !== undefined
      ? this.#defaultContentType
      : definition.contentType;
  }
}

/**
 * The codec that fits the bytes. go-micro's gRPC client, the default of v2, publishes without the prefix of its content
 * types, which its mucp client writes; and it means protobuf by `application/octet-stream` (`client/grpc/codec.go`).
 */
function actualCodec(contentType: string, codec: Codec, body: Uint8Array, type: MessageType | undefined): Codec {
  if (codec === bytesCodec) return type?.binary === undefined ? codec : protoCodec;
  if (codec !== defaultCodecs.get(contentType) || !contentType.startsWith("application/grpc")) return codec;
  if (isFramed(body)) return codec === grpcJsonCodec && type?.binary !== undefined ? framedJsonOrProto : codec;
  return contentType === "application/grpc+json" ? jsonCodec : protoCodec;
}

/**
 * go-micro's mucp clients publish `application/grpc+json` with protobuf in the frame, and its servers read it so: no header
 * tells their codec of the type (`codec/grpc/grpc.go`). This library writes what the type says. A JSON object begins with
 * a brace, which in protobuf would begin a group; where blanks come first, as the first byte of most protobuf messages
 * is one, too, what can be read decides.
 */
const framedJsonOrProto: Codec = {
  ...grpcJsonCodec,
  decode(body, type) {
    const first = body[5];
    if (first === 0x7b || body.length <= 5) return grpcJsonCodec.decode(body, type);
    if (isBlank(first) && body.subarray(5).find((byte) => !isBlank(byte)) === 0x7b) {
      try {
        return grpcJsonCodec.decode(body, type);
      } catch {
        // It is a message whose first field has the length of a brace.
      }
    }
    return grpcProtoCodec.decode(body, type);
  },
};

function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/** Neither protobuf nor JSON can begin with a zero byte. */
function isFramed(body: Uint8Array): boolean {
  return body.length === 0 || body[0] === 0;
}
