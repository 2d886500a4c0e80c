/**
 * What the fast wire keeps for its peers, in bytes, over all connections of the process: memory is the process's, whoever
 * listens in it. Beside `direct.ts` the one thing that services of a process share; it decides nothing but who has to wait.
 */

/**
 * A sum with a limit. Each connection may hold as much as is free: one takes at most half of the limit, and however many come,
 * there is room for those who hold little.
 */
export class HeldBytes {
  limit: number;
  #held = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  get held(): number {
    return this.#held;
  }

  get free(): number {
    return this.limit - this.#held;
  }

  /** A message of `bytes` must not be refused for its size alone. */
  raise(bytes: number): void {
    this.limit = Math.max(this.limit, 4 * bytes);
  }

  /** @param bytes negative: no longer held. */
  add(bytes: number): void {
    this.#held += bytes;
  }
}

const mebibyte = 1024 * 1024;
/** What a connection may hold whatever others do: a few small calls. */
const leastBytes = 16 * 1024;

/** Of callers: requests that run or wait, messages that are incomplete or unread, dictionaries. */
export const fromCallers: HeldBytes = new HeldBytes(256 * mebibyte);
/** For callers: replies and messages that wait until they are taken. */
export const toCallers: HeldBytes = new HeldBytes(256 * mebibyte);
/** Of nodes that are called: replies that are incomplete, messages that nobody has read. */
export const fromNodes: HeldBytes = new HeldBytes(1024 * mebibyte);

/** Part of a sum that is measured now and then. */
export class HeldPart {
  readonly #sum: HeldBytes;
  #told = 0;

  constructor(sum: HeldBytes) {
    this.#sum = sum;
  }

  /** So much is held now. */
  set(bytes: number): void {
    if (bytes === this.#told) return;
    this.#sum.add(bytes - this.#told);
    this.#told = bytes;
  }

  /** There is no room for `bytes` more. */
  lacks(bytes: number): boolean {
    return this.#told + bytes > Math.max(this.#sum.free, leastBytes);
  }
}

/** What is held as of the last look: exact for what waits to be sent, else as of the last bytes of each connection, or second. @internal */
export function heldBytes(): { readonly fromCallers: number; readonly toCallers: number; readonly fromNodes: number } {
  return { fromCallers: fromCallers.held, toCallers: toCallers.held, fromNodes: fromNodes.held };
}
