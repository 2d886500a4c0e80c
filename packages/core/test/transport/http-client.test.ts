/** What the client makes of servers, played by bare sockets: Go servers of both generations, broken ones, closing ones. */
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { Metadata } from "../../src/metadata.ts";
import { httpTransport, type HttpTransportOptions } from "../../src/transport/http/http-transport.ts";
import type { ClientExchange, ExchangeMessage, Transport } from "../../src/transport/transport.ts";
import { waitFor } from "../support/raw-socket.ts";

const request = {
  service: "greeter",
  endpoint: "Greeter.Hello",
  contentType: "application/json",
  metadata: undefined,
  body: Buffer.from("{}"),
};

interface FakeServer {
  readonly address: string;
  readonly sockets: Socket[];
  /** Whole requests received, by connection. */
  readonly requests: string[][];
}

const cleanups: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** A server that answers each whole request with what `answer` writes. */
async function fakeServer(answer: (request: string, socket: Socket, index: number) => void): Promise<FakeServer> {
  const sockets: Socket[] = [];
  const requests: string[][] = [];
  const server: Server = createServer({ noDelay: true }, (socket) => {
    sockets.push(socket);
    const own: string[] = [];
    requests.push(own);
    let pending = "";
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      pending += chunk.toString("latin1");
      for (;;) {
        const end = pending.indexOf("\r\n\r\n");
        if (end === -1) return;
        const length = Number(/\r\nContent-Length: (\d+)/.exec(pending)?.[1] ?? 0);
        if (pending.length < end + 4 + length) return;
        const one = pending.slice(0, end + 4 + length);
        pending = pending.slice(one.length);
        own.push(one);
        answer(one, socket, own.length - 1);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, sockets, requests };
}

function client(options: HttpTransportOptions = {}): Transport {
  const transport = httpTransport(options);
  cleanups.push(() => transport[Symbol.asyncDispose]());
  return transport;
}

function call(transport: Transport, address: string, timeoutMs = 5_000): Promise<ExchangeMessage> {
  return transport.call(address, request, { deadline: performance.now() + timeoutMs });
}

async function failure(promise: Promise<unknown>): Promise<MicroError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!MicroError.is(error)) throw new Error(`not a MicroError: ${String(error)}`);
  return error;
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

describe("calls", () => {
  it("write what Go servers read", async () => {
    const server = await fakeServer((_, socket) => socket.write(ok));
    const transport = client();
    await transport.call(
      server.address,
      { ...request, metadata: new Metadata({ "x-user": "Zoë", "Micro-From-Service": "me" }) },
      { deadline: performance.now() + 5_000 },
    );
    const sent = Buffer.from(server.requests[0]?.[0] ?? "", "latin1").toString();
    expect(sent.replace(/Timeout: 49\d\d000000/, "Timeout: N")).toBe(
      `POST / HTTP/1.1\r\nHost: ${server.address}\r\nAccept: application/json\r\nContent-Type: application/json\r\n` +
        "Micro-Endpoint: Greeter.Hello\r\nMicro-Method: Greeter.Hello\r\nMicro-Service: greeter\r\nContent-Length: 2\r\n" +
        "Micro-Id: 0\r\nMicro-Stream: 0\r\nTimeout: N\r\nX-User: Zoë\r\nMicro-From-Service: me\r\n\r\n{}",
    );
  });

  it("reuse one connection in turn, with a stream id of their own each", async () => {
    const server = await fakeServer((_, socket) => socket.write(ok));
    const transport = client();
    for (let index = 0; index < 5; index++) await call(transport, server.address);
    expect(server.requests.length).toBe(1);
    const ids = server.requests[0]?.map((one) => /Micro-Stream: (\d+)/.exec(one)?.[1]);
    expect(new Set(ids).size).toBe(5);
  });

  it("leave a connection after its number of calls, and after its age", async () => {
    const server = await fakeServer((_, socket) => socket.write(ok));
    const few = client({ maxCallsPerConnection: 2 });
    for (let index = 0; index < 5; index++) await call(few, server.address);
    expect(server.requests.map((one) => one.length)).toEqual([2, 2, 1]);
    const young = client({ maxConnectionAgeMs: 5 });
    await call(young, server.address);
    const answered = performance.now();
    // Age is what is tested: until the connection is certain to have it.
    while (performance.now() - answered <= 5) await new Promise((resolve) => setImmediate(resolve));
    await call(young, server.address);
    expect(server.requests.length).toBe(5);
  });

  it("leave a connection whose server closes behind an exchange of the grpc codec", async () => {
    const replies = [
      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nMicro-Error: no\r\nX-Micro-Error: no\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nGrpc-Status: 0\r\n\r\n{}",
    ];
    for (const reply of replies) {
      // As Go's v2 does it: the end comes just behind the reply, and nothing in the reply tells.
      const server = await fakeServer((_, socket) => void socket.end(reply));
      const transport = client();
      for (let index = 0; index < 20; index++)
        await transport.call(
          server.address,
          { ...request, contentType: "application/grpc+json" },
          { deadline: performance.now() + 5_000 },
        );
      expect(server.requests.length).toBe(20);
    }
  });

  it("notice that a connection was closed while it rested, and send on another what was not sent", async () => {
    const server = await fakeServer((_, socket) => socket.write(ok));
    const transport = client();
    await call(transport, server.address);
    // Rest is what is tested: half a second of it makes a connection doubtful, and none has any way to tell.
    await new Promise((resolve) => setTimeout(resolve, 600));
    const [first] = server.sockets;
    // The end is in this process's socket before the call, and not read yet.
    first?.end();
    const busy = performance.now() + 30;
    while (performance.now() < busy);
    expect(Buffer.from((await call(transport, server.address)).body).toString()).toBe("{}");
    expect(server.requests.map((one) => one.length)).toEqual([1, 1]);
  });

  it("keep no more idle connections than allowed", async () => {
    const waiting: Socket[] = [];
    const server = await fakeServer((_, socket) => void waiting.push(socket));
    const transport = client({ maxIdlePerAddress: 2 });
    const calls = Array.from({ length: 6 }, () => call(transport, server.address));
    await waitFor(() => waiting.length === 6, "six requests");
    for (const socket of waiting) socket.write(ok);
    await Promise.all(calls);
    await waitFor(() => server.sockets.filter((one) => !one.destroyed).length === 2, "four are closed");
  });

  it("never use a connection the server closed or spoke on while it was idle", async () => {
    const server = await fakeServer((_, socket) => socket.write(ok));
    const transport = client();
    await call(transport, server.address);
    server.sockets[0]?.end();
    await waitFor(() => server.sockets[0]?.destroyed === true, "the connection is closed");
    await call(transport, server.address);
    server.sockets[1]?.write(ok);
    await waitFor(() => server.sockets[1]?.destroyed === true, "the connection is closed");
    await call(transport, server.address);
    expect(server.sockets.length).toBe(3);
  });

  it("keep the connection after an error reply", async () => {
    const server = await fakeServer((_, socket) =>
      socket.write("HTTP/1.1 200 OK\r\nMicro-Error: no\r\nContent-Length: 0\r\n\r\n"),
    );
    const transport = client();
    expect((await call(transport, server.address)).error).toBe("no");
    expect((await call(transport, server.address)).error).toBe("no");
    expect(server.sockets.length).toBe(1);
  });

  it("close the connection at the deadline: that cancels Go's handler", async () => {
    let requests = 0;
    const server = await fakeServer((_, socket) => {
      if (requests++ === 0) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    const http = client();
    // On a connection that stands: connecting takes its time, and fails as not run.
    await call(http, server.address);
    const error = await failure(call(http, server.address, 50));
    expect([error.code, error.detail, error.statusCode, error.notRun]).toEqual([
      "timeout",
      "context deadline exceeded",
      408,
      false,
    ]);
    await waitFor(() => server.sockets[0]?.destroyed === true, "the connection is closed");
  });

  it("cannot say whether a request ran when the connection ends before the reply", async () => {
    const server = await fakeServer((_, socket) => socket.destroy());
    const error = await failure(call(client(), server.address));
    expect([error.code, error.notRun]).toEqual(["unavailable", false]);
  });

  it("report any status but 200 as Go does", async () => {
    const server = await fakeServer((_, socket) =>
      socket.end(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request",
      ),
    );
    const error = await failure(call(client(), server.address));
    expect(error.toJSON()).toEqual({
      id: "go.micro.client.transport",
      code: 500,
      detail: "400 Bad Request: 400 Bad Request",
      status: "Internal Server Error",
    });
  });

  it("skip informational replies", async () => {
    const server = await fakeServer((_, socket) => socket.write(`HTTP/1.1 100 Continue\r\n\r\n${ok}`));
    expect(Buffer.from((await call(client(), server.address)).body).toString()).toBe("{}");
  });

  it.each([
    ["not HTTP", "SSH-2.0-OpenSSH_9.6\r\n", "protocol"],
    ["a TLS alert", "\x15\x03\x01\x00\x02\x02\x46", "protocol"],
    ["half a reply", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "unavailable"],
    ["both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "protocol"],
    ["too large", "HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", "too_large"],
    ["endless headers", `HTTP/1.1 200 OK\r\n${"X-A: b\r\n".repeat(200_000)}`, "too_large"],
  ])("give a clear error for %s", async (_name, bytes, code) => {
    const server = await fakeServer((_, socket) => socket.end(bytes, "latin1"));
    expect((await failure(call(client(), server.address))).code).toBe(code);
  });

  it("give up dialing at the dial limit, not run", async () => {
    // A port with a full backlog is hard to come by; an address that answers nothing is not on loopback. TLS to a mute
    // server is the same wait.
    const server = await fakeServer(() => {});
    const error = await failure(
      client({ secure: true }).call(server.address, request, {
        dialTimeoutMs: 60,
        deadline: performance.now() + 5_000,
      }),
    );
    expect([error.code, error.notRun]).toEqual(["timeout", true]);
  });

  it.each(["nonsense", "host:0", "host:99999", "a b:80", "::1:80", ""])("refuse the address %j", async (address) => {
    const error = await failure(call(client(), address));
    expect([error.code, error.notRun]).toEqual(["bad_request", true]);
  });
});

/** A reply of a Go server: the request's headers come back. */
function item(body: string): string {
  return `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nAccept: application/json\r\nMicro-Stream: 0\r\n\r\n${body}`;
}

describe("streams to Go servers", () => {
  it("newest: the late end marker makes it close, which is a clean end", async () => {
    let ends = 0;
    const server = await fakeServer((one, socket, index) => {
      if (one.includes("Micro-Error: EOS")) {
        if (++ends === 2) socket.end();
      } else if (index > 0) socket.write(item("x"));
    });
    const stream = await client().open(server.address, request, {});
    await stream.send(Buffer.from("a"));
    expect(Buffer.from((await stream.receive())?.body ?? []).toString()).toBe("x");
    stream.closeSend();
    expect(await stream.receive()).toBeUndefined();
    expect(ends).toBe(2);
  });

  it("newest, without a single item: still a clean end", async () => {
    let ends = 0;
    const server = await fakeServer((one, socket) => {
      if (one.includes("Micro-Error: EOS") && ++ends === 2) socket.end();
    });
    const stream = await client().open(server.address, request, {});
    stream.closeSend();
    expect(await stream.receive()).toBeUndefined();
  });

  it("a connection that ends without an end marker from either side is a failure", async () => {
    const server = await fakeServer((_, socket, index) => {
      if (index === 0) socket.end(item("x"));
    });
    const stream = await client().open(server.address, request, {});
    expect(Buffer.from((await stream.receive())?.body ?? []).toString()).toBe("x");
    const error = await failure(stream.receive());
    expect([error.code, error.detail]).toEqual([
      "unavailable",
      `stream of ${server.address} ended without its end marker`,
    ]);
  });

  it("a server of ours that dies after the half-close is a failure", async () => {
    const server = await fakeServer((one, socket) => {
      if (one.includes("Micro-Error: EOS")) socket.end();
      else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
    });
    const stream = await client().open(server.address, request, {});
    await stream.receive();
    stream.closeSend();
    expect((await failure(stream.receive())).code).toBe("unavailable");
  });

  it("the stream's deadline still ends a server that never answers", async () => {
    const server = await fakeServer(() => {});
    const stream = await client().open(server.address, request, { deadline: performance.now() + 400 });
    stream.closeSend();
    expect((await failure(stream.receive())).code).toBe("timeout");
  });
});

async function readAll(stream: ClientExchange): Promise<string[]> {
  const items: string[] = [];
  for (let one = await stream.receive(); one !== undefined; one = await stream.receive())
    items.push(Buffer.from(one.body).toString());
  return items;
}

describe("bursts of a server", () => {
  const count = 1_000;
  const burst = Array.from({ length: count }, (_, index) => item(`item ${index}`)).join("");
  const end = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nMicro-Stream: 0\r\nMicro-Error: EOS\r\n\r\n";

  it("arrive whole and in order, with the type that was asked for", async () => {
    const server = await fakeServer((_, socket) => socket.end(burst + end));
    const stream = await client().open(server.address, request, {});
    const first = await stream.receive();
    expect(first?.contentType).toBe("application/json");
    expect(first?.header.get("Content-Length")).toBe("6");
    expect(await readAll(stream)).toEqual(Array.from({ length: count - 1 }, (_, index) => `item ${index + 1}`));
  });

  it("are read to their last item when the connection has ended behind them", async () => {
    let ended = false;
    const server = await fakeServer((_, socket) => socket.end(burst, () => (ended = true)));
    const stream = await client().open(server.address, request, {});
    await waitFor(() => ended, "the server to end the connection");
    for (let index = 0; index < count; index++)
      expect(Buffer.from((await stream.receive())?.body ?? []).toString()).toBe(`item ${index}`);
    expect((await failure(stream.receive())).detail).toMatch(/^stream of \S+ ended without its end marker$/);
  });

  it("wait at the server when the reader stops in the middle", async () => {
    let written = 0;
    let full = false;
    const many = Buffer.from(burst);
    const server = await fakeServer((_, socket) => {
      const fill = (): void => {
        for (full = false; !full && written < 256 * 1024 * 1024; written += many.length) full = !socket.write(many);
      };
      socket.on("drain", fill);
      fill();
    });
    const stream = await client().open(server.address, request, {});
    // Enough to hold messages back and go on several times.
    for (let index = 0; index < 500; index++) await stream.receive();
    let before = -1;
    let looks = 0;
    await waitFor(() => {
      looks = full && before === written ? looks + 1 : 0;
      before = written;
      return looks === 100;
    }, "the server to wait");
    expect(written).toBeLessThan(64 * 1024 * 1024);
    for (let index = 500; index < 3_000; index++)
      expect(Buffer.from((await stream.receive())?.body ?? []).toString()).toBe(`item ${index % count}`);
    stream.cancel();
  });

  it("are over for a reader who cancels after the end", async () => {
    const server = await fakeServer((_, socket) => socket.write(item("x") + end));
    const stream = await client().open(server.address, request, {});
    expect(await readAll(stream)).toEqual(["x"]);
    stream.cancel();
    expect(await stream.receive()).toBeUndefined();
    expect(stream.poll?.()).toBeUndefined();
  });
});

describe("options", () => {
  it("wrong ones are refused at once", () => {
    expect(() => httpTransport({ maxConnections: 0 })).toThrow(TypeError);
    expect(() => httpTransport({ idleTimeoutMs: 5_000 })).toThrow(TypeError);
    expect(() => httpTransport({ tls: { cert: "x" } })).toThrow(TypeError);
  });
});
