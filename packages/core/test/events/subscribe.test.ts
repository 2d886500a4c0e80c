import { getEventListeners } from "node:events";
import { afterEach, describe, expect, it } from "vitest";
import type { Broker, BrokerEvent } from "../../src/broker/broker.ts";
import { memoryBroker, memoryBrokerNetwork } from "../../src/broker/memory.ts";
import { Frame } from "../../src/codec/codec.ts";
import { contextKey, currentContext } from "../../src/context.ts";
import { MicroError, badRequest } from "../../src/errors.ts";
import { Metadata } from "../../src/metadata.ts";
import { brokerEvent, type SubscriberWrapper } from "../../src/server/events.ts";
import type { Server, ServerOptions } from "../../src/server/server.ts";
import { Profile } from "../codec/gen/greeter.ts";
import { type Served, served, waitFor } from "../server/support/served.ts";
import { AsyncTopic, ProfileSaved, RawTopic, UserCreated } from "./definitions.ts";

let made = new AsyncDisposableStack();
afterEach(async () => {
  const before = made;
  made = new AsyncDisposableStack();
  await before.disposeAsync();
});

interface Site extends Served {
  readonly broker: Broker;
  /** Publish a body as it is. */
  readonly publish: (topic: string, body: string | Uint8Array, header?: Record<string, string>) => Promise<void>;
  /** What the error handler was told. */
  readonly errors: MicroError[];
}

const json = { "Content-Type": "application/json" };

function framed(body: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(body.length, 1);
  return Buffer.concat([prefix, body]);
}

const proto = (firstName: string): Uint8Array => Profile.encode(Profile.fromPartial({ firstName })).finish();

async function site(
  register: (server: Server, onError: (error: MicroError) => void) => void,
  options: Partial<ServerOptions> = {},
): Promise<Site> {
  const broker = made.use(memoryBroker());
  const errors: MicroError[] = [];
  const server = made.use(
    await served((target) => register(target, (error) => void errors.push(error)), { broker, ...options }),
  );
  return Object.assign(server, {
    broker,
    errors,
    publish: (topic: string, body: string | Uint8Array, header: Record<string, string> = json) =>
      broker.publish(topic, { header, body: Buffer.from(body) }),
  });
}

describe("a subscriber", () => {
  it("gets the decoded event and its context, in which nested work finds itself", async () => {
    const seen: unknown[] = [];
    const { publish } = await site((server) =>
      server.subscribe("user.created", async (event, context) => {
        await new Promise((resolve) => void setImmediate(resolve));
        const { service, endpoint, contentType, body, caller, deadline } = context;
        seen.push(event, { service, endpoint, contentType, body: Buffer.from(body).toString(), caller, deadline });
        seen.push(context.metadata.toJSON(), currentContext() === context, context.signal.aborted);
      }),
    );
    await publish("user.created", '{"id":7}', { ...json, "x-tenant": "a", "Micro-From-Service": "shop" });
    await waitFor(() => seen.length === 5);
    expect(seen).toEqual([
      { id: 7 },
      {
        service: "greeter",
        endpoint: "user.created",
        contentType: "application/json",
        body: '{"id":7}',
        caller: "shop",
        deadline: undefined,
      },
      { "Content-Type": "application/json", "X-Tenant": "a", "Micro-From-Service": "shop" },
      true,
      false,
    ]);
  });

  it("is a function, an object of functions or a class instance, all of whose methods get every event", async () => {
    const seen: string[] = [];
    class Mailer {
      readonly from = "us";
      onCreated({ id }: { id: number }): void {
        seen.push(`${this.from} created ${id}`);
      }
      async onNoted({ id }: { id: number }): Promise<void> {
        seen.push(`${this.from} noted ${id}`);
      }
      _hidden(): void {
        seen.push("hidden");
      }
    }
    const { publish } = await site((server) => {
      server.subscribe("user.created", ({ id }) => void seen.push(`function ${id}`));
      server.subscribe("user.created", { log: ({ id }: { id: number }) => void seen.push(`object ${id}`) });
      server.subscribe(UserCreated, new Mailer());
    });
    await publish("user.created", '{"id":7}');
    await waitFor(() => seen.length === 4);
    expect(seen.toSorted()).toEqual(["function 7", "object 7", "us created 7", "us noted 7"]);
  });

  it("acknowledges by its third argument where `autoAck` is false, and refuses", async () => {
    const seen: string[] = [];
    let subscriber: ReturnType<Server["subscribe"]> | undefined;
    const waiting: BrokerEvent[] = [];
    const { publish, errors } = await site((server, onError) => {
      const options = { autoAck: false, onError, backoff: () => 0, retries: 1 };
      subscriber = server.subscribe(
        "t",
        ({ id }, _context, delivery) => {
          seen.push(`${id} attempt ${delivery.attempt}`);
          if (id === 1 && delivery.attempt === 1) delivery.nack(new Error("not now"));
          else waiting.push(delivery);
        },
        options,
      );
    });
    await publish("t", '{"id":1}');
    await waitFor(() => waiting.length === 1);
    expect(seen).toEqual(["1 attempt 1", "1 attempt 2"]);
    expect(subscriber?.stats).toMatchObject({ handled: 0, inFlight: 1, failed: 1 });
    await waiting[0]?.ack();
    expect(subscriber?.stats).toMatchObject({ handled: 1, inFlight: 0 });
    expect(errors.map(({ detail }) => detail)).toEqual(["not now"]);
  });

  it("is retried with its options, and its last failure goes to the dead letters", async () => {
    const attempts: number[] = [];
    const dead: BrokerEvent[] = [];
    const { publish, broker, errors } = await site((server, onError) =>
      server.subscribe(
        "t",
        (_event, _context, { attempt }) => {
          attempts.push(attempt);
          throw new Error(`boom ${attempt}`);
        },
        { retries: 2, backoff: () => 0, deadLetter: "t.dead", onError },
      ),
    );
    await broker.subscribe("t.dead", (event) => void dead.push(event)).ready;
    await publish("t", "{}");
    await waitFor(() => dead.length === 1);
    expect(attempts).toEqual([1, 2, 3]);
    expect(errors.map(({ detail }) => detail)).toEqual(["boom 1", "boom 2", "boom 3"]);
    expect(dead[0]?.message.header.get("Micro-Dead-Topic")).toBe("t");
  });

  it("of several methods repeats those alone that failed", async () => {
    const runs: string[] = [];
    const { publish, errors } = await site((server, onError) =>
      server.subscribe(
        "t",
        {
          steady: () => void runs.push("steady"),
          shaky(_event: unknown, context: { get(key: typeof brokerEvent): BrokerEvent | undefined }) {
            runs.push("shaky");
            if (context.get(brokerEvent)?.attempt === 1) throw new Error("shaky broke");
          },
          picky() {
            runs.push("picky");
            throw badRequest("", "picky refuses");
          },
        },
        { retries: 5, backoff: () => 0, onError },
      ),
    );
    await publish("t", "{}");
    await waitFor(() => errors.length === 2 && runs.length === 5);
    expect(runs).toEqual(["steady", "shaky", "picky", "shaky", "picky"]);
    expect(errors.map(({ detail }) => detail)).toEqual(["shaky broke\npicky refuses", "picky refuses"]);
  });

  it("shares a queue with others of the same name", async () => {
    const seen: string[] = [];
    const { publish } = await site((server) => {
      for (const name of ["a", "b"]) server.subscribe("t", () => void seen.push(name), { queue: "q" });
      server.subscribe("t", () => void seen.push("all"));
    });
    await publish("t", "{}");
    await publish("t", "{}");
    await waitFor(() => seen.length === 4);
    expect(seen.toSorted()).toEqual(["a", "all", "all", "b"]);
  });

  it("takes no options that make no sense, and no handler that is none", async () => {
    const { server } = await site(() => {});
    const subscribe = server.subscribe.bind(server) as (...given: unknown[]) => unknown;
    expect(() => subscribe("t", 5)).toThrow('subscribe("t"): pass a function, or an object of functions');
    expect(() => subscribe("t", { name: "x" })).toThrow('subscribe("t"): the object has no method to handle events');
    expect(() => subscribe("", () => {})).toThrow("subscribe: the first argument is the topic");
    expect(() => subscribe({ topic: "t" }, () => {})).toThrow("subscribe: the first argument is the topic");
    expect(() => subscribe("t", () => {}, { concurrency: 0 })).toThrow("`concurrency` must be a whole number");
    expect(() => subscribe("t", { a() {}, b() {} }, { autoAck: false })).toThrow(
      "with `autoAck: false` an event has one handler to acknowledge it; subscribe 2 times instead",
    );
    const alone = made.use(await served(() => {}));
    expect(() => alone.server.subscribe("t", () => {})).toThrow("the server has no broker");
  });
});

describe("an event", () => {
  it("is read by its content type, Go's variants included", async () => {
    const seen: Profile[] = [];
    const { publish, errors } = await site((server, onError) =>
      server.subscribe(ProfileSaved, (profile) => void seen.push(profile), { onError }),
    );
    const bytes = proto("Ada");
    const send = (contentType: string, body: string | Uint8Array) =>
      publish("profile.saved", body, { "content-type": contentType });
    await send("application/protobuf", bytes);
    await send("application/proto-rpc", bytes);
    await send("application/json", '{"firstName":"Ada"}\n');
    await send("application/json-rpc", '{"first_name":"Ada"}');
    await send("application/grpc+proto", framed(bytes));
    // As go-micro's gRPC client writes it.
    await send("application/grpc+proto", bytes);
    await send("application/grpc", bytes);
    await send("application/grpc+json", '{"firstName":"Ada"}');
    await send("application/octet-stream", bytes);
    await publish("profile.saved", bytes, {});
    await send("application/json", "");
    await waitFor(() => seen.length + errors.length === 11);
    expect(errors).toEqual([]);
    expect(seen.map(({ firstName }) => firstName)).toEqual([...Array<string>(10).fill("Ada"), ""]);
  });

  it("as application/grpc+json is framed JSON, or the framed protobuf that go-micro's mucp clients send", async () => {
    const seen: string[] = [];
    const { publish, errors } = await site((server, onError) => {
      server.subscribe(ProfileSaved, ({ firstName }) => void seen.push(firstName), { onError });
      server.subscribe("by.name", (event) => void seen.push(JSON.stringify(event)), { onError });
    });
    const names = ["Ada", "", "x".repeat(0x7b), `${" ".repeat(9)}{}`, "y".repeat(300)];
    const type = { "content-type": "application/grpc+json" };
    for (const name of names) await publish("profile.saved", framed(proto(name)), type);
    for (const text of ['{"firstName":"Bob"}', ' \n\t{"first_name":"Bob"}\n', "{}"])
      await publish("profile.saved", framed(Buffer.from(text)), type);
    await publish("by.name", framed(Buffer.from('{"a":1}')), type);
    await waitFor(() => seen.length + errors.length === 9);
    expect(errors).toEqual([]);
    expect(seen).toEqual([...names, "Bob", "Bob", "", '{"a":1}']);
    await publish("profile.saved", framed(Buffer.from('{"firstName":')), type);
    await waitFor(() => errors.length === 1);
    expect(errors[0]?.detail).toContain("invalid JSON");
  });

  it("without a content type is protobuf, as Go takes it, unless its topic has no such form", async () => {
    const seen: unknown[] = [];
    const { publish, errors } = await site((server, onError) => {
      server.subscribe(UserCreated, (user) => void seen.push(user));
      server.subscribe("by.name", (event) => void seen.push(event), { onError });
    });
    await publish("user.created", '{"id":7}', {});
    await publish("by.name", '{"id":7}', {});
    await waitFor(() => seen.length === 1 && errors.length === 1);
    expect(seen).toEqual([{ id: 7, name: "nobody" }]);
    expect(errors[0]?.detail).toMatch(
      /^topic by\.name: the message cannot be decoded: cannot decode protobuf .* \(it has no Content-Type, application\/protobuf is assumed\)$/,
    );
  });

  it("that cannot be read or is refused by its type is reported once with topic and field; the subscription lives on", async () => {
    const seen: unknown[] = [];
    let attempts = 0;
    const { publish, errors } = await site(
      (server, onError) => {
        const options = { onError, backoff: () => 0 };
        server.subscribe(UserCreated, (user) => void seen.push(user), options);
        server.subscribe(AsyncTopic, (event) => void seen.push(event), options);
      },
      { wrapSubscriber: [(next) => (event, context) => (attempts++, next(event, context) as unknown)] },
    );
    await publish("user.created", '{"id":');
    await publish("user.created", '{"id":"7"}');
    await publish("user.created", "{}", { "Content-Type": "application/x" });
    await publish("user.created", '{"__proto__":{"a":1}}');
    await publish("asynchronous", '{"id":0}');
    await publish("user.created", '{"id":7,"name":"Ada"}');
    await publish("asynchronous", '{"id":1}');
    await waitFor(() => seen.length === 2 && errors.length === 5);
    expect(seen).toEqual([{ id: 7, name: "Ada" }, { id: 1 }]);
    expect(errors.map(({ code }) => code)).toEqual(Array(5).fill("bad_request"));
    expect(errors.map(({ detail }) => detail).toSorted()).toEqual([
      "topic asynchronous: id: must be above 0",
      "topic user.created: id: expected number, received string",
      'topic user.created: the message cannot be decoded: invalid JSON: the key "__proto__" is not allowed',
      expect.stringMatching(/^topic user.created: the message cannot be decoded: invalid JSON: unexpected end/),
      "topic user.created: unsupported Content-Type: application/x",
    ]);
    expect(attempts).toBe(2);
  });

  it("reaches a subscriber to frames as it is, whatever it is", async () => {
    const seen: unknown[] = [];
    const { publish } = await site((server) => server.subscribe(RawTopic, (frame) => void seen.push(frame)));
    await publish("raw", Buffer.from([255, 0]), { "Content-Type": "foreign/thing" });
    await publish("raw", "", {});
    await waitFor(() => seen.length === 2);
    expect(seen[0]).toBeInstanceOf(Frame);
    expect(seen.map((frame) => [...(frame as Frame).data])).toEqual([[255, 0], []]);
  });
});

describe("subscriber wrappers", () => {
  it("run in the order listed around every handler, and see event, context and attempt", async () => {
    const order: string[] = [];
    const account = contextKey<string>("account");
    const wrapper =
      (name: string): SubscriberWrapper =>
      (next) =>
      async (event, context) => {
        order.push(`${name} ${context.endpoint} ${(event as { id: number }).id} ${context.get(brokerEvent)?.attempt}`);
        await next(event, context.with(account, `${context.get(account) ?? ""}${name}`));
        order.push(`${name} done`);
      };
    const { publish } = await site(
      (server) =>
        server.subscribe("t", (_event, context, delivery) => {
          order.push(`handler ${context.get(account)} ${delivery.attempt} ${currentContext() === context}`);
        }),
      { wrapSubscriber: [wrapper("a"), wrapper("b")] },
    );
    await publish("t", '{"id":7}');
    await waitFor(() => order.length === 5);
    expect(order).toEqual(["a t 7 1", "b t 7 1", "handler ab 1 true", "b done", "a done"]);
  });
});

describe("the server", () => {
  it("lists subscribers after handlers, by topic descending, named and described as in Go", async () => {
    class Mailer {
      handle(): void {}
      Noted(): void {}
    }
    const { server } = await site((target) => {
      target.subscribe("a.topic", () => {});
      target.subscribe(UserCreated, new Mailer());
      target.subscribe("b.topic", { run() {} });
      target.subscribe("internal", () => {}, { internal: true });
      target.handle("Zebra", { run: () => ({}) });
    });
    const endpoints = server.endpoints();
    expect(endpoints.map(({ name, metadata }) => [name, metadata["topic"] ?? ""])).toEqual([
      ["Zebra.Run", ""],
      ["Mailer.Handle", "user.created"],
      ["Mailer.Noted", "user.created"],
      ["Subscriber.Run", "b.topic"],
      ["Func", "a.topic"],
    ]);
    expect(endpoints[1]).toEqual({
      name: "Mailer.Handle",
      request: {
        name: "UserCreated",
        type: "UserCreated",
        values: [
          { name: "id", type: "float64", values: null },
          { name: "name", type: "string", values: null },
          { name: "at", type: "string", values: null },
        ],
      },
      response: null,
      metadata: { subscriber: "true", topic: "user.created" },
    });
    expect(endpoints[4]?.request).toEqual({ name: "any", type: "", values: null });
  });

  it("subscribes at its start, at once later on, and again after a stop", async () => {
    const seen: string[] = [];
    let first: ReturnType<Server["subscribe"]> | undefined;
    const { server, publish, logger } = await site((target) => {
      first = target.subscribe("t", () => void seen.push("first"));
    });
    await first?.ready;
    const second = server.subscribe("t", () => void seen.push("second"));
    await second.ready;
    await publish("t", "{}");
    await waitFor(() => seen.length === 2);
    await second.unsubscribe();
    await expect(second.ready).resolves.toBeUndefined();
    await server.stop();
    await publish("t", "{}");
    await server.start();
    await publish("t", "{}");
    await waitFor(() => seen.length === 3);
    expect(seen.toSorted()).toEqual(["first", "first", "second"]);
    expect(server.endpoints()).toHaveLength(1);
    const lines = logger.records.filter(({ level }) => level === "info").map(({ message }) => message);
    expect(lines[1]).toBe("Broker [memory] Connected to memory");
  });

  it("keeps nothing of a subscription that the broker refuses", async () => {
    const { server, broker } = await site(() => {});
    // Server and broker run; a broker that is the program's own may end first.
    await broker.disconnect();
    const { signal } = new AbortController();
    expect(() => server.subscribe("t", () => {}, { signal })).toThrow(expect.objectContaining({ code: "closed" }));
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });

  it("forgets a subscription whose signal aborts, before and after the start", async () => {
    const broker = made.use(memoryBroker());
    const [before, after] = [new AbortController(), new AbortController()];
    const seen: string[] = [];
    const host = made.use(
      await served(
        (target) => {
          const subscriber = target.subscribe("t", () => void seen.push("before"), { signal: before.signal });
          before.abort();
          expect(target.endpoints()).toEqual([]);
          expect(subscriber.topic).toBe("t");
          target.subscribe("t", () => void seen.push("never"), { signal: AbortSignal.abort() });
        },
        { broker },
      ),
    );
    const ended = host.server.subscribe("t", () => void seen.push("after"), { signal: after.signal });
    await broker.publish("t", { body: new Uint8Array(0), header: json });
    await waitFor(() => seen.length === 1);
    after.abort();
    await ended.unsubscribe();
    await broker.publish("t", { body: new Uint8Array(0), header: json });
    expect(host.server.endpoints()).toEqual([]);
    expect(seen).toEqual(["after"]);
  });

  it("lets running handlers finish when it drains, and cancels those that do not", async () => {
    const gate = Promise.withResolvers<void>();
    const outcome: string[] = [];
    const { server, publish } = await site((target) => {
      target.subscribe("slow", async () => {
        await gate.promise;
        outcome.push("finished");
      });
      target.subscribe("stuck", async (_event, context) => {
        await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
        outcome.push(`cancelled: ${(context.signal.reason as MicroError).code}`);
      });
    });
    await publish("slow", "{}");
    const draining = server.drain(10_000);
    gate.resolve();
    expect(await draining).toBe(true);
    expect(outcome).toEqual(["finished"]);
    await server.stop();
    await server.start();
    await publish("stuck", "{}");
    await server.stop();
    await waitFor(() => outcome.length === 2);
    expect(outcome[1]).toBe("cancelled: closed");
  });

  it("does not start where its broker cannot be reached, and leaves nothing behind", async () => {
    const network = memoryBrokerNetwork();
    const dead = memoryBroker({ network });
    await dead.disconnect();
    const broker = made.use(memoryBroker({ network }));
    let given: Broker = dead;
    const seen: string[] = [];
    const host = served((server) => void server.subscribe("t", () => void seen.push("t")), { broker: () => given });
    await expect(host).rejects.toMatchObject({
      code: "closed",
      detail: "Broker [memory] cannot be connected: the memory broker is disconnected",
    });
    given = broker;
    const alone = made.use(await served((server) => void server.subscribe("t", () => {}), { broker: () => given }));
    expect(alone.server.address).toBeDefined();
    // Without subscribers nobody asks for it.
    given = dead;
    made.use(await served(() => {}, { broker: () => given }));
  });

  it("ends a start that waits for its broker when it is stopped", async () => {
    const connecting = Promise.withResolvers<void>();
    const inner = made.use(memoryBroker());
    const broker = Object.assign(Object.create(inner) as Broker, {
      connect: ({ signal }: { signal: AbortSignal }) => {
        connecting.resolve();
        return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
      },
    });
    let server: Server | undefined;
    const starting = served(
      (target) => {
        server = target;
        target.subscribe("t", () => {});
      },
      { broker },
    );
    starting.catch(() => {});
    await connecting.promise;
    await server?.stop();
    await expect(starting).rejects.toMatchObject({ code: "aborted" });
  });
});

/** How a peer sends one over the transport. */
const event = (topic: string, init: object = {}) => ({ topic, header: new Metadata(json), ...init });

describe("an event over the transport", () => {
  it("runs the subscribers of its topic and is answered with nothing", async () => {
    const seen: unknown[] = [];
    const host = await site((server) => {
      server.subscribe(UserCreated, (user, context, delivery) => {
        seen.push(user, context.endpoint, context.remote, context.metadata.get("Content-Type"), delivery.attempt);
      });
      server.subscribe("user.created", { all: ({ id }: { id: number }) => void seen.push(id) });
      server.subscribe("other", () => void seen.push("other"));
    });
    const answer = await host.call("", { id: 7 }, event("user.created"));
    expect(answer).toEqual({ contentType: undefined, body: expect.toSatisfy((body) => (body as Buffer).length === 0) });
    expect(seen).toEqual([{ id: 7, name: "nobody" }, "user.created", "127.0.0.1:2", "application/json", 1, 7]);
    expect(host.server.stats).toMatchObject({ requests: 1, errors: 0, inFlight: 0 });
  });

  it("is refused with Go's text if a subscriber fails, after all have run", async () => {
    const seen: string[] = [];
    const host = await site((server) => {
      server.subscribe("t", () => {
        throw new Error("a");
      });
      server.subscribe("t", async () => {
        await new Promise((resolve) => void setImmediate(resolve));
        throw new Error("b");
      });
      server.subscribe("t", () => void seen.push("c"));
      server.subscribe("t", (_event, _context, delivery) => delivery.nack(new Error("d")), { autoAck: false });
      server.subscribe("t", (_event, _context, delivery) => delivery.ack(), { autoAck: false });
    });
    const answer = await host.call("", {}, event("t"));
    expect(answer.error).toBe(
      '{"id":"go.micro.server","code":500,"detail":"subscriber error: a\\nb\\nd","status":"Internal Server Error"}',
    );
    expect(answer.body).toHaveLength(0);
    expect(seen).toEqual(["c"]);
    expect(host.server.stats).toMatchObject({ requests: 1, errors: 1, inFlight: 0 });
  });

  it("waits where as many run as may, and never runs when its caller has left meanwhile", async () => {
    const running: { readonly id: number; end(): void }[] = [];
    const host = await site((server) => {
      server.subscribe(
        "t",
        ({ id }: { id: number }) => new Promise<void>((resolve) => void running.push({ id, end: resolve })),
        { concurrency: 2 },
      );
    });
    const calls = [1, 2, 3, 4].map((id) => host.exchange("", { id }, event("t")));
    await waitFor(() => running.length === 2);
    calls[2]!.leave();
    running[0]!.end();
    await waitFor(() => running.length === 3);
    expect(running.map(({ id }) => id)).toEqual([1, 2, 4]);
    for (const each of running) each.end();
    for (const index of [0, 1, 3]) expect((await calls[index]!.answer).error).toBeUndefined();
    const flood = Array.from({ length: 1_030 }, (_, id) => host.exchange("", { id }, event("t")));
    const late = await flood.at(-1)!.answer;
    expect(late.error).toContain("the subscription to t is overloaded");
    expect(running.length).toBe(5);
    for (const each of flood) each.leave();
    for (const each of running) each.end();
    await waitFor(() => host.server.stats.inFlight === 0);
  });

  it("of an unknown topic is a success, of an unreadable body an error", async () => {
    const host = await site((server) => void server.subscribe(UserCreated, () => {}));
    expect(await host.call("", {}, event("nobody", { contentType: "application/x" }))).toEqual({
      body: new Uint8Array(0),
    });
    const unknown = await host.call("", {}, event("user.created", { contentType: "application/x" }));
    expect(unknown.error).toContain("topic user.created: unsupported Content-Type: application/x");
    const wrong = await host.call("", { id: "7" }, event("user.created"));
    expect(wrong.error).toContain("topic user.created: id: expected number, received string");
    const rpc = await host.call("", { id: 7 }, event("user.created", { contentType: "application/json-rpc" }));
    expect(rpc.error).toBeUndefined();
  });

  it("is cancelled with its caller, and finished before the server has drained", async () => {
    const started = Promise.withResolvers<AbortSignal>();
    const gate = Promise.withResolvers<void>();
    const host = await site((server) => {
      server.subscribe("t", async (_event, context) => {
        started.resolve(context.signal);
        await gate.promise;
      });
    });
    const peer = host.exchange("", {}, event("t"));
    const signal = await started.promise;
    const draining = host.server.drain(10_000);
    peer.cancellation.cancel(new MicroError("gone", { code: "aborted" }));
    expect(signal.aborted).toBe(true);
    gate.resolve();
    expect(await draining).toBe(true);
    await peer.answer;
  });
});
