import { createService } from "@micro/core";
import { Greeter } from "./gen/greeter.micro.ts";

await using service = createService({ name: "greeter-client" });
const greeter = service.client(Greeter);

/** Run `call` and print its answer with how long it took. */
async function timed(label: string, call: () => Promise<string>): Promise<void> {
  const start = performance.now();
  const answer = await call();
  console.log(`${label.padEnd(30)} ${answer.padEnd(22)} ${(performance.now() - start).toFixed(1).padStart(7)} ms`);
}

// The first call looks the service up in the network; the next ones know it.
await timed("hello John (found by mdns)", async () => (await greeter.hello({ name: "John" }, { timeoutMs: 5000 })).msg);
await timed("hello Jane", async () => (await greeter.hello({ name: "Jane" })).msg);
await timed("count to 5 (a stream)", async () => {
  const items: number[] = [];
  for await (const { i } of greeter.count({ to: 5 })) items.push(i);
  return items.join(" ");
});
await timed("by name, without types", async () => {
  const { msg } = await service.call<{ msg: string }>("greeter", "Greeter.Hello", { name: "anyone" });
  return msg;
});
await timed("a bad request", async () => {
  try {
    return await service.call("greeter", "Greeter.Hello", {});
  } catch (error) {
    return String(error);
  }
});
