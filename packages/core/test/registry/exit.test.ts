import { describe } from "vitest";
import { registryExitTests, type RegistryExitOptions } from "../support/registry-exit.ts";

const resolve = new URL("../support/resolve.mjs", import.meta.url);
const core = { module: "@micro/core", resolve };
const mdns = { domain: `exits-${process.pid}`, loopbackOnly: true };

const registries: Record<string, RegistryExitOptions> = {
  memory: { ...core, factory: "memoryRegistry", options: {}, flags: ["--registry=memory"] },
  // By name it is tested with its package, whose flags keep it to itself.
  mdns: { ...core, factory: "mdnsRegistry", options: mdns, flags: undefined },
  "multi (one of them away)": {
    module: new URL("../support/several-registries.ts", import.meta.url).href,
    factory: "severalRegistries",
    resolve,
    options: mdns,
    flags: undefined,
  },
};

for (const [name, options] of Object.entries(registries))
  describe(`a process that is done with the ${name} registry ends, with one given as`, () =>
    registryExitTests(() => options, options.flags === undefined ? ["instance"] : undefined));
