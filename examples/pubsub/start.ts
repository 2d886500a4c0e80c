// pubsub.ts, unchanged, on every broker: only MICRO_BROKER and MICRO_BROKER_ADDRESS differ.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Unavailable, startKafka, startNats, startRabbitmq } from "../../scripts/servers.mjs";

const program = fileURLToPath(new URL("pubsub.ts", import.meta.url));

/** A server of our own, gone afterwards; with your own, set the two variables and leave this out. */
const servers = new Map<string, () => Promise<{ readonly address: string; dispose(): Promise<void> }>>([
  ["nats", () => startNats()],
  ["kafka", () => startKafka()],
  ["rabbitmq", () => startRabbitmq()],
]);

async function run(broker: string, address: string): Promise<boolean> {
  const env = { ...process.env, MICRO_BROKER: broker, MICRO_BROKER_ADDRESS: address };
  console.log(`\nMICRO_BROKER=${broker}${address === "" ? "" : ` MICRO_BROKER_ADDRESS=${address}`} node pubsub.ts`);
  const child = spawn(process.execPath, [program], { env, stdio: ["ignore", "inherit", "inherit"] });
  const [code] = (await once(child, "exit")) as [number | null];
  return code === 0;
}

/** True if the program could load the broker's plugin. */
function isInstalled(broker: string): boolean {
  try {
    import.meta.resolve(`@micro/broker-${broker}`);
    return true;
  } catch {
    return false;
  }
}

const wanted = process.argv.slice(2);
let succeeded = true;
for (const broker of wanted.length > 0 ? wanted : ["http", ...servers.keys()]) {
  const startServer = servers.get(broker);
  if (startServer === undefined) {
    succeeded = (await run(broker, "")) && succeeded;
    continue;
  }
  if (!isInstalled(broker)) {
    console.log(`\n${broker} is left out: npm i @micro/broker-${broker}`);
    continue;
  }
  try {
    const server = await startServer();
    try {
      succeeded = (await run(broker, server.address)) && succeeded;
    } finally {
      await server.dispose();
    }
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    console.log(`\n${broker} is left out: ${error.message}`);
  }
}
process.exitCode = succeeded ? 0 : 1;
