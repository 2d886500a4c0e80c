import { describe, expect, it } from "vitest";
import { decodeEnvelope, encodeEnvelope, Metadata, MicroError } from "@micro/core";

const decode = (text: string) => decodeEnvelope(Buffer.from(text));
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();

describe("envelope", () => {
  it("is written as go-micro writes it", () => {
    const header = new Metadata({ "Content-Type": "application/json", "Micro-Topic": "topic.a" });
    expect(encodeEnvelope(header, Buffer.from('{"name":"bob"}\n')).toString()).toBe(
      '{"Header":{"Content-Type":"application/json","Micro-Topic":"topic.a"},"Body":"eyJuYW1lIjoiYm9iIn0K"}',
    );
  });

  it("names the id for both generations of go-micro", () => {
    const encoded = encodeEnvelope(new Metadata({ "micro-id": "7" }), new Uint8Array(0)).toString();
    expect(JSON.parse(encoded)).toEqual({ Header: { "Micro-Id": "7", "Micro-ID": "7" }, Body: "" });
    expect([...decode(encoded).header]).toEqual([["Micro-Id", "7"]]);
  });

  it("is read with keys in any case, and with either part missing or null", () => {
    const { header, body } = decode('{"BODY":"aGk=","heAder":{"zone":"1"},"other":[1]}');
    expect([text(body), header.get("Zone")]).toEqual(["hi", "1"]);
    for (const bare of ["{}", '{"Header":null,"Body":null}', '{"Header":{}}', '{"Body":""}']) {
      const message = decode(bare);
      expect([message.header.size, message.body.byteLength]).toEqual([0, 0]);
    }
  });

  it("reads base64 with line breaks, as Go does", () => {
    expect(text(decode(String.raw`{"Body":"aG\r\nk=\n"}`).body)).toBe("hi");
  });

  it("keeps names away from prototypes", () => {
    const { header } = decode('{"__proto__":{"x":"1"},"Header":{"__proto__":"a","constructor":"b"}}');
    expect([header.get("__proto__"), header.get("constructor"), ({} as { x?: string }).x]).toEqual([
      "a",
      "b",
      undefined,
    ]);
  });

  it.each([
    "",
    "null",
    "[]",
    '"text"',
    "7",
    "{",
    '{"Header":[]}',
    '{"Header":"x"}',
    '{"Header":{"a":1}}',
    '{"Header":{"a":null}}',
    '{"Body":7}',
    '{"Body":{}}',
    '{"Body":"a"}',
    '{"Body":"aGk"}',
    '{"Body":"aG k="}',
    '{"Body":"aGk_"}',
    '{"Body":"a==="}',
    '{"Body":"=aGk"}',
  ])("refuses %s", (bad) => {
    let error: unknown;
    try {
      decode(bad);
    } catch (thrown) {
      error = thrown;
    }
    expect(MicroError.is(error) && error.code).toBe("codec");
  });
});
