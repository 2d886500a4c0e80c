// A service as a user writes it, found by mdns on the loopback interface.
import { mdnsRegistry } from "../../../src/registry/mdns/mdns-registry.ts";
import { createService } from "../../../src/service/service.ts";

const port = Number(process.env["TEST_MDNS_PORT"]);
const service = createService({
  name: "greeter",
  version: "1.2.0",
  address: "127.0.0.1:0",
  ...(port > 0 ? { registry: mdnsRegistry({ loopbackOnly: true, port }) } : {}),
  flags: [
    { name: "environment", usage: "Where it runs" },
    { name: "ca-cert-file", usage: "Certificate authority", variable: "CA_CERT_FILE" },
  ],
  action(flags) {
    if (flags.isSet("environment")) console.log(`Environment set to ${flags.string("environment")}`);
    if (flags.isSet("ca-cert-file")) console.log(`CA is ${flags.string("ca-cert-file")}`);
    console.log(`Name is ${service.name}`);
  },
  beforeStart: [() => console.log("beforeStart 1"), () => console.log("beforeStart 2")],
  afterStart: () => console.log("afterStart"),
  beforeStop: () => console.log("beforeStop"),
  afterStop: () => console.log("afterStop"),
  handleSignals: process.env["TEST_SIGNALS"] !== "off",
});
if (process.env["TEST_SIGNALS"] === "off") process.on("SIGTERM", () => console.log("the program got SIGTERM"));

service.handle("Greeter", {
  hello: ({ name }: { name: string }) => ({ msg: `Hello ${name}` }),
  hang: () => new Promise(() => console.log("hanging")),
});
await service.run();

// The pipes are stdout and stderr; Node lists a closed port for some turns more.
const left = () => process.getActiveResourcesInfo().filter((name) => name !== "PipeWrap");
for (let turn = 0; turn < 1000 && left().length > 0; turn++) await new Promise((resolve) => void setImmediate(resolve));
console.log(`left: ${JSON.stringify(left())}`);
