import { fileURLToPath } from "node:url";
import { consulRegistry } from "@micro/registry-consul";
import { describe, it } from "vitest";
import { processFaults } from "../../core/test/support/process-faults.ts";
import { registryFaults } from "../../core/test/support/registry-faults.ts";
import { startConsul } from "../../../scripts/servers.mjs";
import { ownMissing } from "./support/own.ts";

const faults = registryFaults({
  start: () => startConsul(),
  connect: (address) => consulRegistry({ addresses: [address], timeoutMs: 2_000, waitMs: 2_000 }),
  async revoke(address, nodeId) {
    await fetch(`http://${address}/v1/agent/service/deregister/${encodeURIComponent(nodeId)}`, { method: "PUT" });
  },
  async fill(address) {
    for (let count = 0; count < 200; count++)
      await fetch(`http://${address}/v1/kv/other`, { method: "PUT", body: String(count) });
  },
});

describe.skipIf(ownMissing !== undefined)("Consul: services go on through", { timeout: 180_000 }, () => {
  for (const [name, run] of Object.entries(faults)) it(name, run);
});

describe.skipIf(ownMissing !== undefined)(
  "Consul: services go on through",
  { concurrent: true, timeout: 180_000 },
  () => {
    const faultsOfProcesses = processFaults({
      start: () => startConsul(),
      connect: (address) => consulRegistry({ addresses: [address] }),
      program: fileURLToPath(new URL("./support/child.ts", import.meta.url)),
      resolve: fileURLToPath(new URL("./support/resolve.mjs", import.meta.url)),
    });
    for (const [name, run] of Object.entries(faultsOfProcesses)) it(name, run);
  },
);
