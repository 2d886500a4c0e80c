/** What may be spent on strangers in a time: so many bytes a second for each address, and for all together. */

export interface BudgetOptions {
  /** For one address: bytes a second, and how many may be saved up. */
  readonly each: { readonly rate: number; readonly burst: number };
  /** For all addresses together. */
  readonly all: { readonly rate: number; readonly burst: number };
  /** Default: `performance.now`. */
  readonly now?: (() => number) | undefined;
}

interface Bucket {
  left: number;
  at: number;
}

/** Addresses whose spending is remembered; beyond it, those that have been quiet are forgotten first. */
const maxAddresses = 1_024;

/**
 * See the head of this file. What something costs is often known only when it is done: whoever has anything left may
 * spend, and what was spent too much is missing afterwards.
 */
export class Budget {
  readonly #options: BudgetOptions;
  readonly #now: () => number;
  readonly #all: Bucket;
  readonly #each = new Map<string, Bucket>();

  constructor(options: BudgetOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#all = { left: options.all.burst, at: this.#now() };
  }

  /** The address has something left. */
  allows(address: string): boolean {
    const now = this.#now();
    refill(this.#all, this.#options.all, now);
    return this.#all.left > 0 && this.#bucket(address, now).left > 0;
  }

  spend(address: string, bytes: number): void {
    const now = this.#now();
    refill(this.#all, this.#options.all, now);
    this.#all.left -= bytes;
    this.#bucket(address, now).left -= bytes;
  }

  #bucket(address: string, now: number): Bucket {
    const { each } = this.#options;
    let bucket = this.#each.get(address);
    if (bucket === undefined) {
      if (this.#each.size >= maxAddresses) this.#each.delete(this.#each.keys().next().value!);
      bucket = { left: each.burst, at: now };
    } else {
      refill(bucket, each, now);
      this.#each.delete(address);
    }
    // Last in the order: what was not heard of for longest is first.
    this.#each.set(address, bucket);
    return bucket;
  }
}

function refill(bucket: Bucket, { rate, burst }: { readonly rate: number; readonly burst: number }, now: number): void {
  bucket.left = Math.min(burst, bucket.left + ((now - bucket.at) / 1_000) * rate);
  bucket.at = now;
}
