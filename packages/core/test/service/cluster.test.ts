import { expect, it } from "vitest";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { memoryRegistry } from "../../src/registry/memory.ts";
import { serviceRecord } from "../../src/service/node.ts";
import { createService } from "../../src/service/service.ts";
import type { ServiceOptions } from "../../src/service/options.ts";

const make = (options: ServiceOptions = {}) =>
  createService({ name: "crowd", registry: memoryRegistry(), logger: silentLogger, args: [], env: {}, ...options });

it("a number of workers that is none is a TypeError, before anything is started", async () => {
  for (const workers of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 1025, "4" as unknown as number]) {
    const service = make({ beforeStart: () => expect.unreachable() });
    await expect(service.run({ workers })).rejects.toThrow(/`workers` must be a whole number from 1 to 1024/);
    await service.stop();
  }
});

it("workers need a port to share, and run() to start them", async () => {
  const memory = make({ transport: "memory" });
  await expect(memory.run({ workers: 2 })).rejects.toThrow(/memory transport has no port/);
  await memory.stop();
  await using started = make({ spreadMs: 0, address: "127.0.0.1:0" });
  await started.init();
  await started.start();
  await expect(started.run({ workers: 2 })).rejects.toThrow(/started already/);
});

it("a node says how many workers share its address only where it has the wire and more than one", () => {
  const { options } = make({ metadata: { "wire-workers": "7", zone: "a" } });
  const pieces = { server: "mucp", transport: "http", broker: "http", registry: "memory", wire: "micro/1" };
  const metadata = (own: object) =>
    serviceRecord(options, "127.0.0.1:1", { ...pieces, ...own }, []).nodes[0]?.metadata ?? {};
  expect(metadata({ workers: 3 })).toMatchObject({ "wire-workers": "3", zone: "a" });
  for (const own of [{}, { workers: 1 }, { workers: 3, wire: undefined }, { workers: 3, server: "grpc" }])
    expect(metadata(own)).not.toHaveProperty("wire-workers");
});
