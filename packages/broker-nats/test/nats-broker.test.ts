import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectNats } from "@nats-io/transport-node";
import { RetentionPolicy, jetstream } from "@nats-io/jetstream";
import { MicroError, decodeEnvelope, encodeEnvelope, Metadata, silentLogger } from "@micro/core";
import type { Broker, BrokerEvent, PluginContext } from "@micro/core";
import { natsBroker, plugins } from "@micro/broker-nats";
import type { NatsBrokerOptions } from "@micro/broker-nats";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Certificates, makeCertificates, startNats } from "../../../scripts/servers.mjs";
import { endNats, missing, natsAddress, startShared } from "./support/nats.ts";

beforeAll(startShared, 90_000);
afterAll(endNats);

const body = (text: string) => ({ body: Buffer.from(text) });
const text = (event: BrokerEvent) => Buffer.from(event.message.body).toString();
const topic = () => `test.${crypto.randomUUID()}`;
const until = (test: () => boolean | Promise<boolean>) => expect.poll(test, { timeout: 10_000 }).toBe(true);
const failure = async (work: Promise<unknown>): Promise<MicroError> => {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!MicroError.is(error)) throw new Error("no MicroError", { cause: error });
  return error;
};

describe("options", () => {
  const wrong: readonly [string, NatsBrokerOptions, RegExp][] = [
    ["no server", { servers: [] }, /at least one/],
    ["a URL of something else", { servers: ["http://127.0.0.1:4222"] }, /nats:\/\//],
    ["a port out of range", { servers: ["127.0.0.1:70000"] }, /host:port/],
    ["a blank", { servers: [" "] }, /host:port/],
    ["a user alone", { user: "u" }, /together/],
    ["a user and a token", { user: "u", password: "p", token: "t" }, /one of/],
    ["a file name for a certificate", { tls: { ca: "/etc/ca.pem" } }, /PEM/],
    ["a key alone", { tls: { key: "-----BEGIN X" } }, /together/],
    ["half a replica", { jetstream: { replicas: 0.5 } }, /replicas/],
    ["another storage", { jetstream: { storage: "tape" as "file" } }, /storage/],
    ["a negative limit", { maxPendingBytes: -1 }, /maxPendingBytes/],
    ["what there is not", { server: "a" } as object, /natsBroker: there is no option `server`; did you mean `servers`/],
    ["what a certificate has not", { tls: { kay: "" } as object }, /natsBroker: tls: there is no option `kay`/],
    ["a wait without its unit", { jetstream: { ackWait: 5 } as object }, /natsBroker: jetstream: .* `ackWaitMs`/],
  ];
  for (const [name, options, message] of wrong)
    it(`refuse ${name}`, () => {
      expect(() => natsBroker(options)).toThrow(TypeError);
      expect(() => natsBroker(options)).toThrow(message);
    });

  it("with a wrong address keep its password out of the error", () => {
    expect(() => natsBroker({ servers: ["nats://me:secret@host:0"] })).toThrow(/^(?!.*secret).*$/);
  });

  it("of a service reach the broker made by name", async () => {
    const context: PluginContext = {
      service: "s",
      version: "1",
      logger: silentLogger,
      addresses: ["10.0.0.5:4333"],
      domain: undefined,
      tls: { secure: false, tls: undefined, insecureSkipVerify: false },
      flags: undefined,
    };
    await using broker = plugins.find(({ name }) => name === "nats")!.create(context as never);
    expect([broker.name, broker.address]).toEqual(["nats", "10.0.0.5:4333"]);
  });
});

describe.skipIf(missing !== undefined)("topics", () => {
  const noTopics = ["a b", "", ".a", "a.", "a..b", "a\nb", "a".repeat(4_000)];
  it("that NATS cannot carry are refused", async () => {
    await using broker = natsBroker({ servers: [await natsAddress()] });
    for (const name of ["a.*", "a.>", ...noTopics.filter((each) => each !== "")])
      expect((await failure(broker.publish(name, body("x")))).code).toBe("bad_request");
    await expect(broker.publish("", body("x"))).rejects.toThrow(TypeError);
    for (const name of ["a.>.b", ...noTopics.filter((each) => each !== "")])
      expect(() => broker.subscribe(name, () => {})).toThrow(expect.objectContaining({ code: "bad_request" }));
  });

  for (const [mode, jetstreamOption] of [
    ["core NATS", false],
    ["JetStream", true],
  ] as const)
    it(`with wildcards get what matches, with its topic (${mode})`, async () => {
      await using broker = natsBroker({ servers: [await natsAddress()], jetstream: jetstreamOption });
      const base = topic();
      if (jetstreamOption) {
        const connection = await connectNats({ servers: [await natsAddress()] });
        const manager = await jetstream(connection).jetstreamManager();
        await manager.streams.add({ name: base.replaceAll(".", "_"), subjects: [`${base}.>`] });
        await connection.close();
      }
      const got: string[] = [];
      const subscriber = broker.subscribe(
        `${base}.*.created`,
        (event) => void got.push(`${event.topic} ${text(event)}`),
      );
      await subscriber.ready;
      await broker.publish(`${base}.user.created`, body("1"));
      await broker.publish(`${base}.user.deleted`, body("2"));
      await broker.publish(`${base}.order.created`, body("3"));
      await until(() => got.length === 2);
      expect(got).toEqual([`${base}.user.created 1`, `${base}.order.created 3`]);
    });
});

describe.skipIf(missing !== undefined)("messages", () => {
  it("have go-micro's form on the wire", async () => {
    const connection = await connectNats({ servers: [await natsAddress()] });
    await using broker = natsBroker({ servers: [await natsAddress()] });
    const name = topic();
    const messages = connection.subscribe(name);
    await connection.flush();
    await broker.publish(name, { header: { "Micro-Topic": name, "Micro-Id": "7" }, body: Buffer.from("hi") });
    for await (const message of messages) {
      expect(message.string()).toBe(`{"Header":{"Micro-Topic":"${name}","Micro-Id":"7","Micro-ID":"7"},"Body":"aGk="}`);
      break;
    }
    await connection.close();
  });

  for (const jetstreamOption of [false, true])
    it(`of somebody else's form are reported, dead-lettered, and the subscription goes on (${jetstreamOption ? "JetStream" : "core NATS"})`, async () => {
      const servers = [await natsAddress()];
      await using broker = natsBroker({ servers, jetstream: jetstreamOption });
      const connection = await connectNats({ servers });
      const [name, dead] = [topic(), topic()];
      const got: string[] = [];
      const buried: BrokerEvent[] = [];
      const errors: string[] = [];
      const grave = broker.subscribe(dead, (event) => void buried.push(event));
      const subscriber = broker.subscribe(name, (event) => void got.push(text(event)), {
        deadLetter: dead,
        onError: (error) => void errors.push(error.code),
      });
      await Promise.all([subscriber.ready, grave.ready]);
      connection.publish(name, "not json");
      connection.publish(name, '{"Header":{"a":1}}');
      await connection.flush();
      await broker.publish(name, body("good"));
      await until(() => got.length === 1 && buried.length === 2);
      expect(got).toEqual(["good"]);
      expect(errors).toEqual(["codec", "codec"]);
      expect(buried.map((event) => text(event))).toEqual(["not json", '{"Header":{"a":1}}']);
      expect(buried[0]?.message.header.get("Micro-Dead-Topic")).toBe(name);
      // It may get there before its publish knows.
      await until(() => subscriber.stats.inFlight === 0);
      expect(subscriber.stats).toMatchObject({ received: 3, handled: 1, failed: 2, deadLettered: 2, inFlight: 0 });
      await connection.close();
    });

  it("larger than the server takes are refused with both sizes", async () => {
    const server = await startNats();
    try {
      for (const jetstreamOption of [false, true]) {
        await using broker = natsBroker({ servers: [server.address], jetstream: jetstreamOption });
        const error = await failure(broker.publish(topic(), { body: Buffer.alloc(1024 * 1024) }));
        expect(error.code).toBe("too_large");
        expect(error.detail).toMatch(/1398\d{3} bytes.* 1048576 /);
      }
    } finally {
      await server.dispose();
    }
  });

  it("too many for a slow subscriber are dropped, counted and reported, and others get theirs", async () => {
    const servers = [await natsAddress()];
    await using slow = natsBroker({ servers, maxPendingMessages: 10 });
    await using fast = natsBroker({ servers });
    const name = topic();
    const held = Promise.withResolvers<void>();
    const errors: MicroError[] = [];
    let got = 0;
    const behind = slow.subscribe(name, () => held.promise, {
      prefetch: 5,
      onError: (error) => void errors.push(error),
    });
    const beside = fast.subscribe(name, () => void got++);
    await Promise.all([behind.ready, beside.ready]);
    for (let index = 0; index < 100; index++) await fast.publish(name, body(String(index)));
    await until(() => got === 100 && errors.length > 0);
    expect(behind.stats).toMatchObject({ received: 5, dropped: 85 });
    expect(errors[0]?.detail).toMatch(/85 messages of .* too slow/);
    held.resolve();
    await until(() => behind.stats.handled === 15);
  });
});

const pem = (path: string) => readFile(path, "utf8");

/** Everything fails as it should, and says so. */
const refused = async (broker: Broker, code: string, message: RegExp): Promise<void> => {
  await using refusedBroker = broker;
  const subscriber = refusedBroker.subscribe(topic(), () => {}, { onError: () => {} });
  for (const work of [
    refusedBroker.connect({ timeoutMs: 3_000 }),
    refusedBroker.publish(topic(), body("x"), { timeoutMs: 3_000 }),
  ]) {
    const error = await failure(work);
    expect(error.detail).toMatch(message);
    if (code === "unauthorized") expect(error.code).toBe(code);
  }
  if (code === "unauthorized") expect((await failure(subscriber.ready)).code).toBe(code);
};

describe.skipIf(missing !== undefined)("access", () => {
  let folder: string;
  let certificates: Certificates;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "nats-tls-"));
    certificates = makeCertificates(folder);
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("with user and password, or a token, and not with wrong ones", async () => {
    const server = await startNats({ user: "app", password: "s3cret" });
    const tokens = await startNats({ token: "t0ken" });
    try {
      const { address } = server;
      for (const options of [
        { servers: [address], user: "app", password: "s3cret" },
        { servers: [`nats://app:s3cret@${address}`] },
        { servers: [tokens.address], token: "t0ken" },
      ]) {
        await using broker = natsBroker(options);
        await broker.connect();
        expect(broker.address).not.toMatch(/s3cret|t0ken/);
      }
      await refused(natsBroker({ servers: [address] }), "unauthorized", /credentials/);
      await refused(natsBroker({ servers: [address], user: "app", password: "wrong" }), "unauthorized", /^(?!.*wrong)/);
      await refused(natsBroker({ servers: [tokens.address], token: "wrong" }), "unauthorized", /credentials/);
    } finally {
      await Promise.all([server.dispose(), tokens.dispose()]);
    }
  });

  it("by mTLS, and not with another authority or without a certificate", async () => {
    const { cert, key } = certificates.server;
    const server = await startNats({ tls: { cert, key, ca: certificates.ca, clientAuth: true } });
    try {
      const [ca, otherCa, clientCert, clientKey] = await Promise.all(
        [certificates.ca, certificates.otherCa, certificates.client.cert, certificates.client.key].map(pem),
      );
      const servers = [`tls://${server.address}`];
      await using broker = natsBroker({ servers, tls: { ca, cert: clientCert, key: clientKey } });
      const name = topic();
      const got: string[] = [];
      await broker.subscribe(name, (event) => void got.push(text(event))).ready;
      await broker.publish(name, body("secret"));
      await until(() => got.length === 1);
      await refused(
        natsBroker({ servers, tls: { ca: otherCa, cert: clientCert, key: clientKey } }),
        "unavailable",
        /cannot be reached.*(TLS|certificate)/i,
      );
      await refused(natsBroker({ servers, tls: { ca } }), "unavailable", /cannot be reached/);
    } finally {
      await server.dispose();
    }
  });

  it("denied to one topic leaves the others alone", async () => {
    const server = await startNats({
      config: `authorization { users = [ { user: app, password: pw, permissions: { publish: ["open.>", "_INBOX.>"], subscribe: ["open.>", "_INBOX.>"] } } ] }`,
    });
    try {
      await using broker = natsBroker({ servers: [server.address], user: "app", password: "pw" });
      const errors: string[] = [];
      const denied = broker.subscribe("closed.a", () => {}, { onError: (error) => void errors.push(error.code) });
      const got: string[] = [];
      const open = broker.subscribe("open.a", (event) => void got.push(text(event)));
      await open.ready;
      expect((await failure(denied.ready)).code).toBe("forbidden");
      expect(errors).toEqual(["forbidden"]);
      await broker.publish("open.a", body("1"));
      await until(() => got.length === 1);
    } finally {
      await server.dispose();
    }
  });
});

describe.skipIf(missing !== undefined)("JetStream", () => {
  it("keeps for a queue what comes while none of its members is there", async () => {
    const options: NatsBrokerOptions = { servers: [await natsAddress()], jetstream: true };
    await using publisher = natsBroker(options);
    const name = topic();
    {
      await using first = natsBroker(options);
      await first.subscribe(name, () => {}, { queue: "workers" }).ready;
    }
    for (const each of ["1", "2", "3"]) await publisher.publish(name, body(each));
    await using second = natsBroker(options);
    const got: string[] = [];
    second.subscribe(name, (event) => void got.push(text(event)), { queue: "workers" });
    await until(() => got.length === 3);
    expect(got).toEqual(["1", "2", "3"]);
  });

  it("goes on where it was when its consumer is deleted on the server, and starts anew in a new stream", async () => {
    const servers = [await natsAddress()];
    const connection = await connectNats({ servers });
    const manager = await jetstream(connection).jetstreamManager();
    for (const queue of ["go.micro.srv.mailer", undefined]) {
      const name = topic();
      const stream = name.replaceAll(".", "_");
      await manager.streams.add({ name: stream, subjects: [name] });
      await using broker = natsBroker({ servers, jetstream: true });
      const got: string[] = [];
      const subscriber = broker.subscribe(name, (event) => void got.push(text(event)), { queue, onError: () => {} });
      await subscriber.ready;
      const remove = async (): Promise<void> => {
        for await (const { name: consumer } of manager.consumers.list(stream))
          await manager.consumers.delete(stream, consumer);
      };
      // What is published without a consumer is in the stream only.
      const publish = (each: string) =>
        jetstream(connection).publish(name, encodeEnvelope(new Metadata(), Buffer.from(each)));
      await remove();
      await publish("1");
      await until(() => got.length === 1);
      await publish("2");
      await until(() => got.length === 2);
      await remove();
      await publish("3");
      await until(() => got.length === 3);
      await manager.streams.delete(stream);
      await manager.streams.add({ name: stream, subjects: [name] });
      await publish("4");
      await until(() => got.length === 4);
      expect(got).toEqual(["1", "2", "3", "4"]);
    }
    await connection.close();
  });

  it("gives what was not handled once more when its consumer is deleted meanwhile", async () => {
    const servers = [await natsAddress()];
    const connection = await connectNats({ servers });
    const manager = await jetstream(connection).jetstreamManager();
    await using broker = natsBroker({ servers, jetstream: true });
    const name = topic();
    const stream = name.replaceAll(".", "_");
    await manager.streams.add({ name: stream, subjects: [name] });
    const gate = Promise.withResolvers<void>();
    const got: string[] = [];
    const first = broker.subscribe(
      name,
      async (event) => {
        got.push(text(event));
        if (got.length === 1) await gate.promise;
      },
      { queue: "workers", onError: () => {} },
    );
    await first.ready;
    await broker.publish(name, body("1"));
    await until(() => got.length === 1);
    const { value: consumer } = await manager.consumers.list(stream)[Symbol.asyncIterator]().next();
    await manager.consumers.delete(stream, consumer!.name);
    await until(async () => (await manager.streams.info(stream)).state.consumer_count === 1);
    // What the first one holds, the server knows to be somebody's still.
    expect((await manager.consumers.info(stream, consumer!.name)).delivered.stream_seq).toBeLessThanOrEqual(1);
    gate.resolve();
    await until(() => got.length === 2);
    expect(got).toEqual(["1", "1"]);
    await connection.close();
  });

  it("takes its messages from a work queue, and says so once where another queue has them", async () => {
    const servers = [await natsAddress()];
    const connection = await connectNats({ servers });
    const manager = await jetstream(connection).jetstreamManager();
    const name = topic();
    const stream = name.replaceAll(".", "_");
    await manager.streams.add({ name: stream, subjects: [name], retention: RetentionPolicy.Workqueue });
    await using broker = natsBroker({ servers, jetstream: true });
    await broker.publish(name, body("before"));
    const got: string[] = [];
    await broker.subscribe(name, (event) => void got.push(text(event)), { queue: "a" }).ready;
    await broker.publish(name, body("after"));
    await until(() => got.length === 2);
    expect(got).toEqual(["before", "after"]);
    const errors: MicroError[] = [];
    const other = broker.subscribe(name, () => {}, { queue: "b", onError: (error) => void errors.push(error) });
    expect(await failure(other.ready)).toMatchObject({
      code: "bad_request",
      detail: expect.stringContaining("its stream is a work queue") as string,
    });
    expect(errors).toHaveLength(1);
    await connection.close();
  });

  it("uses the stream that holds a topic already, and makes none where it should not", async () => {
    const servers = [await natsAddress()];
    const connection = await connectNats({ servers });
    const manager = await jetstream(connection).jetstreamManager();
    const name = topic();
    const stream = name.replaceAll(".", "_");
    await manager.streams.add({ name: stream, subjects: [name] });
    await using broker = natsBroker({ servers, jetstream: { createStreams: false } });
    await broker.publish(name, body("kept"));
    expect((await manager.streams.info(stream)).state.messages).toBe(1);
    const other = topic();
    expect(await failure(broker.publish(other, body("x")))).toMatchObject({ code: "bad_request" });
    const refusedSubscriber = broker.subscribe(other, () => {}, { onError: () => {} });
    expect(await failure(refusedSubscriber.ready)).toMatchObject({ code: "bad_request" });
    await connection.close();
  });

  it("is asked for no more bytes than the subscription has room for, and one message", async () => {
    const options: NatsBrokerOptions = { servers: [await natsAddress()], jetstream: { storage: "memory" } };
    await using broker = natsBroker(options);
    const name = topic();
    const gate = Promise.withResolvers<void>();
    const subscriber = broker.subscribe(name, () => gate.promise, { prefetchBytes: 1_000_000 });
    await subscriber.ready;
    for (let count = 0; count < 20; count++) await broker.publish(name, { body: Buffer.alloc(1_000_000) });
    await until(() => subscriber.stats.received > 0);
    // What the server sends, it sends in order: when this has come, so has all that it gave out before.
    const passed = Promise.withResolvers<void>();
    const barrier = topic();
    await broker.subscribe(barrier, () => passed.resolve()).ready;
    await broker.publish(barrier, body("x"));
    await passed.promise;
    // The server takes messages of 8 MB, and they are a third larger on the wire.
    expect(subscriber.stats.received).toBeLessThanOrEqual(7);
    gate.resolve();
    await until(() => subscriber.stats.handled === 20);
  });

  it("has what the server said while this process was busy past the limit", async () => {
    await using broker = natsBroker({ servers: [await natsAddress()], jetstream: { storage: "memory" } });
    const name = topic();
    await broker.publish(name, body("0"));
    const published = broker.publish(name, body("1"), { timeoutMs: 200 });
    // One turn, in which the message goes out, and its answer does not come in yet.
    await new Promise(setImmediate);
    for (const end = performance.now() + 400; performance.now() < end;);
    await published;
  });

  it("leaves no consumer of a broadcast subscription behind", async () => {
    const servers = [await natsAddress()];
    const connection = await connectNats({ servers });
    const manager = await jetstream(connection).jetstreamManager();
    await using broker = natsBroker({ servers, jetstream: true });
    const name = topic();
    const subscriber = broker.subscribe(name, () => {});
    await subscriber.ready;
    const stream = await manager.streams.find(name);
    const consumers = async () => (await manager.streams.info(stream)).state.consumer_count;
    expect(await consumers()).toBe(1);
    await subscriber.unsubscribe();
    expect(await consumers()).toBe(0);
    await connection.close();
  });

  it("does not deliver again while a handler works on, however long", async () => {
    const options: NatsBrokerOptions = { servers: [await natsAddress()], jetstream: { ackWaitMs: 600 } };
    await using broker = natsBroker(options);
    const name = topic();
    const done = Promise.withResolvers<void>();
    let attempts = 0;
    const subscriber = broker.subscribe(
      name,
      async () => {
        attempts++;
        await done.promise;
      },
      { queue: "slow" },
    );
    await subscriber.ready;
    await broker.publish(name, body("1"));
    await until(() => attempts === 1);
    await using other = natsBroker(options);
    let elsewhere = 0;
    await other.subscribe(name, () => void elsewhere++, { queue: "slow" }).ready;
    // Nothing must happen for several times the acknowledgement time.
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect([attempts, elsewhere]).toEqual([1, 0]);
    done.resolve();
  });

  it("reads what go-micro's plugin publishes on core NATS, and is read by it", async () => {
    const servers = [await natsAddress()];
    const connection = await connectNats({ servers });
    await using broker = natsBroker({ servers, jetstream: true });
    const name = topic();
    const got: string[] = [];
    await broker.subscribe(name, (event) => void got.push(text(event)), { queue: "q" }).ready;
    const plain: string[] = [];
    connection.subscribe(name, {
      callback: (_, message) => void plain.push(Buffer.from(decodeEnvelope(message.data).body).toString()),
    });
    connection.publish(name, encodeEnvelope(new Metadata(), Buffer.from("from core")));
    await connection.flush();
    await until(() => got.length === 1);
    await broker.publish(name, body("from jetstream"));
    await until(() => got.length === 2 && plain.length === 2);
    expect(got).toEqual(["from core", "from jetstream"]);
    expect(plain).toEqual(got);
    await connection.close();
  });
});
