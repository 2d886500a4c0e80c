import { describe, expect, it } from "vitest";
import { jsonrpcCodec } from "../../src/codec/jsonrpc.ts";
import { protorpcCodec } from "../../src/codec/protorpc.ts";
import { protoCodec } from "../../src/codec/proto.ts";
import { helloRequest, helloResponse } from "./types.ts";

const json = jsonrpcCodec.envelope!;
const proto = protorpcCodec.envelope!;
/** Hex digits, in groups. */
const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(" ", ""), "hex");
const text = (data: Uint8Array): string => Buffer.from(data).toString();
const members = (count: number): string => Array.from({ length: count }, (_, i) => `"m${i}":0`).join(",");
const read = (body: string) => jsonrpcCodec.envelope!.unwrap(Buffer.from(body), "request");
const codecError = expect.objectContaining({ code: "codec" });

describe("json-rpc", () => {
  it("writes the bytes of go-micro", () => {
    const payload = jsonrpcCodec.encode({ name: "bob" }, undefined);
    const request = { kind: "request", endpoint: "Greeter.Hello", id: "0", error: undefined } as const;
    expect(text(json.wrap(payload, request))).toBe('{"method":"Greeter.Hello","params":[{"name":"bob"}],"id":"0"}\n');
    const response = { ...request, kind: "response" } as const;
    expect(text(json.wrap(payload, response))).toBe('{"id":"0","result":{"name":"bob"},"error":null}\n');
    expect(text(json.wrap(undefined, { ...response, id: "", error: "no bob" }))).toBe(
      '{"id":"","result":null,"error":"no bob"}\n',
    );
  });

  it.each([
    ['{"method":"Greeter.Hello","params":[{"name":"bob"}],"id":"0"}\n', "0"],
    ['{"params":[{"name":"bob"}],"id":"7","method":"Greeter.Hello"}\n', "7"],
    [' { "id" : 3 ,\n "METHOD":"Greeter.Hello", "jsonrpc":"2.0", "Params":[ {"name":"bob"} , 5 ] } ', "3"],
    ['{"method":"x","method":"Greeter.Hello","params":[{"name":"bob"}],"id":true}', "true"],
    ['{"method":"Greeter.Hello","params":[{"name":"bob"}],"id":null}', ""],
    ['{"method":"Greeter.Hello","params":[{"name":"bob"}]}', ""],
    ['{"m\\u0065thod":"Greeter.Hello","params":[{"name":"bob"}],"id":"\\u0039"}', "9"],
  ])("reads the request %j", (body, id) => {
    const { envelope, payload } = json.unwrap(Buffer.from(body), "request");
    expect(envelope).toEqual({ kind: "request", endpoint: "Greeter.Hello", id, error: undefined });
    expect(jsonrpcCodec.decode(payload, undefined)).toEqual({ name: "bob" });
  });

  it("has few members, and few of its list are kept, whoever wrote it", () => {
    expect(read(`{${members(63)},"params":[{}]}`).payload.toString()).toBe("{}");
    expect(() => read(`{${members(64)},"params":[{}]}`)).toThrow("more than 64 members");
    expect(Buffer.from(read(`{"params":[1,${"2,".repeat(100_000)}3]}`).payload).toString()).toBe("1");
    expect(() => read('{"params":[1,2,}]}')).toThrow("invalid JSON");
  });

  it("takes null and an empty list as no message", () => {
    for (const params of ["[null]", "[]", "[ ]"])
      expect(json.unwrap(Buffer.from(`{"method":"A.B","params":${params},"id":"1"}`), "request").payload).toHaveLength(
        0,
      );
  });

  it("keeps brackets and quotes inside strings, and all digits of numbers", () => {
    const message = '{"a":"]}\\"{[,:","n":12345678901234567890,"d":[[{"x":{}}],"\\\\"]}';
    const { payload } = json.unwrap(Buffer.from(`{"result":${message},"error":null,"id":"1"}`), "response");
    expect(text(payload)).toBe(message);
  });

  it.each([
    ['{"id":"1","result":null,"error":"no bob"}', "no bob"],
    ['{"id":"1","result":null,"error":""}', "unspecified error"],
    ['{"id":"1","result":null,"error":{"code":404,"detail":"x"}}', '{"code":404,"detail":"x"}'],
    ['{"id":"1","error":"only"}', "only"],
  ])("reads the error of %s", (body, error) => {
    const found = json.unwrap(Buffer.from(body), "response");
    expect(found.envelope.error).toBe(error);
    expect(found.payload).toHaveLength(0);
  });

  it.each([
    ["request", ""],
    ["request", "null"],
    ["request", "{}"],
    ["request", "[]"],
    ["request", '{"method":"A.B","id":"1"}'],
    ["request", '{"method":"A.B","params":{"a":1},"id":"1"}'],
    ["request", '{"method":5,"params":[1],"id":"1"}'],
    ["request", '{"method":"A.B","params":[1],"id":"1"}x'],
    ["request", '{"method":"A.B","params":[1,],"id":"1"}'],
    ["request", '{"method":"A.B" "params":[1]}'],
    ["request", '{"method":"A.B","params":[1'],
    ["request", '{"method":"A.B","params":["'],
    ["request", '{"method":"A.B\u0001","params":[1]}'],
    ["request", '{method:"A.B","params":[1]}'],
    ["request", '{"method":,"params":[1]}'],
    ["response", "{}"],
    ["response", '{"id":"1","error":null}'],
    ["response", '{"id":"1","error":nope}'],
    ["response", `{"id":${"[".repeat(100_000)}`],
  ] as const)("refuses the %s %.60j", (kind, body) => {
    expect(() => json.unwrap(Buffer.from(body), kind)).toThrow(codecError);
  });

  it("keeps an id of any shape without walking it", () => {
    const id = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
    expect(json.unwrap(Buffer.from(`{"id":${id},"result":1}`), "response").envelope.id).toBe(id);
  });
});

describe("proto-rpc", () => {
  const request = "00000018 0a0d477265657465722e48656c6c6f 110100000000000000 00000005 0a03626f62";
  const reply = "00000018 0a0d477265657465722e48656c6c6f 110100000000000000 0000000b 0a0948656c6c6f20626f62";

  it("writes the bytes of go-micro", () => {
    const envelope = { kind: "request", endpoint: "Greeter.Hello", id: "1", error: undefined } as const;
    const wrapped = proto.wrap(protoCodec.encode({ name: "bob" }, helloRequest), envelope);
    expect(bytes(request).equals(wrapped)).toBe(true);
    const answer = proto.wrap(protoCodec.encode({ msg: "Hello bob" }, helloResponse), {
      ...envelope,
      kind: "response",
    });
    expect(bytes(reply).equals(answer)).toBe(true);
  });

  it("reads the bytes of go-micro", () => {
    const { envelope, payload } = proto.unwrap(bytes(reply), "response");
    expect(envelope).toEqual({ kind: "response", endpoint: "Greeter.Hello", id: "1", error: undefined });
    expect(protorpcCodec.decode(payload, helloResponse)).toEqual({ msg: "Hello bob" });
  });

  it.each([
    ["0", "0"],
    ["-1", "-1"],
    ["+5", "5"],
    ["9223372036854775807", "9223372036854775807"],
    ["9223372036854775808", "0"],
    ["a2c4-uuid", "0"],
    ["", "0"],
  ])("carries the id %j as the number %s", (id, seq) => {
    const body = proto.wrap(undefined, { kind: "request", endpoint: "A.B", id, error: undefined });
    expect(proto.unwrap(body, "request").envelope.id).toBe(seq);
    if (seq === "0") expect(body).toHaveLength(4 + 5 + 4);
  });

  it("carries errors and long texts", () => {
    const error = "é".repeat(5000);
    const envelope = { kind: "response", endpoint: "A.B", id: "3", error } as const;
    const body = proto.wrap(Buffer.from("dropped"), envelope);
    expect(proto.unwrap(body, "response")).toEqual({ envelope, payload: body.subarray(body.length) });
  });

  it("skips fields it does not know", () => {
    const envelope = bytes("0a03412e42 1801 250102030445 01020304 3a0178 110200000000000000");
    const size = Buffer.alloc(4);
    size.writeUInt32BE(envelope.length);
    const body = Buffer.concat([size, envelope, Buffer.alloc(4)]);
    expect(proto.unwrap(body, "request").envelope).toMatchObject({ endpoint: "A.B", id: "2" });
  });

  it.each([
    ["nothing", ""],
    ["a cut length", "000000"],
    ["a length beyond the body", "ffffffff0a"],
    ["no message", "00000000"],
    ["bytes after the message", "000000000000000000"],
    ["a cut field", "00000002 0a05 00000000"],
    ["an endless number", "0000000b ffffffffffffffffffffff 00000000"],
    ["a wire type that does not exist", "00000001 0f 00000000"],
    ["an endpoint that is not UTF-8", "00000003 0a01ff 00000000"],
    ["a length near 2^70", "0000000b 0affffffffffffffffff7f 00000000"],
  ])("refuses %s", (_, hex) => {
    expect(() => proto.unwrap(bytes(hex), "request")).toThrow(codecError);
  });
});
