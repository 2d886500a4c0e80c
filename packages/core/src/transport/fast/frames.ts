/** Frames of the fast wire: numbers, heads, and reading them out of chunks. The layouts are in `docs/fast-wire.md`. */

export const frameType = {
  define: 1,
  open: 2,
  data: 3,
  end: 4,
  reset: 5,
  window: 6,
  ping: 7,
  pong: 8,
  goAway: 9,
} as const;

export const openFlag = { more: 1, stream: 2, timeout: 4, metadata: 8, lookedUp: 16, all: 31 } as const;
export const dataFlag = { more: 1, end: 2, type: 4, error: 8, notRun: 16, metadata: 32, all: 63 } as const;
/** Of what stands before a body. */
export const fieldFlags: number = dataFlag.type | dataFlag.error | dataFlag.notRun | dataFlag.metadata;
export const defineKind = { forget: 0, route: 1, field: 2 } as const;

export const resetCode = {
  cancelled: 1,
  deadline: 2,
  tooLarge: 3,
  protocol: 4,
  flow: 5,
  refused: 6,
  internal: 7,
} as const;

export const goAwayCode = { closing: 0, protocol: 1, dictionary: 2, flooding: 3 } as const;

export const headBytes = 8;
export const maxPayloadBytes = 0xffff;
export const maxId = 0x7fff_ffff;
/** Messages are cut at this size. */
export const chunkBytes = 32 * 1024;
/** Less of a message that goes on is not worth a frame of its own: its sender waits for more credit. */
export const minPieceBytes = 4096;
/** What a DATA frame costs beside its payload: little, since small messages wait packed, more if it has fields to be kept. */
export function frameCost(flags: number): number {
  return (flags & fieldFlags) === 0 ? 16 : 128;
}
export const initialWindow = 64 * 1024;
export const maxWindow = 1024 * 1024;
/** How far the windows of a connection together may grow above their beginnings. */
export const maxWindowGrowth = 16 * 1024 * 1024;
export const maxCredit = 0x7fff_ffff;
/** Fields before a body: what remains of a payload for them, with room for something of the body. */
export const maxFieldsBytes = 60 * 1024;
export const maxReasonBytes = 1024;

/** A mistake of the peer that leaves nothing behind it to be trusted: the connection ends. */
export class WireError extends Error {
  readonly code: number;

  constructor(message: string, code: number = goAwayCode.protocol) {
    super(message);
    this.name = "WireError";
    this.code = code;
  }
}

/** A mistake that is contained in its exchange. */
export class ExchangeError extends Error {
  readonly code: number;

  constructor(message: string, code: number = resetCode.protocol) {
    super(message);
    this.name = "ExchangeError";
    this.code = code;
  }
}

/** Takes a frame: its payload is `bytes` from `start` to `end`, which it must not keep. @throws {WireError} */
export type FrameHandler = (
  type: number,
  flags: number,
  id: number,
  bytes: Uint8Array,
  start: number,
  end: number,
) => void;

/** A frame whose rest is to come has room for so many times what has come: a peer does not get much for a few bytes. */
const maxGrowth = 4;
const minRestBytes = 512;

/** Cuts chunks into frames. Only a frame that is cut by the end of a chunk is copied. */
export class FrameReader {
  readonly #handle: FrameHandler;
  /** The beginning of a frame whose rest is still to come. */
  #rest: Uint8Array | undefined;
  #restLength = 0;
  #stopped = false;
  /** Chunks that came while it was held. */
  #held: Uint8Array[] | undefined;
  #heldBytes = 0;
  /** How many frames were cut by the end of a chunk so far. */
  begun = 0;

  constructor(handle: FrameHandler) {
    this.#handle = handle;
  }

  /** Nothing is read any more. */
  stop(): void {
    this.#stopped = true;
    this.#rest = undefined;
    this.#held = undefined;
  }

  /** Keep what comes until {@link release}. */
  hold(): void {
    this.#held ??= [];
  }

  /** @throws {WireError} */
  release(): void {
    const held = this.#held;
    this.#held = undefined;
    this.#heldBytes = 0;
    if (held !== undefined) for (const chunk of held) this.push(chunk);
  }

  /** Bytes that wait here. */
  get kept(): number {
    return this.#heldBytes + (this.#rest?.length ?? 0);
  }

  /** A frame has begun. */
  get inside(): boolean {
    return this.#rest !== undefined;
  }

  /** @throws {WireError} */
  push(chunk: Uint8Array): void {
    let at = 0;
    if (this.#rest !== undefined && this.#held === undefined) at = this.#complete(chunk);
    const length = chunk.length;
    while (length - at >= headBytes && !this.#stopped && this.#held === undefined) {
      const end = at + headBytes + ((chunk[at]! << 8) | chunk[at + 1]!);
      if (end > length) break;
      const start = at + headBytes;
      const id = (chunk[at + 4]! << 24) | (chunk[at + 5]! << 16) | (chunk[at + 6]! << 8) | chunk[at + 7]!;
      at = end;
      this.#handle(chunk[start - 6]!, chunk[start - 5]!, id, chunk, start, end);
    }
    if (at === length || this.#stopped) return;
    if (this.#held !== undefined) {
      this.#held.push(at === 0 ? chunk : chunk.subarray(at));
      this.#heldBytes += chunk.length;
      return;
    }
    // A frame is begun anew in a buffer of its own, large enough for all of it where a good part of it has come.
    const left = length - at;
    const whole = left >= 2 ? headBytes + ((chunk[at]! << 8) | chunk[at + 1]!) : headBytes;
    this.begun++;
    this.#rest = Buffer.allocUnsafeSlow(Math.min(whole, Math.max(minRestBytes, maxGrowth * left)));
    this.#rest.set(chunk.subarray(at));
    this.#restLength = left;
  }

  /** Finish the frame that was begun. @returns how much of the chunk belonged to it. */
  #complete(chunk: Uint8Array): number {
    let rest = this.#rest as Uint8Array;
    let at = 0;
    if (this.#restLength < headBytes) {
      at = Math.min(headBytes - this.#restLength, chunk.length);
      rest.set(chunk.subarray(0, at), this.#restLength);
      this.#restLength += at;
      if (this.#restLength < headBytes) return at;
    }
    const whole = headBytes + ((rest[0]! << 8) | rest[1]!);
    const take = Math.min(whole - this.#restLength, chunk.length - at);
    const length = this.#restLength + take;
    if (length > rest.length) {
      const grown = Buffer.allocUnsafeSlow(Math.min(whole, Math.max(minRestBytes, maxGrowth * length)));
      grown.set(rest.subarray(0, this.#restLength));
      this.#rest = rest = grown;
    }
    rest.set(chunk.subarray(at, at + take), this.#restLength);
    this.#restLength += take;
    if (this.#restLength === whole) {
      this.#rest = undefined;
      this.#restLength = 0;
      const id = (rest[4]! << 24) | (rest[5]! << 16) | (rest[6]! << 8) | rest[7]!;
      this.#handle(rest[2]!, rest[3]!, id, rest, headBytes, whole);
    }
    return at + take;
  }
}

export function readUint16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

export function readUint32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

export function writeUint16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function writeUint32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** Text of a payload that goes no further than a log or an error. */
export function readText(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("utf8");
}
