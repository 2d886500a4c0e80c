import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { faultProxy } from "@micro/testing";
import { httpTransport, type HttpTransportOptions } from "../../src/transport/http/http-transport.ts";
import type { ExchangeHandler, ExchangeOptions, ServerStream, Transport } from "../../src/transport/transport.ts";
import { waitFor } from "../support/raw-socket.ts";

const wire = "micro/1";
const noBytes = new Uint8Array(0);

function request(endpoint: string, body: Uint8Array = noBytes) {
  return { service: "test", endpoint, contentType: "x", metadata: undefined, body };
}

function within(ms: number): ExchangeOptions {
  return { wire, deadline: performance.now() + ms };
}

/** A listener behind a proxy that counts connections and spoils them, and a client. */
async function bench(handler: ExchangeHandler, server: HttpTransportOptions = {}, client: HttpTransportOptions = {}) {
  const transport = httpTransport(server);
  const maxMessageBytes = 64 * 1024 * 1024;
  const listener = await transport.listen(handler, { address: "127.0.0.1:0", maxMessageBytes });
  const proxy = await faultProxy({ target: listener.address });
  const caller = httpTransport({ direct: false, ...client });
  return {
    listener,
    proxy,
    caller,
    address: proxy.address,
    call: (body: Uint8Array = noBytes, options: ExchangeOptions = within(10_000)) =>
      caller.call(proxy.address, request("T.M", body), options),
    async [Symbol.asyncDispose]() {
      await caller[Symbol.asyncDispose]();
      await proxy[Symbol.asyncDispose]();
      await listener[Symbol.asyncDispose]();
      await transport[Symbol.asyncDispose]();
    },
  };
}

const echo: ExchangeHandler = (exchange) => exchange.reply({ contentType: "x", body: exchange.body });

async function failure(promise: Promise<unknown>): Promise<MicroError> {
  const error = await promise.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  if (!MicroError.is(error)) throw new Error(`no MicroError: ${String(error)}`);
  return error;
}

describe("the fast wire", () => {
  it("needs one connection for many calls and streams", async () => {
    await using place = await bench((exchange) => {
      if (exchange.endpoint === "T.S") exchange.stream().end();
      else setTimeout(() => echo(exchange), 5);
    });
    const calls = Array.from({ length: 300 }, (_, index) => place.call(Buffer.from(String(index))));
    const streams = Array.from({ length: 50 }, () => place.caller.open(place.address, request("T.S"), { wire }));
    for (const [index, reply] of (await Promise.all(calls)).entries())
      expect(Buffer.from(reply.body).toString()).toBe(String(index));
    for (const stream of await Promise.all(streams)) expect(await stream.receive()).toBe(undefined);
    expect(place.proxy.connections).toBe(1);
  });

  it("opens a second connection only when the listener takes no more on the first, and closes it when it is idle", async () => {
    const waiting: (() => void)[] = [];
    await using place = await bench((exchange) => waiting.push(() => echo(exchange)), {
      maxExchangesPerConnection: 10,
    });
    const calls = Array.from({ length: 25 }, () => place.call());
    await waitFor(() => waiting.length === 25, "all calls run at once");
    expect(place.proxy.connections).toBe(3);
    for (const answer of waiting) answer();
    await Promise.all(calls);
    await waitFor(() => place.proxy.connections === 1, "one connection is left");
  });

  it("is not spoken where either side is set to HTTP, or nothing is known of the node", async () => {
    for (const [server, client, options] of [
      [{ wire: "http" }, {}, { wire }],
      [{}, { wire: "http" }, { wire }],
      [{}, {}, {}],
      [{}, {}, { wire: "micro/9" }],
    ] as const) {
      let seen: string | undefined;
      await using place = await bench(
        (exchange) => {
          seen = exchange.header.get("Host");
          echo(exchange);
        },
        server,
        client,
      );
      await place.call(noBytes, { ...within(5_000), wire: undefined, ...options });
      expect(seen).toBe(place.address);
    }
  });

  it("serves an address given by hand on the connection that the registry's node brought", async () => {
    await using place = await bench(echo);
    await place.call();
    await Promise.all(Array.from({ length: 20 }, () => place.call(noBytes, { deadline: performance.now() + 5_000 })));
    expect(place.proxy.connections).toBe(1);
  });

  it("lets small calls pass large ones", async () => {
    await using place = await bench(echo);
    await place.call();
    // 16 MiB at 40 MB/s are on their way for 400 ms; a small call must not wait for them.
    place.proxy.set({ toTarget: { bytesPerSecond: 40_000_000 } });
    let largeDone = false;
    const large = place.call(new Uint8Array(16 * 1024 * 1024).fill(1), within(20_000)).then((reply) => {
      largeDone = true;
      return reply.body.length;
    });
    for (let index = 0; index < 5; index++) {
      await place.call(Buffer.from("small"));
      expect(largeDone).toBe(false);
    }
    place.proxy.heal();
    expect(await large).toBe(16 * 1024 * 1024);
  });

  it("keeps a reader that does not read from everybody else, and its memory bounded", async () => {
    let sent = 0;
    await using place = await bench((exchange) => {
      if (exchange.endpoint === "T.M") return echo(exchange);
      const stream = exchange.stream();
      const body = new Uint8Array(16 * 1024);
      void (async () => {
        for (;;) {
          await stream.send({ contentType: "x", body });
          sent += body.length;
        }
      })().catch(() => {});
    });
    const streams = await Promise.all(
      Array.from({ length: 20 }, () => place.caller.open(place.address, request("T.S"), { wire })),
    );
    let last = -1;
    // Until nothing moves any more; a busy machine only makes the count smaller.
    while (sent !== last) {
      last = sent;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    // A window each, and what waits for credit: one message each.
    expect(sent).toBeLessThanOrEqual(20 * 80 * 1024);
    for (let index = 0; index < 50; index++) await place.call(Buffer.from("not held up"), within(2_000));
    for (const stream of streams) stream.cancel();
    expect(place.proxy.connections).toBe(1);
  });

  it("gives streams their turns: none waits for the end of another", async () => {
    await using place = await bench((exchange) => {
      const stream = exchange.stream();
      void (async () => {
        for (let index = 0; index < 200; index++)
          await stream.send({ contentType: "x", body: new Uint8Array(32 * 1024) });
        stream.end();
      })().catch(() => {});
    });
    const order: number[] = [];
    await Promise.all(
      [0, 1, 2, 3].map(async (number) => {
        const stream = await place.caller.open(place.address, request("T.S"), { wire });
        while ((await stream.receive()) !== undefined) order.push(number);
      }),
    );
    expect(order.length).toBe(800);
    for (const number of [0, 1, 2, 3])
      expect(order.slice(0, 400).filter((one) => one === number).length).toBeGreaterThan(40);
  });

  it("asks a silent peer, uses another connection meanwhile, and comes back to a healthy one", async () => {
    await using place = await bench(echo);
    await place.call();
    place.proxy.set({ toTarget: { stall: true }, toClient: { stall: true } });
    expect((await failure(place.call(noBytes, within(150)))).code).toBe("timeout");
    expect(place.proxy.connections).toBe(1);
    const next = place.call(noBytes, within(5_000));
    await waitFor(() => place.proxy.connections === 2, "another connection is made");
    place.proxy.heal();
    await next;
    await waitFor(() => place.proxy.connections === 1, "the other one is closed when it is found idle");
    await place.call();
  });

  it("fails what was sent when the connection is lost, and connects again", async () => {
    let calls = 0;
    const exchanges: { reason(): unknown }[] = [];
    await using place = await bench((exchange) => {
      if (calls++ > 0) return echo(exchange);
      exchanges.push({ reason: () => exchange.cancellation.reason });
    });
    const lost = failure(place.call());
    await waitFor(() => calls === 1, "the call runs");
    place.proxy.cut();
    expect(await lost).toMatchObject({ code: "unavailable", notRun: false });
    await waitFor(() => exchanges[0]?.reason() !== undefined, "the handler is cancelled");
    await place.call();
    expect(calls).toBe(2);
  });

  it("loses no call to a listener that closes: each is answered, failed as lost, or known not to have run", async () => {
    const transport = httpTransport();
    const caller = httpTransport({ direct: false });
    let ran = 0;
    let answered = 0;
    let notRun = 0;
    let lost = 0;
    for (let round = 0; round < 10; round++) {
      const listener = await transport.listen(
        (exchange) => {
          ran++;
          echo(exchange);
        },
        { address: "127.0.0.1:0" },
      );
      const running = Array.from({ length: 20 }, async () => {
        for (let index = 0; index < 50; index++) {
          try {
            await caller.call(listener.address, request("T.M"), within(5_000));
            answered++;
          } catch (error) {
            if ((error as MicroError).notRun) notRun++;
            else lost++;
          }
        }
      });
      const before = answered;
      await waitFor(() => answered > before, "calls are under way");
      await listener[Symbol.asyncDispose]();
      await Promise.all(running);
    }
    expect(answered + notRun + lost).toBe(10_000);
    expect(lost).toBe(0);
    expect(ran).toBe(answered);
    await caller[Symbol.asyncDispose]();
    await transport[Symbol.asyncDispose]();
  });

  it("rolls from HTTP to the fast wire and back at one address without a failed call", async () => {
    let listener;
    const caller: Transport = httpTransport({ direct: false });
    let port = "127.0.0.1:0";
    for (const version of ["auto", "http", "auto"] as const) {
      const transport = httpTransport({ wire: version });
      listener = await transport.listen(echo, { address: port });
      port = listener.address;
      await Promise.all(Array.from({ length: 20 }, () => caller.call(port, request("T.M"), within(5_000))));
      await listener[Symbol.asyncDispose]();
      await transport[Symbol.asyncDispose]();
    }
    await caller[Symbol.asyncDispose]();
  });

  it("keeps no process alive by an idle connection, and none of its timers", async () => {
    await using place = await bench(echo);
    await place.call();
    const sockets = process.getActiveResourcesInfo().filter((name) => name === "TCPSocketWrap");
    // The proxy's two ends and the listener's one are referenced, the caller's is not.
    expect(sockets.length).toBe(3);
  });

  it("carries messages of any size in streams both ways", async () => {
    await using place = await bench((exchange) => {
      const stream: ServerStream = exchange.stream();
      void (async () => {
        for (let body = await stream.receive(); body !== undefined; body = await stream.receive())
          await stream.send({ contentType: "x", body });
        stream.end();
      })();
    });
    const stream = await place.caller.open(place.address, request("T.S"), within(20_000));
    const sizes = [0, 1, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537, 1_000_000, 5_000_000];
    for (const size of sizes) {
      const body = new Uint8Array(size).map((_, index) => (index * 7 + size) & 0xff);
      void stream.send(body);
      const back = await stream.receive();
      expect(Buffer.from(back?.body ?? noBytes).equals(body)).toBe(true);
    }
    stream.closeSend();
    expect(await stream.receive()).toBe(undefined);
  });
});
