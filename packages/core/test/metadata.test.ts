import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { canonicalName, Metadata, perMessageHeaders } from "../src/metadata.ts";

describe("canonicalName", () => {
  it.each([
    ["micro-id", "Micro-Id"],
    ["Micro-ID", "Micro-Id"],
    ["X-MICRO-FROM-service", "X-Micro-From-Service"],
    ["content-type", "Content-Type"],
    ["a", "A"],
    ["-a--b-", "-A--B-"],
    ["foo_bar", "Foo_bar"],
    ["1a-2b", "1a-2b"],
    ["two words", "two words"],
    ["größe", "größe"],
    ["", ""],
  ])("makes %j %j, as Go's http package does", (name, expected) => {
    expect(canonicalName(name)).toBe(expected);
    expect(canonicalName(expected)).toBe(expected);
  });

  it("keeps names apart that are properties of objects", () => {
    for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty"])
      expect(canonicalName(name).toLowerCase()).toBe(name.toLowerCase());
  });

  it("answers the same however many names have been seen", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-zA-Z0-9-]{1,80}$/), (name) => {
        const once = canonicalName(name);
        expect(canonicalName(name)).toBe(once);
        expect(canonicalName(name.toUpperCase())).toBe(once);
        expect(canonicalName(once)).toBe(once);
      }),
      { numRuns: 3000 },
    );
  });
});

describe("Metadata", () => {
  it("is made of objects, pairs, maps and other metadata", () => {
    const expected = [
      ["Foo", "1"],
      ["Bar-Baz", "2"],
    ];
    const object = { foo: "1", "bar-baz": "2" };
    for (const init of [object, Object.entries(object), new Map(Object.entries(object)), new Metadata(object)])
      expect([...new Metadata(init)]).toEqual(expected);
    expect([...new Metadata()]).toEqual([]);
  });

  it("finds names in any case and keeps one value each", () => {
    const metadata = new Metadata({ "X-Trace": "a" }).set("x-TRACE", "b");
    expect(metadata.size).toBe(1);
    expect([metadata.get("x-trace"), metadata.has("X-TRACE"), metadata.get("other")]).toEqual(["b", true, undefined]);
    expect([metadata.delete("x-trace"), metadata.delete("x-trace"), metadata.size]).toEqual([true, false, 0]);
  });

  it("refuses values that are no text and names that are empty", () => {
    expect(() => new Metadata({ a: 5 as never })).toThrow(
      new TypeError('metadata "a": the value must be a string, not number'),
    );
    expect(() => new Metadata({ a: undefined as never })).toThrow(TypeError);
    expect(() => new Metadata().set("", "x")).toThrow(TypeError);
  });

  it("refuses what no header can carry, and takes blanks around a value for what they are there: nothing", () => {
    for (const name of ["a:b", "a b", " a", "größe", "a\nb", "a\0", "(a)", "a,b", "😀"]) {
      expect(() => new Metadata({ [name]: "x" }), name).toThrow(TypeError);
      expect(() => new Metadata().set(name, "x"), name).toThrow(/cannot be a name/);
      expect(() => new Metadata({ a: "1" }).merge({ [name]: "x" }), name).toThrow(TypeError);
    }
    for (const value of ["a\r\nb: c", "a\n", "\r", "a\0b", "\u001b[2J", "\u007f"])
      expect(() => new Metadata({ a: value }), JSON.stringify(value)).toThrow(/a line break or another control char/);
    const metadata = new Metadata({ "!#$%&'*+-.^_`|~9": "größe 😀\ta, b", blank: " \t a b \t ", empty: "  " });
    expect([...metadata].map(([, value]) => value)).toEqual(["größe 😀\ta, b", "a b", ""]);
  });

  it("keeps what a peer sent as it came", () => {
    expect([...new Metadata().keep("a b", " x\n")]).toEqual([["a b", " x\n"]]);
    expect([...new Metadata(new Metadata().keep("a b", "x\n")).merge(new Metadata().keep("c:d", "\0"))]).toHaveLength(
      2,
    );
  });

  it("copies are independent of each other", () => {
    const first = new Metadata({ a: "1" });
    const copy = new Metadata(first);
    copy.set("a", "2").set("b", "3");
    expect([first.get("a"), first.has("b")]).toEqual(["1", false]);
  });

  it("merge gives a new one, the other's entries over these", () => {
    const base = new Metadata({ a: "1", b: "2" });
    expect([...base.merge({ B: "3", c: "4" })]).toEqual([
      ["A", "1"],
      ["B", "3"],
      ["C", "4"],
    ]);
    expect([...base.merge(new Metadata({ b: "5" }))].at(1)).toEqual(["B", "5"]);
    expect([...base.merge(undefined)]).toEqual([...base]);
    expect(base.merge(undefined)).not.toBe(base);
    expect(base.get("b")).toBe("2");
  });

  it("lazy metadata is loaded once, on first use, and may be written", () => {
    let loads = 0;
    const lazy = (): Metadata => Metadata.lazy(() => (loads++, new Map([["Foo", "1"]])));
    const metadata = lazy();
    expect(loads).toBe(0);
    expect([metadata.get("foo"), metadata.size, [...metadata]]).toEqual(["1", 1, [["Foo", "1"]]]);
    expect(loads).toBe(1);
    expect(lazy().size).toBe(1);
    expect(new Metadata(lazy()).get("foo")).toBe("1");
    expect([...lazy().set("bar", "2")].length).toBe(2);
    expect([...lazy().merge({ bar: "2" })].length).toBe(2);
  });

  it("takes hostile names as data", () => {
    const metadata = new Metadata([
      ["__proto__", "x"],
      ["constructor", "y"],
    ]);
    expect(metadata.get("__proto__")).toBe("x");
    const json = metadata.toJSON();
    expect(Object.getPrototypeOf(json)).toBeNull();
    expect(Object.entries(json)).toEqual([...metadata]);
    expect("x" in {}).toBe(false);
  });

  it("becomes JSON in the order of its entries", () => {
    expect(JSON.stringify(new Metadata({ b: "1", a: "é" }))).toBe('{"B":"1","A":"é"}');
  });
});

it("headers that describe one message are listed under their canonical names", () => {
  for (const name of perMessageHeaders) expect(canonicalName(name)).toBe(name);
  for (const leaked of ["Local", "Remote", "Micro-Stream", "Connection", "Timeout"])
    expect(perMessageHeaders).toContain(leaked);
  for (const carried of ["Authorization", "Micro-Trace-Id", "Micro-Namespace"])
    expect(perMessageHeaders).not.toContain(carried);
});
