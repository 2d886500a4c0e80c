import { registryConformance } from "@micro/testing";
import { etcdRegistry } from "@micro/registry-etcd";
import { afterAll, beforeAll, describe, it } from "vitest";
import { endEtcd, etcdUrl, missing, startShared } from "./support/etcd.ts";

// Before the first case, which would take the server for something it left behind.
if (missing === undefined) await etcdUrl();
beforeAll(startShared, 90_000);
afterAll(endEtcd);

registryConformance(
  { describe: describe.skipIf(missing !== undefined), it },
  async () => {
    const options = { endpoints: [await etcdUrl()], namespace: `/conformance-${crypto.randomUUID()}` };
    const registry = etcdRegistry(options);
    return {
      registry,
      connect: async () => etcdRegistry(options),
      [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
    };
  },
  // Shorter TTLs are lengthened: etcd's least follows from its election timeout.
  { minTtlMs: 2_000, patienceMs: 8_000 },
);
