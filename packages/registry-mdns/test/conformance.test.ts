import { createSocket } from "node:dgram";
import { registryConformance } from "@micro/testing";
import { mdnsRegistry } from "@micro/registry-mdns";
import { describe, it } from "vitest";

// A port of its own keeps the suite apart from others on the machine; Go's 5353 is core's own tests' affair.
const port = await new Promise<number>((resolve) => {
  const socket = createSocket("udp4").bind(0, () => {
    const free = socket.address().port;
    socket.close(() => resolve(free));
  });
});
let count = 0;
const ignored = "mdns ignores TTLs, as Go's does: a node lives until it says goodbye or stops answering";

registryConformance(
  { describe, it },
  async () => {
    const options = { port, loopbackOnly: true, domain: `plugin-${++count}` };
    const registry = mdnsRegistry(options);
    return {
      registry,
      connect: async () => mdnsRegistry(options),
      [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
    };
  },
  {
    skip: {
      "register: metadata of the service": "the records of a node have no place for it, as in Go",
      "expiry: a node is gone after its TTL": ignored,
      "expiry: the watch reports it with the node": ignored,
      "expiry: registering again keeps a node alive": ignored,
      "domain: `*` is all of them": "a question is asked in one domain: not_implemented",
    },
  },
);
