import { describe, it } from "vitest";
import { clientConformance } from "@micro/testing";
import { Fleet } from "./support/fleet.ts";

for (const transport of ["http", "fast", "direct", "memory"] as const)
  describe(`mucp client over ${transport}`, () => {
    clientConformance({ describe, it }, async () => new Fleet({ transport }));
  });
