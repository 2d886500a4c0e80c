import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Context } from "../../src/context.ts";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { memoryNetwork, memoryRegistry } from "../../src/registry/memory.ts";
import { createService, type MicroService } from "../../src/service/service.ts";
import type { ServiceOptions } from "../../src/service/options.ts";
import { waitFor } from "../support/service.ts";
import { selfSigned } from "../../src/transport/http/self-signed.ts";

/** Services of one registry, as processes of their own would be. */
function fleet() {
  const network = memoryNetwork();
  const services: MicroService[] = [];
  return {
    service(options: ServiceOptions = {}): MicroService {
      const service = createService({
        name: "greeter",
        address: "127.0.0.1:0",
        registry: memoryRegistry({ network }),
        logger: silentLogger,
        spreadMs: 0,
        ...options,
      });
      services.push(service);
      return service;
    },
    async [Symbol.asyncDispose]() {
      for (const service of services) await service.stop();
    },
  };
}

/** Tells by which way the call came. HTTP/1.1 has a `Host`. */
function way(_request: unknown, context: Context): { way: string } {
  return { way: context.metadata.has("Host") ? "http" : context.remote === context.local ? "direct" : "fast" };
}

async function serving(place: ReturnType<typeof fleet>, options: ServiceOptions = {}): Promise<MicroService> {
  const service = place.service(options);
  service.handle("Greeter.Way", way);
  await service.start();
  return service;
}

const ask = (service: MicroService, options = {}) => service.call("greeter", "Greeter.Way", {}, options);

describe("the wire between services", () => {
  it("is the fast one where both speak it, and HTTP/1.1 where one is kept to that", async () => {
    for (const [server, client, expected] of [
      [undefined, undefined, "fast"],
      ["http", undefined, "http"],
      [undefined, "http", "http"],
      ["http", "http", "http"],
    ] as const) {
      await using place = fleet();
      await serving(place, { wire: server });
      const caller = place.service({ name: "caller", wire: client });
      expect(await ask(caller)).toEqual({ way: expected });
    }
  });

  it("is the fast one over TLS, too", async () => {
    const tls = selfSigned({ hosts: ["127.0.0.1"] });
    await using place = fleet();
    await serving(place, { tls });
    expect(await ask(place.service({ name: "caller", tls: { ca: tls.cert } }))).toEqual({ way: "fast" });
  });

  it("is none for a service that calls itself, but for one with TLS", async () => {
    await using place = fleet();
    expect(await ask(await serving(place))).toEqual({ way: "direct" });
    await using secure = fleet();
    expect(await ask(await serving(secure, { secure: true, insecureSkipVerify: true }))).toEqual({ way: "fast" });
  });

  it("runs over a unix domain socket", async () => {
    const folder = mkdtempSync(join(tmpdir(), "micro-unix-"));
    await using place = fleet();
    const address = `unix:${join(folder, "greeter")}`;
    const server = await serving(place, { address });
    expect(server.address).toBe(address);
    const caller = place.service({ name: "caller" });
    // Peers on such a socket have no address of their own, so that `way` cannot tell it from a direct call.
    expect((await ask(caller)).way).not.toBe("http");
    rmSync(folder, { recursive: true, force: true });
  });

  it("changes under a fleet that is upgraded and rolled back, without a failed call", async () => {
    await using place = fleet();
    const caller = place.service({ name: "caller" });
    const seen = new Set<string>();
    const state = { calls: 0, done: false };
    let instance = await serving(place, { wire: "http" });
    const calling = Promise.all(
      Array.from({ length: 8 }, async () => {
        while (!state.done) {
          seen.add((await ask(caller)).way);
          state.calls++;
          // A busy loop of microtasks would leave no turn to the others.
          await new Promise((resolve) => setImmediate(resolve));
        }
      }),
    ).finally(() => (state.done = true));
    calling.catch(() => {});
    const more = async () => {
      const until = state.calls + 200;
      await waitFor(() => state.done || state.calls >= until, "calls go on");
    };
    for (const wire of ["auto", "http", "auto", "auto"] as const) {
      const next = await serving(place, { wire });
      await more();
      await instance.stop();
      instance = next;
      await more();
    }
    state.done = true;
    await calling;
    expect([...seen].toSorted()).toEqual(["fast", "http"]);
  });
});
