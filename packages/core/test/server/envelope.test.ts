import { connect } from "node:net";
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { jsonrpcCodec } from "../../src/codec/jsonrpc.ts";
import { protorpcCodec } from "../../src/codec/protorpc.ts";
import type { ServiceDefinition } from "../../src/definition.ts";
import { mucpServer } from "../../src/server/mucp-server.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import { bidiHandler } from "../../src/server/kinds.ts";
import { MemoryLogger } from "./support/memory-logger.ts";
import { type Served, served } from "./support/served.ts";

const bytes = {
  encode: (message: Uint8Array) => message,
  decode: (body: Uint8Array) => body,
};

const raw = {
  service: "greeter",
  type: "Raw",
  contentType: "application/protobuf",
  methods: {
    echo: {
      name: "Echo",
      kind: "unary",
      request: { name: "A", binary: bytes },
      response: { name: "A", binary: bytes },
    },
  },
} as const satisfies ServiceDefinition;

function greeter(): Promise<Served> {
  return served((server) => {
    server.handle(raw, { echo: (message) => message });
    server.handle("Greeter", {
      hello: ({ name }: { name?: string }) => ({ msg: `Hello ${name}` }),
      fail() {
        throw new Error("boom");
      },
      echo: bidiHandler(async function* (messages) {
        for await (const message of messages) yield message;
      }),
    });
  });
}

const text = (body: Uint8Array): string => Buffer.from(body).toString();
const boom = '{"id":"greeter","code":500,"detail":"boom","status":"Internal Server Error"}';

describe("json-rpc", () => {
  const contentType = "application/json-rpc";

  it("is answered in its envelope, with the id as text, errors there as well", async () => {
    await using host = await greeter();
    for (const [endpoint, oldProtocol] of [
      ["Greeter.Hello", false],
      ["", true],
    ] as const) {
      const body = Buffer.from('{"method":"Greeter.Hello","params":[{"name":"John"}],"id":3}\n');
      const answer = await host.call(endpoint, undefined, { contentType, body, oldProtocol });
      expect(text(answer.body)).toBe('{"id":"3","result":{"msg":"Hello John"},"error":null}\n');
      expect(answer.contentType).toBe(contentType);
    }
    const body = Buffer.from('{"method":"Greeter.Fail","params":[{}],"id":"x"}');
    const failed = await host.call("", undefined, { contentType, body, oldProtocol: true });
    expect(failed.error).toBe(boom);
    expect(JSON.parse(text(failed.body))).toEqual({ id: "x", result: null, error: "boom" });
  });

  it("is what plain JSON means in the old protocol", async () => {
    await using host = await greeter();
    const body = Buffer.from('{"id":1,"method":"Greeter.Hello","params":[{"name":"John"}]}');
    const answer = await host.call("", undefined, { contentType: "application/json", body, oldProtocol: true });
    expect(JSON.parse(text(answer.body))).toEqual({ id: "1", result: { msg: "Hello John" }, error: null });
  });

  it("that is no envelope, or names nothing, is refused in an envelope", async () => {
    await using host = await greeter();
    const codes: [string, number][] = [
      ["{", 400],
      ['{"method":"Greeter.Hello"}', 400],
      ['{"method":"Nobody.Hello","params":[{}]}', 404],
      ['{"method":"","params":[{}]}', 400],
    ];
    for (const [body, code] of codes) {
      const answer = await host.call("", undefined, { contentType, body: Buffer.from(body), oldProtocol: true });
      expect(JSON.parse(answer.error!)).toMatchObject({ id: "greeter", code });
      expect((JSON.parse(text(answer.body)) as { error: string }).error).toBe(answer.error);
    }
  });

  it("wraps every message of a stream, and the opening one is not looked at", async () => {
    await using host = await greeter();
    const peer = host.exchange("Greeter.Echo", undefined, {
      contentType,
      body: Buffer.from('{"no":"params"}'),
      id: "7",
    });
    const format = jsonrpcCodec.envelope!;
    const envelope = { kind: "request", endpoint: "Greeter.Echo", id: "7", error: undefined } as const;
    peer.push(format.wrap(Buffer.from('{"i":1}'), envelope));
    const { payload } = format.unwrap((await peer.read())!.body, "response");
    expect(JSON.parse(text(payload))).toEqual({ i: 1 });
    peer.push("no envelope");
    expect(await peer.read()).toBeUndefined();
    expect(JSON.parse(peer.ended!.error!.error!)).toMatchObject({ code: 400 });
    expect(format.unwrap(peer.ended!.error!.body, "response").envelope.error).toBe(peer.ended!.error!.error);
  });
});

describe("proto-rpc", () => {
  it("is answered in netstrings, also under the names of the old protocol", async () => {
    await using host = await greeter();
    const format = protorpcCodec.envelope!;
    const body = format.wrap(Buffer.from("abc"), { kind: "request", endpoint: "Raw.Echo", id: "5", error: undefined });
    for (const contentType of ["application/proto-rpc", "application/protobuf", ""]) {
      const answer = await host.call("", undefined, { contentType, body, oldProtocol: true });
      const { envelope, payload } = format.unwrap(answer.body, "response");
      expect(envelope).toMatchObject({ endpoint: "Raw.Echo", id: "5" });
      expect(text(payload)).toBe("abc");
    }
  });
});

describe("an old peer on a socket", () => {
  it("is served by the envelope alone", async () => {
    const transport = httpTransport();
    await using server = mucpServer({ name: "greeter", transport, logger: new MemoryLogger(), address: "127.0.0.1:0" });
    server.handle("Greeter.Hello", ({ name }) => ({ msg: `Hello ${name}` }));
    await server.start();
    const socket = connect(Number(server.address!.split(":").at(-1)), "127.0.0.1");
    const body = '{"method":"Greeter.Hello","params":[{"name":"John"}],"id":"9"}\n';
    socket.write(
      `POST / HTTP/1.1\r\nHost: greeter\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    let answer = "";
    while (!answer.includes("null}\n")) answer += String((await once(socket, "data"))[0]);
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(answer.endsWith('{"id":"9","result":{"msg":"Hello John"},"error":null}\n')).toBe(true);
    socket.destroy();
    await transport[Symbol.asyncDispose]();
  });
});
