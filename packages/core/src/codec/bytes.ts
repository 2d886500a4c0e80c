/** The bytes codec: the body is the message. */
import { MicroError } from "../errors.ts";
import type { Codec } from "./codec.ts";
import { isPromise } from "./json-lost.ts";

/**
 * Bytes, for content type `application/octet-stream`. Writing takes a `Uint8Array` and copies it, so that the caller
 * may reuse it at once (a `Frame` is sent without a copy); reading gives the body as it is.
 */
export const bytesCodec: Codec = {
  name: "bytes",
  encode(message) {
    if (message === undefined) return Buffer.alloc(0);
    if (message instanceof Uint8Array) return Buffer.from(message);
    if (message instanceof ArrayBuffer) return Buffer.from(new Uint8Array(message));
    throw new MicroError(`the bytes codec takes a Uint8Array, not ${describe(message)}`, {
      id: "codec.bytes",
      code: "codec",
    });
  },
  decode(body) {
    return body;
  },
};

/** @internal What a value is, for messages. */
export function describe(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (isPromise(value)) return "a promise: did you forget an await?";
  return `${typeof value === "object" ? "an" : "a"} ${typeof value}`;
}
