import { type } from "arktype";
import * as v from "valibot";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import type { MessageType } from "../../src/definition.ts";
import { MicroError } from "../../src/errors.ts";
import { type MessageSource, defineService, jsonMessage, serverStream, unary } from "../../src/schema.ts";
import { arktypeGreeter, valibotGreeter, zodGreeter } from "./definitions.ts";

async function failure(message: MessageType, value: unknown): Promise<MicroError> {
  try {
    await message.validate!(value);
  } catch (error) {
    if (MicroError.is(error)) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

const any = z.object({});
const requestOf = (schema: MessageSource): MessageType =>
  defineService("s", { m: unary({ request: schema, response: any }) }).methods.m.request;

describe("defineService names", () => {
  it.each([
    ["greeter", "Greeter"],
    ["go.micro.srv.greeter", "Greeter"],
    ["go.micro.srv.user-profile", "UserProfile"],
    ["user_profile.v2", "V2"],
    ["Greeter", "Greeter"],
    ["a--b", "AB"],
  ])("%s has the type %s", (service, expected) => {
    expect(defineService(service, {})).toEqual({
      service,
      type: expected,
      methods: {},
      contentType: "application/json",
    });
  });

  it("methods by their key with a capital, messages after their method", () => {
    const { hello, count } = zodGreeter.methods;
    expect([hello.name, hello.kind, hello.request.name, hello.response.name]).toEqual([
      "Hello",
      "unary",
      "HelloRequest",
      "HelloResponse",
    ]);
    expect([count.name, count.kind]).toEqual(["Count", "server"]);
    expect([zodGreeter.methods.sum.kind, zodGreeter.methods.chat.kind]).toEqual(["client", "bidi"]);
    expect(hello.http).toEqual([{ method: "POST", path: "/hello", body: "*" }]);
    expect(hello.metadata).toEqual({ description: "says hello" });
    expect(count.http).toBeUndefined();
  });

  it("take a type and a content type by option", () => {
    const options = { type: "Hi", contentType: "application/json-rpc" };
    expect(defineService("123", {}, options)).toMatchObject(options);
  });

  it("are refused where Go could not have them", () => {
    const method = unary({ request: any, response: any });
    expect(() => defineService("", {})).toThrow(TypeError);
    expect(() => defineService("123", {})).toThrow(/pass `type`/);
    expect(() => defineService("go.micro.", {})).toThrow(TypeError);
    expect(() => defineService("s", {}, { type: "not good" })).toThrow(TypeError);
    expect(() => defineService("s", { hello: method, Hello: method })).toThrow(
      "defineService: methods `hello` and `Hello` are both S.Hello on the wire",
    );
    for (const key of ["", "a.b", "1st", "_x", "then", "__proto__"])
      expect(() => defineService("s", Object.fromEntries([[key, method]]))).toThrow(/cannot be a method name/);
  });

  it("refuse what is no validator", () => {
    const wrong = { parse: (value: unknown) => value } as never;
    expect(() => unary({ request: wrong, response: any })).toThrow(/^unary: `request` is neither a Standard Schema/);
    expect(() => unary({ request: any, response: undefined as never })).toThrow(/`response`/);
    expect(() => unary({ request: Date as never, response: any })).toThrow(/`request`/);
    expect(() => unary(undefined as never)).toThrow(TypeError);
    // As ts-proto has it; those of protoc-gen-micro are tested there.
    const generated = { encode: () => ({ finish: () => new Uint8Array() }), decode: () => ({}), $type: "a.b.Order" };
    expect(() => unary({ request: generated as never, response: any })).toThrow(
      "unary: `request` is a generated message: pass protoMessage(Order)",
    );
    expect(() => serverStream({ request: any, response: { ...generated, $type: undefined } as never })).toThrow(
      "serverStream: `response` is a generated message: pass protoMessage(X)",
    );
  });
});

describe("validation of requests", () => {
  it.each([
    ["zod", zodGreeter.methods.hello.request, "name: expected string, received number"],
    ["valibot", valibotGreeter.methods.hello.request, "name: expected string but received 3"],
    ["arktype", arktypeGreeter.methods.hello.request, "name: must be a string (was a number)"],
  ] as const)("fills defaults, and names the field: %s", async (_, request, detail) => {
    expect(await request.validate!({ name: "John" })).toEqual({ name: "John", times: 1 });
    const error = await failure(request, { name: 3 });
    expect([error.code, error.statusCode, error.detail]).toEqual(["bad_request", 400, detail]);
  });

  it.each([
    ["zod", z.object({ users: z.array(z.object({ age: z.number() })) })],
    ["valibot", v.object({ users: v.array(v.object({ age: v.number() })) })],
    ["arktype", type({ users: type({ age: "number" }).array() })],
  ])("names fields in lists: %s", async (_, schema) => {
    const error = await failure(requestOf(schema), { users: [{ age: 1 }, { age: "x" }] });
    expect(error.detail).toMatch(/^users\[1\]\.age: /);
  });

  it("joins several issues and bounds them", async () => {
    const schema = z.object({ a: z.string(), b: z.number() });
    expect((await failure(requestOf(schema), {})).detail).toBe(
      "a: expected string, received undefined; b: expected number, received undefined",
    );
    const many = z.object(Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`f${index}`, z.string()])));
    const { detail } = await failure(requestOf(many), {});
    expect(detail).toContain("; and 492 more");
    expect(detail.length).toBeLessThan(1000);
    const long = z.string().refine(() => false, { message: "x".repeat(10_000) });
    expect((await failure(requestOf(long), "a")).detail.length).toBeLessThan(300);
  });

  it("says what is wrong with a message that is no object", async () => {
    expect((await failure(requestOf(z.object({})), 5)).detail).toBe("expected object, received number");
  });

  it("awaits validators that are asynchronous", async () => {
    const free = z.object({ name: z.string().refine(async (name) => name !== "taken", { message: "is taken" }) });
    expect(await requestOf(free).validate!({ name: "new" })).toEqual({ name: "new" });
    expect((await failure(requestOf(free), { name: "taken" })).detail).toBe("name: is taken");
    const slow = v.pipeAsync(
      v.string(),
      v.checkAsync(async (text) => text === "ok", "is not ok"),
    );
    expect(await requestOf(slow).validate!("ok")).toBe("ok");
    expect((await failure(requestOf(slow), "no")).detail).toBe("is not ok");
  });

  it("stays synchronous where the validator is", () => {
    expect(zodGreeter.methods.hello.request.validate!({ name: "a" })).toEqual({ name: "a", times: 1 });
    expect(() => zodGreeter.methods.hello.request.validate!({})).toThrow(MicroError);
  });
});

describe("validation of responses", () => {
  it("fills defaults, and names the field for the server to report", async () => {
    const { response } = zodGreeter.methods.hello;
    expect(await response.validate!({ msg: "hi" })).toEqual({ msg: "hi", at: "now" });
    const error = await failure(response, { message: "typo" });
    expect([error.code, error.id]).toEqual(["bad_request", ""]);
    expect(error.detail).toBe("msg: expected string, received undefined");
  });
});

describe("descriptions for the registry", () => {
  it.each([
    ["zod", zodGreeter.methods.hello.request],
    ["arktype", arktypeGreeter.methods.hello.request],
  ])("come from the validator's JSON Schema: %s", (_, request) => {
    expect(request.value).toMatchObject({ name: "HelloRequest", type: "HelloRequest" });
    expect(request.value!.values).toContainEqual({ name: "name", type: "string", values: null });
    expect(request.value!.values!.map(({ name }) => name)).toEqual(expect.arrayContaining(["name", "times"]));
  });

  it("know integers, lists and optional fields", () => {
    expect(zodGreeter.methods.hello.request.value).toEqual({
      name: "HelloRequest",
      type: "HelloRequest",
      values: [
        { name: "name", type: "string", values: null },
        { name: "times", type: "int64", values: null },
        { name: "tags", type: "[]string", values: null },
      ],
    });
    expect(zodGreeter.methods.hello.response.value!.values!.map(({ name }) => name)).toEqual(["msg", "at"]);
  });

  it("are the name alone where the validator cannot tell", () => {
    const bare = { name: "HelloRequest", type: "HelloRequest", values: null };
    expect(valibotGreeter.methods.hello.request.value).toEqual(bare);
    const bigints = unary({ request: z.object({ id: z.coerce.bigint() }), response: any });
    expect(defineService("s", { hello: bigints }).methods.hello.request.value).toEqual(bare);
  });

  it("can be given by hand", () => {
    const value = { name: "Req", type: "Req", values: [] };
    const { hello } = defineService("s", {
      hello: unary({ request: v.object({}), response: any, value: { request: value } }),
    }).methods;
    expect(hello.request.value).toBe(value);
    expect(hello.response.value!.type).toBe("HelloResponse");
  });
});

describe("message types in place of validators", () => {
  it("are taken as they are", () => {
    const request = jsonMessage<{ name: string }>("HelloRequest");
    const Greeter = defineService("greeter", {
      hello: unary({ request, response: jsonMessage<{ msg: string }>("HelloResponse") }),
    });
    expect(Greeter.methods.hello.request).toBe(request);
    expect(Greeter.methods.hello).toMatchObject({ name: "Hello", kind: "unary", response: { name: "HelloResponse" } });
  });
});
