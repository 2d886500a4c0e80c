/** What every client must do, whatever wire is below it. */
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import {
  type BrokerMessage,
  memoryBroker,
  type CallOptions,
  type Client,
  type ClientOptions,
  Cancellation,
  Context,
  currentContext,
  runInContext,
  type PublishWrapper,
  Metadata,
  defineTopic,
  type MethodDefinition,
  type MethodKind,
  type ServiceDefinition,
  MicroError,
  errors,
  type ErrorCode,
  checkOptionNames,
  type HandlerRegistration,
} from "@micro/core";
import { defineSuite, type Skips, type TestRunner } from "./runner.ts";

/** Options a client under test is made with. */
export type ClientUnderTestOptions = Pick<
  ClientOptions,
  "wrapClient" | "wrapCall" | "wrapPublish" | "from" | "retries" | "retry" | "broker"
>;

/** A running instance of a service. */
export interface ServedInstance {
  /** `host:port`, dialable. */
  readonly address: string;
  /** Take the port away at once, as a crash does: the registration stays. */
  kill(): Promise<void>;
}

/** What the suite is handed for each test; disposing it stops clients and servers. */
export interface ClientFixture extends AsyncDisposable {
  /** A client that finds what was served. */
  connect(options?: ClientUnderTestOptions): Client;
  /** Start an instance of `service` with handlers of its own, and resolve once clients find it. */
  serve(service: string, register: (handlers: HandlerRegistration) => void): Promise<ServedInstance>;
  /** Register a record of `service` that leads to `address`, as a crash leaves one behind, and resolve once clients find it. */
  claim(service: string, address: string): Promise<void>;
}

export interface ClientConformanceOptions {
  /** Content type of calls by definition. Default: `application/json`. */
  contentType?: string | undefined;
  /** Tests that do not apply, with the reason. */
  skip?: Skips | undefined;
}

interface Text {
  text: string;
}
interface Count {
  count: number;
}

type Method<Request, Response, Kind extends MethodKind> = MethodDefinition<Request, Request, Response, Response, Kind>;

function method<Request, Response, Kind extends MethodKind>(name: string, kind: Kind): Method<Request, Response, Kind> {
  return { name, kind, request: { name: `${name}Request` }, response: { name: `${name}Response` } };
}

function definition(contentType: string) {
  const methods = {
    say: method<Text, Text, "unary">("Say", "unary"),
    count: method<Count, Count, "server">("Count", "server"),
    sum: method<Count, Count, "client">("Sum", "client"),
    echo: method<Text, Text, "bidi">("Echo", "bidi"),
  };
  return { service: "echo", type: "Echo", contentType, methods } satisfies ServiceDefinition;
}

/**
 * Hold a client to the contract of `Client`, over real servers.
 * @throws {TypeError} if `skip` names no test or gives no reason.
 */
export function clientConformance(
  runner: TestRunner,
  create: () => Promise<ClientFixture>,
  settings: ClientConformanceOptions = {},
): void {
  checkOptionNames("clientConformance", settings, { contentType: true, skip: true });
  const Echo = definition(settings.contentType ?? "application/json");

  const serveEcho = (fixture: ClientFixture, events: string[] = []): Promise<ServedInstance> =>
    fixture.serve("echo", (handlers) =>
      handlers.handle(Echo, {
        say: ({ text }) => ({ text }),
        async *count({ count }, context) {
          try {
            for (let sent = 1; sent <= count; sent += 1) {
              await settled(context);
              yield { count: sent };
            }
          } finally {
            events.push("count is over");
          }
        },
        async sum(requests) {
          let count = 0;
          for await (const request of requests) count += request.count;
          return { count };
        },
        async *echo(requests) {
          try {
            for await (const { text } of requests) yield { text };
          } finally {
            events.push("echo is over");
          }
        },
      }),
    );

  defineSuite<ClientFixture>(
    runner,
    "client conformance",
    create,
    {
      async "a call by name is answered with what the handler returns"(fixture) {
        await serveEcho(fixture);
        assert.deepEqual(await fixture.connect().call("echo", "Echo.Say", { text: "héllo 你好" }), {
          text: "héllo 你好",
        });
      },

      async "a call by definition is answered with what the handler returns"(fixture) {
        await serveEcho(fixture);
        assert.deepEqual(await fixture.connect().client(Echo).say({ text: "hello" }), { text: "hello" });
      },

      async "a typed client can be made for another service name"(fixture) {
        await fixture.serve("other", (handlers) => handlers.handle("Echo.Say", () => ({ text: "other" })));
        const client = fixture.connect().client(Echo, { service: "other" });
        assert.deepEqual(await client.say({ text: "hello" }), { text: "other" });
      },

      async "options of calls that do not exist, or cannot be meant, are refused with a TypeError, and nothing runs"(
        fixture,
      ) {
        const events: string[] = [];
        await fixture.serve("echo", (handlers) => handlers.handle("Echo.Say", () => void events.push("ran")));
        const client = fixture.connect();
        const typed = client.client(Echo);
        for (const [wrong, named] of [
          [{ timeout: 100 }, "timeoutMs"],
          [{ metdata: {} }, "metadata"],
          [{ select: { filter: [] } }, "filters"],
          [{ timeoutMs: "100" }, "timeoutMs"],
          [{ retries: -1 }, "retries"],
        ] as const) {
          const options = wrong as unknown as CallOptions;
          const ways: Record<string, () => unknown> = {
            call: () => client.call("echo", "Echo.Say", {}, options),
            stream: () => client.stream("echo", "Echo.Echo", options),
            "typed call": () => typed.say({ text: "" }, options),
            "typed server stream": () => typed.count({ count: 1 }, options).next(),
            "typed client stream": () => typed.sum([], options),
            "typed stream": () => typed.echo([], options).next(),
            "typed client": () => client.client(Echo, options),
          };
          for (const [way, attempt] of Object.entries(ways))
            await assert.rejects(
              async () => attempt(),
              (error) => error instanceof TypeError && error.message.includes(`\`${named}\``),
              `${way} with ${JSON.stringify(wrong)}`,
            );
        }
        assert.deepEqual(events, []);
      },

      async "one hundred concurrent calls get their own answers"(fixture) {
        await serveEcho(fixture);
        const client = fixture.connect().client(Echo);
        const texts = Array.from({ length: 100 }, (_, index) => `message ${index}`);
        const answers = await Promise.all(texts.map((text) => client.say({ text })));
        assert.deepEqual(
          answers.map(({ text }) => text),
          texts,
        );
      },

      async "a message of one mebibyte arrives whole in both directions"(fixture) {
        await serveEcho(fixture);
        const text = "0123456789abcdef".repeat(65_536);
        const answer = await fixture.connect().client(Echo).say({ text });
        assert.equal(answer.text.length, text.length);
        assert.equal(answer.text, text);
      },

      async "a call may set the largest answer it takes, a stream the largest message"(fixture) {
        await serveEcho(fixture);
        await fixture.serve("big", (handlers) =>
          handlers.handle("Big.List", async function* () {
            yield { text: "x" };
            yield { text: "x".repeat(20_000) };
          }),
        );
        const client = fixture.connect();
        const text = "x".repeat(20_000);
        const small: CallOptions = { maxMessageBytes: 10_000 };
        await rejection(client.call("echo", "Echo.Say", { text }, small), "too_large");
        assert.deepEqual(await client.call("echo", "Echo.Say", { text }, { maxMessageBytes: 30_000 }), { text });
        await using stream = await client.stream("big", "Big.List", small);
        await stream.send({});
        stream.closeSend();
        assert.deepEqual(await stream.receive(), { text: "x" });
        await rejection(stream.receive(), "too_large");
        // The limit is that call's alone, and says nothing of the node.
        assert.deepEqual(await client.call("echo", "Echo.Say", { text }), { text });
        for (const wrong of [0, -1, Number.NaN])
          assert.throws(() => client.client(Echo, { maxMessageBytes: wrong }), TypeError);
      },

      async "an error of the handler keeps id, code, detail and status"(fixture) {
        await fixture.serve("echo", (handlers) =>
          handlers.handle("Echo.Say", () => {
            throw errors.badRequest("com.example.srv.service", "invalid field");
          }),
        );
        const error = await rejection(fixture.connect().call("echo", "Echo.Say", {}), "bad_request");
        assert.deepEqual(error.toJSON(), {
          id: "com.example.srv.service",
          code: 400,
          detail: "invalid field",
          status: "Bad Request",
        });
        assert.equal(error.attempts.length, 1);
        assert.ok(error.attempts[0]!.durationMs >= 0);
        assert.notEqual(error.attempts[0]!.address, "");
      },

      async "an error that may have run is not tried again"(fixture) {
        let calls = 0;
        await fixture.serve("echo", (handlers) =>
          handlers.handle("Echo.Say", () => {
            calls += 1;
            throw new Error("broken");
          }),
        );
        await rejection(fixture.connect().call("echo", "Echo.Say", {}), "internal");
        assert.equal(calls, 1);
      },

      async "a service nobody offers is not found, and nothing has run"(fixture) {
        const error = await rejection(
          fixture.connect().call("nobody", "Echo.Say", {}, { timeoutMs: 2_000 }),
          "not_found",
        );
        assert.equal(error.statusCode, 404);
        assert.equal(error.notRun, true);
        assert.match(error.detail, /nobody/);
      },

      async "every code arrives with its number, and neither changes on the way through a service between"(fixture) {
        await fixture.serve("inner", (handlers) =>
          handlers.handle("Inner.Fail", ({ code }: { code: ErrorCode }) => {
            throw new MicroError(`it is ${code}`, { id: "inner", code });
          }),
        );
        const client = fixture.connect();
        await fixture.serve("middle", (handlers) =>
          handlers.handle("Middle.Fail", (request: unknown) => client.call("inner", "Inner.Fail", request)),
        );
        for (const [code, arrives, statusCode] of codesOnTheWire) {
          for (const [service, endpoint] of [
            ["inner", "Inner.Fail"],
            ["middle", "Middle.Fail"],
          ] as const) {
            const error = await rejection(client.call(service, endpoint, { code }));
            assert.deepEqual(
              [error.code, error.statusCode, error.detail, error.id],
              [arrives, statusCode, `it is ${code}`, "inner"],
              `${code} of ${service}`,
            );
            assert.equal(error.notRun, false);
          }
        }
      },

      async "what a handler did not find or could not reach is not_found or unavailable to its caller, and has run"(
        fixture,
      ) {
        const client = fixture.connect();
        const gone = await fixture.serve("gone", (handlers) => handlers.handle("Gone.Say", () => ({})));
        await fixture.serve("middle", (handlers) => {
          handlers.handle("Middle.Find", () => client.call("nobody", "Nobody.Say", {}));
          handlers.handle("Middle.Reach", () => client.call("gone", "Gone.Say", {}, { address: gone.address }));
        });
        // Last, since its port is free from now on.
        await gone.kill();
        const missing = await rejection(client.call("middle", "Middle.Find", {}), "not_found");
        assert.deepEqual([missing.statusCode, missing.notRun], [404, false]);
        const unreached = await rejection(client.call("middle", "Middle.Reach", {}), "unavailable");
        assert.deepEqual([unreached.statusCode, unreached.notRun], [503, false]);
      },

      async "an unknown endpoint is an error that names it"(fixture) {
        await serveEcho(fixture);
        const error = await rejection(fixture.connect().call("echo", "Echo.Nothing", {}));
        assert.match(error.detail, /Nothing/);
      },

      async "wrong arguments are a TypeError"(fixture) {
        const client = fixture.connect();
        await assert.rejects(client.call("", "Echo.Say", {}), TypeError);
        await assert.rejects(client.call("echo", "", {}), TypeError);
        await assert.rejects(client.stream("", "Echo.Say"), TypeError);
      },

      async "a slow handler is a 408 in time, and its context ends with the call"(fixture) {
        const ended = Promise.withResolvers<string>();
        await fixture.serve("echo", (handlers) =>
          handlers.handle("Echo.Say", (_request: unknown, context: Context) => waiting(context, ended.resolve)),
        );
        const start = performance.now();
        const error = await rejection(fixture.connect().call("echo", "Echo.Say", {}, { timeoutMs: 100 }), "timeout");
        const took = performance.now() - start;
        assert.ok(took >= 95 && took < 3_000, `${took} ms`);
        assert.equal(error.statusCode, 408);
        assert.match(error.detail, /context deadline exceeded/);
        assert.ok(["timeout", "aborted"].includes(await ended.promise));
      },

      async "the handler sees the time the caller has left"(fixture) {
        await fixture.serve("echo", (handlers) =>
          handlers.handle("Echo.Say", (_request: unknown, context: Context) => ({ left: context.remainingMs })),
        );
        const { left } = await fixture.connect().call<{ left: number }>("echo", "Echo.Say", {}, { timeoutMs: 1_000 });
        assert.ok(left > 100 && left <= 1_000, String(left));
      },

      async "an aborted signal ends the call with 499 and cancels the handler"(fixture) {
        const ended = Promise.withResolvers<string>();
        const started = Promise.withResolvers<void>();
        await fixture.serve("echo", (handlers) =>
          handlers.handle("Echo.Say", (_request: unknown, context: Context) => {
            started.resolve();
            return waiting(context, ended.resolve);
          }),
        );
        const controller = new AbortController();
        const call = fixture.connect().call("echo", "Echo.Say", {}, { signal: controller.signal });
        await started.promise;
        controller.abort();
        const error = await rejection(call, "aborted");
        assert.equal(error.statusCode, 499);
        assert.equal(await ended.promise, "aborted");
      },

      async "a signal that is aborted already means no attempt"(fixture) {
        let calls = 0;
        await fixture.serve("echo", (handlers) => handlers.handle("Echo.Say", () => (calls += 1)));
        const aborted: CallOptions = { signal: AbortSignal.abort() };
        const client = fixture.connect();
        await rejection(client.call("echo", "Echo.Say", {}, aborted), "aborted");
        await rejection(client.stream("echo", "Echo.Say", aborted), "aborted");
        assert.equal(calls, 0);
      },

      async "metadata and the caller's name reach the handler"(fixture) {
        await fixture.serve("echo", (handlers) =>
          handlers.handle("Echo.Say", (_request: unknown, context: Context) => ({
            region: context.metadata.get("X-Region"),
            caller: context.caller,
          })),
        );
        const answer = await fixture
          .connect({ from: "shop" })
          .call("echo", "Echo.Say", {}, { metadata: { "x-region": "eu" } });
        assert.deepEqual(answer, { region: "eu", caller: "shop" });
      },

      async "a call inside a handler passes metadata on, less what describes one message"(fixture) {
        const client = fixture.connect({ from: "middle" });
        await fixture.serve("inner", (handlers) =>
          handlers.handle("Inner.Say", (_request: unknown, context: Context) => context.metadata.toJSON()),
        );
        await fixture.serve("middle", (handlers) =>
          handlers.handle("Middle.Say", () => client.call("inner", "Inner.Say", {})),
        );
        const seen: Record<string, string> = await fixture
          .connect({ from: "outer" })
          .call("middle", "Middle.Say", {}, { metadata: { "X-Region": "eu", "User-Agent": "curl" } });
        assert.equal(seen["X-Region"], "eu");
        assert.equal(seen["Micro-From-Service"], "middle");
        assert.notEqual(seen["User-Agent"], "curl");
      },

      async "three hops share one deadline, and the innermost sees the least of it"(fixture) {
        const client = fixture.connect();
        const left: number[] = [];
        const note = (): void => void left.push(currentContext()!.remainingMs!);
        await fixture.serve("c", (handlers) => handlers.handle("C.Say", () => (note(), {})));
        await fixture.serve("b", (handlers) =>
          handlers.handle("B.Say", async () => (note(), await brief(), await client.call("c", "C.Say", {}))),
        );
        await fixture.serve("a", (handlers) =>
          handlers.handle("A.Say", async () => (note(), await brief(), await client.call("b", "B.Say", {}))),
        );
        await client.call("a", "A.Say", {}, { timeoutMs: 2_000 });
        const [outer, middle, inner] = left as [number, number, number];
        assert.ok(outer <= 2_000 && middle < outer && inner < middle, left.join(", "));
      },

      async "cancelling the outermost call cancels the innermost handler"(fixture) {
        const client = fixture.connect();
        const ended = Promise.withResolvers<string>();
        const started = Promise.withResolvers<void>();
        await fixture.serve("c", (handlers) =>
          handlers.handle("C.Say", (_request: unknown, context: Context) => {
            started.resolve();
            return waiting(context, ended.resolve);
          }),
        );
        await fixture.serve("b", (handlers) => handlers.handle("B.Say", () => client.call("c", "C.Say", {})));
        await fixture.serve("a", (handlers) => handlers.handle("A.Say", () => client.call("b", "B.Say", {})));
        const controller = new AbortController();
        const call = client.call("a", "A.Say", {}, { signal: controller.signal });
        await started.promise;
        controller.abort();
        await rejection(call, "aborted");
        assert.equal(await ended.promise, "aborted");
      },

      async "a call can go to a given address"(fixture) {
        await fixture.serve("echo", (handlers) => handlers.handle("Echo.Say", () => ({ text: "first" })));
        const second = await fixture.serve("echo", (handlers) =>
          handlers.handle("Echo.Say", () => ({ text: "second" })),
        );
        const client = fixture.connect().client(Echo);
        for (let call = 0; call < 5; call += 1)
          assert.deepEqual(await client.say({ text: "" }, { address: second.address }), { text: "second" });
      },

      async "a node that is gone costs no call, without retries either"(fixture) {
        const first = await serveEcho(fixture);
        await serveEcho(fixture);
        const client = fixture.connect({ retries: 0 }).client(Echo);
        await client.say({ text: "warm" });
        await first.kill();
        for (let call = 0; call < 20; call += 1) assert.deepEqual(await client.say({ text: "x" }), { text: "x" });
      },

      async "when every node is gone, the error is unavailable and lists the attempts"(fixture) {
        const instance = await serveEcho(fixture);
        await instance.kill();
        const call = fixture.connect().call("echo", "Echo.Say", {}, { address: instance.address, timeoutMs: 2_000 });
        const error = await rejection(call, "unavailable");
        assert.equal(error.notRun, true);
        assert.ok(error.attempts.length >= 1);
        assert.equal(error.attempts[0]!.address, instance.address);
      },

      async "a record that leads to another service's process loses no call, and runs nothing there"(fixture) {
        let strays = 0;
        const billing = await fixture.serve("billing", (handlers) =>
          handlers.handle(Echo, {
            say: () => ({ text: `billing ${++strays}` }),
            async *count() {
              yield { count: ++strays };
            },
            async *echo() {
              yield { text: `billing ${++strays}` };
            },
            sum: async () => ({ count: ++strays }),
          }),
        );
        await serveEcho(fixture);
        await fixture.claim("echo", billing.address);
        // A client of its own for each: none may have learned from another's calls alone.
        for (let round = 0; round < 5; round += 1) {
          const client = fixture.connect({ retries: 0 });
          const typed = client.client(Echo);
          assert.deepEqual(await client.call("echo", "Echo.Say", { text: "x" }), { text: "x" });
          assert.deepEqual(await typed.say({ text: "x" }), { text: "x" });
          assert.deepEqual(await collect(typed.count({ count: 2 })), [{ count: 1 }, { count: 2 }]);
        }
        // Those whose messages are under way when they are refused take them along.
        for (let round = 0; round < 5; round += 1) {
          const client = fixture.connect({ retries: 0 });
          const typed = client.client(Echo);
          assert.deepEqual(await typed.sum(countTo(4)), { count: 10 });
          const texts = ["one", "two", "three"].map((text) => ({ text }));
          assert.deepEqual(await collect(typed.echo(texts)), texts);
          await using stream = await client.stream<Text, Text>("echo", "Echo.Echo");
          await stream.send({ text: "one" });
          assert.deepEqual(await stream.receive(), { text: "one" });
          await stream.send({ text: "two" });
          stream.closeSend();
          assert.deepEqual(await collect(stream), [{ text: "two" }]);
        }
        assert.equal(strays, 0);
        // By address nothing was looked up: it is served, whatever name it bears.
        const stray = await fixture.connect().call("echo", "Echo.Say", {}, { address: billing.address });
        assert.deepEqual(stray, { text: "billing 1" });
      },

      async "a record that leads nowhere else is what the error tells of"(fixture) {
        const billing = await fixture.serve("billing", (handlers) => handlers.handle("Echo.Say", () => ({})));
        await fixture.claim("echo", billing.address);
        const error = await rejection(fixture.connect().call("echo", "Echo.Say", {}), "unavailable");
        assert.equal(error.notRun, true);
        assert.equal(error.statusCode, 503);
        for (const word of ["echo", "billing", billing.address]) assert.ok(error.detail.includes(word), error.detail);
        assert.equal(error.attempts[0]?.address, billing.address);
      },

      async "a stream that is called, and a call that is opened as a stream, are told so at once and not run"(fixture) {
        let runs = 0;
        await fixture.serve("echo", (handlers) =>
          handlers.handle(Echo, {
            say: () => ({ text: `${++runs}` }),
            async *count() {
              yield { count: ++runs };
            },
            sum: async () => ({ count: ++runs }),
            async *echo() {
              yield { text: `${++runs}` };
            },
          }),
        );
        const client = fixture.connect();
        const start = performance.now();
        for (const endpoint of ["Echo.Count", "Echo.Sum", "Echo.Echo"]) {
          const error = await rejection(client.call("echo", endpoint, {}, { timeoutMs: 10_000 }), "bad_request");
          assert.match(error.detail, new RegExp(`^${endpoint} is a .*stream: use service\\.stream$`));
        }
        await using stream = await client.stream("echo", "Echo.Say");
        const error = await rejection(stream.receive(), "bad_request");
        assert.match(error.detail, /^Echo\.Say is a unary call, no stream: use service\.call$/);
        assert.ok(performance.now() - start < 5_000, "it was not told at once");
        assert.equal(runs, 0);
      },

      async "what a definition does not take is a TypeError before anything is sent"(fixture) {
        let runs = 0;
        await fixture.serve("echo", (handlers) => handlers.handle("Echo.Say", () => ({ text: `${++runs}` })));
        const typed = fixture.connect().client(Echo) as unknown as Record<string, (request: unknown) => unknown>;
        await assert.rejects(typed["say"]!(countTo(1)) as Promise<unknown>, TypeError);
        await assert.rejects(typed["sum"]!({ count: 1 }) as Promise<unknown>, TypeError);
        assert.throws(() => typed["echo"]!({ text: "x" }), TypeError);
        assert.throws(() => typed["count"]!(countTo(1)), TypeError);
        assert.equal(runs, 0);
      },

      async "a call that was cancelled before its connection was there does not run"(fixture, leaks) {
        let runs = 0;
        await fixture.serve("echo", (handlers) => handlers.handle("Echo.Say", () => ({ text: `${++runs}` })));
        for (let round = 1; round <= 5; round += 1) {
          const client = fixture.connect();
          const controller = leaks.controller();
          const options = { signal: controller.signal, freshConnection: true };
          const call = client.call("echo", "Echo.Say", {}, options);
          controller.abort();
          await rejection(call, "aborted");
          await client.call("echo", "Echo.Say", {}, { freshConnection: true });
          assert.equal(runs, round);
        }
      },

      async "nothing of a call is left on signals and contexts, however it ends"(fixture, leaks) {
        await serveEcho(fixture);
        await fixture.serve("other", (handlers) =>
          handlers.handle("Other", {
            fail: () => {
              throw errors.badRequest("other", "no");
            },
            wait: (_request: unknown, context: Context) => waiting(context, () => {}),
            async *broken() {
              yield {};
              throw errors.badRequest("other", "no");
            },
            async *silent(_request: unknown, context: Context) {
              yield {};
              await waiting(context, () => {});
            },
          }),
        );
        const gone = await fixture.serve("gone", (handlers) => handlers.handle("Echo.Say", () => ({})));
        await gone.kill();
        await using broker = memoryBroker();
        const client = fixture.connect({ broker });
        const typed = client.client(Echo);
        const opened = async (service: string, endpoint: string, limits: CallOptions) => {
          const stream = await client.stream(service, endpoint, limits);
          await stream.send({ count: 1 });
          return stream;
        };
        const { address } = gone;
        const waits: CallOptions = { retries: 1, backoff: () => 1_000 };
        const ends: Record<string, (options: CallOptions, abort: () => void) => Promise<unknown>> = {
          "an answer": (options) => typed.say({ text: "x" }, options),
          "an error": (options) => client.call("other", "Other.Fail", {}, options),
          "a timeout": (options) => client.call("other", "Other.Wait", {}, { ...options, timeoutMs: 20 }),
          "nobody there": (options) => client.call("echo", "Echo.Say", {}, { ...options, address, retries: 0 }),
          "nobody offers it": (options) => client.call("nobody", "Echo.Say", {}, options),
          "cancelled while it runs": (options, abort) => {
            setTimeout(abort, 20);
            return client.call("other", "Other.Wait", {}, options);
          },
          "cancelled while it waits to be tried again": (options, abort) => {
            setTimeout(abort, 20);
            return client.call("echo", "Echo.Say", {}, { ...options, ...waits, address });
          },
          "cancelled while it is looked up": (options, abort) => {
            const call = fixture.connect().call("never asked for", "Echo.Say", {}, options);
            abort();
            return call;
          },
          "nobody there, tried again": (options) =>
            client.call("echo", "Echo.Say", {}, { ...options, address, retries: 2, backoff: () => 5 }),
          "a stream that ends": (options) => collect(typed.count({ count: 3 }, options)),
          "a stream that ends within its limits": (options) =>
            collect(typed.count({ count: 3 }, { ...options, streamTimeoutMs: 60_000, streamIdleTimeoutMs: 60_000 })),
          "a stream within its limits that is cancelled": async (options, abort) => {
            const limits = { ...options, streamTimeoutMs: 60_000, streamIdleTimeoutMs: 60_000 };
            const stream = await opened("other", "Other.Silent", limits);
            await stream.receive();
            setTimeout(abort, 5);
            await stream.receive();
          },
          "a stream that is left": async (options) => {
            for await (const _ of typed.count({ count: 1_000_000 }, options)) break;
          },
          "a stream that is never read": (options) => typed.count({ count: 1 }, options).return!() as Promise<unknown>,
          "a stream that fails": async (options) => await collect(await opened("other", "Other.Broken", options)),
          "a stream that is cancelled": async (options, abort) => {
            const stream = await opened("other", "Other.Silent", options);
            await stream.receive();
            abort();
            await stream.receive();
          },
          "a stream that is too long": async (options) =>
            await collect(await opened("other", "Other.Silent", { ...options, streamTimeoutMs: 30 })),
          "a stream that is silent": async (options) =>
            await collect(await opened("other", "Other.Silent", { ...options, streamIdleTimeoutMs: 30 })),
          "a stream that is disposed": async (options) => {
            await using stream = await opened("echo", "Echo.Echo", options);
            await stream.receive();
          },
          "a stream that nobody takes": (options) =>
            collect(typed.count({ count: 1 }, { ...options, address, retries: 0 })),
          "a client stream": (options) => typed.sum(countTo(3), options),
          "a client stream whose input fails": (options) => typed.sum(failing(), options),
          "a bidirectional stream": (options) => collect(typed.echo([{ text: "x" }], options)),
          "a published event": () => client.publish("t", {}),
        };
        for (const [end, run] of Object.entries(ends)) {
          for (const inside of [false, true]) {
            const controller = leaks.controller();
            const cancellation = new CountingCancellation();
            const context = new Context({ service: "a", endpoint: "A.B", cancellation });
            const { signal } = controller;
            const call = async (): Promise<void> => {
              try {
                await run({ signal }, () => controller.abort());
              } catch {
                // Most of these are meant to fail.
              }
            };
            await (inside ? runInContext(context, call) : call());
            const left = (): number[] => [
              getEventListeners(signal, "abort").length,
              getEventListeners(context.signal, "abort").length,
              cancellation.listeners,
            ];
            await until(
              () => left().every((count) => count === 0),
              () => `${end}: left on signal, context's signal, context: ${left().join(", ")}`,
            );
          }
        }
      },

      async "a stream that is over is no affair of its client's any more"(fixture) {
        await serveEcho(fixture);
        const signals: AbortSignal[] = [];
        const client = fixture.connect({
          wrapCall: [
            (next) => (request, context) => {
              signals.push(context.signal!);
              return next(request, context);
            },
          ],
        });
        await collect(client.client(Echo).count({ count: 2 }));
        await client.client(Echo).sum([{ count: 1 }]);
        await client[Symbol.asyncDispose]();
        assert.deepEqual(
          signals.map(({ aborted }) => aborted),
          [false, false],
        );
      },

      async "every call that fails shows where it was made"(fixture) {
        await fixture.serve("echo", (handlers) =>
          handlers.handle("Echo", {
            say: () => {
              throw errors.badRequest("echo", "no");
            },
            async *count(_request: unknown, context: Context) {
              yield { count: 1 };
              await waiting(context, () => {});
            },
            async sum() {
              throw errors.badRequest("echo", "no");
            },
            async *echo() {
              yield { text: "" };
              throw errors.badRequest("echo", "no");
            },
            wait: (_request: unknown, context: Context) => waiting(context, () => {}),
          }),
        );
        const gone = await serveEcho(fixture);
        await gone.kill();
        const broker = memoryBroker();
        broker.publish = () =>
          new Promise((_, reject) => setTimeout(() => reject(new MicroError("no", { code: "unavailable" })), 1));
        await using _ = broker;
        for (const wrapped of [false, true]) {
          const client = fixture.connect({
            broker,
            ...(wrapped && {
              wrapClient: [(next) => (request, context) => next(request, context)],
              wrapCall: [(next) => (request, context) => next(request, context)],
            }),
          });
          const typed = client.client(Echo);
          const { address } = gone;
          const opened = async (endpoint: string, limits?: CallOptions) => {
            const stream = await client.stream("echo", endpoint, limits);
            await stream.send({});
            return stream;
          };
          const calls: Record<string, () => Promise<unknown>> = {
            "answered by a handler": () => client.call("echo", "Echo.Say", {}),
            "by definition": () => typed.say({ text: "" }),
            "an unknown endpoint": () => client.call("echo", "Echo.Nothing", {}),
            "an unknown service": () => client.call("nobody", "Echo.Say", {}),
            "a timeout": () => client.call("echo", "Echo.Wait", {}, { timeoutMs: 20 }),
            "a signal": () => client.call("echo", "Echo.Wait", {}, { signal: AbortSignal.timeout(20) }),
            "nobody there": () => client.call("echo", "Echo.Say", {}, { address, retries: 0 }),
            "nobody there, tried again": () =>
              client.call("echo", "Echo.Say", {}, { address, retries: 6, backoff: () => 1 }),
            "cancelled before": () => client.call("echo", "Echo.Say", {}, { signal: AbortSignal.abort() }),
            "a client stream": () => typed.sum([{ count: 1 }]),
            "a bidirectional stream": () => collect(typed.echo([])),
            "a stream that nobody takes": () => collect(typed.count({ count: 1 }, { address, backoff: () => 1 })),
            "a stream that is too long": () => collect(typed.count({ count: 1 }, { streamTimeoutMs: 30 })),
            "a stream that is silent": () => collect(typed.count({ count: 1 }, { streamIdleTimeoutMs: 30 })),
            "a stream by name": async () => await collect(await opened("Echo.Echo")),
            "a stream by name that fails at once": async () => await collect(await opened("Echo.Nothing")),
            receiving: async () => {
              const stream = await opened("Echo.Echo");
              while ((await stream.receive()) !== undefined);
            },
            "a stream by name that is too long": async () =>
              await collect(await opened("Echo.Count", { streamTimeoutMs: 30 })),
            publishing: () => client.publish("t", {}),
          };
          for (const [what, call] of Object.entries(calls)) {
            async function theCallersCode(): Promise<void> {
              await call();
            }
            const error = await rejection(theCallersCode());
            assert.match(error.stack ?? "", /theCallersCode/, `${what}${wrapped ? ", wrapped" : ""}: ${error.stack}`);
          }
        }
      },

      async "client wrappers run once a call, call wrappers once an attempt, the first listed outermost"(fixture) {
        await serveEcho(fixture);
        const seen: string[] = [];
        const client = fixture.connect({
          wrapClient: ["client 1", "client 2"].map((name) => (next) => async (request, context) => {
            seen.push(`${name} ${context.service} ${context.endpoint}`);
            return await next(request, context);
          }),
          wrapCall: ["call 1", "call 2"].map((name) => (next) => async (request, context) => {
            seen.push(`${name} attempt ${context.attempt}`);
            assert.notEqual(context.node.address, "");
            return await next(request, context);
          }),
        });
        assert.deepEqual(await client.call("echo", "Echo.Say", { text: "x" }), { text: "x" });
        assert.deepEqual(seen, [
          "client 1 echo Echo.Say",
          "client 2 echo Echo.Say",
          "call 1 attempt 1",
          "call 2 attempt 1",
        ]);
      },

      async "wrappers may change metadata, the request and the answer"(fixture) {
        await fixture.serve("echo", (handlers) =>
          handlers.handle("Echo.Say", ({ text }: Text, context: Context) => ({
            text: `${text} ${context.metadata.get("X-One")} ${context.metadata.get("X-Two")}`,
          })),
        );
        const client = fixture.connect({
          wrapClient: [
            (next) => async (request, context) => {
              context.metadata.set("X-One", "1");
              const { text } = await next({ text: `${request.text}!` }, context);
              return { text: `<${text}>` };
            },
          ],
          wrapCall: [
            (next) => (request, context) => {
              context.metadata.set("X-Two", "2");
              return next(request, context);
            },
          ],
        });
        assert.deepEqual(await client.call("echo", "Echo.Say", { text: "a" }), { text: "<a! 1 2>" });
      },

      async "a server stream yields every message in order and ends"(fixture) {
        await serveEcho(fixture);
        const counts = await collect(fixture.connect().client(Echo).count({ count: 100 }));
        assert.deepEqual(
          counts.map(({ count }) => count),
          Array.from({ length: 100 }, (_, index) => index + 1),
        );
      },

      async "a server stream without messages ends at once"(fixture) {
        await serveEcho(fixture);
        assert.deepEqual(await collect(fixture.connect().client(Echo).count({ count: 0 })), []);
      },

      async "leaving the loop over a stream ends the handler"(fixture) {
        const events: string[] = [];
        await serveEcho(fixture, events);
        for await (const { count } of fixture.connect().client(Echo).count({ count: 1_000_000 }))
          if (count === 3) break;
        await until(() => events.includes("count is over"));
      },

      async "an error in the middle of a stream comes after the messages before it"(fixture) {
        await fixture.serve("echo", (handlers) =>
          handlers.handle("Echo", {
            async *count() {
              yield { count: 1 };
              throw errors.badRequest("echo", "no more");
            },
          }),
        );
        const stream = fixture.connect().client(Echo).count({ count: 2 });
        assert.deepEqual(await stream.next(), { value: { count: 1 }, done: false });
        const error = await rejection(stream.next(), "bad_request");
        assert.equal(error.detail, "no more");
        assert.equal((await stream.next()).done, true);
      },

      async "a client stream sends all and gets one answer"(fixture) {
        await serveEcho(fixture);
        const client = fixture.connect().client(Echo);
        assert.deepEqual(await client.sum([{ count: 1 }, { count: 2 }, { count: 3 }]), { count: 6 });
        assert.deepEqual(await client.sum(countTo(100)), { count: 5050 });
      },

      async "an error of the caller's own messages ends a client stream with that error"(fixture) {
        await serveEcho(fixture);
        const broken = new Error("out of numbers");
        // oxlint-disable-next-line require-yield
        async function* numbers(): AsyncGenerator<Count> {
          throw broken;
        }
        await assert.rejects(fixture.connect().client(Echo).sum(numbers()), (error) => error === broken);
      },

      async "a bidirectional stream answers message by message"(fixture) {
        await serveEcho(fixture);
        const turns = Promise.withResolvers<void>();
        async function* texts() {
          yield { text: "one" };
          await turns.promise;
          yield { text: "two" };
        }
        const stream = fixture.connect().client(Echo).echo(texts());
        assert.deepEqual(await stream.next(), { value: { text: "one" }, done: false });
        turns.resolve();
        assert.deepEqual(await stream.next(), { value: { text: "two" }, done: false });
        assert.equal((await stream.next()).done, true);
      },

      async "leaving a bidirectional stream stops its input and the handler"(fixture) {
        const events: string[] = [];
        await serveEcho(fixture, events);
        async function* texts() {
          try {
            for (;;) {
              await brief();
              yield { text: "again" };
            }
          } finally {
            events.push("input is over");
          }
        }
        for await (const _ of fixture.connect().client(Echo).echo(texts())) break;
        await until(() => events.includes("input is over") && events.includes("echo is over"));
      },

      async "a stream by name sends, half-closes and receives"(fixture) {
        await serveEcho(fixture);
        await using stream = await fixture.connect().stream<Text, Text>("echo", "Echo.Echo");
        await stream.send({ text: "one" });
        assert.deepEqual(await stream.receive(), { text: "one" });
        await stream.send({ text: "two" });
        stream.closeSend();
        assert.deepEqual(await collect(stream), [{ text: "two" }]);
        await rejection(stream.send({ text: "three" }));
      },

      async "disposing a stream by name cancels the handler"(fixture) {
        const events: string[] = [];
        await serveEcho(fixture, events);
        {
          await using stream = await fixture.connect().stream<Text, Text>("echo", "Echo.Echo");
          await stream.send({ text: "one" });
          await stream.receive();
        }
        await until(() => events.includes("echo is over"));
      },

      async "a signal ends a stream with 499"(fixture) {
        await serveEcho(fixture);
        const controller = new AbortController();
        const stream = await fixture.connect().stream<Text, Text>("echo", "Echo.Echo", { signal: controller.signal });
        const answer = stream.receive();
        controller.abort();
        await rejection(answer, "aborted");
        await rejection(stream.send({ text: "late" }), "aborted");
      },

      async "a stream's own limit and its idle limit end it with 408"(fixture) {
        await serveEcho(fixture);
        const client = fixture.connect();
        for (const limit of [{ streamTimeoutMs: 50 }, { streamIdleTimeoutMs: 50 }] satisfies CallOptions[]) {
          // On a busy machine the limit may pass before the stream is open.
          const received = client.stream("echo", "Echo.Echo", limit).then((stream) => stream.receive());
          await rejection(received, "timeout");
        }
      },

      async "a stream's idle limit is none for its reader"(fixture) {
        await serveEcho(fixture);
        const limit: CallOptions = { streamIdleTimeoutMs: 1_000 };
        const client = fixture.connect();
        const loop = async (): Promise<void> => {
          const counted: Count[] = [];
          for await (const message of client.client(Echo).count({ count: 3 }, limit))
            if (counted.push(message) === 1) await work();
          assert.deepEqual(counted, [{ count: 1 }, { count: 2 }, { count: 3 }]);
        };
        const turns = async (): Promise<void> => {
          await using stream = await client.stream<Text, Text>("echo", "Echo.Echo", limit);
          for (const text of ["one", "two"]) {
            await stream.send({ text });
            assert.deepEqual(await stream.receive(), { text });
            if (text === "one") await work();
          }
          stream.closeSend();
          assert.equal(await stream.receive(), undefined);
        };
        await Promise.all([loop(), turns()]);
      },

      async "wrappers see streams as async iterables"(fixture) {
        await serveEcho(fixture);
        const seen: string[] = [];
        const client = fixture.connect({
          wrapClient: [
            (next) =>
              async function* (request: AsyncIterable<Text>, context) {
                for await (const message of next(request, context) as AsyncIterable<Text>) {
                  seen.push(message.text);
                  yield message;
                }
              },
          ],
        });
        const texts = [{ text: "one" }, { text: "two" }];
        assert.deepEqual(await collect(client.client(Echo).echo(texts)), texts);
        await using stream = await client.stream<Text, Text>("echo", "Echo.Echo");
        await stream.send({ text: "three" });
        assert.deepEqual(await stream.receive(), { text: "three" });
        assert.deepEqual(seen, ["one", "two", "three"]);
      },

      async "a disposed client refuses calls and ends its streams"(fixture) {
        await serveEcho(fixture);
        const client = fixture.connect();
        const stream = await client.stream("echo", "Echo.Echo");
        const answer = stream.receive();
        await client[Symbol.asyncDispose]();
        await client[Symbol.asyncDispose]();
        await rejection(answer, "closed");
        await rejection(client.call("echo", "Echo.Say", {}), "closed");
        await rejection(client.stream("echo", "Echo.Echo"), "closed");
        await rejection(client.client(Echo).count({ count: 1 }).next(), "closed");
      },

      async "an event is published with its headers, its metadata and that of the call around it"(fixture) {
        await using broker = memoryBroker();
        const messages: BrokerMessage[] = [];
        await broker.subscribe("user.created", ({ message }) => void messages.push(message)).ready;
        const client = fixture.connect({ broker, from: "shop" });
        const publish = () => client.publish("user.created", { id: 7 }, publication);
        const publication = { contentType: "application/json", metadata: { "x-own": "o" } };
        const metadata = new Metadata({ "X-Tenant": "a", "Micro-Topic": "other", "Micro-Id": "1" });
        await runInContext(new Context({ service: "s", endpoint: "S.M", metadata }), publish);
        await until(() => messages.length === 1);
        const [message] = messages;
        assert.deepEqual(JSON.parse(Buffer.from(message?.body ?? []).toString()), { id: 7 });
        const { "Micro-Id": id, ...header } = message?.header.toJSON() ?? {};
        assert.notEqual(id, "1");
        assert.deepEqual(header, {
          "X-Tenant": "a",
          "X-Own": "o",
          "Micro-From-Service": "shop",
          "Content-Type": "application/json",
          "Micro-Topic": "user.created",
        });
      },

      async "a message that the topic's type refuses is not published"(fixture) {
        await using broker = memoryBroker();
        const messages: BrokerMessage[] = [];
        await broker.subscribe("numbers", ({ message }) => void messages.push(message)).ready;
        const client = fixture.connect({ broker });
        const Numbers = defineTopic("numbers", { name: "Numbers", validate: expectNumber });
        const error = await rejection(client.publish(Numbers, { n: "7" } as never), "bad_request");
        assert.equal(error.detail, "topic numbers: n: expected a number");
        await client.publish(Numbers, { n: 7 });
        await until(() => messages.length === 1);
      },

      async "publish wrappers run around every publish, the first listed outermost"(fixture) {
        await using broker = memoryBroker();
        const order: string[] = [];
        const wrapPublish = ["a", "b"].map((name): PublishWrapper => (next) => async (message, context) => {
          order.push(`${name} ${context.topic}`);
          await next(message, context);
          order.push(`${name} done`);
        });
        await fixture.connect({ broker, wrapPublish }).publish("t", {});
        assert.deepEqual(order, ["a t", "b t", "b done", "a done"]);
      },

      async "publishing without a topic, a broker or an open client is refused"(fixture) {
        await using broker = memoryBroker();
        await assert.rejects(fixture.connect().publish("t", {}), TypeError);
        const client = fixture.connect({ broker });
        await assert.rejects(client.publish("", {}), TypeError);
        await client[Symbol.asyncDispose]();
        await rejection(client.publish("t", {}), "closed");
      },
    },
    settings.skip,
  );
}

/** Codes as a handler throws them and as they arrive: on the wire there are numbers only. */
const codesOnTheWire: readonly (readonly [ErrorCode, ErrorCode, number])[] = [
  ["bad_request", "bad_request", 400],
  ["unauthorized", "unauthorized", 401],
  ["forbidden", "forbidden", 403],
  ["not_found", "not_found", 404],
  ["method_not_allowed", "method_not_allowed", 405],
  ["timeout", "timeout", 408],
  ["conflict", "conflict", 409],
  ["too_large", "too_large", 413],
  ["too_many_requests", "too_many_requests", 429],
  ["aborted", "aborted", 499],
  ["internal", "internal", 500],
  ["not_implemented", "not_implemented", 501],
  ["unavailable", "unavailable", 503],
  ["closed", "internal", 500],
  ["codec", "internal", 500],
  ["protocol", "internal", 500],
  ["unknown", "unknown", 0],
];

async function* countTo(last: number): AsyncGenerator<Count> {
  for (let count = 1; count <= last; count += 1) yield { count };
}

async function collect<T>(messages: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const message of messages) collected.push(message);
  return collected;
}

function expectNumber(message: unknown): { n: number } {
  if (typeof (message as { n?: unknown }).n !== "number") throw errors.badRequest("", "n: expected a number");
  return message as { n: number };
}

async function rejection(promise: Promise<unknown>, code?: ErrorCode): Promise<MicroError> {
  let error: unknown;
  try {
    await promise;
  } catch (caught) {
    error = caught;
  }
  if (error === undefined) throw new assert.AssertionError({ message: "nothing was thrown" });
  if (!MicroError.is(error)) throw error;
  if (code !== undefined) assert.equal(error.code, code, error.detail);
  return error;
}

/** Runs until the context is cancelled, and tells how that came. */
function waiting(context: Context, ended: (code: string) => void): Promise<never> {
  return new Promise((_, reject) => {
    context.cancellation.onCancel((reason) => {
      ended(reason.code);
      reject(reason);
    });
  });
}

/** Lets the caller's cancellation in, so that an endless handler ends. */
async function settled(context: Context): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  const reason = context.cancellation.reason;
  if (reason !== undefined) throw reason;
}

/** Longer than a limit of one second: that this much time passes is what is tested. */
function work(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1_500));
}

function brief(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}

async function* failing(): AsyncGenerator<Count> {
  yield { count: 1 };
  throw new Error("out of numbers");
}

/** Says how many listen. */
class CountingCancellation extends Cancellation {
  listeners = 0;
  override onCancel(listener: (reason: MicroError) => void): () => void {
    const remove = super.onCancel(listener);
    this.listeners += 1;
    let counted = true;
    return () => {
      if (counted) this.listeners -= 1;
      counted = false;
      remove();
    };
  }
}

async function until(
  condition: () => boolean,
  message = (): string => "the condition did not come true in 5 s",
): Promise<void> {
  const limit = performance.now() + 5_000;
  while (!condition()) {
    if (performance.now() > limit) throw new assert.AssertionError({ message: message() });
    await brief();
  }
}
