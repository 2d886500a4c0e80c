/** The running exchanges of a connection by id. Ids rise, so nearly all are found at a place computed from theirs. */
const slots = 1024;

export class ExchangeTable<T extends { readonly numericId: number }> {
  readonly #slots: (T | undefined)[] = [];
  /** Those whose place is taken by another that runs long. */
  #others: Map<number, T> | undefined;
  size = 0;

  get(id: number): T | undefined {
    const found = this.#slots[(id >>> 1) & (slots - 1)];
    if (found !== undefined && found.numericId === id) return found;
    return this.#others?.get(id);
  }

  add(exchange: T): void {
    this.size++;
    const slot = (exchange.numericId >>> 1) & (slots - 1);
    if (slot > this.#slots.length) this.#fillTo(slot);
    if (this.#slots[slot] === undefined) this.#slots[slot] = exchange;
    else (this.#others ??= new Map()).set(exchange.numericId, exchange);
  }

  /** False: it was not there. */
  delete(id: number): boolean {
    const slot = (id >>> 1) & (slots - 1);
    if (this.#slots[slot]?.numericId === id) this.#slots[slot] = undefined;
    else if (this.#others?.delete(id) !== true) return false;
    this.size--;
    return true;
  }

  /** All of them, in a list of its own. */
  all(): T[] {
    const all = this.#slots.filter((exchange) => exchange !== undefined);
    if (this.#others !== undefined) all.push(...this.#others.values());
    return all;
  }

  // Grown in order, the list never has holes.
  #fillTo(slot: number): void {
    while (this.#slots.length <= slot) this.#slots.push(undefined);
  }
}
