/** The chunked transfer coding (RFC 9112, section 7.1), strict and bounded. Extensions and trailers are read and dropped. */
import { ByteBuffer } from "../../net/byte-buffer.ts";
import { FramingError } from "./framing-error.ts";

const maxSizeLineBytes = 256;
/** Across one body: what extensions may add to it, beside 20 bytes for each chunk's own framing. */
const maxExtensionBytes = 16 * 1024;

type State = "size" | "data" | "data end" | "trailer" | "done";

export class ChunkedBody {
  readonly #maxBytes: number;
  readonly #maxTrailerBytes: number;
  readonly #body: ByteBuffer;
  readonly #line: ByteBuffer;
  #state: State = "size";
  /** Bytes of the current chunk still to come; for "data end", of its CR LF. */
  #left = 0;
  #extensionBytes = 0;
  #trailerBytes = 0;

  /** @param reserve see {@link ByteBuffer}. */
  constructor(maxBytes: number, maxTrailerBytes: number, reserve?: (delta: number) => void) {
    this.#body = new ByteBuffer(reserve);
    this.#line = new ByteBuffer(reserve);
    this.#maxBytes = maxBytes;
    this.#maxTrailerBytes = maxTrailerBytes;
  }

  get done(): boolean {
    return this.#state === "done";
  }

  /** Bytes of the body that are there. */
  get length(): number {
    return this.#body.length;
  }

  take(): Buffer {
    return this.#body.take();
  }

  /** Forget what has come. */
  drop(): void {
    this.#body.take();
    this.#line.take();
  }

  /** Read on from `offset`; returns where it stopped. @throws {FramingError} */
  push(chunk: Buffer, offset: number): number {
    let position = offset;
    while (position < chunk.length && this.#state !== "done") {
      if (this.#state === "data") {
        const end = Math.min(chunk.length, position + this.#left);
        this.#body.append(chunk.subarray(position, end));
        this.#left -= end - position;
        position = end;
        if (this.#left === 0) {
          this.#state = "data end";
          this.#left = 2;
        }
      } else if (this.#state === "data end") {
        if (chunk[position] !== (this.#left === 2 ? 13 : 10)) throw new FramingError(400, "a chunk of another length");
        position++;
        if (--this.#left === 0) this.#state = "size";
      } else {
        position = this.#readLine(chunk, position, this.#state === "size" ? maxSizeLineBytes : this.#maxTrailerBytes);
      }
    }
    return position;
  }

  #readLine(chunk: Buffer, offset: number, maxBytes: number): number {
    const lineFeed = chunk.indexOf(10, offset);
    const end = lineFeed === -1 ? chunk.length : lineFeed + 1;
    if (this.#line.length + end - offset > maxBytes) throw this.#lineTooLong();
    this.#line.append(chunk.subarray(offset, end));
    if (lineFeed === -1) return end;
    const line = this.#line.take().toString("latin1");
    if (!line.endsWith("\r\n") || line.indexOf("\r") !== line.length - 2 || line.includes("\0"))
      throw new FramingError(400, "a line of a chunked body does not end in CR LF");
    if (this.#state === "size") this.#readSize(line);
    else this.#readTrailer(line);
    return end;
  }

  #lineTooLong(): FramingError {
    return this.#state === "size"
      ? new FramingError(400, "a chunk size line is too long")
      : new FramingError(431, "the trailers are too long");
  }

  #readSize(line: string): void {
    const match = /^([0-9a-fA-F]{1,15})[ \t]*(;.*)?\r\n$/.exec(line);
    if (match === null) throw new FramingError(400, "a chunk size is not a hexadecimal number");
    this.#extensionBytes += Math.max(0, line.length - 20);
    if (this.#extensionBytes > maxExtensionBytes) throw new FramingError(400, "too many chunk extensions");
    const size = Number.parseInt(match[1] ?? "", 16);
    if (this.#body.length + size > this.#maxBytes)
      throw new FramingError(413, `the body is larger than ${this.#maxBytes} bytes`);
    this.#left = size;
    this.#state = size === 0 ? "trailer" : "data";
  }

  #readTrailer(line: string): void {
    if (line === "\r\n") {
      this.#state = "done";
      return;
    }
    this.#trailerBytes += line.length;
    if (this.#trailerBytes > this.#maxTrailerBytes) throw new FramingError(431, "the trailers are too long");
    if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+:/.test(line)) throw new FramingError(400, "a malformed trailer");
  }
}
