// A program that only calls: nothing listens, and it ends by itself.
import { mdnsRegistry } from "../../../src/registry/mdns/mdns-registry.ts";
import { createService } from "../../../src/service/service.ts";

const port = Number(process.env["TEST_MDNS_PORT"]);
await using service = createService({ name: "caller", registry: mdnsRegistry({ loopbackOnly: true, port }) });
const [endpoint = "Greeter.Hello"] = process.argv.slice(2);
try {
  console.log(JSON.stringify(await service.call("greeter", endpoint, { name: "John" }, { timeoutMs: 5000 })));
} catch (error) {
  console.log(`${(error as { code?: string }).code}: ${String(error)}`);
}
console.log(`listening: ${process.getActiveResourcesInfo().filter((name) => name === "TCPServerWrap").length}`);
