/** Messages of one exchange: bytes to checked message and back. */
import { Frame, type Codec } from "../codec/codec.ts";
import { decodeMessage, encodeMessage } from "../codec/table.ts";
import type { MessageType } from "../definition.ts";
import { MicroError, badRequest } from "../errors.ts";
import { HandlerFault } from "./handler-fault.ts";

export const noBytes: Uint8Array = new Uint8Array(0);

/** What Go's content type default is when a request has none (`server/rpc_server.go`). */
export const defaultContentType = "application/protobuf";

/** How the messages of one exchange are written. */
export interface MessageFormat {
  readonly codec: Codec;
  readonly contentType: string;
  /** The peer's id of the exchange, for codecs with an envelope. */
  readonly envelopeId: string;
}

/** The message an empty body stands for: Go never decodes one and leaves the argument at its zero value. */
function emptyMessage(codec: Codec, type: MessageType | undefined): unknown {
  if (type?.binary !== undefined) return type.binary.decode(noBytes);
  if (type?.json !== undefined) return type.json.decode({});
  if (codec.name === "bytes" || codec.name === "text") return codec.decode(noBytes, type);
  return {};
}

/** No body; or the `null` that Go sends for a nil request, which leaves Go's argument at its zero value as well. */
function isEmpty(codec: Codec, payload: Uint8Array, type: MessageType | undefined): boolean {
  if (payload.length === 0) return true;
  if (payload[0] !== 0x6e || payload.length > 5 || codec.name !== "json" || type?.validate !== undefined) return false;
  return Buffer.from(payload).toString().trim() === "null";
}

/** Decode a message, an empty one included. @throws whatever the codec throws. */
export function decodePayload(codec: Codec, payload: Uint8Array, type: MessageType | undefined): unknown {
  return isEmpty(codec, payload, type) ? emptyMessage(codec, type) : decodeMessage(codec, payload, type);
}

/**
 * Decode a message of the caller. @throws {MicroError} 400 of `service` when the bytes are wrong.
 */
export function decodeRequest(
  codec: Codec,
  payload: Uint8Array,
  type: MessageType | undefined,
  service: string,
): unknown {
  try {
    return decodePayload(codec, payload, type);
  } catch (error) {
    throw undecodable(service, error);
  }
}

/** The 400 for a body that cannot be read; the text begins as Go's (`server/rpc_router.go`). */
export function undecodable(service: string, error: unknown): MicroError {
  const reason = error instanceof Error ? error.message : String(error);
  return new MicroError(`rpc: router cannot decode request: ${reason}`, {
    id: service,
    code: "bad_request",
    cause: error,
  });
}

/** The 413 for a message the port lets in, and this endpoint does not take. */
export function tooLarge(service: string, endpoint: string, limit: number): MicroError {
  return new MicroError(`${endpoint} takes messages of at most ${limit} bytes`, { id: service, code: "too_large" });
}

/** The 400 for a message its type refuses. */
export function invalid(service: string, error: unknown): MicroError {
  if (!MicroError.is(error)) return badRequest(service, error instanceof Error ? error.message : String(error));
  if (error.id !== "" && error.statusCode !== 0) return error;
  return new MicroError(error.detail, {
    id: error.id === "" ? service : error.id,
    statusCode: error.statusCode === 0 ? 400 : error.statusCode,
    issues: error.issues,
    cause: error,
  });
}

/** Encode what a handler gave; undefined is the empty message, but where its type requires one. @throws {MicroError} 500 of `service`. */
export function encodeResult(
  codec: Codec,
  message: unknown,
  type: MessageType | undefined,
  service: string,
): Uint8Array {
  try {
    return encodeMessage(codec, orEmpty(codec, message, type), type);
  } catch (error) {
    throw unencodable(error, service);
  }
}

/** As {@link encodeResult}, as text; undefined for what has to be bytes. */
export function encodeResultText(
  codec: Codec,
  message: unknown,
  type: MessageType | undefined,
  service: string,
): string | undefined {
  if (codec.encodeText === undefined || codec.envelope !== undefined || message instanceof Frame) return undefined;
  try {
    return codec.encodeText(orEmpty(codec, message, type), type);
  } catch (error) {
    throw unencodable(error, service);
  }
}

function orEmpty(codec: Codec, message: unknown, type: MessageType | undefined): unknown {
  // A validator has let null pass as what it is.
  const nothing = message === undefined || (message === null && type !== undefined && type.validate === undefined);
  if (nothing && type?.required === true)
    throw new TypeError(
      `the handler answered ${String(message)}: it has to return its ${type.name}, {} for one with nothing set`,
    );
  return nothing ? emptyMessage(codec, type) : message;
}

function unencodable(error: unknown, service: string): MicroError {
  const reason = error instanceof Error ? error.message : String(error);
  return new HandlerFault(`Unable to encode body: ${reason}`, { id: service, code: "internal", cause: error });
}

/** Check a message on its way out. @returns what its type makes of it, or a promise of that. */
export function checkResult(
  message: unknown,
  type: MessageType | undefined,
  service: string,
  endpoint: string,
): unknown {
  if (type?.validate === undefined) return message;
  let checked: unknown;
  try {
    checked = type.validate(message === undefined ? {} : message);
  } catch (error) {
    throw invalidResponse(service, endpoint, error);
  }
  return isThenable(checked) ? settled(checked, service, endpoint) : checked;
}

async function settled(checked: PromiseLike<unknown>, service: string, endpoint: string): Promise<unknown> {
  try {
    return await checked;
  } catch (error) {
    throw invalidResponse(service, endpoint, error);
  }
}

/** A response its own type refuses is the handler's mistake, not the caller's. */
function invalidResponse(service: string, endpoint: string, error: unknown): MicroError {
  const reason = error instanceof Error ? error.message : String(error);
  return new HandlerFault(`${endpoint} gave an invalid response: ${reason}`, {
    id: service,
    code: "internal",
    cause: error,
  });
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}
