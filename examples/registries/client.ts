import { createService } from "@micro/core";
import { Greeter } from "../greeter/gen/greeter.micro.ts";

await using service = createService({ name: "greeter-client" });
// Reads flags and variables, MICRO_REGISTRY among them.
await service.init();
const greeter = service.client(Greeter);
const { msg } = await greeter.hello({ name: "John" }, { timeoutMs: 5000 });
console.log(`  client  | ${msg}, found by ${service.registry.name}`);
