/** How the messages of one content type are written for a node, and what its replies mean. */
import { Frame, type Codec, type EnvelopeFormat } from "../codec/codec.ts";
import { decodeMessage, encodeMessage, frameType, oldProtocolCodecs, oldProtocolContentType } from "../codec/table.ts";
import type { MessageType } from "../definition.ts";
import { MicroError, parse } from "../errors.ts";
import { WrongServiceError } from "../selector/wrong-service.ts";
import type { ExchangeMessage } from "../transport/transport.ts";
import { clientId } from "./deadline.ts";

/** Id of errors of encoding and decoding, as in Go (`client/rpc_codec.go`). */
export const codecId = "go.micro.client.codec";
/** Id of errors of go-micro's servers that name no service. */
const serverId = "go.micro.server";

/** A content type on the wire, with its codec. */
export interface Wire {
  readonly contentType: string;
  /** What the caller asked for, where an old-protocol node made it another. */
  readonly accept: string | undefined;
  readonly codec: Codec;
}

/** Wires by content type, made once each: for nodes of the current protocol and of the old one. */
export class Wires {
  readonly #codecs: ReadonlyMap<string, Codec>;
  readonly #current = new Map<string, Wire>();
  readonly #old = new Map<string, Wire>();
  #envelopeId = 0;

  constructor(codecs: ReadonlyMap<string, Codec>) {
    this.#codecs = codecs;
  }

  /** @throws {MicroError} `codec` for a content type without a codec. */
  current(contentType: string): Wire {
    const known = this.#current.get(contentType);
    if (known !== undefined) return known;
    const wire = { contentType, accept: undefined, codec: this.#codec(contentType) };
    this.#current.set(contentType, wire);
    return wire;
  }

  /** For a node without `protocol` metadata (`setupProtocol` of Go's `client/rpc_codec.go`). */
  old(contentType: string): Wire {
    const known = this.#old.get(contentType);
    if (known !== undefined) return known;
    const sent = oldProtocolContentType(contentType);
    const codec = oldProtocolCodecs.get(contentType) ?? this.#codec(contentType);
    const wire = { contentType: sent, accept: contentType, codec };
    this.#old.set(contentType, wire);
    return wire;
  }

  /** The body of a message; envelope codecs get the endpoint and an id of this client. */
  encode(wire: Wire, endpoint: string, message: unknown, type: MessageType | undefined): Uint8Array {
    const codec = wire.codec;
    try {
      const payload = encodeMessage(codec, message, type);
      if (codec.envelope === undefined || message instanceof Frame) return payload;
      const id = String(this.#envelopeId++);
      return codec.envelope.wrap(payload, { kind: "request", endpoint, id, error: undefined });
    } catch (cause) {
      throw codecError(`the request of ${endpoint} cannot be encoded`, cause);
    }
  }

  /** As {@link encode}, as text; undefined for what has to be bytes. */
  encodeText(wire: Wire, endpoint: string, message: unknown, type: MessageType | undefined): string | undefined {
    const { codec } = wire;
    if (codec.encodeText === undefined || codec.envelope !== undefined || message instanceof Frame) return undefined;
    try {
      return codec.encodeText(message, type);
    } catch (cause) {
      throw codecError(`the request of ${endpoint} cannot be encoded`, cause);
    }
  }

  #codec(contentType: string): Codec {
    const codec = this.#codecs.get(contentType);
    if (codec === undefined)
      throw new MicroError(`unsupported Content-Type: ${contentType}`, { id: clientId, code: "codec" });
    return codec;
  }
}

/** The type to decode a reply with: bytes sent as a frame are answered with one, where no definition says otherwise. */
export function replyType(request: unknown, type: MessageType | undefined): MessageType | undefined {
  return type === undefined && request instanceof Frame ? frameType : type;
}

/** An error the peer answered with. `refused`: the node takes no calls now, or never took those of this service; another one may. */
export interface PeerError {
  readonly error: MicroError;
  readonly refused: boolean;
}

/** What is called, and where, for telling a refusal of another service's process from one of the service itself. */
export interface Called {
  /** The service, if its node was looked up; undefined for an address. */
  readonly lookedUpService: string | undefined;
  /** Call and node, for error texts. */
  toString(): string;
}

/** The error in a reply, if any: in the header, or in the envelope of an old-protocol node. */
export function peerError(wire: Wire, message: ExchangeMessage, called: Called): PeerError | undefined {
  const envelope = wire.codec.envelope;
  const text = message.error ?? (envelope === undefined ? undefined : envelopeError(envelope, message.body));
  if (text === undefined && !message.notRun) return undefined;
  const error = parse(text ?? "");
  if (!message.notRun) return { error: isDeadline(error) ? deadlineError(error.detail) : error, refused: false };
  const detail = error.detail === "" ? "the node refused the call" : error.detail;
  if (isOfAnother(called.lookedUpService, error.id)) {
    const cause = new WrongServiceError(detail);
    return {
      error: new MicroError(`${called.toString()}: ${detail}`, {
        id: error.id,
        code: "unavailable",
        notRun: true,
        cause,
      }),
      refused: true,
    };
  }
  return {
    error: new MicroError(detail, { id: error.id, code: "unavailable", notRun: true }),
    // Draining servers answer 408, the code both generations of Go clients retry; full ones 503.
    refused: error.statusCode === 408,
  };
}

/** A refusal bears the name of the service that refuses: another one than was called has the port of a stale record. */
function isOfAnother(service: string | undefined, id: string): boolean {
  return service !== undefined && id !== "" && id !== service && id !== clientId && id !== serverId;
}

/** A Go handler whose deadline passed answers with the bare text of `context.DeadlineExceeded`, often before our own timer. */
function isDeadline(error: MicroError): boolean {
  return error.statusCode === 0 && error.detail === "context deadline exceeded";
}

function deadlineError(detail: string): MicroError {
  return new MicroError(detail, { id: clientId, code: "timeout" });
}

function envelopeError(envelope: EnvelopeFormat, body: Uint8Array): string | undefined {
  try {
    return envelope.unwrap(body, "response").envelope.error;
  } catch {
    return undefined; // Decoding the message will tell what is wrong with it.
  }
}

/**
 * The message of a reply that {@link peerError} found no error in.
 * @throws {MicroError} `codec` with the id `go.micro.client.codec`; `where` names the call and the node.
 */
export function decodeReply(
  wire: Wire,
  message: ExchangeMessage,
  type: MessageType | undefined,
  where: { toString(): string },
): unknown {
  const { codec, contentType } = wire;
  const readsText = codec.decodeText !== undefined && codec.envelope === undefined && type !== frameType;
  const text = readsText ? message.text?.() : undefined;
  // An empty body is a mistake, and Go's text that begins like this is no answer: both are told below.
  if (text !== undefined && text !== "" && text[0] !== "u" && text[0] !== "U") {
    try {
      return codec.decodeText!(text, type);
    } catch (cause) {
      throw codecError(`the answer of ${where.toString()} cannot be decoded`, cause);
    }
  }
  const body = message.body;
  // Go answers an unknown content type with a text and no error ("Unsupported", newest "unsupported").
  if ((body[0] === 0x75 || body[0] === 0x55) && isUnsupported(message, contentType))
    throw new MicroError(`unsupported Content-Type: ${contentType}, says ${where.toString()}`, {
      id: codecId,
      code: "codec",
    });
  try {
    if (codec.envelope !== undefined && type !== frameType)
      return decodeMessage(codec, codec.envelope.unwrap(body, "response").payload, type);
    if (body.length === 0 && contentType === "application/json" && type !== frameType)
      throw new MicroError("EOF: the body is empty, a JSON value was expected", { code: "codec" });
    return decodeMessage(codec, body, type);
  } catch (cause) {
    throw codecError(`the answer of ${where.toString()} cannot be decoded`, cause);
  }
}

function isUnsupported({ contentType, body }: ExchangeMessage, asked: string): boolean {
  const rest = `nsupported Content-Type: ${asked}`;
  return (
    contentType === "text/plain" &&
    body.length === rest.length + 1 &&
    Buffer.from(body.subarray(1)).toString("latin1") === rest
  );
}

function codecError(what: string, cause: unknown): MicroError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new MicroError(`${what}: ${reason}`, { id: codecId, code: "codec", cause });
}
