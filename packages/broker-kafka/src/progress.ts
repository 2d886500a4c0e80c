/** How far one partition has been taken, and up to where all of it is settled. */

/** A message taken and, sooner or later, settled. */
export interface Taken {
  readonly offset: number;
  settled: boolean;
}

/** Offsets are numbers here: they stay exact for a few hundred years of a million messages a second. */
export class PartitionProgress {
  readonly partition: number;
  /** The next offset to take. */
  #position: number;
  /** In the order of their offsets; those before `#first` are done with. */
  #taken: Taken[] = [];
  #first = 0;
  /** Up to where the group has been told. */
  committed: number;
  /** It belongs to somebody else now: nothing of it may be committed. */
  revoked = false;
  /** The client has been pointed at the position. */
  sought = false;

  constructor(partition: number, position: number) {
    this.partition = partition;
    this.#position = position;
    this.committed = position;
  }

  get position(): number {
    return this.#position;
  }

  /** Everything below is settled: what may be committed. */
  get watermark(): number {
    return this.#taken[this.#first]?.offset ?? this.#position;
  }

  /** Messages taken that cannot be committed yet, settled or not. */
  get ahead(): number {
    return this.#taken.length - this.#first;
  }

  take(offset: number): Taken {
    const taken = { offset, settled: false };
    this.#taken.push(taken);
    this.#position = offset + 1;
    return taken;
  }

  /** Nothing is to be taken below `offset`. */
  passTo(offset: number): void {
    if (offset > this.#position) this.#position = offset;
  }

  /** @returns true if more may be committed than before. */
  settle(taken: Taken): boolean {
    taken.settled = true;
    const before = this.#first;
    while (this.#taken[this.#first]?.settled === true) this.#first++;
    if (this.#first === before) return false;
    if (this.#first === this.#taken.length) {
      this.#taken.length = 0;
      this.#first = 0;
    } else if (this.#first > 1_024) {
      this.#taken = this.#taken.slice(this.#first);
      this.#first = 0;
    }
    return true;
  }
}
