// The NATS broker on JetStream, against the client it stands on: publishes acknowledged by the stream, messages one by one by us.
import { connect } from "@nats-io/transport-node";
import { AckPolicy, DeliverPolicy, RetentionPolicy, StorageType, jetstream } from "@nats-io/jetstream";
import { natsBroker } from "../../packages/broker-nats/dist/index.js";
import { startNats } from "../../scripts/servers.mjs";

export const label = "NATS, JetStream";

export async function start() {
  const server = await startNats();
  return { address: server.address, stop: () => server.dispose() };
}

const contentType = "application/octet-stream";
const prefetch = 256;

const ours = {
  async publisher(address) {
    const broker = natsBroker({ servers: [address], jetstream: { storage: "memory" } });
    await broker.connect();
    return {
      publish: (topic, body) =>
        broker.publish(topic, { header: { "Content-Type": contentType, "Micro-Topic": topic }, body }),
      close: () => broker.disconnect(),
    };
  },
  async consumer(address) {
    const broker = natsBroker({ servers: [address], jetstream: { storage: "memory" } });
    return {
      subscribe: (topic, handle) =>
        broker.subscribe(topic, ({ message }) => handle(message.body), { queue: "bench", prefetch }).ready,
      close: () => broker.disconnect(),
    };
  },
};

const bare = {
  async publisher(address) {
    const connection = await connect({ servers: [address] });
    const client = jetstream(connection);
    return {
      publish(topic, body) {
        const message = {
          Header: { "Content-Type": contentType, "Micro-Topic": topic },
          Body: body.toString("base64"),
        };
        return client.publish(topic, Buffer.from(JSON.stringify(message)), { msgID: crypto.randomUUID() });
      },
      close: () => connection.close(),
    };
  },
  async consumer(address) {
    const connection = await connect({ servers: [address] });
    return {
      async subscribe(topic, handle) {
        const client = jetstream(connection);
        const manager = await client.jetstreamManager();
        const name = topic.replaceAll(".", "_");
        await manager.streams.add({
          name,
          subjects: [topic],
          retention: RetentionPolicy.Interest,
          storage: StorageType.Memory,
        });
        await manager.consumers.add(name, {
          durable_name: "bench",
          ack_policy: AckPolicy.Explicit,
          deliver_policy: DeliverPolicy.New,
          max_ack_pending: 1_024,
        });
        const consumer = await client.consumers.get(name, "bench");
        await consumer.consume({
          max_messages: prefetch,
          callback(message) {
            handle(Buffer.from(JSON.parse(message.string()).Body, "base64"));
            message.ack();
          },
        });
      },
      close: () => connection.close(),
    };
  },
};

export const sides = { "@micro/broker-nats": ours, "bare JetStream client": bare };
