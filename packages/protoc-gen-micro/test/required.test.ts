import { message, type ProtoType } from "@micro/core/proto";
import { expect, it } from "vitest";
import { Above, Flat, Leaf, Node, Other } from "./gen/old.ts";

const types: readonly ProtoType<any>[] = [Leaf, Flat, Above, Node, Other];

/** Of each type: a message without what is required, its bytes, and where that is missing. */
const incomplete: ReadonlyMap<string, readonly [message: object, bytes: readonly number[], path: string]> = new Map([
  ["Leaf", [{}, [], "id"]],
  ["Flat", [{ leaf: {} }, [10, 0], "leaf.id"]],
  ["Above", [{ flat: { a: { leaf: {} } } }, [10, 7, 10, 1, 97, 18, 2, 10, 0], 'flat["a"].leaf.id']],
  ["Node", [{ next: { other: { leaves: [{}] } } }, [10, 4, 18, 2, 18, 0], "next.other.leaves[0].id"]],
  ["Other", [{ nodes: [{ other: { leaves: [{}] } }] }, [10, 4, 18, 2, 18, 0], "nodes[0].other.leaves[0].id"]],
]);

/** The types as no program has used them yet. */
function unused(): ReadonlyMap<string, ProtoType<any>> {
  const copies = new Map<unknown, ProtoType<any>>();
  for (const type of types) {
    const fields = type.fields.map((field) => {
      const of = field.of?.();
      return { ...field, ...(of !== undefined && { of: () => copies.get(of) ?? of }) };
    });
    const { base, write, read, json } = type;
    copies.set(type, message(type.$type, { base, write, read, json, fields: fields as any }));
  }
  return new Map([...copies.values()].map((type) => [type.$type, type]));
}

function orders<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((item) => orders(items.filter((each) => each !== item)).map((rest) => [item, ...rest]));
}

it("what is required is missed whichever types are used before", () => {
  const all = orders([...incomplete.keys()]);
  expect(all).toHaveLength(120);
  for (const order of all) {
    const fresh = unused();
    for (const name of order) {
      const type = fresh.get(name)!;
      const [part, bytes, path] = incomplete.get(name)!;
      const told = `${path} is required and missing`;
      const after = `after ${order.join(", ")}`;
      expect(() => type.decode(Uint8Array.from(bytes)), after).toThrow(told);
      expect(() => type.encode(part), after).toThrow(told);
      expect(() => type.fromJSON(part), after).toThrow(told);
      expect(() => type.toJSON(part), after).toThrow(told);
    }
  }
});

it("what has nothing required is taken whichever types are used before", () => {
  for (const order of orders(["Flat", "Node", "Other", "Leaf"])) {
    const fresh = unused();
    for (const name of order) {
      if (name === "Leaf") expect(() => fresh.get(name)!.encode({})).toThrow("id is required");
      else expect(fresh.get(name)!.encode({})).toHaveLength(0);
    }
  }
});
