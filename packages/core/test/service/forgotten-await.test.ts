/** A promise where a message or one of its fields belongs: what a call, an answer, a stream and an event make of it. */
import { afterEach, beforeEach, expect, it } from "vitest";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { memoryRegistry } from "../../src/registry/memory.ts";
import { createService, type MicroService } from "../../src/service/service.ts";

let service: MicroService;
let runs: unknown[];
const later = async (): Promise<string> => "later";
const hint = "did you forget an await?";

beforeEach(async () => {
  runs = [];
  const options = { registry: memoryRegistry(), logger: silentLogger, address: "127.0.0.1:0", spreadMs: 0 };
  service = createService({ ...options, name: "shop", args: [], env: {}, handleSignals: false });
  service.handle("Shop", {
    buy: (request: unknown) => {
      runs.push(request);
      return { receipt: later() };
    },
    async *list() {
      yield { item: later() };
    },
  });
  service.subscribe("bought", (event: unknown) => void runs.push(event));
  await service.start();
});

afterEach(() => service.stop());

it.each(["application/json", "application/json-rpc", "application/octet-stream", "text/plain"])(
  "is no request as %s: the call fails at once, and runs nothing",
  async (contentType) => {
    await expect(service.call("shop", "Shop.Buy", later(), { contentType })).rejects.toThrow(hint);
    expect(runs).toEqual([]);
  },
);

it("is no field of a request, and the error names it", async () => {
  await expect(service.call("shop", "Shop.Buy", { item: later() })).rejects.toThrow(
    `a promise has no JSON form (item): ${hint}`,
  );
  expect(runs).toEqual([]);
});

it("is no field of an answer, and the caller is told so", async () => {
  await expect(service.call("shop", "Shop.Buy", {})).rejects.toMatchObject({
    statusCode: 500,
    detail: expect.stringContaining(`a promise has no JSON form (receipt): ${hint}`),
  });
});

it("is nothing to send on a stream, from neither end", async () => {
  await using stream = await service.stream("shop", "Shop.List");
  await expect((async () => stream.send({ item: later() }))()).rejects.toThrow(hint);
  await using other = await service.stream("shop", "Shop.List");
  await other.send({});
  await expect(other.receive()).rejects.toThrow(`a promise has no JSON form (item): ${hint}`);
});

it("is no event", async () => {
  await expect(service.publish("bought", later())).rejects.toThrow(hint);
  await expect(service.publish("bought", { item: later() })).rejects.toThrow(`(item): ${hint}`);
  expect(runs).toEqual([]);
});
