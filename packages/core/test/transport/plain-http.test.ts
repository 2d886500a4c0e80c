/** What a listener answers to those who speak HTTP and not go-micro: probes, people with curl, browsers, proxies of another age. */
import { request as httpRequest } from "node:http";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import type { Listener, PlainRequest, ServerExchange, Transport } from "../../src/transport/transport.ts";
import { RawSocket } from "../support/raw-socket.ts";

let transport: Transport;
let listener: Listener;
let seen: ServerExchange[];
let asked: PlainRequest[];

beforeEach(async () => {
  seen = [];
  asked = [];
  transport = httpTransport();
  listener = await transport.listen(
    (exchange) => {
      seen.push(exchange);
      exchange.reply({ contentType: exchange.contentType, body: exchange.body });
    },
    {
      address: "127.0.0.1:0",
      maxMessageBytes: 1_000,
      origins: ["https://app.example"],
      plain: (request) => {
        asked.push(request);
        if (request.path === "/broken") throw new Error("a probe that fails");
        return request.path === "/healthz" ? { status: 200, body: `{"é":1}\n` } : undefined;
      },
    },
  );
});

afterEach(async () => {
  await listener[Symbol.asyncDispose]();
  await transport[Symbol.asyncDispose]();
});

/** The reply to one request, whose connection goes on. */
async function ask(text: string, complete: (received: string) => boolean = isWhole): Promise<string> {
  using raw = await RawSocket.connect(listener.address);
  raw.write(text);
  await raw.until(complete, "the reply");
  expect(raw.closed).toBe(false);
  return raw.received;
}

function isWhole(received: string): boolean {
  const end = received.indexOf("\r\n\r\n");
  if (end === -1) return false;
  const length = Number(/\r\nContent-Length: (\d+)\r\n/.exec(received)?.[1] ?? 0);
  return received.length >= end + 4 + length;
}

const isHead = (received: string): boolean => received.endsWith("\r\n\r\n");

const call = (lines: string, id: string) =>
  `POST / HTTP/1.1\r\nHost: x\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 2\r\n${lines}Content-Type: application/json\r\nMicro-Endpoint: T.M\r\nMicro-Id: ${id}\r\n\r\n{}`;

const waitingHead = (length: number) =>
  `POST / HTTP/1.1\r\nHost: x\r\nMicro-Endpoint: T.M\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`;

const post = (lines: string): string => `POST / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n${lines}Content-Length: 2\r\n\r\nab`;

describe("GET and HEAD", () => {
  it("are answered by who listens", async () => {
    const reply = await ask("GET /healthz?verbose=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(reply).toBe(
      `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"\xc3\xa9":1}\n`,
    );
    expect(asked).toEqual([{ method: "GET", path: "/healthz", query: "verbose=1" }]);
    expect(await ask("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", isHead)).toContain("\r\nContent-Length: 9\r\n\r\n");
  });

  it.each([
    ["GET /", 405, "Allow: POST"],
    ["GET /health", 404, "application/json"],
    ["GET /%E2%98%83/../x", 404, "application/json"],
    ["GET /broken", 500, "a probe that fails"],
  ])("%s is %i, an error as JSON", async (line, status, text) => {
    const reply = await ask(`${line} HTTP/1.1\r\nHost: x\r\n\r\n`);
    expect(reply).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(reply).toContain(text);
    expect(JSON.parse(reply.split("\r\n\r\n")[1] as string)).toMatchObject({ id: "go.micro.server", code: status });
  });

  it("never reach a handler, not even with go-micro's headers", async () => {
    for (const method of ["GET", "HEAD"])
      expect(
        await ask(
          `${method} /healthz HTTP/1.1\r\nHost: x\r\nMicro-Endpoint: T.M\r\nMicro-Id: 1\r\nContent-Type: application/json\r\n\r\n`,
          method === "HEAD" ? isHead : isWhole,
        ),
      ).toMatch(/^HTTP\/1\.1 405 /);
    expect(seen).toEqual([]);
    expect(asked).toEqual([]);
  });

  it.each(["PUT", "DELETE", "PATCH", "TRACE"])("%s is 405", async (method) => {
    expect(await ask(`${method} / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 405 .*\r\nAllow: POST\r\n/s,
    );
    expect(seen).toEqual([]);
  });
});

describe("without a content type", () => {
  const headers = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n";
  it("nothing is guessed", async () => {
    expect(await ask(`${headers}\r\nab`)).toMatch(/^HTTP\/1\.1 415 /);
    expect(seen).toEqual([]);
  });
  it("Go's clients are understood, and whoever names an endpoint", async () => {
    await ask(`${headers}User-Agent: Go-http-client/1.1\r\n\r\nab`);
    await ask(`${headers}Micro-Endpoint: T.M\r\n\r\nab`);
    expect(seen.length).toBe(2);
  });
});

describe("pages", () => {
  it.each([
    ["a form", post("Origin: https://evil.example\r\nContent-Type: text/plain\r\n")],
    ["a body without a type", post("Origin: https://evil.example\r\n")],
    ["json, as after a preflight", post("Origin: https://evil.example\r\nContent-Type: application/json\r\n")],
    ["header names in small letters", post("origin: https://evil.example\r\nContent-Type: application/json\r\n")],
    ["Sec-Fetch alone", post("Sec-Fetch-Site: cross-site\r\nContent-Type: application/json\r\n")],
    ["sec-fetch in small letters", post("sec-fetch-mode: no-cors\r\nContent-Type: application/json\r\n")],
    ["a rebound name", post("Origin: http://127.0.0.1:1\r\nMicro-Endpoint: T.M\r\nContent-Type: application/json\r\n")],
    ["the user agent of Go", post("Origin: https://evil.example\r\nUser-Agent: Go-http-client/1.1\r\n")],
    [
      "a preflight",
      "OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n",
    ],
  ])("%s of a page that is not named runs nothing", async (_name, text) => {
    const reply = await ask(text);
    expect(reply).toMatch(/^HTTP\/1\.1 403 /);
    expect(reply).not.toContain("Access-Control");
    expect(seen).toEqual([]);
  });

  it("a gateway's callers may be browsers", async () => {
    const reply = await ask(
      post(
        "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\nMicro-Endpoint: T.M\r\nMicro-Id: 4\r\nContent-Type: application/json\r\n",
      ),
    );
    expect(reply).toMatch(/^HTTP\/1\.1 200 /);
    expect(reply).not.toContain("Access-Control");
    expect(seen[0]?.header.get("Origin")).toBe("https://evil.example");
  });

  it("a page that is named may ask, and call", async () => {
    const preflight = await ask(
      "OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type,micro-endpoint\r\nAccess-Control-Request-Private-Network: true\r\n\r\n",
    );
    expect(preflight).toBe(
      "HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: https://app.example\r\nVary: Origin\r\nAccess-Control-Allow-Methods: POST\r\nAccess-Control-Allow-Headers: content-type,micro-endpoint\r\nAccess-Control-Allow-Private-Network: true\r\nAccess-Control-Max-Age: 600\r\n\r\n",
    );
    const reply = await ask(
      post("Origin: https://app.example\r\nMicro-Endpoint: T.M\r\nContent-Type: application/json\r\n"),
    );
    expect(reply).toMatch(/^HTTP\/1\.1 200 OK\r\n.*\r\nAccess-Control-Allow-Origin: https:\/\/app\.example\r\n/s);
    expect(reply).toContain("\r\nAccess-Control-Expose-Headers: *\r\n");
    expect(seen.length).toBe(1);
  });
});

describe("callers of another age", () => {
  it("HTTP/1.0 is answered, and the connection ends", async () => {
    using raw = await RawSocket.connect(listener.address);
    raw.write(
      "POST / HTTP/1.0\r\nMicro-Endpoint: T.M\r\nMicro-Id: 7\r\nConnection: keep-alive\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    );
    await raw.until((_, { closed }) => closed, "the end of the connection");
    expect(raw.received).toMatch(/^HTTP\/1\.1 200 OK\r\n.*\r\nConnection: close\r\n\r\n\{\}$/s);
    using probe = await RawSocket.connect(listener.address);
    probe.write("GET /healthz HTTP/1.0\r\n\r\n");
    await probe.until((_, { closed }) => closed, "the end of the connection");
    expect(probe.received).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  });

  it("Expect: 100-continue is answered before the body comes, or with the end", async () => {
    using raw = await RawSocket.connect(listener.address);
    raw.write(waitingHead(2));
    await raw.until((received) => received === "HTTP/1.1 100 Continue\r\n\r\n", "a word");
    raw.write("{}");
    await raw.until((received) => received.endsWith("\r\n\r\n{}"), "the reply");
    raw.received = "";
    raw.write(`${waitingHead(2)}{}`);
    await raw.until((received) => received.endsWith("\r\n\r\n{}"), "the reply");
    expect(raw.received).not.toContain("100 Continue");
    using large = await RawSocket.connect(listener.address);
    large.write(waitingHead(1_001));
    await large.until((_, { closed }) => closed, "the end");
    expect(large.received).toMatch(/^HTTP\/1\.1 200 OK\r\n.*"code":413/s);
    using odd = await RawSocket.connect(listener.address);
    odd.write(waitingHead(2).replace("100-continue", "tea"));
    await odd.until((_, { closed }) => closed, "the end");
    expect(odd.received).toMatch(/^HTTP\/1\.1 417 /);
  });

  it("node's own client waits for the word, and gets it", async () => {
    const [host, port] = listener.address.split(":");
    const body = await new Promise<string>((resolve, reject) => {
      const request = httpRequest({
        host,
        port,
        method: "POST",
        headers: {
          "Content-Type": "application/json",
          "Micro-Endpoint": "T.M",
          Expect: "100-continue",
          "Content-Length": 2,
        },
      });
      request.on("continue", () => request.end("{}"));
      request.on("error", reject);
      request.on("response", (response) => response.setEncoding("utf8").once("data", resolve));
      request.flushHeaders();
    });
    expect(body).toBe("{}");
  });

  it("a go-micro caller whose gateway passes the expectation on reads no reply but its own", async () => {
    using raw = await RawSocket.connect(listener.address);
    raw.write(
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nMicro-Endpoint: T.M\r\nMicro-Id: 1\r\n\r\n",
    );
    // Who asks afterwards is answered: by then the head has been read, and a word to it would be on its way.
    using other = await RawSocket.connect(listener.address);
    other.write(
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Type: application/json\r\nMicro-Endpoint: T.M\r\n\r\n{}",
    );
    await other.until((received) => received.endsWith("\r\n\r\n{}"), "the reply of another");
    raw.write("{}");
    await raw.until((received) => received.endsWith("\r\n\r\n{}"), "the reply");
    expect(raw.received).not.toContain("100 Continue");
  });
});

describe("headers of one hop", () => {
  it.each(["close", "Close", "keep-alive, close", "close, X-A"])(
    "a go-micro caller's connection stays, though its metadata says Connection: %s",
    async (value) => {
      using raw = await RawSocket.connect(listener.address);
      for (const id of ["1", "2", "3"]) {
        raw.received = "";
        raw.write(call(`Connection: ${value}\r\n`, id));
        await raw.until((received) => received.endsWith("{}"), "the reply");
        expect(raw.received).not.toContain("Connection");
      }
      expect(raw.closed).toBe(false);
      expect(seen.length).toBe(3);
    },
  );

  it("a stream that says so keeps its connection as well", async () => {
    using raw = await RawSocket.connect(listener.address);
    raw.write(call("Connection: close\r\nMicro-Stream: 1\r\n", "1"));
    await raw.until((received) => received.endsWith("{}"), "the reply");
    expect(raw.closed).toBe(false);
  });

  it("whoever else says close is done with the connection", async () => {
    using raw = await RawSocket.connect(listener.address);
    raw.write("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    await raw.until((_, { closed }) => closed, "the end");
  });

  it("what Connection lists goes no further, but for what calls are routed and told apart by", async () => {
    await ask(
      call(
        "Connection: keep-alive, X-Secret, micro-endpoint, Authorization, Timeout\r\nX-Secret: 1\r\nX-Open: 2\r\nAuthorization: Bearer a\r\n",
        "1",
      ),
      (received) => received.endsWith("{}"),
    );
    const header = seen[0]?.header;
    expect(header?.get("X-Secret")).toBeUndefined();
    expect(header?.get("X-Open")).toBe("2");
    expect(header?.get("Authorization")).toBe("Bearer a");
    expect(seen[0]?.endpoint).toBe("T.M");
    expect(header?.get("Micro-Endpoint")).toBe("T.M");
  });
});

describe("what a caller is", () => {
  it.each<[string, string, "call" | "stream" | undefined, boolean]>([
    ["a call of Go's", "Micro-Id: 1\r\n", "call", false],
    ["a stream of Go's, or a call out of one", "Micro-Id: 1\r\nMicro-Stream: 1\r\n", undefined, false],
    ["a call without an id", "", "call", false],
    ["a call of the headers of old", "X-Micro-Id: 1\r\n", "call", false],
    ["a stream of theirs", "X-Micro-Stream: 1\r\n", undefined, false],
    ["a call of ours", "Micro-Id: 1\r\nMicro-Stream: 1\r\nMicro-Opens: call\r\n", "call", false],
    ["a stream of ours", "Micro-Id: 1\r\nMicro-Stream: 1\r\nMicro-Opens: stream\r\n", "stream", false],
    ["one that was looked up", "Micro-Id: 1\r\nMicro-Service: t\r\nMicro-Looked-Up: t\r\n", "call", true],
    ["one of a Go handler that was itself looked up", "Micro-Service: t\r\nMicro-Looked-Up: go\r\n", "call", false],
    ["one that names no service", "Micro-Service: \r\nMicro-Looked-Up: \r\n", "call", false],
  ])("%s", async (_name, lines, opened, lookedUp) => {
    await ask(
      `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nMicro-Endpoint: T.M\r\n${lines}Content-Length: 2\r\n\r\n{}`,
    );
    expect(seen[0]?.opened).toBe(opened);
    expect(seen[0]?.lookedUp).toBe(lookedUp);
  });

  it("all are told which service was looked up, only listeners that announce a wire the rest", async () => {
    const caller = httpTransport({ wire: "http" });
    const request = {
      service: "t",
      endpoint: "T.M",
      contentType: "application/json",
      metadata: undefined,
      lookedUp: true,
      body: Buffer.from("{}"),
    };
    for (const wire of [undefined, "micro/1"]) {
      await caller.call(listener.address, request, { wire, deadline: performance.now() + 5_000 });
      await (await caller.open(listener.address, request, { wire, deadline: performance.now() + 5_000 })).receive();
    }
    await caller[Symbol.asyncDispose]();
    expect(seen.map(({ opened, lookedUp }) => [opened, lookedUp])).toEqual([
      [undefined, true],
      [undefined, true],
      ["call", true],
      ["stream", true],
    ]);
  });
});
