import { type } from "arktype";
import * as v from "valibot";
import { z } from "zod";
import { bidiStream, clientStream, defineService, serverStream, unary } from "../../src/schema.ts";

export const zodGreeter = defineService("greeter", {
  hello: unary({
    request: z.object({ name: z.string(), times: z.int().default(1), tags: z.array(z.string()).optional() }),
    response: z.object({ msg: z.string(), at: z.string().default("now") }),
    http: { method: "POST", path: "/hello", body: "*" },
    metadata: { description: "says hello" },
  }),
  count: serverStream({ request: z.object({ to: z.number() }), response: z.object({ i: z.number() }) }),
  sum: clientStream({ request: z.object({ i: z.number() }), response: z.object({ total: z.number() }) }),
  chat: bidiStream({ request: z.object({ say: z.string() }), response: z.object({ heard: z.string() }) }),
});

export const valibotGreeter = defineService("go.micro.srv.user-profile", {
  hello: unary({
    request: v.object({ name: v.string(), times: v.optional(v.number(), 1) }),
    response: v.object({ msg: v.string() }),
  }),
});

export const arktypeGreeter = defineService("greeter", {
  hello: unary({
    request: type({ name: "string", times: "number = 1" }),
    response: type({ msg: "string" }),
  }),
});
