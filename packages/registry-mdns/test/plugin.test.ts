import { networkInterfaces } from "node:os";
import { createService, mdnsRegistry as coreRegistry, silentLogger, type ServiceOptions } from "@micro/core";
import { mdnsRegistry, plugins } from "@micro/registry-mdns";
import { describe, expect, it } from "vitest";
import { keepingLogger } from "../../core/test/support/service.ts";

/** Apart from others that use Go's port on this machine. */
const domain = `plugin-${process.pid}`;
const loopback = Object.entries(networkInterfaces()).find(([, infos]) => infos?.some((info) => info.internal))?.[0];

function service(options: ServiceOptions) {
  return createService({
    plugins,
    logger: silentLogger,
    address: "127.0.0.1:0",
    spreadMs: 0,
    handleSignals: false,
    args: [],
    exit() {},
    ...options,
  });
}

describe("@micro/registry-mdns", () => {
  it("is core's registry under its plugin name", async () => {
    expect(mdnsRegistry).toBe(coreRegistry);
    expect(plugins.map(({ kind, name }) => `${kind} ${name}`)).toEqual(["registry mdns"]);
  });

  it("is taken by a service that chooses it by name, and by default, before what is built in", async () => {
    for (const env of [{ MICRO_REGISTRY: "mdns" }, {}]) {
      const made: string[] = [];
      const counting = plugins.map((plugin) => ({
        ...plugin,
        create: (context: Parameters<typeof plugin.create>[0]) => {
          made.push(plugin.name);
          return plugin.create(context);
        },
      }));
      const own = service({ plugins: counting, env });
      await own.init();
      expect(own.registry.name).toBe("mdns");
      expect(made).toEqual(["mdns"]);
      await own.stop();
    }
  });

  it("finds who has the same domain, on loopback, with options by variable and by flag", async () => {
    const greeter = service({
      name: "greeter",
      env: { MICRO_MDNS_DOMAIN: domain, MICRO_MDNS_LOOPBACK: "true", MICRO_MDNS_TTL: "30s" },
    });
    greeter.handle("Greeter", { hello: () => ({ msg: "Hello" }) });
    await greeter.init();
    await greeter.start();
    const caller = service({
      name: "caller",
      env: {},
      args: ["--mdns_domain", domain, ...(loopback === undefined ? [] : ["--mdns_interface", loopback])],
    });
    await caller.init();
    try {
      expect(await caller.call("greeter", "Greeter.Hello", {}, { timeoutMs: 10_000 })).toEqual({ msg: "Hello" });
      // The same by the factory; and nobody is there in another domain.
      await using same = mdnsRegistry({ domain, loopbackOnly: true });
      expect((await same.getService("greeter")).flatMap(({ nodes }) => nodes.map(({ id }) => id))).toEqual([
        greeter.nodeId,
      ]);
      await using other = mdnsRegistry({ domain: `${domain}-other`, loopbackOnly: true });
      expect(await other.getService("greeter")).toEqual([]);
    } finally {
      await caller.stop();
      await greeter.stop();
    }
  });

  it("shows its flags in `--help`", async () => {
    const write = process.stdout.write.bind(process.stdout);
    let text = "";
    process.stdout.write = ((chunk: string, done?: () => void) => {
      text += chunk;
      done?.();
      return true;
    }) as typeof process.stdout.write;
    try {
      const helped = service({ env: {}, args: ["--help"] });
      await expect(helped.init()).rejects.toMatchObject({ exitCode: 0 });
    } finally {
      process.stdout.write = write;
    }
    for (const { name } of plugins[0]?.flags ?? []) expect(text).toContain(`--${name}`);
    expect(text).toContain("MICRO_MDNS_INTERFACE");
  });

  it("warns of interfaces that are not there", async () => {
    const logger = keepingLogger();
    const own = service({ env: { MICRO_MDNS_INTERFACE: "nowhere0", MICRO_MDNS_DOMAIN: domain }, logger });
    await own.init();
    await own.start();
    await own.stop();
    expect(logger.lines.filter((line) => line.startsWith("warn"))).toEqual([expect.stringContaining("nowhere0")]);
  });

  it.each([
    [{ MICRO_MDNS_TTL: "1500ms" }, /MICRO_MDNS_TTL/],
    [{ MICRO_MDNS_TTL: "0s" }, /MICRO_MDNS_TTL/],
    [{ MICRO_MDNS_DOMAIN: "x".repeat(64) }, /domain/],
  ])("refuses %o with an error that names it", async (env, message) => {
    const own = service({ env });
    await expect(own.init().then(() => own.start())).rejects.toThrow(message);
    await own.stop().catch(() => {});
  });
});
