import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { rabbitmqBroker } from "@micro/broker-rabbitmq";
import type { RabbitmqBrokerOptions } from "@micro/broker-rabbitmq";
import type { BrokerEvent, MicroError } from "@micro/core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Certificates, type RabbitmqServer, makeCertificates, startRabbitmq } from "../../../scripts/servers.mjs";
import { at } from "./support/list.ts";
import { missing } from "./support/rabbitmq.ts";

const body = Buffer.from("hello");
const text = (file: string): string => readFileSync(file, "utf8");
const pair = ({ cert, key }: { cert: string; key: string }) => ({ cert: text(cert), key: text(key) });

async function until(what: string, test: () => boolean, withinMs = 10_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!test()) {
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await sleep(10);
  }
}

/** It publishes to itself. */
async function works(options: RabbitmqBrokerOptions): Promise<void> {
  await using broker = rabbitmqBroker(options);
  let got = 0;
  await broker.subscribe("works", () => void got++, {}).ready;
  await broker.publish("works", { body });
  await until("the message has come", () => got === 1);
}

/** What connecting, publishing and subscribing fail with. */
async function refused(options: RabbitmqBrokerOptions): Promise<MicroError> {
  await using broker = rabbitmqBroker(options);
  const errors: MicroError[] = [];
  const { ready } = broker.subscribe("refused", () => {}, { onError: (error) => errors.push(error) });
  const error = await broker.publish("refused", { body }, { timeoutMs: 8_000 }).then(
    () => expect.fail("it was published"),
    (failure: unknown) => failure as MicroError,
  );
  await expect(broker.connect({ timeoutMs: 1_000 })).rejects.toHaveProperty("code");
  await expect(ready).rejects.toMatchObject({ code: error.code });
  expect(errors.map(({ code }) => code)).toEqual([error.code]);
  return error;
}

describe.skipIf(missing !== undefined)("a server of its own", { timeout: 60_000 }, () => {
  let folder: string;
  let files: Certificates;
  let server: RabbitmqServer;

  beforeAll(async () => {
    if (missing !== undefined) return;
    folder = mkdtempSync(join(tmpdir(), "micro-certificates-"));
    files = makeCertificates(folder);
    server = await startRabbitmq({
      users: { app: "p@ss/wörd", reader: "r", client: "c" },
      tls: { ...files.server, ca: files.ca, clientAuth: true },
      plugins: ["rabbitmq_auth_mechanism_ssl"],
      config:
        "auth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\nssl_cert_login_from = common_name\nmax_message_size = 200000",
    });
  }, 120_000);
  afterAll(async () => {
    await server?.dispose();
    if (folder !== undefined) rmSync(folder, { recursive: true });
  });

  it("takes users with odd passwords, in the address or beside it", async () => {
    await works({ addresses: [`amqp://app:${encodeURIComponent("p@ss/wörd")}@${server.address}/%2F`] });
    await works({ addresses: [server.address], user: "app", password: "p@ss/wörd" });
  });

  it("refuses a wrong password, with a clear error that does not hold it", async () => {
    const error = await refused({ addresses: [server.address], user: "app", password: "nonsense" });
    expect(error).toMatchObject({
      code: "unauthorized",
      message: expect.stringMatching(/refused the credentials/) as string,
    });
    expect(`${error.message} ${JSON.stringify(error)}`).not.toContain("nonsense");
  });

  it("refuses a virtual host that is not there", async () => {
    const error = await refused({ addresses: [`${server.url}/nowhere`] });
    expect(error).toMatchObject({ code: "forbidden", message: expect.stringMatching(/virtual host/) as string });
  });

  it("refuses what the user may not, and uses what others have declared for it", async () => {
    await server.control("set_permissions", "reader", "^$", "^$", ".*");
    const addresses = [`amqp://reader:r@${server.address}`];
    const unknown = await refused({ addresses, exchange: "unknown" });
    expect(unknown).toMatchObject({ code: "forbidden", message: expect.stringMatching(/'unknown'/) as string });
    await works({ addresses: [server.url], exchange: "known" });
    await using reader = rabbitmqBroker({ addresses, exchange: "known" });
    const publishes = Array.from({ length: 100 }, () => reader.publish("a", { body }));
    for (const outcome of await Promise.allSettled(publishes))
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "forbidden" } });
    await server.control("set_permissions", "reader", "^$", ".*", ".*");
    await reader.publish("a", { body });
  });

  it("refuses a message larger than it takes; those around it are published", async () => {
    await using broker = rabbitmqBroker({ addresses: [server.url] });
    let got = 0;
    await broker.subscribe("large", () => void got++, {}).ready;
    const sizes = [10, 199_000, 200_001, 10, 300_000, 10];
    const publishes = sizes.map((size) => broker.publish("large", { body: Buffer.alloc(size) }));
    const many = Array.from({ length: 30 }, () => broker.publish("large", { body: Buffer.alloc(200_001) }));
    const outcomes = await Promise.allSettled(publishes);
    for (const outcome of await Promise.allSettled(many))
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "too_large" } });
    expect(
      outcomes.map((outcome) => (outcome.status === "fulfilled" ? "published" : (outcome.reason as MicroError).code)),
    ).toEqual(["published", "published", "too_large", "published", "too_large", "published"]);
    await until("they have come", () => got >= 4);
  });

  it("talks TLS with client certificates, as a user or by the certificate alone", async () => {
    const ca = text(files.ca);
    await works({ addresses: [server.tlsUrl!], tls: { ca, ...pair(files.client) } });
    const address = server.tlsUrl!.replace(/^amqps:\/\/.*@/, "");
    await works({ addresses: [address], tls: { ca, ...pair(files.client) }, externalAuth: true });
    const connections = async () => server.control("list_connections", "user", "auth_mechanism");
    await using broker = rabbitmqBroker({
      addresses: [address],
      tls: { ca, ...pair(files.client) },
      externalAuth: true,
      name: "greeter",
    });
    await broker.connect();
    expect(await connections()).toMatch(/client\s+EXTERNAL/);
    expect(await server.control("list_connections", "client_properties")).toContain("greeter");
  });

  it("refuses a wrong authority, a missing and an expired certificate, and TLS where there is none", async () => {
    const ca = text(files.ca);
    const address = server.tlsUrl!.replace(/^amqps:\/\/.*@/, "");
    const bad: RabbitmqBrokerOptions[] = [
      { addresses: [address], tls: { ca: text(files.otherCa), ...pair(files.client) } },
      { addresses: [address], tls: { ca } },
      { addresses: [address], tls: { ca, ...pair(files.expired) } },
      { addresses: [server.address], tls: { ca } },
      { addresses: [address] },
    ];
    for (const options of bad) {
      await using broker = rabbitmqBroker(options);
      await expect(broker.connect({ timeoutMs: 1_500 })).rejects.toMatchObject({ code: "unavailable" });
    }
    await using untrusting = rabbitmqBroker(at(bad));
    await expect(untrusting.connect({ timeoutMs: 1_500 })).rejects.toThrow(/`tls`/);
  });

  it("goes to the next address while one is down", async () => {
    await works({ addresses: ["amqp://127.0.0.1:9", server.url] });
  });

  it("is left no channel and no queue by subscriptions that ended", async () => {
    await using broker = rabbitmqBroker({ addresses: [server.url] });
    await broker.subscribe("stays", () => {}).ready;
    const count = async (what: string): Promise<number> =>
      (await server.control(what, "name", "--no-table-headers", "--silent")).split("\n").filter((line) => line !== "")
        .length;
    const before = [await count("list_channels"), await count("list_queues")];
    for (let round = 0; round < 5; round++) {
      const subscribers = Array.from({ length: 20 }, () => broker.subscribe("leaves", () => {}));
      // One of them before it holds.
      await at(subscribers).unsubscribe();
      await Promise.all(subscribers.slice(1).map(({ ready }) => ready));
      await Promise.all(subscribers.map((each) => each.unsubscribe()));
    }
    const after = [await count("list_channels"), await count("list_queues")];
    expect(after).toEqual(before);
  });

  it("that closes all connections gets them back, without a word to error handlers", async () => {
    await using broker = rabbitmqBroker({ addresses: [server.url], durable: true, exchange: "closing" });
    const errors: MicroError[] = [];
    const seen = new Set<string>();
    const handler = (event: BrokerEvent): void => void seen.add(Buffer.from(event.message.body).toString());
    const options = { queue: "closing", onError: (error: MicroError) => errors.push(error) };
    await broker.subscribe("closing", handler, options).ready;
    for (let round = 0; round < 3; round++) {
      const bodies = Array.from({ length: 200 }, (_, index) => `${round} ${index}`);
      const published = Promise.all(
        bodies.map((each) => broker.publish("closing", { body: Buffer.from(each) }, { timeoutMs: 20_000 })),
      );
      await server.control("close_all_connections", "test");
      await published;
      await until("all have come", () => bodies.every((each) => seen.has(each)), 20_000);
    }
    expect(errors.filter(({ message }) => !message.includes("will be delivered again"))).toEqual([]);
  });

  it("a handler whose connection is lost is not interrupted; what waited behind it is delivered anew, once", async () => {
    await using broker = rabbitmqBroker({ addresses: [server.url], durable: true, exchange: "closing" });
    const errors: MicroError[] = [];
    const handled: string[] = [];
    const gate = Promise.withResolvers<void>();
    const subscriber = broker.subscribe(
      "revoked",
      (event) => {
        handled.push(Buffer.from(event.message.body).toString());
        return gate.promise;
      },
      { queue: "revoked", onError: (error) => errors.push(error) },
    );
    await subscriber.ready;
    for (const each of ["1", "2", "3"]) await broker.publish("revoked", { body: Buffer.from(each) });
    await until("they are here", () => subscriber.stats.inFlight === 3);
    await server.control("close_all_connections", "test");
    // The first is still being handled, and all three have come again.
    await until("they have come again", () => subscriber.stats.received === 6);
    expect(subscriber.stats.inFlight).toBe(4);
    gate.resolve();
    await until("all are handled", () => subscriber.stats.inFlight === 0);
    expect(handled).toEqual(["1", "1", "2", "3"]);
    expect(errors.map(({ code }) => code)).toEqual(["unavailable"]);
  });

  it("that closes a subscription's channel, here for a handler that takes too long, delivers again; others go on", async () => {
    await server.control("eval", "application:set_env(rabbit, channel_tick_interval, 500).");
    await using broker = rabbitmqBroker({ addresses: [server.url], durable: true, exchange: "closing" });
    const errors: MicroError[] = [];
    const others: MicroError[] = [];
    const gate = Promise.withResolvers<void>();
    let got = 0;
    const slow = broker.subscribe("slow", () => (++got === 1 ? gate.promise : undefined), {
      queue: "slow",
      concurrency: 2,
      rabbitmq: { arguments: { "x-consumer-timeout": 1_000 } },
      onError: (error) => errors.push(error),
    });
    let other = 0;
    const quick = broker.subscribe("quick", () => void other++, { onError: (error) => others.push(error) });
    await Promise.all([slow.ready, quick.ready]);
    await broker.publish("slow", { body });
    await until("it is delivered again", () => got === 2, 20_000);
    expect(errors.map(({ code, message }) => [code, /timed out/.test(message)])).toEqual([["unavailable", true]]);
    gate.resolve();
    await broker.publish("slow", { body });
    await broker.publish("quick", { body });
    await until("both go on", () => got === 3 && other === 1);
    expect(others).toEqual([]);
  });

  it("publishes wait while it is short of memory; messages go on being handled and acknowledged", async () => {
    await using broker = rabbitmqBroker({ addresses: [server.url] });
    const gate = Promise.withResolvers<void>();
    const subscriber = broker.subscribe("blocked", () => gate.promise, {});
    await subscriber.ready;
    await broker.publish("blocked", { body });
    await until("it is being handled", () => subscriber.stats.inFlight === 1);
    await server.control("set_vm_memory_high_watermark", "absolute", "1");
    try {
      // The server says so with the first one it gets, and leaves it at that.
      await expect(broker.publish("blocked", { body }, { timeoutMs: 500 })).rejects.toMatchObject({ code: "timeout" });
      await expect(broker.publish("blocked", { body }, { timeoutMs: 300 })).rejects.toThrow(/memory/);
      gate.resolve();
      const left = () => server.control("list_queues", "messages_unacknowledged");
      for (let tries = 0; /\n1\n/.test(await left()) && tries < 20; tries++) await sleep(100);
      expect(await left()).not.toMatch(/\n1\n/);
      const later = broker.publish("blocked", { body }, { timeoutMs: 30_000 });
      await server.control("set_vm_memory_high_watermark", "0.6");
      await later;
    } finally {
      await server.control("set_vm_memory_high_watermark", "0.6");
    }
    await until("both have come", () => subscriber.stats.handled >= 2);
  });

  it("a frozen server is given up within its heartbeats; what waits is bounded and fails at its deadline", async () => {
    await using broker = rabbitmqBroker({
      addresses: [server.url],
      heartbeatMs: 1_000,
      maxUnconfirmed: 10,
      maxWaiting: 5,
    });
    let got = 0;
    await broker.subscribe("frozen", () => void got++, { onError() {} }).ready;
    await broker.publish("frozen", { body });
    server.freeze();
    try {
      // The signal takes its time. The publish that notices stays unconfirmed, the first of ten.
      const isAnswered = (): Promise<boolean> =>
        broker.publish("frozen", { body }, { timeoutMs: 400 }).then(
          () => true,
          () => false,
        );
      for (let tries = 0; tries < 1_000 && (await isAnswered()); tries++);
      const publishes = Array.from({ length: 20 }, () => broker.publish("frozen", { body }, { timeoutMs: 700 }));
      const codes = (await Promise.allSettled(publishes)).map((outcome) =>
        outcome.status === "fulfilled" ? "published" : (outcome.reason as MicroError).code,
      );
      expect(codes.filter((code) => code === "unavailable")).toHaveLength(6);
      expect(codes.filter((code) => code === "timeout")).toHaveLength(14);
      await expect(broker.publish("frozen", { body }, { timeoutMs: 4_000 })).rejects.toThrow(
        /cannot be reached|no answer/,
      );
    } finally {
      server.thaw();
    }
    const before = got;
    await broker.publish("frozen", { body }, { timeoutMs: 20_000 });
    const received = (): boolean => got > before;
    for (let tries = 0; tries < 100 && !received(); tries++) {
      await broker.publish("frozen", { body }, { timeoutMs: 5_000 });
      await sleep(100);
    }
    expect(got).toBeGreaterThan(before);
  });
});
