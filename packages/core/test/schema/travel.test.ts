import { type } from "arktype";
import * as v from "valibot";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { mucpClient } from "../../src/client/mucp-client.ts";
import { MicroError } from "../../src/errors.ts";
import { memoryRegistry } from "../../src/registry/memory.ts";
import { bidiStream, defineService, empty, jsonMessage, unary } from "../../src/schema.ts";
import { cachedSelector } from "../../src/selector/cached-selector.ts";
import type { HandlerRegistration } from "../../src/server/server.ts";
import { mucpServer } from "../../src/server/mucp-server.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import { MemoryLogger } from "../server/support/memory-logger.ts";

/** A server with these handlers, and a client that calls it. */
async function pair(register: (server: HandlerRegistration) => void) {
  const stack = new AsyncDisposableStack();
  const logger = new MemoryLogger();
  const transport = stack.use(httpTransport());
  const registry = stack.use(memoryRegistry());
  const selector = stack.use(cachedSelector({ registry, logger }));
  const server = stack.use(mucpServer({ name: "test", transport, logger, address: "127.0.0.1:0" }));
  const client = stack.use(mucpClient({ transport, selector, logger }));
  register(server);
  await server.start();
  const { address } = server;
  return { client, options: { address, service: "test" }, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

async function failure(promise: Promise<unknown>): Promise<MicroError> {
  try {
    await promise;
  } catch (error) {
    if (MicroError.is(error)) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

const at = new Date("2026-01-02T03:04:05.000Z");

describe("what travels as JSON", () => {
  it("arrives as its type says: dates, bigints, defaults and transformed values", async () => {
    const Times = defineService("times", {
      dated: unary({
        request: z.object({ at: z.coerce.date(), big: z.coerce.bigint(), n: z.string().transform(Number) }),
        response: z.object({ at: z.date(), big: z.bigint(), n: z.number(), text: z.string().default("none") }),
      }),
      decoded: unary({
        request: z.object({
          at: z.codec(z.iso.datetime(), z.date(), {
            decode: (text) => new Date(text),
            encode: (date) => date.toISOString(),
          }),
        }),
        response: jsonMessage<{ same: boolean; at: Date }>("Decoded"),
      }),
      chat: bidiStream({
        request: v.object({ n: v.optional(v.number(), 7) }),
        response: z.object({ at: z.coerce.date() }),
      }),
    });
    const seen: unknown[] = [];
    await using host = await pair((server) =>
      server.handle(Times, {
        dated(request) {
          seen.push(request);
          return request;
        },
        decoded: (request) => ({ same: request.at instanceof Date && request.at.getTime() === at.getTime(), at }),
        async *chat(requests) {
          for await (const { n } of requests) yield { at: n };
        },
      }),
    );
    const times = host.client.client(Times, host.options);
    const answer = await times.dated({ at, big: 12345678901234567890n, n: "5" });
    expect(seen).toEqual([{ at, big: 12345678901234567890n, n: 5 }]);
    const told: { at: string; big: string; n: number; text: string } = answer;
    expect(told).toEqual({ at: at.toISOString(), big: "12345678901234567890", n: 5, text: "none" });
    expect(await times.decoded({ at: at.toISOString() })).toEqual({ same: true, at: at.toISOString() });
    const answers: { at: string }[] = [];
    for await (const message of times.chat([{}, { n: 0 }])) answers.push(message);
    expect(answers).toEqual([{ at: new Date(7).toISOString() }, { at: new Date(0).toISOString() }]);
  });

  it("may be nothing, whoever says so, and null stays null", async () => {
    const nothings = {
      zod: unary({ request: z.void(), response: z.void() }),
      undefined: unary({ request: z.undefined(), response: z.undefined() }),
      valibot: unary({ request: v.void(), response: v.void() }),
      arktype: unary({ request: type("undefined"), response: type("undefined") }),
      ours: unary({ request: empty, response: empty }),
      optional: unary({
        request: z.object({ a: z.string() }).optional(),
        response: z.object({ a: z.string() }).optional(),
      }),
      asynchronous: unary({
        request: z.object({ a: z.string().refine(async () => true) }).optional(),
        response: z.object({ a: z.string().refine(async () => true) }).optional(),
      }),
    };
    const Nothing = defineService("nothing", {
      ...nothings,
      nulls: unary({ request: z.null(), response: z.object({ a: z.string() }).nullable() }),
    });
    const seen: [string, unknown][] = [];
    await using host = await pair((server) => {
      const handlers = Object.fromEntries(
        Object.keys(nothings).map((name) => [name, (request: unknown) => void seen.push([name, request])]),
      );
      server.handle(Nothing, {
        ...handlers,
        nulls(request: null) {
          seen.push(["nulls", request]);
          return null;
        },
      } as never);
    });
    const nothing = host.client.client(Nothing, host.options);
    for (const name of Object.keys(nothings) as (keyof typeof nothings)[]) {
      const call = nothing[name] as (request?: unknown) => Promise<unknown>;
      // An object without members is how nothing travels.
      expect(await call()).toEqual({});
      expect(await call({})).toEqual({});
      expect(seen.splice(0)).toEqual([
        [name, undefined],
        [name, undefined],
      ]);
    }
    expect(await nothing.nulls(null)).toBeNull();
    expect(seen).toEqual([["nulls", null]]);
    expect((await failure(nothing.optional({ b: 1 } as never))).detail).toBe("a: expected string, received undefined");
  });

  it("is refused with what is wrong with it, one by one, by validators of all libraries", async () => {
    const shape = { name: z.string(), lines: z.array(z.object({ n: z.number().min(1) })) };
    const asynchronous = z.object({ ...shape, name: z.string().refine(async () => true) });
    const Order = defineService("order", {
      zod: unary({ request: z.object(shape), response: empty }),
      later: unary({ request: asynchronous, response: empty }),
      valibot: unary({
        request: v.object({ name: v.string(), lines: v.array(v.object({ n: v.pipe(v.number(), v.minValue(1)) })) }),
        response: empty,
      }),
      arktype: unary({ request: type({ name: "string", lines: type({ n: "number >= 1" }).array() }), response: empty }),
    });
    let runs = 0;
    const run = (): void => void runs++;
    await using host = await pair((server) =>
      server.handle(Order, { zod: run, later: run, valibot: run, arktype: run }),
    );
    const order = host.client.client(Order, host.options);
    const wrong = { name: 5, lines: [{ n: 1 }, { n: 0 }] } as never;
    const codes: Record<string, string[]> = {};
    for (const library of ["zod", "later", "valibot", "arktype"] as const) {
      const error = await failure(order[library](wrong));
      expect([error.code, error.id]).toEqual(["bad_request", "test"]);
      const issues = error.issues.toSorted((a, b) => a.path.length - b.path.length);
      expect(issues.map(({ path }) => path)).toEqual([["name"], ["lines", 1, "n"]]);
      expect(issues.every(({ message }) => message !== "")).toBe(true);
      codes[library] = issues.map(({ code }) => code);
    }
    expect(codes).toEqual({
      zod: ["invalid_type", "too_small"],
      later: ["invalid_type", "too_small"],
      valibot: ["string", "min_value"],
      arktype: ["domain", "min"],
    });
    expect(runs).toBe(0);
  });
});
