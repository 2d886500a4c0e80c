import { describe, expect, it } from "vitest";
import type { Context } from "../../src/context.ts";
import type { ServiceDefinition } from "../../src/definition.ts";
import { bidiHandler } from "../../src/server/kinds.ts";
import { mucpServer } from "../../src/server/mucp-server.ts";
import type { Server } from "../../src/server/server.ts";
import { LoopTransport } from "./support/loop-transport.ts";
import { MemoryLogger } from "./support/memory-logger.ts";
import { json, served } from "./support/served.ts";

function newServer(): Server {
  return mucpServer({ name: "greeter", transport: new LoopTransport(), logger: new MemoryLogger() });
}

class Base {
  readonly prefix: string;
  constructor(prefix: string) {
    this.prefix = prefix;
  }
  bye({ name }: { name: string }): unknown {
    return { msg: `${this.prefix} ${name}` };
  }
}

class Greeter extends Base {
  hello({ name }: { name: string }, context: Context): unknown {
    return { msg: `${this.prefix} ${name}`, endpoint: context.endpoint };
  }
  async *count({ to }: { to: number }): AsyncIterable<unknown> {
    for (let i = 0; i < to; i++) yield { i, prefix: this.prefix };
  }
  get hidden(): never {
    throw new Error("must not be read");
  }
  _internal(): void {}
}

describe("handlers", () => {
  it("are the methods of a class instance, inherited ones too, under the class's name", async () => {
    await using host = await served((server) => server.handle(new Greeter("Hello")));
    expect(host.server.endpoints().map(({ name }) => name)).toEqual(["Greeter.Bye", "Greeter.Count", "Greeter.Hello"]);
    expect(json(await host.call("Greeter.Hello", { name: "John" }))).toEqual({
      msg: "Hello John",
      endpoint: "Greeter.Hello",
    });
    expect(json(await host.call("Greeter.Bye", { name: "John" }))).toEqual({ msg: "Hello John" });
    const peer = host.exchange("Greeter.Count");
    peer.push('{"to":1}');
    expect(json(await peer.read())).toEqual({ i: 0, prefix: "Hello" });
  });

  it("may come from an instance under another name, and one by one", async () => {
    await using host = await served((server) => {
      server.handle("other", new Greeter("Hi"));
      server.handle("Say.hello", () => ({ a: 1 }));
      server.handle("Say.Bye", () => ({ b: 2 }));
    });
    expect(json(await host.call("Other.Hello", { name: "John" }))).toMatchObject({ msg: "Hi John" });
    expect(json(await host.call("Say.Hello"))).toEqual({ a: 1 });
    expect(json(await host.call("Say.Bye"))).toEqual({ b: 2 });
  });

  it("cannot take a name twice", () => {
    const server = newServer();
    server.handle("Greeter", { hello: () => ({}) });
    expect(() => server.handle("greeter", { bye: () => ({}) })).toThrow(TypeError);
    expect(() => server.handle("Greeter.Hello", () => ({}))).toThrow("there is a handler of this name already");
    server.handle("Greeter.Bye", () => ({}));
    expect(server.endpoints()).toHaveLength(2);
    expect(() => newServer().handle("G", { hello: () => ({}), Hello: () => ({}) })).toThrow("two methods");
  });

  it("are refused with a TypeError where something is wrong with them", () => {
    const server = newServer();
    for (const name of ["", "a.b.c", "a b", ".Hello", "Greeter.", "Greeter-X", "7up"])
      expect(() => server.handle(name, name.includes(".") ? () => ({}) : { hello: () => ({}) })).toThrow(TypeError);
    expect(() => server.handle("Greeter", () => ({}))).toThrow('"Greeter.Method"');
    expect(() => server.handle("Greeter", {})).toThrow("no method");
    expect(() => server.handle({ hello: () => ({}) })).toThrow("no class");
    expect(() => server.handle("Greeter", { hello: () => ({}) }, { metadata: { Bye: {} } })).toThrow('"Bye"');
    expect(() => server.handle(7 as never)).toThrow(TypeError);
    const definition = {
      service: "greeter",
      type: "Greeter",
      contentType: "application/json",
      methods: { hello: { name: "Hello", kind: "unary", request: { name: "A" }, response: { name: "B" } } },
    } as const satisfies ServiceDefinition;
    expect(() => server.handle(definition, {} as never)).toThrow('"hello" is missing');
    expect(() => server.handle(definition, { helo: () => ({}) } as never)).toThrow(
      'handle(Greeter): the handler "hello" is missing; is "helo" meant to be it?',
    );
    expect(() => server.handle(definition, { hello: () => ({}), helllo: () => ({}) } as never)).toThrow(
      'handle(Greeter): there is a handler "helllo", but no such method of Greeter; did you mean "hello"?',
    );
    expect(() => server.handle(definition, { hello: () => ({}), farewell: () => ({}) } as never)).toThrow(
      'handle(Greeter): there is a handler "farewell", but no such method of Greeter, which has hello',
    );
    class Misspelt {
      readonly helo = () => ({});
      unrelated() {}
    }
    expect(() => server.handle(definition, new Misspelt() as never)).toThrow('is "helo" meant to be it?');
    expect(() => server.handle(definition, { somethingElse: () => ({}) } as never)).toThrow(/"hello" is missing$/);
    expect(() => server.handle(definition, undefined as never)).toThrow(TypeError);
    expect(() => server.handle(definition, { hello: function* () {} })).toThrow("generator");
    expect(server.endpoints()).toEqual([]);
    // What a class has besides is its own, and so is what begins with an underscore, or is no function.
    class WithMore {
      hello = () => this.greet();
      greet() {
        return {};
      }
    }
    newServer().handle(definition, new WithMore());
    newServer().handle(definition, { hello: () => ({}), _greet: () => ({}), count: 0 } as never);
  });
});

const handle = (options: object) => () => newServer().handle("Greeter", { hello: () => ({}) }, options);

describe("options", () => {
  it("are checked when the server is made", () => {
    const rest = { transport: new LoopTransport(), logger: new MemoryLogger() };
    expect(() => mucpServer({ name: "", ...rest })).toThrow(TypeError);
    expect(() => mucpServer({ name: "a", maxConcurrency: 0, ...rest })).toThrow("maxConcurrency");
    expect(() => mucpServer({ name: "a", maxMessageBytes: 1.5, ...rest })).toThrow("maxMessageBytes");
    expect(() => mucpServer({ name: "a", adress: ":0", ...rest } as never)).toThrow("did you mean `address`?");
    expect(handle({ interal: true })).toThrow("did you mean `internal`?");
    for (const maxMessageBytes of [0, 1.5, Number.NaN, "1"])
      expect(handle({ maxMessageBytes })).toThrow("maxMessageBytes");
  });

  it("reach the transport", async () => {
    await using host = await served(() => {}, { address: "127.0.0.1:0", maxMessageBytes: 1000 });
    expect(host.transport.listenOptions).toMatchObject({ address: "127.0.0.1:0", maxMessageBytes: 1000 });
    expect(host.server.address).toBe("127.0.0.1:1");
    expect(host.server.name).toBe("mucp");
  });
});

describe("endpoints", () => {
  it("are listed in Go's order with their types and metadata, without internal ones", () => {
    const server = newServer();
    const definition = {
      service: "greeter",
      type: "Greeter",
      contentType: "application/json",
      methods: {
        hello: {
          name: "Hello",
          kind: "unary",
          request: {
            name: "Request",
            value: { name: "Request", type: "Request", values: [{ name: "name", type: "string", values: null }] },
          },
          response: { name: "Response" },
          metadata: { description: "says hello" },
          http: [
            { method: "GET", path: "/hello/{name}" },
            { method: "GET", path: "/hi/{name}" },
            { method: "POST", path: "/hello", body: "*" },
          ],
        },
        count: { name: "Count", kind: "server", request: { name: "Request" }, response: { name: "Response" } },
      },
    } as const satisfies ServiceDefinition;
    server.handle("Zebra.Run", () => ({}));
    server.handle(definition, { hello: () => ({}), count: () => [] }, { metadata: { Count: { owner: "team-a" } } });
    server.handle("Alpha", { chat: bidiHandler((messages) => messages) });
    const hidden = { ...definition.methods.hello, metadata: {} };
    server.handle({ ...definition, type: "Hidden", methods: { hidden } }, { hidden: () => ({}) });
    server.handle("Debug", { health: () => ({}) }, { internal: true });
    const any = { name: "any", type: "", values: null };
    const context = { name: "Context", type: "Context", values: null };
    const stream = { name: "Stream", type: "Stream", values: null };
    expect(server.endpoints()).toEqual([
      { name: "Alpha.Chat", request: context, response: stream, metadata: { stream: "true" } },
      { name: "Greeter.Count", request: context, response: stream, metadata: { owner: "team-a", stream: "true" } },
      {
        name: "Greeter.Hello",
        request: definition.methods.hello.request.value,
        response: { name: "Response", type: "Response", values: null },
        metadata: {
          endpoint: "Greeter.Hello",
          handler: "rpc",
          method: "GET",
          path: "/hello/{name},/hi/{name}",
          description: "says hello",
        },
      },
      {
        name: "Hidden.Hello",
        request: definition.methods.hello.request.value,
        response: { name: "Response", type: "Response", values: null },
        metadata: {},
      },
      { name: "Zebra.Run", request: any, response: any, metadata: {} },
    ]);
  });
});
