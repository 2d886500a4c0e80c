import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { consoleLogger, type BrokerEvent } from "@micro/core";
import { natsBroker } from "@micro/broker-nats";
import type { NatsBrokerOptions } from "@micro/broker-nats";
import { brokerConformance } from "@micro/testing";
import type { RestrictedBroker } from "@micro/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startNats } from "../../../scripts/servers.mjs";
import type { NatsServer } from "../../../scripts/servers.mjs";
import { missing } from "./support/nats.ts";

// The server takes an empty list for none.
const denying = (subjects: Iterable<string>): string =>
  `{ deny: ${JSON.stringify(["nobody.uses.this", ...subjects])} }`;

/** A server whose configuration changes while it runs. */
class Rights {
  readonly #server: NatsServer;
  readonly #denied = { publish: new Set<string>(), subscribe: new Set<string>() };
  static readonly open = Rights.#config(new Set(), new Set());

  constructor(server: NatsServer) {
    this.#server = server;
  }

  static #config(publish: Iterable<string>, subscribe: Iterable<string>): string {
    return `authorization { users = [
      { user: all, password: pw },
      { user: app, password: pw, permissions: { publish: ${denying(publish)}, subscribe: ${denying(subscribe)} } }
    ] }`;
  }

  async restrict(topics: readonly string[], rights: { publish: boolean; subscribe: boolean }): Promise<void> {
    for (const kind of ["publish", "subscribe"] as const)
      for (const topic of topics)
        if (rights[kind]) this.#denied[kind].delete(topic);
        else this.#denied[kind].add(topic);
    const before = await this.#loadedAt();
    writeFileSync(
      join(this.#server.folder, "nats.conf"),
      `${Rights.#config(this.#denied.publish, this.#denied.subscribe)}\n`,
    );
    this.#server.signal("SIGHUP");
    await expect.poll(() => this.#loadedAt(), { timeout: 10_000 }).not.toBe(before);
  }

  async #loadedAt(): Promise<string> {
    const answer = await fetch(`${this.#server.monitorUrl}/varz`, { headers: { connection: "close" } });
    return ((await answer.json()) as { config_load_time: string }).config_load_time;
  }
}

describe.skipIf(missing !== undefined)("rights", () => {
  let server: NatsServer;
  let rights: Rights;
  const as = (user: string, options: NatsBrokerOptions = {}) =>
    natsBroker({ servers: [server.address], user, password: "pw", ...options });

  beforeAll(async () => {
    server = await startNats({ config: Rights.open });
    rights = new Rights(server);
  }, 60_000);
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
      restrict: (topic, given) => rights.restrict([topic], given),
      revokes: true,
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
    { redelivers: false, restricted },
  );

  it("missing for a stream, its consumers and its topic are refused at once", async () => {
    const topic = `rights.${crypto.randomUUID()}`;
    await using other = as("all", { jetstream: { storage: "memory" } });
    await other.publish(topic, { body: Buffer.from("0") });
    const errors: string[] = [];
    const logger = consoleLogger({ level: "error", write: (line) => void errors.push(line) });
    await using broker = as("app", { jetstream: { storage: "memory" }, logger });
    for (const subject of [topic, "$JS.API.STREAM.NAMES"]) {
      await rights.restrict([subject], { publish: false, subscribe: true });
      await using fresh = as("app", { jetstream: { storage: "memory" } });
      await expect(fresh.publish(topic, { body: Buffer.from("1") })).rejects.toMatchObject({ code: "forbidden" });
      await rights.restrict([subject], { publish: true, subscribe: true });
    }
    for (const subject of ["$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.MSG.NEXT.>"]) {
      await rights.restrict([subject], { publish: false, subscribe: true });
      const told: string[] = [];
      const got: string[] = [];
      const subscriber = broker.subscribe(topic, ({ message }) => void got.push(Buffer.from(message.body).toString()), {
        onError: (error) => void told.push(error.code),
      });
      subscriber.ready.catch(() => {});
      await expect.poll(() => told, { timeout: 5_000 }).toContain("forbidden");
      await rights.restrict([subject], { publish: true, subscribe: true });
      await expect
        .poll(
          async () => {
            await other.publish(topic, { body: Buffer.from("again") });
            return got;
          },
          { timeout: 10_000 },
        )
        .toContain("again");
      await subscriber.unsubscribe();
    }
    expect(errors.join("")).toContain("$JS.API.CONSUMER.MSG.NEXT");
  });

  it("missing for looking at streams and consumers hinder nobody", async () => {
    const topic = `rights.${crypto.randomUUID()}`;
    const subjects = ["$JS.API.CONSUMER.INFO.>", "$JS.API.STREAM.INFO.>"];
    await rights.restrict(subjects, { publish: false, subscribe: true });
    for (const queue of [undefined, "workers"])
      for (let round = 0; round < 2; round++) {
        await using broker = as("app", { jetstream: { storage: "memory" } });
        const got: string[] = [];
        const handler = ({ message }: BrokerEvent) => void got.push(Buffer.from(message.body).toString());
        await broker.subscribe(topic, handler, { queue }).ready;
        await broker.publish(topic, { body: Buffer.from("1") });
        await expect.poll(() => got, { timeout: 5_000 }).toEqual(["1"]);
      }
    await rights.restrict(subjects, { publish: true, subscribe: true });
  });
});
