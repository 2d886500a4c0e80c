import { consoleLogger } from "@micro/core";
import { rabbitmqBroker } from "@micro/broker-rabbitmq";
import type { RabbitmqBrokerOptions } from "@micro/broker-rabbitmq";
import { brokerConformance } from "@micro/testing";
import type { RestrictedBroker } from "@micro/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startRabbitmq } from "../../../scripts/servers.mjs";
import type { RabbitmqServer } from "../../../scripts/servers.mjs";
import { missing } from "./support/rabbitmq.ts";

const allBut = (topics: ReadonlySet<string>) => `^(?!(${[...topics, "nobody"].join("|")})$)`;

describe.skipIf(missing !== undefined)("rights", () => {
  let server: RabbitmqServer;
  const denied = { publish: new Set<string>(), subscribe: new Set<string>() };
  const as = (user: string, options: RabbitmqBrokerOptions = {}) =>
    rabbitmqBroker({
      addresses: [server.address],
      user,
      password: "pw",
      exchange: "rights",
      exchangeKind: "topic",
      ...options,
    });

  beforeAll(async () => {
    server = await startRabbitmq();
    for (const user of ["app", "all"]) {
      await server.control("add_user", user, "pw");
      await server.control("set_permissions", user, ".*", ".*", ".*");
    }
  }, 90_000);
  afterAll(() => server?.dispose());

  async function restricted(): Promise<RestrictedBroker> {
    const errors: string[] = [];
    const logger = consoleLogger({ level: "error", write: (line) => void errors.push(line) });
    const [broker, other] = [as("app", { logger }), as("all")];
    return {
      broker,
      other,
      topic: () => `rights.${crypto.randomUUID()}`,
      errors: () => errors,
      async restrict(topic, rights) {
        for (const kind of ["publish", "subscribe"] as const)
          if (rights[kind]) denied[kind].delete(topic);
          else denied[kind].add(topic);
        await server.control(
          "set_topic_permissions",
          "app",
          "rights",
          allBut(denied.publish),
          allBut(denied.subscribe),
        );
      },
      // A channel remembers what it was allowed.
      revokes: false,
      async [Symbol.asyncDispose]() {
        await Promise.all([broker.disconnect(), other.disconnect()]);
      },
    };
  }

  brokerConformance(
    { describe, it: (name, body) => name.startsWith("rights: ") && it(name, body) },
    async () => {
      const broker = as("all");
      return {
        broker,
        connect: async () => as("all"),
        topic: () => crypto.randomUUID(),
        [Symbol.asyncDispose]: () => broker.disconnect(),
      };
    },
    { restricted },
  );

  it("missing for the exchange are refused and logged, and used once they are given", async () => {
    const errors: string[] = [];
    const logger = consoleLogger({ level: "error", write: (line) => void errors.push(line) });
    await server.control("add_user", "reader", "pw");
    await server.control("set_permissions", "reader", ".*", "^$", ".*");
    await using broker = as("reader", { logger });
    for (let count = 0; count < 3; count++)
      await expect(broker.publish("t", { body: Buffer.from("1") })).rejects.toMatchObject({ code: "forbidden" });
    expect(errors).toHaveLength(1);
    await server.control("set_permissions", "reader", ".*", ".*", ".*");
    await expect
      .poll(() => broker.publish("t", { body: Buffer.from("1") }).then(() => "published", String), { timeout: 10_000 })
      .toBe("published");
  });

  it("a server that takes no messages is in the log and in the error of the publish", async () => {
    const lines: string[] = [];
    const logger = consoleLogger({ level: "info", write: (line) => void lines.push(line) });
    await using broker = as("all", { logger });
    await broker.publish("t", { body: Buffer.from("1") });
    await server.control("set_vm_memory_high_watermark", "0.000001");
    try {
      const error: unknown = await expect
        .poll(
          () => broker.publish("t", { body: Buffer.from("2") }, { timeoutMs: 500 }).then(() => "published", String),
          { timeout: 20_000 },
        )
        .toMatch(/takes no messages now/);
      void error;
      expect(lines.some((line) => line.includes("level=warn") && line.includes("takes no messages now"))).toBe(true);
    } finally {
      await server.control("set_vm_memory_high_watermark", "0.4");
    }
    await expect
      .poll(() => broker.publish("t", { body: Buffer.from("3") }).then(() => "published", String), { timeout: 20_000 })
      .toBe("published");
    await expect.poll(() => lines.join(""), { timeout: 10_000 }).toContain("takes messages again");
  });
});
