import { describe, expect, it } from "vitest";
import type { Broker } from "../../src/broker/broker.ts";
import { memoryBroker, memoryBrokerNetwork } from "../../src/broker/memory.ts";
import { createEvent } from "../../src/client/publish.ts";
import { MicroError } from "../../src/errors.ts";
import { memoryNetwork, memoryRegistry } from "../../src/registry/memory.ts";
import type { SubscriberWrapper } from "../../src/server/events.ts";
import { createFunction } from "../../src/service/function.ts";
import type { ServiceOptions } from "../../src/service/options.ts";
import type { BrokerPluginContext, PluginDescriptor } from "../../src/service/plugins.ts";
import { createService, type MicroService } from "../../src/service/service.ts";
import { keepingLogger, waitFor } from "../support/service.ts";
import { UserCreated } from "./definitions.ts";

/** Services that share a registry and a broker in memory. */
function site() {
  const network = memoryNetwork();
  const events = memoryBrokerNetwork();
  const logger = keepingLogger();
  const stack = new AsyncDisposableStack();
  const options = (given: ServiceOptions): ServiceOptions => ({
    registry: memoryRegistry({ network }),
    broker: typeof given.broker === "string" ? undefined : stack.use(memoryBroker({ network: events })),
    address: "127.0.0.1:0",
    spreadMs: 0,
    logger,
    args: [],
    env: {},
    exit() {},
    ...given,
  });
  return {
    logger,
    options,
    registry: () => memoryRegistry({ network }),
    broker: () => stack.use(memoryBroker({ network: events })),
    service(given: ServiceOptions = {}): MicroService {
      const service = createService(options({ name: "shop", ...given }));
      stack.defer(() => service.stop().catch(() => {}));
      return service;
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

describe("a service", () => {
  it("publishes to every subscriber, and to one of each queue", async () => {
    await using place = site();
    const seen: string[] = [];
    for (const name of ["one", "two", "three"]) {
      const service = place.service({ name });
      service.subscribe("events", (event: { name: string }) => void seen.push(`${name} got ${event.name}`));
      service.subscribe("events", ({ name: what }) => void seen.push(`queue got ${what}`), { queue: "mailer" });
      await service.start();
    }
    // A program that only publishes need not be started.
    const publisher = place.service({ name: "publisher" });
    await createEvent("events", publisher.client).publish({ name: "event" });
    await waitFor(
      () => seen.length === 4,
      () => `four events, not ${seen.join()}`,
    );
    expect(seen.toSorted()).toEqual(["one got event", "queue got event", "three got event", "two got event"]);
    await publisher.publish("events", { name: "second" });
    await publisher.createEvent("events").publish({ name: "third" });
    await waitFor(
      () => seen.length === 12,
      () => `twelve events, not ${seen.join()}`,
    );
    expect(seen.filter((line) => line.startsWith("queue"))).toHaveLength(3);
  });

  it("checks a typed topic on both sides", async () => {
    await using place = site();
    const users: unknown[] = [];
    const errors: MicroError[] = [];
    const service = place.service();
    service.subscribe(UserCreated, (user) => void users.push(user), { onError: (error) => void errors.push(error) });
    await service.start();
    await expect(service.publish(UserCreated, { id: "7" as never })).rejects.toMatchObject({
      code: "bad_request",
      detail: "topic user.created: id: expected number, received string",
    });
    await service.publish("user.created", { id: "7" });
    await service.createEvent(UserCreated).publish({ id: 7 });
    await waitFor(() => users.length === 1 && errors.length === 1, "an event and an error");
    expect(users).toEqual([{ id: 7, name: "nobody" }]);
    expect(errors[0]?.detail).toBe("topic user.created: id: expected number, received string");
  });

  it("carries metadata and trace from a call through events to calls", async () => {
    await using place = site();
    const seen: Record<string, string>[] = [];
    const audit = place.service({ name: "audit" });
    audit.handle("Audit.note", (_request, context) => {
      seen.push(context.metadata.toJSON());
      return {};
    });
    await audit.start();
    const shop = place.service({ name: "shop", tracer: "memory" });
    shop.handle("Shop.buy", async () => {
      await shop.publish("bought", {});
      return {};
    });
    shop.subscribe("bought", async () => {
      await shop.call("audit", "Audit.Note", {});
    });
    await shop.start();
    const caller = place.service({ name: "caller" });
    await caller.call("shop", "Shop.Buy", {}, { metadata: { "X-Tenant": "a", "Micro-Trace-Id": "trace-1" } });
    await waitFor(() => seen.length === 1, "the note");
    expect(seen[0]).toMatchObject({ "X-Tenant": "a", "Micro-Trace-Id": "trace-1", "Micro-From-Service": "shop" });
    const { spans } = await caller.call<{ spans: { id: string; parent: string; name: string; trace: string }[] }>(
      "shop",
      "Debug.Trace",
      { id: "trace-1" },
    );
    const chain = ["shop.Shop.Buy", "publish.bought", "shop.bought", "audit.Audit.Note"].map((name) =>
      spans.find((span) => span.name === name),
    );
    expect(chain.map((span) => span?.trace)).toEqual(Array(4).fill("trace-1"));
    expect(chain.slice(1).map((span) => span?.parent)).toEqual(chain.slice(0, 3).map((span) => span?.id));
  });

  it("runs subscriber wrappers, the first configured first, also across init()", async () => {
    await using place = site();
    const order: string[] = [];
    const named =
      (name: string): SubscriberWrapper =>
      (next) =>
      (event, context) => {
        order.push(`${name} ${context.endpoint}`);
        return next(event, context) as unknown;
      };
    const service = place.service({ wrapSubscriber: [named("a"), named("b")] });
    service.subscribe("t", () => void order.push("handler"));
    await service.init({
      wrapSubscriber: [named("c")],
      wrapPublish: [
        (next) => (message, context) => {
          order.push(`publish ${context.topic}`);
          return next(message, context) as unknown;
        },
      ],
    });
    await service.start();
    await service.publish("t", {});
    await waitFor(() => order.length === 5, "the handler");
    expect(order).toEqual(["publish t", "a t", "b t", "c t", "handler"]);
  });

  it("registers subscriber endpoints, and the broker in the metadata of its node", async () => {
    await using place = site();
    const service = place.service();
    service.handle("Zebra", { run: () => ({}) });
    service.subscribe("a", () => {});
    service.server.subscribe(
      "b",
      new (class Mailer {
        send(): void {}
      })(),
    );
    await service.start();
    const [record] = await place.registry().getService("shop");
    expect(record?.nodes[0]?.metadata["broker"]).toBe("memory");
    expect(record?.endpoints.map(({ name, metadata }) => [name, metadata])).toEqual([
      ["Zebra.Run", {}],
      ["Mailer.Send", { subscriber: "true", topic: "b" }],
      ["Func", { subscriber: "true", topic: "a" }],
    ]);
  });

  it("keeps a subscription through init(), which exchanges server and broker", async () => {
    await using place = site();
    const seen: string[] = [];
    const service = place.service({ broker: "memory", registry: place.registry() });
    const kept = service.subscribe("t", () => void seen.push("kept"));
    const ended = service.subscribe("t", () => void seen.push("ended"));
    expect([kept.topic, kept.queue, kept.stats.received]).toEqual(["t", undefined, 0]);
    expect(service.server.endpoints()).toHaveLength(2);
    await ended.unsubscribe();
    await expect(ended.ready).rejects.toMatchObject({ code: "closed" });
    const broker = place.broker();
    await service.init({ address: "127.0.0.1:0", version: "2", broker, name: "other" });
    expect(service.broker).toBe(broker);
    await service.start();
    await kept.ready;
    await service.publish("t", {});
    await waitFor(() => kept.stats.handled === 1, "the event");
    expect(seen).toEqual(["kept"]);
    await kept.unsubscribe();
    await service.publish("t", {});
    expect(service.server.endpoints()).toEqual([]);
    expect(kept.stats.received).toBe(1);
  });

  it("subscribes when it runs already", async () => {
    await using place = site();
    const service = place.service();
    await service.start();
    const seen: unknown[] = [];
    await using subscriber = service.subscribe("t", (event) => void seen.push(event), { queue: "q" });
    await subscriber.ready;
    await service.publish("t", { id: 1 });
    await waitFor(() => seen.length === 1, "the event");
    expect(subscriber.queue).toBe("q");
  });

  it("listens, connects and subscribes before it registers, and says so as Go does", async () => {
    await using place = site();
    const service = place.service({ id: "me" });
    service.subscribe("t", () => {});
    await service.start();
    const { address } = service;
    await service.stop();
    expect(place.logger.lines.filter((line) => line.startsWith("info"))).toEqual([
      "info Starting [service] shop",
      `info Transport [http] Listening on ${address}`,
      "info Broker [memory] Connected to memory",
      "info Registry [memory] Registering node: shop-me",
      "info Registry [memory] Deregistering node: shop-me",
    ]);
  });

  it("finishes and acknowledges running events when it stops, after it has deregistered", async () => {
    await using place = site();
    const service = place.service();
    const gate = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const order: string[] = [];
    const subscriber = service.subscribe("t", async () => {
      started.resolve();
      await gate.promise;
      order.push(`handled, ${(await place.registry().getService("shop")).length} registered`);
      // What is published on the way out still goes.
      await service.publish("done", {});
    });
    await place.broker().subscribe("done", () => void order.push("done")).ready;
    await service.start();
    await service.publish("t", {});
    await service.publish("t", {});
    await started.promise;
    const stopped = service.stop().then(() => order.push("stopped"));
    await waitFor(async () => (await place.registry().getService("shop")).length === 0, "the deregistration");
    gate.resolve();
    await stopped;
    await waitFor(() => order.length >= 5, "the rest");
    expect(order.filter((line) => line === "handled, 0 registered")).toHaveLength(2);
    expect(order.indexOf("stopped")).toBeGreaterThan(order.lastIndexOf("handled, 0 registered"));
    expect(subscriber.stats).toMatchObject({ handled: 2, inFlight: 0 });
  });

  it("cancels events that are still running at the end of the drain", async () => {
    await using place = site();
    const service = place.service({ drainTimeoutMs: 20 });
    const started = Promise.withResolvers<void>();
    const reasons: unknown[] = [];
    service.subscribe("t", async (_event, context) => {
      started.resolve();
      await new Promise<void>((resolve) => {
        context.signal.addEventListener("abort", () => {
          reasons.push((context.signal.reason as MicroError).code);
          resolve();
        });
      });
    });
    await service.start();
    await service.publish("t", {});
    await started.promise;
    await service.stop();
    expect(reasons).toEqual(["closed"]);
  });

  it("closes a broker chosen by name, and leaves one that it was given", async () => {
    await using place = site();
    const given = place.broker();
    const service = place.service({ broker: given });
    expect(service.broker).toBe(given);
    await service.start();
    await service.stop();
    await given.publish("t", { body: new Uint8Array(0) });
    const named = place.service({ broker: "memory" });
    const { broker } = named;
    await named.start();
    await named.stop();
    await expect(broker.publish("t", { body: new Uint8Array(0) })).rejects.toMatchObject({ code: "closed" });
    await expect(named.publish("t", {})).rejects.toMatchObject({ code: "closed" });
  });
});

/** A broker elsewhere, which takes nobody until it is there. */
function away(): { broker: Broker; connects: number; reachable: boolean } {
  const inner = memoryBroker();
  const state = { connects: 0, reachable: false, broker: inner };
  state.broker = Object.assign(Object.create(inner) as Broker, {
    name: "far",
    address: "far:1",
    connect: async () => {
      state.connects++;
      if (!state.reachable) throw new MicroError("connection refused", { id: "far", code: "unavailable" });
    },
    subscribe: inner.subscribe.bind(inner),
    publish: inner.publish.bind(inner),
  });
  return state;
}

describe("a broker that cannot be reached", () => {
  it("fails the start of a service with subscribers, which is undone", async () => {
    await using place = site();
    const far = away();
    const service = place.service({ broker: far.broker });
    service.subscribe("t", () => {});
    await expect(service.start()).rejects.toMatchObject({
      code: "unavailable",
      detail:
        "Broker [far] cannot be connected: connection refused; MICRO_START_WAIT=true, --start_wait or `startWait` wait for it",
    });
    expect(await place.registry().getService("shop")).toEqual([]);
    expect([service.address, service.ready]).toEqual([undefined, false]);
    far.reachable = true;
    await service.start();
    expect(service.ready).toBe(true);
    expect(place.logger.lines).toContain("info Broker [far] Connected to far:1");
  });

  it("does not concern a service without subscribers, which connects when it publishes", async () => {
    await using place = site();
    const far = away();
    const service = place.service({ broker: far.broker });
    service.handle("Zebra", { run: () => ({}) });
    await service.start();
    expect(service.ready).toBe(true);
    expect(far.connects).toBe(0);
  });

  it("does not hold up the stop of a service that waits for it", async () => {
    await using place = site();
    const far = away();
    const connecting = Promise.withResolvers<void>();
    Object.assign(far.broker, {
      connect: ({ signal }: { signal: AbortSignal }) => {
        connecting.resolve();
        return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
      },
    });
    const service = place.service({ broker: far.broker });
    service.subscribe("t", () => {});
    const running = service.run();
    await connecting.promise;
    await service.stop();
    await running;
  });
});

describe("the broker", () => {
  it("is a plugin chosen in code, by variable or by flag, made with registry, addresses and TLS", async () => {
    await using place = site();
    const contexts: BrokerPluginContext[] = [];
    const plugin: PluginDescriptor = {
      kind: "broker",
      name: "own",
      create(context) {
        contexts.push(context);
        return memoryBroker();
      },
    };
    const registry = place.registry();
    for (const given of [
      { broker: "own", brokerAddress: ["a:1", "b:2"] },
      { broker: "memory", env: { MICRO_BROKER: "own", MICRO_BROKER_ADDRESS: "a:1,b:2" } },
      { broker: "memory", args: ["--broker=own", "--broker_address=a:1,b:2"] },
    ]) {
      const service = place.service({ plugins: [plugin], insecureSkipVerify: true, registry, ...given });
      await service.init();
      const { broker } = service;
      expect(broker.name).toBe("memory");
      const context = contexts.pop();
      expect(context).toMatchObject({ service: "shop", addresses: ["a:1", "b:2"], tls: { insecureSkipVerify: true } });
      expect(context?.registry).toBe(registry);
    }
  });

  it("is not needed to be loaded by a service that only calls, before init()", async () => {
    await using place = site();
    const shop = place.service();
    shop.handle("Shop.buy", () => ({ ok: true }));
    await shop.start();
    const caller = place.service({ name: "caller", broker: "nowhere" });
    expect(await caller.call("shop", "Shop.Buy", {})).toEqual({ ok: true });
    await expect(caller.publish("t", {})).rejects.toMatchObject({
      detail: 'broker "nowhere" is not loaded yet: await service.init() first',
    });
  });

  it("given as an instance takes no address", () => {
    expect(() => createService({ broker: memoryBroker(), brokerAddress: ["a:1"] })).toThrow(
      "`brokerAddress` cannot be set on a broker made elsewhere; give it to that broker",
    );
  });
});

describe("a function", () => {
  it("ends after its first event", async () => {
    await using place = site();
    const own = createFunction(place.options({ name: "once" }));
    const seen: unknown[] = [];
    const subscriber = own.subscribe("t", (event) => void seen.push(event));
    const run = own.run();
    await waitFor(() => own.ready, "the start");
    await place.service().publish("t", { id: 1 });
    await run;
    expect(seen).toEqual([{ id: 1 }]);
    expect(subscriber.stats.handled).toBe(1);
  });
});
