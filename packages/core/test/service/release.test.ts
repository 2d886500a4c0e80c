import { describe, expect, it } from "vitest";
import { memoryBroker } from "../../src/broker/memory.ts";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { memoryRegistry } from "../../src/registry/memory.ts";
import { createService } from "../../src/service/service.ts";
import type { ServiceOptions } from "../../src/service/options.ts";
import { memoryTransport } from "../../src/transport/memory.ts";

/** Pieces of the program that write down when they are released or closed. */
function watched() {
  const told: string[] = [];
  const note = <Piece extends object>(name: string, piece: Piece): Piece =>
    Object.assign(piece, {
      release: () => void told.push(`${name} released`),
      [Symbol.asyncDispose]: async () => void told.push(`${name} closed`),
    });
  return {
    told,
    broker: note("broker", memoryBroker()),
    registry: note("registry", memoryRegistry()),
    transport: note("transport", memoryTransport()),
  };
}

const quiet = { logger: silentLogger, spreadMs: 0, args: [], env: {} } satisfies ServiceOptions;

describe("a piece of the program", () => {
  it("is left open and told at the end of the stop, once", async () => {
    const { told, ...pieces } = watched();
    const service = createService({ ...quiet, ...pieces });
    service.subscribe("topic", () => {});
    await service.start();
    expect(told).toEqual([]);
    await service.stop();
    await service.stop();
    expect(told.toSorted()).toEqual(["broker released", "registry released", "transport released"]);
  });

  it("is told when the last of its services has stopped", async () => {
    const { told, broker } = watched();
    const services = ["a", "b"].map((name) =>
      createService({ ...quiet, name, broker, registry: memoryRegistry(), transport: memoryTransport() }),
    );
    for (const service of services) {
      service.subscribe("topic", () => {});
      await service.start();
    }
    await services[0]!.stop();
    expect(told).toEqual([]);
    await services[1]!.stop();
    expect(told).toEqual(["broker released"]);
  });

  it("is told when init() puts another one in its place", async () => {
    const { told, broker } = watched();
    const service = createService({ ...quiet, broker, registry: memoryRegistry() });
    expect(service.broker).toBe(broker);
    await service.init({ broker: memoryBroker() });
    expect(told).toEqual(["broker released"]);
    await service.stop();
    expect(told).toEqual(["broker released"]);
  });

  it("is told by a service that only called or published, and not by one that never used it", async () => {
    const { told, broker } = watched();
    const unused = createService({ ...quiet, broker, registry: memoryRegistry() });
    await unused.stop();
    expect(told).toEqual([]);
    const service = createService({ ...quiet, broker, registry: memoryRegistry() });
    await service.publish("topic", {});
    await service.stop();
    expect(told).toEqual(["broker released"]);
  });

  it("that cannot let go fails the stop, which closes everything else first", async () => {
    const { told, registry } = watched();
    const broker = Object.assign(memoryBroker(), {
      release: () => {
        throw new Error("held");
      },
    });
    const service = createService({ ...quiet, broker, registry, transport: memoryTransport() });
    service.subscribe("topic", () => {});
    await service.start();
    await expect(service.stop()).rejects.toThrow("held");
    expect(told).toEqual(["registry released"]);
  });
});
