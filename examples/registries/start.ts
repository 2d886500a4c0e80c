// The greeter, unchanged, on every registry: only MICRO_REGISTRY and MICRO_REGISTRY_ADDRESS differ.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Unavailable, startConsul, startEtcd } from "../../scripts/servers.mjs";

const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** A server of our own, gone afterwards; with your own, set the two variables and leave this out. */
const servers = { etcd: startEtcd, consul: () => startConsul({ dev: true }) };

async function run(registry: string, address: string): Promise<boolean> {
  const env = { ...process.env, MICRO_REGISTRY: registry, MICRO_REGISTRY_ADDRESS: address };
  const variables = `MICRO_REGISTRY=${registry}${address === "" ? "" : ` MICRO_REGISTRY_ADDRESS=${address}`}`;
  console.log(`\n${variables} node service.ts`);
  const service = spawn(process.execPath, [file("service.ts")], { env, stdio: ["ignore", "inherit", "pipe"] });
  const serviceEnded = once(service, "exit");
  try {
    await new Promise<void>((resolve, reject) => {
      createInterface({ input: service.stderr }).on("line", (line) => {
        console.log(`  service | ${line}`);
        if (line.includes("Registering node")) resolve();
      });
      service.once("exit", (code) => reject(new Error(`the service ended with exit code ${code}`)));
    });
    console.log(`${variables} node client.ts`);
    const client = spawn(process.execPath, [file("client.ts")], { env, stdio: ["ignore", "inherit", "inherit"] });
    const [clientCode] = (await once(client, "exit")) as [number | null];
    service.kill("SIGTERM");
    const [serviceCode] = (await serviceEnded) as [number | null];
    return clientCode === 0 && serviceCode === 0;
  } finally {
    service.kill("SIGKILL");
  }
}

const wanted = process.argv.slice(2);
let succeeded = true;
for (const registry of wanted.length > 0 ? wanted : ["mdns", "etcd", "consul"]) {
  if (registry !== "etcd" && registry !== "consul") {
    succeeded = (await run(registry, "")) && succeeded;
    continue;
  }
  try {
    const server = await servers[registry]();
    try {
      succeeded = (await run(registry, server.address)) && succeeded;
    } finally {
      await server.dispose();
    }
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    console.log(`\n${registry} is left out: ${error.message}`);
  }
}
process.exitCode = succeeded ? 0 : 1;
