// One of several instances of a service.
import { mdnsRegistry } from "../../../src/registry/mdns/mdns-registry.ts";
import { createService } from "../../../src/service/service.ts";

const port = Number(process.env["TEST_MDNS_PORT"]);
const service = createService({
  name: "fleet",
  address: "127.0.0.1:0",
  registry: mdnsRegistry({ loopbackOnly: true, port }),
  afterStart: () => console.log(`ready ${service.nodeId}`),
});
service.handle("Fleet", {
  async work({ call }: { call: number }) {
    console.log(`got ${call};`);
    // The work itself: calls overlap with the end of their instance.
    await new Promise((resolve) => void setTimeout(resolve, 20));
    return { call, node: service.nodeId };
  },
});
// A machine that lets nobody run says nothing of the service.
let last = performance.now();
setInterval(() => {
  const now = performance.now();
  if (now - last > 500) console.log(`stalled for ${Math.round(now - last)} ms`);
  last = now;
}, 20).unref();
await service.run();
