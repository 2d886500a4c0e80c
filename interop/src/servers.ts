/** The servers of a run, inside its network namespace. */
import { startConsul, startEtcd, startKafka, startNats, startRabbitmq } from "../../scripts/servers.mjs";

/** What a run may have. Kafka is the last version that Go's plugins can speak to. */
const starts = {
  etcd: async () => startEtcd(),
  consul: async () => startConsul({ dev: true }),
  // Bodies of 1 MiB are a third longer inside an envelope.
  nats: async () => startNats({ config: "max_payload: 8MB" }),
  rabbitmq: async () => startRabbitmq(),
  "kafka-3.9": async () => startKafka({ version: "3.9" }),
} as const;

export type ServerKind = keyof typeof starts;

/** `host:port` by name, of RabbitMQ the URL; empty for what cannot be had here. */
export const servers: { [kind in ServerKind]?: string } = {};

const running: { dispose(): Promise<void> }[] = [];

export async function startServers(names: readonly string[]): Promise<void> {
  const chosen = (Object.keys(starts) as ServerKind[]).filter((kind) => names.includes(kind));
  await Promise.all(
    chosen.map(async (kind) => {
      const server = await starts[kind]();
      running.push(server);
      servers[kind] = kind === "rabbitmq" ? server.url : server.address;
    }),
  );
}

export async function stopServers(): Promise<void> {
  await Promise.all(running.map((server) => server.dispose()));
}
