import { createService, mdnsRegistry as coreRegistry, silentLogger } from "@micro/core";
import { mdnsRegistry, plugins } from "@micro/registry-mdns";
import { describe, expect, it } from "vitest";

describe("@micro/registry-mdns", () => {
  it("is core's registry under its plugin name", async () => {
    expect(mdnsRegistry).toBe(coreRegistry);
    expect(plugins.map(({ kind, name }) => `${kind} ${name}`)).toEqual(["registry mdns"]);
  });

  it("is taken by a service that chooses it by name", async () => {
    const service = createService({ plugins, logger: silentLogger, env: { MICRO_REGISTRY: "mdns" }, args: [] });
    await service.init();
    expect(service.registry.name).toBe("mdns");
    await service.stop();
  });
});
