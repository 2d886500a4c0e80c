/** Kafka without ZooKeeper, one node: the newest, and the last that clients with protocols of before 2021 can use. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { ensureJars, ensureJava } from "./java.mjs";
import { ServerProcess, startOnFreePorts } from "./process.mjs";
import { runQuietly, scratch } from "./shared.mjs";

const versions = { kafka: "4.3.1", "kafka-3.9": "3.9.2" };
const javaOptions = [
  "-Xms256m",
  "-Xmx512m",
  "-XX:+UseSerialGC",
  "-XX:TieredStopAtLevel=1",
  "-Djava.net.preferIPv4Stack=true",
  "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
];
const variables = { kafka: "MICRO_TEST_KAFKA", "kafka-3.9": "MICRO_TEST_KAFKA_3_9" };

/** Folder of its jars, fetched if there is none. Needs a Java. @throws {Unavailable} */
export const ensureKafka = async (name, log = () => {}) => (await programs(name, log)).jars;

async function programs(name, log = () => {}) {
  const java = await ensureJava(log, variables[name]);
  return { java, jars: await ensureJars("kafka", versions[name], variables[name], log) };
}

/**
 * One Kafka broker that is its own controller.
 * @param options `version`: "4.3" (default) or "3.9"; `tls: { cert, key, ca, clientAuth }` adds a listener with TLS,
 *   `users`, passwords by name, one with SASL (PLAIN, SCRAM-SHA-256 and -512), both one with both; `config`: further
 *   lines of server.properties
 * @throws {Unavailable}
 */
export async function startKafka({ version = "4.3", tls, users, config, log } = {}) {
  const { java, jars } = await programs(version === "3.9" ? "kafka-3.9" : "kafka", log);
  return startOnFreePorts(5, ([client, controller, ...secured]) => {
    const folder = scratch("kafka");
    const properties = join(folder, "server.properties");
    const listeners = { PLAINTEXT: client };
    if (tls !== undefined) listeners.SSL = secured[0];
    if (users !== undefined) listeners.SASL_PLAINTEXT = secured[1];
    if (tls !== undefined && users !== undefined) listeners.SASL_SSL = secured[2];
    const lines = [...basicProperties(folder, listeners, controller)];
    if (tls !== undefined) lines.push(...tlsProperties(folder, tls));
    if (users !== undefined) lines.push(...saslProperties(listeners, users));
    writeFileSync(properties, `${[...lines, config ?? ""].join("\n")}\n`);
    const run = (...args) => [...javaOptions, "-cp", join(jars, "*"), ...args];
    const at = (port) => (port === undefined ? undefined : `127.0.0.1:${port}`);
    return new ServerProcess({
      name: `kafka ${version}`,
      folder,
      ports: { client, controller, ssl: listeners.SSL, sasl: listeners.SASL_PLAINTEXT, saslSsl: listeners.SASL_SSL },
      command: [java, ...run("kafka.Kafka", properties)],
      prepare: async () => {
        if (existsSync(join(folder, "data", "meta.properties"))) return;
        const format = ["kafka.tools.StorageTool", "format", "-t", clusterId(), "-c", properties];
        const { code, output } = await runQuietly(java, run(...format, ...scramUsers(users ?? {})), { cwd: folder });
        if (code !== 0) throw new Error(`formatting the folder of kafka failed:\n${output}`);
      },
      ready: () => listsBroker(client),
      readyWithinMs: 60_000,
      url: `kafka://127.0.0.1:${client}`,
      address: at(client),
      sslAddress: at(listeners.SSL),
      saslAddress: at(listeners.SASL_PLAINTEXT),
      saslSslAddress: at(listeners.SASL_SSL),
    });
  });
}

function basicProperties(folder, listeners, controller) {
  const advertised = Object.entries(listeners).map(([name, port]) => `${name}://127.0.0.1:${port}`);
  return [
    "process.roles=broker,controller",
    "node.id=1",
    `controller.quorum.voters=1@127.0.0.1:${controller}`,
    `listeners=${advertised.join(",")},CONTROLLER://127.0.0.1:${controller}`,
    `advertised.listeners=${advertised.join(",")}`,
    "controller.listener.names=CONTROLLER",
    "inter.broker.listener.name=PLAINTEXT",
    `listener.security.protocol.map=CONTROLLER:PLAINTEXT,${Object.keys(listeners)
      .map((name) => `${name}:${name}`)
      .join(",")}`,
    `log.dirs=${join(folder, "data")}`,
    // After a crash the broker waits until its former self has timed out: 12 s by default.
    "broker.session.timeout.ms=1000",
    "broker.heartbeat.interval.ms=200",
    "offsets.topic.num.partitions=1",
    "offsets.topic.replication.factor=1",
    "transaction.state.log.num.partitions=1",
    "transaction.state.log.replication.factor=1",
    "transaction.state.log.min.isr=1",
    "group.initial.rebalance.delay.ms=0",
    "group.min.session.timeout.ms=1000",
  ];
}

function tlsProperties(folder, { cert, key, ca, clientAuth }) {
  // Kafka wants the key and its certificate in one file.
  const keystore = join(folder, "server.pem");
  writeFileSync(keystore, `${readFileSync(key, "utf8")}\n${readFileSync(cert, "utf8")}`, { mode: 0o600 });
  return [
    "ssl.keystore.type=PEM",
    `ssl.keystore.location=${keystore}`,
    ...(ca === undefined ? [] : ["ssl.truststore.type=PEM", `ssl.truststore.location=${ca}`]),
    `listener.name.ssl.ssl.client.auth=${clientAuth === true ? "required" : "none"}`,
  ];
}

function saslProperties(listeners, users) {
  const security = "org.apache.kafka.common.security";
  const plain = Object.entries(users).map(([name, password]) => `user_${name}="${password}"`);
  const names = Object.keys(listeners).filter((name) => name.startsWith("SASL"));
  return [
    "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
    ...names.flatMap((name) => {
      const prefix = `listener.name.${name.toLowerCase()}`;
      return [
        `${prefix}.plain.sasl.jaas.config=${security}.plain.PlainLoginModule required ${plain.join(" ")};`,
        `${prefix}.scram-sha-256.sasl.jaas.config=${security}.scram.ScramLoginModule required;`,
        `${prefix}.scram-sha-512.sasl.jaas.config=${security}.scram.ScramLoginModule required;`,
      ];
    }),
  ];
}

/** SCRAM passwords are part of the metadata a new folder begins with. */
const scramUsers = (users) =>
  Object.entries(users).flatMap(([name, password]) =>
    ["SCRAM-SHA-256", "SCRAM-SHA-512"].flatMap((mechanism) => [
      "--add-scram",
      `${mechanism}=[name=${name},password=${password}]`,
    ]),
  );

/** 16 random bytes; the command line takes a leading dash for an option. */
const clusterId = () => `A${randomBytes(16).toString("base64url").slice(1, 22)}`;

/**
 * True if a metadata request (version 4, which all brokers know) is answered within a second with a broker in it. The
 * port is open some time before that.
 */
function listsBroker(port) {
  const request = Buffer.alloc(19);
  request.writeInt32BE(request.length - 4, 0);
  request.writeInt16BE(3, 4); // Metadata
  request.writeInt16BE(4, 6);
  request.writeInt32BE(1, 8); // correlation id
  request.writeInt16BE(-1, 12); // no client id; then no topics, and none to be made
  return new Promise((resolve) => {
    let answer = Buffer.alloc(0);
    const socket = connect(port, "127.0.0.1", () => socket.write(request));
    const end = (result) => {
      socket.destroy();
      resolve(result);
    };
    socket.setTimeout(1_000, () => end(false));
    socket.on("error", () => end(false));
    socket.on("close", () => end(false));
    socket.on("data", (chunk) => {
      answer = Buffer.concat([answer, chunk]);
      // size, correlation id, throttle time, number of brokers
      if (answer.length >= 16) end(answer.readInt32BE(12) > 0);
    });
  });
}
