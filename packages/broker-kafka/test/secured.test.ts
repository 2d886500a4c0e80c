import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kafkaBroker, type KafkaBrokerOptions } from "@micro/broker-kafka";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeCertificates, startKafka } from "../../../scripts/servers.mjs";
import type { Certificates, KafkaServer } from "../../../scripts/servers.mjs";
import { missing } from "./support/kafka.ts";

const read = (file: string): string => readFileSync(file, "utf8");
const user = { username: "app", password: "apw" };

/** A message goes out and comes in, in a queue and without one. */
async function works(options: KafkaBrokerOptions): Promise<void> {
  await using broker = kafkaBroker(options);
  await broker.connect({ timeoutMs: 10_000 });
  const topic = `t.${crypto.randomUUID()}`;
  const came = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const all = broker.subscribe(topic, () => came[0]!.resolve());
  const queued = broker.subscribe(topic, () => came[1]!.resolve(), { queue: topic });
  await Promise.all([all.ready, queued.ready]);
  await broker.publish(topic, { body: new Uint8Array(1) });
  await Promise.all(came.map(({ promise }) => promise));
}

/** Whoever asks is told, and soon. */
async function refuses(options: KafkaBrokerOptions, code: string, message: RegExp): Promise<void> {
  await using broker = kafkaBroker(options);
  const told: string[] = [];
  const subscriber = broker.subscribe("t", () => {}, { onError: (error) => told.push(error.code) });
  const failed = { code, message: expect.stringMatching(message) };
  if (code === "unauthorized") {
    await expect(broker.connect({ timeoutMs: 10_000 })).rejects.toMatchObject(failed);
    await expect(broker.publish("t", { body: new Uint8Array(1) })).rejects.toMatchObject(failed);
    await expect(subscriber.ready).rejects.toMatchObject(failed);
    expect(told).toContain(code);
  } else {
    // What is wrong is known once the first attempt has failed, which a busy machine takes its time for.
    let error: unknown;
    for (let tries = 0; tries < 10 && !(error instanceof Error && message.test(error.message)); tries++)
      error = await broker.connect({ timeoutMs: 1_500 }).catch((caught: unknown) => caught);
    expect(error).toMatchObject(failed);
    await expect(broker.publish("t", { body: new Uint8Array(1) }, { timeoutMs: 300 })).rejects.toMatchObject({
      ...failed,
      code: "timeout",
    });
  }
}

describe.skipIf(missing !== undefined)("Kafka with TLS and users", () => {
  let folder: string;
  let certificates: Certificates;
  let server: KafkaServer;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "micro-kafka-tls-"));
    certificates = makeCertificates(folder);
    const { ca, server: pair } = certificates;
    server = await startKafka({ tls: { ...pair, ca, clientAuth: true }, users: { app: "apw" } });
  }, 90_000);
  afterAll(async () => {
    await server?.dispose();
    rmSync(folder, { recursive: true, force: true });
  });

  it.each(["plain", "scram-sha-256", "scram-sha-512"] as const)("logs in with %s", async (mechanism) => {
    await works({ addresses: [server.saslAddress!], sasl: { mechanism, ...user } });
  });

  it.each(["plain", "scram-sha-256", "scram-sha-512"] as const)(
    "is refused with a wrong password (%s)",
    async (mechanism) => {
      const sasl = { mechanism, username: "app", password: "wrong" };
      await refuses({ addresses: [server.saslAddress!], sasl }, "unauthorized", /credentials/);
    },
  );

  it("shows its certificate where brokers want one, and verifies theirs", async () => {
    const { ca, client } = certificates;
    const tls = { ca: read(ca), cert: read(client.cert), key: read(client.key) };
    await works({ addresses: [server.sslAddress!], tls });
  });

  it("logs in over TLS", async () => {
    const sasl = { mechanism: "scram-sha-256", ...user } as const;
    await works({ addresses: [server.saslSslAddress!], tls: { ca: read(certificates.ca) }, sasl });
  });

  it("is refused without the certificate that brokers want", async () => {
    await refuses(
      { addresses: [server.sslAddress!], tls: { ca: read(certificates.ca) } },
      "unauthorized",
      /certificate/,
    );
  });

  it("does not trust a certificate of another authority", async () => {
    const { otherCa, client } = certificates;
    const tls = { ca: read(otherCa), cert: read(client.cert), key: read(client.key) };
    await refuses({ addresses: [server.sslAddress!], tls }, "unavailable", /TLS failed/);
  });

  it("does not trust a certificate for another name", async () => {
    const { ca, client } = certificates;
    const tls = { ca: read(ca), cert: read(client.cert), key: read(client.key), servername: "kafka.example" };
    await refuses({ addresses: [server.sslAddress!], tls }, "unavailable", /TLS failed/);
  });

  it("says so when brokers do not talk TLS", async () => {
    await refuses({ addresses: [server.address], tls: {} }, "unavailable", /cannot be reached/);
  });
});
