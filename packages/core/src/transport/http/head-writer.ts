/** Heads as text, one character per byte: header values beyond ASCII are written as UTF-8. */
import { type Metadata, perMessageHeaders, withoutOuterBlanks } from "../../metadata.ts";
import type { ExchangeRequest, OutgoingMessage } from "../transport.ts";

const tokenPattern = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/**
 * A value as it goes onto the wire: CR, LF and NUL become blanks, blanks at the ends go, as Go's `net/http` writes them;
 * other text is UTF-8, one character per byte.
 */
export function headerValue(value: string): string {
  // oxlint-disable-next-line no-control-regex
  if (/^[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?$/.test(value)) return value;
  const clean = withoutOuterBlanks(value.replaceAll(/[\r\n\0]/g, " "));
  // oxlint-disable-next-line no-control-regex
  return /^[\0-\x7f]*$/.test(clean) ? clean : Buffer.from(clean, "utf8").toString("latin1");
}

/** True if the wire can carry the name. */
export function isHeaderName(name: string): boolean {
  return tokenPattern.test(name);
}

/** Metadata lines. Headers of the message itself are left out, and names no header can have, as Go leaves them out. */
export function metadataLines(metadata: Metadata | undefined): string {
  if (metadata === undefined || metadata.size === 0) return "";
  let lines = "";
  for (const [name, value] of metadata) {
    if (isSent(name)) lines += `${name}: ${headerValue(value)}\r\n`;
  }
  return lines;
}

/** `Micro-From-Service` names the sender of this very message: whoever makes the request sets it anew. */
export function isSent(name: string): boolean {
  return (!perMessageHeaders.has(name) || name === "Micro-From-Service") && tokenPattern.test(name);
}

/** Everything of a request's head that is the same for each call of an endpoint on an address. */
export function requestPrefix(address: string, request: ExchangeRequest): string {
  const contentType = headerValue(request.contentType);
  const endpoint = headerValue(request.endpoint);
  return (
    `POST / HTTP/1.1\r\nHost: ${headerValue(address)}\r\nAccept: ${headerValue(request.accept ?? request.contentType)}\r\n` +
    `Content-Type: ${contentType}\r\nMicro-Endpoint: ${endpoint}\r\nMicro-Method: ${endpoint}\r\n` +
    `Micro-Service: ${headerValue(request.service)}\r\n`
  );
}

/**
 * What listeners of this library understand. Go's take it for metadata, which a handler there passes on: only what is harmless then
 * is told to a node that announces no wire, where the record may be a Go service's of yesterday.
 */
export function ownLines(request: ExchangeRequest, wire: string | undefined, opens: "call" | "stream"): string {
  const lookedUp = request.lookedUp === true ? `Micro-Looked-Up: ${headerValue(request.service)}\r\n` : "";
  return wire === undefined ? lookedUp : `Micro-Opens: ${opens}\r\n${lookedUp}`;
}

const maxCachedPrefixes = 256;
const noBytes = new Uint8Array(0);

/** Parts of request heads that are the same from call to call on one address. */
export class PrefixCache {
  readonly #address: string;
  readonly #prefixes = new Map<string, Map<string, string>>();
  #size = 0;
  #last: ExchangeRequest | undefined;
  #lastPrefix = "";
  #lastMetadata: Metadata | undefined;
  #lastRevision = 0;
  #lastLines = "";

  constructor(address: string) {
    this.#address = address;
  }

  /** {@link metadataLines}, which a client without any of its callers' own makes of the same entries each time. */
  metadataLines(metadata: Metadata | undefined): string {
    if (metadata === undefined) return "";
    if (metadata !== this.#lastMetadata || metadata.revision !== this.#lastRevision) {
      this.#lastLines = metadataLines(metadata);
      this.#lastMetadata = metadata;
      this.#lastRevision = metadata.revision;
    }
    return this.#lastLines;
  }

  get(request: ExchangeRequest): string {
    const last = this.#last;
    if (
      last !== undefined &&
      last.endpoint === request.endpoint &&
      last.contentType === request.contentType &&
      last.service === request.service &&
      last.accept === request.accept
    )
      return this.#lastPrefix;
    this.#lastPrefix = this.#lookUp(request);
    // Not the request itself: that would keep its body alive.
    const { service, endpoint, contentType, accept } = request;
    this.#last = { service, endpoint, contentType, accept, metadata: undefined, body: noBytes };
    return this.#lastPrefix;
  }

  #lookUp(request: ExchangeRequest): string {
    if (request.accept !== undefined && request.accept !== request.contentType)
      return requestPrefix(this.#address, request);
    let byType = this.#prefixes.get(request.endpoint);
    if (byType === undefined) this.#prefixes.set(request.endpoint, (byType = new Map()));
    const key = `${request.service}\n${request.contentType}`;
    const known = byType.get(key);
    if (known !== undefined) return known;
    const prefix = requestPrefix(this.#address, request);
    if (this.#size >= maxCachedPrefixes) {
      // Endpoints are few in any program that is not hostile to itself: start over rather than keep an order.
      this.#prefixes.clear();
      this.#prefixes.set(request.endpoint, (byType = new Map()));
      this.#size = 0;
    }
    this.#size++;
    byType.set(key, prefix);
    return prefix;
  }
}

/** `Timeout: <nanoseconds left>`, or nothing; never 0, which Go takes for "expired" (`server/rpc_server.go`). */
export function timeoutLine(deadline: number | undefined, now: number): string {
  if (deadline === undefined) return "";
  const left = deadline - now;
  // Whole milliseconds make short work of the number.
  return left >= 1 ? `Timeout: ${Math.floor(left)}000000\r\n` : "Timeout: 1000000\r\n";
}

/** The part of a reply's head that its message decides: type, error, metadata; without a length and an end. */
export function replyLines(message: OutgoingMessage): string {
  let lines = message.contentType === undefined ? "" : contentTypeLine(message.contentType);
  if (message.error !== undefined) {
    // An error must not be empty: it would read as success.
    const error = headerValue(message.bareError ?? message.error) || "unknown error";
    lines += `Micro-Error: ${error}\r\nX-Micro-Error: ${error}\r\n`;
    if (message.bareError !== undefined) lines += `Micro-Error-Detail: ${headerValue(message.error)}\r\n`;
  }
  if (message.notRun === true) lines += "Micro-Retry: not-run\r\n";
  return message.metadata === undefined ? lines : lines + metadataLines(message.metadata);
}

let lastContentType = "";
let lastContentTypeLine = "";

export function contentTypeLine(contentType: string): string {
  if (contentType !== lastContentType) {
    lastContentTypeLine = contentType === "" ? "" : `Content-Type: ${headerValue(contentType)}\r\n`;
    lastContentType = contentType;
  }
  return lastContentTypeLine;
}
