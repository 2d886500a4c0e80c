// Checked by `tsc -p packages/core/test/tsconfig.json`; never run.
import { type } from "arktype";
import * as v from "valibot";
import { expectTypeOf } from "vitest";
import { z } from "zod";
import type { CallOptions, Client, ServiceClient } from "../../src/client/client.ts";
import type { Context } from "../../src/context.ts";
import type { ServiceDefinition, Streamable } from "../../src/definition.ts";
import type { JsonForm, NotJson } from "../../src/json-form.ts";
import {
  bidiStream,
  clientStream,
  defineService,
  empty,
  type jsonMessage,
  serverStream,
  unary,
} from "../../src/schema.ts";
import { defineTopic, type TopicDefinition } from "../../src/topic.ts";
import type { HandlerRegistration, ServiceHandlers } from "../../src/server/server.ts";
import { protoMessage, type ProtoInput } from "../../src/proto.ts";
import { Profile } from "../codec/gen/greeter.ts";
import { arktypeGreeter, valibotGreeter, zodGreeter } from "./definitions.ts";

type MethodsOf<Definition> = Definition extends ServiceDefinition<infer Methods> ? Methods : never;
type Greeter = MethodsOf<typeof zodGreeter>;
type GreeterClient = ServiceClient<Greeter>;
type GreeterHandlers = ServiceHandlers<Greeter>;

interface HelloInput {
  name: string;
  times?: number | undefined;
  tags?: string[] | undefined;
}

interface HelloOutput {
  name: string;
  times: number;
  tags?: string[] | undefined;
}

// A client passes inputs and receives outputs.
expectTypeOf<Parameters<GreeterClient["hello"]>>().toEqualTypeOf<
  [request: HelloInput, options?: CallOptions | undefined]
>();
expectTypeOf<ReturnType<GreeterClient["hello"]>>().toEqualTypeOf<Promise<{ msg: string; at: string }>>();
expectTypeOf<ReturnType<GreeterClient["count"]>>().toEqualTypeOf<AsyncIterableIterator<{ i: number }>>();
expectTypeOf<Parameters<GreeterClient["sum"]>[0]>().toEqualTypeOf<Streamable<{ i: number }>>();
expectTypeOf<ReturnType<GreeterClient["sum"]>>().toEqualTypeOf<Promise<{ total: number }>>();
expectTypeOf<Parameters<GreeterClient["chat"]>[0]>().toEqualTypeOf<Streamable<{ say: string }>>();
expectTypeOf<ReturnType<GreeterClient["chat"]>>().toEqualTypeOf<AsyncIterableIterator<{ heard: string }>>();
expectTypeOf<keyof GreeterClient>().toEqualTypeOf<"hello" | "count" | "sum" | "chat">();

// A handler receives outputs and returns inputs.
expectTypeOf<Parameters<GreeterHandlers["hello"]>>().toEqualTypeOf<[request: HelloOutput, context: Context]>();
expectTypeOf<Awaited<ReturnType<GreeterHandlers["hello"]>>>().toEqualTypeOf<{
  msg: string;
  at?: string | undefined;
}>();
expectTypeOf<ReturnType<GreeterHandlers["count"]>>().toEqualTypeOf<Streamable<{ i: number }>>();
expectTypeOf<Parameters<GreeterHandlers["sum"]>[0]>().toEqualTypeOf<AsyncIterable<{ i: number }>>();

// The same of the other libraries.
type Valibot = ServiceClient<MethodsOf<typeof valibotGreeter>>;
type Arktype = ServiceClient<MethodsOf<typeof arktypeGreeter>>;
expectTypeOf<Parameters<Valibot["hello"]>[0]>().toEqualTypeOf<{ name: string; times?: number | undefined }>();
expectTypeOf<Parameters<Arktype["hello"]>[0]>().toEqualTypeOf<{ name: string; times?: number }>();
expectTypeOf<Awaited<ReturnType<Arktype["hello"]>>>().toEqualTypeOf<{ msg: string }>();

export async function clientCode(client: Client): Promise<void> {
  const greeter = client.client(zodGreeter);
  const { msg } = await greeter.hello({ name: "John" }, { timeoutMs: 500 });
  expectTypeOf(msg).toEqualTypeOf<string>();
  for await (const { i } of greeter.count({ to: 3 })) expectTypeOf(i).toEqualTypeOf<number>();
  await greeter.sum([{ i: 1 }]);
  // @ts-expect-error a field of the wrong type
  await greeter.hello({ name: 5 });
  // @ts-expect-error a field that does not exist
  await greeter.hello({ name: "John", nick: "J" });
  // @ts-expect-error a field is missing
  await greeter.hello({});
  // @ts-expect-error a method that does not exist
  await greeter.bye({});
  // @ts-expect-error a field that the response does not have
  void (await greeter.hello({ name: "John" })).message;
  // @ts-expect-error an option that does not exist
  await greeter.hello({ name: "John" }, { timeout: 5 });
}

export function serverCode(server: HandlerRegistration): void {
  server.handle(zodGreeter, {
    hello: ({ name, times }, context) => {
      expectTypeOf(context).toEqualTypeOf<Context>();
      return { msg: name.repeat(times) };
    },
    async *count({ to }) {
      for (let i = 1; i <= to; i++) yield { i };
    },
    async sum(requests) {
      let total = 0;
      for await (const { i } of requests) total += i;
      return { total };
    },
    async *chat(requests, context) {
      context.signal.throwIfAborted();
      for await (const { say } of requests) yield { heard: say };
    },
  });
  const single = defineService("single", { hello: zodGreeter.methods.hello });
  // @ts-expect-error handlers are missing
  server.handle(zodGreeter, { hello: ({ name }) => ({ msg: name }) });
  // @ts-expect-error all handlers are missing
  server.handle(zodGreeter, {});
  // @ts-expect-error a response of the wrong type
  server.handle(single, { hello: () => ({ msg: 5 }) });
  // @ts-expect-error a response without a required field
  server.handle(single, { hello: async () => ({}) });
  // @ts-expect-error the request has no such field
  server.handle(single, { hello: ({ nick }) => ({ msg: nick }) });
}

// @ts-expect-error not a validator
export const wrong = (): unknown => unary({ request: z.object({}), response: { type: "string" } });

// Proto messages: what is sent may leave fields out, what arrives is complete.
const profileType = protoMessage(Profile);
type ProfileType = typeof profileType;
expectTypeOf<Parameters<NonNullable<ProfileType["binary"]>["encode"]>[0]>().toEqualTypeOf<ProtoInput<Profile>>();
expectTypeOf<{ firstName: string }>().toExtend<ProtoInput<Profile>>();

const protoService = {
  service: "profiles",
  type: "Profiles",
  contentType: "application/protobuf",
  methods: { save: { name: "Save", kind: "unary", request: profileType, response: profileType } },
} as const satisfies ServiceDefinition;

export async function protoCode(client: Client, server: HandlerRegistration): Promise<void> {
  const profiles = client.client(protoService);
  const saved = await profiles.save({ firstName: "Ada", nextOfKin: { pastNames: ["x"] } });
  expectTypeOf(saved).toEqualTypeOf<Profile>();
  // @ts-expect-error a field of the wrong type, deep inside
  await profiles.save({ nextOfKin: { firstName: 5 } });
  server.handle(protoService, {
    save: (request) => {
      expectTypeOf(request).toEqualTypeOf<Profile>();
      return { userId: request.userId };
    },
  });
}

// What does not survive JSON is told as what it arrives as, or does not compile.
declare const any: ReturnType<typeof jsonMessage<{ ok: boolean }>>;
const Times = defineService("times", {
  dated: unary({
    request: z.object({ at: z.coerce.date(), big: z.coerce.bigint(), day: z.iso.date() }),
    response: z.object({ at: z.date(), big: z.bigint(), list: z.array(z.date()), maybe: z.date().optional() }),
  }),
  ping: unary({ request: z.void(), response: z.void() }),
  pong: unary({ request: empty, response: empty }),
  maybe: unary({ request: z.object({ a: z.string() }).optional(), response: z.object({ a: z.string() }).optional() }),
  decoded: unary({
    request: z.object({
      at: z.codec(z.iso.datetime(), z.date(), {
        decode: (text) => new Date(text),
        encode: (date) => date.toISOString(),
      }),
    }),
    response: z.object({ map: z.map(z.string(), z.number()), bytes: z.instanceof(Uint8Array) }),
  }),
  counted: unary({ request: z.object({ n: z.string().transform(Number) }), response: any }),
});
type TimesClient = ServiceClient<MethodsOf<typeof Times>>;
type TimesHandlers = ServiceHandlers<MethodsOf<typeof Times>>;
expectTypeOf<Parameters<TimesHandlers["dated"]>[0]>().toEqualTypeOf<{ at: Date; big: bigint; day: string }>();
expectTypeOf<Awaited<ReturnType<TimesClient["dated"]>>>().toEqualTypeOf<{
  at: string;
  big: string;
  list: string[];
  maybe?: string | undefined;
}>();
expectTypeOf<Parameters<TimesHandlers["decoded"]>[0]>().toEqualTypeOf<{ at: Date }>();
expectTypeOf<Parameters<TimesClient["decoded"]>[0]>().toEqualTypeOf<{ at: string }>();
expectTypeOf<Awaited<ReturnType<TimesClient["decoded"]>>>().toEqualTypeOf<{ map: NotJson; bytes: string }>();
expectTypeOf<Parameters<TimesHandlers["counted"]>[0]>().toEqualTypeOf<{ n: number }>();
expectTypeOf<Awaited<ReturnType<TimesClient["ping"]>>>().toEqualTypeOf<void>();
expectTypeOf<Awaited<ReturnType<TimesClient["pong"]>>>().toEqualTypeOf<void>();
expectTypeOf<Awaited<ReturnType<TimesClient["maybe"]>>>().toEqualTypeOf<{ a: string } | Record<string, never>>();

export async function nothing(client: TimesClient): Promise<void> {
  await client.ping();
  await client.pong(undefined, { timeoutMs: 5 });
}

// @ts-expect-error a date arrives as text, which this does not take
export const dated = (): unknown => unary({ request: z.object({ at: z.date() }), response: any });
const deeply = z.object({ a: z.array(z.object({ b: z.bigint() })) });
// @ts-expect-error deep inside
export const deep = (): unknown => unary({ request: deeply, response: any });
// @ts-expect-error of each message of a stream as well
export const streamed = (): unknown => clientStream({ request: z.object({ at: z.date() }), response: any });
// @ts-expect-error a map arrives as nothing
export const mapped = (): unknown => bidiStream({ request: z.map(z.string(), z.number()), response: any });
// @ts-expect-error bytes arrive as text
export const bytes = (): unknown => serverStream({ request: z.instanceof(Uint8Array), response: any });
// @ts-expect-error the same of what is published
export const published = (): unknown => defineTopic("t", z.object({ at: z.date() }));
// @ts-expect-error of the other libraries, too
export const valibot = (): unknown => unary({ request: v.object({ at: v.date() }), response: any });
// @ts-expect-error
export const arktype = (): unknown => unary({ request: type({ at: "Date" }), response: any });
export const coerced: TopicDefinition<{ at: unknown }, { at: Date }> = defineTopic(
  "t",
  z.object({ at: z.coerce.date() }),
);

interface Tree {
  readonly name: string;
  readonly children: readonly Tree[];
  readonly made: Date;
}
expectTypeOf<JsonForm<Tree>["children"][number]["made"]>().toEqualTypeOf<string>();
expectTypeOf<JsonForm<[Date, bigint?]>>().toEqualTypeOf<[string, string?]>();
expectTypeOf<JsonForm<"a" | 1 | null | Date>>().toEqualTypeOf<string | 1 | null>();
expectTypeOf<JsonForm<Record<string, Date>>>().toEqualTypeOf<Record<string, string>>();
expectTypeOf<JsonForm<{ readonly a?: () => void; b: any; c: unknown }>>().toEqualTypeOf<{
  readonly a?: NotJson;
  b: any;
  c: unknown;
}>();
