/** Bytes that are not an acceptable HTTP/1.1 message. Framing is lost: the connection cannot be used any further. */
export class FramingError extends Error {
  /** What a server answers before it closes. */
  readonly status: 400 | 408 | 413 | 417 | 431 | 503 | 505;

  constructor(status: FramingError["status"], message: string) {
    super(message);
    this.name = "FramingError";
    this.status = status;
  }
}
