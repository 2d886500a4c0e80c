import { describe, expect, it, onTestFinished } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { registrar } from "../../src/registry/registrar.ts";
import type { RegistrarOptions, RegistrarState } from "../../src/registry/registrar.ts";
import type { Service } from "../../src/registry/registry.ts";
import { fakeClock } from "@micro/testing";
import { faultyRegistry, memoryLogger, record } from "../support/faulty-registry.ts";

function setUp(options: Partial<RegistrarOptions> = {}, name = "mdns") {
  const registry = faultyRegistry(name);
  const clock = fakeClock();
  const logger = memoryLogger();
  const states: RegistrarState["status"][] = [];
  const own = registrar({
    registry,
    logger,
    clock,
    random: () => 0.5,
    service: () => record("greeter", ["greeter-1"]),
    onChange: ({ status }) => states.push(status),
    ...options,
  });
  onTestFinished(async () => {
    const stopped = own.stop();
    await clock.advance(10_000);
    await stopped;
    expect(clock.pending).toBe(0);
  });
  const registered = (): string[] => registry.nodesOf("greeter");
  return { registry, clock, logger, states, own, registered };
}

describe("registrar", () => {
  it("registers at start, refreshes every interval, deregisters at stop, and runs no more", async () => {
    const { registry, clock, logger, states, own, registered } = setUp();
    expect(own.registered).toBe(false);
    await own.start();
    expect(registered()).toEqual(["greeter-1"]);
    expect(own.registered).toBe(true);
    await clock.advance(300_000);
    expect(registry.counts.register).toBe(11);
    await own.stop();
    expect(registered()).toEqual([]);
    expect(own.registered).toBe(false);
    await clock.advance(300_000);
    expect(registry.counts).toMatchObject({ register: 11, deregister: 1 });
    expect(logger.lines).toEqual([
      "info Registry [mdns] Registering node: greeter-1",
      "info Registry [mdns] Deregistering node: greeter-1",
    ]);
    expect(states).toEqual(["registered", "stopped"]);
    await own.stop();
    expect(registry.counts.deregister).toBe(1);
  });

  it("is registered as long as the registry shows its record, though nothing can be written", async () => {
    const { registry, clock, logger, own, states } = setUp({ watch: false, ttlMs: 60_000, intervalMs: 30_000 }, "etcd");
    await own.start();
    const write = registry.register.bind(registry);
    registry.register = async () => {
      throw new MicroError("no space", { code: "unavailable" });
    };
    for (let second = 0; second < 600; second++) {
      await clock.advance(1_000);
      expect(own.registered).toBe(true);
    }
    expect(own.state.status).toBe("failing");
    expect(logger.lines.filter((line) => line.startsWith("error"))).toEqual([]);
    // Gone from the registry, it is lost when its time to live has passed.
    await registry.deregister(record("greeter", ["greeter-1"]));
    await clock.advance(75_000);
    expect(own.state.status).toBe("lost");
    expect(own.registered).toBe(false);
    registry.register = write;
    await clock.advance(15_000);
    expect(own.registered).toBe(true);
    expect(states).toEqual(["registered", "failing", "lost", "registered"]);
  });

  it("asks for its record once at a time, and not after its end", async () => {
    const { registry, clock, own } = setUp({ watch: false, ttlMs: 60_000, intervalMs: 30_000 }, "etcd");
    await own.start();
    registry.register = async () => {
      throw new MicroError("no space", { code: "unavailable" });
    };
    const held = Promise.withResolvers<void>();
    registry.hold = held.promise;
    await clock.advance(34_000);
    const asked = registry.counts.getService;
    expect(asked).toBe(1);
    const stopping = own.stop();
    await clock.advance(10_000);
    await stopping;
    held.resolve();
    await clock.advance(100_000);
    expect(registry.counts.getService).toBe(asked);
    expect(own.state.status).toBe("stopped");
  });

  it("registers again as soon as the watch shows its node gone, and after a broken watch", async () => {
    const { registry, clock, logger, own, registered } = setUp({ watch: true });
    await own.start();
    await clock.advance(2_000);
    registry.send({ action: "delete", service: record("greeter", ["greeter-2"]) });
    await clock.advance(100);
    expect(registry.counts.register).toBe(1);
    await registry.deregister(record("greeter", ["greeter-1"]));
    await clock.advance(100);
    expect(registry.counts.register).toBe(2);
    expect(registered()).toEqual(["greeter-1"]);
    expect(logger.lines.filter((line) => line.startsWith("warn"))).toEqual([
      "warn Registry [mdns] Registration lost, it is retried: the registry has dropped it",
    ]);
    registry.breakWatches();
    await clock.advance(2_000);
    expect(registry.counts.register).toBe(3);
    // Its own end is none.
    await own.stop();
    await clock.advance(60_000);
    expect(registry.counts).toMatchObject({ register: 3, watching: 0 });
  });

  it("renews a registration that is lost all the time twice a second at most", async () => {
    const { registry, clock, own } = setUp({ watch: true });
    await own.start();
    for (let round = 0; round < 100; round++) {
      registry.send({ action: "delete", service: record("greeter", ["greeter-1"]) });
      await clock.advance(100);
    }
    expect(registry.counts.register).toBeGreaterThan(10);
    expect(registry.counts.register).toBeLessThan(25);
  });

  it("spreads the refreshes by a tenth, within the TTL", async () => {
    for (const [random, expected] of [
      [0, 9_000],
      [0.999_999, 10_450],
    ] as const) {
      const { clock, own } = setUp({ random: () => random, intervalMs: 10_000, ttlMs: 11_000 });
      await own.start();
      expect(clock.nextAt! - clock.now()).toBeCloseTo(expected, -2);
    }
  });

  it("passes the TTL and the domain", async () => {
    const { registry, own } = setUp({ ttlMs: 70_000, domain: "green" });
    const seen: unknown[] = [];
    registry.register = async (_service, options) => void seen.push([options?.ttlMs, options?.domain]);
    await own.start();
    expect(seen).toEqual([[70_000, "green"]]);
  });

  it("refuses a TTL that does not exceed the interval", () => {
    expect(() => setUp({ ttlMs: 30_000, intervalMs: 30_000 })).toThrow(/ttlMs \(30000\) must be greater/);
  });

  it("registers once only with an interval of 0", async () => {
    const { registry, clock, own } = setUp({ intervalMs: 0 });
    await own.start();
    await clock.advance(600_000);
    expect(registry.counts.register).toBe(1);
  });

  it("tries again after 100, 600 and 1900 ms, then goes on in the background", async () => {
    const { registry, clock, logger, states, own, registered } = setUp();
    registry.down = true;
    const times: number[] = [];
    const register = registry.register.bind(registry);
    registry.register = (...parameters) => {
      times.push(clock.now() - 1_000);
      return register(...parameters);
    };
    const starting = own.start();
    await clock.advance(2_600);
    await starting;
    expect(times).toEqual([0, 100, 700, 2_600]);
    expect(own.state).toMatchObject({ status: "lost", reason: { code: "unavailable" } });
    await clock.advance(60_000);
    registry.down = false;
    await clock.advance(10_000);
    expect(registered()).toEqual(["greeter-1"]);
    expect(states).toEqual(["lost", "registered"]);
    expect(logger.lines.filter((line) => !line.startsWith("debug"))).toEqual([
      "info Registry [mdns] Registering node: greeter-1",
      "error Registry [mdns] Registration lost, it is retried: registry mdns: connection refused",
      "info Registry [mdns] Registered again: greeter-1",
    ]);
  });

  it("rejects with the registry's error when it fails fast, and runs no more", async () => {
    const { registry, clock, own } = setUp({ failFast: true });
    registry.down = true;
    const starting = expect(own.start()).rejects.toMatchObject({ code: "unavailable" });
    await clock.advance(2_600);
    await starting;
    await clock.advance(60_000);
    expect(registry.counts.register).toBe(4);
    expect(own.state.status).toBe("stopped");
  });

  it("starts although the first try fails, when a later one works", async () => {
    const { registry, clock, own, registered } = setUp({ failFast: true });
    registry.down = true;
    const starting = own.start();
    await clock.advance(300);
    registry.down = false;
    await clock.advance(500);
    await starting;
    expect(registered()).toEqual(["greeter-1"]);
  });

  it("stays registered in its own eyes until the TTL passes, and says once that it lost and once that it is back", async () => {
    const { registry, clock, logger, states, own } = setUp({ intervalMs: 30_000, ttlMs: 90_000 }, "etcd");
    await own.start();
    registry.down = true;
    await clock.advance(31_000);
    expect(own.state.status).toBe("failing");
    expect(own.registered).toBe(true);
    await clock.advance(58_900);
    expect([own.registered, own.state.status]).toEqual([true, "failing"]);
    await clock.advance(100);
    expect([own.registered, own.state.status]).toEqual([false, "lost"]);
    await clock.advance(60_000);
    registry.down = false;
    await clock.advance(10_000);
    expect(own.registered).toBe(true);
    expect(states).toEqual(["registered", "failing", "lost", "registered"]);
    expect(logger.lines).toEqual([
      "info Registry [etcd] Registering node: greeter-1",
      "warn Registry [etcd] Registration could not be refreshed, it is retried: registry etcd: connection refused",
      "error Registry [etcd] Registration lost, it is retried: registry etcd: connection refused",
      "info Registry [etcd] Registered again: greeter-1",
    ]);
  });

  it("is never lost by time alone where records have no TTL, and is refreshed again without a loss", async () => {
    for (const [name, expected] of [
      ["mdns", ["registered", "failing", "registered"]],
      ["etcd", ["registered", "failing", "lost", "registered"]],
    ] as const) {
      const { registry, clock, states, own } = setUp({}, name);
      await own.start();
      registry.down = true;
      await clock.advance(600_000);
      expect(own.registered).toBe(name === "mdns");
      registry.down = false;
      await clock.advance(10_000);
      expect(states).toEqual(expected);
    }
  });

  it("is lost from the moment the watch says so until it is taken again, and for no other's end", async () => {
    const { registry, clock, states, own } = setUp({}, "etcd");
    await own.start();
    await clock.advance(2_000);
    registry.send({ action: "delete", service: record("greeter", ["greeter-2"]) });
    // The same node's, of the version it had before.
    registry.send({ action: "delete", service: record("greeter", ["greeter-1"], "0.9.0") });
    await clock.settle();
    expect([own.registered, own.state.status]).toEqual([true, "registered"]);
    registry.down = true;
    // All that is left to say of it.
    registry.send({ action: "delete", service: record("greeter", [["greeter-1", ""]], "") });
    await clock.settle();
    expect([own.registered, own.state]).toMatchObject([false, { status: "lost", reason: { code: "unavailable" } }]);
    await clock.advance(5_000);
    expect(own.registered).toBe(false);
    registry.down = false;
    await clock.advance(10_000);
    expect(own.registered).toBe(true);
    expect(states).toEqual(["registered", "lost", "registered"]);
  });

  it("takes a loss that another's event has mended for mended", async () => {
    const { registry, clock, states, own } = setUp({}, "etcd");
    await own.start();
    await clock.advance(2_000);
    registry.send({ action: "delete", service: record("greeter", ["greeter-1"]) });
    registry.send({ action: "create", service: record("greeter", ["greeter-1"]) });
    await clock.settle();
    expect([own.registered, states]).toEqual([true, ["registered", "lost", "registered"]]);
  });

  it("registers once more after a loss that came while it was registering", async () => {
    const { registry, clock, own, registered } = setUp({ intervalMs: 30_000 }, "etcd");
    await own.start();
    await clock.advance(2_000);
    const { promise, resolve } = Promise.withResolvers<void>();
    const register = registry.register.bind(registry);
    // Taken, then dropped, and only then answered.
    registry.register = async (service, options) => {
      await register(service, options);
      registry.register = register;
      await registry.deregister(service);
      await promise;
    };
    const updating = own.update();
    await clock.settle();
    resolve();
    await updating;
    expect([own.registered, registered()]).toEqual([false, []]);
    await clock.advance(600);
    expect([own.registered, registered()]).toEqual([true, ["greeter-1"]]);
  });

  it("does not take its own withdrawal of a version for a loss", async () => {
    let service = record("greeter", ["greeter-1", "greeter-2"]);
    const { clock, states, own } = setUp({ service: () => service }, "etcd");
    await own.start();
    for (const next of [record("greeter", ["greeter-2"]), record("greeter", ["greeter-2"], "2.0.0")]) {
      service = next;
      await own.update();
      await clock.settle();
    }
    expect([own.registered, states]).toEqual([true, ["registered"]]);
  });

  it("registers again at once after the process stood still for longer than the TTL, and says so", async () => {
    const { registry, clock, logger, own } = setUp({ intervalMs: 30_000, ttlMs: 90_000 }, "etcd");
    await own.start();
    await clock.freeze(120_000);
    expect(registry.counts.register).toBe(2);
    expect(own.registered).toBe(true);
    expect(logger.lines.at(-1)).toMatch(/^warn .*stood still for 120 s/);
  });

  it("stays out of the registry while the check says no, and says each change once", async () => {
    let ready: boolean | Error = false;
    const { registry, clock, logger, states, own, registered } = setUp({
      intervalMs: 1_000,
      check: async () => {
        if (ready instanceof Error) throw ready;
        return ready;
      },
    });
    await own.start();
    expect(registered()).toEqual([]);
    await clock.advance(5_000);
    expect(registered()).toEqual([]);
    ready = true;
    await clock.advance(1_100);
    expect(registered()).toEqual(["greeter-1"]);
    ready = new Error("database is gone");
    await clock.advance(3_000);
    expect(registered()).toEqual([]);
    expect(own.state).toEqual({ status: "withheld", reason: "database is gone" });
    ready = true;
    await clock.advance(1_100);
    expect(registered()).toEqual(["greeter-1"]);
    expect(states).toEqual(["withheld", "registered", "withheld", "registered"]);
    expect(registry.counts.deregister).toBe(1);
    expect(logger.lines).toEqual([
      "warn Registry [mdns] Register check failed: not ready",
      "info Registry [mdns] Registering node: greeter-1",
      "warn Registry [mdns] Register check failed: database is gone",
      "info Registry [mdns] Deregistering node: greeter-1",
      "info Registry [mdns] Registering node: greeter-1",
    ]);
  });

  it("takes a check that hangs for a no", async () => {
    const { clock, own } = setUp({ check: () => new Promise(() => {}), timeoutMs: 1_000 });
    const starting = own.start();
    await clock.advance(1_000);
    await starting;
    expect(own.state.status).toBe("withheld");
  });

  it("retries a deregistration that the check asked for", async () => {
    let ready = true;
    const { registry, clock, own, registered } = setUp({ intervalMs: 1_000, check: () => ready });
    await own.start();
    ready = false;
    registry.down = true;
    await clock.advance(3_000);
    expect(registered()).toEqual(["greeter-1"]);
    registry.down = false;
    await clock.advance(1_000);
    expect(registered()).toEqual([]);
    expect(own.state.status).toBe("withheld");
  });

  it("registers a changed record at once on update", async () => {
    let service: Service = record("greeter", [["greeter-1", "a:1"]]);
    const { registry, own } = setUp({ service: () => service });
    await own.update();
    expect(registry.counts.register).toBe(0);
    await own.start();
    service = record("greeter", [["greeter-1", "b:2"]]);
    await Promise.all([own.update(), own.update(), own.update()]);
    expect((await registry.getService("greeter"))[0]!.nodes[0]!.address).toBe("b:2");
    expect(registry.counts.register).toBe(2);
  });

  it("withdraws nodes and versions that the record no longer has", async () => {
    let service = record("greeter", ["greeter-1", "greeter-2"]);
    const { registry, own, registered } = setUp({ service: () => service });
    await own.start();
    service = record("greeter", ["greeter-2"]);
    await own.update();
    expect(registered()).toEqual(["greeter-2"]);
    service = record("greeter", ["greeter-2"], "2.0.0");
    await own.update();
    expect((await registry.getService("greeter")).map(({ version }) => version)).toEqual(["2.0.0"]);
    await own.stop();
    expect(registered()).toEqual([]);
  });

  it("does not let a registration on its way overtake the deregistration", async () => {
    const { registry, clock, own, registered } = setUp();
    const { promise, resolve } = Promise.withResolvers<void>();
    const register = registry.register.bind(registry);
    registry.register = async (...parameters) => {
      await promise;
      return register(...parameters);
    };
    const starting = expect(own.start()).rejects.toMatchObject({ code: "aborted" });
    await clock.settle();
    const stopping = own.stop();
    await clock.settle();
    expect(registry.counts.deregister).toBe(0);
    resolve();
    await stopping;
    await starting;
    expect(registered()).toEqual([]);
    expect(registry.counts).toMatchObject({ register: 1, deregister: 1 });
  });

  it("gives up a deregistration that hangs, and logs it", async () => {
    const { registry, clock, logger, own } = setUp();
    await own.start();
    registry.deregister = () => new Promise(() => {});
    const stopping = own.stop({ timeoutMs: 500 });
    await clock.advance(1_000);
    await stopping;
    expect(logger.lines.at(-1)).toMatch(/^error .*Deregistration failed: .*no answer within/);
  });

  it("asks nothing of a registry it never tried to register with", async () => {
    const { registry, own } = setUp();
    await own.stop();
    expect(registry.counts.deregister).toBe(0);
    await expect(own.start()).rejects.toMatchObject({ code: "aborted" });
    expect(registry.counts.register).toBe(0);
  });

  it("takes an error of the record's function for a failed registration", async () => {
    let broken = true;
    const { clock, own, registered } = setUp({
      service: () => {
        if (broken) throw new Error("no address yet");
        return record("greeter", ["greeter-1"]);
      },
    });
    const starting = own.start();
    await clock.advance(2_600);
    await starting;
    expect(own.state).toMatchObject({ status: "lost", reason: { message: "no address yet" } });
    broken = false;
    await clock.advance(10_000);
    expect(registered()).toEqual(["greeter-1"]);
  });
});
