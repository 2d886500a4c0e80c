import { request } from "node:http";
import { describe, expect, it } from "vitest";
import { internalServerError } from "../../src/errors.ts";
import { mucpServer } from "../../src/server/mucp-server.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import { MemoryLogger } from "./support/memory-logger.ts";

/** Headers of an answer, as any HTTP client sees them. */
function post(address: string, endpoint: string): Promise<NodeJS.Dict<string | string[]>> {
  const [host, port] = address.split(":");
  return new Promise((resolve, reject) => {
    const headers = { "Content-Type": "application/json", "Micro-Service": "test", "Micro-Endpoint": endpoint };
    const sent = request({ host, port, method: "POST", agent: false, headers }, (answer) => {
      answer.resume();
      resolve(answer.headers);
    });
    sent.on("error", reject);
    sent.end("{}");
  });
}

describe("what a handler throws, on Go's wire", () => {
  const boom = { id: "test", code: 500, detail: "boom\r\nbang", status: "Internal Server Error" };
  const cases: readonly [title: string, thrown: unknown, bare: string, detail: unknown][] = [
    ["is bare text for Go, and whole beside it", new Error(boom.detail), "boom  bang", boom],
    ["is never taken for the end of a stream", new Error("EOS"), "error: EOS", { ...boom, detail: "EOS" }],
    ["is never taken for it, though Go trims", new Error("EOS\n"), "error: EOS", { ...boom, detail: "EOS\n" }],
    [
      "is never taken for an error that Go's clients try again",
      new Error('{"code":500}'),
      'error: {"code":500}',
      { ...boom, detail: '{"code":500}' },
    ],
    [
      "is never shown as an error without a text, which Go makes of an object of somebody else's",
      new Error('{"message":"out of stock"}'),
      'error: {"message":"out of stock"}',
      { ...boom, detail: '{"message":"out of stock"}' },
    ],
    ["is never taken for one without anything", new Error("{}"), "error: {}", { ...boom, detail: "{}" }],
  ];
  for (const [title, thrown, bare, detail] of cases)
    it(title, async () => {
      await using transport = httpTransport();
      const logger = new MemoryLogger();
      await using server = mucpServer({ name: "test", transport, logger, address: "127.0.0.1:0" });
      server.handle("Fail.Call", () => {
        throw thrown;
      });
      await server.start();
      const headers = await post(server.address!, "Fail.Call");
      expect(headers["micro-error"]).toBe(bare);
      expect(headers["x-micro-error"]).toBe(bare);
      expect(JSON.parse(headers["micro-error-detail"] as string)).toEqual(detail);
      const [logged] = logger.records.filter(({ level }) => level === "error");
      expect(logged).toEqual({
        level: "error",
        message: `Fail.Call failed: ${(thrown as Error).message}`,
        fields: { endpoint: "Fail.Call", remote: expect.any(String), error: thrown },
      });
    });

  it("is told as it is where it was meant", async () => {
    await using transport = httpTransport();
    const logger = new MemoryLogger();
    await using server = mucpServer({ name: "test", transport, logger, address: "127.0.0.1:0" });
    server.handle("Fail.Call", () => {
      throw internalServerError("test", "meant");
    });
    await server.start();
    const headers = await post(server.address!, "Fail.Call");
    expect(JSON.parse(headers["micro-error"] as string)).toMatchObject({ code: 500, detail: "meant" });
    expect(headers["micro-error-detail"]).toBeUndefined();
    expect(logger.records.map(({ level }) => level)).not.toContain("error");
  });
});
