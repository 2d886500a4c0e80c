/** The brokers both sides have, and what a row has to know of each. */
import type { Broker } from "@micro/core";
import { kafkaBroker } from "@micro/broker-kafka";
import { natsBroker } from "@micro/broker-nats";
import { rabbitmqBroker } from "@micro/broker-rabbitmq";
import type { Generation, Pair } from "./pair.ts";
import { type ServerKind, servers } from "./servers.ts";

/** With `jetstream` it is only our side that keeps messages: Go's plugins know core NATS alone. */
export type ServerBroker = "nats" | "jetstream" | "rabbitmq" | "kafka";
export type BrokerKind = "http" | ServerBroker;

interface Backend {
  /** Ours, at the suite's server. */
  readonly connect: () => Broker;
  readonly server: ServerKind;
  /** Flag -broker of the peers. */
  readonly flag: () => string;
  /** Which go-micro has a plugin for it. */
  readonly generations?: readonly Generation[];
}

export const backends: Readonly<Record<ServerBroker, Backend>> = {
  nats: {
    connect: () => natsBroker({ servers: [servers.nats!] }),
    server: "nats",
    flag: () => `nats@${servers.nats}`,
  },
  jetstream: {
    connect: () => natsBroker({ servers: [servers.nats!], jetstream: { storage: "memory" } }),
    server: "nats",
    flag: () => `nats@${servers.nats}`,
  },
  rabbitmq: {
    connect: () => rabbitmqBroker({ addresses: [servers.rabbitmq!] }),
    server: "rabbitmq",
    flag: () => `rabbitmq@${servers.rabbitmq}`,
  },
  kafka: {
    connect: () => kafkaBroker({ addresses: [servers["kafka-3.9"]!] }),
    server: "kafka-3.9",
    flag: () => `kafka@${servers["kafka-3.9"]}`,
    generations: ["v2", "v4"],
  },
};

/** True if its server is there. */
export const isThere = (kind: BrokerKind): boolean => kind === "http" || servers[backends[kind].server] !== undefined;

export const brokerFlag = (kind: BrokerKind): string => (kind === "http" ? "http" : backends[kind].flag());

/** 1 MiB, where Go's publisher can: sarama stops at 1 MB, base64 included. */
export const largeBody: Readonly<Record<BrokerKind, number>> = {
  http: 1 << 20,
  rabbitmq: 1 << 20,
  nats: 1 << 20,
  jetstream: 1 << 20,
  kafka: 700_000,
};

/** A topic nothing else uses. The http broker's node id must fit a DNS label with it: Go's mdns loses longer ones. */
export async function newTopic(pair: Pair, kind: BrokerKind, partitions = 1): Promise<string> {
  const topic = pair.unique("topic");
  if (kind === "kafka") {
    const parameters = ["-address", servers["kafka-3.9"]!, "-topic", topic, "-partitions", String(partitions)];
    await using maker = pair.start("kafka-topic", ...parameters);
    await maker.line("made", ({ ok }) => ok === true);
  }
  return topic;
}
