import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { mucpClient } from "../../src/client/mucp-client.ts";
import type { Context } from "../../src/context.ts";
import { logRing } from "../../src/debug/log-ring.ts";
import { processMeter } from "../../src/debug/process-stats.ts";
import { spanRing } from "../../src/debug/spans.ts";
import { Metadata } from "../../src/metadata.ts";
import { memoryRegistry } from "../../src/registry/memory.ts";
import { cachedSelector } from "../../src/selector/cached-selector.ts";
import { logRecord, logRequest, statsResponse, traceResponse } from "../../src/server/debug-messages.ts";
import { type DebugAccess, debugDefinition, debugHandlers } from "../../src/server/debug.ts";
import { mucpServer } from "../../src/server/mucp-server.ts";
import { memoryTransport } from "../../src/transport/memory.ts";
import { MemoryLogger } from "./support/memory-logger.ts";
import { type Served, errorOf, json, served, waitFor } from "./support/served.ts";

async function debugged(access?: DebugAccess): Promise<Served & { logs: ReturnType<typeof logRing> }> {
  const traces = spanRing();
  const logs = logRing({ logger: new MemoryLogger(), size: 4 });
  const meter = processMeter();
  const host = await served(
    (server) => {
      const handlers = debugHandlers({ stats: () => server.stats, process: meter, logs, traces, access });
      server.handle(debugDefinition, handlers, { internal: true });
      server.handle("Greeter", {
        hello: () => ({}),
        async fail() {
          throw new Error("boom");
        },
        *count() {
          yield {};
        },
      });
    },
    { wrapHandler: [traces.wrapHandler] },
  );
  return {
    ...host,
    logs,
    async [Symbol.asyncDispose]() {
      meter[Symbol.dispose]();
      await host.server.stop();
    },
  };
}

function messages(records: unknown[]): string[] {
  return records.map((record) => (record as { message: string }).message);
}

describe("Debug", () => {
  it("is told to nobody, or to whom a function names, where it is not to be open; Health answers anyone", async () => {
    const asked: string[] = [];
    const mine = (context: Context): boolean => {
      asked.push(context.endpoint);
      return context.metadata.get("Authorization") === "me";
    };
    await using host = await debugged({ log: false, stats: mine, trace: async (context) => mine(context) });
    const forbidden = { id: "greeter", code: 403 };
    const header = new Metadata({ Authorization: "me" });
    for (const endpoint of ["Debug.Stats", "Debug.Trace"]) {
      expect(errorOf(await host.call(endpoint, {}))).toMatchObject(forbidden);
      expect(json(await host.call(endpoint, {}, { header }))).toBeTypeOf("object");
    }
    expect(asked).toEqual(["Debug.Stats", "Debug.Stats", "Debug.Trace", "Debug.Trace"]);
    const log = host.exchange("Debug.Log", {}, { header });
    log.push("{}");
    expect(await log.read()).toBeUndefined();
    expect(errorOf(log.ended?.error)).toMatchObject(forbidden);
    expect(json(await host.call("Debug.Health"))).toEqual({ status: "ok" });
    await expect(debugged({ log: "no" } as never)).rejects.toThrow('`log` must be a function, true or false, not "no"');
    await expect(debugged({ logs: false } as never)).rejects.toThrow("did you mean `log`?");
  });

  it("is not listed, and tells health and statistics without counting itself", async () => {
    await using host = await debugged();
    expect(host.server.endpoints().every(({ name }) => name.startsWith("Greeter."))).toBe(true);
    expect(json(await host.call("Debug.Health", { service: "greeter" }))).toEqual({ status: "ok" });
    await host.call("Greeter.Hello");
    await host.call("Greeter.Fail");
    const stats = json(await host.call("Debug.Stats")) as Record<string, number>;
    expect(stats).toMatchObject({ requests: 2, errors: 1 });
    expect(Object.values(stats).every((value) => Number.isSafeInteger(value) && value >= 0)).toBe(true);
    expect(Math.abs(stats["timestamp"]! - Date.now() / 1000)).toBeLessThan(5);
    expect(stats["memory"]).toBeGreaterThan(1_000_000);
  });

  it("speaks protobuf with Go's field numbers", async () => {
    await using host = await debugged();
    const contentType = "application/protobuf";
    const health = await host.call("Debug.Health", undefined, { contentType, body: Buffer.from("0a0161", "hex") });
    expect(Buffer.from(health.body).toString("hex")).toBe("0a026f6b");
    const stats = await host.call("Debug.Stats", undefined, { contentType });
    expect(statsResponse.binary!.decode(stats.body).timestamp).toBeGreaterThan(1_700_000_000);
  });

  it("tells the spans of handled calls by trace, with their parents", async () => {
    await using host = await debugged();
    const header = new Metadata({ "Micro-Trace-Id": "t1", "Micro-Span-Id": "s1" });
    await host.call("Greeter.Hello", {}, { header });
    await host.call("Greeter.Fail");
    const stream = host.exchange("Greeter.Count", {}, { header });
    stream.push("{}");
    while ((await stream.read()) !== undefined);
    const { spans } = json(await host.call("Debug.Trace", { id: "t1" })) as { spans: Record<string, unknown>[] };
    expect(spans).toHaveLength(2);
    expect(spans[0]).toMatchObject({
      trace: "t1",
      parent: "s1",
      name: "greeter.Greeter.Hello",
      type: 0,
      metadata: {},
    });
    expect(spans[1]).toMatchObject({ trace: "t1", name: "greeter.Greeter.Count" });
    const all = json(await host.call("Debug.Trace", {})) as { spans: Record<string, unknown>[] };
    expect(all.spans).toHaveLength(3);
    expect(all.spans[1]).toMatchObject({ name: "greeter.Greeter.Fail", parent: "", metadata: { error: "boom" } });
    expect(Math.abs((all.spans[0]!["started"] as number) / 1e6 - Date.now())).toBeLessThan(10_000);
  });

  it("tells the newest log records, by count and age", async () => {
    await using host = await debugged();
    const log = host.logs.logger.child({ service: "greeter" });
    for (let i = 1; i <= 6; i++) log.info(`record ${i}`, { i });
    const read = async (request: unknown): Promise<unknown[]> => {
      const peer = host.exchange("Debug.Log");
      peer.push(JSON.stringify(request));
      const records: unknown[] = [];
      for (let message = await peer.read(); message !== undefined; message = await peer.read())
        records.push(json(message));
      expect(peer.ended).toEqual({ error: undefined });
      return records;
    };
    expect(messages(await read({}))).toEqual(["record 3", "record 4", "record 5", "record 6"]);
    expect(messages(await read({ count: "2" }))).toEqual(["record 5", "record 6"]);
    expect(await read({ since: Math.floor(Date.now() / 1000) + 60 })).toEqual([]);
    const [record] = await read({ count: 1, since: 1 });
    expect(record).toMatchObject({ metadata: { level: "info", service: "greeter", i: "6" } });
  });

  it("follows the log until the caller goes away", async () => {
    await using host = await debugged();
    host.logs.logger.warn("before");
    const peer = host.exchange("Debug.Log", undefined, { window: 100 });
    peer.push('{"stream":true}');
    expect(json(await peer.read())).toMatchObject({ message: "before" });
    host.logs.logger.warn("after");
    expect(json(await peer.read())).toMatchObject({ message: "after" });
    peer.leave();
    for (let i = 0; i < 5; i++) await turn();
    host.logs.logger.warn("nobody reads this");
    await waitFor(() => peer.ended !== undefined);
    expect(peer.unread).toEqual([]);
    expect(host.server.stats.requests).toBe(0);
  });

  it("is followed by 32 at once: one more is told so, and may come when another has left", async () => {
    await using host = await debugged();
    const follow = () => {
      const peer = host.exchange("Debug.Log", undefined, { window: 100 });
      peer.push('{"stream":true}');
      return peer;
    };
    host.logs.logger.warn("before");
    const peers = Array.from({ length: 32 }, follow);
    for (const peer of peers) await peer.read();
    const late = follow();
    await waitFor(() => late.ended !== undefined);
    expect(errorOf(late.ended?.error)).toMatchObject({ code: 503 });
    // Who only reads what is there may do so.
    const reader = host.exchange("Debug.Log");
    reader.push("{}");
    expect(json(await reader.read())).toMatchObject({ message: "before" });
    peers[0]!.leave();
    for (let i = 0; i < 5; i++) await turn();
    expect(json(await follow().read())).toMatchObject({ message: "before" });
  });

  it("answers 400 to requests of a wrong shape", async () => {
    await using host = await debugged();
    for (const body of ["[]", '{"id":7}', "7"])
      expect((await host.call("Debug.Trace", undefined, { body: Buffer.from(body) })).error).toContain('"code":400');
    const bad = await host.call("Debug.Trace", undefined, {
      contentType: "application/protobuf",
      body: Buffer.from("0aff", "hex"),
    });
    expect(bad.error).toContain('"code":400');
  });
});

const decode = (bytes: Uint8Array): unknown => logRequest.binary!.decode(bytes);

describe("debug messages", () => {
  it("survive protobuf", () => {
    const span = {
      trace: "t",
      id: "i",
      parent: "",
      name: "größe",
      started: 1_700_000_000_000_000_000,
      duration: 300,
      metadata: { error: "boom", "": "x" },
      type: 1,
    };
    const spans = traceResponse.binary!.decode(traceResponse.binary!.encode({ spans: [span, span] })).spans;
    expect(spans).toEqual([span, span]);
    const record = { timestamp: -1, metadata: {}, message: "m" };
    expect(logRecord.binary!.decode(logRecord.binary!.encode(record))).toEqual(record);
    const request = { service: "", stream: true, count: 300, since: 0 };
    expect(Buffer.from(logRequest.binary!.encode(request)).toString("hex")).toBe("100118ac02");
  });

  it("skip unknown fields and refuse cut ones", () => {
    expect(decode(Buffer.from("100178017d000000007900000000000000007a0161", "hex"))).toMatchObject({ stream: true });
    for (const hex of ["0a05", "10", "7f", "12", "18ffffffffffffffffffffff01", "7900"])
      expect(() => decode(Buffer.from(hex, "hex"))).toThrow();
  });
});

describe("logRing", () => {
  it("bounds what a slow reader leaves behind", async () => {
    const ring = logRing({ logger: new MemoryLogger(), size: 2 });
    const stop = new AbortController();
    const following = ring.follow(stop.signal);
    for (let i = 0; i < 3000; i++) ring.logger.info(`${i}`);
    expect((await following.next()).value).toMatchObject({ message: String(3000 - 1024) });
    stop.abort();
    expect((await following.next()).done).toBe(true);
    expect(ring.read().map(({ message }) => message)).toEqual(["2998", "2999"]);
    expect(() => logRing({ logger: new MemoryLogger(), size: 0 })).toThrow(TypeError);
    expect(() => spanRing({ size: -1 })).toThrow(TypeError);
  });
});

describe("spanRing", () => {
  it("makes calls of a handler children of its span, over a real wire", async () => {
    const traces = spanRing();
    const logger = new MemoryLogger();
    const transport = memoryTransport();
    const registry = memoryRegistry();
    const selector = cachedSelector({ registry, logger });
    const client = mucpClient({ transport, selector, logger, wrapClient: [traces.wrapClient] });
    const server = mucpServer({ name: "greeter", transport, logger, wrapHandler: [traces.wrapHandler] });
    server.handle("Greeter", {
      outer: async () => client.call("greeter", "Greeter.Inner", {}, { address: server.address! }),
      inner: () => ({}),
    });
    await server.start();
    await client.call("greeter", "Greeter.Outer", {}, { address: server.address! });
    const spans = traces.read();
    expect(spans.map(({ name, type }) => `${type} ${name}`)).toEqual([
      "inbound greeter.Greeter.Inner",
      "outbound greeter.Greeter.Inner",
      "inbound greeter.Greeter.Outer",
      "outbound greeter.Greeter.Outer",
    ]);
    expect(new Set(spans.map(({ trace }) => trace)).size).toBe(1);
    expect(spans.map(({ parent }) => parent)).toEqual([spans[1]!.id, spans[2]!.id, spans[3]!.id, ""]);
    for (const piece of [client, server, selector, registry, transport]) await piece[Symbol.asyncDispose]();
  });
});
