// A service that says on both standard streams that it answers.
import { memoryRegistry } from "../../../src/registry/memory.ts";
import { createService } from "../../../src/service/service.ts";

const service = createService({
  name: "talker",
  address: "127.0.0.1:0",
  registry: memoryRegistry(),
  spreadMs: 0,
  afterStop: () => {
    console.log("the end");
    console.error("the end");
  },
});
service.handle("Talker", { ping: () => ({}) });
async function talk(): Promise<void> {
  await service.call("talker", "Talker.Ping", {});
  console.log("answered");
  console.error("answered");
}
const talking = setInterval(() => void talk(), 10);
talking.unref();
await service.run();
clearInterval(talking);
