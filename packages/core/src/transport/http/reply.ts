/** A reply as the caller sees it. */
import { MicroError, parse } from "../../errors.ts";
import type { Metadata } from "../../metadata.ts";
import type { AsciiText } from "../ascii-text.ts";
import type { ExchangeMessage } from "../transport.ts";
import { transportId } from "./dial.ts";
import { decodeValue, type Head } from "./head.ts";

export class HttpReply implements ExchangeMessage {
  readonly #head: Head;
  readonly #defaultType: string;
  readonly #text: AsciiText | undefined;
  readonly #start: number;
  #header: Metadata | undefined;
  readonly error: string | undefined;
  readonly body: Uint8Array;

  /**
   * @param defaultType the content type of a message that names none.
   * @param text where the body also stands, from `start` on.
   */
  constructor(head: Head, body: Uint8Array, defaultType = "", text?: AsciiText, start = 0) {
    this.#head = head;
    this.#defaultType = defaultType;
    this.body = body;
    this.#text = text;
    this.#start = start;
    const { error } = head;
    if (error === undefined || error === "") this.error = undefined;
    else this.error = this.header.get("Micro-Error-Detail") ?? decodeValue(error);
  }

  get header(): Metadata {
    return (this.#header ??= this.#head.metadata());
  }

  text(): string | undefined {
    const text = this.#text;
    return text?.slice(this.#start, this.#start + this.body.length, text.bytes.length);
  }

  get notRun(): boolean {
    return this.#head.retry === "not-run";
  }

  get contentType(): string {
    return this.#head.contentType ?? this.#defaultType;
  }
}

/** The server could not take the request's size: it says so in go-micro's form, and closes. Undefined for all other replies. */
export function refusedSize(head: Head): MicroError | undefined {
  if (!head.close || head.error === undefined) return undefined;
  const { id, detail, statusCode } = parse(decodeValue(head.error));
  if (statusCode !== 413) return undefined;
  return new MicroError(detail, { id, code: "too_large", statusCode });
}

/**
 * Any status but 200 comes from below go-micro (a parser, a proxy, a web server): a failure of the transport, worded as
 * Go's client words it (`transport/http_client.go`). Sizes that were refused keep a code of their own.
 */
export function statusError(head: Head, body: Buffer): MicroError {
  const text = body.subarray(0, 1024).toString("utf8").trim();
  const tooLarge = head.status === 413 || head.status === 431;
  return new MicroError(`${head.statusText}: ${text}`, {
    id: transportId,
    code: tooLarge ? "too_large" : "internal",
    statusCode: tooLarge ? 413 : 500,
  });
}
