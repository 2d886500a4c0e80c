import { describe, expect, it } from "vitest";
import { contextKey, currentContext, type Context } from "../../src/context.ts";
import { MicroError, badRequest } from "../../src/errors.ts";
import type { ServiceDefinition } from "../../src/definition.ts";
import { Metadata } from "../../src/metadata.ts";
import { Frame } from "../../src/codec/codec.ts";
import { errorOf, json, served, waitFor } from "./support/served.ts";

const typed = {
  service: "greeter",
  type: "Greeter",
  contentType: "application/protobuf",
  methods: {
    hello: {
      name: "Hello",
      kind: "unary",
      request: {
        name: "Request",
        binary: {
          encode: (message: { name: string }) => Buffer.from(message.name),
          decode: (bytes: Uint8Array) => ({ name: Buffer.from(bytes).toString() }),
        },
      },
      response: {
        name: "Response",
        binary: {
          encode: (message: { msg: string }) => Buffer.from(message.msg),
          decode: (bytes: Uint8Array) => ({ msg: Buffer.from(bytes).toString() }),
        },
      },
    },
  },
} as const satisfies ServiceDefinition;

describe("unary calls", () => {
  it("answer what a handler returns at once before the exchange handler returns", async () => {
    await using host = await served((server) =>
      server.handle("Greeter", { hello: ({ name }: { name: string }) => ({ msg: `Hello ${name}` }) }),
    );
    const peer = host.exchange("Greeter.Hello", { name: "John" });
    expect(peer.replies).toBe(1);
    const answer = await peer.answer;
    expect(json(answer)).toEqual({ msg: "Hello John" });
    expect(answer.contentType).toBe("application/json");
    expect(host.server.stats).toEqual({ requests: 1, errors: 0, inFlight: 0 });
  });

  it("answer what a promise resolves to", async () => {
    await using host = await served((server) =>
      server.handle("Greeter.Hello", async ({ name }) => ({ msg: `Hello ${name}` })),
    );
    const peer = host.exchange("Greeter.Hello", { name: "John" });
    expect(host.server.stats.inFlight).toBe(1);
    expect(json(await peer.answer)).toEqual({ msg: "Hello John" });
    expect(host.server.stats.inFlight).toBe(0);
  });

  it("take an empty body, and Go's null, for the empty message, and answer undefined with one", async () => {
    const seen: unknown[] = [];
    await using host = await served((server) => {
      server.handle("Plain", { hello: (request: unknown) => void seen.push(request) });
      server.handle(typed, { hello: (request) => void seen.push(request) as never });
    });
    const empty = await host.call("Plain.Hello");
    expect(Buffer.from(empty.body).toString()).toBe("{}\n");
    await host.call("Plain.Hello", null);
    const proto = await host.call("Greeter.Hello", undefined, { contentType: "application/protobuf" });
    expect(proto.body).toHaveLength(0);
    expect(proto.contentType).toBeUndefined();
    expect(seen).toEqual([{}, {}, { name: "" }]);
  });

  it("use protobuf where no content type is given, as Go", async () => {
    await using host = await served((server) =>
      server.handle(typed, { hello: ({ name }) => ({ msg: `Hello ${name}` }) }),
    );
    const answer = await host.call("Greeter.Hello", undefined, { contentType: "", body: Buffer.from("John") });
    expect(Buffer.from(answer.body).toString()).toBe("Hello John");
    expect(answer.contentType).toBe("application/protobuf");
  });

  it("send the bytes of a frame as they are", async () => {
    await using host = await served((server) => server.handle("Raw.Get", () => new Frame(Buffer.from([1, 2]))));
    expect([...(await host.call("Raw.Get")).body]).toEqual([1, 2]);
  });

  it("name what cannot be found, with Go's texts and a 404", async () => {
    await using host = await served((server) => server.handle("Greeter.Hello", () => ({})));
    expect(errorOf(await host.call("Nobody.Hello"))).toEqual({
      id: "greeter",
      code: 404,
      detail: "rpc: can't find service Nobody",
      status: "Not Found",
    });
    expect(errorOf(await host.call("Greeter.hello"))).toMatchObject({
      detail: "rpc: can't find method hello; did you mean Greeter.Hello?",
    });
    for (const endpoint of ["", "Greeter", "a.Greeter.Hello"])
      expect(errorOf(await host.call(endpoint))).toMatchObject({
        code: 400,
        detail: `rpc: service/endpoint request ill-formed: ${endpoint}`,
      });
    expect(host.server.stats).toEqual({ requests: 5, errors: 5, inFlight: 0 });
  });

  it("answer an unknown content type with Go's text and an error beside it", async () => {
    await using host = await served((server) => server.handle("Greeter.Hello", () => ({})));
    const answer = await host.call("Greeter.Hello", {}, { contentType: "application/json; charset=utf-8" });
    expect(answer.contentType).toBe("text/plain");
    expect(Buffer.from(answer.body).toString()).toBe("unsupported Content-Type: application/json; charset=utf-8");
    expect(errorOf(answer)).toMatchObject({ id: "greeter", code: 415 });
  });

  it("refuse a body that is not what it says with 400", async () => {
    await using host = await served((server) => server.handle("Greeter.Hello", () => ({})));
    const answer = await host.call("Greeter.Hello", undefined, { body: Buffer.from("{") });
    expect(errorOf(answer)).toMatchObject({ id: "greeter", code: 400, status: "Bad Request" });
    expect(answer.error).toContain("rpc: router cannot decode request: ");
  });

  it("deliver events to nobody with success", async () => {
    await using host = await served(() => {});
    const answer = await host.call("", undefined, { topic: "user.created", contentType: "application/unknown" });
    expect(answer).toMatchObject({ body: new Uint8Array(0) });
    expect(answer.error).toBeUndefined();
  });
});

describe("errors of handlers", () => {
  it("travel with id, code, detail and status", async () => {
    await using host = await served((server) =>
      server.handle("Srv.Call", () => {
        throw badRequest("com.example.srv.service", "invalid <field>");
      }),
    );
    const { error } = await host.call("Srv.Call");
    expect(error).toBe(
      '{"id":"com.example.srv.service","code":400,"detail":"invalid \\u003cfield\\u003e","status":"Bad Request"}',
    );
  });

  it("get the service's name as id where they have none", async () => {
    await using host = await served((server) =>
      server.handle("Srv.Call", async () => {
        throw new MicroError("no", { code: "forbidden" });
      }),
    );
    expect(errorOf(await host.call("Srv.Call"))).toMatchObject({ id: "greeter", code: 403 });
  });

  it("that are plain become a 500 with the message alone; stack and cause are logged", async () => {
    const failure = new Error("boom", { cause: new Error("secret") });
    await using host = await served((server) => {
      server.handle("Srv", {
        thrown() {
          throw failure;
        },
        async rejected() {
          throw failure;
        },
        odd() {
          // oxlint-disable-next-line no-throw-literal -- What a careless handler does.
          throw "a string";
        },
      });
    });
    const expected = { id: "greeter", code: 500, detail: "boom", status: "Internal Server Error" };
    expect(errorOf(await host.call("Srv.Thrown"))).toEqual(expected);
    expect(errorOf(await host.call("Srv.Rejected"))).toEqual(expected);
    expect(errorOf(await host.call("Srv.Odd"))).toMatchObject({ code: 500, detail: "a string" });
    const logged = host.logger.records.filter(({ level }) => level === "error");
    expect(logged).toHaveLength(3);
    expect(logged[0]!.fields).toMatchObject({ error: failure, endpoint: "Srv.Thrown" });
    expect(host.server.stats.errors).toBe(3);
  });

  it("are cut to a length that fits into a header", async () => {
    await using host = await served((server) =>
      server.handle("Srv.Call", () => {
        throw new Error("\u0001".repeat(1_000_000));
      }),
    );
    expect((await host.call("Srv.Call")).error!.length).toBeLessThan(32_000);
  });

  it("are 500 for a response that cannot be encoded", async () => {
    await using host = await served((server) =>
      server.handle("Srv.Call", () => {
        const loop: Record<string, unknown> = {};
        loop["self"] = loop;
        return loop;
      }),
    );
    const answer = await host.call("Srv.Call");
    expect(errorOf(answer)).toMatchObject({ id: "greeter", code: 500 });
    expect(answer.error).toContain("Unable to encode body: ");
  });

  it("that come from a passed deadline are 408", async () => {
    await using host = await served((server) => {
      server.handle("Srv", {
        waits: (_: unknown, { signal }: Context) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener("abort", () => reject(signal.reason as Error));
          }),
        gives: (_: unknown, { signal }: Context) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
          }),
      });
    });
    for (const endpoint of ["Srv.Waits", "Srv.Gives"])
      expect(errorOf(await host.call(endpoint, {}, { timeoutMs: 5 }))).toMatchObject({
        code: 408,
        status: "Request Timeout",
      });
  });

  it("do not count when the caller has gone", async () => {
    await using host = await served((server) =>
      server.handle(
        "Srv.Waits",
        (_: unknown, { signal }: Context) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener("abort", () => reject(signal.reason as Error));
          }),
      ),
    );
    const peer = host.exchange("Srv.Waits");
    peer.leave();
    await waitFor(() => host.server.stats.inFlight === 0);
    expect(host.server.stats).toEqual({ requests: 1, errors: 0, inFlight: 0 });
  });

  it("do not end a handler that runs past its deadline: its answer is sent, as in Go", async () => {
    await using host = await served((server) => server.handle("Srv.Call", async () => ({ late: true })));
    expect(json(await host.call("Srv.Call", {}, { timeoutMs: 0 }))).toEqual({ late: true });
  });
});

const checked = (validate: (message: unknown) => unknown): ServiceDefinition => ({
  service: "greeter",
  type: "Greeter",
  contentType: "application/json",
  methods: {
    hello: { name: "Hello", kind: "unary", request: { name: "Request", validate }, response: { name: "Response" } },
  },
});

const validate = (message: unknown): unknown => {
  const { name } = message as { name?: unknown };
  if (typeof name !== "string") throw new MicroError("name: expected a string", { code: "bad_request" });
  return { name: name.trim() };
};

describe("validation", () => {
  it("refuses a request with a 400 that names the field, and gives the handler what the validator made", async () => {
    for (const check of [validate, async (message: unknown) => validate(message)]) {
      await using host = await served((server) =>
        server.handle(checked(check), { hello: (request: unknown) => request }),
      );
      expect(json(await host.call("Greeter.Hello", { name: " John " }))).toEqual({ name: "John" });
      expect(errorOf(await host.call("Greeter.Hello", { name: 7 }))).toEqual({
        id: "greeter",
        code: 400,
        detail: "name: expected a string",
        status: "Bad Request",
      });
    }
  });

  it("makes a response that its own type refuses a 500", async () => {
    const definition = {
      ...checked((message) => message),
      methods: {
        hello: {
          name: "Hello",
          kind: "unary" as const,
          request: { name: "Request" },
          response: {
            name: "Response",
            validate() {
              throw badRequest("", "msg: missing");
            },
          },
        },
      },
    };
    await using host = await served((server) => server.handle(definition, { hello: () => ({}) }));
    expect(errorOf(await host.call("Greeter.Hello", {}))).toEqual({
      id: "greeter",
      code: 500,
      detail: "Greeter.Hello gave an invalid response: msg: missing",
      status: "Internal Server Error",
    });
  });
});

describe("wrappers", () => {
  it("run with the first listed outermost and see service, endpoint, headers and body", async () => {
    const order: string[] = [];
    await using host = await served((server) => server.handle("Greeter.Hello", () => ({})), {
      wrapHandler: [
        (next) => async (request, context) => {
          order.push(
            `first ${context.service} ${context.endpoint} ${context.metadata.get("x-user")} ${context.body.length}`,
          );
          const result: unknown = await next(request, context);
          order.push("first done");
          return result;
        },
        (next) => (request, context) => {
          order.push("second");
          return next(request, context) as unknown;
        },
      ],
    });
    await host.call("Greeter.Hello", {}, { header: new Metadata({ "X-User": "7" }) });
    expect(order).toEqual(["first greeter Greeter.Hello 7 2", "second", "first done"]);
  });

  it("hand values to the handler, whose context is the current one", async () => {
    const account = contextKey<string>("account");
    const seen: unknown[] = [];
    await using host = await served(
      (server) =>
        server.handle("Greeter", {
          async hello(_: unknown, context: Context) {
            await Promise.resolve();
            seen.push(context.get(account), currentContext() === context);
          },
          *count(_: unknown, context: Context) {
            seen.push(context.get(account), currentContext() === context);
            yield {};
            seen.push(currentContext() === context);
          },
        }),
      {
        wrapHandler: [
          (next) => (request, context) => next(request, context.with(account, "john")) as unknown,
          (next) => async (request, context) => {
            seen.push(currentContext()?.get(account));
            return (await next(request, context)) as unknown;
          },
        ],
      },
    );
    await host.call("Greeter.Hello");
    expect(seen).toEqual(["john", "john", true]);
    seen.length = 0;
    const peer = host.exchange("Greeter.Count");
    peer.push("{}");
    await peer.read();
    expect(await peer.read()).toBeUndefined();
    expect(seen).toEqual(["john", "john", true, true]);
    expect(currentContext()).toBeUndefined();
  });

  it("may answer without the handler", async () => {
    await using host = await served((server) => server.handle("Greeter.Hello", () => ({})), {
      wrapHandler: [
        () => () => {
          throw new MicroError("no", { code: "unauthorized" });
        },
      ],
    });
    expect(errorOf(await host.call("Greeter.Hello"))).toMatchObject({ code: 401 });
  });
});
