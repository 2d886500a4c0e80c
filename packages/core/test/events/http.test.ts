import { describe, expect, it } from "vitest";
import { memoryNetwork, memoryRegistry } from "../../src/registry/memory.ts";
import type { ServiceOptions } from "../../src/service/options.ts";
import { createService, type MicroService } from "../../src/service/service.ts";
import { keepingLogger, waitFor } from "../support/service.ts";
import { UserCreated } from "./definitions.ts";

/** Services with the default broker, on loopback. */
function site() {
  const network = memoryNetwork();
  const logger = keepingLogger();
  const stack = new AsyncDisposableStack();
  return {
    logger,
    registry: () => memoryRegistry({ network }),
    service(options: ServiceOptions = {}): MicroService {
      const service = createService({
        name: "shop",
        registry: memoryRegistry({ network }),
        address: "127.0.0.1:0",
        spreadMs: 0,
        logger,
        args: [],
        env: {},
        exit() {},
        ...options,
      });
      stack.defer(() => service.stop().catch(() => {}));
      return service;
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

describe("over the http broker", () => {
  it("an event reaches every subscriber, and one of a queue", async () => {
    await using place = site();
    const seen: string[] = [];
    for (const name of ["one", "two"]) {
      const service = place.service({ name });
      service.subscribe(UserCreated, ({ id }) => void seen.push(`${name} got ${id}`));
      service.subscribe(UserCreated, ({ id }) => void seen.push(`queue got ${id}`), { queue: "mailer" });
      await service.start();
    }
    const publisher = place.service({ name: "publisher" });
    expect(publisher.broker.name).toBe("http");
    await publisher.publish(UserCreated, { id: 7 });
    await waitFor(
      () => seen.length === 3,
      () => `three events, not ${seen.join()}`,
    );
    await publisher.publish(UserCreated, { id: 8 });
    await waitFor(() => seen.length === 6, "six events");
    expect(seen.slice(0, 3).toSorted()).toEqual(["one got 7", "queue got 7", "two got 7"]);
    expect(seen.slice(3).toSorted()).toEqual(["one got 8", "queue got 8", "two got 8"]);
  });

  it("a service listens for events on the host its server listens on, and subscribers are nodes until it stops", async () => {
    await using place = site();
    const service = place.service({ id: "me" });
    service.subscribe("user.created", () => {});
    service.subscribe("user.created", () => {}, { queue: "mailer" });
    await service.start();
    const { address } = service;
    const broker = service.broker.address;
    expect(broker).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(broker).not.toBe(address);
    const nodes = (await place.registry().getService("micro.http.broker")).flatMap(({ version, nodes: each }) =>
      each.map((node) => `${version} ${node.address} ${node.metadata["broker"]} ${node.metadata["topic"]}`),
    );
    expect(nodes.toSorted()).toEqual([
      `ff.http.broadcast ${broker} http user.created`,
      `mailer ${broker} http user.created`,
    ]);
    const [record] = await place.registry().getService("shop");
    expect(record?.nodes[0]?.metadata["broker"]).toBe("http");
    await service.stop();
    expect(await place.registry().getService("micro.http.broker")).toEqual([]);
    expect(place.logger.lines.filter((line) => line.startsWith("info"))).toEqual([
      "info Starting [service] shop",
      `info Transport [http] Listening on ${address}`,
      `info Broker [http] Connected to ${broker}`,
      "info Registry [memory] Registering node: shop-me",
      "info Registry [memory] Deregistering node: shop-me",
    ]);
  });

  it("listens where it is told, and advertises the host that the server advertises", async () => {
    await using place = site();
    const service = place.service({ brokerAddress: ["127.0.0.2:0"], advertise: "localhost:1" });
    service.subscribe("t", () => {});
    await service.start();
    const { address } = service.broker;
    expect(address).toMatch(/^127\.0\.0\.2:\d+$/);
    const [record] = await place.registry().getService("micro.http.broker");
    expect(record?.nodes[0]?.address).toBe(`localhost:${address.split(":")[1]}`);
  });

  it("a service in which nobody subscribes starts without its registry's word and opens no second port", async () => {
    await using place = site();
    const registry = place.registry();
    registry.getService = () => new Promise<never>(() => {});
    const service = place.service({ registry });
    await service.start();
    expect(service.broker.address).toBe("");
  });

  it("a service opens its second port with the first subscription, also when that comes after the start", async () => {
    await using place = site();
    const service = place.service();
    await service.start();
    await service.publish("topic", {});
    expect(service.broker.address).toBe("");
    await service.subscribe("topic", () => {}).ready;
    expect(service.broker.address).toMatch(/^127\.0\.0\.1:\d+$/);
  });

  it("a start with subscriptions fails at once where the second port is taken", async () => {
    await using place = site();
    const taken = place.service();
    taken.subscribe("topic", () => {});
    await taken.start();
    const service = place.service({ brokerAddress: [taken.broker.address] });
    service.subscribe("topic", () => {});
    await expect(service.start()).rejects.toMatchObject({ code: "unavailable" });
  });
});

describe("a request with Micro-Topic", () => {
  it("runs the subscribers of the service it is sent to", async () => {
    await using place = site();
    const service = place.service();
    const seen: unknown[] = [];
    service.subscribe(UserCreated, (user, context) => {
      seen.push(user, context.endpoint, context.metadata.get("X-Tenant"));
      if (user.id < 0) throw new Error("no such user");
    });
    await service.start();
    const post = (topic: string, body: string) =>
      fetch(`http://${service.address}/`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "Micro-Topic": topic, "X-Tenant": "a" },
        body,
      });
    const answer = await post("user.created", '{"id":7}');
    expect([answer.status, answer.headers.get("Micro-Error"), await answer.text()]).toEqual([200, null, ""]);
    expect(seen).toEqual([{ id: 7, name: "nobody" }, "user.created", "a"]);
    const failed = await post("user.created", '{"id":-1}');
    expect([failed.status, failed.headers.get("Micro-Error"), await failed.text()]).toEqual([
      200,
      '{"id":"go.micro.server","code":500,"detail":"subscriber error: no such user","status":"Internal Server Error"}',
      "",
    ]);
    const nobody = await post("nobody", '{"id":7}');
    expect([nobody.status, nobody.headers.get("Micro-Error"), await nobody.text()]).toEqual([200, null, ""]);
  });
});
