/** The servers a fleet meets at, each behind a proxy where its protocol allows that, and what can befall them. */
import { setTimeout as sleep } from "node:timers/promises";
import { faultProxy, type FaultProxy } from "@micro/testing";
import { startConsul, startEtcd, startKafka, startNats, startRabbitmq, type TestServer } from "../scripts/servers.mjs";
import type { BackendAddress, BackendName } from "./connect.ts";
import type { Random } from "./random.ts";

/** One thing that can go wrong; resolves when it is over. */
export interface Trouble {
  readonly name: string;
  /** How often it comes, beside the others. */
  readonly weight: number;
  strike(random: Random): Promise<void>;
}

/** Servers that run, and what can befall them. */
export interface RunningBackend extends AsyncDisposable {
  readonly address: BackendAddress;
  readonly troubles: readonly Trouble[];
}

export async function startBackend(name: BackendName, log: (line: string) => void): Promise<RunningBackend> {
  await using stack = new AsyncDisposableStack();
  const own = async (server: TestServer): Promise<TestServer> => {
    stack.defer(() => server.dispose());
    return server;
  };
  const behind = async (server: TestServer): Promise<FaultProxy> =>
    stack.use(await faultProxy({ target: server.address }));
  const troubles: Trouble[] = [];
  let registry: string;
  let broker: string;
  switch (name) {
    case "etcd": {
      const etcd = await own(await startEtcd({ log }));
      const nats = await own(await startNats({ log, args: ["--jetstream"] }));
      const etcdProxy = await behind(etcd);
      const natsProxy = await behind(nats);
      [registry, broker] = [etcdProxy.address, natsProxy.address];
      troubles.push(
        ...serverTroubles("etcd", etcd, etcdProxy, true),
        ...serverTroubles("NATS", nats, natsProxy, false),
      );
      break;
    }
    case "consul": {
      const consul = await own(await startConsul({ log }));
      const rabbitmq = await own(await startRabbitmq({ log }));
      const consulProxy = await behind(consul);
      const rabbitmqProxy = await behind(rabbitmq);
      [registry, broker] = [consulProxy.address, rabbitmqProxy.address];
      troubles.push(
        ...serverTroubles("Consul", consul, consulProxy, true),
        // It takes ten seconds and more to come back: less often.
        ...serverTroubles("RabbitMQ", rabbitmq, rabbitmqProxy, false, 0.3),
      );
      break;
    }
    case "mdns": {
      // Kafka's clients are told where to connect to by Kafka: a proxy would be passed by.
      const kafka = await own(await startKafka({ log }));
      registry = String(20_000 + (process.pid % 12_000));
      broker = kafka.address;
      troubles.push(...serverTroubles("Kafka", kafka, undefined, false, 0.3));
      break;
    }
  }
  const running = stack.move();
  return {
    address: { name, registry, broker },
    troubles,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

function serverTroubles(
  name: string,
  server: TestServer,
  proxy: FaultProxy | undefined,
  mayForget: boolean,
  share = 1,
): Trouble[] {
  const troubles: Trouble[] = [
    {
      name: `${name} is killed and comes back`,
      weight: 2 * share,
      async strike(random) {
        await server.kill();
        await sleep(random.between(0, 2_000));
        await server.start();
      },
    },
    {
      name: `${name} is frozen`,
      weight: 2,
      async strike(random) {
        server.freeze();
        try {
          await sleep(random.between(200, 4_000));
        } finally {
          server.thaw();
        }
      },
    },
  ];
  if (proxy !== undefined)
    troubles.push(
      { name: `connections to ${name} are cut`, weight: 3, strike: async () => proxy.cut() },
      {
        name: `${name} cannot be reached`,
        weight: 2,
        async strike(random) {
          await proxy.refuse(true);
          proxy.cut();
          await sleep(random.between(200, 5_000));
          await proxy.refuse(false);
        },
      },
      {
        name: `the network to ${name} swallows everything`,
        weight: 2,
        async strike(random) {
          proxy.set({ toTarget: { stall: true }, toClient: { stall: true } });
          await sleep(random.between(200, 4_000));
          proxy.heal();
        },
      },
    );
  // A broker that loses its messages loses what it acknowledged: only registries may.
  if (mayForget)
    troubles.push({ name: `${name} loses everything`, weight: 1, strike: async () => void (await server.wipe()) });
  return troubles;
}
