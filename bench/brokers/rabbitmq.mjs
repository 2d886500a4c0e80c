// The RabbitMQ broker against the client it stands on: both confirm every publish, acknowledge every message by hand, write the same
// header, hold as many messages at once and read them from a queue of the same kind.
import { connect } from "amqplib";
import { rabbitmqBroker } from "../../packages/broker-rabbitmq/dist/index.js";
import { startRabbitmq } from "../../scripts/servers.mjs";

export const label = "RabbitMQ";

export async function start() {
  const server = await startRabbitmq();
  return { address: server.url, stop: () => server.dispose() };
}

const contentType = "application/octet-stream";
const prefetch = 256;

const ours = {
  async publisher(address) {
    const broker = rabbitmqBroker({ addresses: [address] });
    await broker.connect();
    return {
      publish: (topic, body) =>
        broker.publish(topic, { header: { "Content-Type": contentType, "Micro-Topic": topic }, body }),
      close: () => broker.disconnect(),
    };
  },
  async consumer(address) {
    const broker = rabbitmqBroker({ addresses: [address] });
    return {
      subscribe: (topic, handle) =>
        broker.subscribe(topic, ({ message }) => handle(message.body), { queue: topic, prefetch }).ready,
      close: () => broker.disconnect(),
    };
  },
};

const bare = {
  async publisher(address) {
    const connection = await connect(address, { noDelay: true });
    const channel = await connection.createConfirmChannel();
    await channel.assertExchange("micro", "topic", { durable: false });
    return {
      publish: (topic, body) =>
        new Promise((resolve, reject) => {
          const headers = { "Content-Type": contentType, "Micro-Topic": topic };
          channel.publish("micro", topic, body, { headers }, (error) => (error === null ? resolve() : reject(error)));
        }),
      close: () => connection.close(),
    };
  },
  async consumer(address) {
    const connection = await connect(address, { noDelay: true });
    return {
      async subscribe(topic, handle) {
        const channel = await connection.createChannel();
        await channel.prefetch(prefetch);
        await channel.assertExchange("micro", "topic", { durable: false });
        const { queue } = await channel.assertQueue(topic, { durable: false, autoDelete: true });
        await channel.bindQueue(queue, "micro", topic);
        await channel.consume(queue, (message) => {
          handle(message.content);
          channel.ack(message);
        });
      },
      close: () => connection.close(),
    };
  },
};

export const sides = { "@micro/broker-rabbitmq": ours, "bare amqplib": bare };
