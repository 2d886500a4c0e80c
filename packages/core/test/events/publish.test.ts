import { afterEach, describe, expect, it } from "vitest";
import type { BrokerMessage } from "../../src/broker/broker.ts";
import { memoryBroker } from "../../src/broker/memory.ts";
import type { ClientOptions } from "../../src/client/client.ts";
import { mucpClient } from "../../src/client/mucp-client.ts";
import { createEvent, type EventPublishOptions, type PublishWrapper } from "../../src/client/publish.ts";
import { Frame } from "../../src/codec/codec.ts";
import { Context, runInContext } from "../../src/context.ts";
import { MicroError } from "../../src/errors.ts";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { Metadata } from "../../src/metadata.ts";
import { memoryRegistry } from "../../src/registry/memory.ts";
import { cachedSelector } from "../../src/selector/cached-selector.ts";
import type { TopicDefinition } from "../../src/topic.ts";
import { memoryTransport } from "../../src/transport/memory.ts";
import { Profile } from "../codec/gen/greeter.ts";
import { AsyncTopic, ArktypeTopic, JsonTopic, ProfileSaved, UserCreated, ValibotTopic } from "./definitions.ts";

let made = new AsyncDisposableStack();
afterEach(async () => {
  const before = made;
  made = new AsyncDisposableStack();
  await before.disposeAsync();
});

function site(options: Partial<ClientOptions> = {}) {
  const broker = made.use(memoryBroker());
  const registry = made.use(memoryRegistry());
  const selector = made.use(cachedSelector({ registry, logger: silentLogger }));
  const transport = made.use(memoryTransport());
  const client = made.use(mucpClient({ transport, selector, logger: silentLogger, broker, ...options }));
  return {
    broker,
    client,
    /** What arrives when this is published. */
    sent: async (
      topic: string | TopicDefinition,
      message: unknown,
      given?: EventPublishOptions,
    ): Promise<BrokerMessage> => {
      const exchange = given?.exchange ?? (typeof topic === "string" ? topic : topic.topic);
      const received = Promise.withResolvers<BrokerMessage>();
      await using subscriber = broker.subscribe(exchange, ({ message: arrived }) => received.resolve(arrived));
      await subscriber.ready;
      await client.publish(topic as string, message, given);
      return received.promise;
    },
  };
}

const text = ({ body }: BrokerMessage): string => Buffer.from(body).toString();

async function refused(promise: Promise<unknown>): Promise<MicroError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!MicroError.is(error)) throw new Error(`not a MicroError: ${String(error)}`);
  return error;
}

describe("a published message", () => {
  it("has Go's headers and a JSON body that ends in a newline", async () => {
    const { sent } = site({ from: "shop" });
    const message = await sent("user.created", { id: 7 });
    expect(text(message)).toBe('{"id":7}\n');
    const { "Micro-Id": id, ...header } = message.header.toJSON();
    expect(header).toEqual({
      "Content-Type": "application/json",
      "Micro-Topic": "user.created",
      "Micro-From-Service": "shop",
    });
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect((await sent("user.created", { id: 7 })).header.get("Micro-Id")).not.toBe(id);
  });

  it("carries the metadata of the call it is made in, but what belongs to that message alone", async () => {
    const { sent } = site({ from: "shop" });
    const metadata = new Metadata({
      "Micro-Trace-Id": "t1",
      "X-Tenant": "a",
      "X-Kept": "k",
      "Micro-From-Service": "caller",
      "Content-Type": "application/protobuf",
      "Micro-Id": "1",
      "Micro-Topic": "other",
      "Micro-Endpoint": "A.B",
      "Micro-Dead-Topic": "d",
      "Micro-Attempts": "3",
      "Micro-Error": "e",
      Timeout: "5000000",
      Remote: "r",
    });
    const context = new Context({ service: "s", endpoint: "A.B", metadata });
    const message = await runInContext(context, () => sent("t", {}, { metadata: { "X-Tenant": "b", "x-own": "o" } }));
    const { "Micro-Id": _, ...header } = message.header.toJSON();
    expect(header).toEqual({
      "Micro-Trace-Id": "t1",
      "X-Tenant": "b",
      "X-Kept": "k",
      "X-Own": "o",
      "Micro-From-Service": "shop",
      "Content-Type": "application/json",
      "Micro-Topic": "t",
    });
  });

  it("keeps its own headers whatever the caller's metadata says", async () => {
    const { sent } = site();
    const metadata = { "micro-topic": "other", "content-type": "text/plain", "micro-id": "1" };
    const { header } = await sent("t", {}, { metadata });
    expect(header.get("Micro-Topic")).toBe("t");
    expect(header.get("Content-Type")).toBe("application/json");
    expect(header.get("Micro-Id")).not.toBe("1");
  });

  it("goes to the exchange where one is given, and names its topic", async () => {
    const { sent } = site();
    const { header } = await sent("t", {}, { exchange: "e" });
    expect(header.get("Micro-Topic")).toBe("t");
  });

  it("is encoded as its content type says: envelopes are left out, grpc has its prefix", async () => {
    const { sent } = site({ contentType: "application/json-rpc" });
    expect(text(await sent("t", { a: 1 }))).toBe('{"a":1}\n');
    const profile = { firstName: "Ada" };
    const bytes = Buffer.from(Profile.encode(Profile.fromPartial(profile)).finish());
    const body = async (contentType: string) =>
      Buffer.from((await sent(ProfileSaved, profile, { contentType })).body).toString("hex");
    const hex = bytes.toString("hex");
    expect(await body("application/protobuf")).toBe(hex);
    expect(await body("application/proto-rpc")).toBe(hex);
    const framed = `00${bytes.length.toString(16).padStart(8, "0")}${hex}`;
    expect(await body("application/grpc")).toBe(framed);
    expect(await body("application/grpc+proto")).toBe(framed);
    const raw = await sent("t", Buffer.from([0, 255]), { contentType: "application/octet-stream" });
    expect([...raw.body]).toEqual([0, 255]);
    expect((await sent(ProfileSaved, profile)).header.get("Content-Type")).toBe("application/protobuf");
    expect(text(await sent(ProfileSaved, profile, { contentType: "application/json" }))).toBe('{"firstName":"Ada"}\n');
  });

  it("is the frame's bytes as they are, whatever the content type", async () => {
    const { sent } = site();
    const frame = new Frame(Buffer.from("as it is"));
    expect(text(await sent("t", frame))).toBe("as it is");
    expect(text(await sent(UserCreated, frame))).toBe("as it is");
    expect(text(await sent("t", frame, { contentType: "application/unheard-of" }))).toBe("as it is");
  });
});

describe("a typed topic", () => {
  it("sends what was passed, not what the validator makes of it", async () => {
    const { sent } = site();
    expect(text(await sent(UserCreated, { id: 7 }))).toBe('{"id":7}\n');
    expect(text(await sent(AsyncTopic, { id: 7 }))).toBe('{"id":7}\n');
    expect(text(await sent(JsonTopic, { id: 7 }))).toBe('{"id":7}\n');
  });

  it("refuses a wrong message before it is sent, naming topic and field", async () => {
    const { client, broker } = site();
    const topics = ["user.created", "asynchronous", "valibot", "arktype", "profile.saved"];
    const received: string[] = [];
    const subscribers = topics.map((topic) => broker.subscribe(topic, () => void received.push(topic)));
    await Promise.all(subscribers.map(({ ready }) => ready));
    const wrong = (topic: TopicDefinition, message: unknown) => refused(client.publish(topic, message));
    const user = await wrong(UserCreated, { id: "seven" });
    expect(user.detail).toBe("topic user.created: id: expected number, received string");
    expect([user.code, user.id]).toEqual(["bad_request", "go.micro.client"]);
    expect((await wrong(AsyncTopic, { id: 0 })).detail).toBe("topic asynchronous: id: must be above 0");
    expect((await wrong(ValibotTopic, { id: "7" })).detail).toMatch(/^topic valibot: id: expected number/i);
    expect((await wrong(ArktypeTopic, {})).detail).toMatch(/^topic arktype: id: must be a number/);
    const profile = await wrong(ProfileSaved, { firstName: "Ada", heightMetres: "tall" });
    expect(profile.detail).toBe("topic profile.saved: heightMetres: expected number, received string");
    expect((await wrong(ProfileSaved, { mood: 1.5 })).detail).toMatch(/^topic profile.saved: mood: .*1.5/);
    expect(profile.code).toBe("bad_request");
    expect((await wrong(ProfileSaved, "Ada")).detail).toBe("topic profile.saved: Profile is an object, not a string");
    await client.publish("user.created", { id: 1 });
    await expect.poll(() => received).toEqual(["user.created"]);
  });
});

describe("a publish", () => {
  it("is refused for what is no topic, no option, or cannot be encoded", async () => {
    const { client } = site();
    await expect(client.publish("", {})).rejects.toThrow(TypeError);
    await expect(client.publish(undefined as never, {})).rejects.toThrow(
      "publish: the first argument is the topic, a text that is not empty or what defineTopic() gives",
    );
    await expect(client.publish("t", {}, { exchange: "" })).rejects.toThrow(TypeError);
    const cyclic: Record<string, unknown> = {};
    cyclic["self"] = cyclic;
    const cycle = await refused(client.publish("t", cyclic));
    expect(cycle.code).toBe("codec");
    expect(cycle.detail).toMatch(/^topic t: /);
    const unknown = await refused(client.publish("t", {}, { contentType: "application/x" }));
    expect([unknown.code, unknown.detail]).toEqual(["codec", "topic t: unsupported Content-Type: application/x"]);
  });

  it("fails clearly without a broker, and once the client is closed", async () => {
    const { client } = site({ broker: undefined });
    await expect(client.publish("t", {})).rejects.toThrow("publish: the client has no broker; give it one as `broker`");
    const other = site();
    await other.client[Symbol.asyncDispose]();
    expect((await refused(other.client.publish("t", {}))).code).toBe("closed");
  });

  it("asks for the broker each time where it is given as a function", async () => {
    const brokers = [made.use(memoryBroker()), made.use(memoryBroker())];
    let index = 0;
    const { client } = site({ broker: () => brokers[index]! });
    const seen: number[] = [];
    for (const [number, broker] of brokers.entries()) await broker.subscribe("t", () => void seen.push(number)).ready;
    await client.publish("t", {});
    index = 1;
    await client.publish("t", {});
    await expect.poll(() => seen).toEqual([0, 1]);
  });

  it("hands the broker the options that are the broker's", async () => {
    const given: unknown[] = [];
    const inner = memoryBroker();
    const broker = Object.assign(Object.create(inner) as typeof inner, {
      publish: async (_topic: string, _message: unknown, options: unknown) => void given.push(options),
    });
    const { client } = site({ broker });
    const { signal } = new AbortController();
    await client.publish("t", "x", {
      timeoutMs: 9,
      signal,
      metadata: { a: "b" },
      contentType: "text/plain",
      exchange: "e",
    });
    expect(given).toEqual([{ timeoutMs: 9, signal }]);
    await inner[Symbol.asyncDispose]();
  });

  it("runs the wrappers, the first one outermost, which may change metadata and message", async () => {
    const order: string[] = [];
    const named =
      (name: string): PublishWrapper =>
      (next) =>
      async (message, context) => {
        order.push(`${name} ${context.topic} ${context.exchange} ${context.contentType}`);
        context.metadata.set("X-Last", name);
        await next({ ...(message as object), [name]: true }, context);
        order.push(`${name} done`);
      };
    const { sent } = site({ wrapPublish: [named("a"), named("b")] });
    const message = await sent("t", { id: 1 }, { exchange: "e" });
    expect(text(message)).toBe('{"id":1,"a":true,"b":true}\n');
    expect(message.header.get("X-Last")).toBe("b");
    await expect.poll(() => order).toHaveLength(4);
    expect(order).toEqual(["a t e application/json", "b t e application/json", "b done", "a done"]);
  });
});

describe("createEvent", () => {
  it("publishes to its topic, its options under those of the event", async () => {
    const { client, broker } = site();
    const received: BrokerMessage[] = [];
    await broker.subscribe("user.created", ({ message }) => void received.push(message)).ready;
    const event = createEvent(UserCreated, client, { metadata: { a: "1", b: "1" }, timeoutMs: 100 });
    expect(event.topic).toBe("user.created");
    await event.publish({ id: 7 });
    await event.publish({ id: 8 }, { metadata: { b: "2" }, timeoutMs: undefined });
    await expect.poll(() => received).toHaveLength(2);
    expect(received.map(({ header }) => [header.get("a"), header.get("b")])).toEqual([
      ["1", "1"],
      ["1", "2"],
    ]);
    expect(received.map(text)).toEqual(['{"id":7}\n', '{"id":8}\n']);
    expect((await refused(event.publish({ id: "x" as never }))).code).toBe("bad_request");
    expect(() => createEvent("", client)).toThrow(TypeError);
  });
});
