/** The registry and the broker that a process of the fleet, or the driver, uses. */
import { kafkaBroker } from "@micro/broker-kafka";
import { natsBroker } from "@micro/broker-nats";
import { rabbitmqBroker } from "@micro/broker-rabbitmq";
import { mdnsRegistry, type Broker, type Registry } from "@micro/core";
import { consulRegistry } from "@micro/registry-consul";
import { etcdRegistry } from "@micro/registry-etcd";

export const backendNames = ["etcd", "consul", "mdns"] as const;
export type BackendName = (typeof backendNames)[number];

/** Which backend, and where: the driver sets these for the processes it starts. */
export interface BackendAddress {
  readonly name: BackendName;
  /** Of the registry: `host:port`; for mdns its port. */
  readonly registry: string;
  readonly broker: string;
}

interface Backend extends AsyncDisposable {
  readonly options: { readonly registry: Registry; readonly broker: Broker };
}

/** @param given default: the variables `CHAOS_BACKEND`, `CHAOS_REGISTRY` and `CHAOS_BROKER`. */
export function connectBackend(given?: BackendAddress): Backend {
  const address = given ?? fromEnvironment();
  const registry = connections[address.name].registry(address.registry);
  const broker = connections[address.name].broker(address.broker);
  return {
    options: { registry, broker },
    async [Symbol.asyncDispose]() {
      await Promise.all([broker.disconnect(), registry[Symbol.asyncDispose]()]);
    },
  };
}

const connections: Readonly<
  Record<BackendName, { registry(address: string): Registry; broker(address: string): Broker }>
> = {
  etcd: {
    registry: (address) => etcdRegistry({ endpoints: [address] }),
    broker: (address) => natsBroker({ servers: [address], jetstream: { ackWaitMs: 5_000 } }),
  },
  consul: {
    registry: (address) => consulRegistry({ addresses: [address], waitMs: 5_000 }),
    broker: (address) => rabbitmqBroker({ addresses: [address], durable: true }),
  },
  mdns: {
    registry: (port) => mdnsRegistry({ loopbackOnly: true, port: Number(port) }),
    broker: (address) => kafkaBroker({ addresses: [address], createTopics: { partitions: 4, replicationFactor: 1 } }),
  },
};

function fromEnvironment(): BackendAddress {
  const { CHAOS_BACKEND: name, CHAOS_REGISTRY: registry, CHAOS_BROKER: broker } = process.env;
  if (name === undefined || registry === undefined || broker === undefined)
    throw new TypeError("CHAOS_BACKEND, CHAOS_REGISTRY and CHAOS_BROKER say where the fleet meets");
  return { name: name as BackendName, registry, broker };
}

/** What a process is given so that it connects to `address`. */
export function backendEnvironment({ name, registry, broker }: BackendAddress): Record<string, string> {
  return { CHAOS_BACKEND: name, CHAOS_REGISTRY: registry, CHAOS_BROKER: broker };
}
