// node bench/client.mjs TARGET ADDRESS: reads one workload a line, `{"workload","inFlight","ms"}`, and prints its result as a line.
import { createInterface } from "node:readline";

const [target, address] = process.argv.slice(2);
const { connect } = await import(`./targets/${target}.mjs`);
const client = await connect(address);
const kilobyte = "x".repeat(1024);
const streamLength = 1000;

const workloads = {
  async hello() {
    if ((await client.hello("John")) !== "Hello John") throw new Error("wrong answer");
    return 1;
  },
  async echo() {
    if ((await client.echo(kilobyte)).length !== kilobyte.length) throw new Error("wrong answer");
    return 1;
  },
  async stream() {
    const items = await client.count(streamLength);
    if (items !== streamLength) throw new Error(`${items} items instead of ${streamLength}`);
    return items;
  },
};

async function measure({ workload, inFlight, ms }) {
  const once = workloads[workload];
  const latencies = [];
  let units = 0;
  const start = performance.now();
  const until = start + ms;
  const cpu = process.cpuUsage();
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      for (let at = performance.now(); at < until;) {
        const done = await once();
        units += done; // Not `units += await`: that would read it before the wait.
        const now = performance.now();
        latencies.push(now - at);
        at = now;
      }
    }),
  );
  const seconds = (performance.now() - start) / 1000;
  const used = process.cpuUsage(cpu);
  latencies.sort((a, b) => a - b);
  const at = (share) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))];
  const clientCpuUs = (used.user + used.system) / units;
  return { perSecond: units / seconds, p50: at(0.5), p99: at(0.99), units, clientCpuUs };
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await measure(JSON.parse(line)))}\n`);
}
await client.close();
process.exit(0);
