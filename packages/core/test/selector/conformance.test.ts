import { describe, it } from "vitest";
import { registryCache } from "../../src/registry/cache.ts";
import { memoryRegistry } from "../../src/registry/memory.ts";
import { cachedSelector } from "../../src/selector/cached-selector.ts";
import { selectorConformance } from "@micro/testing";
import { memoryLogger } from "../support/faulty-registry.ts";

describe("cachedSelector with a registry", () => {
  selectorConformance({ describe, it }, async () => {
    const registry = memoryRegistry();
    const selector = cachedSelector({ registry, logger: memoryLogger(), ejectionMs: 60_000, maxEjectionMs: 60_000 });
    return {
      registry,
      selector,
      async [Symbol.asyncDispose]() {
        await selector[Symbol.asyncDispose]();
        await registry[Symbol.asyncDispose]();
      },
    };
  });
});

describe("cachedSelector with a cache", () => {
  selectorConformance({ describe, it }, async () => {
    const registry = memoryRegistry();
    const logger = memoryLogger();
    const cache = registryCache({ registry, logger });
    const selector = cachedSelector({
      registry: cache,
      logger,
      strategy: "roundRobin",
      ejectionMs: 60_000,
      maxEjectionMs: 60_000,
    });
    return {
      registry,
      selector,
      async [Symbol.asyncDispose]() {
        await selector[Symbol.asyncDispose]();
        await cache[Symbol.asyncDispose]();
        await registry[Symbol.asyncDispose]();
      },
    };
  });
});
