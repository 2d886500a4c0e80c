import {
  type ServiceDefinition,
  bidiStream,
  clientStream,
  serverStream,
  unary,
  memoryBroker,
  memoryTransport,
  defineTopic,
  mucpServer,
  protoMessage,
  silentLogger,
} from "@micro/core";
import { StringValue, Timestamp } from "@micro/core/proto";
import { describe, expect, it } from "vitest";

type MessageLike = typeof Timestamp | typeof StringValue | undefined;

// By name: they belong to another program, with settings of its own for the compiler.
const generated = "../../../interop/gen/types";
const { Description, Everything, Everything_Inner } = (await import(`${generated}.ts`)) as Record<string, MessageLike>;
const { Types } = (await import(`${generated}.micro.ts`)) as { Types: ServiceDefinition };

it("a message as it is generated is no message type, and the error says what makes one of it", () => {
  const told = "is a generated message: pass protoMessage(Timestamp)";
  expect(() => defineTopic("t", Timestamp as never)).toThrow(`defineTopic("t"): what is passed ${told}`);
  const type = protoMessage(Timestamp);
  for (const make of [unary, serverStream, clientStream, bidiStream]) {
    expect(() => make({ request: Timestamp as never, response: type })).toThrow(`${make.name}: \`request\` ${told}`);
    expect(() => make({ request: type, response: Timestamp as never })).toThrow(`${make.name}: \`response\` ${told}`);
    expect(make({ request: type, response: type })).toMatchObject({ request: type, response: type });
  }
});

/** What the registry is told of a topic's messages. */
async function registered(type: MessageLike): Promise<unknown> {
  await using broker = memoryBroker();
  await using transport = memoryTransport();
  await using server = mucpServer({ name: "test", transport, logger: silentLogger, broker });
  server.subscribe(defineTopic("t", protoMessage(type as typeof Timestamp)), () => {});
  return server.endpoints()[0]?.request;
}

/** Of enums a message knows the values, but not the name. */
function withoutNamesOfEnums(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value).replaceAll('"type":"Colour"', '"type":"int32"').replaceAll("[]Colour", "[]int32"),
  );
}

const inner = (values: unknown) => ({ name: "inner", type: "Everything_Inner", values });

describe("a topic of generated messages", () => {
  it("is registered with the fields that Go lists, as the generated definition has them", async () => {
    const { echo, describe: told } = Types.methods;
    expect(await registered(Everything)).toEqual(withoutNamesOfEnums(echo!.request.value));
    expect(await registered(Description)).toEqual(told!.response.value);
    expect(await registered(Timestamp)).toEqual({
      name: "Timestamp",
      type: "Timestamp",
      values: [
        { name: "seconds", type: "int64", values: null },
        { name: "nanos", type: "int32", values: null },
      ],
    });
    expect(await registered(StringValue)).toMatchObject({ values: [{ name: "value", type: "string" }] });
  });

  it("ends where a message is inside of itself, three levels down as in Go", async () => {
    const text = { name: "text", type: "string", values: null };
    expect(await registered(Everything_Inner)).toMatchObject({ values: [text, inner([text, inner(null)])] });
  });
});
