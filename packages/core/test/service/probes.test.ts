import { describe, expect, it } from "vitest";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { memoryNetwork, memoryRegistry } from "../../src/registry/memory.ts";
import type { ServiceOptions } from "../../src/service/options.ts";
import { createService } from "../../src/service/service.ts";

const settings = () =>
  ({
    name: "greeter",
    address: "127.0.0.1:0",
    registry: memoryRegistry({ network: memoryNetwork() }),
    logger: silentLogger,
    spreadMs: 200,
    args: [],
    env: {},
  }) satisfies ServiceOptions;

async function ask(address: string | undefined, path: string, init: RequestInit = {}): Promise<[number, string]> {
  const reply = await fetch(`http://${address}${path}`, init);
  return [reply.status, await reply.text()];
}
const ok = [200, '{"status":"ok"}\n'];
const notReady = [503, '{"status":"not ready"}\n'];

describe("probes", () => {
  it("say that the process answers, and whether it is ready: before, during and after", async () => {
    const seen: unknown[] = [];
    let healthy = true;
    const service = createService({
      ...settings(),
      probes: true,
      registerCheck: () => healthy,
      registerIntervalMs: 20,
      beforeStop: async () => {
        seen.push(await ask(address, "/healthz"), await ask(address, "/readyz"));
      },
    });
    service.handle("Greeter.Hello", () => ({ msg: "Hello" }));
    await service.start();
    const { address } = service;
    expect(await ask(address, "/healthz")).toEqual(ok);
    expect(await ask(address, "/readyz?verbose=1")).toEqual(ok);
    expect(await ask(address, "/readyz", { method: "HEAD" })).toEqual([200, ""]);
    expect((await ask(address, "/healthz/"))[0]).toBe(404);
    // Not a call, and calls are no probes.
    expect(service.server.stats.requests).toBe(0);
    healthy = false;
    await expect.poll(() => ask(address, "/readyz")).toEqual(notReady);
    expect(await ask(address, "/healthz")).toEqual(ok);
    healthy = true;
    await expect.poll(() => ask(address, "/readyz")).toEqual(ok);
    await service.stop();
    expect(seen).toEqual([ok, notReady]);
  });

  it("are nowhere without the option, and elsewhere by paths", async () => {
    const without = createService(settings());
    await without.start();
    for (const path of ["/healthz", "/readyz"]) expect((await ask(without.address, path))[0]).toBe(404);
    await without.stop();
    const named = createService({ ...settings(), probes: { live: "/live", ready: "/ready" } });
    await named.start();
    for (const path of ["/live", "/ready"]) expect(await ask(named.address, path)).toEqual(ok);
    expect((await ask(named.address, "/healthz"))[0]).toBe(404);
    await named.stop();
    const variable = createService({ ...settings(), env: { MICRO_PROBES: "true" } });
    await variable.init();
    await variable.start();
    expect(await ask(variable.address, "/readyz")).toEqual(ok);
    await variable.stop();
  });

  it("with wrong options are refused", () => {
    expect(() => createService({ probes: { reday: "/x" } as never })).toThrow("did you mean `ready`?");
    expect(() => createService({ probes: { live: "live" } })).toThrow(/`probes.live` must be a path/);
  });

  it("and calls by hand, as the docs show them, are told apart", async () => {
    const service = createService(settings());
    service.handle("Greeter.Hello", ({ name }: { name: string }) => ({ msg: `Hello ${name}` }));
    await service.start();
    const headers = { "Content-Type": "application/json", "Micro-Endpoint": "Greeter.Hello" };
    const body = JSON.stringify({ name: "John" });
    expect(await ask(service.address, "/", { method: "POST", headers, body })).toEqual([200, '{"msg":"Hello John"}\n']);
    await service.stop();
  });
});
