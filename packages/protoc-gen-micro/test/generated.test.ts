import { readFile } from "node:fs/promises";
import {
  createService,
  errors,
  memoryRegistry,
  memoryTransport,
  MicroError,
  silentLogger,
  type Context,
} from "@micro/core";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";
import { describe, expect, it } from "vitest";
import {
  Calculator,
  User,
  newCalculatorService,
  registerCalculatorHandler,
  type CalculatorHandler,
} from "./gen/kinds.micro.ts";
import { Library, registerLibraryHandler, type LibraryHandler } from "./gen/routes.micro.ts";
import type { Value } from "@micro/core/proto";
import type { Number, Pair } from "./gen/kinds.ts";

/** A handler as a class, with state, as Go has them. */
class Running implements CalculatorHandler {
  calls = 0;

  add({ a, b }: Pair) {
    this.calls++;
    return { value: a + b };
  }
  divide({ a, b }: Pair) {
    if (b === 0) throw errors.badRequest("calculator", "b is 0");
    return { value: a / b };
  }
  async addAll(requests: AsyncIterable<Number>) {
    let value = 0;
    for await (const request of requests) value += request.value;
    return { value };
  }
  *countTo({ value }: Number) {
    for (let n = 1; n <= value; n++) yield { value: n };
  }
  async *running(requests: AsyncIterable<Number>) {
    let value = 0;
    for await (const request of requests) yield { value: (value += request.value) };
  }
  ping(_: unknown, context: Context) {
    return { seconds: context.metadata.get("Seconds") === "7" ? 7n : 0n };
  }
  any(value: Value) {
    return value;
  }
  foreign() {
    return { again: [{ text: "nested" }] };
  }
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

async function served(handler = new Running()) {
  const shared = {
    registry: memoryRegistry(),
    transport: memoryTransport(),
    handleSignals: false,
    logger: silentLogger,
    args: [],
    env: {},
  };
  const service = createService({ name: "calculator", ...shared });
  registerCalculatorHandler(service, handler);
  await service.start();
  return { service, calculator: newCalculatorService("calculator", service.client), handler };
}

describe("generated code", () => {
  for (const contentType of ["application/protobuf", "application/json"]) {
    it(`serves and calls all four kinds, ${contentType}`, async () => {
      const { service, calculator, handler } = await served();
      await using _ = service;
      const options = { contentType };
      expect(await calculator.add({ a: 1.5, b: 2 }, options)).toEqual({ value: 3.5 });
      expect(await calculator.add({}, options)).toEqual({ value: 0 });
      expect(handler.calls).toBe(2);
      expect(await calculator.addAll([{ value: 1 }, {}, { value: 2 }], options)).toEqual({ value: 3 });
      expect(await all(calculator.countTo({ value: 3 }, options))).toEqual([{ value: 1 }, { value: 2 }, { value: 3 }]);
      expect(await all(calculator.running([{ value: 1 }, { value: 5 }], options))).toEqual([
        { value: 1 },
        { value: 6 },
      ]);
      expect(await calculator.ping({}, { ...options, metadata: { seconds: "7" } })).toMatchObject({ seconds: 7n });
      expect(await calculator.foreign({ text: "x" }, options)).toMatchObject({ again: [{ text: "nested" }] });
    });
  }

  it("passes errors of handlers to callers", async () => {
    const { service, calculator } = await served();
    await using _ = service;
    const error = await calculator.divide({ a: 1, b: 0 }).catch((failure: unknown) => failure);
    expect(MicroError.is(error) && [error.code, error.detail]).toEqual(["bad_request", "b is 0"]);
  });

  it("makes a client from a service as well as from its client", async () => {
    const { service } = await served();
    await using _ = service;
    expect(await newCalculatorService("calculator", service).add({ a: 1, b: 1 })).toEqual({ value: 2 });
  });

  it("registers the endpoint metadata that the generator of go-micro v2.9.1 registers", async () => {
    const golden = await readFile(new URL("golden/routes.endpoints.json", import.meta.url), "utf8");
    const service = createService({
      name: "library",
      registry: memoryRegistry(),
      transport: memoryTransport(),
      handleSignals: false,
      logger: silentLogger,
      args: [],
      env: {},
    });
    const handlers = Object.fromEntries(Object.keys(Library.methods).map((name) => [name, () => ({})]));
    registerLibraryHandler(service, handlers as unknown as LibraryHandler);
    await service.start();
    await using _ = service;
    const [record] = await service.registry.getService("library");
    const ours = (record?.endpoints ?? []).filter(({ name }) => name.startsWith("Library."));
    expect(Object.fromEntries(ours.map(({ name, metadata }) => [name, { ...metadata }]))).toEqual(JSON.parse(golden));
  });

  it("has every binding of google.api.http in its routes", () => {
    const { findShelf, lockShelf, replaceShelf, onlyMore, plain } = Library.methods;
    expect(findShelf.http).toEqual([
      { method: "GET", path: "/v1/shelves:find" },
      { method: "POST", path: "/v1/shelves:find", body: "*" },
      { method: "GET", path: "/v2/find", responseBody: "shelf" },
      { method: "*", path: "/anything" },
    ]);
    expect(lockShelf.http).toEqual([{ method: "LOCK", path: "/v1/{name=shelves/*}", body: "*" }]);
    expect(replaceShelf.http).toEqual([
      { method: "PUT", path: "/v1/{name=shelves/*}", body: "shelf", responseBody: "shelf" },
    ]);
    expect(onlyMore.http).toEqual([{ method: "GET", path: "/only" }]);
    expect(plain.http).toBeUndefined();
  });

  it("leaves a bundle when it is not used", async () => {
    const bundle = await rolldown({
      input: "entry",
      external: [/^@micro/, /^@bufbuild/],
      plugins: [
        {
          name: "entry",
          resolveId: (id) => (id === "entry" ? "entry.ts" : null),
          load: (id) =>
            id === "entry.ts"
              ? `export { User } from ${JSON.stringify(fileURLToPath(new URL("gen/kinds.micro.ts", import.meta.url)))};`
              : null,
        },
      ],
    });
    const { output } = await bundle.generate({ format: "esm" });
    await bundle.close();
    const code = output[0].code;
    expect(code).toContain('type: "User"');
    expect(code).not.toContain("Calculator");
    expect(code).not.toContain("SnakeName");
  });

  it("does not let a field name reach a prototype", () => {
    const { value } = Calculator.methods.add.request;
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect(User.methods.get.request.value?.values?.map(({ name }) => name)).toEqual(["name", "__proto__"]);
  });
});
