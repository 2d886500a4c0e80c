import { describe, it } from "vitest";
import { clientConformance } from "../../src/testing/client-conformance.ts";
import { Fleet } from "./support/fleet.ts";

for (const transport of ["http", "fast", "direct", "memory"] as const)
  describe(`mucp client over ${transport}`, () => {
    clientConformance({ describe, it }, async () => new Fleet({ transport }));
  });
