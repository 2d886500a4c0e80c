/**
 * What strangers make us keep, bounded in bytes and shared out fairly by who sent it.
 *
 * Whoever floods a table pushes out what came from the same address, oldest first, and never what has answered a
 * question of ours. A newcomer is always let in: that it cannot be told from the flood is no reason to keep it out.
 */

/** What a {@link FairTable} keeps of an entry for itself. */
export interface Kept {
  /** Address of the sender. */
  readonly source: string;
  /** What keeping it costs. */
  readonly bytes: number;
  /** It came in answer to a question of ours, on a port that only who heard the question knows. */
  readonly proven: boolean;
}

/** Senders told apart; all further ones share one place. */
const maxSources = 256;
const others = "others";

interface Share {
  bytes: number;
  /** Oldest first. */
  readonly names: Set<string>;
}

/** See the head of this file. */
export class FairTable<Entry extends Kept> {
  readonly #maxBytes: number;
  readonly #entries = new Map<string, { readonly entry: Entry; readonly source: string }>();
  readonly #proven = new Map<string, Share>();
  readonly #unproven = new Map<string, Share>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(name: string): Entry | undefined {
    return this.#entries.get(name)?.entry;
  }

  has(name: string): boolean {
    return this.#entries.has(name);
  }

  *entries(): Iterable<[string, Entry]> {
    for (const [name, { entry }] of this.#entries) yield [name, entry];
  }

  *values(): Iterable<Entry> {
    for (const { entry } of this.#entries.values()) yield entry;
  }

  /** Keep an entry in the place of an earlier one of the same name; gives those that had to go, maybe itself. */
  set(name: string, entry: Entry): Map<string, Entry> {
    this.delete(name);
    const shares = entry.proven ? this.#proven : this.#unproven;
    const source = shares.has(entry.source) || shares.size < maxSources ? entry.source : others;
    let share = shares.get(source);
    if (share === undefined) shares.set(source, (share = { bytes: 0, names: new Set() }));
    share.bytes += entry.bytes;
    share.names.add(name);
    this.#bytes += entry.bytes;
    this.#entries.set(name, { entry, source });
    const gone = new Map<string, Entry>();
    while (this.#bytes > this.#maxBytes) {
      const victim = this.#victim();
      if (victim === undefined) break;
      gone.set(victim, this.#entries.get(victim)!.entry);
      this.delete(victim);
    }
    return gone;
  }

  delete(name: string): boolean {
    const kept = this.#entries.get(name);
    if (kept === undefined) return false;
    this.#entries.delete(name);
    const shares = kept.entry.proven ? this.#proven : this.#unproven;
    const share = shares.get(kept.source)!;
    share.names.delete(name);
    share.bytes -= kept.entry.bytes;
    this.#bytes -= kept.entry.bytes;
    if (share.names.size === 0) shares.delete(kept.source);
    return true;
  }

  clear(): void {
    this.#entries.clear();
    this.#proven.clear();
    this.#unproven.clear();
    this.#bytes = 0;
  }

  /** The oldest of the sender that takes most, among those that have proven nothing as long as there are any. */
  #victim(): string | undefined {
    let largest: Share | undefined;
    for (const share of (this.#unproven.size > 0 ? this.#unproven : this.#proven).values())
      if (largest === undefined || share.bytes > largest.bytes) largest = share;
    return largest?.names.values().next().value;
  }
}
