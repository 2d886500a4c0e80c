import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { createService, silentLogger } from "@micro/core";
import { consulRegistry } from "@micro/registry-consul";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePorts } from "../../../scripts/servers.mjs";
import { consulUrl, endConsul, missing, startShared } from "./support/consul.ts";

beforeAll(startShared, 90_000);
afterAll(endConsul);

const file = (name: string): string => fileURLToPath(new URL(`./support/${name}`, import.meta.url));

/** The program, with what it logs. */
function run(registryAddress: string, address: string) {
  const child = spawn(process.execPath, ["--import", file("resolve.mjs"), file("example-service.ts")], {
    stdio: ["ignore", "ignore", "pipe"],
    env: {
      ...process.env,
      MICRO_REGISTRY: "consul",
      MICRO_REGISTRY_ADDRESS: registryAddress,
      MICRO_SERVER_ADDRESS: address,
    },
  });
  let log = "";
  child.stderr.on("data", (chunk: Buffer) => (log += chunk.toString()));
  return { child, ended: once(child, "close"), log: () => log };
}

describe.skipIf(missing !== undefined)("a service on Consul", { timeout: 60_000 }, () => {
  it("is in Consul and passing at its address, is called, and is gone once it has stopped", async () => {
    const url = await consulUrl();
    const [port = 0] = await freePorts(1);
    const { child, ended, log } = run(url, `:${port}`);
    interface Entry {
      readonly Service: { readonly ID: string; readonly Port: number; readonly Tags: readonly string[] };
      readonly Checks: readonly { readonly Status: string }[];
    }
    const passing = async (): Promise<Entry[]> =>
      (await (await fetch(`${url}/v1/health/service/example.service?passing`)).json()) as Entry[];
    try {
      await expect.poll(passing, { timeout: 20_000 }).toHaveLength(1);
      const [entry] = await passing();
      expect(entry?.Service.ID).toMatch(/^example\.service-[\da-f-]{36}$/);
      expect(entry?.Service.Port).toBe(port);
      expect(entry?.Checks.map(({ Status }) => Status)).toEqual(["passing", "passing"]);
      await using registry = consulRegistry({ addresses: [url] });
      await expect.poll(async () => (await registry.getService("example.service"))[0]?.version).toBe("latest");
      await using caller = createService({ name: "caller", registry, logger: silentLogger, args: [], env: {} });
      expect(await caller.call("example.service", "Example.Call", { name: "John" }, { timeoutMs: 10_000 })).toEqual({
        msg: "Hello John",
      });
      child.kill("SIGTERM");
      expect(await ended).toEqual([0, null]);
      const agent = (await (await fetch(`${url}/v1/agent/services`)).json()) as Record<string, unknown>;
      expect(Object.keys(agent).filter((id) => id.startsWith("example.service"))).toEqual([]);
      expect(await registry.getService("example.service")).toEqual([]);
      expect(log()).toMatch(/Registry \[consul\] Deregistering node: example\.service-/);
    } finally {
      child.kill("SIGKILL");
      await ended;
    }
  });

  it("says so and ends with code 1 when Consul is down at its start", async () => {
    const [closed = 0] = await freePorts(1);
    const { child, ended, log } = run(`127.0.0.1:${closed}`, "127.0.0.1:0");
    try {
      expect(await ended).toEqual([1, null]);
      expect(log()).toContain(`registry consul: look-up of example.service at `);
      expect(log()).toContain(`http://127.0.0.1:${closed}: no Consul agent answers there: see \`addresses\``);
      expect(log()).toContain(`connect ECONNREFUSED 127.0.0.1:${closed}`);
    } finally {
      child.kill("SIGKILL");
    }
  });
});
