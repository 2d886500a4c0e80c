/** Extensions of message sets and of closed enums, and fields that have one name in JSON. */
import { getExtension, hasExtension, protoTypes, setExtension, unknownFields, type Extension } from "@micro/core/proto";
import { describe, expect, it } from "vitest";
import {
  $types,
  closed,
  closed_list,
  closed_packed,
  Holder,
  Item_item,
  large_item,
  Query,
  Set as MessageSet,
  small_item,
  Swapped,
  Twins,
  type Item,
} from "./gen/old.ts";

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString("hex");
const bytesOf = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");
const types = protoTypes($types);
const items: readonly (readonly [Extension<MessageSet, Item>, number, string])[] = [
  [small_item, 4, "04"],
  [large_item, 2 ** 29, "8080808002"],
  [Item_item, 2 ** 31 - 2, "feffffff07"],
];

const query = (bytes: string): Query => Query.decode(Buffer.concat([bytesOf("0a0178"), bytesOf(bytes)]));

describe("message sets", () => {
  it.each(items)("have items with their numbers, however large: $1", (extension, number, varint) => {
    const set = MessageSet.create();
    expect(extension.number).toBe(number);
    expect([hasExtension(set, extension), getExtension(set, extension)]).toEqual([false, undefined]);
    setExtension(set, extension, { text: "x" });
    // As C++ and Go write it: a group with the number and the message.
    expect(hex(MessageSet.encode(set))).toBe(`0b10${varint}1a030a01780c`);
    const read = Holder.decode(Holder.encode({ set })).set!;
    expect(getExtension(read, extension)).toEqual({ text: "x", inner: undefined });
    for (const [other] of items) expect(hasExtension(read, other)).toBe(other === extension);
    setExtension(read, extension, undefined);
    expect(unknownFields(read)).toBeUndefined();
  });

  it("keep their items apart, and what else is in them", () => {
    const set = MessageSet.decode(bytesOf("0b 1004 1a030a0161 0c  0b 1005 1a00 0c  a00601"));
    for (const [extension, number] of items) setExtension(set, extension, { text: `n${number}` });
    for (const [extension, number] of items) expect(getExtension(set, extension)?.text).toBe(`n${number}`);
    for (const [extension] of items) setExtension(set, extension, undefined);
    expect(hex(unknownFields(set))).toBe("0b10051a000ca00601");
  });

  it("are read in any order, in parts, with other fields between", () => {
    for (const [bytes, text] of [
      ["0b 1a030a0178 1004 0c", "x"],
      ["0b 2001 1004 2a0161 1a030a0178 0c", "x"],
      ["0b 1004 1a030a0178 0c 0b 1004 1a00 0c", "x"],
      ["0b 1004 1a030a0178 1a030a0179 0c", "y"],
      ["0b 1005 1004 1a030a0178 0c", "x"],
    ] as const)
      expect(getExtension(MessageSet.decode(bytesOf(bytes)), small_item)?.text, bytes).toBe(text);
    // Neither a field of that number nor an item without one is it.
    for (const bytes of ["22030a0178", "0b 1a030a0178 0c", "0b 0c"])
      expect(hasExtension(MessageSet.decode(bytesOf(bytes)), small_item), bytes).toBe(false);
  });

  it("that are wrong are refused", () => {
    for (const bytes of ["0b 1004", "0b 1004 14", "0b 1004 1a05 0a 0c", "0c"])
      expect(() => MessageSet.decode(bytesOf(bytes)), bytes).toThrow(/the bytes|the end of group/);
    const set = MessageSet.decode(bytesOf("0b 1004 1a020a05 0c"));
    expect(() => getExtension(set, small_item)).toThrow("the bytes end inside a field");
    expect(() => setExtension(set, small_item, { text: 5 } as never)).toThrow("[small_item].text: 5 is not a string");
  });

  it("have JSON", () => {
    const set = MessageSet.create();
    for (const [extension, number] of items) setExtension(set, extension, { text: String(number), inner: undefined });
    const json = Holder.toJSON({ set }, { types });
    expect(json).toEqual({
      set: {
        "[small_item]": { text: "4" },
        "[large_item]": { text: "536870912" },
        "[Item.item]": { text: "2147483646" },
      },
    });
    expect(Holder.fromJSON(json, { types })).toEqual({ set });
  });
});

describe("extensions of a closed enum", () => {
  it("have no numbers that it has not: those stay with what is not known", () => {
    const message = query("a80607 b00601 b00607 b00602 ba0603010702");
    expect([getExtension(message, closed), hasExtension(message, closed)]).toEqual([undefined, false]);
    expect([getExtension(message, closed_list), hasExtension(message, closed_list)]).toEqual([[1, 2], true]);
    expect(getExtension(message, closed_packed)).toEqual([1, 2]);
    expect(hasExtension(query("b00607"), closed_list)).toBe(false);
    expect(hex(Query.encode(message))).toContain("a80607");
    expect(Query.toJSON(message, { types })).toEqual({
      text: "x",
      "[closed_list]": ["FIRST", "SECOND"],
      "[closed_packed]": ["FIRST", "SECOND"],
    });
  });

  it("refuse such numbers where they are set", () => {
    const message = query("");
    expect(() => setExtension(message, closed, 7 as never)).toThrow(
      "[closed]: 7 is not a number of the enum, which is closed",
    );
    expect(() => setExtension(message, closed_list, [1, 7] as never)).toThrow("[closed_list]: 7 is not a number");
    expect(() => setExtension(message, closed, "FIRST" as never)).toThrow(
      '[closed]: "FIRST" is not a number of an enum',
    );
    expect(() => Query.fromJSON({ text: "x", "[closed]": 7 }, { types })).toThrow(
      '["[closed]"]: 7 is not a name or a number of the enum',
    );
    const lenient = Query.fromJSON({ text: "x", "[closed]": "THIRD" }, { types, ignoreUnknownFields: true });
    expect(hasExtension(lenient, closed)).toBe(false);
    expect(unknownFields(message)).toBeUndefined();
  });
});

describe("two fields with one name in JSON", () => {
  it("the first has it, as in Go; the other one is not written where it would be read as the first", () => {
    expect(Twins.fromJSON({ fooBar: 1 })).toEqual({ fooBar: 1, fooBar$: undefined });
    expect(Twins.toJSON({ fooBar: 1 })).toEqual({ fooBar: 1 });
    for (const options of [{}, { names: "proto" as const }, { types }])
      expect(() => Twins.toJSON({ fooBar: 1, fooBar$: 2 }, options)).toThrow(
        'fooBar$: in JSON "fooBar" is the field foo_bar: give one of them a json_name',
      );
    expect(Twins.decode(Twins.encode({ fooBar: 1, fooBar$: 2 }))).toEqual({ fooBar: 1, fooBar$: 2 });
  });

  it("names that are swapped are those of JSON", () => {
    const message = { a: "1", b: "2" };
    expect(Swapped.toJSON(message)).toEqual({ b: "1", a: "2" });
    expect(Swapped.fromJSON({ b: "1", a: "2" })).toEqual(message);
    expect(() => Swapped.toJSON(message, { names: "proto" })).toThrow('a: in JSON "a" is the field b');
  });
});
