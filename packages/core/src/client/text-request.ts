/** A request whose body is text: bytes are made of it only for a transport that asks for them. */
import type { Metadata } from "../metadata.ts";
import type { ExchangeRequest } from "../transport/transport.ts";

export class TextRequest implements ExchangeRequest {
  readonly service: string;
  readonly endpoint: string;
  readonly contentType: string;
  readonly accept: string | undefined;
  readonly metadata: Metadata | undefined;
  readonly text: string;
  readonly lookedUp: boolean;
  #body: Uint8Array | undefined;

  constructor(
    service: string,
    endpoint: string,
    contentType: string,
    accept: string | undefined,
    metadata: Metadata | undefined,
    text: string,
    lookedUp: boolean,
  ) {
    this.service = service;
    this.endpoint = endpoint;
    this.contentType = contentType;
    this.accept = accept;
    this.metadata = metadata;
    this.text = text;
    this.lookedUp = lookedUp;
  }

  get body(): Uint8Array {
    return (this.#body ??= Buffer.from(this.text, "utf8"));
  }
}
