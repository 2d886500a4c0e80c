/** A service that is stopped by what its stop waits for. */
import { describe, expect, it } from "vitest";
import { memoryBroker } from "../../src/broker/memory.ts";
import { memoryRegistry } from "../../src/registry/memory.ts";
import { createService, type MicroService } from "../../src/service/service.ts";
import type { ServiceOptions } from "../../src/service/options.ts";
import { memoryTransport } from "../../src/transport/memory.ts";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { MemoryLogger } from "../server/support/memory-logger.ts";

function service(options: ServiceOptions = {}): MicroService {
  return createService({
    name: "stopping",
    registry: memoryRegistry(),
    broker: memoryBroker(),
    transport: memoryTransport(),
    logger: silentLogger,
    ...options,
  });
}

describe("stop() inside of what it waits for", () => {
  it.each<[string, (stopping: MicroService, stop: () => Promise<void>) => () => Promise<unknown>]>([
    [
      "a call's handler",
      (stopping, stop) => {
        stopping.handle("End.Call", async () => {
          await stop();
          return { ended: true };
        });
        return async () => expect(await stopping.call("stopping", "End.Call", {})).toEqual({ ended: true });
      },
    ],
    [
      "a stream's handler",
      (stopping, stop) => {
        stopping.handle("End.Stream", async function* () {
          await stop();
          yield { ended: true };
        });
        return async () => {
          await using stream = await stopping.stream("stopping", "End.Stream");
          await stream.send({});
          expect(await stream.receive()).toEqual({ ended: true });
        };
      },
    ],
    [
      "a subscriber",
      (stopping, stop) => {
        stopping.subscribe("end", stop);
        return () => stopping.publish("end", {});
      },
    ],
    [
      "a handler of the broker itself",
      (stopping, stop) => async () => {
        const subscriber = stopping.broker.subscribe("end", stop);
        await subscriber.ready;
        await stopping.broker.publish("end", { body: new Uint8Array() });
      },
    ],
  ])("%s: goes on, and the stop ends after it", async (_, prepare) => {
    const stopping = service();
    const steps: string[] = [];
    const run = prepare(stopping, async () => {
      await stopping.stop();
      steps.push("asked");
      await new Promise((resolve) => void setImmediate(resolve));
      steps.push("handled");
    });
    await stopping.start();
    await run();
    await stopping.stop();
    expect(steps).toEqual(["asked", "handled"]);
    expect(stopping.address).toBeUndefined();
  });

  it.each(["afterStart", "beforeStop", "afterStop"] as const)("a hook of %s: the stop ends after it", async (name) => {
    const steps: string[] = [];
    const hook = async (): Promise<void> => {
      await stopping.stop();
      steps.push("asked");
    };
    const stopping = service({ [name]: [hook] });
    await stopping.start();
    await stopping.stop();
    expect(steps).toEqual(["asked"]);
  });

  it("a hook of beforeStart: the start fails", async () => {
    const stopping = service({ beforeStart: [() => stopping.stop()] });
    await expect(stopping.start()).rejects.toMatchObject({ code: "aborted" });
    await stopping.stop();
  });

  it("a failure of the stop is logged, as there is nobody else to hear of it", async () => {
    const logger = new MemoryLogger();
    const failure = new Error("the hook failed");
    const stopping = service({
      logger,
      afterStop: [
        () => {
          throw failure;
        },
      ],
    });
    stopping.handle("End.Call", async () => {
      await stopping.stop();
      return {};
    });
    await stopping.start();
    await stopping.call("stopping", "End.Call", {});
    await expect(stopping.stop()).rejects.toBe(failure);
    await expect.poll(() => logger.records.filter(({ fields }) => fields?.["error"] === failure)).toHaveLength(1);
  });

  it("what a handler leaves behind waits for the whole stop", async () => {
    const stopping = service();
    const steps: string[] = [];
    const over = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    stopping.handle("End", {
      async slow() {
        await gate.promise;
        steps.push("slow is handled");
        return {};
      },
      left() {
        setImmediate(() => {
          void (async () => {
            await stopping.stop();
            steps.push("stopped");
            over.resolve();
          })();
          gate.resolve();
        });
        return {};
      },
    });
    await stopping.start();
    const slow = stopping.call("stopping", "End.Slow", {});
    await expect.poll(() => stopping.server.stats.inFlight).toBe(1);
    await stopping.call("stopping", "End.Left", {});
    await slow;
    await over.promise;
    expect(steps).toEqual(["slow is handled", "stopped"]);
  });
});
