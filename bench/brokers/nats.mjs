// The NATS broker on core NATS, against the client it stands on writing and reading the same bytes, paced the same way.
import { connect } from "@nats-io/transport-node";
import { natsBroker } from "../../packages/broker-nats/dist/index.js";
import { startNats } from "../../scripts/servers.mjs";

export const label = "NATS, core";

export async function start() {
  const server = await startNats();
  return { address: server.address, stop: () => server.dispose() };
}

const contentType = "application/octet-stream";
// Both sides keep what the consumer has not got to yet: what is measured is throughput, not when messages are dropped.
const unlimited = { maxPendingMessages: Infinity, maxPendingBytes: Infinity };

const ours = {
  async publisher(address) {
    const broker = natsBroker({ servers: [address] });
    await broker.connect();
    return {
      publish: (topic, body) =>
        broker.publish(topic, { header: { "Content-Type": contentType, "Micro-Topic": topic }, body }),
      close: () => broker.disconnect(),
    };
  },
  async consumer(address) {
    const broker = natsBroker({ servers: [address], ...unlimited });
    return {
      subscribe: (topic, handle) => broker.subscribe(topic, ({ message }) => handle(message.body)).ready,
      close: () => broker.disconnect(),
    };
  },
};

const maxUnflushed = 1024 * 1024;

const bare = {
  async publisher(address) {
    const connection = await connect({ servers: [address] });
    let unflushed = 0;
    return {
      publish(topic, body) {
        const message = {
          Header: { "Content-Type": contentType, "Micro-Topic": topic },
          Body: body.toString("base64"),
        };
        const payload = Buffer.from(JSON.stringify(message));
        connection.publish(topic, payload);
        unflushed += payload.length;
        if (unflushed < maxUnflushed) return Promise.resolve();
        unflushed = 0;
        return connection.flush();
      },
      close: () => connection.close(),
    };
  },
  async consumer(address) {
    const connection = await connect({ servers: [address] });
    return {
      async subscribe(topic, handle) {
        connection.subscribe(topic, {
          callback: (_error, message) => handle(Buffer.from(JSON.parse(message.string()).Body, "base64")),
        });
        await connection.flush();
      },
      close: () => connection.close(),
    };
  },
};

export const sides = { "@micro/broker-nats": ours, "bare NATS client": bare };
