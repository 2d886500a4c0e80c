import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { kafkaBroker } from "@micro/broker-kafka";
import { describe, expect, it } from "vitest";
import { startKafka } from "../../../scripts/servers.mjs";
import { brokerFaults, type BrokerFaultOptions } from "../../core/test/support/broker-faults.ts";
import { eventually } from "./support/client.ts";
import { missing } from "./support/kafka.ts";
import { proxyInFront } from "./support/proxied.ts";

const options: BrokerFaultOptions = {
  start: () => startKafka(),
  connect: (address) => kafkaBroker({ addresses: [address], createTopics: { partitions: 3 } }),
  atLeastOnce: true,
};
// Starting the server once more is dear: only where the proxy is what fails.
const proxied = brokerFaults({ ...options, proxy: proxyInFront });
const faults = Object.entries(brokerFaults(options)).map(
  ([name, run]) => [name, /partition|three faults/.test(name) ? (proxied[name] ?? run) : run] as const,
);

describe.skipIf(missing !== undefined)("Kafka: publishers and subscribers live through", { timeout: 150_000 }, () => {
  for (const [name, run] of faults) it(name, run);

  it("kill -9 of a member of a queue while it handles messages", async () => {
    const server = await startKafka();
    const program = fileURLToPath(new URL("./support/worker.ts", import.meta.url));
    const resolve = fileURLToPath(new URL("./support/resolve.mjs", import.meta.url));
    const topic = `faults.${crypto.randomUUID()}`;
    const seen = new Set<string>();
    let deliveries = 0;
    const note = (text: string) => {
      seen.add(text);
      deliveries++;
    };
    const broker = kafkaBroker({
      addresses: [server.address],
      createTopics: { partitions: 4 },
      sessionTimeoutMs: 3_000,
    });
    const subscriber = broker.subscribe(topic, ({ message }) => note(Buffer.from(message.body).toString()), {
      queue: topic,
    });
    await subscriber.ready;
    const child = spawn(process.execPath, ["--import", resolve, program, server.address, topic], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      const ready = Promise.withResolvers<void>();
      let byChild = 0;
      createInterface({ input: child.stdout }).on("line", (line) => {
        if (line === "ready") ready.resolve();
        else {
          byChild++;
          note(line);
        }
      });
      await ready.promise;
      const sent = Array.from({ length: 1_000 }, (_, index) => String(index));
      await Promise.all(sent.map((each) => broker.publish(topic, { body: Buffer.from(each) })));
      await eventually("the other member handles some", () => byChild > 20);
      child.kill("SIGKILL");
      await eventually("all are handled", () => seen.size === sent.length, 30_000);
      expect(seen.size).toBe(sent.length);
      process.stderr.write(
        `kafka: ${byChild} of ${sent.length} handled by a member that was killed, ${deliveries - seen.size} twice\n`,
      );
    } finally {
      child.kill("SIGKILL");
      await broker.disconnect();
      await server.dispose();
    }
  });
});
