/** A member of a queue in a process of its own: says what it has handled. */
import { kafkaBroker } from "@micro/broker-kafka";

const [, , address = "", topic = ""] = process.argv;
const broker = kafkaBroker({ addresses: [address] });
const subscriber = broker.subscribe(
  topic,
  async ({ message }) => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    process.stdout.write(`${Buffer.from(message.body).toString()}\n`);
  },
  { queue: topic },
);
await subscriber.ready;
process.stdout.write("ready\n");
