/**
 * Codecs turn one message into bytes and back; the content type of a message picks one.
 *
 * Codecs with an envelope (json-rpc, proto-rpc) also carry endpoint, id and error inside the body.
 */
import type { MessageType } from "../definition.ts";

/** What an envelope carries beside the message. */
export interface Envelope {
  readonly kind: "request" | "response";
  /** `Type.Method`; json-rpc responses have none. */
  readonly endpoint: string;
  /** The exchange's id, as text. Default on reading: empty. */
  readonly id: string;
  /** Error text of a response; undefined on success. */
  readonly error: string | undefined;
}

export interface EnvelopeFormat {
  /** Put an encoded message (undefined for an error response) into an envelope. */
  wrap(payload: Uint8Array | undefined, envelope: Envelope): Uint8Array;
  /** Take it out again. @throws {MicroError} `codec` when the bytes are no envelope. */
  unwrap(body: Uint8Array, kind: Envelope["kind"]): { readonly envelope: Envelope; readonly payload: Uint8Array };
}

/** What a codec plugin implements. Stateless: one instance serves all exchanges. */
export interface Codec {
  /** E.g. `json`. */
  readonly name: string;
  /**
   * @param type describes the message where a definition is known; undefined for calls by name.
   * @throws {MicroError} `codec` saying what cannot be encoded.
   */
  encode(message: unknown, type: MessageType | undefined): Uint8Array;
  /** @throws {MicroError} `codec` saying where the bytes are wrong. Never touches a prototype. */
  decode(body: Uint8Array, type: MessageType | undefined): unknown;
  /** As `encode`, as text that is the body in UTF-8. Optional: a transport may write it in place. */
  encodeText?(message: unknown, type: MessageType | undefined): string;
  /** As `decode`, for a body that a transport has as text already. Optional: spares the way over bytes. */
  decodeText?(text: string, type: MessageType | undefined): unknown;
  readonly envelope?: EnvelopeFormat | undefined;
}

/** Bytes that bypass the codec both ways, whatever the content type. Go's `bytes.Frame`. */
export class Frame {
  readonly data: Uint8Array;
  constructor(data: Uint8Array) {
    this.data = data;
  }
}

/** Codecs by exact content type; entries replace defaults of the same type. */
export type CodecTable = Readonly<Record<string, Codec>> | ReadonlyMap<string, Codec>;
