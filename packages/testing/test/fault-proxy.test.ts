import { describe, expect, it } from "vitest";
import { MicroError } from "../../core/src/errors.ts";
import { faultProxy, type FaultProxy } from "../src/fault-proxy.ts";
import { httpTransport } from "../../core/src/transport/http/http-transport.ts";
import type { ExchangeHandler, Listener, ServerExchange, Transport } from "../../core/src/transport/transport.ts";
import { waitFor } from "../../core/test/support/raw-socket.ts";

const request = { service: "test", endpoint: "T.M", contentType: "application/json", metadata: undefined };
const empty = new Uint8Array(0);

interface Bench extends AsyncDisposable {
  readonly transport: Transport;
  readonly listener: Listener;
  readonly proxy: FaultProxy;
  call(body?: Uint8Array, timeoutMs?: number): Promise<Uint8Array>;
}

async function bench(handler: ExchangeHandler = (exchange) => exchange.reply({ body: exchange.body })): Promise<Bench> {
  const server = httpTransport();
  const transport = httpTransport();
  const listener = await server.listen(handler, { address: "127.0.0.1:0" });
  const proxy = await faultProxy({ target: listener.address });
  return {
    transport,
    listener,
    proxy,
    async call(body = empty, timeoutMs = 5_000) {
      const options = { deadline: performance.now() + timeoutMs };
      return (await transport.call(proxy.address, { ...request, body }, options)).body;
    },
    async [Symbol.asyncDispose]() {
      await transport[Symbol.asyncDispose]();
      await proxy[Symbol.asyncDispose]();
      await listener[Symbol.asyncDispose]();
    },
  };
}

async function failure(promise: Promise<unknown>): Promise<MicroError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!MicroError.is(error)) throw new Error(`not a MicroError: ${String(error)}`);
  return error;
}

describe("fault proxy", () => {
  it("passes bytes through unchanged when sound", async () => {
    await using b = await bench();
    const body = new Uint8Array(300_000).map((_, index) => index % 251);
    expect(Buffer.from(await b.call(body)).equals(body)).toBe(true);
    expect(b.proxy.forwarded.toTarget).toBeGreaterThan(300_000);
    expect(b.proxy.connections).toBe(1);
  });

  it("delays each way", async () => {
    await using b = await bench();
    await b.call();
    b.proxy.set({ toTarget: { delayMs: 60 }, toClient: { delayMs: 60 } });
    const start = performance.now();
    await b.call();
    expect(performance.now() - start).toBeGreaterThan(110);
  });

  it("slows down to a rate", async () => {
    await using b = await bench();
    b.proxy.set({ toClient: { bytesPerSecond: 100_000 } });
    const start = performance.now();
    expect((await b.call(new Uint8Array(30_000))).length).toBe(30_000);
    expect(performance.now() - start).toBeGreaterThan(200);
  });

  it("drops bytes silently, which a deadline ends", async () => {
    await using b = await bench();
    b.proxy.set({ toTarget: { drop: true } });
    expect((await failure(b.call(empty, 100))).code).toBe("timeout");
  });

  it("stalls without losing anything", async () => {
    await using b = await bench();
    b.proxy.set({ toClient: { stall: true } });
    const call = b.call(Buffer.from("late"));
    await waitFor(() => b.proxy.forwarded.toTarget > 0, "the request passes");
    setTimeout(() => b.proxy.heal(), 50);
    expect(Buffer.from(await call).toString()).toBe("late");
  });

  it("cuts all connections, which the caller cannot take for 'not run'", async () => {
    let running: ServerExchange | undefined;
    await using b = await bench((exchange) => void (running = exchange));
    const call = failure(b.call());
    await waitFor(() => running !== undefined, "the handler runs");
    b.proxy.cut();
    const error = await call;
    expect(error.code).toBe("unavailable");
    expect(error.notRun).toBe(false);
    await waitFor(() => running?.cancellation.reason !== undefined, "the handler is cancelled");
    expect(running?.cancellation.reason?.code).toBe("aborted");
  });

  it("cuts after a number of bytes", async () => {
    await using b = await bench();
    b.proxy.set({ toClient: { cutAfterBytes: 40 } });
    const error = await failure(b.call(new Uint8Array(100)));
    expect(error.code).toBe("unavailable");
    expect(b.proxy.forwarded.toClient).toBe(40);
    b.proxy.heal();
    expect((await b.call(new Uint8Array(100))).length).toBe(100);
  });

  it("refuses new connections and takes them again", async () => {
    await using b = await bench();
    await b.proxy.refuse(true);
    const error = await failure(b.call());
    expect(error.code).toBe("unavailable");
    expect(error.notRun).toBe(true);
    await b.proxy.refuse(false);
    expect((await b.call(new Uint8Array(3))).length).toBe(3);
  });

  it("fails a stream that is cut in the middle, on both sides", async () => {
    let running: ServerExchange | undefined;
    await using b = await bench((exchange) => {
      running = exchange;
      void exchange.stream().send({ body: Buffer.from("one") });
    });
    const stream = await b.transport.open(b.proxy.address, { ...request, body: empty }, {});
    expect(Buffer.from((await stream.receive())?.body ?? empty).toString()).toBe("one");
    b.proxy.cut();
    expect((await failure(stream.receive())).code).toBe("unavailable");
    await waitFor(() => running?.cancellation.reason !== undefined, "the handler is cancelled");
  });

  it("is gone after disposal, connections included", async () => {
    const b = await bench();
    await b.call();
    await b.proxy[Symbol.asyncDispose]();
    expect(b.proxy.connections).toBe(0);
    const options = { deadline: performance.now() + 5_000, freshConnection: true };
    const error = await failure(b.transport.call(b.proxy.address, { ...request, body: empty }, options));
    expect(error.notRun).toBe(true);
    await b[Symbol.asyncDispose]();
  });

  it("wants a target with a port", async () => {
    await expect(faultProxy({ target: "localhost" })).rejects.toThrow(TypeError);
  });
});
