import { registryConformance } from "@micro/testing";
import { consulRegistry } from "@micro/registry-consul";
import { afterAll, beforeAll, describe, it } from "vitest";
import { consulUrl, emptyConsul, endConsul, missing, startShared } from "./support/consul.ts";

const noDomains = "Consul's records have no place for a domain: not_implemented";

// Before the first case, which would take the server for something it left behind.
if (missing === undefined) await consulUrl();
beforeAll(startShared, 90_000);
afterAll(endConsul);

registryConformance(
  { describe: describe.skipIf(missing !== undefined), it },
  async () => {
    const url = await consulUrl();
    await emptyConsul(url);
    const registry = consulRegistry({ addresses: [url] });
    return {
      registry,
      connect: async () => consulRegistry({ addresses: [url] }),
      [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
    };
  },
  {
    minTtlMs: 500,
    skip: {
      "register: metadata of the service": "the tags have no place for it, as in Go",
      "domain: each is apart from the others and from none": noDomains,
      "domain: a watch sees its own only": noDomains,
      "domain: `*` is all of them": noDomains,
    },
  },
);
