/** Records of strangers, read without a server. */
import { describe, expect, it } from "vitest";
import { rawMessage, readRecord } from "../src/records.ts";

const record = (headers: number, value: Buffer | null) => ({
  key: null,
  value,
  offset: 7,
  headers: Object.fromEntries(Array.from({ length: headers }, (_, index) => [`X-${index}`, Buffer.from("1")])),
});

describe("headers of a record", () => {
  it.each([
    ["as it is", Buffer.from("plain")],
    ["in an envelope", Buffer.from('{"Header":{},"Body":""}')],
  ])("are 1024 at most, of a value %s: more are unreadable, and told of with the first of them", (_name, value) => {
    expect(readRecord("t", record(1_024, value)).header.has("X-1023")).toBe(true);
    const larger = record(1_025, value);
    expect(() => readRecord("t", larger)).toThrow("broker kafka: record 7 of t: more than 1024 headers");
    expect([rawMessage("t", larger).header.has("X-1023"), rawMessage("t", larger).header.has("X-1024")]).toEqual([
      true,
      false,
    ]);
  });
});
