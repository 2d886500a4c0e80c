import { describe, it } from "vitest";
import { mdnsRegistry } from "../../src/registry/mdns/mdns-registry.ts";
import { registryConformance } from "@micro/testing";
import { freeUdpPort } from "./mdns-support.ts";

const port = await freeUdpPort();
let count = 0;
const ignored = "mdns ignores TTLs, as Go's does: a node lives until it says goodbye or stops answering";

registryConformance(
  { describe, it },
  async () => {
    const options = { port, loopbackOnly: true, domain: `test-${++count}` };
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
