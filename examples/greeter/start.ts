// Runs the service and the client as two processes, as they would run on two machines.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));

console.log("Starting the service: node examples/greeter/service.ts\n");
const service = spawn(process.execPath, [file("service.ts")], { stdio: ["ignore", "inherit", "pipe"] });
const serviceEnded = once(service, "exit");
process.once("exit", () => service.kill("SIGKILL"));

// Registered is the last thing a starting service says.
const registered = new Promise<void>((resolve, reject) => {
  createInterface({ input: service.stderr }).on("line", (line) => {
    console.log(`  service | ${line}`);
    if (line.includes("Registering node")) resolve();
  });
  service.once("exit", (code) => reject(new Error(`the service ended with exit code ${code}`)));
});
await registered;

console.log("\nStarting a client in another process: node examples/greeter/client.ts\n");
const client = spawn(process.execPath, [file("client.ts")], { stdio: ["ignore", "inherit", "inherit"] });
const [clientCode] = (await once(client, "exit")) as [number | null];

console.log("\nStopping the service (SIGTERM): it deregisters, finishes what runs, and ends\n");
service.kill("SIGTERM");
const [serviceCode] = (await serviceEnded) as [number | null];

if (clientCode === 0 && serviceCode === 0) {
  console.log(`
What to try next
  node examples/greeter/service.ts --help            every flag with its variable
  node examples/greeter/service.ts                   leave it running, start a second one, and call them:
  node examples/greeter/client.ts                    calls are spread over all instances
  MICRO_LOG_LEVEL=debug node examples/greeter/service.ts
  edit examples/greeter/greeter.proto                npm run generate: the compiler tells both sides what to change
  docs/                                              one short page per subject`);
}
process.exitCode = clientCode === 0 && serviceCode === 0 ? 0 : 1;
