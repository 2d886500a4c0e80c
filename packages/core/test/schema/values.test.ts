import { describe, expect, it } from "vitest";
import { message, valueOf, valueOfJsonSchema } from "../../src/registry/values.ts";

const fieldsOf = (properties: Record<string, unknown>, more: Record<string, unknown> = {}): unknown =>
  Object.fromEntries(
    (valueOfJsonSchema("T", { type: "object", properties, ...more }).values ?? []).map(({ name, type }) => [
      name,
      type,
    ]),
  );

describe("value trees by hand", () => {
  it("have Go's form", () => {
    expect(message("Request", { name: "string", tags: "[]string", labels: "" })).toEqual({
      name: "Request",
      type: "Request",
      values: [
        { name: "name", type: "string", values: null },
        { name: "tags", type: "[]string", values: null },
        { name: "labels", type: "", values: null },
      ],
    });
    expect(message("Empty")).toEqual({ name: "Empty", type: "Empty", values: null });
  });

  it("nest three levels deep and no deeper, as in Go", () => {
    const deep = message("A", { b: message("B", { c: message("C", { d: message("D", { e: "string" }) }) }) });
    expect(deep.values).toEqual([{ name: "b", type: "B", values: [{ name: "c", type: "C", values: null }] }]);
    let tall = { name: "leaf", type: "string", values: null } as ReturnType<typeof message>;
    for (let level = 0; level < 10; level++) tall = { name: `l${level}`, type: "T", values: [tall] };
    expect(valueOf({ name: "T", value: tall }).values![0]!.values![0]!.values).toBeNull();
  });

  it("are the name alone for a type that says no more", () => {
    expect(valueOf({ name: "HelloRequest" })).toEqual({ name: "HelloRequest", type: "HelloRequest", values: null });
  });
});

describe("value trees from JSON Schema", () => {
  it("use Go's names of simple types", () => {
    expect(
      fieldsOf({
        text: { type: "string" },
        whole: { type: "integer" },
        real: { type: "number" },
        yes: { type: "boolean" },
        list: { type: "array", items: { type: "integer" } },
        lists: { type: "array", items: { type: "array", items: { type: "string" } } },
        bytes: { type: "string", contentEncoding: "base64" },
        map: { type: "object", additionalProperties: { type: "string" } },
        unknown: {},
        always: true,
      }),
    ).toEqual({
      text: "string",
      whole: "int64",
      real: "float64",
      yes: "bool",
      list: "[]int64",
      lists: "[][]string",
      bytes: "[]uint8",
      map: "",
      unknown: "",
      always: "",
    });
  });

  it("see through null, enumerations, literals and unions of one type", () => {
    expect(
      fieldsOf({
        a: { anyOf: [{ type: "string" }, { type: "null" }] },
        b: { type: ["integer", "null"] },
        c: { enum: ["x", "y"] },
        d: { const: 5 },
        e: { anyOf: [{ const: "x" }, { const: "y" }] },
        f: { anyOf: [{ type: "string" }, { type: "number" }] },
        g: { enum: ["x", 1] },
        h: { allOf: [{ type: "boolean" }] },
      }),
    ).toEqual({ a: "string", b: "int64", c: "string", d: "int64", e: "string", f: "", g: "", h: "bool" });
  });

  it("name nested objects by reference, title or field", () => {
    const user = { type: "object", properties: { id: { type: "integer" } } };
    expect(
      fieldsOf(
        {
          owner: user,
          titled: { ...user, title: "Account" },
          spoken: { ...user, title: "A long title" },
          users: { type: "array", items: user },
          referred: { $ref: "#/$defs/Person" },
          people: { type: "array", items: { $ref: "#/$defs/Person" } },
          lost: { $ref: "#/$defs/Nobody" },
          polluted: { $ref: "#/__proto__/toString" },
        },
        { $defs: { Person: user } },
      ),
    ).toEqual({
      owner: "Owner",
      titled: "Account",
      spoken: "Spoken",
      users: "[]User",
      referred: "Person",
      people: "[]Person",
      lost: "",
      polluted: "",
    });
  });

  it("end for schemas that refer to themselves", () => {
    const tree = { type: "object", properties: { next: { $ref: "#" }, text: { type: "string" } } };
    const value = valueOfJsonSchema("Tree", tree);
    expect(value.values![0]!.values!.map(({ name, values }) => [name, values])).toEqual([
      ["next", null],
      ["text", null],
    ]);
    expect(valueOfJsonSchema("Loop", { $ref: "#" })).toEqual({ name: "Loop", type: "", values: null });
    const lists = { $ref: "#/$defs/L", $defs: { L: { type: "array", items: { $ref: "#/$defs/L" } } } };
    expect(valueOfJsonSchema("Lists", lists).type).toMatch(/^(\[\]){2,6}$/);
  });
});
