/**
 * Which services use a piece that was handed in. It stays open when they stop, since it is the program's; but a piece made
 * for one service and forgotten must not keep a finished process alive, so it is told when the last one has stopped.
 */

interface Releasable {
  release?(): void | Promise<void>;
}

/** Kept by the pieces themselves, so to speak: nothing here outlives them, and services do not meet. */
const users = new WeakMap<object, number>();

/** A service uses it from now on. */
export function take(piece: object): void {
  users.set(piece, (users.get(piece) ?? 0) + 1);
}

/** A service uses it no longer. Resolves when the piece has let go of what it need not hold. */
export async function give(piece: Releasable): Promise<void> {
  const left = (users.get(piece) ?? 1) - 1;
  if (left > 0) {
    users.set(piece, left);
    return;
  }
  users.delete(piece);
  await piece.release?.();
}
