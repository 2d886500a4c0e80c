import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Context } from "../../src/context.ts";
import * as errors from "../../src/errors.ts";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { memoryNetwork, memoryRegistry } from "../../src/registry/memory.ts";
import { createService, type MicroService } from "../../src/service/service.ts";
import type { ServiceOptions } from "../../src/service/options.ts";
import { waitFor } from "../support/service.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import { selfSigned } from "../../src/net/self-signed.ts";

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

const ask = (service: MicroService, options = {}) =>
  service.call<{ way: string }>("greeter", "Greeter.Way", {}, options);

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
      const caller = place.service({ name: "caller", transport: httpTransport({ wire: client, direct: false }) });
      expect(await ask(caller)).toEqual({ way: expected });
    }
  });

  it("is the fast one over TLS, too", async () => {
    const tls = selfSigned({ hosts: ["127.0.0.1"] });
    await using place = fleet();
    await serving(place, { tls });
    expect(await ask(place.service({ name: "caller", tls: { ca: tls.cert } }))).toEqual({ way: "fast" });
  });

  it("is none within a process, between services and for one that calls itself, but with TLS", async () => {
    await using place = fleet();
    const service = await serving(place);
    expect(await ask(service)).toEqual({ way: "direct" });
    expect(await ask(place.service({ name: "caller" }))).toEqual({ way: "direct" });
    await using secure = fleet();
    const options = { secure: true, insecureSkipVerify: true };
    expect(await ask(await serving(secure, options))).toEqual({ way: "fast" });
    expect(await ask(secure.service({ name: "caller", ...options }))).toEqual({ way: "fast" });
    // Nobody without TLS gets in by being near.
    await expect(ask(secure.service({ name: "plain" }))).rejects.toThrow("this port speaks TLS");
  });

  it("goes by the registry: who was not told of a service in this process makes a connection to it", async () => {
    await using place = fleet();
    const service = await serving(place);
    const caller = place.service({ name: "caller" });
    expect(await ask(caller, { address: service.address })).toEqual({ way: "http" });
    expect(await ask(caller)).toEqual({ way: "direct" });
    await using elsewhere = fleet();
    await expect(ask(elsewhere.service({ name: "caller" }))).rejects.toMatchObject({ code: "not_found" });
  });

  it("makes no difference to deadline, cancellation, wrappers, errors and the isolation of messages", async () => {
    await using place = fleet();
    const seen: string[] = [];
    const service = place.service({
      drainTimeoutMs: 50,
      wrapHandler: [(next) => (request, context) => (seen.push("handler"), next(request, context))],
    });
    const kept = { list: [1, 2] };
    let cancelled = 0;
    let left: number | undefined;
    service.handle("Greeter", {
      change: (request: { list: number[] }) => {
        request.list.push(3);
        return kept;
      },
      hang: async (_: unknown, context: Context) => {
        left = context.remainingMs;
        await new Promise((resolve) => context.cancellation.onCancel(resolve));
        cancelled++;
        // An answer in time would be one; this one comes when its caller has gone, and after the drain's 50 ms.
        await new Promise((resolve) => setTimeout(resolve, 100));
      },
      fail: () => {
        throw errors.newError("greeter", "no", 409);
      },
    });
    await service.start();
    const caller = place.service({
      name: "caller",
      wrapCall: [(next) => (request, context) => (seen.push("call"), next(request, context))],
    });
    const mine = { list: [1] };
    const reply = await caller.call<{ list: number[] }>("greeter", "Greeter.Change", mine);
    expect([mine, reply, seen]).toEqual([{ list: [1] }, { list: [1, 2] }, ["call", "handler"]]);
    reply.list.push(9);
    expect(kept).toEqual({ list: [1, 2] });
    await expect(caller.call("greeter", "Greeter.Fail", {})).rejects.toMatchObject({ statusCode: 409, detail: "no" });
    await expect(caller.call("greeter", "Greeter.Hang", {}, { timeoutMs: 80 })).rejects.toMatchObject({
      code: "timeout",
    });
    expect(left).toBeLessThanOrEqual(80);
    const controller = new AbortController();
    const aborted = caller.call("greeter", "Greeter.Hang", {}, { signal: controller.signal });
    setImmediate(() => controller.abort());
    await expect(aborted).rejects.toMatchObject({ code: "aborted" });
    await waitFor(() => cancelled === 2, "both handlers are cancelled");
    // A caller that is stopped takes its calls with it, and nobody else's.
    const other = place.service({ name: "other" });
    const others = other.call("greeter", "Greeter.Hang", {}, { timeoutMs: 20_000 }).catch((error: unknown) => error);
    const stopped = caller.call("greeter", "Greeter.Hang", {}).catch((error: unknown) => error);
    await waitFor(() => service.server.stats.inFlight === 2, "both run");
    await caller.stop();
    expect(await stopped).toMatchObject({ code: "closed" });
    await waitFor(() => service.server.stats.inFlight === 1, "one is over");
    await service.stop();
    // It ended by the drain of its server.
    expect(await others).not.toMatchObject({ code: "closed" });
  });

  it("runs over a unix domain socket", async () => {
    const folder = mkdtempSync(join(tmpdir(), "micro-unix-"));
    await using place = fleet();
    const address = `unix:${join(folder, "greeter")}`;
    const server = await serving(place, { address });
    expect(server.address).toBe(address);
    const caller = place.service({ name: "caller", transport: httpTransport({ direct: false }) });
    // Peers on such a socket have no address of their own, so that `way` cannot tell it from a direct call.
    expect((await ask(caller)).way).not.toBe("http");
    rmSync(folder, { recursive: true, force: true });
  });

  it("changes under a fleet that is upgraded and rolled back, without a failed call", async () => {
    await using place = fleet();
    const caller = place.service({ name: "caller", transport: httpTransport({ direct: false }) });
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
