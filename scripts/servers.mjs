/**
 * Real servers for tests: got into a cache outside the checkout, started on free loopback ports, stopped by pid.
 *
 *     node scripts/servers.mjs ensure etcd nats     # get them; prints where they are
 *     node scripts/servers.mjs start nats           # run one until Ctrl-C, in a folder that is removed afterwards
 *
 * etcd, Consul and NATS are built from Go modules with exact versions, Kafka's jars come from Maven Central, RabbitMQ is
 * Debian's. Each has its file in `scripts/servers`. Runs on Node 20 and later.
 */
import { fileURLToPath } from "node:url";
import { ensureChromium } from "./servers/chromium.mjs";
import { ensureConsul, startConsul } from "./servers/consul.mjs";
import { ensureEtcd, startEtcd } from "./servers/etcd.mjs";
import { ensureKafka, startKafka } from "./servers/kafka.mjs";
import { ensureNats, startNats } from "./servers/nats.mjs";
import { ensureRabbitmq, startRabbitmq } from "./servers/rabbitmq.mjs";
import { Unavailable } from "./servers/shared.mjs";

export { ensureProtobufConformance } from "./servers/protobuf-conformance.mjs";
export { makeCertificates } from "./servers/certificates.mjs";
export { freePorts } from "./servers/shared.mjs";
export { Unavailable, ensureChromium, startConsul, startEtcd, startKafka, startNats, startRabbitmq };

/** How each is got and started, and which environment variable names one that runs already. */
const servers = {
  etcd: { ensure: ensureEtcd, start: startEtcd, variable: "MICRO_TEST_ETCD" },
  consul: { ensure: ensureConsul, start: startConsul, variable: "MICRO_TEST_CONSUL" },
  nats: { ensure: ensureNats, start: startNats, variable: "MICRO_TEST_NATS" },
  kafka: { ensure: (log) => ensureKafka("kafka", log), start: startKafka, variable: "MICRO_TEST_KAFKA" },
  "kafka-3.9": {
    ensure: (log) => ensureKafka("kafka-3.9", log),
    start: (options) => startKafka({ version: "3.9", ...options }),
    variable: "MICRO_TEST_KAFKA_3_9",
  },
  rabbitmq: { ensure: ensureRabbitmq, start: startRabbitmq, variable: "MICRO_TEST_RABBITMQ" },
};

/** What `ensureServer` and `runningServer` know. */
export const serverNames = Object.keys(servers);

function find(name) {
  if (Object.hasOwn(servers, name)) return servers[name];
  throw new TypeError(`no server is called ${name}; there are ${serverNames.join(", ")}`);
}

/** `host:port` or URL of a server of the user's, from `MICRO_TEST_ETCD` and the like. */
export function runningServer(name) {
  return process.env[find(name).variable] || undefined;
}

/** Path of the program (of Kafka, its folder of jars), got if it is not in the cache. @throws {Unavailable} */
export async function ensureServer(name, log = () => {}) {
  return find(name).ensure(log);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [verb, ...names] = process.argv.slice(2);
  const log = (line) => console.error(line);
  try {
    if (verb === "ensure" && names.length > 0) {
      for (const name of names) console.log(`${name}\t${await ensureServer(name, log)}`);
    } else if (verb === "start" && names.length === 1) {
      const server = await find(names[0]).start({ log });
      console.log(`${server.name} ${server.url} process ${server.pid}`);
      await new Promise((resolve) => {
        for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, resolve);
      });
      await server.dispose();
    } else {
      console.error(`usage: node scripts/servers.mjs ensure NAME ... | start NAME, of ${serverNames.join(", ")}`);
      process.exitCode = 2;
    }
  } catch (error) {
    console.error(error.message);
    process.exitCode = error instanceof Unavailable ? 3 : 1;
  }
}
