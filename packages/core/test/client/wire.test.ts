import { describe, expect, it } from "vitest";
import type { AttemptContext, ClientOptions, ProtocolClient } from "../../src/client/client.ts";
import { Frame } from "../../src/codec/codec.ts";
import { protorpcCodec } from "../../src/codec/protorpc.ts";
import { runInContext, Context } from "../../src/context.ts";
import type { ServiceDefinition } from "../../src/definition.ts";
import { badRequest, MicroError } from "../../src/errors.ts";
import { Metadata } from "../../src/metadata.ts";
import type { ExchangeRequest, OutgoingMessage, ServerExchange, Transport } from "../../src/transport/transport.ts";
import { errorOf, Fleet } from "./support/fleet.ts";

/** A server that answers every request with these bytes. */
async function answering(fleet: Fleet, answer: (exchange: ServerExchange) => Partial<OutgoingMessage>): Promise<void> {
  const listener = await fleet.transport.listen(
    (exchange) => exchange.reply({ body: Buffer.alloc(0), ...answer(exchange) }),
    {
      address: "127.0.0.1:0",
    },
  );
  await fleet.register("echo", "echo-1", listener.address);
}

/** Keeps the requests a client hands to its transport. */
function recorded(transport: "http" | "memory" = "memory"): { fleet: Fleet; requests: ExchangeRequest[] } {
  const requests: ExchangeRequest[] = [];
  const faults = (inner: Transport): Transport => ({
    name: inner.name,
    call: (address, request, options) => (requests.push(request), inner.call(address, request, options)),
    open: (address, request, options) => (requests.push(request), inner.open(address, request, options)),
    listen: (handler, options) => inner.listen(handler, options),
    [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
  });
  return { fleet: new Fleet({ transport, faults }), requests };
}

async function refusing(): Promise<never> {
  throw new MicroError("connection refused", { code: "unavailable", notRun: true });
}

describe("replies that are no answer", () => {
  const cases: [string, Partial<OutgoingMessage>, Partial<MicroError>, RegExp][] = [
    [
      "a bare error text",
      { error: "rpc: can't find service X" },
      { code: "unknown", statusCode: 0, id: "", status: "" },
      /^rpc: can't find service X$/,
    ],
    [
      "an error object",
      { error: '{"id":"a","code":404,"detail":"no bob","status":"Not Found"}' },
      { code: "not_found", id: "a", statusCode: 404, status: "Not Found" },
      /^no bob$/,
    ],
    ["an error without fields", { error: "{}" }, { code: "unknown", statusCode: 0 }, /^$/],
    [
      "Go's answer to an unknown content type",
      { contentType: "text/plain", body: Buffer.from("Unsupported Content-Type: application/json") },
      { code: "codec", id: "go.micro.client.codec", statusCode: 500 },
      /application\/json/,
    ],
    [
      "the newest Go's",
      { contentType: "text/plain", body: Buffer.from("unsupported Content-Type: application/json") },
      { code: "codec" },
      /unsupported Content-Type/,
    ],
    [
      "an empty JSON body",
      { contentType: "application/json" },
      { code: "codec", id: "go.micro.client.codec", statusCode: 500 },
      /EOF/,
    ],
    [
      "a garbled body",
      { contentType: "application/json", body: Buffer.from('{"text":') },
      { code: "codec", id: "go.micro.client.codec", statusCode: 500 },
      /echo Echo\.Say at echo-1/,
    ],
    [
      "a refusal of a full server",
      { error: '{"id":"echo","code":503,"detail":"full"}', notRun: true },
      { code: "unavailable", statusCode: 503, notRun: true, id: "echo" },
      /full/,
    ],
  ];

  it.each(cases)("%s is a clear error", async (_name, answer, fields, detail) => {
    await using fleet = new Fleet({ transport: "http" });
    await answering(fleet, () => answer);
    const error = await errorOf(fleet.connect({ retries: 0 }).call("echo", "Echo.Say", {}));
    expect(MicroError.is(error)).toBe(true);
    expect(error).toMatchObject(fields);
    expect(error.detail).toMatch(detail);
    expect(error.attempts).toHaveLength(1);
  });

  it("Go's answer to an unknown content type is one for text as well", async () => {
    await using fleet = new Fleet({ transport: "http" });
    const bodies = ["Unsupported Content-Type: text/plain", "Unsupported Content-Type: none of yours"];
    await answering(fleet, () => ({ contentType: "text/plain", body: Buffer.from(bodies.shift()!) }));
    const client = fleet.connect({ contentType: "text/plain" });
    expect((await errorOf(client.call("echo", "Echo.Say", "x"))).code).toBe("codec");
    expect(await client.call("echo", "Echo.Say", "x")).toBe("Unsupported Content-Type: none of yours");
  });

  it("a full server's refusal counts as an attempt, on another node", async () => {
    await using fleet = new Fleet();
    let refusals = 0;
    await answering(fleet, () => {
      refusals += 1;
      return { error: '{"code":503,"detail":"full"}', notRun: true };
    });
    const options = { backoff: () => 0 };
    await errorOf(fleet.connect({ retries: 0 }).call("echo", "Echo.Say", {}, options));
    expect(refusals).toBe(1);
    await errorOf(fleet.connect({ retries: 2 }).call("echo", "Echo.Say", {}, options));
    expect(refusals).toBe(4);
  });
});

describe("content types", () => {
  it("are the call's, else the definition's, else the client's, else JSON", async () => {
    const { fleet, requests } = recorded();
    await using _ = fleet;
    await fleet.serve("echo", (handlers) => handlers.handle("Echo.Say", () => ({})));
    const message = { name: "Empty", binary: { encode: () => new Uint8Array(0), decode: () => ({}) } };
    const Echo = {
      service: "echo",
      type: "Echo",
      contentType: "application/protobuf",
      methods: { say: { name: "Say", kind: "unary", request: message, response: message } },
    } as const satisfies ServiceDefinition;
    await fleet.connect({ contentType: "application/json-rpc" }).call("echo", "Echo.Say", {});
    await fleet.connect().call("echo", "Echo.Say", {});
    await errorOf(fleet.connect({ contentType: "application/json" }).client(Echo).say({}));
    await fleet.connect().client(Echo).say({}, { contentType: "application/json" });
    expect(requests.map(({ contentType }) => contentType)).toEqual([
      "application/json-rpc",
      "application/json",
      "application/protobuf",
      "application/json",
    ]);
    expect(requests.every(({ accept }) => accept === undefined)).toBe(true);
  });

  it("without a codec are an error of the client, and no attempt", async () => {
    await using fleet = new Fleet();
    await fleet.serve("echo", (handlers) => handlers.handle("Echo.Say", () => ({})));
    const error = await errorOf(fleet.connect().call("echo", "Echo.Say", {}, { contentType: "text/foo" }));
    expect(error).toMatchObject({ code: "codec", id: "go.micro.client", detail: "unsupported Content-Type: text/foo" });
  });

  it("can have codecs of the program's own", async () => {
    await using fleet = new Fleet();
    await answering(fleet, ({ body, contentType }) => ({
      contentType,
      body: Buffer.from(Buffer.from(body).toString().toUpperCase()),
    }));
    const codecs = {
      "text/shout": {
        name: "shout",
        encode: (message: unknown) => Buffer.from(String(message)),
        decode: (body: Uint8Array) => `${Buffer.from(body).toString()}!`,
      },
    };
    const client = fleet.connect({ codecs, contentType: "text/shout" });
    expect(await client.call("echo", "Echo.Say", "hello")).toBe("HELLO!");
  });

  it("do not matter to a frame, which goes and comes back as bytes", async () => {
    await using fleet = new Fleet();
    await answering(fleet, ({ body, contentType }) => ({ contentType, body }));
    const data = Buffer.from([0xff, 0x00, 0x7b]);
    const answer = await fleet.connect().call<Frame>("echo", "Echo.Say", new Frame(data));
    expect(answer).toBeInstanceOf(Frame);
    expect(Buffer.from(answer.data)).toEqual(data);
  });
});

describe("nodes of the old protocol", () => {
  it("get json-rpc for JSON, told by Accept what was asked for", async () => {
    const { fleet, requests } = recorded("http");
    await using _ = fleet;
    await fleet.serve("echo", (handlers) => handlers.handle("Echo.Say", ({ text }) => ({ text: `${text}!` })), {});
    expect(await fleet.connect().call("echo", "Echo.Say", { text: "hello" })).toEqual({ text: "hello!" });
    const [request] = requests;
    expect(request).toMatchObject({ contentType: "application/json-rpc", accept: "application/json" });
    expect(JSON.parse(Buffer.from(request!.body).toString())).toEqual({
      method: "Echo.Say",
      params: [{ text: "hello" }],
      id: "0",
    });
  });

  it("answer with errors in the envelope", async () => {
    await using fleet = new Fleet({ transport: "http" });
    await fleet.serve(
      "echo",
      (handlers) =>
        handlers.handle("Echo.Say", () => {
          throw badRequest("echo", "no");
        }),
      {},
    );
    expect(await errorOf(fleet.connect().call("echo", "Echo.Say", {}))).toMatchObject({
      statusCode: 400,
      detail: "no",
    });

    await using bare = new Fleet({ transport: "http" });
    const body = Buffer.from('{"id":"","result":null,"error":"in the body only"}\n');
    const listener = await bare.transport.listen(
      (exchange) => exchange.reply({ contentType: "application/json-rpc", body }),
      { address: "127.0.0.1:0" },
    );
    await bare.register("echo", "echo-1", listener.address, {});
    const error = await errorOf(bare.connect().call("echo", "Echo.Say", {}));
    expect(error).toMatchObject({ code: "unknown", statusCode: 0, detail: "in the body only" });
    expect(bare.selector.told).toEqual([{ node: "echo-1", error: undefined }]);
  });

  it("get protobuf in proto-rpc", async () => {
    const { fleet, requests } = recorded("http");
    await using _ = fleet;
    const text = {
      name: "Text",
      binary: {
        encode: (message: { text: string }) => Buffer.from(message.text),
        decode: (bytes: Uint8Array) => ({ text: Buffer.from(bytes).toString() }),
      },
    };
    const Echo = {
      service: "echo",
      type: "Echo",
      contentType: "application/protobuf",
      methods: { say: { name: "Say", kind: "unary", request: text, response: text } },
    } as const satisfies ServiceDefinition;
    await fleet.serve("echo", (handlers) => handlers.handle(Echo, { say: (request) => request }), {});
    expect(await fleet.connect().client(Echo).say({ text: "hello" })).toEqual({ text: "hello" });
    expect(requests[0]).toMatchObject({ contentType: "application/proto-rpc", accept: "application/protobuf" });
  });

  it("get octets under their own name, in proto-rpc, as Go sends them", async () => {
    const { fleet, requests } = recorded("http");
    await using _ = fleet;
    const text = {
      name: "Text",
      binary: {
        encode: (message: { text: string }) => Buffer.from(message.text),
        decode: (bytes: Uint8Array) => ({ text: Buffer.from(bytes).toString() }),
      },
    };
    const Echo = {
      service: "echo",
      type: "Echo",
      contentType: "application/octet-stream",
      methods: { say: { name: "Say", kind: "unary", request: text, response: text } },
    } as const satisfies ServiceDefinition;
    const bodies: Buffer[] = [];
    const { envelope } = protorpcCodec;
    const listener = await fleet.transport.listen(
      (exchange) => {
        const { body, contentType } = exchange;
        bodies.push(Buffer.from(body));
        const answer = { kind: "response", endpoint: "Echo.Say", id: "1", error: undefined } as const;
        exchange.reply({ contentType, body: envelope!.wrap(Buffer.from("heard"), answer) });
      },
      { address: "127.0.0.1:0" },
    );
    await fleet.register("echo", "echo-1", listener.address, {});
    expect(await fleet.connect().client(Echo).say({ text: "raw" })).toEqual({ text: "heard" });
    const contentType = "application/octet-stream";
    expect(requests[0]).toMatchObject({ contentType, accept: contentType });
    const sent = envelope!.unwrap(bodies[0]!, "request");
    expect([sent.envelope.endpoint, Buffer.from(sent.payload).toString()]).toEqual(["Echo.Say", "raw"]);
  });

  it("are not meant by an address the caller gives", async () => {
    const { fleet, requests } = recorded();
    await using _ = fleet;
    const { address } = await fleet.serve("echo", (handlers) => handlers.handle("Echo.Say", () => ({})), {});
    await fleet.connect().call("echo", "Echo.Say", {}, { address });
    expect(requests[0]!.contentType).toBe("application/json");
  });
});

describe("nodes of another protocol", () => {
  const grpc = { protocol: "grpc" };

  it("need a client of theirs, or the error names node, protocol and package", async () => {
    await using fleet = new Fleet();
    await fleet.register("echo", "echo-grpc", "127.0.0.1:9", grpc);
    const error = await errorOf(fleet.connect().call("echo", "Echo.Say", {}));
    expect(error).toMatchObject({ code: "not_implemented", statusCode: 501 });
    expect(error.detail).toContain("echo-grpc");
    expect(error.detail).toContain('"grpc"');
    expect(error.detail).toContain("@micro/transport-grpc");
    expect((await errorOf(fleet.connect().stream("echo", "Echo.Say"))).code).toBe("not_implemented");
  });

  it("get calls and streams through it, beside mucp nodes", async () => {
    await using fleet = new Fleet({ strategy: "roundRobin" });
    await fleet.register("echo", "echo-grpc", "127.0.0.1:9", grpc);
    await fleet.serve("echo", (handlers) => handlers.handle("Echo.Say", () => ({ from: "mucp" })));
    const seen: string[] = [];
    const protocol: ProtocolClient = {
      protocol: "grpc",
      async attempt(request, context: AttemptContext) {
        seen.push(`${context.node.address} ${context.endpoint} ${context.kind}`);
        if (context.kind === "unary") return { from: "grpc" };
        return (async function* () {
          for await (const message of request as AsyncIterable<unknown>) yield { echoed: message };
        })();
      },
    };
    const asked: string[] = [];
    const protocols: ClientOptions["protocols"] = (name) => (asked.push(name), protocol);
    const client = fleet.connect({ protocols });
    const answers = [await client.call("echo", "Echo.Say", {}), await client.call("echo", "Echo.Say", {})];
    expect(answers).toContainEqual({ from: "grpc" });
    expect(answers).toContainEqual({ from: "mucp" });
    expect(asked).toEqual(["grpc"]);

    await using only = new Fleet();
    await only.register("echo", "echo-grpc", "127.0.0.1:9", grpc);
    await using stream = await only.connect({ protocols }).stream("echo", "Echo.Chat");
    await stream.send(1);
    expect(await stream.receive()).toEqual({ echoed: 1 });
    stream.closeSend();
    expect(await stream.receive()).toBeUndefined();
    expect(only.selector.told).toEqual([{ node: "echo-grpc", error: undefined }]);
    expect(seen.at(-1)).toBe("127.0.0.1:9 Echo.Chat bidi");
  });

  it("are tried again as its errors say", async () => {
    await using fleet = new Fleet();
    await fleet.register("echo", "echo-grpc", "127.0.0.1:9", grpc);
    await fleet.serve("echo", (handlers) => handlers.handle("Echo.Say", () => ({ from: "mucp" })));
    const client = fleet.connect({ protocols: () => ({ protocol: "grpc", attempt: refusing }), retries: 0 });
    for (let call = 0; call < 5; call += 1) expect(await client.call("echo", "Echo.Say", {})).toEqual({ from: "mucp" });
  });
});

describe("metadata", () => {
  it("is no object where there is none, and one object for all calls that only name the caller", async () => {
    const { fleet, requests } = recorded();
    await using _ = fleet;
    await fleet.serve("echo", (handlers) => handlers.handle("Echo.Say", () => ({})));
    await fleet.connect().call("echo", "Echo.Say", {});
    const named = fleet.connect({ from: "shop" });
    await named.call("echo", "Echo.Say", {});
    await named.call("echo", "Echo.Say", {});
    expect(requests[0]!.metadata).toBeUndefined();
    expect(requests[1]!.metadata?.toJSON()).toEqual({ "Micro-From-Service": "shop" });
    expect(requests[2]!.metadata).toBe(requests[1]!.metadata);
  });

  it("is the incoming call's, the client's and the call's, the later over the earlier", async () => {
    const { fleet, requests } = recorded();
    await using _ = fleet;
    await fleet.serve("echo", (handlers) => handlers.handle("Echo.Say", () => ({})));
    const Echo = {
      service: "echo",
      type: "Echo",
      contentType: "application/json",
      methods: { say: { name: "Say", kind: "unary", request: { name: "A" }, response: { name: "B" } } },
    } as const satisfies ServiceDefinition;
    const incoming = new Context({
      service: "shop",
      endpoint: "Shop.Buy",
      metadata: new Metadata({
        "X-A": "1",
        "X-B": "1",
        "X-C": "1",
        "Micro-From-Service": "web",
        Timeout: "5",
        "User-Agent": "x",
      }),
    });
    const client = fleet.connect({ from: "shop" }).client(Echo, { metadata: { "X-B": "2", "X-C": "2" } });
    await runInContext(incoming, () => client.say({}, { metadata: { "x-c": "3" } }));
    expect(requests[0]!.metadata?.toJSON()).toEqual({
      "X-A": "1",
      "X-B": "2",
      "X-C": "3",
      "Micro-From-Service": "shop",
    });
    await expect(
      fleet.connect().call("echo", "Echo.Say", {}, { metadata: { "X-A": 1 as unknown as string } }),
    ).rejects.toThrow(TypeError);
  });
});
