/**
 * One parsed HTTP/1.1 head. The framing headers and go-micro's own are picked out in one pass; everything else stays in
 * the text until somebody asks for all headers.
 *
 * Stricter than Go's parser where a lenient one invites request smuggling: bare CR or LF, folded lines, blanks in names,
 * repeated or malformed framing headers are all refused. Go peers send none of these.
 */
import { canonicalName, Metadata } from "../../metadata.ts";
import { ownText } from "../../own-text.ts";
import { FramingError } from "./framing-error.ts";

/** What go-micro's own callers do not send; bits of {@link Head.oddities}. */
export const oddity = {
  /** An `Origin`. */
  origin: 1,
  /** A `Sec-Fetch-…`. */
  fetch: 2,
  /** Another method than POST. */
  method: 4,
  /** An `Expect`. */
  expect: 8,
  /** A `Connection` that may list names. */
  connection: 16,
  /** HTTP/1.0: the sender takes one reply, and waits for the connection's end. */
  http10: 32,
} as const;

export class Head {
  /** The head's bytes as latin1, without the blank line at its end. */
  readonly text: string;
  /** Where the header lines begin. */
  readonly #linesStart: number;
  /** The status of a response, 0 for requests. */
  status = 0;
  /** `Content-Length`, or -1. */
  contentLength = -1;
  chunked = false;
  /** `Connection: close`, or HTTP/1.0. */
  close = false;
  /** See {@link oddity}; 0 for nearly every request. */
  oddities = 0;

  // Raw latin1 values; the first one counts, as in Go (`transport/http_transport.go` keeps one value per name).
  service: string | undefined = undefined;
  method: string | undefined = undefined;
  endpoint: string | undefined = undefined;
  id: string | undefined = undefined;
  stream: string | undefined = undefined;
  error: string | undefined = undefined;
  contentType: string | undefined = undefined;
  timeout: string | undefined = undefined;
  topic: string | undefined = undefined;
  protocol: string | undefined = undefined;
  target: string | undefined = undefined;
  retry: string | undefined = undefined;
  lookedUp: string | undefined = undefined;
  opens: string | undefined = undefined;
  /** True if any `X-Micro-` header came: then the fallbacks are worth a look. */
  legacy = false;

  constructor(text: string, linesStart: number) {
    this.text = text;
    this.#linesStart = linesStart;
  }

  /** The status line's text after the version, e.g. `404 Not Found`. */
  get statusText(): string {
    return this.text.slice(9, Math.max(9, this.#linesStart - 2));
  }

  /** The sender is a client of go-micro's, or one of ours: a request has an id of its own. */
  get isCall(): boolean {
    return this.id !== undefined || this.stream !== undefined;
  }

  /** Any of go-micro's own headers came. */
  get isMicro(): boolean {
    return (
      this.isCall ||
      this.legacy ||
      (this.endpoint ?? this.method ?? this.service ?? this.topic ?? this.protocol ?? this.target) !== undefined
    );
  }

  /**
   * The sender waits for a word before it sends the body. Go-micro's clients never do, though their gateway passes on
   * what its own callers expect: a 100 would be read as the reply.
   */
  get expects(): boolean {
    return (this.oddities & oddity.expect) !== 0 && !this.isCall;
  }

  /**
   * The sender waits for the connection's end. Go-micro's clients never do: `Connection: close` is another caller's word that their gateway
   * passes on, and the connection goes back to their pool; where they mean it themselves, they close (`client/rpc_stream.go`).
   */
  get closes(): boolean {
    return this.close && ((this.oddities & oddity.http10) !== 0 || !this.isCall);
  }

  /** Of a request, e.g. `GET`. */
  get requestMethod(): string {
    return this.text.slice(0, this.text.indexOf(" "));
  }

  /** Of a request, as it came, e.g. `/healthz?verbose`. */
  get requestTarget(): string {
    const start = this.text.indexOf(" ") + 1;
    return this.text.slice(start, this.text.indexOf(" ", start));
  }

  /** The same head with another text and `Content-Length`. */
  repeated(text: string, contentLength: number): Head {
    const head = new Head(text, this.#linesStart);
    head.status = this.status;
    head.contentLength = contentLength;
    head.chunked = this.chunked;
    head.close = this.close;
    head.oddities = this.oddities;
    head.service = this.service;
    head.method = this.method;
    head.endpoint = this.endpoint;
    head.id = this.id;
    head.stream = this.stream;
    head.error = this.error;
    head.contentType = this.contentType;
    head.timeout = this.timeout;
    head.topic = this.topic;
    head.protocol = this.protocol;
    head.target = this.target;
    head.retry = this.retry;
    head.lookedUp = this.lookedUp;
    head.opens = this.opens;
    head.legacy = this.legacy;
    return head;
  }

  /**
   * All headers, by canonical name, values decoded; without those that `Connection` lists, which are for the next hop alone (RFC 9110,
   * section 7.6.1). Costs a pass over the text.
   */
  headers(): Map<string, string> {
    const headers = new Map<string, string>();
    const { text } = this;
    let position = this.#linesStart;
    while (position < text.length) {
      let end = text.indexOf("\r\n", position);
      if (end === -1) end = text.length;
      const colon = text.indexOf(":", position);
      const name = canonicalName(text.slice(position, colon));
      if (!headers.has(name)) headers.set(name, decodeValue(trimmed(text, colon + 1, end)));
      position = end + 2;
    }
    if ((this.oddities & oddity.connection) !== 0) dropListed(headers);
    return headers;
  }

  /** All headers, parsed when first looked at. */
  metadata(): Metadata {
    return Metadata.lazy(() => this.headers(), this.text.length);
  }
}

function dropListed(headers: Map<string, string>): void {
  for (const listed of (headers.get("Connection") ?? "").split(",")) {
    const name = canonicalName(listed.trim());
    // What go-micro routes and identifies by is end to end, whatever a stranger lists.
    if (!/^(?:X-)?Micro-|^(?:Authorization|Content-Type|Timeout)$/.test(name)) headers.delete(name);
  }
}

/** Header bytes are UTF-8, as Go writes them; the head is kept as latin1, so text beyond ASCII is decoded again. */
export function decodeValue(raw: string): string {
  // oxlint-disable-next-line no-control-regex
  return /^[\0-\x7f]*$/.test(raw) ? raw : Buffer.from(raw, "latin1").toString("utf8");
}

const lengthLine = "\r\nContent-Length: ";
/**
 * Heads beyond this are parsed whole each time, so that a connection keeps little, and what is taken out of them is copied: a value
 * that somebody keeps would keep the head.
 */
export const maxKeptHead = 4096;
/** Go has no limit but that in bytes. Looking at lines costs time, and a message has some dozen. */
const maxLines = 1024;

/**
 * Parses the heads of one connection's requests. What stands before the length is the same for each call of an endpoint
 * where the caller is one of ours, and is then taken over from the head before.
 */
export class RequestHeads {
  /** The part of an earlier head that ends where the length begins. */
  #beginning: Head | undefined;

  /** @throws {FramingError} */
  parse(text: string): Head {
    const beginning = this.#beginning;
    if (beginning === undefined || !text.startsWith(beginning.text)) return this.#parseWhole(text);
    const head = beginning.repeated(text, -1);
    parseLines(head, beginning.text.length, text.length);
    return head;
  }

  #parseWhole(text: string): Head {
    const lineEnd = firstLineEnd(text);
    const version = text.startsWith("POST / HTTP/1.1\r\n") ? "HTTP/1.1" : readRequestLine(text.slice(0, lineEnd));
    const head = new Head(text, lineEnd + 2);
    if (!text.startsWith("POST ")) head.oddities |= oddity.method;
    if (version === "HTTP/1.0") {
      head.oddities |= oddity.http10;
      head.close = true;
    }
    const length = text.length > maxKeptHead || version !== "HTTP/1.1" ? -1 : text.indexOf(lengthLine, lineEnd);
    if (length === -1) parseLines(head, lineEnd + 2, text.length);
    else {
      parseLines(head, lineEnd + 2, length + 2);
      this.#beginning = head.repeated(text.slice(0, length + 2), -1);
      parseLines(head, length + 2, text.length);
    }
    // Last, so that which of two faults is reported does not depend on how the bytes were split.
    if (version !== "HTTP/1.1" && version !== "HTTP/1.0")
      throw new FramingError(505, `${version} is not spoken here, only HTTP/1.1`);
    if (head.chunked && version === "HTTP/1.0") throw new FramingError(400, "Transfer-Encoding in an HTTP/1.0 request");
    return head;
  }
}

/** @throws {FramingError} */
export function parseResponseHead(text: string): Head {
  if (text.startsWith("HTTP/1.1 200 OK\r\n")) {
    const head = new Head(text, 17);
    head.status = 200;
    parseLines(head, 17, text.length);
    return head;
  }
  const lineEnd = firstLineEnd(text);
  const line = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/.exec(text.slice(0, lineEnd));
  if (line === null) throw new FramingError(400, "the reply does not begin with an HTTP/1.1 status line");
  const head = new Head(text, lineEnd + 2);
  head.status = Number(line[2]);
  if (line[1] === "0") head.close = true;
  parseLines(head, lineEnd + 2, text.length);
  if (line[1] === "0" && head.chunked) throw new FramingError(400, "Transfer-Encoding in an HTTP/1.0 reply");
  return head;
}

function firstLineEnd(text: string): number {
  const end = text.indexOf("\r\n");
  return end === -1 ? text.length : end;
}

/** Any method and target will do, as with Go's server; returns the version. */
function readRequestLine(line: string): string {
  if (line.charCodeAt(0) === 0x16) throw new FramingError(400, "TLS bytes on a plain port");
  const match = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [\x21-\x7e\x80-\xff]+ (HTTP\/\d\.\d)$/.exec(line);
  if (match === null) throw new FramingError(400, "the request line is malformed");
  return match[1] as string;
}

/** Bit set: 1 for token characters (header names), 2 for bytes no value may hold. */
const kinds = new Uint8Array(256);
for (const character of "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
  kinds[character.charCodeAt(0)] = 1;
for (const character of "\0\r\n") kinds[character.charCodeAt(0)] = 2;

export function isTokenByte(byte: number): boolean {
  return kinds[byte] === 1;
}

/** Parse the lines from `start` to `length`, where one ends. @throws {FramingError} */
function parseLines(head: Head, start: number, length: number): void {
  const { text } = head;
  let position = start;
  let lines = 0;
  while (position < length) {
    if (++lines > maxLines) throw new FramingError(431, `more than ${maxLines} header lines`);
    let colon = position;
    while (colon < length && kinds[text.charCodeAt(colon)] === 1) colon++;
    if (colon === position || text.charCodeAt(colon) !== 58) throw badLine(text, position, colon);
    let end = colon + 1;
    while (end < length && kinds[text.charCodeAt(end)] !== 2) end++;
    if (end < length && !text.startsWith("\r\n", end)) throw badByte(text.charCodeAt(end));
    // Most names come as Go writes them; others are compared in lower case, which costs more.
    switch (knownHeader(text, position, colon)) {
      case 0:
        break;
      case contentLength:
        if (head.contentLength !== -1) throw new FramingError(400, "Content-Length is repeated");
        head.contentLength = parseLength(trimmed(text, colon + 1, end));
        break;
      case transferEncoding:
        if (head.chunked) throw new FramingError(400, "Transfer-Encoding is repeated");
        if (trimmed(text, colon + 1, end).toLowerCase() !== "chunked")
          throw new FramingError(400, "a Transfer-Encoding other than chunked");
        head.chunked = true;
        break;
      case connection:
        head.oddities |= oddity.connection;
        if (/(?:^|,)[ \t]*close[ \t]*(?:,|$)/i.test(text.slice(colon + 1, end))) head.close = true;
        break;
      case service:
        head.service ??= trimmed(text, colon + 1, end);
        break;
      case method:
        head.method ??= trimmed(text, colon + 1, end);
        break;
      case endpoint:
        head.endpoint ??= trimmed(text, colon + 1, end);
        break;
      case id:
        head.id ??= trimmed(text, colon + 1, end);
        break;
      case stream:
        head.stream ??= trimmed(text, colon + 1, end);
        break;
      case error:
        head.error ??= trimmed(text, colon + 1, end);
        break;
      case contentType:
        head.contentType ??= trimmed(text, colon + 1, end);
        break;
      case timeout:
        head.timeout ??= trimmed(text, colon + 1, end);
        break;
      case topic:
        head.topic ??= trimmed(text, colon + 1, end);
        break;
      case protocol:
        head.protocol ??= trimmed(text, colon + 1, end);
        break;
      case target:
        head.target ??= trimmed(text, colon + 1, end);
        break;
      case retry:
        head.retry ??= trimmed(text, colon + 1, end);
        break;
      case lookedUp:
        head.lookedUp ??= trimmed(text, colon + 1, end);
        break;
      case opens:
        head.opens ??= trimmed(text, colon + 1, end);
        break;
      case legacy:
        head.legacy = true;
        break;
      case origin:
        head.oddities |= oddity.origin;
        break;
      case expect:
        head.oddities |= oddity.expect;
        break;
      case fetched:
        head.oddities |= oddity.fetch;
        break;
    }
    position = end + 2;
  }
  if (head.chunked && head.contentLength !== -1)
    throw new FramingError(400, "both Content-Length and Transfer-Encoding");
}

function badLine(text: string, start: number, at: number): FramingError {
  if (at === start && (text[at] === " " || text[at] === "\t")) return new FramingError(400, "a folded header line");
  if (at === start && text[at] === ":") return new FramingError(400, "a header without a name");
  const code = text.charCodeAt(at);
  if (Number.isNaN(code) || code === 13 || code === 10) return new FramingError(400, "a header line without a colon");
  return new FramingError(400, `byte 0x${code.toString(16).padStart(2, "0")} in a header name`);
}

function badByte(code: number): FramingError {
  return new FramingError(400, code === 0 ? "a NUL byte in a header" : "a line does not end in CR LF");
}

/** Digits only: signs, blanks, hexadecimal and lists of lengths are how requests are smuggled. */
function parseLength(value: string): number {
  let number = 0;
  for (let index = 0; index < value.length; index++) {
    const digit = value.charCodeAt(index) - 48;
    if (digit < 0 || digit > 9) number = Number.NaN;
    number = 10 * number + digit;
  }
  if (!(number >= 0) || value.length === 0 || value.length > 15)
    throw new FramingError(400, "Content-Length is not a decimal number");
  return number;
}

/** Without blanks at either end. Not `trim()`, which also strips 0xA0, a part of UTF-8 sequences. */
function trimmed(text: string, start: number, end: number): string {
  let from = start;
  let to = end;
  while (from < to && isBlank(text.charCodeAt(from))) from++;
  while (to > from && isBlank(text.charCodeAt(to - 1))) to--;
  const value = text.slice(from, to);
  return text.length > maxKeptHead ? ownText(value) : value;
}

function isBlank(code: number): boolean {
  return code === 32 || code === 9;
}

const contentLength = 1;
const transferEncoding = 2;
const connection = 3;
const service = 4;
const method = 5;
const endpoint = 6;
const id = 7;
const stream = 8;
const error = 9;
const contentType = 10;
const timeout = 11;
const topic = 12;
const protocol = 13;
const target = 14;
const retry = 15;
const legacy = 16;
const lookedUp = 17;
const opens = 18;
const origin = 19;
const expect = 20;
const fetched = 21;

const known: readonly (readonly [string, number])[] = [
  // In nearly every request, and as long as others: found at once.
  ["Accept", 0],
  ["Content-Length", contentLength],
  ["Transfer-Encoding", transferEncoding],
  ["Connection", connection],
  ["Micro-Service", service],
  ["Micro-Method", method],
  ["Micro-Endpoint", endpoint],
  ["Micro-Id", id],
  ["Micro-Stream", stream],
  ["Micro-Error", error],
  ["Content-Type", contentType],
  ["Timeout", timeout],
  ["Micro-Topic", topic],
  ["Micro-Protocol", protocol],
  ["Micro-Target", target],
  ["Micro-Retry", retry],
  ["Micro-Looked-Up", lookedUp],
  ["Micro-Opens", opens],
  ["Origin", origin],
  ["Expect", expect],
];
const knownByLength: (readonly (readonly [string, number])[])[] = [];
const knownLowerCase = new Map<string, number>();
for (const entry of known) {
  const { length } = entry[0];
  knownByLength[length] = [...(knownByLength[length] ?? []), entry];
  knownLowerCase.set(entry[0].toLowerCase(), entry[1]);
}

function knownHeader(text: string, start: number, end: number): number {
  const candidates = knownByLength[end - start];
  if (candidates !== undefined) {
    for (const candidate of candidates) if (text.startsWith(candidate[0], start)) return candidate[1];
    const found = knownLowerCase.get(text.slice(start, end).toLowerCase());
    if (found !== undefined) return found;
  }
  const first = text.charCodeAt(start);
  if ((first === 88 || first === 120) && /^x-micro-/i.test(text.slice(start, start + 8))) return legacy;
  if ((first === 83 || first === 115) && /^sec-fetch-/i.test(text.slice(start, start + 10))) return fetched;
  return 0;
}
