/** What every server must do, whatever wire is below it. */
import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import {
  type Broker,
  type Subscriber,
  memoryBroker,
  type CallOptions,
  type Client,
  type ClientStream,
  type Context,
  contextKey,
  currentContext,
  type MethodDefinition,
  type MethodKind,
  type ServiceDefinition,
  type ErrorCode,
  MicroError,
  errors,
  checkOptionNames,
  bidiHandler,
  clientStreamHandler,
  brokerEvent,
  type PlainHandler,
  type Server,
  type ServerOptions,
  defineTopic,
} from "@micro/core";
import { handleOneOfEachKind } from "./one-of-each-kind.ts";
import { type Skips, type TestRunner, defineSuite } from "./runner.ts";

/** Options a server under test is made with. Its name is always `test`. */
export type ServerUnderTestOptions = Pick<
  ServerOptions,
  "address" | "wrapHandler" | "maxConcurrency" | "maxMessageBytes" | "broker" | "wrapSubscriber"
>;

/** What the suite is handed for each test; disposing it disposes client and servers. */
export interface ServerFixture extends AsyncDisposable {
  /** A server named `test`, not started, with these options over a dialable default address. */
  server(options?: ServerUnderTestOptions): Server;
  /** Reaches servers by the `address` of its call options. */
  readonly client: Client;
}

export interface ServerConformanceOptions {
  /** Tests that do not apply, with the reason. */
  skip?: Skips | undefined;
}

const mark = contextKey<number>("mark");

interface Remote {
  readonly call: (endpoint: string, request?: unknown, options?: CallOptions) => Promise<any>;
  readonly stream: (endpoint: string, options?: CallOptions) => Promise<ClientStream>;
}

/** How long a condition may take to come true. */
const patienceMs = 10_000;

async function until(condition: () => boolean, what: string): Promise<void> {
  const limit = performance.now() + patienceMs;
  while (!condition()) {
    assert.ok(performance.now() < limit, `waited in vain: ${what}`);
    await turn();
  }
}

async function failure(promise: Promise<unknown>): Promise<MicroError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(MicroError.is(error), `not a MicroError: ${String(error)}`);
    return error;
  }
  throw new assert.AssertionError({ message: "an error was expected" });
}

async function fails(promise: Promise<unknown>, code: ErrorCode): Promise<MicroError> {
  const error = await failure(promise);
  assert.equal(error.code, code, `${error.code}: ${error.detail}`);
  return error;
}

function remote(fixture: ServerFixture, address: string | undefined): Remote {
  assert.ok(address !== undefined && address !== "", "a started server has an address");
  const fixed = { address, retries: 0, timeoutMs: patienceMs };
  return {
    call: (endpoint, request = {}, options) => fixture.client.call("test", endpoint, request, { ...fixed, ...options }),
    stream: (endpoint, options) => fixture.client.stream("test", endpoint, { ...fixed, ...options }),
  };
}

async function start(
  fixture: ServerFixture,
  register: (server: Server) => void,
  options?: ServerUnderTestOptions,
): Promise<Remote & { server: Server }> {
  const server = fixture.server(options);
  register(server);
  await server.start();
  return { server, ...remote(fixture, server.address) };
}

async function readAll(stream: ClientStream): Promise<unknown[]> {
  const messages: unknown[] = [];
  for await (const message of stream) messages.push(message);
  return messages;
}

function whenAborted({ signal }: Context): Promise<MicroError> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(signal.reason as MicroError);
    signal.addEventListener("abort", () => resolve(signal.reason as MicroError));
  });
}

function definition(kind: MethodKind, validate?: (message: unknown) => unknown): ServiceDefinition {
  const request: MethodDefinition["request"] = {
    name: "Request",
    value: { name: "Request", type: "Request", values: [{ name: "text", type: "string", values: null }] },
    validate,
  };
  const call: MethodDefinition = { name: "Call", kind, request, response: { name: "Response" } };
  return { service: "test", type: "Typed", contentType: "application/json", methods: { call } };
}

function validText(message: unknown): unknown {
  const { text } = message as { text?: unknown };
  if (typeof text !== "string") throw errors.badRequest("", "text: expected a string");
  return { text: text.trim() };
}

function validNumber(message: unknown): unknown {
  if (typeof (message as { n?: unknown }).n !== "number") throw errors.badRequest("", "n: expected a number");
  return message;
}

/** Handlers that answer when they are told, in the order they came. */
class Gate {
  readonly running: (() => void)[] = [];
  readonly handler = (request: unknown): Promise<unknown> =>
    new Promise((resolve) => {
      this.running.push(() => resolve(request));
    });
}

/**
 * Hold a server to the contract of `Server`, through a client by name with JSON messages.
 * @throws {TypeError} if `skip` names no test or gives no reason.
 */
export function serverConformance(
  runner: TestRunner,
  create: () => Promise<ServerFixture>,
  options: ServerConformanceOptions = {},
): void {
  checkOptionNames("serverConformance", options, { skip: true });
  defineSuite<ServerFixture>(
    runner,
    "server conformance",
    create,
    {
      ...registrationCases,
      ...unaryCases,
      ...streamCases,
      ...kindCases,
      ...limitCases,
      ...lifecycleCases,
      ...eventCases,
    },
    options.skip,
  );
}

type Cases = Readonly<Record<string, (fixture: ServerFixture) => Promise<void>>>;

const registrationCases: Cases = {
  async "handlers are registered by name, one by one, as objects, as class instances and by definition"(fixture) {
    class Greeter {
      readonly greeting = "Hello";
      hello({ name }: { name: string }): unknown {
        return { msg: `${this.greeting} ${name}` };
      }
    }
    const { call } = await start(fixture, (server) => {
      server.handle("say.hello", () => ({ a: 1 }));
      server.handle("Other", { hello: () => ({ b: 2 }) });
      server.handle(new Greeter());
      server.handle(definition("unary"), { call: ({ text }: { text: string }) => ({ text }) });
    });
    assert.deepEqual(await call("Say.Hello"), { a: 1 });
    assert.deepEqual(await call("Other.Hello"), { b: 2 });
    assert.deepEqual(await call("Greeter.Hello", { name: "John" }), { msg: "Hello John" });
    assert.deepEqual(await call("Typed.Call", { text: "x" }), { text: "x" });
  },

  async "a name that is taken or has the wrong form is a TypeError"(fixture) {
    const server = fixture.server();
    server.handle("Say", { hello: () => ({}) });
    const handlers: [string, PlainHandler | Readonly<Record<string, unknown>>][] = [
      ["Say", { bye: () => ({}) }],
      ["Say.Hello", () => ({})],
      ["A.B.C", () => ({})],
      ["", {}],
      ["A b", { c: () => ({}) }],
      ["Empty", {}],
    ];
    for (const [name, handler] of handlers) assert.throws(() => server.handle(name, handler), TypeError, name);
  },

  async "endpoints are listed by type, then method, with types and metadata, without internal ones"(fixture) {
    const { server, call } = await start(fixture, (target) => {
      target.handle("Zebra", { run: () => ({}), *count() {} }, { metadata: { Run: { owner: "team-a" } } });
      target.handle("Inside", { look: () => ({ ok: true }) }, { internal: true });
      target.handle(definition("unary"), { call: () => ({}) });
    });
    const endpoints = server.endpoints();
    assert.deepEqual(
      endpoints.map(({ name, metadata }) => [name, { ...metadata }]),
      [
        ["Typed.Call", {}],
        ["Zebra.Count", { stream: "true" }],
        ["Zebra.Run", { owner: "team-a" }],
      ],
    );
    assert.deepEqual(endpoints[0]?.request?.values, [{ name: "text", type: "string", values: null }]);
    assert.deepEqual(await call("Inside.Look"), { ok: true });
  },
};

const unaryCases: Cases = {
  async "a handler may answer at once, later, or with nothing"(fixture) {
    const { call, server } = await start(fixture, (target) =>
      target.handle("Echo", {
        now: (request: unknown) => request,
        async later(request: unknown) {
          await turn();
          return request;
        },
        nothing() {},
      }),
    );
    const message = { text: "héllo 你好", list: [1, 2, 3], nested: { on: true } };
    assert.deepEqual(await call("Echo.Now", message), message);
    assert.deepEqual(await call("Echo.Later", message), message);
    assert.deepEqual(await call("Echo.Nothing"), {});
    await until(() => server.stats.inFlight === 0, "no call is in flight");
    assert.deepEqual({ ...server.stats }, { requests: 3, errors: 0, inFlight: 0 });
  },

  async "64 callers at once get the answers to their own requests"(fixture) {
    const { call } = await start(fixture, (target) =>
      target.handle("Echo.Later", async (request: { i: number }) => {
        for (let turns = request.i % 3; turns > 0; turns--) await turn();
        return request;
      }),
    );
    const numbers = Array.from({ length: 64 }, (_, i) => i);
    const answers = await Promise.all(numbers.map((i) => call("Echo.Later", { i })));
    assert.deepEqual(
      answers,
      numbers.map((i) => ({ i })),
    );
  },

  async "an error of a handler reaches the caller with id, code, detail and status"(fixture) {
    const { call } = await start(fixture, (target) =>
      target.handle("Fail", {
        coded() {
          throw errors.badRequest("com.example.srv", "invalid field");
        },
        async bare() {
          throw new MicroError("taken", { code: "conflict" });
        },
      }),
    );
    const coded = await fails(call("Fail.Coded"), "bad_request");
    assert.deepEqual(coded.toJSON(), {
      id: "com.example.srv",
      code: 400,
      detail: "invalid field",
      status: "Bad Request",
    });
    assert.equal((await fails(call("Fail.Bare"), "conflict")).id, "test");
  },

  async "a plain error becomes a 500 of the service with its message and nothing else"(fixture) {
    const { call, server } = await start(fixture, (target) =>
      target.handle("Fail", {
        thrown() {
          throw new Error("boom", { cause: new Error("secret") });
        },
        async rejected() {
          throw new Error("boom", { cause: new Error("secret") });
        },
      }),
    );
    for (const endpoint of ["Fail.Thrown", "Fail.Rejected"]) {
      const error = await fails(call(endpoint), "internal");
      assert.deepEqual(error.toJSON(), {
        id: "test",
        code: 500,
        detail: "boom",
        status: "Internal Server Error",
      });
    }
    await until(() => server.stats.errors === 2, "both calls count as failed");
  },

  async "whatever a handler throws reaches the caller in words, as a 500 that ran once"(fixture) {
    const self: Record<string, unknown> = {};
    const thrown: readonly [value: unknown, detail: string][] = [
      [new Error("two\nlines, größer"), "two\nlines, größer"],
      [new Error("EOS"), "EOS"],
      [new Error('{"id":"x","code":401,"detail":"y"}'), '{"id":"x","code":401,"detail":"y"}'],
      [new TypeError(""), "TypeError"],
      ["a text", "a text"],
      ["", "an empty text was thrown"],
      [undefined, "undefined was thrown"],
      [null, "null was thrown"],
      [7, "7 was thrown"],
      [{ secret: "x" }, "an object that is no error was thrown"],
      [Object.create(null), "an object that is no error was thrown"],
    ];
    let runs = 0;
    const { call, stream } = await start(fixture, (target) => {
      target.handle("Fail.Call", ({ i }: { i: number }) => {
        runs++;
        throw thrown[i]![0];
      });
      target.handle("Fail.Later", async ({ i }: { i: number }) => {
        runs++;
        throw thrown[i]![0];
      });
      target.handle("Fail.Stream", async function* ({ i }: { i: number }) {
        runs++;
        yield {};
        throw thrown[i]![0];
      });
      target.handle("Fail.Answer", () => {
        runs++;
        return Object.assign(self, { self });
      });
    });
    for (const [i, [, detail]] of thrown.entries()) {
      for (const endpoint of ["Fail.Call", "Fail.Later"]) {
        const error = await fails(call(endpoint, { i }), "internal");
        assert.deepEqual([error.id, error.statusCode, error.detail], ["test", 500, detail]);
      }
      await using failing = await stream("Fail.Stream");
      await failing.send({ i });
      await failing.receive();
      assert.equal((await fails(failing.receive(), "internal")).detail, detail);
    }
    assert.match((await fails(call("Fail.Answer"), "internal")).detail, /^Unable to encode body: /);
    assert.equal(runs, 3 * thrown.length + 1);
  },

  async "an endpoint that does not exist is not_found, and names what is missing"(fixture) {
    const { call } = await start(fixture, (target) => target.handle("Say.Hello", () => ({})));
    assert.match((await fails(call("Nobody.Hello"), "not_found")).detail, /Nobody/);
    assert.match((await fails(call("Say.Nothing"), "not_found")).detail, /Nothing/);
  },

  async "a request its type refuses is a bad_request that names the field, and never reaches the handler"(fixture) {
    let ran = 0;
    const { call } = await start(fixture, (target) =>
      target.handle(definition("unary", validText), {
        call({ text }: { text: string }) {
          ran++;
          return { text };
        },
      }),
    );
    assert.deepEqual(await call("Typed.Call", { text: " x " }), { text: "x" });
    const error = await fails(call("Typed.Call", { text: 7 }), "bad_request");
    assert.match(error.detail, /^text: /);
    assert.equal(error.id, "test");
    assert.equal(ran, 1);
  },

  async "a handler sees service, endpoint, metadata, deadline and the caller's address"(fixture) {
    let seen: Context | undefined;
    const { call } = await start(fixture, (target) =>
      target.handle("Look.At", async (_: unknown, context: Context) => {
        seen = context;
        await turn();
        return { current: currentContext() === context };
      }),
    );
    assert.deepEqual(await call("Look.At", {}, { metadata: { "x-user-id": "größe 7" }, timeoutMs: 5_000 }), {
      current: true,
    });
    assert.equal(seen?.service, "test");
    assert.equal(seen?.endpoint, "Look.At");
    assert.equal(seen?.metadata.get("X-User-Id"), "größe 7");
    assert.ok(seen?.remainingMs !== undefined && seen.remainingMs <= 5_000);
    assert.notEqual(seen?.remote, "");
  },

  async "wrappers run with the first listed outermost, and hand values to the handler"(fixture) {
    const account = contextKey<string>("account");
    const order: string[] = [];
    const { call } = await start(
      fixture,
      (target) =>
        target.handle("Look.At", (_: unknown, context: Context) => ({
          account: context.get(account),
          current: currentContext() === context,
        })),
      {
        wrapHandler: [
          (next) => async (request, context) => {
            order.push(`first ${context.endpoint}`);
            const answer: unknown = await next(request, context.with(account, "john"));
            order.push("first is done");
            return answer;
          },
          (next) => (request, context) => {
            order.push(`second ${currentContext()?.get(account) ?? ""}`);
            return next(request, context) as unknown;
          },
        ],
      },
    );
    assert.deepEqual(await call("Look.At"), { account: "john", current: true });
    assert.deepEqual(order, ["first Look.At", "second john", "first is done"]);
  },

  async "wrappers see a stream until it ends, with what was sent and received, and how it failed"(fixture) {
    const seen: unknown[] = [];
    const { call, stream, server } = await start(
      fixture,
      (target) => {
        target.handle("Echo.Now", (request) => request);
        target.handle("Count.Up", async function* ({ to }: { to: number }, context: Context) {
          for (let i = 1; i <= to; i++) {
            await turn();
            yield { i, value: currentContext()?.get(mark), same: context === currentContext() };
          }
          if (to === 3) throw errors.conflict("here", "enough");
          if (to === 9) await whenAborted(context);
        });
        target.handle("Chat", {
          echo: bidiHandler(async function* (messages) {
            for await (const message of messages) yield message;
          }),
        });
      },
      {
        wrapHandler: [
          (next) => async (request, context) => {
            try {
              const result: unknown = await next(request, context);
              seen.push(["end", context.endpoint, result]);
              return result;
            } catch (error) {
              seen.push(["error", context.endpoint, (error as MicroError).code]);
              throw error;
            }
          },
          (next) => (request, context) => next(request, context.with(mark, 7)) as unknown,
          (next) => async (request, context) => next(request, context) as unknown,
        ],
      },
    );
    await using up = await stream("Count.Up");
    await up.send({ to: 2 });
    assert.deepEqual(await readAll(up), [
      { i: 1, value: 7, same: true },
      { i: 2, value: 7, same: true },
    ]);
    await using failing = await stream("Count.Up");
    await failing.send({ to: 3 });
    await fails(readAll(failing), "conflict");
    await using chat = await stream("Chat.Echo");
    for (let i = 0; i < 3; i++) {
      await chat.send({ i });
      await chat.receive();
    }
    chat.closeSend();
    assert.equal(await chat.receive(), undefined);
    assert.deepEqual(await call("Echo.Now", { a: 1 }), { a: 1 });
    const left = await stream("Count.Up");
    await left.send({ to: 9 });
    await left.receive();
    left.cancel();
    await until(() => server.stats.inFlight === 0 && seen.length === 5, "the wrappers have seen every end");
    assert.deepEqual(seen, [
      ["end", "Count.Up", { sent: 2, received: 1 }],
      ["error", "Count.Up", "conflict"],
      ["end", "Chat.Echo", { sent: 3, received: 3 }],
      ["end", "Echo.Now", { a: 1 }],
      ["error", "Count.Up", "aborted"],
    ]);
  },

  async "a wrapper may answer a stream with messages of its own, or change those of the handler"(fixture) {
    const { stream } = await start(
      fixture,
      (target) =>
        target.handle("Count.Up", function* () {
          yield { i: 1 };
          yield { i: 2 };
        }),
      {
        wrapHandler: [
          (next) =>
            async function* (request, context) {
              for await (const { i } of next(request, context) as AsyncIterable<{ i: number }>) yield { i: i * 10 };
              yield { i: 30 };
            },
        ],
      },
    );
    await using up = await stream("Count.Up");
    await up.send({});
    assert.deepEqual(await readAll(up), [{ i: 10 }, { i: 20 }, { i: 30 }]);
  },

  async "a caller that gives up aborts the handler's signal"(fixture) {
    let reason: MicroError | undefined;
    const { call, server } = await start(fixture, (target) =>
      target.handle("Slow.Call", async (_: unknown, context: Context) => {
        reason = await whenAborted(context);
        throw reason;
      }),
    );
    const abort = new AbortController();
    const pending = call("Slow.Call", {}, { signal: abort.signal });
    const failed = fails(pending, "aborted");
    await until(() => server.stats.inFlight === 1, "the handler runs");
    abort.abort();
    await failed;
    await until(() => server.stats.inFlight === 0, "the handler has ended");
    assert.equal(reason?.code, "aborted");
  },

  async "a deadline that passes aborts the handler's signal"(fixture) {
    let reason: MicroError | undefined;
    const { call, server } = await start(fixture, (target) =>
      target.handle("Slow.Call", async (_: unknown, context: Context) => {
        reason = await whenAborted(context);
        throw reason;
      }),
    );
    await fails(call("Slow.Call", {}, { timeoutMs: 300 }), "timeout");
    await until(() => server.stats.inFlight === 0, "the handler has ended");
    assert.ok(reason?.code === "timeout" || reason?.code === "aborted", `the signal's reason is ${reason?.code}`);
  },

  async "a message above the limit is refused, and the server goes on"(fixture) {
    const { call } = await start(fixture, (target) => target.handle("Echo.Now", (request) => request), {
      maxMessageBytes: 10_000,
    });
    await fails(call("Echo.Now", { text: "x".repeat(20_000) }), "too_large");
    assert.deepEqual(await call("Echo.Now", { text: "x" }), { text: "x" });
  },

  async "a message above 4 MiB is refused unless the server, or its endpoint, is told to take it"(fixture) {
    let runs = 0;
    const size = ({ text }: { text: string }): unknown => ({ bytes: text.length, runs: ++runs });
    const bytes = 4 * 1024 * 1024;
    const { call } = await start(fixture, (target) => target.handle("Measure.Text", size));
    await fails(call("Measure.Text", { text: "x".repeat(bytes) }), "too_large");
    assert.deepEqual(await call("Measure.Text", { text: "x".repeat(bytes - 100) }), { bytes: bytes - 100, runs: 1 });
    const chat = bidiHandler(async function* (messages) {
      for await (const { text } of messages) yield { bytes: text.length };
    });
    const raised = await start(fixture, (target) => {
      target.handle("Measure.Text", size);
      target.handle("Measure.Small", size, { maxMessageBytes: 1_000 });
      target.handle("Large", { text: size, chat }, { maxMessageBytes: 2 * bytes });
      target.handle("Chat.Text", chat);
    });
    const text = "x".repeat(bytes);
    assert.deepEqual(await raised.call("Large.Text", { text }), { bytes, runs: 2 });
    await fails(raised.call("Measure.Text", { text }), "too_large");
    await fails(raised.call("Measure.Small", { text: "x".repeat(1_000) }), "too_large");
    await fails(raised.call("Large.Text", { text: text + text }), "too_large");
    await using large = await raised.stream("Large.Chat");
    await large.send({ text });
    assert.deepEqual(await large.receive(), { bytes });
    await using small = await raised.stream("Chat.Text");
    await small.send({ text: "x" });
    assert.deepEqual(await small.receive(), { bytes: 1 });
    await small.send({ text });
    await fails(small.receive(), "too_large");
    assert.equal(runs, 2);
  },
};

const streamCases: Cases = {
  async "a server stream sends what the handler yields, in order, and ends"(fixture) {
    const { stream, server } = await start(fixture, (target) =>
      target.handle("Count", {
        async *up({ to }: { to: number }) {
          for (let i = 1; i <= to; i++) yield { i };
        },
        *down({ from }: { from: number }) {
          for (let i = from; i > 0; i--) yield { i };
        },
      }),
    );
    await using up = await stream("Count.Up");
    await up.send({ to: 1000 });
    assert.deepEqual(
      await readAll(up),
      Array.from({ length: 1000 }, (_, i) => ({ i: i + 1 })),
    );
    await using down = await stream("Count.Down");
    await down.send({ from: 2 });
    assert.deepEqual(await readAll(down), [{ i: 2 }, { i: 1 }]);
    await until(() => server.stats.inFlight === 0, "no stream is in flight");
    assert.equal(server.stats.errors, 0);
  },

  async "a client stream is answered once the caller has finished"(fixture) {
    const sum = clientStreamHandler(async (numbers: AsyncIterable<{ n: number }>) => {
      let total = 0;
      for await (const { n } of numbers) total += n;
      return { total };
    });
    const { stream } = await start(fixture, (target) => target.handle("Math", { sum }));
    await using adding = await stream("Math.Sum");
    for (const n of [1, 2, 3]) await adding.send({ n });
    adding.closeSend();
    assert.deepEqual(await readAll(adding), [{ total: 6 }]);
  },

  async "a bidirectional stream answers message by message"(fixture) {
    const echo = bidiHandler(async function* (messages) {
      for await (const message of messages) yield message;
    });
    const { stream } = await start(fixture, (target) => target.handle("Chat", { echo }));
    await using chat = await stream("Chat.Echo");
    for (let i = 0; i < 100; i++) {
      await chat.send({ i });
      assert.deepEqual(await chat.receive(), { i });
    }
    chat.closeSend();
    assert.equal(await chat.receive(), undefined);
  },

  async "an error ends a stream after what was sent before it"(fixture) {
    const { stream, server } = await start(fixture, (target) =>
      target.handle("Fail.After", async function* () {
        yield { i: 1 };
        throw errors.conflict("here", "enough");
      }),
    );
    await using failing = await stream("Fail.After");
    await failing.send({});
    assert.deepEqual(await failing.receive(), { i: 1 });
    assert.equal((await fails(failing.receive(), "conflict")).id, "here");
    await until(() => server.stats.errors === 1, "the stream counts as failed");
  },

  async "a caller that leaves a stream closes the handler's iterator and aborts its signal"(fixture) {
    const events: string[] = [];
    const { stream, server } = await start(fixture, (target) =>
      target.handle("Count.Up", async function* (_: unknown, { signal }: Context) {
        signal.addEventListener("abort", () => events.push("aborted"));
        try {
          for (let i = 0; ; i++) {
            yield { i };
            await turn();
          }
        } finally {
          events.push("closed");
        }
      }),
    );
    const counting = await stream("Count.Up");
    await counting.send({});
    assert.deepEqual(await counting.receive(), { i: 0 });
    counting.cancel();
    await until(() => server.stats.inFlight === 0, "the handler has ended");
    assert.deepEqual(events.toSorted(), ["aborted", "closed"]);
    assert.equal(server.stats.errors, 0);
  },

  async "a handler is not pulled ahead of a caller that does not read"(fixture) {
    let pulled = 0;
    const text = "x".repeat(1024);
    const { stream, server } = await start(fixture, (target) =>
      target.handle("Count.Up", function* () {
        for (;;) yield { i: pulled++, text };
      }),
    );
    const counting = await stream("Count.Up");
    await counting.send({});
    assert.ok(await counting.receive());
    // Without backpressure this loop would never get a turn, or the count would run away.
    for (let turns = 0, before = -1; turns < 20; turns = before === pulled ? turns + 1 : 0) {
      before = pulled;
      await turn();
      assert.ok(pulled < 100_000, "the server buffers without bound");
    }
    counting.cancel();
    await until(() => server.stats.inFlight === 0, "the handler has ended");
  },

  async "a message its type refuses ends the stream with bad_request"(fixture) {
    const { stream } = await start(fixture, (target) =>
      target.handle(definition("bidi", validNumber), {
        async *call(messages: AsyncIterable<unknown>) {
          for await (const message of messages) yield message;
        },
      }),
    );
    await using typed = await stream("Typed.Call");
    await typed.send({ n: 1 });
    assert.deepEqual(await typed.receive(), { n: 1 });
    await typed.send({ n: "1" });
    assert.match((await fails(typed.receive(), "bad_request")).detail, /^n: /);
  },
};

const kindCases: Cases = {
  async "calling a stream, and opening a stream of what is none, is told at once and runs nothing"(fixture) {
    const runs: string[] = [];
    const { call, stream } = await start(fixture, (target) => handleOneOfEachKind(target, runs));
    for (const [endpoint, kind] of [
      ["Count", "server"],
      ["Sum", "client"],
      ["Chat", "bidirectional"],
    ] as const) {
      const error = await fails(call(`Greeter.${endpoint}`), "bad_request");
      assert.equal(error.detail, `Greeter.${endpoint} is a ${kind} stream: use service.stream`);
    }
    await using opened = await stream("Greeter.Hello");
    const error = await fails(opened.receive(), "bad_request");
    assert.equal(error.detail, "Greeter.Hello is a unary call, no stream: use service.call");
    assert.deepEqual(runs, []);
    assert.deepEqual(await call("Greeter.Hello"), {});
  },
};

async function* stayOpen(_: unknown, { signal }: Context): AsyncGenerator {
  yield {};
  await new Promise((resolve) => signal.addEventListener("abort", resolve));
}

const limitCases: Cases = {
  async "a full server queues as many calls as it runs and refuses the rest as unavailable"(fixture) {
    const gate = new Gate();
    const { call, server } = await start(fixture, (target) => target.handle("Slow.Call", gate.handler), {
      maxConcurrency: 1,
    });
    const outcomes: string[] = [];
    const calls = [1, 2, 3].map((i) =>
      call("Slow.Call", { i }).then(
        () => outcomes.push("answered"),
        (error: MicroError) => outcomes.push(error.code),
      ),
    );
    await until(() => outcomes.length === 1, "one call is refused");
    assert.deepEqual(outcomes, ["unavailable"]);
    assert.equal(server.stats.inFlight, 1);
    for (let opened = 0; opened < 2; opened++) {
      await until(() => gate.running.length > opened, "the next call runs");
      gate.running[opened]?.();
    }
    await Promise.all(calls);
    assert.deepEqual(outcomes, ["unavailable", "answered", "answered"]);
    assert.equal(gate.running.length, 2);
  },

  async "streams that are idle take no places of calls"(fixture) {
    const gate = new Gate();
    const { call, stream } = await start(
      fixture,
      (target) => {
        target.handle("Slow.Call", gate.handler);
        target.handle("Stay.Open", stayOpen);
      },
      { maxConcurrency: 1 },
    );
    await using running = await stream("Stay.Open");
    await running.send({});
    await using waiting = await stream("Stay.Open");
    await waiting.send({});
    const first = call("Slow.Call", { i: 1 });
    await until(() => gate.running.length === 1, "a call beside them");
    gate.running[0]?.();
    assert.deepEqual(await first, { i: 1 });
  },

  async "a call whose deadline passes in the queue is never run"(fixture) {
    const ran: unknown[] = [];
    const gate = Promise.withResolvers<void>();
    const { call, server } = await start(
      fixture,
      (target) =>
        target.handle("Slow.Call", async (request) => {
          ran.push(request);
          await gate.promise;
          return request;
        }),
      { maxConcurrency: 1 },
    );
    const first = call("Slow.Call", { i: 1 });
    await until(() => ran.length === 1, "the first call runs");
    await fails(call("Slow.Call", { i: 2 }, { timeoutMs: 50 }), "timeout");
    // Nothing tells when the deadline passes in the queue; the server's clock for the call began when it arrived. By the time a
    // later call with more time has failed, it has passed there as well.
    await fails(call("Slow.Call", { i: 3 }, { timeoutMs: 500 }), "timeout");
    gate.resolve();
    assert.deepEqual(await first, { i: 1 });
    await until(() => server.stats.inFlight === 0, "no call is in flight");
    assert.ok(!ran.some((request) => (request as { i?: unknown }).i === 2));
  },
};

const lifecycleCases: Cases = {
  async "a server has an address between start and stop, and the port is free afterwards"(fixture) {
    const server = fixture.server();
    server.handle("Say.Hello", () => ({}));
    assert.equal(server.address, undefined);
    await server.start();
    const { address } = server;
    assert.ok(address);
    await server.stop();
    await server.stop();
    assert.equal(server.address, undefined);
    await fails(remote(fixture, address).call("Say.Hello"), "unavailable");
    const next = await start(fixture, (target) => target.handle("Say.Hello", () => ({ again: true })), { address });
    assert.deepEqual(await next.call("Say.Hello"), { again: true });
  },

  async "starting on an address that is taken fails with unavailable"(fixture) {
    const { server } = await start(fixture, () => {});
    await fails(fixture.server({ address: server.address }).start(), "unavailable");
  },

  async "a start that holds refuses calls, streams and events as not run until it is admitted"(fixture) {
    await using broker = memoryBroker();
    let runs = 0;
    const server = fixture.server({ broker });
    server.handle("Say.Hello", () => ({ runs: ++runs }));
    server.handle("Count.Up", function* () {
      yield { runs: ++runs };
    });
    await server.start({ hold: true });
    const { call, stream } = remote(fixture, server.address);
    const opened = async (): Promise<void> => {
      await using counting = await stream("Count.Up");
      await counting.receive();
    };
    for (const refused of [call("Say.Hello"), opened()])
      assert.equal((await fails(refused, "unavailable")).notRun, true);
    assert.deepEqual([runs, { ...server.stats }], [0, { requests: 0, errors: 0, inFlight: 0 }]);
    server.admit();
    server.admit();
    assert.deepEqual(await call("Say.Hello"), { runs: 1 });
    server.refuse();
    server.admit();
    await fails(call("Say.Hello"), "unavailable");
    assert.equal(runs, 1);
  },

  async "a server refuses calls while it subscribes; where that fails, handlers of events may finish"(fixture) {
    await using broker = memoryBroker();
    const gate = new Gate();
    const refused = Promise.withResolvers<void>();
    let runs = 0;
    const server = fixture.server({ broker: refusing(broker, "refused", refused.promise) });
    server.handle("Say.Hello", () => ({ runs: ++runs }));
    server.subscribe("t", async (event) => void (await gate.handler(event)));
    server.subscribe("refused", () => {});
    const starting = server.start();
    await until(() => server.address !== undefined, "the port is bound");
    await fails(remote(fixture, server.address).call("Say.Hello"), "unavailable");
    await send(broker, "t", {});
    await until(() => gate.running.length === 1, "the event is handled");
    let ended = false;
    const failed = fails(starting, "forbidden").finally(() => (ended = true));
    refused.reject(new MicroError("not yours", { code: "forbidden" }));
    for (let turns = 0; turns < 20; turns++) await turn();
    assert.equal(ended, false);
    gate.running[0]?.();
    await failed;
    assert.deepEqual([runs, server.address], [0, undefined]);
  },

  async "refuse turns new calls away as unavailable and lets running ones finish; drain waits for them"(fixture) {
    const gate = new Gate();
    const { call, stream, server } = await start(fixture, (target) => {
      target.handle("Slow.Call", gate.handler);
      target.handle("Count.Up", function* () {
        yield {};
      });
    });
    const running = call("Slow.Call", { i: 1 });
    await until(() => gate.running.length === 1, "the call runs");
    server.refuse();
    await fails(call("Slow.Call", { i: 2 }), "unavailable");
    const opened = async (): Promise<void> => {
      await using counting = await stream("Count.Up");
      await counting.receive();
    };
    await fails(opened(), "unavailable");
    const drained = server.drain(patienceMs);
    gate.running[0]?.();
    assert.equal(await drained, true);
    assert.deepEqual(await running, { i: 1 });
    assert.equal(gate.running.length, 1);
    assert.equal(await server.drain(0), true);
  },

  async "drain cancels what still runs when its time is over, and its callers hear of it"(fixture) {
    const reasons: (MicroError | undefined)[] = [];
    const { call, stream, server } = await start(fixture, (target) =>
      target.handle("Slow", {
        async call(_: unknown, context: Context) {
          reasons.push(await whenAborted(context));
          await new Promise(() => {});
        },
        async *count(_: unknown, context: Context) {
          yield {};
          reasons.push(await whenAborted(context));
        },
      }),
    );
    const slow = failure(call("Slow.Call"));
    const counting = await stream("Slow.Count");
    await counting.send({});
    await counting.receive();
    const ended = failure(counting.receive());
    await until(() => server.stats.inFlight === 2, "both run");
    assert.equal(await server.drain(20), false);
    await slow;
    await ended;
    assert.equal(reasons.length, 2);
    assert.equal(server.stats.inFlight, 0);
  },

  async "a handler that drains its server does not wait for itself, and others wait for it"(fixture) {
    const gate = Promise.withResolvers<void>();
    const seen: unknown[] = [];
    const drain = async (): Promise<void> => {
      seen.push(await server.drain(patienceMs));
      await gate.promise;
      seen.push("handled");
    };
    const { call, stream, server } = await start(fixture, (target) =>
      target.handle("End", {
        async call() {
          await drain();
          return { i: 1 };
        },
        async *stream() {
          await drain();
          yield { i: 2 };
        },
      }),
    );
    const streaming = await stream("End.Stream");
    await streaming.send({});
    const item = streaming.receive();
    const answer = call("End.Call").catch((error: MicroError) => error.code);
    await until(() => seen.length > 0, "a handler asks");
    const draining = server.drain(patienceMs).then((all) => seen.push(all));
    gate.resolve();
    assert.deepEqual(await item, { i: 2 });
    await answer;
    await draining;
    assert.deepEqual([seen[0], seen.at(-1)], [false, true]);
  },

  async "what a handler leaves behind waits for the end as anybody does"(fixture) {
    const gate = Promise.withResolvers<void>();
    const drained = Promise.withResolvers<boolean>();
    const { call, server } = await start(fixture, (target) =>
      target.handle("End", {
        slow: () => gate.promise,
        left() {
          setImmediate(() => drained.resolve(server.drain(patienceMs)));
          return {};
        },
      }),
    );
    const slow = call("End.Slow");
    await until(() => server.stats.inFlight === 1, "the slow call runs");
    await call("End.Left");
    let early = true;
    const ending = drained.promise.then((all) => [all, early]);
    await new Promise((resolve) => void setImmediate(resolve));
    early = false;
    gate.resolve();
    await slow;
    assert.deepEqual(await ending, [true, false]);
  },

  async "stop ends streams that nobody drained"(fixture) {
    const { stream, server } = await start(fixture, (target) =>
      target.handle("Wait.Here", async function* (_: unknown, context: Context) {
        yield {};
        await whenAborted(context);
      }),
    );
    const waiting = await stream("Wait.Here");
    await waiting.send({});
    assert.ok(await waiting.receive());
    const ended = failure(waiting.receive());
    await server.stop();
    await ended;
    assert.equal(server.stats.inFlight, 0);
  },

  async "disposal stops, and may be repeated"(fixture) {
    const { call, server } = await start(fixture, (target) => target.handle("Say.Hello", () => ({})));
    await call("Say.Hello");
    await Promise.all([server[Symbol.asyncDispose](), server[Symbol.asyncDispose]()]);
    await server[Symbol.asyncDispose]();
    assert.equal(server.address, undefined);
  },
};

const Created = defineTopic("test.created", {
  name: "Created",
  validate: validText as (message: unknown) => { text: string },
});

/** An event as any client publishes it. */
function send(broker: Broker, topic: string, body: unknown, header: Readonly<Record<string, string>> = {}) {
  return broker.publish(topic, {
    header: { "Content-Type": "application/json", "Micro-Topic": topic, ...header },
    body: Buffer.from(JSON.stringify(body)),
  });
}

/** A broker that answers subscriptions to one topic with the outcome of a promise. */
function refusing(broker: Broker, topic: string, outcome: Promise<void>): Broker {
  const subscribe: Broker["subscribe"] = (name, handler, options) => {
    const subscriber = broker.subscribe(name, handler, options);
    if (name !== topic) return subscriber;
    const { queue, stats } = subscriber;
    const unsubscribe: Subscriber["unsubscribe"] = (given) => subscriber.unsubscribe(given);
    return { topic, queue, stats, ready: outcome, unsubscribe, [Symbol.asyncDispose]: () => unsubscribe() };
  };
  return {
    name: broker.name,
    address: broker.address,
    connect: (options) => broker.connect(options),
    publish: (...message) => broker.publish(...message),
    subscribe,
    disconnect: (options) => broker.disconnect(options),
    [Symbol.asyncDispose]: () => broker[Symbol.asyncDispose](),
  };
}

const eventCases: Cases = {
  async "events reach functions and every method of an object, decoded and checked, with their context"(fixture) {
    await using broker = memoryBroker();
    const seen: unknown[] = [];
    const reported: MicroError[] = [];
    const server = fixture.server({ broker });
    server.subscribe(
      Created,
      (event, context) => {
        seen.push(["typed", event, context.endpoint, context.metadata.get("x-tenant"), currentContext() === context]);
      },
      { onError: (error) => void reported.push(error) },
    );
    server.subscribe("test.created", { one: () => void seen.push(["one"]), two: () => void seen.push(["two"]) });
    await server.start();
    await send(broker, "test.created", { text: " hello " }, { "X-Tenant": "a" });
    await until(() => seen.length === 3, "three handlers");
    assert.deepEqual(seen, [["typed", { text: "hello" }, "test.created", "a", true], ["one"], ["two"]]);
    await send(broker, "test.created", { text: 7 });
    await until(() => reported.length === 1, "the refusal");
    assert.equal(reported[0]?.code, "bad_request");
    assert.match(reported[0].detail, /^topic test\.created: text: /);
  },

  async "subscribers are listed after handlers, by topic descending, and internal ones are not"(fixture) {
    await using broker = memoryBroker();
    class Mailer {
      send(): void {}
    }
    const server = fixture.server({ broker });
    server.subscribe("a", () => {});
    server.subscribe(Created, new Mailer());
    server.subscribe("hidden", () => {}, { internal: true });
    server.handle("Zebra", { run: () => ({}) });
    const [handler, ...subscribers] = server.endpoints();
    assert.equal(handler?.name, "Zebra.Run");
    assert.deepEqual(
      subscribers.map(({ name, request, response, metadata }) => [name, request?.name, response, { ...metadata }]),
      [
        ["Mailer.Send", "Created", null, { subscriber: "true", topic: "test.created" }],
        ["Func", "any", null, { subscriber: "true", topic: "a" }],
      ],
    );
  },

  async "subscriber wrappers run around every handler, the first listed outermost"(fixture) {
    await using broker = memoryBroker();
    const order: string[] = [];
    const server = fixture.server({
      broker,
      wrapSubscriber: ["a", "b"].map((name) => (next) => async (event, context) => {
        order.push(`${name} ${context.get(brokerEvent)?.attempt}`);
        await next(event, context);
        order.push(`${name} done`);
      }),
    });
    server.subscribe("t", () => void order.push("handler"));
    await server.start();
    await send(broker, "t", {});
    await until(() => order.length === 5, "the wrappers");
    assert.deepEqual(order, ["a 1", "b 1", "handler", "b done", "a done"]);
  },

  async "a subscription is made at the start, at once later on, and ends when it is told to"(fixture) {
    await using broker = memoryBroker();
    const seen: string[] = [];
    const server = fixture.server({ broker });
    const early = server.subscribe("t", () => void seen.push("early"));
    await send(broker, "t", {});
    await server.start();
    await early.ready;
    const late = server.subscribe("t", () => void seen.push("late"));
    await late.ready;
    await send(broker, "t", {});
    await until(() => seen.length === 2, "two events");
    await late.unsubscribe();
    await send(broker, "t", {});
    await until(() => seen.length === 3, "the third event");
    await server.stop();
    await send(broker, "t", {});
    assert.deepEqual(seen, ["early", "late", "early"]);
  },

  async "draining takes no more events and lets running handlers finish"(fixture) {
    await using broker = memoryBroker();
    const gate = new Gate();
    const server = fixture.server({ broker });
    const subscriber = server.subscribe("t", async (event) => void (await gate.handler(event)));
    await server.start();
    await send(broker, "t", {});
    await until(() => gate.running.length === 1, "the handler");
    const draining = server.drain(patienceMs);
    gate.running[0]?.();
    assert.equal(await draining, true);
    await send(broker, "t", {});
    assert.deepEqual([subscriber.stats.handled, subscriber.stats.inFlight, gate.running.length], [1, 0, 1]);
  },

  async "a subscriber that ends its subscription or its server does not wait for itself"(fixture) {
    await using broker = memoryBroker();
    const seen: unknown[] = [];
    const server = fixture.server({ broker });
    const first = server.subscribe("one", async () => {
      await first.unsubscribe();
      seen.push("unsubscribed");
    });
    server.subscribe("two", async () => void seen.push(await server.drain(patienceMs)));
    await server.start();
    await send(broker, "one", {});
    await until(() => seen.length === 1, "the end of the subscription");
    await send(broker, "two", {});
    await until(() => seen.length === 2, "the end of the server");
    assert.deepEqual(seen, ["unsubscribed", false]);
    assert.equal(await server.drain(patienceMs), true);
  },

  async "a broker that cannot be connected fails the start of a server with subscribers"(fixture) {
    const broker = memoryBroker();
    await broker.disconnect();
    const server = fixture.server({ broker });
    server.subscribe("t", () => {});
    await fails(server.start(), "closed");
    assert.equal(server.address, undefined);
  },

  async "subscribing without a broker, a handler or a topic is a TypeError"(fixture) {
    await using broker = memoryBroker();
    assert.throws(() => fixture.server().subscribe("t", () => {}), TypeError);
    const server = fixture.server({ broker });
    assert.throws(() => server.subscribe("", () => {}), TypeError);
    assert.throws(() => server.subscribe("t", {}), TypeError);
    assert.throws(() => server.subscribe("t", () => {}, { concurrency: 0 }), TypeError);
  },
};
