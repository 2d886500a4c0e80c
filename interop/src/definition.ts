/** The service of `go/greeter.proto` as a definition. */
import { type ServiceDefinition, type Value, protoMessage } from "@micro/core";
import * as messages from "../gen/greeter.ts";

const leaf = (name: string, type: string): Value => ({ name, type, values: null });
const tree = (name: string, ...values: Value[]): Value => ({ name, type: name, values });

const empty = protoMessage(messages.Empty, { name: "Empty" });
const hello = protoMessage(messages.HelloRequest, {
  name: "HelloRequest",
  value: tree("HelloRequest", leaf("name", "string")),
});
const helloResponse = protoMessage(messages.HelloResponse, {
  name: "HelloResponse",
  value: tree("HelloResponse", leaf("msg", "string")),
});
const fail = protoMessage(messages.FailRequest, { name: "FailRequest" });
const sleep = protoMessage(messages.SleepRequest, { name: "SleepRequest" });
const report = protoMessage(messages.SleepReport, { name: "SleepReport" });
export const echo = protoMessage(messages.EchoMessage, { name: "EchoMessage" });
const meta = protoMessage(messages.MetaResponse, { name: "MetaResponse" });
const forward = protoMessage(messages.ForwardRequest, { name: "ForwardRequest" });
const count = protoMessage(messages.CountRequest, { name: "CountRequest" });
const number = protoMessage(messages.Number, { name: "Number" });

const methods = {
  hello: { name: "Hello", kind: "unary" as const, request: hello, response: helloResponse },
  fail: { name: "Fail", kind: "unary" as const, request: fail, response: helloResponse },
  sleep: { name: "Sleep", kind: "unary" as const, request: sleep, response: report },
  slept: { name: "Slept", kind: "unary" as const, request: sleep, response: report },
  echo: { name: "Echo", kind: "unary" as const, request: echo, response: echo },
  meta: { name: "Meta", kind: "unary" as const, request: empty, response: meta },
  nothing: { name: "Nothing", kind: "unary" as const, request: empty, response: empty },
  forward: { name: "Forward", kind: "unary" as const, request: forward, response: meta },
  chat: { name: "Chat", kind: "bidi" as const, request: echo, response: echo },
  count: { name: "Count", kind: "server" as const, request: count, response: number },
};

export const Greeter: ServiceDefinition<typeof methods> = {
  service: "greeter",
  type: "Greeter",
  methods,
  contentType: "application/protobuf",
};
