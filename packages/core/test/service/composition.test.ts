import { describe, expect, it } from "vitest";
import type { Codec } from "../../src/codec/codec.ts";
import type { Context } from "../../src/context.ts";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { memoryNetwork, memoryRegistry } from "../../src/registry/memory.ts";
import { cachedSelector } from "../../src/selector/cached-selector.ts";
import { filterAddress, filterEndpoint, filterLabel, filterVersion } from "../../src/selector/filters.ts";
import type { Strategy } from "../../src/selector/selector.ts";
import type { ServiceOptions } from "../../src/service/options.ts";
import { createService } from "../../src/service/service.ts";
import type { MicroService } from "../../src/service/service.ts";
import { selfSigned } from "../../src/net/self-signed.ts";
import { keepingLogger } from "../support/service.ts";

/** Services of one registry, each with connections of its own, as processes would be. */
function site() {
  const network = memoryNetwork();
  const all: MicroService[] = [];
  return {
    registry: () => memoryRegistry({ network }),
    service(options: ServiceOptions = {}): MicroService {
      const service = createService({
        name: "greeter",
        address: "127.0.0.1:0",
        registry: memoryRegistry({ network }),
        logger: silentLogger,
        spreadMs: 0,
        args: [],
        env: {},
        ...options,
      });
      all.push(service);
      return service;
    },
    async [Symbol.asyncDispose]() {
      for (const service of all) await service.stop();
    },
  };
}

async function serving(place: ReturnType<typeof site>, options: ServiceOptions = {}): Promise<MicroService> {
  const service = place.service(options);
  service.handle("Greeter.Hello", () => ({ from: service.options.id }));
  if (options.id === "extra") service.handle("Greeter.Extra", () => ({}));
  await service.start();
  return service;
}

const hello = (client: MicroService, options = {}) =>
  client.call<{ from: string }>("greeter", "Greeter.Hello", {}, options);

describe("select options of one call", () => {
  it("filter its nodes by version, label, endpoint and address, and nobody else's", async () => {
    await using place = site();
    await serving(place, { id: "old", version: "1", metadata: { zone: "a" } });
    await serving(place, { id: "new", version: "2", metadata: { zone: "b" } });
    const extra = await serving(place, { id: "extra", version: "3", metadata: { zone: "b" } });
    const client = place.service({ name: "c", selector: "roundRobin" });
    const from = async (filters: readonly ReturnType<typeof filterVersion>[]) => {
      const answers = new Set<string>();
      for (let i = 0; i < 6; i++) answers.add((await hello(client, { select: { filters } })).from);
      return [...answers].toSorted();
    };
    expect(await from([filterVersion("1")])).toEqual(["old"]);
    expect(await from([filterLabel("zone", "b")])).toEqual(["extra", "new"]);
    expect(await from([filterEndpoint("Greeter.Extra")])).toEqual(["extra"]);
    expect(await from([filterAddress(extra.address!)])).toEqual(["extra"]);
    expect(await from([filterLabel("zone", "b"), filterVersion("2")])).toEqual(["new"]);
    expect(await from([])).toEqual(["extra", "new", "old"]);
    const none = await hello(client, { select: { filters: [filterVersion("4")] } }).catch((error: unknown) => error);
    expect(none).toMatchObject({ code: "not_found" });
    expect(String(none)).toMatch(/registry memory, asked .+ ago; .*greeter-old at .+ is left out by a filter/);
  });

  it("choose its strategy, also for a typed client and for a stream", async () => {
    await using place = site();
    for (const id of ["a", "b"]) await serving(place, { id });
    const client = place.service({ name: "c" });
    const asked: number[] = [];
    const last: Strategy = (candidates) => {
      asked.push(candidates.length);
      return candidates.toSorted((one, two) => one.node.id.localeCompare(two.node.id)).at(-1)!;
    };
    for (let i = 0; i < 4; i++) expect(await hello(client, { select: { strategy: last } })).toEqual({ from: "b" });
    await using stream = await client.stream("greeter", "Greeter.Hello", { select: { strategy: last } });
    expect(stream).toBeDefined();
    const Greeter = {
      service: "greeter",
      type: "Greeter",
      contentType: "application/json",
      methods: { hello: { name: "Hello", kind: "unary", request: { name: "A" }, response: { name: "B" } } },
    } as const;
    expect(await client.client(Greeter, { select: { strategy: last } }).hello({})).toEqual({ from: "b" });
    expect(asked).toEqual(asked.map(() => 2));
  });
});

describe("pieces given as instances", () => {
  it("of a selector are used, with their own strategy, and left open", async () => {
    await using place = site();
    await serving(place, { id: "a" });
    await serving(place, { id: "b" });
    await using registry = place.registry();
    let picks = 0;
    await using selector = cachedSelector({
      registry,
      logger: silentLogger,
      strategy: (candidates) => (picks++, candidates.find(({ node }) => node.id === "greeter-a")!),
    });
    const client = place.service({ name: "c", selector });
    expect(client.selector).toBe(selector);
    for (let i = 0; i < 4; i++) expect(await hello(client)).toEqual({ from: "a" });
    await client.stop();
    expect(picks).toBe(4);
    expect((await selector.pick("greeter")).node.id).toBe("greeter-a");
  });
});

/** Upper case on the wire: what it carried shows who encoded it. */
function shouting(name: string): Codec {
  return {
    name,
    encode: (message) => Buffer.from(JSON.stringify(message).toUpperCase()),
    decode: (body) => JSON.parse(Buffer.from(body).toString()) as unknown,
  };
}

const say = (client: MicroService, contentType: string) =>
  client.call("greeter", "Echo.Say", { text: "hi" }, { contentType });

describe("codecs of the program", () => {
  it("serve content types of their own, and stand in for a default of the same type, on both sides", async () => {
    await using place = site();
    const codecs = { "text/shout": shouting("shout"), "application/json": shouting("loud") };
    const service = place.service({ codecs });
    const heard: unknown[] = [];
    service.handle("Echo.Say", (request: unknown) => (heard.push(request), { said: "yes" }));
    await service.start();
    const knowing = place.service({ name: "knowing", codecs });
    for (const contentType of ["text/shout", "application/json"])
      expect(await say(knowing, contentType)).toEqual({ SAID: "YES" });
    const plain = place.service({ name: "plain" });
    expect(await say(plain, "application/json")).toEqual({ SAID: "YES" });
    expect(heard).toEqual([{ TEXT: "HI" }, { TEXT: "HI" }, { text: "hi" }]);
    await expect(say(plain, "text/shout")).rejects.toThrow("text/shout");
  });
});

describe("certificates", () => {
  it("of other nodes are not verified with MICRO_TLS_INSECURE=true alone, which wins over the option", async () => {
    await using place = site();
    await serving(place, { id: "safe", secure: true });
    const outcome = async (value: string | undefined, options: ServiceOptions = {}) => {
      const logger = keepingLogger();
      const client = place.service({ name: "c", secure: true, logger, env: { MICRO_TLS_INSECURE: value }, ...options });
      await client.init();
      try {
        return (await hello(client, { retries: 0 })).from;
      } catch (error) {
        return String(error);
      }
    };
    expect(await outcome("true")).toBe("safe");
    expect(await outcome("true", { insecureSkipVerify: false })).toBe("safe");
    expect(await outcome(undefined, { insecureSkipVerify: true })).toBe("safe");
    for (const value of [undefined, "", "false", "1", "TRUE"]) expect(await outcome(value)).toContain("self-signed");
  });

  it("are demanded of callers with requestClientCert, and known ones get in", async () => {
    const server = selfSigned({ hosts: ["127.0.0.1"] });
    const caller = selfSigned({ hosts: ["caller"] });
    await using place = site();
    await serving(place, { id: "mutual", tls: { ...server, ca: caller.cert, requestClientCert: true } });
    const known = place.service({ name: "known", tls: { ...caller, ca: server.cert } });
    expect(await hello(known)).toEqual({ from: "mutual" });
    const without = place.service({ name: "without", tls: { ca: server.cert } });
    await expect(hello(without)).rejects.toMatchObject({ code: "unavailable" });
    const stranger = place.service({ name: "s", tls: { ...selfSigned({ hosts: ["caller"] }), ca: server.cert } });
    await expect(hello(stranger)).rejects.toMatchObject({ code: "unavailable" });
  });
});

describe("a program that only calls", () => {
  it("passes deadline, cancellation and metadata through a service in the middle without code there", async () => {
    await using place = site();
    const seen: { user: string | undefined; leftMs: number | undefined }[] = [];
    const cancelled = Promise.withResolvers<void>();
    const running = Promise.withResolvers<void>();
    const last = place.service({ name: "last" });
    last.handle("Last.Hang", async (_request: unknown, context: Context) => {
      seen.push({ user: context.metadata.get("X-User"), leftMs: context.remainingMs });
      running.resolve();
      await new Promise((resolve) => context.cancellation.onCancel(resolve));
      cancelled.resolve();
    });
    await last.start();
    const middle = place.service({ name: "middle" });
    middle.handle("Middle.Forward", () => middle.call("last", "Last.Hang", {}, { timeoutMs: 60_000 }));
    await middle.start();
    const client = place.service({ name: "c" });
    const controller = new AbortController();
    const call = client.call(
      "middle",
      "Middle.Forward",
      {},
      {
        timeoutMs: 4_000,
        metadata: { "X-User": "zoë" },
        signal: controller.signal,
      },
    );
    await running.promise;
    controller.abort();
    await expect(call).rejects.toMatchObject({ statusCode: 499 });
    await cancelled.promise;
    expect(seen).toEqual([{ user: "zoë", leftMs: expect.any(Number) }]);
    expect(seen[0]!.leftMs).toBeLessThanOrEqual(4_000);
    expect([client.address, client.ready]).toEqual([undefined, false]);
  });
});
