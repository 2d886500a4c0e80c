/** The text codec: the body is UTF-8 text. */
import { MicroError } from "../errors.ts";
import { describe } from "./bytes.ts";
import type { Codec } from "./codec.ts";
import { utf8Text } from "./json-text.ts";

/** Text, for content type `text/plain`. Writing takes a string or UTF-8 bytes, reading gives a string. */
export const textCodec: Codec = {
  name: "text",
  encode(message) {
    if (message === undefined) return Buffer.alloc(0);
    if (typeof message === "string") return Buffer.from(message);
    if (message instanceof Uint8Array) return Buffer.from(message);
    throw new MicroError(`the text codec takes a string, not ${describe(message)}`, {
      id: "codec.text",
      code: "codec",
    });
  },
  decode(body) {
    return utf8Text("codec.text", body);
  },
};
