/** The json-rpc codec: JSON in the envelope of JSON-RPC 1.0, as Go's `codec/jsonrpc` writes and reads it. */
import { MicroError } from "../errors.ts";
import type { Codec, EnvelopeFormat } from "./codec.ts";
import { jsonCodec } from "./json.ts";
import { jsonMembers, parseJsonText, utf8Text } from "./json-text.ts";

const id = "codec.jsonrpc";
const noPayload = Buffer.from("null");

const envelope: EnvelopeFormat = {
  wrap(payload, { kind, endpoint, id: callId, error }) {
    const value = payload === undefined || payload.length === 0 || error !== undefined ? noPayload : trimmed(payload);
    const [before, after] =
      kind === "request"
        ? [`{"method":${JSON.stringify(endpoint)},"params":[`, `],"id":${JSON.stringify(callId)}}\n`]
        : [
            `{"id":${JSON.stringify(callId)},"result":`,
            `,"error":${error === undefined ? "null" : JSON.stringify(error)}}\n`,
          ];
    return Buffer.concat([Buffer.from(before), value, Buffer.from(after)]);
  },

  unwrap(body, kind) {
    if (body.length === 0) throw failure("the body is empty, a json-rpc envelope was expected");
    // Go matches the names in any case, and of a repeated one takes the last.
    const members = new Map(jsonMembers(id, body).map(({ key, value }) => [key.toLowerCase(), value]));
    if (kind === "request") {
      const params = members.get("params");
      if (params === undefined) throw failure("the request has no `params`");
      if (params[0] !== 0x5b) throw failure("`params` is not an array");
      return {
        envelope: {
          kind,
          endpoint: text(members.get("method"), "method"),
          id: idText(members.get("id")),
          error: undefined,
        },
        payload: payloadOf(jsonMembers(id, params, 1)[0]?.value),
      };
    }
    const error = errorText(members.get("error"));
    if (error === undefined && !members.has("result")) throw failure("the response has neither `result` nor `error`");
    return {
      envelope: { kind, endpoint: "", id: idText(members.get("id")), error },
      payload: error === undefined ? members.get("result")! : Buffer.alloc(0),
    };
  },
};

/** JSON-RPC, for content type `application/json-rpc`. `encode` and `decode` are the json codec's; see `envelope`. */
export const jsonrpcCodec: Codec = { ...jsonCodec, name: "jsonrpc", envelope };

function failure(detail: string): MicroError {
  return new MicroError(detail, { id, code: "codec" });
}

/** An encoded message without the newline of the json codec. */
function trimmed(payload: Uint8Array): Uint8Array {
  return payload[payload.length - 1] === 0x0a ? payload.subarray(0, -1) : payload;
}

/** Go sends `null` for a call without a message: that is no payload. */
function payloadOf(value: Uint8Array | undefined): Uint8Array {
  return value === undefined || noPayload.equals(value) ? Buffer.alloc(0) : value;
}

function parsed(value: Uint8Array | undefined): unknown {
  return value === undefined ? null : parseJsonText(id, utf8Text(id, value));
}

function text(value: Uint8Array | undefined, name: string): string {
  const found = parsed(value) ?? "";
  if (typeof found !== "string") throw failure(`\`${name}\` is not a string`);
  return found;
}

/** Ids of any type are kept as text. */
function idText(value: Uint8Array | undefined): string {
  const found = parsed(value);
  if (found === null) return "";
  return typeof found === "string" ? found : Buffer.from(value!).toString();
}

/** The error of a response: null is none; an empty text is `unspecified error`, as in Go; an object stays JSON. */
function errorText(value: Uint8Array | undefined): string | undefined {
  const found = parsed(value);
  if (found === null) return undefined;
  if (found === "") return "unspecified error";
  return typeof found === "string" ? found : Buffer.from(value!).toString();
}
