// Checked with the types of all tests; never run.
import {
  bidiStream,
  defineTopic,
  protoMessage,
  unary as unaryMethod,
  type Context,
  type MicroService,
} from "@micro/core";
import { expectTypeOf } from "vitest";
import {
  Calculator,
  newCalculatorService,
  registerCalculatorHandler,
  type CalculatorHandler,
  type CalculatorService,
} from "./gen/kinds.micro.ts";
import type { Value } from "@micro/core/proto";
import { Number, type Pair } from "./gen/kinds.ts";

declare const service: MicroService;
const calculator = newCalculatorService("calculator", service.client);

expectTypeOf(calculator).toEqualTypeOf<CalculatorService>();
expectTypeOf(service.client(Calculator).add).toEqualTypeOf(calculator.add);
expectTypeOf<ReturnType<CalculatorService["add"]>>().toEqualTypeOf<Promise<Number>>();
expectTypeOf<ReturnType<CalculatorService["countTo"]>>().toEqualTypeOf<AsyncIterableIterator<Number>>();
expectTypeOf<ReturnType<CalculatorService["addAll"]>>().toEqualTypeOf<Promise<Number>>();
expectTypeOf<ReturnType<CalculatorService["running"]>>().toEqualTypeOf<AsyncIterableIterator<Number>>();
expectTypeOf<Parameters<CalculatorHandler["add"]>>().toEqualTypeOf<[request: Pair, context: Context]>();
expectTypeOf<Parameters<CalculatorHandler["running"]>[0]>().toEqualTypeOf<AsyncIterable<Number>>();

void calculator.add({ a: 1 });
// @ts-expect-error a wrong method
void calculator.subtract({ a: 1 });
// @ts-expect-error a wrong field
void calculator.add({ a: 1, c: 2 });
// @ts-expect-error a field of a wrong type
void calculator.add({ a: "1" });
// @ts-expect-error a stream where there is none
void calculator.add([{ a: 1 }]);
// @ts-expect-error one message where there is a stream
void calculator.addAll({ value: 1 });

const unary = {
  add: ({ a, b }: Pair) => ({ value: a + b }),
  divide: () => ({}),
  addAll: async () => ({}),
  ping: () => ({}),
  any: (value: Value) => value,
  foreign: () => ({}),
};
const streams = { countTo: () => [{ value: 1 }], running: () => [] };
registerCalculatorHandler(service, { ...unary, ...streams });
registerCalculatorHandler(service.server, { ...unary, ...streams }, { internal: true });
// @ts-expect-error handler methods are missing
registerCalculatorHandler(service, unary);
// @ts-expect-error the answer is no message
registerCalculatorHandler(service, { ...unary, ...streams, divide: () => "1" });
// @ts-expect-error a message where a stream is to be returned
registerCalculatorHandler(service, { ...unary, ...streams, countTo: () => ({ value: 1 }) });
// @ts-expect-error a class without the methods
export class Incomplete implements CalculatorHandler {
  add = unary.add;
}

// A message as it is generated is no message type, and the error says so.
const number = protoMessage(Number);
unaryMethod({ request: number, response: number });
defineTopic("t", number);
// @ts-expect-error this is a generated message: pass protoMessage(X)
unaryMethod({ request: Number, response: number });
// @ts-expect-error the same
bidiStream({ request: number, response: Number });
// @ts-expect-error the same
defineTopic("t", Number);
