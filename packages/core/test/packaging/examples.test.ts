import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Unavailable, startConsul, startEtcd, type TestServer } from "../../../../scripts/servers.mjs";
import { workspace } from "../support/packed.ts";

const folder = join(workspace, "examples", "registries");

/** Keeps mdns on this machine and apart from others; the programs know nothing of it. */
const quiet = {
  MICRO_PLUGIN: join(workspace, "packages", "registry-mdns", "dist", "index.js"),
  MICRO_MDNS_LOOPBACK: "true",
  MICRO_MDNS_DOMAIN: `examples-${process.pid}`,
};

const starts: Readonly<Record<string, (() => Promise<TestServer>) | undefined>> = {
  mdns: undefined,
  etcd: () => startEtcd(),
  consul: () => startConsul({ dev: true }),
};

async function runClient(env: NodeJS.ProcessEnv) {
  const stdio = ["ignore", "pipe", "ignore"] as const;
  const client = spawn(process.execPath, ["client.ts"], { cwd: folder, env, stdio: [...stdio], timeout: 60_000 });
  let output = "";
  client.stdout?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const [code] = (await once(client, "close")) as [number | null];
  return { code, output };
}

describe("examples/registries: the greeter, unchanged, with nothing but the environment", () => {
  for (const [registry, start] of Object.entries(starts))
    it(`on ${registry}`, { timeout: 120_000 }, async (context) => {
      let server: TestServer | undefined;
      try {
        server = await start?.();
      } catch (error) {
        if (!(error instanceof Unavailable) || process.env["CI"] === "true") throw error;
        context.skip(error.message);
      }
      const env = {
        ...process.env,
        MICRO_REGISTRY: registry,
        ...(server === undefined ? quiet : { MICRO_REGISTRY_ADDRESS: server.address }),
      };
      const service = spawn(process.execPath, ["service.ts"], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
      const exited = once(service, "exit");
      try {
        let log = "";
        await new Promise<void>((resolve, reject) => {
          service.stderr.on("data", (chunk: Buffer) => {
            log += chunk.toString();
            if (log.includes(`Registry [${registry}] Registering node: greeter-`)) resolve();
          });
          service.once("exit", () => reject(new Error(`the service has ended:\n${log}`)));
        });
        expect(await runClient(env)).toEqual({ code: 0, output: `  client  | Hello John, found by ${registry}\n` });
        service.kill("SIGTERM");
        expect(await exited).toEqual([0, null]);
        expect(await runClient(env)).toEqual({ code: 1, output: "" });
      } finally {
        service.kill("SIGKILL");
        await exited;
        await server?.dispose();
      }
    });
});
