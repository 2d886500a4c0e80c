import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import {
  createService,
  defineService,
  errors,
  jsonMessage,
  memoryRegistry,
  MicroError,
  serverStream,
  unary,
} from "../../src/index.ts";
import type { MicroService } from "../../src/index.ts";
import { MemoryLogger } from "../server/support/memory-logger.ts";

const message = jsonMessage<object>("Message");
const Price = defineService("price", {
  get: unary({ request: message, response: message }),
  list: serverStream({ request: message, response: message }),
});

async function failureOf(call: Promise<unknown>): Promise<MicroError> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(MicroError.is(error)).toBe(true);
  return error as MicroError;
}

async function shopAndPrice(wire: "auto" | "http") {
  const registry = memoryRegistry();
  const logger = new MemoryLogger();
  const made = (name: string): MicroService =>
    createService({ name, registry, wire, logger, address: "127.0.0.1:0", spreadMs: 0, handleSignals: false });
  const price = made("price");
  price.handle(Price, {
    get() {
      throw new Error("no price table");
    },
    // oxlint-disable-next-line require-yield
    async *list() {
      throw errors.notFound("price", "no prices");
    },
  });
  const shop = made("shop");
  const prices = shop.client(Price);
  shop.handle("Shop", {
    order: () => prices.get({}),
    async list() {
      for await (const each of prices.list({})) return each;
      return {};
    },
  });
  await price.start();
  await shop.start();
  const caller = made("caller");
  return {
    caller,
    logger,
    async [Symbol.asyncDispose]() {
      for (const service of [caller, shop, price]) await service.stop();
    },
  };
}

describe.each(["auto", "http"] as const)("a failed call says whose failure it is: %s", (wire) => {
  it("in the log of the service between, and to the caller", async () => {
    await using services = await shopAndPrice(wire);
    const { caller, logger } = services;
    const error = await failureOf(caller.call("shop", "Shop.Order", {}));
    // True to what was sent.
    expect(error.toJSON()).toEqual({
      id: "price",
      code: 500,
      detail: "no price table",
      status: "Internal Server Error",
    });
    expect(String(error)).toBe("MicroError: no price table (of price, by way of shop Shop.Order)");
    expect(error.call).toBe("shop Shop.Order");
    const logged = logger.records.find(({ fields }) => fields?.["endpoint"] === "Shop.Order");
    expect(logged?.message).toBe("Shop.Order failed: no price table (price Price.Get)");
    expect(String(logged?.fields?.["error"])).toContain("price Price.Get");
  });

  it("of streams as well", async () => {
    await using services = await shopAndPrice(wire);
    const { caller } = services;
    expect(String(await failureOf(caller.call("shop", "Shop.List", {})))).toBe(
      "MicroError: no prices (of price, by way of shop Shop.List)",
    );
    const stream = await caller.stream("price", "Price.List");
    await stream.send({});
    const error = await failureOf(stream.receive());
    expect(error.detail).toBe("no prices");
    expect(error.message).toBe("no prices (price Price.List)");
  });

  it("where nobody awaits it, in what Node prints", async () => {
    await using services = await shopAndPrice(wire);
    const error = await failureOf(services.caller.call("price", "Price.Zz", {}));
    expect(error.detail).toBe("rpc: can't find method Zz");
    expect(inspect(error).split("\n")[0]).toContain("can't find method Zz (price Price.Zz)");
  });
});
