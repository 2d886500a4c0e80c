/**
 * What is still kept of work that is over: objects that should have become garbage, and entries of maps and sets.
 *
 * An entry that a map never loses breaks no call and shows on no timer; it shows as memory, after weeks.
 */
import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const patienceMs = 2_000;

let collector: (() => void) | undefined;

/** Collect what is garbage by now, whether the program was started with `--expose-gc` or not. */
export function collectNow(): void {
  if (collector === undefined) {
    setFlagsFromString("--expose-gc");
    collector = (globalThis.gc ?? runInNewContext("gc")) as () => void;
  }
  collector();
}

/** See {@link watchEntries}. */
export interface EntryWatch extends Disposable {
  /** Entries of all maps and sets that something was put into since the watch began, and that are not garbage. */
  count(): number;
}

/**
 * Count what is put into maps and sets, and not taken out: an entry that nobody deletes may hold no more than an id. One watch at a
 * time; until it is disposed, putting something in takes a little longer.
 */
export function watchEntries(): EntryWatch {
  const seen = new WeakSet<object>();
  let collections: WeakRef<{ readonly size: number }>[] = [];
  const note = (collection: { readonly size: number }): void => {
    if (seen.has(collection)) return;
    seen.add(collection);
    collections.push(new WeakRef(collection));
  };
  // oxlint-disable-next-line typescript/unbound-method
  const { set } = Map.prototype;
  // oxlint-disable-next-line typescript/unbound-method
  const { add } = Set.prototype;
  const noteSet = function (this: Map<unknown, unknown>, key: unknown, value: unknown) {
    note(this);
    return set.call(this, key, value);
  };
  const noteAdd = function (this: Set<unknown>, value: unknown) {
    note(this);
    return add.call(this, value);
  };
  // Nobody hands in the collections that work keeps its entries in: this is the one place where they all come by.
  Object.assign(Map.prototype, { set: noteSet });
  Object.assign(Set.prototype, { add: noteAdd });
  return {
    count() {
      collectNow();
      collections = collections.filter((collection) => collection.deref() !== undefined);
      return collections.reduce((sum, collection) => sum + (collection.deref()?.size ?? 0), 0);
    },
    [Symbol.dispose]() {
      Object.assign(Map.prototype, { set });
      Object.assign(Set.prototype, { add });
    },
  };
}

/** Objects that nobody should keep once the work they were made for is over. */
export class Keepsakes {
  #references: WeakRef<object>[] = [];

  /** Have an eye on `object`. @returns it. */
  add<Kept extends object>(object: Kept): Kept {
    this.#references.push(new WeakRef(object));
    return object;
  }

  /** How many were added. */
  get added(): number {
    return this.#references.length;
  }

  /**
   * Wait until at most `most` of them are kept.
   * @throws {AssertionError} naming the kinds of what is still there after two seconds.
   */
  async atMost(most: number, what: string): Promise<void> {
    const until = performance.now() + patienceMs;
    for (;;) {
      // In a turn of its own: what this one has looked at through a weak reference lives as long as it does.
      await new Promise((resolve) => void setImmediate(resolve));
      collectNow();
      const left = this.#kinds();
      const count = [...left.values()].reduce((sum, more) => sum + more, 0);
      if (count <= most) return;
      const kinds = [...left].map(([kind, more]) => `${more} ${kind}`).join(", ");
      assert.ok(performance.now() < until, `of ${this.added} ${what} ${count} are kept: ${kinds}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** How many there are of each class. Nothing of them may be in the hands of the caller when it looks again. */
  #kinds(): Map<string, number> {
    const kinds = new Map<string, number>();
    for (const reference of this.#references) {
      const object = reference.deref();
      if (object !== undefined) kinds.set(object.constructor.name, (kinds.get(object.constructor.name) ?? 0) + 1);
    }
    return kinds;
  }

  /** Look after no object any more. */
  clear(): void {
    this.#references = [];
  }
}
