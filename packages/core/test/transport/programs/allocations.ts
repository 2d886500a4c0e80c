// A service, or a caller of one, that tells how many bytes of heap its calls take. Its young generation is so large that
// nothing is collected in between: what the heap has grown by is what was allocated.
import { PerformanceObserver } from "node:perf_hooks";
import { silentLogger } from "../../../src/logger/console-logger.ts";
import { memoryRegistry } from "../../../src/registry/memory.ts";
import { defineService, jsonMessage, unary } from "../../../src/schema.ts";
import { createService } from "../../../src/service/service.ts";

const [role, address = ""] = process.argv.slice(2);
const registry = memoryRegistry();
const Greeter = defineService("greeter", {
  hello: unary({
    request: jsonMessage<{ name: string }>("Request"),
    response: jsonMessage<{ msg: string }>("Response"),
  }),
});
const service = createService({
  name: role ?? "",
  address: "127.0.0.1:0",
  registry,
  logger: silentLogger,
  spreadMs: 0,
});
if (role === "greeter") {
  service.handle(Greeter, { hello: ({ name }) => ({ msg: `Hello ${name}` }) });
  await service.start();
} else {
  const nodes = [{ id: "greeter-1", address, metadata: { protocol: "mucp", wire: "micro/1" } }];
  await registry.register({ name: "greeter", version: "1", metadata: {}, endpoints: [], nodes });
}
const greeter = service.client(Greeter);

let collections = 0;
new PerformanceObserver((list) => (collections += list.getEntries().length)).observe({ entryTypes: ["gc"] });
let from = 0;

async function call(calls: number): Promise<void> {
  let left = calls;
  const one = async () => {
    while (left-- > 0) await greeter.hello({ name: "John" });
  };
  await Promise.all(Array.from({ length: 16 }, one));
}

const commands: Record<string, (calls: number) => unknown> = {
  call,
  async mark() {
    globalThis.gc?.();
    // Observers are told later.
    await new Promise((resolve) => void setTimeout(resolve, 20));
    collections = 0;
    from = process.memoryUsage().heapUsed;
  },
  async read() {
    const bytes = process.memoryUsage().heapUsed - from;
    await new Promise((resolve) => void setTimeout(resolve, 20));
    return { bytes, collections };
  },
};

async function answer({ command, calls }: { command: string; calls: number }): Promise<void> {
  process.send?.({ result: (await commands[command]?.(calls)) ?? null });
}
process.on("message", (message: { command: string; calls: number }) => void answer(message));
process.on("disconnect", () => process.exit(0));
process.send?.({ result: service.address ?? null });
