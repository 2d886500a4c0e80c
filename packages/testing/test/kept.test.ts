import { expect, it } from "vitest";
import { Keepsakes, watchEntries } from "../src/kept.ts";

class Thing {
  readonly name = "thing";
}

it("objects that somebody keeps are found, by their class; others are not", async () => {
  const kept = new Keepsakes();
  const keeper: object[] = [];
  const make = (): void => {
    for (let index = 0; index < 10; index++) kept.add(new Thing());
    for (let index = 0; index < 5; index++) keeper.push(kept.add(new Thing()));
  };
  make();
  expect(kept.added).toBe(15);
  await kept.atMost(5, "things");
  await expect(kept.atMost(4, "things")).rejects.toThrow("of 15 things 5 are kept: 5 Thing");
  keeper.length = 0;
  await kept.atMost(0, "things");
  kept.clear();
  expect(kept.added).toBe(0);
});

it("entries of maps and sets are counted while somebody has them, those made before the watch as well", async () => {
  const before = new Map([["a", 1]]);
  let set: Set<number> | undefined = new Set();
  {
    using entries = watchEntries();
    // The runner has maps of its own.
    const none = entries.count();
    before.set("b", 2).set("c", 3);
    set.add(1).add(2);
    expect(entries.count() - none).toBe(5);
    before.delete("a");
    expect(entries.count() - none).toBe(4);
    set = undefined;
    await expect.poll(() => entries.count() - none).toBe(2);
  }
  expect(before.set("d", 4).size).toBe(3);
  expect(Map.prototype.set.toString()).toContain("[native code]");
  expect(Object.keys(Map.prototype)).toEqual([]);
});
