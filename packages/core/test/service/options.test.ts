import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it, onTestFinished } from "vitest";
import { memoryBroker } from "../../src/broker/memory.ts";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { memoryRegistry } from "../../src/registry/memory.ts";
import { createFunction } from "../../src/service/function.ts";
import type { ServiceOptions } from "../../src/service/options.ts";
import { createService } from "../../src/service/service.ts";

const quiet = { logger: silentLogger, args: [], env: {} } satisfies ServiceOptions;

describe("options of a service that do not exist", () => {
  it.each([
    [{ nmae: "greeter" }, "createService: there is no option `nmae`; did you mean `name`?"],
    [{ timeout: 100 }, "createService: there is no option `timeout`; did you mean `timeoutMs`?"],
    [{ port: 8080 }, "createService: there is no option `port`"],
    [{ plugin: [] }, "createService: there is no option `plugin`; did you mean `plugins`?"],
    [{ wrapHandlers: [] }, "createService: there is no option `wrapHandlers`; did you mean `wrapHandler`?"],
    ["greeter", 'createService: options are an object, such as { name: … }, not "greeter"'],
  ])("%j", async (options, message) => {
    expect(() => createService(options as ServiceOptions)).toThrow(new TypeError(message));
    if (typeof options === "object") expect(() => createFunction(options as ServiceOptions)).toThrow(TypeError);
    const service = createService(quiet);
    await expect(service.init(options as ServiceOptions)).rejects.toThrow(
      new TypeError(message.replace("createService", "init")),
    );
    await service.stop();
  });
});

/** Every option that is a number; the compiler knows when one is missing here. */
type NumericOption = {
  [Name in keyof ServiceOptions]-?: number extends Exclude<ServiceOptions[Name], undefined> ? Name : never;
}[keyof ServiceOptions];
const numeric: Readonly<Record<NumericOption, "pause" | "limit" | "count">> = {
  registerTtlMs: "pause",
  registerIntervalMs: "pause",
  spreadMs: "pause",
  poolTtlMs: "pause",
  drainTimeoutMs: "limit",
  timeoutMs: "limit",
  dialTimeoutMs: "limit",
  streamTimeoutMs: "limit",
  streamIdleTimeoutMs: "limit",
  retries: "count",
  retryBudget: "count",
  poolSize: "count",
  maxConcurrency: "count",
  maxMessageBytes: "count",
};

describe.each(Object.entries(numeric))("%s", (name, kind) => {
  const make = (value: unknown) => createService({ ...quiet, registerIntervalMs: 0, [name]: value });

  it("is refused where it cannot be meant", () => {
    for (const value of [-1, Number.NaN, -Infinity, "5", 5n, true, null])
      expect(() => make(value), String(value)).toThrow(new RegExp(`^createService: \`${name}\` must be a `));
    if (kind === "pause")
      for (const value of [2 ** 31, Infinity])
        expect(() => make(value), String(value)).toThrow(/ from 0 to 2147483647, not /);
  });

  it("works as far as it goes", async () => {
    const overflows: string[] = [];
    const note = (warning: Error) =>
      void (warning.name === "TimeoutOverflowWarning" && overflows.push(String(warning)));
    process.on("warning", note);
    onTestFinished(() => void process.off("warning", note));
    // A stop would wait for it in full.
    if (name === "spreadMs") return;
    for (const value of kind === "pause" ? [2 ** 31 - 1] : [2 ** 31, ...(kind === "limit" ? [2 ** 40] : [])]) {
      const service = createService({
        ...quiet,
        registerIntervalMs: 0,
        spreadMs: 0,
        name: "greeter",
        address: "127.0.0.1:0",
        registry: memoryRegistry(),
        broker: memoryBroker(),
        // One must exceed the other.
        ...(name === "registerIntervalMs" ? { registerTtlMs: value } : {}),
        [name]: name === "registerIntervalMs" ? value - 1 : value,
      });
      service.handle("Greeter", {
        hello: () => ({ msg: "Hello" }),
        async *count() {
          yield { i: 1 };
          // A timer that fired at once would end the stream in this time: nothing tells that it does not.
          await sleep(5);
          yield { i: 2 };
        },
      });
      const got: unknown[] = [];
      service.subscribe("topic", (event) => void got.push(event));
      await service.start();
      expect(await service.call("greeter", "Greeter.Hello", {}), String(value)).toEqual({ msg: "Hello" });
      const stream = await service.stream("greeter", "Greeter.Count");
      await stream.send({});
      stream.closeSend();
      const seen: unknown[] = [];
      for await (const message of stream) seen.push(message);
      expect(seen).toEqual([{ i: 1 }, { i: 2 }]);
      await service.publish("topic", { id: 7 });
      await service.stop();
      expect(got).toEqual([{ id: 7 }]);
    }
    // Warnings come with the next turn.
    await turn();
    expect(overflows).toEqual([]);
  });
});
