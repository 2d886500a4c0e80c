import { consulRegistry } from "@micro/registry-consul";
import { describe, it } from "vitest";
import { registryFaults } from "../../core/test/support/registry-faults.ts";
import { startConsul } from "../../../scripts/servers.mjs";
import { missing } from "./support/consul.ts";

const faults = registryFaults({
  start: () => startConsul(),
  connect: (address) => consulRegistry({ addresses: [address], timeoutMs: 2_000, waitMs: 2_000 }),
  async revoke(address, nodeId) {
    await fetch(`http://${address}/v1/agent/service/deregister/${encodeURIComponent(nodeId)}`, { method: "PUT" });
  },
});

describe.skipIf(missing !== undefined)("Consul: services go on through", { timeout: 60_000 }, () => {
  for (const [name, run] of Object.entries(faults)) it(name, run);
});
