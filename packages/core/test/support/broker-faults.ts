/** What publishers and subscribers must live through, whatever the backend: the cases of every broker's fault kit. */
import type { Broker, SubscribeOptions } from "@micro/core";
import { faultProxy, type FaultProxy } from "@micro/testing";
import { expect } from "vitest";
import { setTimeout as sleep } from "node:timers/promises";
import type { TestServer } from "../../../../scripts/servers.mjs";

/** How a backend is had, and what it promises. */
export interface BrokerFaultOptions {
  readonly start: () => Promise<TestServer>;
  readonly connect: (address: string) => Broker;
  /** A proxy in front of the server, for backends whose clients would find a way around one. Default: {@link faultProxy}. */
  readonly proxy?: ((server: TestServer) => Promise<FaultProxy>) | undefined;
  /** Messages whose publish succeeded are not lost. */
  readonly atLeastOnce: boolean;
  /** Per subscription, e.g. what makes a queue outlive the server. */
  readonly subscribe?: SubscribeOptions | undefined;
  /** Topics for the tests. Default: `faults-<uuid>`. */
  readonly topic?: (() => string) | undefined;
}

/** Every subscription receives again within this, once the backend is back. */
const recoveryMs = 10_000;

/** The cases by name, for `it`. */
export function brokerFaults(options: BrokerFaultOptions): Record<string, () => Promise<void>> {
  const newProxy = options.proxy ?? (({ address }: TestServer) => faultProxy({ target: address }));
  const newTopic = options.topic ?? (() => `faults-${crypto.randomUUID()}`);

  /** A publisher, two subscribers (one in a queue), and what they got. */
  async function open(address: string, topic: string) {
    const stack = new AsyncDisposableStack();
    const publisher = stack.use(options.connect(address));
    const got = { queue: new Set<string>(), all: new Set<string>(), deliveries: 0 };
    const subscriber = stack.use(options.connect(address));
    const subscriptions = (["queue", "all"] as const).map((kind) =>
      subscriber.subscribe(
        topic,
        ({ message }) => {
          got[kind].add(Buffer.from(message.body).toString());
          if (kind === "queue") got.deliveries++;
        },
        { ...options.subscribe, ...(kind === "queue" ? { queue: `workers-${topic}` } : {}), onError: () => {} },
      ),
    );
    let count = 0;
    return {
      publisher,
      got,
      ready: () => Promise.all(subscriptions.map(({ ready }) => ready)),
      publish: async (timeoutMs = 5_000) => {
        const text = String(count++);
        await publisher.publish(topic, { body: Buffer.from(text) }, { timeoutMs });
        return text;
      },
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    };
  }

  type Opened = Awaited<ReturnType<typeof open>>;

  /** What is published from now on arrives at both, without help. */
  async function recovers(opened: Opened): Promise<void> {
    await eventually("both subscriptions receive again", recoveryMs, async () => {
      const text = await opened.publish(1_000).catch(() => undefined);
      if (text === undefined) return false;
      const end = performance.now() + 500;
      while (performance.now() < end) {
        if (opened.got.all.has(text) && opened.got.queue.has(text)) return true;
        await sleep(10);
      }
      return false;
    });
  }

  /** @param viaProxy partitions instead of touching the server. */
  async function through(fault: (server: TestServer, proxy: FaultProxy) => Promise<void>): Promise<void> {
    const server = await options.start();
    try {
      await using proxy = await newProxy(server);
      await using opened = await open(proxy.address, newTopic());
      await opened.ready();
      await recovers(opened);
      await fault(server, proxy);
      await recovers(opened);
    } finally {
      await server.dispose();
    }
  }

  const cases: Record<string, () => Promise<void>> = {
    "a restart of the server": () => through(async (server) => void (await server.restart())),
    "kill -9 of the server": () =>
      through(async (server) => {
        await server.kill();
        await sleep(500);
        await server.start();
      }),
    "a freeze of the server for 5 s": () =>
      through(async (server) => {
        server.freeze();
        await sleep(5_000);
        server.thaw();
      }),
    "a partition, half-open and then reset": () =>
      through(async (_, proxy) => {
        proxy.set({ toTarget: { stall: true }, toClient: { stall: true } });
        await sleep(3_000);
        await proxy.refuse(true);
        proxy.cut();
        await sleep(1_000);
        proxy.heal();
        await proxy.refuse(false);
      }),
    "a restart of the server with empty state": () => through(async (server) => void (await server.wipe())),
    "a server that starts late": async () => {
      const server = await options.start();
      try {
        await server.stop();
        await using opened = await open(server.address, newTopic());
        const early = opened.publish(60_000);
        await sleep(1_500);
        await server.start();
        await opened.ready();
        await early;
        await recovers(opened);
      } finally {
        await server.dispose();
      }
    },
  };
  if (options.atLeastOnce)
    cases["three faults under load without losing a message that was published"] = async () => {
      const server = await options.start();
      try {
        await using proxy = await newProxy(server);
        await using opened = await open(proxy.address, newTopic());
        await opened.ready();
        // Young queues of some servers do not survive being killed.
        await sleep(3_000);
        const total = 20_000;
        const published: string[] = [];
        let failed = 0;
        let next = 0;
        const publisher = async () => {
          while (next < total) {
            next++;
            try {
              published.push(await opened.publish(60_000));
            } catch {
              failed++;
            }
          }
        };
        const reached = (part: number) =>
          eventually(`${part * 100} % are published`, 60_000, async () => published.length >= total * part);
        const faults = async () => {
          await reached(0.15);
          await server.restart();
          await reached(0.4);
          await server.kill();
          await server.start();
          await reached(0.65);
          proxy.cut();
          await reached(0.8);
        };
        await Promise.all([faults(), ...Array.from({ length: 32 }, publisher)]);
        const missing = () => published.filter((text) => !opened.got.queue.has(text));
        await eventually("all that was published has arrived", 60_000, async () => missing().length === 0).catch(
          () => {},
        );
        expect(missing()).toEqual([]);
        const duplicates = opened.got.deliveries - opened.got.queue.size;
        process.stderr.write(
          `${opened.publisher.name}: ${published.length} published through three faults, ${failed} refused, 0 missing, ${duplicates} duplicates\n`,
        );
      } finally {
        await server.dispose();
      }
    };
  return cases;
}

async function eventually(what: string, withinMs: number, test: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + withinMs;
  while (!(await test())) {
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await sleep(20);
  }
}
