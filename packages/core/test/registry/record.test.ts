import { describe, expect, it } from "vitest";
import { copyService, decodeResult, decodeService, encodeResult, encodeService } from "../../src/registry/record.ts";
import type { Service } from "../../src/registry/registry.ts";

const service: Service = {
  name: "greeter",
  version: "1.0.0",
  metadata: {},
  endpoints: [
    {
      name: "Greeter.Hello",
      request: { name: "Request", type: "Request", values: [{ name: "name", type: "string", values: null }] },
      response: null,
      metadata: { stream: "false" },
    },
  ],
  nodes: [{ id: "greeter-1", address: "10.0.0.1:80", metadata: { protocol: "mucp" } }],
};

describe("service records", () => {
  it("are written as go-micro v2 writes them", () => {
    expect(encodeService(service)).toBe(
      '{"name":"greeter","version":"1.0.0","metadata":null,"endpoints":[{"name":"Greeter.Hello",' +
        '"request":{"name":"Request","type":"Request","values":[{"name":"name","type":"string","values":null}]},' +
        '"response":null,"metadata":{"stream":"false"}}],' +
        '"nodes":[{"id":"greeter-1","address":"10.0.0.1:80","metadata":{"protocol":"mucp"}}]}',
    );
  });

  it("write null for what is empty, and Go's escapes", () => {
    const empty = { name: "a<b>&\u2028", version: "", metadata: {}, endpoints: [], nodes: [] };
    expect(encodeService(empty)).toBe(
      '{"name":"a\\u003cb\\u003e\\u0026\\u2028","version":"","metadata":null,"endpoints":null,"nodes":null}',
    );
    expect(decodeService(encodeService(empty))).toEqual(empty);
  });

  it("come back as they went, from text and from bytes", () => {
    expect(decodeService(encodeService(service))).toEqual(service);
    expect(decodeService(new TextEncoder().encode(encodeService(service)))).toEqual(service);
  });

  it("are read in the key order and case of every version, with null and missing members", () => {
    expect(
      decodeService(
        '{"Nodes":[{"METADATA":null,"Id":"a"},null],"endpoints":null,"name":"x","unknown":{"deep":[1]},"version":null}',
      ),
    ).toEqual({ name: "x", version: "", metadata: {}, endpoints: [], nodes: [{ id: "a", address: "", metadata: {} }] });
  });

  it("read null in a map as Go does, as an empty text", () => {
    expect(decodeService('{"metadata":{"a":null}}').metadata).toEqual({ a: "" });
  });

  it("keep dangerous names as plain entries", () => {
    const read = decodeService('{"name":"x","metadata":{"__proto__":"p","toString":"t"},"__proto__":{"version":"9"}}');
    expect(Object.entries(read.metadata)).toEqual([
      ["__proto__", "p"],
      ["toString", "t"],
    ]);
    expect(read.version).toBe("");
    expect(Object.getPrototypeOf(read.metadata)).toBeNull();
    expect(encodeService(read)).toContain('"metadata":{"__proto__":"p","toString":"t"}');
  });

  it("name the member that is wrong", () => {
    const wrong: { [text: string]: RegExp } = {
      "": /not JSON/,
      "[]": /service must be an object/,
      null: /service must be an object/,
      '{"name":1}': /service\.name must be a string/,
      '{"metadata":[]}': /service\.metadata must be an object/,
      '{"metadata":{"a":{}}}': /service\.metadata\["a"\] must be a string/,
      '{"nodes":{}}': /service\.nodes must be a list/,
      '{"nodes":[1]}': /service\.nodes\[0\] must be an object/,
      '{"nodes":[{},{"address":8080}]}': /service\.nodes\[1\]\.address must be a string/,
      '{"endpoints":[{"request":"x"}]}': /service\.endpoints\[0\]\.request must be an object/,
      '{"endpoints":[{"request":{"values":[{"type":3}]}}]}': /request\.values\[0\]\.type must be a string/,
    };
    for (const [text, message] of Object.entries(wrong))
      expect(() => decodeService(text), text).toThrow(
        expect.objectContaining({ code: "codec", message: expect.stringMatching(message) }),
      );
  });

  it("are bounded in size and depth", () => {
    const deep = `{"endpoints":[{"request":${'{"values":['.repeat(30)}${"]}".repeat(30)}}]}`;
    expect(() => decodeService(deep)).toThrow(/levels/);
    expect(() => decodeService("[".repeat(1_000_000))).toThrow(expect.objectContaining({ code: "codec" }));
    expect(() => decodeService(`{"name":"${"x".repeat(5_000_000)}"}`)).toThrow(/at most/);
  });
});

describe("watch results", () => {
  it("are written and read with capital keys", () => {
    const event = { action: "create", service: { ...service, endpoints: [], nodes: [] } } as const;
    const text =
      '{"Action":"create","Service":{"name":"greeter","version":"1.0.0","metadata":null,"endpoints":null,"nodes":null}}';
    expect(encodeResult(event)).toBe(text);
    expect(decodeResult(text)).toEqual(event);
    expect(decodeResult(text.replace("Action", "action"))).toEqual(event);
  });

  it("are refused with an unknown action or without a service", () => {
    expect(() => decodeResult('{"Action":"override","Service":{}}')).toThrow(/Action/);
    expect(() => decodeResult('{"Action":"create","Service":null}')).toThrow(/Service must be an object/);
  });
});

describe("copies of services", () => {
  it("are frozen throughout and independent", () => {
    const copy = copyService(service);
    expect(copy).toEqual(service);
    for (const part of [copy, copy.nodes, copy.nodes[0]!.metadata, copy.endpoints[0]!.request!.values!])
      expect(Object.isFrozen(part)).toBe(true);
  });

  it("are refused with bad_request, saying what is wrong", () => {
    const bad: [Partial<Record<keyof Service, unknown>>, RegExp][] = [
      [{ name: "" }, /service\.name/],
      [{ nodes: [] }, /at least one node/],
      [{ nodes: [{ id: "", address: "", metadata: {} }] }, /nodes\[0\]\.id/],
      [{ version: 2 }, /service\.version must be a string/],
    ];
    for (const [part, message] of bad)
      expect(() => copyService({ ...service, ...part } as Service)).toThrow(
        expect.objectContaining({ code: "bad_request", message: expect.stringMatching(message) }),
      );
    expect(copyService({ ...service, nodes: [] }, { nodes: "any" }).nodes).toEqual([]);
  });
});
