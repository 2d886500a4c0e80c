/**
 * The incremental HTTP/1.1 parser of both sides: bytes in any portions, whole messages out.
 *
 * A message that arrives in one piece costs one search for the end of its head, one pass over the head and no copy: the
 * body is a view of what the socket delivered. Heads that repeat are compared instead of parsed. What arrives in pieces
 * is gathered in buffers that grow with the bytes really there. The result does not depend on how the bytes were split.
 */
import type { Arriving } from "../../net/arrival.ts";
import { AsciiText } from "../ascii-text.ts";
import { ByteBuffer } from "../../net/byte-buffer.ts";
import { ChunkedBody } from "./chunked-body.ts";
import { FramingError } from "./framing-error.ts";
import { isTokenByte, parseResponseHead, RequestHeads, type Head } from "./head.ts";
import { RepeatedHead } from "./repeated-head.ts";

export interface MessageLimits {
  readonly maxHeaderBytes: number;
  readonly maxMessageBytes: number;
}

/** `text` is given for a small body of a reply that others follow: it stands there from `start` on. */
export type MessageListener = (head: Head, body: Buffer, text: AsciiText | undefined, start: number) => void;

const headEnd = Buffer.from("\r\n\r\n");
const noBytes = Buffer.alloc(0);

/** Larger bodies are better off decoded one by one. */
const maxTextBytes = 1024;

/** Nobody reads them. */
const maxTrailerBytes = 64 * 1024;

type State = "head" | "length" | "chunked" | "until close" | "failed";

export class MessageParser implements Arriving {
  readonly #requests: RequestHeads | undefined;
  readonly #limits: MessageLimits;
  readonly #onMessage: MessageListener;
  #state: State = "head";
  readonly #partial: ByteBuffer;
  readonly #reserve: ((delta: number) => void) | undefined;
  readonly #onContinue: ((head: Head) => void) | undefined;
  #part = 0;
  /** The head whose body is being read. */
  #head: Head | undefined;
  #chunked: ChunkedBody | undefined;
  #held = false;
  #running = false;
  /** Bytes that came while held. */
  #waiting: Buffer | undefined;
  /** The head of the stream whose messages come one after the other. */
  #repeated: RepeatedHead | undefined;
  #lastStream: string | undefined;
  /** What could not be parsed. */
  #refused = "";
  /** Of the chunk that is being read. */
  #text: AsciiText | undefined;

  /**
   * @param reserve is told of the bytes that unfinished messages keep, see {@link ByteBuffer}.
   * @param onContinue is told of a request whose sender waits for a word before it sends the body (`Expect: 100-continue`).
   */
  constructor(
    kind: "request" | "response",
    limits: MessageLimits,
    onMessage: MessageListener,
    reserve?: (delta: number) => void,
    onContinue?: (head: Head) => void,
  ) {
    if (kind === "request") this.#requests = new RequestHeads();
    this.#limits = limits;
    this.maxMessageBytes = limits.maxMessageBytes;
    this.#onMessage = onMessage;
    this.#partial = new ByteBuffer(reserve);
    this.#reserve = reserve;
    this.#onContinue = onContinue;
  }

  /** Largest body, in bytes, from the next message on. Default: the limit given. */
  maxMessageBytes: number;

  /** True between messages: nothing of a next one has arrived. */
  get idle(): boolean {
    return this.#state === "head" && this.#partial.length === 0 && this.#waiting === undefined;
  }

  /** True while a head is half received: the part a peer can stretch most cheaply. */
  get inHead(): boolean {
    return this.#state === "head" && this.#partial.length > 0;
  }

  get part(): number {
    return this.#part;
  }

  get bodyBytes(): number {
    return this.#chunked === undefined ? this.#partial.length : this.#chunked.length;
  }

  /** The head of the message whose body is not complete. */
  get head(): Head | undefined {
    return this.#head;
  }

  /** What there is of a head that is not complete, or was refused. */
  get headText(): string {
    if (this.#head !== undefined) return "";
    return this.#refused || this.#partial.view().toString("latin1");
  }

  get held(): boolean {
    return this.#held;
  }

  /** Hand out no further message until {@link release}, not even those that have arrived already. */
  hold(): void {
    this.#held = true;
  }

  /** @throws {FramingError} as {@link push}. */
  release(): void {
    this.#held = false;
    if (this.#running || this.#waiting === undefined) return;
    const waiting = this.#waiting;
    this.#wait(undefined);
    this.push(waiting);
  }

  /** Ignore everything from now on, and keep nothing. */
  stop(): void {
    this.#state = "failed";
    this.#refused = "";
    this.#wait(undefined);
    this.#partial.take();
    this.#chunked?.drop();
  }

  #wait(bytes: Buffer | undefined): void {
    const delta = (bytes?.length ?? 0) - (this.#waiting?.length ?? 0);
    if (delta > 0) this.#reserve?.(delta);
    this.#waiting = bytes;
    if (delta < 0) this.#reserve?.(delta);
  }

  /** @throws {FramingError} once; later bytes are ignored. */
  push(chunk: Buffer): void {
    if (this.#held || this.#running) {
      if (this.#state !== "failed")
        this.#wait(this.#waiting === undefined ? chunk : Buffer.concat([this.#waiting, chunk]));
      return;
    }
    this.#running = true;
    try {
      let bytes = chunk;
      let offset = 0;
      while (offset < bytes.length && this.#state !== "failed") {
        if (this.#held) {
          // A message listener may have pushed more meanwhile: keep the order.
          const rest = bytes.subarray(offset);
          this.#wait(this.#waiting === undefined ? rest : Buffer.concat([rest, this.#waiting]));
          return;
        }
        offset = this.#step(bytes, offset);
        if (offset === bytes.length && this.#waiting !== undefined && !this.#held) {
          bytes = this.#waiting;
          this.#wait(undefined);
          offset = 0;
        }
      }
    } catch (error) {
      this.#state = "failed";
      throw error;
    } finally {
      this.#running = false;
      this.#text = undefined;
    }
  }

  /** The connection has ended. @throws {FramingError} if it ended inside a message. */
  end(): void {
    const { idle } = this;
    const state = this.#state;
    this.#state = "failed";
    if (state === "until close") this.#emit(this.#partial.take());
    else if (state !== "failed" && !idle) throw new FramingError(400, "the connection ended inside a message");
  }

  #step(chunk: Buffer, offset: number): number {
    switch (this.#state) {
      case "head":
        return this.#readHead(chunk, offset);
      case "length":
        return this.#readLength(chunk, offset);
      case "chunked":
        return this.#readChunked(chunk, offset);
      default:
        this.#bound(this.#partial.length + chunk.length - offset);
        this.#partial.append(chunk.subarray(offset));
        return chunk.length;
    }
  }

  #readHead(chunk: Buffer, offset: number): number {
    if (this.#partial.length === 0) {
      const repeated = this.#repeated;
      const repeatedEnd = repeated === undefined ? -1 : repeated.read(chunk, offset);
      if (repeatedEnd !== -1 && repeatedEnd - offset <= this.#limits.maxHeaderBytes)
        return this.#startBody(repeated!.head, chunk, repeatedEnd);
      const end = chunk.indexOf(headEnd, offset);
      if (end !== -1 && end + 4 - offset <= this.#limits.maxHeaderBytes)
        return this.#startBody(this.#parse(chunk.toString("latin1", offset, end)), chunk, end + 4);
    }
    return this.#gatherHead(chunk, offset);
  }

  #gatherHead(chunk: Buffer, offset: number): number {
    const before = this.#partial.length;
    if (before === 0) this.#part++;
    const end = Math.min(chunk.length, offset + this.#limits.maxHeaderBytes - before);
    this.#partial.append(chunk.subarray(offset, end));
    const gathered = this.#partial.view();
    const headLength = gathered.indexOf(headEnd, Math.max(0, before - 3));
    // Judged before it is complete, or a peer that never completes it would have to be waited for.
    this.#checkUnfinished(gathered, before, headLength === -1 ? gathered.length : headLength);
    if (headLength === -1) {
      if (gathered.length >= this.#limits.maxHeaderBytes)
        throw new FramingError(431, `the headers are larger than ${this.#limits.maxHeaderBytes} bytes`);
      return end;
    }
    const text = gathered.toString("latin1", 0, headLength);
    this.#partial.take();
    return this.#startBody(this.#parse(text), chunk, offset + headLength + 4 - before);
  }

  #checkUnfinished(bytes: Buffer, checked: number, end: number): void {
    const first = bytes[0] ?? 0;
    if (this.#requests !== undefined) {
      if (first === 0x16) throw new FramingError(400, "TLS bytes on a plain port");
      if (!isTokenByte(first)) throw new FramingError(400, "the request line is malformed");
    } else {
      if (first === 0x15 || first === 0x16) throw new FramingError(400, "the peer speaks TLS, this side does not");
      for (let index = 0; index < Math.min(5, bytes.length); index++)
        if (bytes[index] !== "HTTP/".charCodeAt(index)) throw new FramingError(400, "the reply is not HTTP");
    }
    let lineFeed = bytes.indexOf(10, checked);
    while (lineFeed !== -1 && lineFeed < end) {
      if (bytes[lineFeed - 1] !== 13) throw new FramingError(400, "a line does not end in CR LF");
      lineFeed = bytes.indexOf(10, lineFeed + 1);
    }
  }

  #parse(text: string): Head {
    this.#refused = text;
    const head = this.#requests === undefined ? parseResponseHead(text) : this.#requests.parse(text);
    this.#refused = "";
    // Calls have an id of their own each: what comes a second time belongs to a stream, and is likely to go on.
    if (head.stream !== undefined && head.stream === this.#lastStream) this.#repeated = RepeatedHead.of(head);
    this.#lastStream = head.stream;
    return head;
  }

  #startBody(head: Head, chunk: Buffer, offset: number): number {
    this.#head = head;
    if (head.chunked) {
      const maxTrailers = Math.min(this.#limits.maxHeaderBytes, maxTrailerBytes);
      this.#chunked = new ChunkedBody(this.maxMessageBytes, maxTrailers, this.#reserve);
      this.#state = "chunked";
      this.#part++;
      if (head.expects && offset === chunk.length) this.#onContinue?.(head);
      return offset;
    }
    const length = this.#bodyLength(head);
    if (length === -1) {
      this.#state = "until close";
      return offset;
    }
    this.#bound(length);
    if (length === 0) {
      this.#emit(noBytes);
      return offset;
    }
    const end = offset + length;
    if (chunk.length >= end) {
      let text: AsciiText | undefined;
      if (this.#requests === undefined && length <= maxTextBytes && chunk.length > end) {
        if (this.#text?.bytes !== chunk) this.#text = new AsciiText(chunk);
        text = this.#text;
      }
      this.#emit(chunk.subarray(offset, end), text, offset);
      return end;
    }
    this.#state = "length";
    this.#part++;
    if (head.expects && offset === chunk.length) this.#onContinue?.(head);
    return offset;
  }

  /** -1: until the connection ends, which only replies without a length may do (Go's own error pages are such). */
  #bodyLength(head: Head): number {
    if (this.#requests !== undefined) return Math.max(0, head.contentLength);
    if (head.status < 200 || head.status === 204 || head.status === 304) return 0;
    return head.contentLength;
  }

  #bound(length: number): void {
    if (length > this.maxMessageBytes)
      throw new FramingError(413, `the body is larger than ${this.maxMessageBytes} bytes`);
  }

  #readLength(chunk: Buffer, offset: number): number {
    const length = this.#head?.contentLength ?? 0;
    const end = Math.min(chunk.length, offset + length - this.#partial.length);
    this.#partial.append(chunk.subarray(offset, end), length);
    if (this.#partial.length === length) this.#emit(this.#partial.take());
    return end;
  }

  #readChunked(chunk: Buffer, offset: number): number {
    const chunked = this.#chunked as ChunkedBody;
    const end = chunked.push(chunk, offset);
    if (chunked.done) {
      this.#chunked = undefined;
      this.#emit(chunked.take());
    }
    return end;
  }

  #emit(body: Buffer, text?: AsciiText, start = 0): void {
    const head = this.#head as Head;
    this.#head = undefined;
    if (this.#state !== "failed") this.#state = "head";
    this.#onMessage(head, body, text, start);
  }
}
